/* fisher: greedy D-optimal design, exactly, in a few passes over the rows.
 *
 * S = lambda I + sum of x x' over the chosen rows. The next pick has the highest gain g_i = x_i' S^-1 x_i, which
 * raises log det S by log(1 + g). Gains never rise (log det is submodular), so an old gain is a bound. Hence:
 *
 *   1. the pool: the M rows with the highest bounds; tau is the highest outside.
 *   2. picks inside the pool, in double, as long as its best surely beats tau (design_pool).
 *   3. the flush: one product takes the block's picks from the gains of all rows, in float, and adds to each
 *      row's slack what rounding may have done to it (design_flush): bound = gain + slack.
 *
 * One pass over the rows a block instead of one a pick, and the sequence of arithmetic without rounding: a row is
 * chosen by a gain computed in double against S^-1, after every row whose bound could beat it. Blocks of
 * updates to a factorization are those of pivoted QR (Quintana-Orti et al. 1998), whose norms lose their digits in
 * the same way (Drmac and Bujanovic 2008): where that could decide a pick, S^-1 is built anew from S, and where
 * even that is not enough, the pick is made with a factor kept by rotations.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "select/estimate.h"
#include "select/order.h"
#include "select/regain.h"
#include "select/resident.h"
#include "select/rotations.h"
#include "select/strategy.h"
#include "select/top_rows.h"

enum {
    POOL = 1024,
    LISTED = POOL + 64, /* rows that a device tells of, at least */
    BLOCK = 64,
    MEASURED = 8,         /* |A| is, every so many flushes */
    FIRST_EVALUATED = 32, /* in a block, by design_pool */
};
static const double EQUAL = 2e-10; /* relative: bounds this near do not tell rows apart */

typedef struct design {
    const selection_task *task;
    const ops *ops;
    double *gains, *slack, *norms; /* [n] gains of closed rows are -infinity */
    resident d_gains, d_slack, d_norms;
    device_rows d_x;
    top_rows top;    /* where the gains are a device's; then those of the host are right in few rows */
    int32_t *closed; /* [n] rows that the device does not know yet to be closed, in `top` only */
    int64_t n_closed;
    double *s, *a; /* [dim][dim] S and its inverse, on the host only where it asks for them */
    resident d_s, d_a, d_l, d_scratch;
    double trace;         /* of S */
    double a_norm, drift; /* |A| at most; sum of squares of what updates may have added to its error */
    int64_t n_unmeasured; /* flushes since a_norm was measured */
    int64_t n_built;      /* picks in S when A was last built from it */
    /* the pool and the block */
    int32_t *order;
    int64_t *rows;
    float *x, *x_rows, *w32; /* [POOL][dim], [BLOCK][dim] twice */
    double *pool_gains, *pool_slack, *pool_norms, *w, *x64;
    resident d_rows, d_pool_x, d_pool_gains, d_pool_slack, d_pool_norms, d_w, d_w32, d_x64, d_picks, d_found,
        d_work;
    int64_t *picks; /* [BLOCK] */
    double *found;
    rotations careful;
    uint8_t *fresh; /* [n] for the careful pick */
    /* the pool's groups, where there are caps */
    int64_t *group_offsets, *left;
    int32_t *groups;
    resident d_group_offsets, d_groups, d_left;
    int64_t n_wasted,
        patience; /* rows evaluated for nothing since the last regain, and how many are let pass */
    int64_t t;
    double total;
    selection_pick *out;
    progress *p;
} design;

static double bound(const void *context, int64_t i)
{
    const design *d = context;
    return d->gains[i] + d->slack[i];
}

/* --- S and its inverse --------------------------------------------------------------------------- */

static sc_status measure_inverse(design *d)
{
    double sum = 0;
    const sc_status status = resident_pull(&d->d_a);
    for (int64_t i = 0; status == SC_OK && i < d->task->dim * d->task->dim; i++)
        sum += d->a[i] * d->a[i];
    const double most = 1 / d->task->lambda;
    d->a_norm = sqrt(sum) < most ? sqrt(sum) : most;
    d->n_unmeasured = 0;
    return status;
}

/* x'Ax is known within this much of |x|^2. Rounding errors of the updates add up as a random walk does. */
static double inverse_error(const design *d)
{
    return 2 * DBL_EPSILON * d->a_norm + sqrt(d->drift);
}

