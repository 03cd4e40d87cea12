/* Choosing by a key that no choice changes. */
#include "select/ranking.h"

#include <stdlib.h>

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
