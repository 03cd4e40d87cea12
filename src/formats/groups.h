/* A result of lines that is worked off in groups. A finished group is kept in OUT.journal, a record log, as the very
 * lines that OUT will hold, so that a restart repeats none of them. */
#ifndef SC_FORMATS_GROUPS_H
#define SC_FORMATS_GROUPS_H

#include "base/text.h"

typedef struct token_counts {
    int64_t prompt_tokens, new_tokens;
} token_counts;

typedef struct line_groups {
    const char *out; /* the caller's */
    char *path;      /* of the journal, NULL: nothing is kept */
    struct record_log *log;
    strbuf *lines;        /* [n] */
    bool *done;           /* [n] */
    token_counts *counts; /* [n] */
    size_t n, n_found;    /* n_found: done by an earlier run */
} line_groups;

/* `settings`: what the lines depend on; a journal of others is SC_CONFLICT. keep = false: no journal. */
sc_status line_groups_open(const char *out, bool keep, const char *settings, size_t n, line_groups *g);
/* lines[group] is whole. */
sc_status line_groups_finish(line_groups *g, size_t group, token_counts counts);
/* Writes OUT, then removes the journal. */
sc_status line_groups_commit(line_groups *g);
void line_groups_close(line_groups *g); /* {0} is fine */

#endif
