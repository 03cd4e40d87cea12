/* popularity: reviews of the items that have the most reviews. One review of every item in turn, items by their
 * number of reviews, before any gets its second one: in a data set of few items, reviews of the single most
 * popular one would else be all there is. Within an item, in the order of the file. O(n log n). */
#include <stdlib.h>

#include "select/estimate.h"
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

sc_status popularity_select(const selection_task *task, selection_pick *picks, int64_t *n_picks)
{
    sc_status status = SC_OK;
    ranking r = {.items = task->items};
    int32_t *rows = NULL, *reached = NULL; /* [n_items] reviews of it that come before */
    double total = 0;
    int64_t t = 0;
    SC_TRY(sc_alloc(&r.counts, (size_t)task->n_items, sizeof *r.counts));
    SC_TRY(sc_alloc(&r.round, (size_t)task->n, sizeof *r.round));
    SC_TRY(sc_alloc(&rows, (size_t)task->n, sizeof *rows));
    SC_TRY(sc_alloc(&reached, (size_t)task->n_items, sizeof *reached));
    for (int64_t i = 0; i < task->n; i++) {
        r.counts[task->items[i]]++;
        r.most = r.counts[task->items[i]] > r.most ? r.counts[task->items[i]] : r.most;
    }
    for (int64_t g = 0; g < task->n_given; g++) {
        const int32_t item = task->items[task->given[g]];
        total += reached[item]++ == 0 ? r.counts[item] : 0;
    }
    for (int64_t i = 0; i < task->n; i++)
        r.round[i] = task->limits->closed[i] ? 0 : reached[task->items[i]]++;
    order_best(rows, task->n, limits_reach(task->limits, task->budget), standing, &r);
    for (int64_t q = 0; t < task->budget && task->limits->n_open > 0; q++) {
        const int32_t row = rows[q];
        const double count = r.counts[task->items[row]], gain = r.round[row] == 0 ? count : 0;
        if (task->limits->closed[row])
            continue;
        limits_take(task->limits, row);
        total += gain;
        picks[t++] =
            (selection_pick){.row = row, .score = count, .gain = gain, .objective = total / (double)task->n};
    }
    *n_picks = t;
cleanup:
    free(r.counts);
    free(r.round);
    free(rows);
    free(reached);
    return status;
}

void popularity_plan(const selection_task *task, estimate *out)
{
    estimate_array_add(out, "rounds of reviews", task->n, sizeof(int32_t));
    estimate_array_add(out, "reviews of items", 2 * task->n_items, sizeof(int32_t));
    ranking_plan(task, out);
}
