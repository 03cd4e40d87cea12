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
#include "select/fisher.h"
#include "select/regain.h"

#include <string.h>

enum { FIRST_EVALUATED = 32 /* in a block, by design_pool */ };

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
                        .a_error = fisher_inverse_error(d),
                        .dim = dim,
                        .most = most,
                        .w = d->d_w.device,
                        .picks = d->d_picks.device,
                        .found = d->d_found.device};
    SC_TRY(fisher_form_pool(d, &pool, &pool.m));
    SC_TRY(d->ops->design_pool(NULL, &pool, d->d_work.device));
    SC_TRY(resident_pull(&d->d_pool_gains));
    SC_TRY(resident_pull(&d->d_pool_slack));
    SC_TRY(resident_pull(&d->d_picks));
    SC_TRY(resident_pull(&d->d_found));
    SC_TRY(resident_pull(&d->d_w));
    *n = count_affordable(d, pool.n);
    for (int64_t l = 0; l < *n; l++) {
        fisher_record(d, d->rows[d->picks[l]], d->found[l]);
        memcpy(d->x_rows + l * dim, d->x + d->picks[l] * dim, (size_t)dim * sizeof *d->x);
    }
    if (*n > 0)
        SC_TRY(fisher_flush(d, *n));
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
    const regain_task task = {&d->d_x, &d->d_norms, &d->d_a, fisher_inverse_error(d)};
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

sc_status fisher_select(const selection_task *task, selection_pick *picks, int64_t *n_picks)
{
    sc_status status = SC_OK;
    design d;
    int64_t idle = 0;
    progress *p = progress_begin("select fisher", "picks", limits_likely(task->limits, task->budget));
    SC_TRY(fisher_open(&d, task, picks));
    d.p = p;
    if (task->n_given > 0)
        SC_TRY(fisher_take_given(&d));
    while (d.t < task->budget && task->limits->n_open > 0) {
        const int64_t left = task->budget - d.t;
        design_stop stop;
        int64_t n;
        SC_TRY(check_cancelled());
        SC_TRY(pick_block(&d, left < FISHER_BLOCK ? left : FISHER_BLOCK, &stop, &n));
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
            SC_TRY(fisher_build_inverse(&d, &built));
        if (!built && (stop == DESIGN_UNSURE || idle > 2 + task->n / FISHER_POOL)) {
            SC_TRY(fisher_pick_carefully(&d));
            idle = 0;
        }
    }
    *n_picks = d.t;
cleanup:
    fisher_close(&d);
    progress_end(p);
    return status;
}
