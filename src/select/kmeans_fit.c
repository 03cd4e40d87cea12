/* k-means on rows in memory: the public side of kmeans.c. */
#include "seedcorn/kmeans.h"

#include <stdlib.h>
#include <string.h>

#include "select/clustering.h"

sc_kmeans_options sc_kmeans_default(void)
{
    return (sc_kmeans_options){.struct_size = sizeof(sc_kmeans_options),
                               .common = sc_common_default(),
                               .clusters = 64,
                               .max_iterations = 100,
                               .tolerance = 1e-4};
}

/* The rows, centred and on the device, and the given centres moved with them. */
typedef struct workspace {
    device *device;
    centred rows;
    resident x;
    float *centres;
    kmeans_result found;
} workspace;

static void workspace_close(workspace *w)
{
    kmeans_free(&w->found);
    free(w->centres);
    resident_close(&w->x);
    centred_free(&w->rows);
    device_close(w->device);
}

static sc_status workspace_open(const sc_kmeans_options *o, const float *x, int64_t n, int64_t dim,
                                workspace *w)
{
    sc_status status = SC_OK;
    if (o->struct_size != sizeof *o)
        return sc_fail(SC_USAGE,
                       "k-means: the options are not those of this library; start from sc_kmeans_default()");
    if (o->clusters < 1 || o->clusters > 1000000)
        return sc_fail(SC_USAGE, "k-means: %lld clusters; there must be 1 to 1000000",
                       (long long)o->clusters);
    if (o->max_iterations < 1 || !(o->tolerance >= 0))
        return sc_fail(SC_USAGE,
                       "k-means: %lld iterations and a tolerance of %g; they must be at least 1 and 0",
                       (long long)o->max_iterations, o->tolerance);
    SC_TRY(features_check("the rows", x, n, dim));
    SC_TRY(device_open(&o->common, &w->device));
    SC_TRY(features_centre(x, n, dim, &w->rows));
    SC_TRY(resident_open(w->device->ops, w->rows.x, (size_t)n * (size_t)dim * sizeof *w->rows.x, &w->x));
    if (o->centres) {
        SC_TRY(sc_alloc(&w->centres, (size_t)o->clusters * (size_t)dim, sizeof *w->centres));
        SC_TRY(clustering_move_centres(o->centres, o->clusters, &w->rows, w->centres));
    }
cleanup:
    return status;
}

static void give(const workspace *w, int32_t *labels, float *dist2)
{
    const double scale2 = w->rows.scale * w->rows.scale;
    for (int64_t i = 0; i < w->rows.n; i++) {
        if (labels)
            labels[i] = w->found.labels[i];
        if (dist2)
            dist2[i] = (float)((double)w->found.dist2[i] / scale2);
    }
}

sc_status sc_kmeans_fit(const sc_kmeans_options *options, const float *x, int64_t n, int64_t dim,
                        float *centres, int32_t *labels, float *dist2, sc_kmeans_result *result)
{
    sc_status status = SC_OK;
    workspace w = {0};
    SC_TRY(workspace_open(options, x, n, dim, &w));
    const kmeans_options settings = {.k = options->clusters,
                                     .seed = (uint64_t)options->common.seed,
                                     .max_iterations = options->max_iterations,
                                     .tolerance = options->tolerance,
                                     .centres = w.centres};
    SC_TRY(kmeans(&w.x, n, dim, &settings, &w.found));
    for (int64_t j = 0; j < w.found.k; j++)
        for (int64_t d = 0; d < dim; d++)
            centres[j * dim + d] =
                (float)((double)w.found.centres[j * dim + d] / w.rows.scale + w.rows.mean[d]);
    give(&w, labels, dist2);
    if (result)
        *result = (sc_kmeans_result){.clusters = w.found.k,
                                     .inertia = w.found.inertia / (w.rows.scale * w.rows.scale),
                                     .iterations = w.found.iterations,
                                     .repaired = w.found.repaired,
                                     .converged = w.found.converged};
cleanup:
    workspace_close(&w);
    return status;
}

sc_status sc_kmeans_predict(const sc_kmeans_options *options, const float *x, int64_t n, int64_t dim,
                            int32_t *labels, float *dist2)
{
    sc_status status = SC_OK;
    workspace w = {0};
    if (!options->centres)
        return sc_fail(SC_USAGE, "k-means: predict needs the centres that fit gave");
    SC_TRY(workspace_open(options, x, n, dim, &w));
    SC_TRY(kmeans_given(&w.x, n, dim, w.centres, options->clusters, &w.found));
    give(&w, labels, dist2);
cleanup:
    workspace_close(&w);
    return status;
}
