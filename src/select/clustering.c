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

/* The distributions are as many bytes as the rows, or more: a device holds those of a part of the rows at a time. */
typedef struct softmaxing {
    const ops *ops;
    int64_t k, dim, part; /* rows of a part; on the CPU all of them */
    double temperature;
    double *p, *entropy;     /* [n][k], [n] */
    resident d_p, d_entropy; /* [part][k], [part] */
    const float *centres;    /* on the device */
    void *scratch;
} softmaxing;

static int64_t part_rows(const ops *table, int64_t n, int64_t k)
{
    enum { PART_BYTES = 64 << 20 };
    const int64_t rows = PART_BYTES / (k * (int64_t)sizeof(double));
    return table == cpu_ops() || n < rows ? n : rows > 0 ? rows : 1;
}

static sc_status softmax_visit(void *context, const float *x, int64_t first, int64_t n)
{
    sc_status status = SC_OK;
    softmaxing *s = context;
    const int64_t k = s->k, dim = s->dim;
    for (int64_t at = 0; at < n; at += s->part) {
        const int64_t m = n - at < s->part ? n - at : s->part;
        SC_TRY(s->ops->cluster_softmax(NULL, s->d_p.device, s->d_entropy.device, x + at * dim, s->centres, m,
                                       k, dim, s->temperature, s->scratch));
        if (s->ops == cpu_ops())
            continue;
        SC_TRY(
            s->ops->download(NULL, s->p + (first + at) * k, s->d_p.device, (size_t)(m * k) * sizeof(double)));
        SC_TRY(
            s->ops->download(NULL, s->entropy + first + at, s->d_entropy.device, (size_t)m * sizeof(double)));
        SC_TRY(s->ops->synchronise(NULL));
    }
cleanup:
    return status;
}

/* p [n][k] and entropy [n] of the rows over k centres [k][dim] on the host. */
static sc_status find_distributions(device_rows *x, float *centres, int64_t k, double temperature, double *p,
                                    double *entropy)
{
    sc_status status = SC_OK;
    const ops *table = x->ops;
    const int64_t part = part_rows(table, x->n, k);
    const size_t cells = (size_t)part * (size_t)k;
    softmaxing s = {.ops = table,
                    .k = k,
                    .dim = x->dim,
                    .part = part,
                    .temperature = temperature,
                    .p = p,
                    .entropy = entropy};
    resident d_centres = {0}, scratch = {0};
    SC_TRY(resident_open(table, centres, (size_t)(k * x->dim) * sizeof *centres, &d_centres));
    SC_TRY(resident_scratch(table, table->cluster_softmax_workspace(part, k, x->dim), &scratch));
    if (table == cpu_ops()) {
        s.d_p.device = p;
        s.d_entropy.device = entropy;
    } else {
        SC_TRY(resident_scratch(table, cells * sizeof *p, &s.d_p));
        SC_TRY(resident_scratch(table, (size_t)part * sizeof *entropy, &s.d_entropy));
    }
    s.centres = d_centres.device;
    s.scratch = scratch.device;
    SC_TRY(rows_pass(x, softmax_visit, &s));
cleanup:
    if (table != cpu_ops()) {
        resident_close(&s.d_p);
        resident_close(&s.d_entropy);
    }
    resident_close(&d_centres);
    resident_close(&scratch);
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
    SC_TRY(rows_open(table, rows->x, n, dim, (size_t)estimate_device_bytes(&beside), &x));
    SC_TRY(find_centres(&x, rows, o, &out->kmeans));
    const int64_t k = out->kmeans.k;
    SC_TRY(sc_alloc(&out->p, (size_t)(n * k), sizeof *out->p));
    SC_TRY(sc_alloc(&out->entropy, (size_t)n, sizeof *out->entropy));
    SC_TRY(
        find_distributions(&x, out->kmeans.centres, k, o->temperature * rows->scale, out->p, out->entropy));
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
    double *found = NULL; /* p, entropy */
    device_rows x = {0};
    estimate beside = {0};
    SC_TRY(check_table(table));
    clustering_plan(n, task->dim, k, true, table, &beside);
    SC_TRY(sc_alloc(&found, (size_t)(n * (k + 1)), sizeof *found));
    SC_TRY(rows_open(table, task->x, n, task->dim, (size_t)estimate_device_bytes(&beside), &x));
    SC_TRY(find_distributions(&x, (float *)(uintptr_t)task->x, k, 1, found, found + n * k));
    *operations = 2.0 * (double)n * (double)k * (double)task->dim;
cleanup:
    rows_close(&x);
    free(found);
    return status;
}

void clustering_plan(int64_t n, int64_t dim, int64_t k, bool given, const ops *table, estimate *out)
{
    kmeans_fit_plan(n, dim, k, given, table, out);
    estimate_array_add(out, "distributions over the clusters", n * (k + 1), sizeof(double));
    estimate_phase_begin(out);
    estimate_part_add(out, "softmax: centres", 0, 0, k * dim * (int64_t)sizeof(float));
    estimate_part_add(out, "softmax: a part of the distributions", 0, 0,
                      part_rows(table, n, k) * (k + 1) * (int64_t)sizeof(double));
    estimate_resident_add(out, "softmax: scratch",
                          (int64_t)(table->cluster_softmax_workspace
                                        ? table->cluster_softmax_workspace(part_rows(table, n, k), k, dim)
                                        : 0),
                          1);
    estimate_phase_end(out);
    estimate_work_add(out, "distributions over the clusters", 2.0 * (double)n * (double)k * (double)dim, 1,
                      probe_softmax);
}