/* A from S by Cholesky, unless S is too ill-conditioned for that to help: *done is false then. */
static sc_status build_inverse(design *d, bool *done)
{
    sc_status status = SC_OK;
    const int64_t dim = d->task->dim;
    *done = false;
    if (d->n_built == d->t)
        return SC_OK;
    if (d->n_unmeasured > 0)
        SC_TRY(measure_inverse(d));
    if (!(DBL_EPSILON * d->trace * d->a_norm < 1e-11))
        return SC_OK;
    SC_TRY(d->ops->cholesky(NULL, d->d_l.device, d->d_s.device, dim, done));
    if (!*done)
        return SC_OK;
    SC_TRY(d->ops->cholesky_inverse(NULL, d->d_a.device, d->d_l.device, dim, d->d_scratch.device));
    SC_TRY(measure_inverse(d));
    d->drift = 0;
    d->n_built = d->t;
cleanup:
    return status;
}

/* --- one block ------------------------------------------------------------------------------------- */

/* Puts the m rows with the highest bounds to the front, and finds the highest bound behind them. Bounds as good as
 * equal to that one count as equal, so that of equal rows the lowest are in the pool and tau_row, the lowest of
 * those outside, is behind them. */
static void split(design *d, int64_t n_left, int64_t m, design_pool *pool)
{
    double tau = -INFINITY;
    order_split(d->order, n_left, m, bound, d);
    for (int64_t i = m; i < n_left; i++)
        tau = bound(d, d->order[i]) > tau ? bound(d, d->order[i]) : tau;
    pool->tau = tau;
    pool->tau_row = -1;
    if (m == n_left)
        return;
    /* higher | equal | lower (Dijkstra's partition) */
    int64_t higher = 0, lower = n_left;
    for (int64_t i = 0; i < lower;) {
        const int32_t row = d->order[i];
        const double b = bound(d, row);
        if (b > tau * (1 + EQUAL)) {
            d->order[i++] = d->order[higher];
            d->order[higher++] = row;
        } else if (b < tau * (1 - EQUAL)) {
            d->order[i] = d->order[--lower];
            d->order[lower] = row;
        } else {
            i++;
        }
    }
    order_ascending(d->order + higher, lower - higher);
    pool->tau_row = d->order[m];
    for (int64_t i = m; i < lower; i++)
        pool->tau = bound(d, d->order[i]) > pool->tau ? bound(d, d->order[i]) : pool->tau;
}

/* The groups of the pool's rows, and what they have left. */
static sc_status form_groups(design *d, design_pool *pool, int64_t m)
{
    sc_status status = SC_OK;
    const limits *l = d->task->limits;
    if (!l->group_offsets)
        return SC_OK;
    for (int64_t q = 0; q < m; q++) {
        const int64_t first = l->group_offsets[d->rows[q]], n = l->group_offsets[d->rows[q] + 1] - first;
        if (n > 0)
            memcpy(d->groups + d->group_offsets[q], l->groups + first, (size_t)n * sizeof *d->groups);
        d->group_offsets[q + 1] = d->group_offsets[q] + n;
    }
    memcpy(d->left, l->left, (size_t)l->n_groups * sizeof *d->left);
    SC_TRY(resident_push(&d->d_group_offsets));
    SC_TRY(resident_push(&d->d_groups));
    SC_TRY(resident_push(&d->d_left));
    pool->group_offsets = d->d_group_offsets.device;
    pool->groups = d->d_groups.device;
    pool->left = d->d_left.device;
cleanup:
    return status;
}

/* A bound that, going by every SAMPLED-th row, some four pools of rows are above; -infinity where there are few rows. */
static double likely_floor(design *d)
{
    enum { SAMPLED = 64, ABOVE = 4 * POOL / SAMPLED };
    int64_t n = 0;
    for (int64_t i = 0; i < d->task->n && d->task->n >= 16 * POOL; i += SAMPLED)
        if (d->gains[i] != -INFINITY)
            d->order[n++] = (int32_t)i;
    if (n < 2 * ABOVE)
        return -INFINITY;
    double floor = INFINITY;
    order_split(d->order, n, ABOVE, bound, d);
    for (int64_t i = 0; i < ABOVE; i++)
        floor = bound(d, d->order[i]) < floor ? bound(d, d->order[i]) : floor;
    return floor;
}

