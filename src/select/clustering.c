/* Clusters of all rows, and the distributions over them. */
#include "select/clustering.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"

void clustering_free(clustering *c)
{
    kmeans_free(&c->kmeans);
    distributions_close(&c->distributions);
    free(c->entropy);
    *c = (clustering){0};
}

sc_status clustering_move_centres(const float *centres, int64_t k, const centred *rows, float *out)
{
    for (int64_t j = 0; j < k; j++)
        for (int64_t d = 0; d < rows->dim; d++) {
            const float v = centres[j * rows->dim + d];
            const float moved = (float)(((double)v - rows->mean[d]) * rows->scale);
            if (!isfinite(v) || !isfinite(moved))
                return sc_fail(SC_BAD_INPUT,
                               "the centres: centre %lld holds a value that is not usable at position %lld",
                               (long long)j, (long long)d);
            out[j * rows->dim + d] = moved;
        }
    return SC_OK;
}

static sc_status find_centres(device_rows *x, const centred *rows, const clustering_options *o,
                              kmeans_result *out)
{
    sc_status status = SC_OK;
    float *given = NULL;
    if (o->centres) {
        SC_TRY(sc_alloc(&given, (size_t)o->k * (size_t)rows->dim, sizeof *given));
        SC_TRY(clustering_move_centres(o->centres, o->k, rows, given));
        SC_TRY(kmeans_given(x, given, o->k, out));
        goto cleanup;
    }
    const kmeans_options settings = {.k = o->k, .seed = o->seed, .tolerance = 1e-4};
    SC_TRY(kmeans(x, &settings, out));
    if (!out->converged)
        log_warn("k-means stopped after %lld iterations without settling", (long long)out->iterations);
cleanup:
    free(given);
    return status;
}

static sc_status check_table(const ops *table)
{
    if (!table->cluster_softmax || !table->cluster_softmax_workspace)
        return sc_fail(SC_DEVICE, "the device \"%s\" lacks the operation cluster_softmax; use --device cpu",
                       table->name);
    return SC_OK;
}

sc_status clustering_make(device *dev, const centred *rows, const clustering_options *o, clustering *out)
{
    sc_status status = SC_OK;
    const ops *table = dev->ops;
    const int64_t n = rows->n, dim = rows->dim;
    device_rows x = {0};
    estimate beside = {0};
    SC_TRY(check_table(table));
    clustering_plan(n, dim, o->k < n || o->centres ? o->k : n, o->centres != NULL, table, &beside);
    SC_TRY(rows_open_centred(table, rows, (size_t)estimate_device_bytes(&beside), &x));
    x.count = &out->passes;
    SC_TRY(find_centres(&x, rows, o, &out->kmeans));
    const int64_t k = out->kmeans.k;
    SC_TRY(distributions_make(rows, &x, out->kmeans.centres, k, o->temperature * rows->scale,
                              &out->distributions, &out->entropy));
cleanup:
    rows_close(&x);
    return status;
}

/* --- what it would take ---------------------------------------------------------------------------- */

/* A block of rows, and as many of them for centres. */
static sc_status probe_softmax(const selection_task *task, double *operations)
{
    sc_status status = SC_OK;
    const ops *table = task->device->ops;
    const int64_t k = task->k < task->n ? task->k : task->n;
    const int64_t n = estimate_rows(task->n, task->n, 2.0 * (double)k * (double)task->dim);
    const centred as_is = {.from = task->x, .n = n, .dim = task->dim};
    double *entropy = NULL;
    device_rows x = {0};
    distributions found = {0};
    estimate beside = {0};
    SC_TRY(check_table(table));
    clustering_plan(n, task->dim, k, true, table, &beside);
    SC_TRY(rows_open(table, task->x, n, task->dim, (size_t)estimate_device_bytes(&beside), &x));
    SC_TRY(distributions_make(&as_is, &x, task->x, k, 1, &found, &entropy));
    *operations = 2.0 * (double)n * (double)k * (double)task->dim;
cleanup:
    distributions_close(&found);
    rows_close(&x);
    free(entropy);
    return status;
}

void clustering_plan(int64_t n, int64_t dim, int64_t k, bool given, const ops *table, estimate *out)
{
    kmeans_fit_plan(n, dim, k, given, table, out);
    const bool kept = distributions_kept(n, k);
    const int64_t part = distributions_part(table, n, k, kept), cell = (int64_t)sizeof(double);
    const int64_t made = n < DISTRIBUTIONS_MOST ? n : DISTRIBUTIONS_MOST;
    estimate_array_add(out, "entropies", n, sizeof(double));
    if (kept)
        estimate_array_add(out, "distributions over the clusters", n * k, sizeof(double));
    else
        estimate_resident_add(out, "distributions that are looked at",
                              made * ((k + 1) * cell + dim * (int64_t)sizeof(float)) +
                                  (int64_t)(table->cluster_softmax_workspace
                                                ? table->cluster_softmax_workspace(made, k, dim)
                                                : 0),
                              1);
    estimate_phase_begin(out);
    estimate_part_add(out, "softmax: centres", 0, 0, k * dim * (int64_t)sizeof(float));
    estimate_part_add(out, "softmax: a part of the distributions", kept ? 0 : part * k, sizeof(double),
                      part * (k + 1) * cell);
    estimate_resident_add(
        out, "softmax: scratch",
        (int64_t)(table->cluster_softmax_workspace ? table->cluster_softmax_workspace(part, k, dim) : 0), 1);
    estimate_phase_end(out);
    estimate_work_add(out, "distributions over the clusters", 2.0 * (double)n * (double)k * (double)dim, 1,
                      probe_softmax);
}
