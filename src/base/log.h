/* Messages and progress for the program's callbacks (include/seedcorn/log.h). */
#ifndef SC_BASE_LOG_H
#define SC_BASE_LOG_H

#include "base/status.h"
#include "seedcorn/log.h"

#ifdef __cplusplus
extern "C" {
#endif

void log_message(sc_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define log_debug(...) log_message(SC_LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_message(SC_LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_message(SC_LOG_WARN, __VA_ARGS__)

/* One piece of work with a known or unknown (0) total. progress_add may be called by any thread. */
typedef struct progress progress;
progress *progress_begin(const char *label, const char *unit, int64_t total); /* never fails; may be NULL */
void progress_add(progress *p, int64_t units);
void progress_skip(progress *p, int64_t units); /* done by an earlier call: no part of the rate */
void progress_note(progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void progress_end(progress *p); /* NULL is fine */

/* The monotonic clock, in seconds from some moment. */
double seconds_now(void);

/* SC_INTERRUPTED with a sentence if the program asked to stop, else SC_OK. Polled by long loops. */
sc_status check_cancelled(void);

#ifdef __cplusplus
}
#endif
#endif