/* Splits off the pool among the open rows with at least this bound; returns its size. */
static int64_t split_above(design *d, double floor, design_pool *pool)
{
    int64_t n = 0;
    for (int64_t i = 0; i < d->task->n; i++)
        if (d->gains[i] != -INFINITY && bound(d, i) >= floor)
            d->order[n++] = (int32_t)i;
    const int64_t m = n < POOL ? n : POOL;
    split(d, n, m, pool);
    return m;
}

/* The same where the device keeps the gains: more rows than a pool surely come from there, with all that are as good as
 * equal to the best outside. */
static sc_status split_top(design *d, design_pool *pool, int64_t *m)
{
    int64_t n;
    const sc_status status = top_rows_find(&d->top, LISTED, 4 * EQUAL, d->order, &n);
    *m = n < POOL ? n : POOL;
    if (status == SC_OK)
        split(d, n, *m, pool);
    return status;
}

/* Splits off the pool where the gains are the host's. Rows below a floor are left out of the sorting if it turns out that
 * they are below tau and its equals. */
static int64_t split_all(design *d, design_pool *pool)
{
    const double floor = likely_floor(d);
    const int64_t m = split_above(d, floor, pool);
    return floor > -INFINITY && !(pool->tau > 0 && pool->tau * (1 - 3 * EQUAL) > floor)
               ? split_above(d, -INFINITY, pool)
               : m;
}

/* Gathers the pool: the rows with the highest bounds. */
static sc_status form_pool(design *d, design_pool *pool, int64_t *n_pool)
{
    sc_status status = SC_OK;
    const int64_t dim = d->task->dim;
    int64_t m;
    if (top_rows_here(&d->top))
        SC_TRY(split_top(d, pool, &m));
    else
        m = split_all(d, pool);
    order_ascending(d->order, m);
    for (int64_t q = 0; q < m; q++) {
        const int64_t row = d->order[q];
        d->rows[q] = row;
        d->pool_gains[q] = d->gains[row];
        d->pool_slack[q] = d->slack[row];
        d->pool_norms[q] = d->norms[row];
        memcpy(d->x + q * dim, d->task->x + row * dim, (size_t)dim * sizeof *d->x);
    }
    SC_TRY(resident_push(&d->d_rows));
    SC_TRY(resident_push(&d->d_pool_gains));
    SC_TRY(resident_push(&d->d_pool_slack));
    SC_TRY(resident_push(&d->d_pool_norms));
    SC_TRY(resident_push(&d->d_pool_x));
    SC_TRY(form_groups(d, pool, m));
    *n_pool = m;
cleanup:
    return status;
}

static void record(design *d, int64_t row, double gain)
{
    const limits *l = d->task->limits;
    d->total += log1p(gain);
    d->out[d->t++] = (selection_pick){.row = row, .score = gain, .gain = log1p(gain), .objective = d->total};
    limits_take(d->task->limits, row);
    for (int64_t i = 0; i < l->n_just_closed; i++) {
        d->gains[l->just_closed[i]] = -INFINITY;
        if (top_rows_here(&d->top))
            d->closed[d->n_closed++] = l->just_closed[i];
    }
    progress_add(d->p, 1);
}

/* Takes n picks, whose vectors w and rows x stand on the host, from all gains, and puts them into S and A. */
static sc_status flush(design *d, int64_t n)
{
    sc_status status = SC_OK;
    const int64_t dim = d->task->dim;
    double squares = 0;
    for (int64_t i = 0; i < n * dim; i++) {
        d->w32[i] = (float)d->w[i];
        d->x64[i] = (double)d->x_rows[i];
        d->trace += d->x64[i] * d->x64[i];
        squares += d->w[i] * d->w[i];
    }
    SC_TRY(resident_push(&d->d_w));
    SC_TRY(resident_push(&d->d_w32));
    SC_TRY(resident_push(&d->d_x64));
    SC_TRY(flush_rows(&d->d_x, d->d_gains.device, d->d_slack.device, d->d_norms.device, d->d_w32.device, n,
                      sqrt(squares)));
    SC_TRY(d->ops->rank_update(NULL, d->d_a.device, d->d_w.device, dim, n, -1));
    SC_TRY(d->ops->rank_update(NULL, d->d_s.device, d->d_x64.device, dim, n, 1));
    d->drift += DBL_EPSILON * d->a_norm * DBL_EPSILON * d->a_norm;
    /* A only becomes smaller, so an old norm is a bound, too; to bring A from a card costs more than a tighter one is worth. */
    if (++d->n_unmeasured == MEASURED)
        SC_TRY(measure_inverse(d));
cleanup:
    return status;
}

