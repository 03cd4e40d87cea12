/* js: entropy and Jensen-Shannon divergence, greedily.
 *
 * The first pick has the highest entropy; every next one the highest score
 *     alpha H(p_i) + (1 - alpha) JS(p_i || m)   or   alpha H(p_i) + JS(p_i || m),
 * m the mean of the chosen distributions; equal scores go to the lowest row.
 *
 * The choice is that of a full scan, but few rows are evaluated: the square root of JS is a metric
 * (Endres and Schindelin 2003), so sqrt JS(p_i, m now) is at most what it was when the row was last
 * evaluated plus the length of the path that m has gone since. Rows whose score cannot reach the
 * best so far are left alone, and most are not even looked at: a round takes the rows with the
 * highest bounds as its pool and picks inside it as long as the best surely beats what the rows
 * outside could have come to. O(n) a round, O(pool) a pick, k logarithms an evaluation.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "select/estimate.h"
#include "select/order.h"
#include "select/resident.h"
#include "select/strategy.h"

enum { POOL = 4096, FIRST = 16, MANY = 64 /* picks of a round */, BATCH = 1024, BINS = 64 };
static const double ROUNDING = 4e-15; /* of a computed JS, generously */

/* Rows outside of the pool, by the reach they had when it was made. */
typedef struct reach_bin {
    double reach, score, cap; /* the highest of each: reach, bound on the score then, bound at any time */
} reach_bin;

typedef struct scan {
    const selection_task *task;
    const ops *ops;
    double js_weight;
    double *offset;     /* [n] sqrt JS(p_i, m) is at most offset[i] + path */
    double *js;         /* [n] JS at the last evaluation */
    double *bounds;     /* [n] on the score, as the round began */
    int32_t *evaluated; /* [n] the pick before which that was */
    int32_t *order;     /* [n] rows not chosen, the pool's m first */
    const bool *closed; /* [n] may not be chosen, or is */
    int64_t n_left, m, pool_size;
    double path, path_then; /* now; as the round began */
    reach_bin outside[BINS];
    double *mean, *sum;       /* [k] */
    double *rows_p, *rows_js; /* [BATCH][k], [BATCH] */
    resident d_mean, d_rows_p, d_rows_js;
    int32_t batch[BATCH];
    int n_batch;
    int32_t t, best;
    int64_t n_mean; /* rows in the mean: those given and the picks */
    double best_score, total;
} scan;

static double score_of(const scan *s, int64_t i)
{
    return s->task->alpha * s->task->entropy[i] + s->js_weight * s->js[i];
}

static double bound_of(const scan *s, int64_t i)
{
    const double reach = s->offset[i] + s->path;
    const double js = reach * reach < M_LN2 ? reach * reach : M_LN2;
    return s->task->alpha * s->task->entropy[i] + s->js_weight * js + ROUNDING;
}

static double bound_then(const void *context, int64_t i)
{
    return ((const scan *)context)->bounds[i];
}

static void consider(scan *s, int32_t i)
{
    const double score = score_of(s, i);
    if (score > s->best_score || (score == s->best_score && i < s->best)) {
        s->best_score = score;
        s->best = i;
    }
}

/* Evaluates the rows of the batch against the present mean. */
static sc_status flush(scan *s)
{
    sc_status status = SC_OK;
    const int64_t k = s->task->k;
    if (s->n_batch == 0)
        return SC_OK;
    for (int b = 0; b < s->n_batch; b++)
        memcpy(s->rows_p + b * k, s->task->p + (int64_t)s->batch[b] * k, (size_t)k * sizeof(double));
    SC_TRY(resident_push(&s->d_rows_p));
    SC_TRY(
        s->ops->js_to_mean(NULL, s->d_rows_js.device, s->d_rows_p.device, s->d_mean.device, s->n_batch, k));
    SC_TRY(resident_pull(&s->d_rows_js));
    for (int b = 0; b < s->n_batch; b++) {
        const int32_t i = s->batch[b];
        s->js[i] = s->rows_js[b];
        s->offset[i] = sqrt(s->js[i] + ROUNDING) - s->path;
        s->evaluated[i] = s->t;
        consider(s, i);
    }
    s->n_batch = 0;
cleanup:
    return status;
}

