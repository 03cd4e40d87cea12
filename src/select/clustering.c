/* Clusters of all rows, and the distributions over them. */
#include "select/clustering.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"

void clustering_free(clustering *c)
{
    kmeans_free(&c->kmeans);
    free(c->p);
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

static sc_status find_centres(resident *x, const centred *rows, const clustering_options *o,
                              kmeans_result *out)
{
    sc_status status = SC_OK;
    float *given = NULL;
    if (o->centres) {
        SC_TRY(sc_alloc(&given, (size_t)o->k * (size_t)rows->dim, sizeof *given));
        SC_TRY(clustering_move_centres(o->centres, o->k, rows, given));
        SC_TRY(kmeans_given(x, rows->n, rows->dim, given, o->k, out));
        goto cleanup;
    }
    const kmeans_options settings = {.k = o->k, .seed = o->seed, .tolerance = 1e-4};
    SC_TRY(kmeans(x, rows->n, rows->dim, &settings, out));
    if (!out->converged)
        log_warn("k-means stopped after %lld iterations without settling", (long long)out->iterations);
cleanup:
    free(given);
    return status;
}

sc_status clustering_make(device *dev, const centred *rows, const clustering_options *o, clustering *out)
{
    sc_status status = SC_OK;
    const ops *table = dev->ops;
    const size_t n = (size_t)rows->n, dim = (size_t)rows->dim;
    resident x = {0}, centres = {0}, p = {0}, entropy = {0}, scratch = {0};
    if (!table->cluster_softmax || !table->cluster_softmax_workspace)
        return sc_fail(SC_DEVICE, "the device \"%s\" lacks the operation cluster_softmax; use --device cpu",
                       table->name);
    SC_TRY(resident_open(table, rows->x, n * dim * sizeof *rows->x, &x));
    SC_TRY(find_centres(&x, rows, o, &out->kmeans));
    const int64_t k = out->kmeans.k;
    SC_TRY(sc_alloc(&out->p, n * (size_t)k, sizeof *out->p));
    SC_TRY(sc_alloc(&out->entropy, n, sizeof *out->entropy));
    SC_TRY(resident_open(table, out->kmeans.centres, (size_t)k * dim * sizeof(float), &centres));
    SC_TRY(resident_open(table, out->p, n * (size_t)k * sizeof(double), &p));
    SC_TRY(resident_open(table, out->entropy, n * sizeof(double), &entropy));
    SC_TRY(resident_scratch(table, table->cluster_softmax_workspace(rows->n, k, rows->dim), &scratch));
    SC_TRY(table->cluster_softmax(NULL, p.device, entropy.device, x.device, centres.device, rows->n, k,
                                  rows->dim, o->temperature * rows->scale, scratch.device));
    SC_TRY(resident_pull(&p));
    SC_TRY(resident_pull(&entropy));
cleanup:
    resident_close(&x);
    resident_close(&centres);
    resident_close(&p);
    resident_close(&entropy);
    resident_close(&scratch);
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
    double *found = NULL; /* p, entropy */
    resident x = {0}, d_found = {0}, scratch = {0};
    if (!table->cluster_softmax || !table->cluster_softmax_workspace)
        return sc_fail(SC_DEVICE, "the device \"%s\" lacks the operation cluster_softmax; use --device cpu",
                       table->name);
    SC_TRY(sc_alloc(&found, (size_t)(n * (k + 1)), sizeof *found));
    SC_TRY(resident_open(table, found, (size_t)(n * (k + 1)) * sizeof *found, &d_found));
    SC_TRY(resident_open(table, (void *)(uintptr_t)task->x,
                         (size_t)((n > k ? n : k) * task->dim) * sizeof *task->x, &x));
    SC_TRY(resident_scratch(table, table->cluster_softmax_workspace(n, k, task->dim), &scratch));
    double *p = d_found.device;
    SC_TRY(
        table->cluster_softmax(NULL, p, p + n * k, x.device, x.device, n, k, task->dim, 1, scratch.device));
    SC_TRY(resident_pull(&d_found));
    *operations = 2.0 * (double)n * (double)k * (double)task->dim;
cleanup:
    resident_close(&x);
    resident_close(&d_found);
    resident_close(&scratch);
    free(found);
    return status;
}

void clustering_plan(int64_t n, int64_t dim, int64_t k, bool given, const ops *table, estimate *out)
{
    kmeans_fit_plan(n, dim, k, given, table, out);
    estimate_resident_add(out, "distributions over the clusters", n * (k + 1), sizeof(double));
    estimate_phase_begin(out);
    estimate_resident_add(
        out, "softmax: scratch",
        (int64_t)(table->cluster_softmax_workspace ? table->cluster_softmax_workspace(n, k, dim) : 0), 1);
    estimate_phase_end(out);
    estimate_work_add(out, "distributions over the clusters", 2.0 * (double)n * (double)k * (double)dim, 1,
                      probe_softmax);
}
