/* random: the first rows of a keyed permutation. A larger budget begins with the smaller one's rows. */
#include "base/random.h"

#include <stdlib.h>

#include "select/estimate.h"
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

static sc_status probe_draw(const selection_task *task, double *operations)
{
    enum { ROWS = 1 << 18 };
    const int64_t n = task->n < ROWS ? task->n : ROWS;
    *operations = (double)n;
    return estimate_run(task, n, n, random_select);
}

void random_plan(const selection_task *task, estimate *out)
{
    const double picks = (double)limits_likely(task->limits, task->budget);
    estimate_array_add(out, "rows", task->n, sizeof(int64_t));
    estimate_work_add(out, "drawing", 0.1 * (double)task->n + picks, 0, probe_draw);
}
