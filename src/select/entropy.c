/* entropy: the rows whose distribution over the clusters is the least decided (uncertainty sampling; Settles 2009).
 * A ranking: what is chosen has no say in what comes next. O(n log n). */
#include <stdlib.h>

#include "select/order.h"
#include "select/strategy.h"

static double entropy_of(const void *context, int64_t row)
{
    return ((const selection_task *)context)->entropy[row];
}

sc_status entropy_select(const selection_task *task, selection_pick *picks)
{
    int32_t *rows = NULL;
    double total = 0;
    sc_status status = sc_alloc(&rows, (size_t)task->n, sizeof *rows);
    if (status != SC_OK)
        return status;
    order_best(rows, task->n, task->budget, entropy_of, task);
    for (int64_t t = 0; t < task->budget; t++) {
        const double entropy = task->entropy[rows[t]];
        total += entropy;
        picks[t] = (selection_pick){.row = rows[t],
                                    .score = entropy,
                                    .gain = entropy,
                                    .entropy = entropy,
                                    .cluster = task->labels[rows[t]],
                                    .objective = total / (double)(t + 1)};
    }
    free(rows);
    return SC_OK;
}