/* The device gets what the host has changed since the last block: rows that are closed, and the pool's, which it lists in
 * ascending order in d->order. */
static sc_status hand_over(design *d, int64_t n_pool)
{
    sc_status status = SC_OK;
    if (!top_rows_here(&d->top))
        return SC_OK;
    SC_TRY(top_rows_put(&d->top, d->closed, d->n_closed));
    d->n_closed = 0;
    SC_TRY(top_rows_put(&d->top, d->order, n_pool));
cleanup:
    return status;
}

/* The pool does not know what rows cost. But the best of all its rows is the best of those that fit, if it fits: so its
 * picks are right up to the first that does not, and are cut off there. The first of a block always fits. */
static int64_t count_affordable(const design *d, int64_t n)
{
    const limits *l = d->task->limits;
    double left = l->cost_left;
    for (int64_t i = 0; l->costs && i < n; i++) {
        const double cost = l->costs[d->rows[d->picks[i]]];
        if (cost > left)
            return i;
        left -= cost;
    }
    return n;
}

/* Picks in the pool and flushes them. *stop says why there are no more; *n how many there are. */
static sc_status pick_block(design *d, int64_t most, design_stop *stop, int64_t *n)
{
    sc_status status = SC_OK;
    const int64_t dim = d->task->dim;
    design_pool pool = {.x = d->d_pool_x.device,
                        .rows = d->d_rows.device,
                        .norms = d->d_pool_norms.device,
                        .gains = d->d_pool_gains.device,
                        .slack = d->d_pool_slack.device,
                        .a = d->d_a.device,
                        .a_error = inverse_error(d),
                        .dim = dim,
                        .most = most,
                        .w = d->d_w.device,
                        .picks = d->d_picks.device,
                        .found = d->d_found.device};
    SC_TRY(form_pool(d, &pool, &pool.m));
    SC_TRY(d->ops->design_pool(NULL, &pool, d->d_work.device));
    SC_TRY(resident_pull(&d->d_pool_gains));
    SC_TRY(resident_pull(&d->d_pool_slack));
    SC_TRY(resident_pull(&d->d_picks));
    SC_TRY(resident_pull(&d->d_found));
    SC_TRY(resident_pull(&d->d_w));
    *n = count_affordable(d, pool.n);
    for (int64_t l = 0; l < *n; l++) {
        record(d, d->rows[d->picks[l]], d->found[l]);
        memcpy(d->x_rows + l * dim, d->x + d->picks[l] * dim, (size_t)dim * sizeof *d->x);
    }
    if (*n > 0)
        SC_TRY(flush(d, *n));
    /* The pool knows its own gains better than the flush does, unless they are those after picks cut off. */
    for (int64_t q = 0; q < pool.m && *n == pool.n; q++) {
        if (!d->task->limits->closed[d->rows[q]])
            d->gains[d->rows[q]] = d->pool_gains[q];
        d->slack[d->rows[q]] = d->pool_slack[q];
    }
    SC_TRY(hand_over(d, *n == pool.n ? pool.m : 0));
    /* A pick takes one evaluation or two; more are due to bounds that have become loose. */
    const int64_t due = 2 * pool.n + FIRST_EVALUATED;
    d->n_wasted += pool.n_evaluated > due ? pool.n_evaluated - due : 0;
    *stop = pool.stop;
cleanup:
    return status;
}

/* Bounds that every flush has loosened a little are made anew, once that costs no more than to go on. */
static sc_status tighten(design *d)
{
    const regain_task task = {&d->d_x, &d->d_norms, &d->d_a, inverse_error(d)};
    if (d->n_wasted <= d->patience)
        return SC_OK;
    sc_status status = SC_OK;
    bool helped;
    SC_TRY(resident_pull(&d->d_gains));
    SC_TRY(resident_pull(&d->d_slack));
    SC_TRY(regain(&task, d->gains, d->slack, &helped));
    SC_TRY(resident_push(&d->d_gains));
    SC_TRY(resident_push(&d->d_slack));
    d->n_wasted = 0;
    d->patience *= helped ? 1 : 4;
cleanup:
    return status;
}

