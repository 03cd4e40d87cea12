/* js: entropy and Jensen-Shannon divergence, greedily.
 *
 * The first pick has the highest entropy; every next one the highest score
 *     alpha H(p_i) + (1 - alpha) JS(p_i || m)   or   alpha H(p_i) + JS(p_i || m),
 * m the mean of the chosen distributions; equal scores go to the lowest row.
 *
 * The choice is that of a full scan, but few rows are evaluated: the square root of JS is a metric
 * (Endres and Schindelin 2003), so sqrt JS(p_i, m now) is at most what it was when the row was last
 * evaluated plus the length of the path that m has gone since. A round takes the rows with the
 * highest bounds as its pool and picks inside it as long as the best surely beats what the rows
 * outside could have come to. Inside, a row that was evaluated has a bound of second order, a tangent
 * (tangents.h), and only rows whose bound reaches the best so far are evaluated again. O(n) a round,
 * O(pool k) multiplications a pick, 3 k logarithms an evaluation.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "select/js.h"
#include "select/order.h"
#include "select/resident.h"
#include "select/strategy.h"
#include "select/tangents.h"

/* ROW_COST: of a row in making a pool, in looks at one inside */
enum { FIRST = 4, BINS = 64, ROW_COST = 4, ROW_BYTES = 48 /* of a row of the pool, beside its slopes */ };

/* How far below the likely score the pool is looked through, before all that can be above the best so far. */
enum { STEPS = 6 };
static const double LEAST_STEP = 1e-6;

/* Rows outside of the pool, by the reach they had when it was made. */
typedef struct reach_bin {
    double reach, score, cap; /* the highest of each: reach, bound on the score then, bound at any time */
} reach_bin;

/* The pool's rows: slot q is order[q]'s. */
typedef struct pool_rows {
    int64_t room;
    double *offsets, *bases; /* [m] offset; the score without its JS; -INFINITY once the row is closed */
    double *reaches;         /* [m] bounds on the score by distance, */
    double *bounds;          /* and, of those listed, by tangent, too */
    int64_t *slots;          /* those listed */
} pool_rows;

typedef struct scan {
    const selection_task *task;
    const ops *ops;
    double js_weight, rounding; /* the latter of a computed JS, generously */
    double *offset;             /* [n] sqrt JS(p_i, m) is at most offset[i] + path */
    double *js;                 /* [n] JS at the last evaluation */
    double *bounds;             /* [n] on the score, as the round began */
    int32_t *evaluated;         /* [n] the pick before which that was */
    int32_t *order;             /* [n] rows not chosen, the pool's m first */
    const bool *closed;         /* [n] may not be chosen, or is */
    int64_t n_left, m, pool_size;
    double path, path_then; /* now; as the round began */
    reach_bin outside[BINS];
    tangents tangents; /* of the pool's rows: slot q is order[q]'s */
    pool_rows pool;
    int64_t n_listed;
    double *mean, *sum;       /* [k] */
    double *rows_p, *rows_js; /* [JS_BATCH][k], [JS_BATCH] */
    resident d_mean, d_rows_p, d_rows_js;
    int64_t batch[JS_BATCH]; /* slots of the pool that wait to be evaluated */
    int n_batch;
    int32_t t, t_then, best; /* t_then: as the round began */
    int64_t n_mean;          /* rows in the mean: those given and the picks */
    double best_score, total;
    double likely, falls; /* what the next pick's score is likely to reach, by how scores fell of late */
} scan;

static double score_of(const scan *s, int64_t i)
{
    return s->task->alpha * s->task->entropy[i] + s->js_weight * s->js[i];
}

