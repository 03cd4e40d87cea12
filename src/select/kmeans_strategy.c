/* kmeans: as many clusters as picks, and of each the row nearest to its centre; large clusters first. Under a budget of
 * costs: as many clusters as it pays for rows of the mean cost, and of each the nearest row that fits. */
#include <stdlib.h>

#include "base/log.h"
#include "select/features.h"
#include "select/kmeans.h"
#include "select/order.h"
#include "select/strategy.h"

typedef struct representatives {
    kmeans_result clusters;
    int32_t *counts;  /* [k] */
    int32_t *nearest; /* [k] open rows, -1: none */
} representatives;

static double size_of(const void *context, int64_t cluster)
{
    return ((const representatives *)context)->counts[cluster];
}

/* Rows left over where there are fewer distinct rows than picks, or a budget of costs is not used up: the farthest from
 * their centres first. */
static double distance_of(const void *context, int64_t row)
{
    return (double)((const representatives *)context)->clusters.dist2[row];
}

static sc_status find_representatives(const selection_task *task, representatives *r)
{
    sc_status status = SC_OK;
    centred rows = {0};
    device_rows x = {0};
    const kmeans_options options = {
        .k = limits_likely(task->limits, task->budget), .seed = task->seed, .tolerance = 1e-4};
    SC_TRY(features_centre(task->x, task->n, task->dim, &rows));
    SC_TRY(rows_open_centred(task->device->ops, &rows, estimate_beside_rows(task, kmeans_plan), &x));
    x.count = task->passes;
    SC_TRY(kmeans(&x, &options, &r->clusters));
    SC_TRY(sc_alloc(&r->counts, (size_t)r->clusters.k, sizeof *r->counts));
    SC_TRY(sc_alloc(&r->nearest, (size_t)r->clusters.k, sizeof *r->nearest));
    for (int64_t j = 0; j < r->clusters.k; j++)
        r->nearest[j] = -1;
    for (int64_t i = 0; i < task->n; i++) {
        int32_t *nearest = &r->nearest[r->clusters.labels[i]];
        r->counts[r->clusters.labels[i]]++;
        if (task->limits->closed[i])
            continue;
        if (*nearest < 0 || r->clusters.dist2[i] < r->clusters.dist2[*nearest])
            *nearest = (int32_t)i;
    }
cleanup:
    rows_close(&x);
    centred_free(&rows);
    return status;
}

/* A cap may have closed the row, or what is left may not suffice for it: the next one then. */
static int32_t representative(const selection_task *task, representatives *r, int32_t cluster)
{
    const bool *closed = task->limits->closed;
    int32_t *nearest = &r->nearest[cluster];
    if (*nearest < 0 || !closed[*nearest])
        return *nearest;
    *nearest = -1;
    for (int32_t i = 0; i < task->n; i++)
        if (r->clusters.labels[i] == cluster && !closed[i] &&
            (*nearest < 0 || r->clusters.dist2[i] < r->clusters.dist2[*nearest]))
            *nearest = i;
    return *nearest;
}

sc_status kmeans_select(const selection_task *task, selection_pick *picks, int64_t *n_picks)
{
    sc_status status = SC_OK;
    representatives r = {0};
    int32_t *order = NULL;
    int64_t t = 0;
    double covered = 0;
    SC_TRY(find_representatives(task, &r));
    SC_TRY(sc_alloc(&order, (size_t)task->n, sizeof *order));
    order_best(order, r.clusters.k, r.clusters.k, size_of, &r);
    for (int64_t j = 0; j < r.clusters.k; j++) {
        const int32_t cluster = order[j], row = representative(task, &r, cluster);
        if (row < 0)
            continue; /* a cluster without an open row: there are fewer distinct rows, or they are closed */
        covered += r.counts[cluster];
        limits_take(task->limits, row);
        picks[t++] = (selection_pick){.row = row,
                                      .score = r.counts[cluster],
                                      .gain = r.counts[cluster],
                                      .cluster = cluster,
                                      .objective = covered / (double)task->n};
    }
    order_best(order, task->n, limits_reach(task->limits, task->budget - t), distance_of, &r);
    for (int64_t q = 0; t < task->budget && task->limits->n_open > 0; q++) {
        const int32_t row = order[q];
        if (task->limits->closed[row])
            continue;
        limits_take(task->limits, row);
        picks[t++] = (selection_pick){
            .row = row, .cluster = r.clusters.labels[row], .objective = covered / (double)task->n};
    }
    *n_picks = t;
cleanup:
    kmeans_free(&r.clusters);
    free(r.counts);
    free(r.nearest);
    free(order);
    return status;
}

void kmeans_plan(const selection_task *task, estimate *out)
{
    const int64_t k = limits_likely(task->limits, task->budget);
    estimate_centred(out, task->n, task->dim);
    estimate_array_add(out, "rows in order", task->n, sizeof(int32_t));
    estimate_array_add(out, "sizes and representatives", 2 * k, sizeof(int32_t));
    kmeans_fit_plan(task->n, task->dim, k, false, task->device->ops, out);
}
