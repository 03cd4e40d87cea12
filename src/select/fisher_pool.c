/* The pool of fisher: the rows with the highest bounds, and the highest bound outside. */
#include <math.h>
#include <string.h>

#include "select/fisher.h"
#include "select/order.h"

static const double EQUAL = 2e-10; /* relative: bounds this near do not tell rows apart */

/* Puts the m rows with the highest bounds to the front, and finds the highest bound behind them. Bounds as good as
 * equal to that one count as equal, so that of equal rows the lowest are in the pool and tau_row, the lowest of
 * those outside, is behind them. */
static void split(design *d, int64_t n_left, int64_t m, design_pool *pool)
{
    double tau = -INFINITY;
    order_split(d->order, n_left, m, fisher_bound, d);
    for (int64_t i = m; i < n_left; i++)
        tau = fisher_bound(d, d->order[i]) > tau ? fisher_bound(d, d->order[i]) : tau;
    pool->tau = tau;
    pool->tau_row = -1;
    if (m == n_left)
        return;
    /* higher | equal | lower (Dijkstra's partition) */
    int64_t higher = 0, lower = n_left;
    for (int64_t i = 0; i < lower;) {
        const int32_t row = d->order[i];
        const double b = fisher_bound(d, row);
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
        pool->tau = fisher_bound(d, d->order[i]) > pool->tau ? fisher_bound(d, d->order[i]) : pool->tau;
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
    enum { SAMPLED = 64, ABOVE = 4 * FISHER_POOL / SAMPLED };
    int64_t n = 0;
    for (int64_t i = 0; i < d->task->n && d->task->n >= 16 * FISHER_POOL; i += SAMPLED)
        if (d->gains[i] != -INFINITY)
            d->order[n++] = (int32_t)i;
    if (n < 2 * ABOVE)
        return -INFINITY;
    double floor = INFINITY;
    order_split(d->order, n, ABOVE, fisher_bound, d);
    for (int64_t i = 0; i < ABOVE; i++)
        floor = fisher_bound(d, d->order[i]) < floor ? fisher_bound(d, d->order[i]) : floor;
    return floor;
}

/* Splits off the pool among the open rows with at least this bound; returns its size. */
static int64_t split_above(design *d, double floor, design_pool *pool)
{
    int64_t n = 0;
    for (int64_t i = 0; i < d->task->n; i++)
        if (d->gains[i] != -INFINITY && fisher_bound(d, i) >= floor)
            d->order[n++] = (int32_t)i;
    const int64_t m = n < FISHER_POOL ? n : FISHER_POOL;
    split(d, n, m, pool);
    return m;
}

/* The same where the device keeps the gains: more rows than a pool surely come from there, with all that are as good as
 * equal to the best outside. */
static sc_status split_top(design *d, design_pool *pool, int64_t *m)
{
    int64_t n;
    const sc_status status = top_rows_find(&d->top, FISHER_LISTED, 4 * EQUAL, d->order, &n);
    *m = n < FISHER_POOL ? n : FISHER_POOL;
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

sc_status fisher_form_pool(design *d, design_pool *pool, int64_t *n_pool)
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