/* --- one careful pick ------------------------------------------------------------------------------ */

/* One pick by the factor kept by rotations, over all rows, and its flush. */
static sc_status pick_carefully(design *d)
{
    sc_status status = SC_OK;
    const int64_t n = d->task->n, dim = d->task->dim;
    int64_t best = -1;
    if (!d->careful.r) {
        SC_TRY(rotations_open(&d->careful, dim, d->task->lambda));
        SC_TRY(sc_alloc(&d->fresh, (size_t)n, 1));
    }
    for (int64_t have = d->careful.n; have < d->task->n_given + d->t; have = d->careful.n) {
        const int64_t given = d->task->n_given;
        const int64_t row = have < given ? d->task->given[have] : d->out[have - given].row;
        rotations_add(&d->careful, d->task->x + row * dim);
    }
    memset(d->fresh, 0, (size_t)n);
    SC_TRY(resident_pull(&d->d_gains));
    SC_TRY(resident_pull(&d->d_slack));
    for (;;) {
        best = -1;
        for (int64_t i = 0; i < n; i++)
            if (d->gains[i] != -INFINITY && (best < 0 || bound(d, i) > bound(d, best)))
                best = i;
        d->gains[best] = rotations_gain(&d->careful, d->task->x + best * dim, d->w);
        d->slack[best] = 0;
        if (d->fresh[best])
            break;
        d->fresh[best] = 1;
    }
    const double gain = d->gains[best];
    rotations_solve(&d->careful, d->w);
    for (int64_t k = 0; k < dim; k++)
        d->w[k] /= sqrt(1 + gain);
    for (int64_t i = 0; i < n; i++)
        if (d->fresh[i])
            d->slack[i] = 64 * DBL_EPSILON * d->gains[i];
    memcpy(d->x_rows, d->task->x + best * dim, (size_t)dim * sizeof *d->x_rows);
    record(d, best, gain);
    d->n_closed = 0; /* all gains go to the device */
    SC_TRY(resident_push(&d->d_gains));
    SC_TRY(resident_push(&d->d_slack));
    SC_TRY(flush(d, 1));
cleanup:
    return status;
}

/* --- rows chosen before -------------------------------------------------------------------------------- */

/* They are taken from the gains as picks are, a block at a time. */
static sc_status take_given(design *d)
{
    sc_status status = SC_OK;
    const int64_t dim = d->task->dim, n_given = d->task->n_given;
    for (int64_t at = 0; at < n_given; at += BLOCK) {
        const int64_t n = n_given - at < BLOCK ? n_given - at : BLOCK;
        SC_TRY(check_cancelled());
        SC_TRY(resident_pull(&d->d_a));
        for (int64_t l = 0; l < n; l++) {
            const float *x = d->task->x + d->task->given[at + l] * dim;
            double *w = d->w + l * dim, gain = 0;
            memcpy(d->x_rows + l * dim, x, (size_t)dim * sizeof *x);
            for (int64_t i = 0; i < dim; i++) {
                w[i] = 0;
                for (int64_t j = 0; j < dim; j++)
                    w[i] += d->a[i * dim + j] * (double)x[j];
            }
            for (int64_t before = 0; before < l; before++) {
                const double *other = d->w + before * dim;
                double dot = 0;
                for (int64_t i = 0; i < dim; i++)
                    dot += other[i] * (double)x[i];
                for (int64_t i = 0; i < dim; i++)
                    w[i] -= dot * other[i];
            }
            for (int64_t i = 0; i < dim; i++)
                gain += w[i] * (double)x[i];
            for (int64_t i = 0; i < dim; i++)
                w[i] /= sqrt(1 + (gain > 0 ? gain : 0));
        }
        SC_TRY(flush(d, n));
    }
    bool built;
    d->n_built = -1;
    SC_TRY(build_inverse(d, &built));
cleanup:
    return status;
}

/* --- the whole ------------------------------------------------------------------------------------- */

static sc_status check_table(const ops *table)
{
    if (!table->design_flush || !table->design_pool || !table->design_pool_workspace || !table->rank_update ||
        !table->cholesky || !table->cholesky_inverse || !table->cholesky_inverse_workspace ||
        (table != cpu_ops() && !table->design_peaks))
        return sc_fail(SC_DEVICE, "the device \"%s\" lacks the operation design_pool; use --device cpu",
                       table->name);
    return SC_OK;
}

