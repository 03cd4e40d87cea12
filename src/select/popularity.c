/* popularity: reviews of the items that have the most reviews. One review of every item in turn, items by their
 * number of reviews, before any gets its second one: in a data set of few items, reviews of the single most
 * popular one would else be all there is. Within an item, in the order of the file. O(n log n). */
#include <stdlib.h>

#include "select/order.h"
#include "select/strategy.h"

typedef struct ranking {
    const int32_t *items;
    int32_t *counts, *round; /* [n_items] reviews; [n] which review of its item a row is */
    double most;
} ranking;

/* Earlier rounds first, then more reviews. */
static double standing(const void *context, int64_t row)
{
    const ranking *r = context;
    return (double)r->counts[r->items[row]] - (double)r->round[row] * (r->most + 1);
}

sc_status popularity_select(const selection_task *task, selection_pick *picks)
{
    sc_status status = SC_OK;
    ranking r = {.items = task->items};
    int32_t *rows = NULL;
    double total = 0;
    SC_TRY(sc_alloc(&r.counts, (size_t)task->n_items, sizeof *r.counts));
    SC_TRY(sc_alloc(&r.round, (size_t)task->n, sizeof *r.round));
    SC_TRY(sc_alloc(&rows, (size_t)task->n, sizeof *rows));
    for (int64_t i = 0; i < task->n; i++) {
        r.round[i] = r.counts[task->items[i]]++;
        r.most = r.counts[task->items[i]] > r.most ? r.counts[task->items[i]] : r.most;
    }
    order_best(rows, task->n, task->budget, standing, &r);
    for (int64_t t = 0; t < task->budget; t++) {
        const double count = r.counts[task->items[rows[t]]];
        total += r.round[rows[t]] == 0 ? count : 0;
        picks[t] = (selection_pick){.row = rows[t],
                                    .score = count,
                                    .gain = r.round[rows[t]] == 0 ? count : 0,
                                    .objective = total / (double)task->n};
    }
cleanup:
    free(r.counts);
    free(r.round);
    free(rows);
    return status;
}
