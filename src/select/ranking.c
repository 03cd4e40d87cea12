/* Choosing by a key that no choice changes. */
#include "select/ranking.h"

#include <math.h>
#include <stdlib.h>

#include "select/estimate.h"
#include "select/order.h"

static double key_of(const void *context, int64_t row)
{
    return ((const double *)context)[row];
}

sc_status ranking_select(const selection_task *task, const double *keys, selection_pick *picks,
                         int64_t *n_picks)
{
    int32_t *rows = NULL;
    double total = 0;
    int64_t t = 0;
    sc_status status = sc_alloc(&rows, (size_t)task->n, sizeof *rows);
    if (status != SC_OK)
        return status;
    order_best(rows, task->n, limits_reach(task->limits, task->budget), key_of, keys);
    for (int64_t q = 0; t < task->budget && task->limits->n_open > 0; q++) {
        const int32_t row = rows[q];
        if (task->limits->closed[row])
            continue;
        limits_take(task->limits, row);
        total += keys[row];
        picks[t] = (selection_pick){
            .row = row, .score = keys[row], .gain = keys[row], .objective = total / (double)(t + 1)};
        t++;
    }
    *n_picks = t;
    free(rows);
    return SC_OK;
}

/* Rows by their place, which says as much of the time as any other key. */
static sc_status probe_order(const selection_task *task, double *operations)
{
    enum { ROWS = 1 << 18 };
    sc_status status = SC_OK;
    const int64_t n = task->n < ROWS ? task->n : ROWS;
    int32_t *rows = NULL;
    double *keys = NULL;
    SC_TRY(sc_alloc(&rows, (size_t)n, sizeof *rows));
    SC_TRY(sc_alloc(&keys, (size_t)n, sizeof *keys));
    for (int64_t i = 0; i < n; i++)
        keys[i] = (double)(i * 7919 % 10007);
    order_best(rows, n, n, key_of, keys);
    *operations = (double)n * log2((double)n + 1);
cleanup:
    free(rows);
    free(keys);
    return status;
}

void ranking_plan(const selection_task *task, estimate *out)
{
    const int64_t reach = limits_reach(task->limits, task->budget);
    estimate_array_add(out, "rows in order", task->n, sizeof(int32_t));
    estimate_work_add(out, "sorting", (double)task->n * 2 + (double)reach * log2((double)reach + 1), 0,
                      probe_order);
}