static sc_status evaluate(scan *s, int32_t row)
{
    s->batch[s->n_batch++] = row;
    return s->n_batch == BATCH ? flush(s) : SC_OK;
}

/* The pool's rows with the highest bounds, as a min-heap of at most FIRST: a good row early spares the rest. */
static int most_promising(const scan *s, int32_t *rows)
{
    double bounds[FIRST];
    int n = 0;
    for (int64_t q = 0; q < s->m; q++) {
        const int32_t i = s->order[q];
        if (s->closed[i] || s->evaluated[i] == s->t)
            continue;
        const double bound = bound_of(s, i);
        int at;
        if (n < FIRST) {
            at = n++;
            for (; at > 0 && bounds[(at - 1) / 2] > bound; at = (at - 1) / 2) {
                bounds[at] = bounds[(at - 1) / 2];
                rows[at] = rows[(at - 1) / 2];
            }
        } else if (bound > bounds[0]) {
            at = 0;
            for (int child; (child = 2 * at + 1) < n; at = child) {
                if (child + 1 < n && bounds[child + 1] < bounds[child])
                    child++;
                if (bounds[child] >= bound)
                    break;
                bounds[at] = bounds[child];
                rows[at] = rows[child];
            }
        } else {
            continue;
        }
        bounds[at] = bound;
        rows[at] = i;
    }
    return n;
}

/* The best of the pool, by the same rule as a full scan of it. */
static sc_status best_of_pool(scan *s)
{
    sc_status status = SC_OK;
    int32_t first[FIRST];
    const int n = most_promising(s, first);
    s->best = -1;
    s->best_score = -INFINITY;
    for (int64_t q = 0; q < s->m; q++)
        if (s->evaluated[s->order[q]] == s->t) /* in a round before, which was not sure of the pick */
            consider(s, s->order[q]);
    for (int b = 0; b < n; b++)
        SC_TRY(evaluate(s, first[b]));
    SC_TRY(flush(s));
    for (int64_t q = 0; q < s->m; q++) {
        const int32_t i = s->order[q];
        if (!s->closed[i] && s->evaluated[i] != s->t && bound_of(s, i) >= s->best_score)
            SC_TRY(evaluate(s, i));
    }
    SC_TRY(flush(s));
cleanup:
    return status;
}

/* What no row outside of the pool can be above by now: (reach + step)^2 = reach^2 + 2 reach step + step^2. */
static double outside_bound(const scan *s)
{
    const double step = s->path - s->path_then;
    double most = -INFINITY;
    for (int b = 0; b < BINS; b++) {
        const reach_bin *o = &s->outside[b];
        const double grown = o->score + s->js_weight * (2 * o->reach * step + step * step) + ROUNDING;
        const double bound = grown < o->cap ? grown : o->cap;
        most = bound > most ? bound : most;
    }
    return most;
}

static void put_outside(scan *s, int32_t i)
{
    const double reach = s->offset[i] + s->path;
    const int b = reach < 1 ? (int)(reach * BINS) : BINS - 1;
    const double cap = s->task->alpha * s->task->entropy[i] + s->js_weight * M_LN2 + ROUNDING;
    reach_bin *o = &s->outside[b > 0 ? b : 0];
    o->reach = reach > o->reach ? reach : o->reach;
    o->score = s->bounds[i] > o->score ? s->bounds[i] : o->score;
    o->cap = cap > o->cap ? cap : o->cap;
}

static void make_pool(scan *s)
{
    int64_t n = 0;
    for (int64_t q = 0; q < s->n_left; q++)
        if (!s->closed[s->order[q]])
            s->order[n++] = s->order[q];
    s->n_left = n;
    s->m = n < s->pool_size ? n : s->pool_size;
    s->path_then = s->path;
#pragma omp parallel for schedule(static) if (n > 32768)
    for (int64_t q = 0; q < n; q++)
        s->bounds[s->order[q]] = bound_of(s, s->order[q]);
    if (s->m < n)
        order_split(s->order, n, s->m, bound_then, s);
    for (int b = 0; b < BINS; b++)
        s->outside[b] = (reach_bin){0, -INFINITY, -INFINITY};
    for (int64_t q = s->m; q < n; q++)
        put_outside(s, s->order[q]);
}