static sc_status design_open(design *d, const selection_task *task, selection_pick *picks)
{
    sc_status status = SC_OK;
    const ops *table = task->device->ops;
    const size_t n = (size_t)task->n, dim = (size_t)task->dim, m = n < POOL ? n : POOL;
    const size_t square = dim * dim * sizeof(double);
    *d = (design){.task = task, .ops = table, .out = picks, .patience = task->n / 64};
    SC_TRY(check_table(table));
    SC_TRY(rows_open(table, task->x, task->n, task->dim, estimate_beside_rows(task, fisher_plan), &d->d_x));
    d->d_x.count = task->passes;
    SC_TRY(sc_alloc(&d->gains, n, sizeof *d->gains));
    SC_TRY(sc_alloc(&d->slack, n, sizeof *d->slack));
    SC_TRY(sc_alloc(&d->norms, n, sizeof *d->norms));
    SC_TRY(sc_alloc(&d->s, dim * dim, sizeof *d->s));
    SC_TRY(sc_alloc(&d->a, dim * dim, sizeof *d->a));
    SC_TRY(sc_alloc(&d->order, n, sizeof *d->order));
    SC_TRY(sc_alloc(&d->rows, m, sizeof *d->rows));
    SC_TRY(sc_alloc(&d->pool_gains, m, sizeof *d->pool_gains));
    SC_TRY(sc_alloc(&d->pool_slack, m, sizeof *d->pool_slack));
    SC_TRY(sc_alloc(&d->pool_norms, m, sizeof *d->pool_norms));
    SC_TRY(sc_alloc(&d->x_rows, BLOCK * dim, sizeof *d->x_rows));
    SC_TRY(sc_alloc(&d->picks, BLOCK, sizeof *d->picks));
    SC_TRY(sc_alloc(&d->found, BLOCK, sizeof *d->found));
    if (task->limits->group_offsets) {
        const int64_t *offsets = task->limits->group_offsets;
        size_t widest = 1, n_groups = (size_t)task->limits->n_groups;
        for (int64_t i = 0; i < task->n; i++)
            if ((size_t)(offsets[i + 1] - offsets[i]) > widest)
                widest = (size_t)(offsets[i + 1] - offsets[i]);
        SC_TRY(sc_alloc(&d->group_offsets, m + 1, sizeof *d->group_offsets));
        SC_TRY(sc_alloc(&d->groups, m * widest, sizeof *d->groups));
        SC_TRY(sc_alloc(&d->left, n_groups, sizeof *d->left));
        SC_TRY(
            resident_open(table, d->group_offsets, (m + 1) * sizeof *d->group_offsets, &d->d_group_offsets));
        SC_TRY(resident_open(table, d->groups, m * widest * sizeof *d->groups, &d->d_groups));
        SC_TRY(resident_open(table, d->left, n_groups * sizeof *d->left, &d->d_left));
    }
    for (size_t k = 0; k < dim; k++) {
        d->s[k * dim + k] = task->lambda;
        d->a[k * dim + k] = 1 / task->lambda;
    }
    d->trace = (double)dim * task->lambda;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < task->n; i++) {
        double sum = 0;
        for (int64_t j = 0; j < task->dim; j++)
            sum += (double)task->x[i * task->dim + j] * (double)task->x[i * task->dim + j];
        d->norms[i] = sqrt(sum);
        d->gains[i] = sum / task->lambda;
        d->slack[i] = 64 * DBL_EPSILON * d->gains[i];
        if (task->limits->closed[i])
            d->gains[i] = -INFINITY;
    }
    SC_TRY(resident_open(table, d->gains, n * sizeof *d->gains, &d->d_gains));
    SC_TRY(resident_open(table, d->slack, n * sizeof *d->slack, &d->d_slack));
    SC_TRY(resident_open(table, d->norms, n * sizeof *d->norms, &d->d_norms));
    SC_TRY(top_rows_open(table, &d->d_gains, &d->d_slack, LISTED, &d->top));
    if (top_rows_here(&d->top))
        SC_TRY(sc_alloc(&d->closed, n, sizeof *d->closed));
    SC_TRY(resident_open(table, d->s, square, &d->d_s));
    SC_TRY(resident_open(table, d->a, square, &d->d_a));
    SC_TRY(measure_inverse(d));
    SC_TRY(resident_scratch(table, square, &d->d_l));
    SC_TRY(resident_scratch(table, table->cholesky_inverse_workspace(task->dim), &d->d_scratch));
    SC_TRY(resident_open(table, d->rows, m * sizeof *d->rows, &d->d_rows));
    SC_TRY(resident_make(table, m * dim, sizeof *d->x, &d->d_pool_x));
    d->x = d->d_pool_x.host;
    SC_TRY(resident_open(table, d->pool_gains, m * sizeof *d->pool_gains, &d->d_pool_gains));
    SC_TRY(resident_open(table, d->pool_slack, m * sizeof *d->pool_slack, &d->d_pool_slack));
    SC_TRY(resident_open(table, d->pool_norms, m * sizeof *d->pool_norms, &d->d_pool_norms));
    SC_TRY(resident_make(table, BLOCK * dim, sizeof *d->w, &d->d_w));
    d->w = d->d_w.host;
    SC_TRY(resident_make(table, BLOCK * dim, sizeof *d->w32, &d->d_w32));
    d->w32 = d->d_w32.host;
    SC_TRY(resident_make(table, BLOCK * dim, sizeof *d->x64, &d->d_x64));
    d->x64 = d->d_x64.host;
    SC_TRY(resident_open(table, d->picks, BLOCK * sizeof *d->picks, &d->d_picks));
    SC_TRY(resident_open(table, d->found, BLOCK * sizeof *d->found, &d->d_found));
    SC_TRY(resident_scratch(table, table->design_pool_workspace((int64_t)m, task->dim, BLOCK), &d->d_work));
