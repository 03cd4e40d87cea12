/* What fisher would take (fisher.c). */
#include <stdlib.h>

#include "select/estimate.h"
#include "select/fisher.h"
#include "select/regain.h"

/* One pick in a pool of m rows: a pass over it, some eight products with S^-1, and its part in S and its inverse. */
static double pool_operations(int64_t m, int64_t dim)
{
    return 2.0 * (double)m * (double)dim + (16.0 + 4.0) * (double)dim * (double)dim;
}

static sc_status probe_pool(const selection_task *task, double *operations)
{
    const int64_t m = task->n < FISHER_POOL ? task->n : FISHER_POOL;
    const int64_t most = estimate_rows(m, FISHER_BLOCK, pool_operations(m, task->dim));
    *operations = (double)most * pool_operations(m, task->dim);
    return estimate_run(task, m, most, fisher_select);
}

static sc_status probe_flush(const selection_task *task, double *operations)
{
    sc_status status = SC_OK;
    const ops *table = task->device->ops;
    const int64_t dim = task->dim, n = estimate_rows(task->n, task->n, 2.0 * FISHER_BLOCK * (double)dim);
    double *state = NULL; /* gains, slack, norms */
    float *w = NULL;
    resident d_state = {0}, d_w = {0};
    device_rows d_x = {0};
    SC_TRY(fisher_check_table(table));
    SC_TRY(rows_open(table, task->x, n, dim, (3 * (size_t)n + FISHER_BLOCK * (size_t)dim) * sizeof *state,
                     &d_x));
    SC_TRY(sc_alloc(&state, 3 * (size_t)n, sizeof *state));
    SC_TRY(sc_alloc(&w, FISHER_BLOCK * (size_t)dim, sizeof *w));
    SC_TRY(resident_open(table, state, 3 * (size_t)n * sizeof *state, &d_state));
    SC_TRY(resident_open(table, w, FISHER_BLOCK * (size_t)dim * sizeof *w, &d_w));
    double *gains = d_state.device;
    SC_TRY(flush_rows(&d_x, gains, gains + n, gains + 2 * n, d_w.device, FISHER_BLOCK, 1));
    SC_TRY(resident_pull(&d_state));
    *operations = 2.0 * (double)n * (double)dim * FISHER_BLOCK;
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
    const int64_t n = task->n, dim = task->dim, m = n < FISHER_POOL ? n : FISHER_POOL;
    const double picks = (double)limits_likely(task->limits, task->budget), before = (double)task->n_given;
    estimate_rows_pass(out, n, dim);
    estimate_resident_add(out, "gains, slack and norms", 3 * n, sizeof(double));
    estimate_array_add(out, "rows in order", n, sizeof(int32_t));
    estimate_resident_add(out, "rows with the highest bounds", top_rows_bytes(table, n, FISHER_LISTED), 1);
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
        (int64_t)(table->design_pool_workspace ? table->design_pool_workspace(m, dim, FISHER_BLOCK) : 0), 1);
    estimate_resident_add(out, "block of picks", FISHER_BLOCK * dim * 2, sizeof(double) + sizeof(float));
    if (picks + before > 16 * FISHER_BLOCK) { /* bounds become loose in a dozen blocks or more */
        estimate_resident_add(out, "factor of the inverse, for new bounds", dim * dim,
                              sizeof(double) + sizeof(float));
        estimate_resident_add(out, "new gains and slack", 2 * n, sizeof(double));
    }
    if (task->limits->group_offsets) {
        estimate_resident_add(out, "what the groups have left", task->limits->n_groups, sizeof(int64_t));
        estimate_resident_add(out, "pool: its rows' groups", m * limits_widest(task->limits) + 2 * (m + 1),
                              sizeof(int32_t));
    }
    /* A pick that rounding leaves in doubt, which may come at any time. */
    estimate_array_add(out, "picks in doubt: what has been looked at", n, sizeof(uint8_t));
    estimate_array_add(out, "picks in doubt: factor of S", dim * dim, sizeof(double));
    estimate_work_add(out, "products of blocks of picks with all rows",
                      2.0 * (double)n * (double)dim * (picks + before), 1 + (picks + before) / FISHER_BLOCK,
                      probe_flush);
    estimate_work_add(out, "picks in the pool", picks * pool_operations(m, dim), 0, probe_pool);
}