static double bound_of(const scan *s, int64_t i)
{
    const double reach = s->offset[i] + s->path;
    const double js = reach * reach < M_LN2 ? reach * reach : M_LN2;
    return s->task->alpha * s->task->entropy[i] + s->js_weight * js + s->rounding;
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

_Static_assert(JS_BATCH <= (int)DISTRIBUTIONS_MOST, "a batch is made at once");

/* out [n][k] of the rows named. */
static sc_status read_distributions(const scan *s, const int32_t *rows, int64_t n, double *out)
{
    const int64_t k = s->task->k;
    if (!s->task->p)
        return distributions_read(s->task->distributions, rows, n, out);
    for (int64_t i = 0; i < n; i++)
        memcpy(out + i * k, s->task->p + rows[i] * k, (size_t)k * sizeof *out);
    return SC_OK;
}

/* Evaluates the rows of the batch against the present mean. */
static sc_status flush(scan *s)
{
    sc_status status = SC_OK;
    const int64_t k = s->task->k;
    int32_t rows[JS_BATCH];
    if (s->n_batch == 0)
        return SC_OK;
    for (int b = 0; b < s->n_batch; b++)
        rows[b] = s->order[s->batch[b]];
    SC_TRY(read_distributions(s, rows, s->n_batch, s->rows_p));
    SC_TRY(resident_push(&s->d_rows_p));
    SC_TRY(
        s->ops->js_to_mean(NULL, s->d_rows_js.device, s->d_rows_p.device, s->d_mean.device, s->n_batch, k));
    SC_TRY(resident_pull(&s->d_rows_js));
    for (int b = 0; b < s->n_batch; b++) {
        const int32_t i = s->order[s->batch[b]];
        s->js[i] = s->rows_js[b];
        s->offset[i] = sqrt(s->js[i] + s->rounding) - s->path;
        s->pool.offsets[s->batch[b]] = s->offset[i];
        s->evaluated[i] = s->t;
        tangents_set(&s->tangents, s->batch[b], s->rows_p + b * k, s->mean, score_of(s, i));
        consider(s, i);
    }
    s->n_batch = 0;
cleanup:
    return status;
}

static sc_status evaluate(scan *s, int64_t slot)
{
    s->batch[s->n_batch++] = slot;
    return s->n_batch == JS_BATCH ? flush(s) : SC_OK;
}

/* Bounds of the pool's rows by their distances to the mean. */
static void find_reaches(scan *s)
{
    const double path = s->path, weight = s->js_weight;
    for (int64_t q = 0; q < s->m; q++) {
        const double reach = s->pool.offsets[q] + path, js = reach * reach;
        s->pool.reaches[q] = s->pool.bases[q] + weight * (js < M_LN2 ? js : M_LN2);
    }
}

/* A score of at most `bound` says how far the mean can be, too: for the next picks, the distance spares looks at the tangent. */
static void come_closer(scan *s, int64_t q, double bound)
{
    if (s->js_weight <= 0)
        return;
    const double js = (bound - s->pool.bases[q] + 5 * s->rounding) / s->js_weight;
    const double offset = sqrt(js > 0 ? js : 0) - s->path;
    if (offset < s->pool.offsets[q])
        s->pool.offsets[q] = s->offset[s->order[q]] = offset;
}

/* Lists the slots whose reach is in from .. below, with the better of both bounds: all that can be above a best of `from`. */
static void list_slots(scan *s, double from, double below)
{
    const int64_t before = s->n_listed;
    for (int64_t q = 0; q < s->m; q++) {
        if (!(s->pool.reaches[q] >= from) || !(s->pool.reaches[q] < below))
            continue;
        if (s->closed[s->order[q]])
            s->pool.bases[q] = -INFINITY;
        else if (s->evaluated[s->order[q]] != s->t)
            s->pool.slots[s->n_listed++] = q;
    }
    tangents_bound(&s->tangents, s->pool.slots + before, s->n_listed - before, s->mean,
                   s->pool.bounds + before);
    for (int64_t c = before; c < s->n_listed; c++) {
        const int64_t q = s->pool.slots[c];
        if (s->pool.bounds[c] < s->pool.reaches[q])
            come_closer(s, q, s->pool.bounds[c]);
        else
            s->pool.bounds[c] = s->pool.reaches[q];
    }
}

/* Of the slots listed from the first-th on, those with the highest bounds come first. */
static int64_t lead(scan *s, int64_t first)
{
    int64_t *slots = s->pool.slots + first;
    double *bounds = s->pool.bounds + first;
    const int64_t n = s->n_listed - first;
    for (int64_t c = 1; c < n; c++) {
        const int64_t slot = slots[c];
        const double bound = bounds[c];
        int64_t at = c < FIRST ? c : FIRST - 1;
        if (c >= FIRST && !(bound > bounds[at]))
            continue;
        slots[c] = slots[at];
        bounds[c] = bounds[at];
        for (; at > 0 && bounds[at - 1] < bound; at--) {
            slots[at] = slots[at - 1];
            bounds[at] = bounds[at - 1];
        }
        slots[at] = slot;
        bounds[at] = bound;
    }
    return first + (n < FIRST ? n : FIRST);
}

/* Evaluates the listed slots first .. last - 1 that can still be the best, few at first: the best may rise. */
static sc_status evaluate_listed(scan *s, int64_t first, int64_t last)
{
    sc_status status = SC_OK;
    int enough = FIRST;
    for (int64_t c = first; c < last; c++) {
        const int64_t q = s->pool.slots[c];
        if (!(s->pool.bounds[c] >= s->best_score) || s->evaluated[s->order[q]] == s->t)
            continue;
        SC_TRY(evaluate(s, q));
        if (s->n_batch >= enough) {
            SC_TRY(flush(s));
            enough *= 2;
        }
    }
    SC_TRY(flush(s));
cleanup:
    return status;
}

/* Lists and evaluates what can be the best of the slots whose reach is in from .. below; a good row early spares the rest. */
static sc_status best_within(scan *s, double from, double below)
{
    sc_status status = SC_OK;
    const int64_t before = s->n_listed;
    list_slots(s, from, below);
    const int64_t first = lead(s, before);
    SC_TRY(evaluate_listed(s, before, first));
    if (s->best_score >= from)
        SC_TRY(evaluate_listed(s, first, s->n_listed));
cleanup:
    return status;
}

/* The best of the pool, by the same rule as a full scan of it. */
static sc_status best_of_pool(scan *s)
{
    sc_status status = SC_OK;
    s->best = -1;
    s->best_score = -INFINITY;
    for (int64_t q = 0; q < s->m && s->t == s->t_then; q++)
        if (s->evaluated[s->order[q]] == s->t) /* in a round before, which was not sure of the pick */
            consider(s, s->order[q]);
    s->n_listed = 0;
    find_reaches(s);
    /* Down to the likely score; then further, by longer and longer steps, until what is listed has a row as good. */
    double from = s->likely, below = INFINITY, step = s->falls > LEAST_STEP ? s->falls : LEAST_STEP;
    for (int steps = 0;; steps++) {
        SC_TRY(best_within(s, from, below));
        if (s->best_score >= from)
            break;
        below = from;
        from = steps < STEPS ? from - step : s->best_score;
        step *= 4;
    }
    SC_TRY(evaluate_listed(s, 0, s->n_listed));
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
        const double grown = o->score + s->js_weight * (2 * o->reach * step + step * step) + s->rounding;
        const double bound = grown < o->cap ? grown : o->cap;
        most = bound > most ? bound : most;
    }
    return most;
}

