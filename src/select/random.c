/* random: the first rows of a keyed permutation. A larger budget begins with the smaller one's rows. */
#include "base/random.h"

#include <stdlib.h>

#include "select/strategy.h"

sc_status random_select(const selection_task *task, selection_pick *picks, int64_t *n_picks)
{
    int64_t *rows = NULL, t = 0;
    sc_status status = sc_alloc(&rows, (size_t)task->n, sizeof *rows);
    if (status != SC_OK)
        return status;
    for (int64_t i = 0; i < task->n; i++)
        rows[i] = i;
    random_stream random = random_at(task->seed, RANDOM_SELECT, 0, 0);
    for (int64_t q = 0; t < task->budget && task->limits->n_open > 0; q++) {
        const int64_t other = q + (int64_t)random_below(&random, (uint64_t)(task->n - q));
        const int64_t row = rows[other];
        rows[other] = rows[q];
        if (task->limits->closed[row])
            continue;
        limits_take(task->limits, row);
        picks[t++] = (selection_pick){.row = row};
    }
    *n_picks = t;
    free(rows);
    return SC_OK;
}
