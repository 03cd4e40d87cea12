/* Logging, progress and interruption.
 *
 * The library prints nothing. It hands messages and progress to callbacks that the program
 * sets once at its start; without them it is silent.
 */
#ifndef SEEDCORN_LOG_H
#define SEEDCORN_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "seedcorn/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sc_log_level {
    SC_LOG_DEBUG = 0,
    SC_LOG_INFO = 1,
    SC_LOG_WARN = 2,
    SC_LOG_ERROR = 3
} sc_log_level;

/* One message, one line, without a newline. May be called from any thread, one at a time. */
typedef void (*sc_log_fn)(void *user, sc_log_level level, const char *message);

/* Messages below `lowest` are dropped. NULL silences. */
SC_API void sc_log_set(sc_log_fn fn, void *user, sc_log_level lowest);

/* A snapshot of one long piece of work. */
typedef struct sc_progress {
    const char *label;   /* "embed", "train lora" */
    const char *unit;    /* "reviews", "tokens", "bytes" */
    int64_t done, total; /* total 0: not known */
    double seconds;      /* since the start */
    double rate;         /* units per second, smoothed */
    double remaining;    /* seconds, -1: not known */
    const char *note;    /* "loss 1.234", or "" */
    bool finished;       /* the last call for this piece of work */
} sc_progress;

/* Called at most ten times a second, and once with finished = true. */
typedef void (*sc_progress_fn)(void *user, const sc_progress *progress);
SC_API void sc_progress_set(sc_progress_fn fn, void *user);

/* Asks everything that runs to stop at its next safe point with SC_INTERRUPTED. Safe to call
 * from a signal handler. sc_cancel_reset() takes the request back. */
SC_API void sc_cancel(void);
SC_API bool sc_cancelled(void);
SC_API void sc_cancel_reset(void);

#ifdef __cplusplus
}
#endif
#endif