static void put_outside(scan *s, int32_t i)
{
    const double reach = s->offset[i] + s->path;
    const int b = reach < 1 ? (int)(reach * BINS) : BINS - 1;
    const double cap = s->task->alpha * s->task->entropy[i] + s->js_weight * M_LN2 + s->rounding;
    reach_bin *o = &s->outside[b > 0 ? b : 0];
    o->reach = reach > o->reach ? reach : o->reach;
    o->score = s->bounds[i] > o->score ? s->bounds[i] : o->score;
    o->cap = cap > o->cap ? cap : o->cap;
}

static void pool_free(pool_rows *p)
{
    free(p->offsets);
    free(p->bases);
    free(p->reaches);
    free(p->bounds);
    free(p->slots);
    *p = (pool_rows){0};
}

static sc_status pool_reserve(pool_rows *p, int64_t m)
{
    sc_status status = SC_OK;
    if (m <= p->room)
        return SC_OK;
    pool_free(p);
    SC_TRY(sc_alloc(&p->offsets, (size_t)m, sizeof *p->offsets));
    SC_TRY(sc_alloc(&p->bases, (size_t)m, sizeof *p->bases));
    SC_TRY(sc_alloc(&p->reaches, (size_t)m, sizeof *p->reaches));
    SC_TRY(sc_alloc(&p->bounds, (size_t)m, sizeof *p->bounds));
    SC_TRY(sc_alloc(&p->slots, (size_t)m, sizeof *p->slots));
    p->room = m;
cleanup:
    return status;
}

static sc_status make_pool(scan *s)
{
    sc_status status = SC_OK;
    int64_t n = 0;
#pragma omp parallel for schedule(static) if (s->n_left > 32768)
    for (int64_t q = 0; q < s->n_left; q++)
        s->bounds[s->order[q]] = bound_of(s, s->order[q]);
    for (int64_t q = 0; q < s->n_left; q++)
        if (!s->closed[s->order[q]])
            s->order[n++] = s->order[q];
    s->n_left = n;
    s->m = n < s->pool_size ? n : s->pool_size;
    s->path_then = s->path;
    s->t_then = s->t;
    SC_TRY(tangents_clear(&s->tangents, s->m));
    SC_TRY(pool_reserve(&s->pool, s->m));
    if (s->m < n)
        order_split(s->order, n, s->m, bound_then, s);
    for (int b = 0; b < BINS; b++)
        s->outside[b] = (reach_bin){0, -INFINITY, -INFINITY};
    for (int64_t q = s->m; q < n; q++)
        put_outside(s, s->order[q]);
    for (int64_t q = 0; q < s->m; q++) {
        s->pool.offsets[q] = s->offset[s->order[q]];
        s->pool.bases[q] = s->task->alpha * s->task->entropy[s->order[q]] + s->rounding;
    }
cleanup:
    return status;
}

