/* Messages, progress and the wish to stop, for the callbacks that the program sets. */
#include "base/log.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/text.h"

enum { SILENT = SC_LOG_ERROR + 1 };

/* One call of the program at a time. Recursive, so that a callback may set another callback. */
static pthread_mutex_t callbacks = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static sc_log_fn log_fn;
static void *log_user;
static atomic_int log_lowest = SILENT; /* read without the mutex, to drop a message cheaply */
static sc_progress_fn progress_fn;
static void *progress_user;
/* What a callback does may log in its turn: that is dropped, else it would never end. */
static _Thread_local bool inside;

/* Lock-free, hence safe in a signal handler. */
static atomic_int cancel_wish;

void sc_log_set(sc_log_fn fn, void *user, sc_log_level lowest)
{
    pthread_mutex_lock(&callbacks);
    log_fn = fn;
    log_user = user;
    atomic_store(&log_lowest, fn ? (int)lowest : SILENT);
    pthread_mutex_unlock(&callbacks);
}

void log_message(sc_log_level level, const char *format, ...)
{
    if ((int)level < atomic_load_explicit(&log_lowest, memory_order_relaxed) || inside)
        return;
    strbuf raw = {0}, visible = {0};
    va_list arguments;
    va_start(arguments, format);
    strbuf_vprintf(&raw, format, arguments);
    va_end(arguments);
    text_visible(&visible, strbuf_text(&raw), raw.len);

    pthread_mutex_lock(&callbacks);
    if (log_fn && (int)level >= atomic_load(&log_lowest)) {
        inside = true;
        log_fn(log_user, level, strbuf_text(&visible));
        inside = false;
    }
    pthread_mutex_unlock(&callbacks);
    strbuf_free(&visible);
    strbuf_free(&raw);
}

struct progress {
    char *label, *unit;
    int64_t total, start_ns;
    atomic_int_least64_t done, skipped;
    atomic_int_least64_t due_ns; /* when the next report may be made */
    /* Under the mutex: */
    char note[256];
    int64_t last_ns, last_worked;
    double rate_sum, rate_weight; /* exponential moving average and the weight it has so far */
};

static const int64_t report_every_ns = 100 * 1000 * 1000;
static const double smoothing_seconds = 10.0;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

double seconds_now(void)
{
    return 1e-9 * (double)now_ns();
}

void sc_progress_set(sc_progress_fn fn, void *user)
{
    pthread_mutex_lock(&callbacks);
    progress_fn = fn;
    progress_user = user;
    pthread_mutex_unlock(&callbacks);
}

/* Under the mutex. The rate is an exponential moving average over about ten seconds, whose weights
 * are made to sum to 1 from the first report on; the last report gives the rate over all. */
static void report(progress *p, int64_t now, bool finished)
{
    int64_t done = atomic_load(&p->done), worked = done - atomic_load(&p->skipped);
    double seconds = (double)(now - p->start_ns) * 1e-9, since_last = (double)(now - p->last_ns) * 1e-9;
    if (since_last > 0) {
        double keep = exp(-since_last / smoothing_seconds);
        p->rate_sum = keep * p->rate_sum + (1.0 - keep) * (double)(worked - p->last_worked) / since_last;
        p->rate_weight = keep * p->rate_weight + (1.0 - keep);
        p->last_ns = now;
        p->last_worked = worked;
    }
    double rate = p->rate_weight > 0 ? p->rate_sum / p->rate_weight : 0.0;
    if (finished)
        rate = seconds > 0 ? (double)worked / seconds : 0.0;
    double remaining = -1.0;
    if (p->total > 0 && (done >= p->total || finished))
        remaining = 0.0;
    else if (p->total > 0 && rate > 0)
        remaining = (double)(p->total - done) / rate;
    if (!progress_fn || inside)
        return;
    sc_progress snapshot = {.label = p->label,
                            .unit = p->unit,
                            .done = done,
                            .total = p->total,
                            .seconds = seconds,
                            .rate = rate,
                            .remaining = remaining,
                            .note = p->note,
                            .finished = finished};
    inside = true;
    progress_fn(progress_user, &snapshot);
    inside = false;
}

/* Reports if one is due; of several threads that come together, one does. */
static void report_if_due(progress *p)
{
    int64_t now = now_ns();
    int_least64_t due = atomic_load(&p->due_ns);
    if (now < due || !atomic_compare_exchange_strong(&p->due_ns, &due, now + report_every_ns))
        return;
    pthread_mutex_lock(&callbacks);
    report(p, now, false);
    pthread_mutex_unlock(&callbacks);
}

progress *progress_begin(const char *label, const char *unit, int64_t total)
{
    progress *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->label = strdup(label);
    p->unit = strdup(unit);
    if (!p->label || !p->unit) {
        free(p->label);
        free(p->unit);
        free(p);
        return NULL;
    }
    p->total = total > 0 ? total : 0;
    p->start_ns = p->last_ns = now_ns();
    atomic_init(&p->done, 0);
    atomic_init(&p->skipped, 0);
    atomic_init(&p->due_ns, p->start_ns);
    report_if_due(p); /* the first batch may take long: say at once what is being done */
    return p;
}

void progress_add(progress *p, int64_t units)
{
    if (!p)
        return;
    atomic_fetch_add(&p->done, units);
    report_if_due(p);
}

void progress_skip(progress *p, int64_t units)
{
    if (!p)
        return;
    atomic_fetch_add(&p->skipped, units);
    atomic_fetch_add(&p->done, units);
    report_if_due(p);
}

void progress_note(progress *p, const char *format, ...)
{
    if (!p)
        return;
    strbuf raw = {0}, visible = {0};
    va_list arguments;
    va_start(arguments, format);
    strbuf_vprintf(&raw, format, arguments);
    va_end(arguments);
    text_visible(&visible, strbuf_text(&raw), raw.len);
    pthread_mutex_lock(&callbacks);
    (void)snprintf(p->note, sizeof p->note, "%s", strbuf_text(&visible));
    pthread_mutex_unlock(&callbacks);
    strbuf_free(&visible);
    strbuf_free(&raw);
    report_if_due(p);
}

void progress_end(progress *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&callbacks);
    report(p, now_ns(), true);
    pthread_mutex_unlock(&callbacks);
    free(p->label);
    free(p->unit);
    free(p);
}

void sc_cancel(void)
{
    atomic_store(&cancel_wish, 1);
}

bool sc_cancelled(void)
{
    return atomic_load_explicit(&cancel_wish, memory_order_relaxed) != 0;
}

void sc_cancel_reset(void)
{
    atomic_store(&cancel_wish, 0);
}

sc_status check_cancelled(void)
{
    if (sc_cancelled())
        return sc_fail(SC_INTERRUPTED, "Stopped on request; everything finished so far is kept, run the same "
                                       "command again to go on");
    return SC_OK;
}
