/* The state of fisher: gains of all rows, S and its inverse, and what a block of picks does to them. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "select/estimate.h"
#include "select/fisher.h"
#include "select/regain.h"

enum { MEASURED = 8 /* |A| is, every so many flushes */ };

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

/* S of all rows chosen. It is only there to build A from, so it waits until that is asked for. */
static sc_status sum_rows(design *d)
{
    sc_status status = SC_OK;
    const int64_t dim = d->task->dim, n_given = d->task->n_given, n_chosen = n_given + d->t;
    while (d->n_summed < n_chosen) {
        SC_TRY(d->ops->synchronise(NULL)); /* x64 may still be on its way to a card */
        const int64_t n = n_chosen - d->n_summed < FISHER_BLOCK ? n_chosen - d->n_summed : FISHER_BLOCK;
        for (int64_t l = 0; l < n; l++) {
            const int64_t c = d->n_summed + l,
                          row = c < n_given ? d->task->given[c] : d->out[c - n_given].row;
            for (int64_t k = 0; k < dim; k++)
                d->x64[l * dim + k] = (double)d->task->x[row * dim + k];
        }
        SC_TRY(resident_push(&d->d_x64));
        SC_TRY(d->ops->rank_update(NULL, d->d_s.device, d->d_x64.device, dim, n, 1));
        d->n_summed += n;
    }
cleanup:
    return status;
}

double fisher_inverse_error(const design *d)
{
    return 2 * DBL_EPSILON * d->a_norm + sqrt(d->drift);
}

sc_status fisher_build_inverse(design *d, bool *done)
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
    SC_TRY(sum_rows(d));
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

/* --- picks ---------------------------------------------------------------------------------------- */

void fisher_record(design *d, int64_t row, double gain)
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

sc_status fisher_flush(design *d, int64_t n)
{
    sc_status status = SC_OK;
    const int64_t dim = d->task->dim;
    double squares = 0;
    for (int64_t i = 0; i < n * dim; i++) {
        d->w32[i] = (float)d->w[i];
        d->trace += (double)d->x_rows[i] * (double)d->x_rows[i];
        squares += d->w[i] * d->w[i];
    }
    SC_TRY(resident_push(&d->d_w));
    SC_TRY(resident_push(&d->d_w32));
    SC_TRY(flush_rows(&d->d_x, d->d_gains.device, d->d_slack.device, d->d_norms.device, d->d_w32.device, n,
                      sqrt(squares)));
    SC_TRY(d->ops->rank_update(NULL, d->d_a.device, d->d_w.device, dim, n, -1));
    d->drift += DBL_EPSILON * d->a_norm * DBL_EPSILON * d->a_norm;
    /* A only becomes smaller, so an old norm is a bound, too; to bring A from a card costs more than a tighter one is worth. */
    if (++d->n_unmeasured == MEASURED)
        SC_TRY(measure_inverse(d));
cleanup:
    return status;
}

/* --- its arrays ----------------------------------------------------------------------------------- */

sc_status fisher_check_table(const ops *table)
{
    if (!table->design_flush || !table->design_pool || !table->design_pool_workspace || !table->rank_update ||
        !table->cholesky || !table->cholesky_inverse || !table->cholesky_inverse_workspace ||
        (table != cpu_ops() && (!table->design_peaks || !table->design_above || !table->design_put)))
        return sc_fail(SC_DEVICE, "the device \"%s\" lacks the operation design_pool; use --device cpu",
                       table->name);
    return SC_OK;
}

sc_status fisher_open(design *d, const selection_task *task, selection_pick *picks)
{
    sc_status status = SC_OK;
    const ops *table = task->device->ops;
    const size_t n = (size_t)task->n, dim = (size_t)task->dim, m = n < FISHER_POOL ? n : FISHER_POOL;
    const size_t square = dim * dim * sizeof(double);
    *d = (design){.task = task, .ops = table, .out = picks, .patience = task->n / 64};
    SC_TRY(fisher_check_table(table));
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
    SC_TRY(sc_alloc(&d->x_rows, FISHER_BLOCK * dim, sizeof *d->x_rows));
    SC_TRY(sc_alloc(&d->picks, FISHER_BLOCK, sizeof *d->picks));
    SC_TRY(sc_alloc(&d->found, FISHER_BLOCK, sizeof *d->found));
    if (task->limits->group_offsets) {
        const size_t n_groups = (size_t)task->limits->n_groups, most = (size_t)limits_widest(task->limits);
        const size_t widest = most > 0 ? most : 1;
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
    SC_TRY(top_rows_open(table, &d->d_gains, &d->d_slack, FISHER_LISTED, &d->top));
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
    SC_TRY(resident_make(table, FISHER_BLOCK * dim, sizeof *d->w, &d->d_w));
    d->w = d->d_w.host;
    SC_TRY(resident_make(table, FISHER_BLOCK * dim, sizeof *d->w32, &d->d_w32));
    d->w32 = d->d_w32.host;
    SC_TRY(resident_make(table, FISHER_BLOCK * dim, sizeof *d->x64, &d->d_x64));
    d->x64 = d->d_x64.host;
    SC_TRY(resident_open(table, d->picks, FISHER_BLOCK * sizeof *d->picks, &d->d_picks));
    SC_TRY(resident_open(table, d->found, FISHER_BLOCK * sizeof *d->found, &d->d_found));
    SC_TRY(resident_scratch(table, table->design_pool_workspace((int64_t)m, task->dim, FISHER_BLOCK),
                            &d->d_work));
cleanup:
    return status;
}

void fisher_close(design *d)
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