static sc_status scan_open(scan *s, const selection_task *task)
{
    sc_status status = SC_OK;
    const size_t n = (size_t)task->n, k = (size_t)task->k;
    *s = (scan){.task = task,
                .ops = task->device->ops,
                .closed = task->limits->closed,
                .js_weight = task->js_sum ? 1 : 1 - task->alpha,
                .rounding = 0x1p-48 + (double)task->k * 0x1p-53,
                .likely = -INFINITY,
                .n_left = task->n,
                .pool_size = JS_POOL};
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
    SC_TRY(sc_alloc(&s->rows_p, JS_BATCH * k, sizeof *s->rows_p));
    SC_TRY(sc_alloc(&s->rows_js, JS_BATCH, sizeof *s->rows_js));
    tangents_open(&s->tangents, task->k, s->js_weight);
    for (int32_t i = 0; i < task->n; i++) {
        s->order[i] = i;
        s->offset[i] = 1; /* not evaluated yet: sqrt JS is below 1 */
        s->evaluated[i] = -1;
    }
    SC_TRY(resident_open(s->ops, s->mean, k * sizeof *s->mean, &s->d_mean));
    SC_TRY(resident_open(s->ops, s->rows_p, JS_BATCH * k * sizeof *s->rows_p, &s->d_rows_p));
    SC_TRY(resident_open(s->ops, s->rows_js, JS_BATCH * sizeof *s->rows_js, &s->d_rows_js));
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
    pool_free(&s->pool);
    tangents_close(&s->tangents);
    free(s->rows_p);
    free(s->rows_js);
}

/* The mean moves to that of the chosen rows, with this one, and the path grows by its step. */
static sc_status move_mean(scan *s, int64_t row)
{
    sc_status status = SC_OK;
    const int64_t k = s->task->k;
    const int32_t moves = (int32_t)row;
    double *p = s->rows_p + k;
    SC_TRY(read_distributions(s, &moves, 1, p));
    memcpy(s->rows_p, s->mean, (size_t)k * sizeof *s->mean);
    s->n_mean++;
    for (int64_t j = 0; j < k; j++) {
        s->sum[j] += p[j];
        s->mean[j] = s->sum[j] / (double)s->n_mean;
    }
    tangents_move(&s->tangents, s->mean);
    SC_TRY(resident_push(&s->d_mean));
    if (s->n_mean > 1) {
        SC_TRY(resident_push(&s->d_rows_p));
        SC_TRY(s->ops->js_to_mean(NULL, s->d_rows_js.device, s->d_rows_p.device, s->d_mean.device, 1, k));
        SC_TRY(resident_pull(&s->d_rows_js));
        s->path += sqrt(s->rows_js[0] + s->rounding);
    }
cleanup:
    return status;
}

/* The best becomes pick t. */
static sc_status take(scan *s, selection_pick *picks)
{
    const int64_t row = s->best;
    const double fell = s->t > 0 ? picks[s->t - 1].score - s->best_score : 0;
    s->falls = fell > 0.5 * s->falls ? fell : 0.5 * s->falls;
    s->likely = s->best_score - 2 * s->falls;
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

/* One round: a pool, and the picks that it is good for. A larger pool is good for more picks, and each of them costs
 * more; the size is best where the two come to about the same. */
static sc_status pick_round(scan *s, selection_pick *picks, progress *p)
{
    sc_status status = SC_OK;
    SC_TRY(make_pool(s));
    while (s->t < s->task->budget && s->task->limits->n_open > 0) {
        SC_TRY(check_cancelled());
        SC_TRY(best_of_pool(s));
        if (s->best < 0 || !(s->best_score > outside_bound(s)))
            break;
        SC_TRY(take(s, picks));
        progress_add(p, 1);
    }
    const double round = ROW_COST * (double)s->n_left;
    const double inside = (double)(s->t - s->t_then) * (double)s->m;
    const int64_t cell = (int64_t)sizeof(float) * s->task->k + ROW_BYTES;
    if (s->t == s->t_then || (inside < round && memory_affords(2 * s->pool_size * cell)))
        s->pool_size *= 2;
    else if (inside > 8 * round && s->pool_size > JS_POOL)
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
