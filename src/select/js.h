/* The sizes that js works with, for its plan. */
#ifndef SC_SELECT_JS_H
#define SC_SELECT_JS_H

enum { JS_POOL = 4096 /* rows of a pool, at first */, JS_BATCH = 1024 /* evaluations at a time, at most */ };

#endif