static sc_status scan_open(scan *s, const selection_task *task)
{
    sc_status status = SC_OK;
    const size_t n = (size_t)task->n, k = (size_t)task->k;
    *s = (scan){.task = task,
                .ops = task->device->ops,
                .closed = task->limits->closed,
                .js_weight = task->js_sum ? 1 : 1 - task->alpha,
                .n_left = task->n,
                .pool_size = POOL};
    if (!s->ops->js_to_mean)
        return sc_fail(SC_DEVICE, "the device \"%s\" lacks the operation js_to_mean; use --device cpu",
                       s->ops->name);
    SC_TRY(sc_alloc(&s->offset, n, sizeof *s->offset));
    SC_TRY(sc_alloc(&s->js, n, sizeof *s->js));
    SC_TRY(sc_alloc(&s->bounds, n, sizeof *s->bounds));
    SC_TRY(sc_alloc(&s->evaluated, n, sizeof *s->evaluated));
    SC_TRY(sc_alloc(&s->order, n, sizeof *s->order));
    SC_TRY(sc_alloc(&s->mean, k, sizeof *s->mean));
    SC_TRY(sc_alloc(&s->sum, k, sizeof *s->sum));
    SC_TRY(sc_alloc(&s->rows_p, BATCH * k, sizeof *s->rows_p));
    SC_TRY(sc_alloc(&s->rows_js, BATCH, sizeof *s->rows_js));
    for (int32_t i = 0; i < task->n; i++) {
        s->order[i] = i;
        s->offset[i] = 1; /* not evaluated yet: sqrt JS is below 1 */
        s->evaluated[i] = -1;
    }
    SC_TRY(resident_open(s->ops, s->mean, k * sizeof *s->mean, &s->d_mean));
    SC_TRY(resident_open(s->ops, s->rows_p, BATCH * k * sizeof *s->rows_p, &s->d_rows_p));
    SC_TRY(resident_open(s->ops, s->rows_js, BATCH * sizeof *s->rows_js, &s->d_rows_js));
cleanup:
    return status;
}

static void scan_close(scan *s)
{
    resident_close(&s->d_mean);
    resident_close(&s->d_rows_p);
    resident_close(&s->d_rows_js);
    free(s->offset);
    free(s->js);
    free(s->bounds);
    free(s->evaluated);
    free(s->order);
    free(s->mean);
    free(s->sum);
    free(s->rows_p);
    free(s->rows_js);
}

/* The mean moves to that of the chosen rows, with this one, and the path grows by its step. */
static sc_status move_mean(scan *s, int64_t row)
{
    sc_status status = SC_OK;
    const int64_t k = s->task->k;
    memcpy(s->rows_p, s->mean, (size_t)k * sizeof *s->mean);
    s->n_mean++;
    for (int64_t j = 0; j < k; j++) {
        s->sum[j] += s->task->p[row * k + j];
        s->mean[j] = s->sum[j] / (double)s->n_mean;
    }
    SC_TRY(resident_push(&s->d_mean));
    if (s->n_mean > 1) {
        SC_TRY(resident_push(&s->d_rows_p));
        SC_TRY(s->ops->js_to_mean(NULL, s->d_rows_js.device, s->d_rows_p.device, s->d_mean.device, 1, k));
        SC_TRY(resident_pull(&s->d_rows_js));
        s->path += sqrt(s->rows_js[0] + ROUNDING);
    }
cleanup:
    return status;
}

/* The best becomes pick t. */
static sc_status take(scan *s, selection_pick *picks)
{
    const int64_t row = s->best;
    s->total += s->best_score;
    picks[s->t] = (selection_pick){.row = row,
                                   .score = s->best_score,
                                   .gain = s->best_score,
                                   .entropy = s->task->entropy[row],
                                   .divergence = s->js[row],
                                   .cluster = s->task->labels[row],
                                   .objective = s->total / (double)(s->t + 1)};
    limits_take(s->task->limits, row);
    s->t++;
    return move_mean(s, row);
}