cleanup:
    return status;
}

static void design_close(design *d)
{
    resident *places[] = {
        &d->d_gains,      &d->d_slack, &d->d_norms,         &d->d_s,      &d->d_a,          &d->d_l,
        &d->d_scratch,    &d->d_rows,  &d->d_pool_x,        &d->d_w,      &d->d_pool_gains, &d->d_pool_slack,
        &d->d_pool_norms, &d->d_w32,   &d->d_group_offsets, &d->d_groups, &d->d_left,       &d->d_x64,
        &d->d_picks,      &d->d_found, &d->d_work};
    void *arrays[] = {d->gains,      d->slack,      d->norms,         d->s,      d->a,     d->order,
                      d->rows,       d->pool_gains, d->pool_slack,    d->x_rows, d->picks, d->found,
                      d->pool_norms, d->fresh,      d->group_offsets, d->groups, d->left,  d->closed};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        resident_close(places[i]);
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
    rows_close(&d->d_x);
    top_rows_close(&d->top);
    rotations_close(&d->careful);
}

sc_status fisher_select(const selection_task *task, selection_pick *picks, int64_t *n_picks)
{
    sc_status status = SC_OK;
    design d;
    int64_t idle = 0;
    progress *p = progress_begin("select fisher", "picks", limits_likely(task->limits, task->budget));
    SC_TRY(design_open(&d, task, picks));
    d.p = p;
    if (task->n_given > 0)
        SC_TRY(take_given(&d));
    while (d.t < task->budget && task->limits->n_open > 0) {
        const int64_t left = task->budget - d.t;
        design_stop stop;
        int64_t n;
        SC_TRY(check_cancelled());
        SC_TRY(pick_block(&d, left < BLOCK ? left : BLOCK, &stop, &n));
        SC_TRY(tighten(&d));
        if (n > 0) {
            idle = 0;
            continue;
        }
        /* The pool's bounds are tighter now, and the next one may do. If rounding is in the way, or more rows
         * than a pool holds are as good as equal, ... */
        idle++;
        bool built = false;
        if (stop == DESIGN_UNSURE)
            SC_TRY(build_inverse(&d, &built));
        if (!built && (stop == DESIGN_UNSURE || idle > 2 + task->n / POOL)) {
            SC_TRY(pick_carefully(&d));
            idle = 0;
        }
    }
    *n_picks = d.t;
cleanup:
    design_close(&d);
    progress_end(p);
    return status;
}

/* --- what it would take ---------------------------------------------------------------------------- */