/* One round: a pool, and the picks that it is good for. One that gives none is followed by a larger one. */
static sc_status pick_round(scan *s, selection_pick *picks, progress *p)
{
    sc_status status = SC_OK;
    const int32_t before = s->t;
    make_pool(s);
    while (s->t < s->task->budget && s->task->limits->n_open > 0) {
        SC_TRY(check_cancelled());
        SC_TRY(best_of_pool(s));
        if (s->best < 0 || !(s->best_score > outside_bound(s)))
            break;
        SC_TRY(take(s, picks));
        progress_add(p, 1);
    }
    if (s->t == before)
        s->pool_size *= 2;
    else if (s->t - before >= MANY && s->pool_size > POOL)
        s->pool_size /= 2;
cleanup:
    return status;
}

sc_status js_select(const selection_task *task, selection_pick *picks, int64_t *n_picks)
{
    sc_status status = SC_OK;
    scan s;
    progress *p = progress_begin("select js", "picks", limits_likely(task->limits, task->budget));
    SC_TRY(scan_open(&s, task));
    for (int64_t g = 0; g < task->n_given; g++)
        SC_TRY(move_mean(&s, task->given[g]));
    if (task->n_given == 0 && task->limits->n_open > 0) {
        s.best = -1;
        for (int32_t i = 0; i < task->n; i++)
            if (!s.closed[i] && (s.best < 0 || task->entropy[i] > task->entropy[s.best]))
                s.best = i;
        s.best_score = score_of(&s, s.best); /* nothing is chosen yet: JS counts as 0 */
        SC_TRY(take(&s, picks));
        progress_add(p, 1);
    }
    while (s.t < task->budget && task->limits->n_open > 0)
        SC_TRY(pick_round(&s, picks, p));
    *n_picks = s.t;
cleanup:
    scan_close(&s);
    progress_end(p);
    return status;
}

/* --- what it would take ---------------------------------------------------------------------------- */

/* A block of evaluations, on distributions that are as uneven as any. */
static sc_status probe_scores(const selection_task *task, double *operations)
{
    sc_status status = SC_OK;
    const ops *table = task->device->ops;
    const int64_t k = task->k, n = estimate_rows(task->n, BATCH, (double)k);
    double *p = NULL, *js = NULL;
    resident d_p = {0}, d_js = {0};
    if (!table->js_to_mean)
        return sc_fail(SC_DEVICE, "the device \"%s\" lacks the operation js_to_mean; use --device cpu",
                       table->name);
    SC_TRY(sc_alloc(&p, (size_t)(n * k), sizeof *p));
    SC_TRY(sc_alloc(&js, (size_t)n, sizeof *js));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < k; j++)
            p[i * k + j] = 2.0 * (double)((i + j) % k + 1) / ((double)k * (double)(k + 1));
    SC_TRY(resident_open(table, p, (size_t)(n * k) * sizeof *p, &d_p));
    SC_TRY(resident_open(table, js, (size_t)n * sizeof *js, &d_js));
    SC_TRY(table->js_to_mean(NULL, d_js.device, d_p.device, d_p.device, n, k));
    SC_TRY(resident_pull(&d_js));
    *operations = (double)n * (double)k;
cleanup:
    resident_close(&d_p);
    resident_close(&d_js);
    free(p);
    free(js);
    return status;
}

void js_plan(const selection_task *task, estimate *out)
{
    const int64_t n = task->n, k = task->k, pool = n < POOL ? n : POOL;
    const double picks = (double)limits_likely(task->limits, task->budget);
    estimate_array_add(out, "bounds, divergences and offsets", 3 * n, sizeof(double));
    estimate_array_add(out, "when rows were evaluated, and their order", 2 * n, sizeof(int32_t));
    estimate_resident_add(out, "batch of distributions", BATCH * (k + 1) + 2 * k, sizeof(double));
    /* All rows once; then a look at the pool's bounds and the first of them a pick. */
    estimate_work_add(out, "divergences and bounds of rows",
                      ((double)n + picks * FIRST) * (double)k + picks * (double)pool, 1 + picks / 500,
                      probe_scores);
}