/* One pick in a pool of m rows: a pass over it, some eight products with S^-1, and its part in S and its inverse. */
static double pool_operations(int64_t m, int64_t dim)
{
    return 2.0 * (double)m * (double)dim + (16.0 + 4.0) * (double)dim * (double)dim;
}

static sc_status probe_pool(const selection_task *task, double *operations)
{
    const int64_t m = task->n < POOL ? task->n : POOL;
    const int64_t most = estimate_rows(m, BLOCK, pool_operations(m, task->dim));
    *operations = (double)most * pool_operations(m, task->dim);
    return estimate_run(task, m, most, fisher_select);
}

static sc_status probe_flush(const selection_task *task, double *operations)
{
    sc_status status = SC_OK;
    const ops *table = task->device->ops;
    const int64_t dim = task->dim, n = estimate_rows(task->n, task->n, 2.0 * BLOCK * (double)dim);
    double *state = NULL; /* gains, slack, norms */
    float *w = NULL;
    resident d_state = {0}, d_w = {0};
    device_rows d_x = {0};
    SC_TRY(check_table(table));
    SC_TRY(rows_open(table, task->x, n, dim, (3 * (size_t)n + BLOCK * (size_t)dim) * sizeof *state, &d_x));
    SC_TRY(sc_alloc(&state, 3 * (size_t)n, sizeof *state));
    SC_TRY(sc_alloc(&w, BLOCK * (size_t)dim, sizeof *w));
    SC_TRY(resident_open(table, state, 3 * (size_t)n * sizeof *state, &d_state));
    SC_TRY(resident_open(table, w, BLOCK * (size_t)dim * sizeof *w, &d_w));
    double *gains = d_state.device;
    SC_TRY(flush_rows(&d_x, gains, gains + n, gains + 2 * n, d_w.device, BLOCK, 1));
    SC_TRY(resident_pull(&d_state));
    *operations = 2.0 * (double)n * (double)dim * BLOCK;
cleanup:
    resident_close(&d_state);
    resident_close(&d_w);
    rows_close(&d_x);
    free(state);
    free(w);
    return status;
}

void fisher_plan(const selection_task *task, estimate *out)
{
    const ops *table = task->device->ops;
    const int64_t n = task->n, dim = task->dim, m = n < POOL ? n : POOL;
    const double picks = (double)limits_likely(task->limits, task->budget), before = (double)task->n_given;
    estimate_rows_pass(out, n, dim);
    estimate_resident_add(out, "gains, slack and norms", 3 * n, sizeof(double));
    estimate_array_add(out, "rows in order", n, sizeof(int32_t));
    estimate_resident_add(out, "rows with the highest bounds", top_rows_bytes(table, n, LISTED), 1);
    estimate_array_add(out, "rows that were closed", table->design_put ? n : 0, sizeof(int32_t));
    estimate_resident_add(out, "S and its inverse", 2 * dim * dim, sizeof(double));
    estimate_resident_add(
        out, "Cholesky factor and its scratch",
        dim * dim * (int64_t)sizeof(double) +
            (int64_t)(table->cholesky_inverse_workspace ? table->cholesky_inverse_workspace(dim) : 0),
        1);
    estimate_resident_add(
        out, "pool: rows, gains, slack, norms",
        m * (dim * (int64_t)sizeof(float) + 3 * (int64_t)sizeof(double) + (int64_t)sizeof(int64_t)), 1);
    estimate_resident_add(
        out, "pool: products and scratch",
        (int64_t)(table->design_pool_workspace ? table->design_pool_workspace(m, dim, BLOCK) : 0), 1);
    estimate_resident_add(out, "block of picks", BLOCK * dim * 2, sizeof(double) + sizeof(float));
    if (picks + before > 16 * BLOCK) { /* bounds become loose in a dozen blocks or more */
        estimate_resident_add(out, "factor of the inverse, for new bounds", dim * dim,
                              sizeof(double) + sizeof(float));
        estimate_resident_add(out, "new gains and slack", 2 * n, sizeof(double));
    }
    if (task->limits->group_offsets)
        estimate_resident_add(out, "what the groups have left", task->limits->n_groups, sizeof(int64_t));
    estimate_work_add(out, "products of blocks of picks with all rows",
                      2.0 * (double)n * (double)dim * (picks + before), 1 + (picks + before) / BLOCK,
                      probe_flush);
    estimate_work_add(out, "picks in the pool", picks * pool_operations(m, dim), 0, probe_pool);
}
