/* k-means on rows in memory: the public side of kmeans.c. */
#include "seedcorn/kmeans.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "select/clustering.h"

sc_kmeans_options sc_kmeans_default(void)
{
    return (sc_kmeans_options){.struct_size = sizeof(sc_kmeans_options),
                               .common = sc_common_default(),
                               .clusters = 64,
                               .max_iterations = 100,
                               .tolerance = 1e-4};
}

static sc_status check_options(const sc_kmeans_options *o)
{
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
    if (o->bf16_rows != 0 && o->bf16_rows != 1)
        return sc_fail(SC_USAGE, "k-means: bf16_rows is %lld; it may be 0 (float) or 1 (bf16)",
                       (long long)o->bf16_rows);
    return SC_OK;
}

static dtype rows_type(const sc_kmeans_options *o)
{
    return o->bf16_rows ? DTYPE_BF16 : DTYPE_F32;
}

/* One problem: its rows, centred and on the device, and the given centres moved with them. */
typedef struct problem {
    centred rows;
    device_rows x;
    float *start;
    kmeans_result found;
} problem;

static void problem_close(problem *p)
{
    kmeans_free(&p->found);
    free(p->start);
    rows_close(&p->x);
    centred_free(&p->rows);
}

static sc_status problem_open(const sc_kmeans_options *o, const ops *table, const void *x, int64_t n,
                              int64_t dim, const float *start, problem *p)
{
    sc_status status = SC_OK;
    *p = (problem){0};
    SC_TRY(features_centre_as(x, rows_type(o), n, dim, &p->rows));
    SC_TRY(kmeans_rows_open(table, &p->rows, o->clusters, &p->x));
    if (start) {
        SC_TRY(sc_alloc(&p->start, (size_t)o->clusters * (size_t)dim, sizeof *p->start));
        SC_TRY(clustering_move_centres(start, o->clusters, &p->rows, p->start));
    }
cleanup:
    return status;
}

static void give(const problem *p, int32_t *labels, float *dist2)
{
    const double scale2 = p->rows.scale * p->rows.scale;
    for (int64_t i = 0; i < p->rows.n; i++) {
        if (labels)
            labels[i] = p->found.labels[i];
        if (dist2)
            dist2[i] = (float)((double)p->found.dist2[i] / scale2);
    }
}

/* What fit gives back; labels, dist2 and result may be NULL. */
typedef struct answer {
    float *centres;
    int32_t *labels;
    float *dist2;
    sc_kmeans_result *result;
} answer;

static sc_status solve(const sc_kmeans_options *o, const ops *table, const void *x, int64_t n, int64_t dim,
                       const float *start, bool quiet, const answer *out)
{
    sc_status status = SC_OK;
    problem p;
    SC_TRY(problem_open(o, table, x, n, dim, start, &p));
    const kmeans_options settings = {.k = o->clusters,
                                     .seed = (uint64_t)o->common.seed,
                                     .max_iterations = o->max_iterations,
                                     .tolerance = o->tolerance,
                                     .centres = p.start,
                                     .quiet = quiet};
    SC_TRY(kmeans(&p.x, &settings, &p.found));
    for (int64_t j = 0; j < p.found.k; j++)
        for (int64_t d = 0; d < dim; d++)
            out->centres[j * dim + d] =
                (float)((double)p.found.centres[j * dim + d] / p.rows.scale + p.rows.mean[d]);
    give(&p, out->labels, out->dist2);
    if (out->result)
        *out->result = (sc_kmeans_result){.clusters = p.found.k,
                                          .inertia = p.found.inertia / (p.rows.scale * p.rows.scale),
                                          .iterations = p.found.iterations,
                                          .repaired = p.found.repaired,
                                          .converged = p.found.converged};
cleanup:
    problem_close(&p);
    return status;
}

sc_status sc_kmeans_fit(const sc_kmeans_options *options, const void *x, int64_t n, int64_t dim,
                        float *centres, int32_t *labels, float *dist2, sc_kmeans_result *result)
{
    sc_status status = SC_OK;
    device *dev = NULL;
    SC_TRY(check_options(options));
    SC_TRY(features_check_as("the rows", x, rows_type(options), n, dim));
    SC_TRY(device_open(&options->common, &dev));
    SC_TRY(solve(options, dev->ops, x, n, dim, options->centres, false,
                 &(answer){centres, labels, dist2, result}));
cleanup:
    device_close(dev);
    return status;
}

sc_status sc_kmeans_predict(const sc_kmeans_options *options, const void *x, int64_t n, int64_t dim,
                            int32_t *labels, float *dist2)
{
    sc_status status = SC_OK;
    problem p = {0};
    device *dev = NULL;
    if (!options->centres)
        return sc_fail(SC_USAGE, "k-means: predict needs the centres that fit gave");
    SC_TRY(check_options(options));
    SC_TRY(features_check_as("the rows", x, rows_type(options), n, dim));
    SC_TRY(device_open(&options->common, &dev));
    SC_TRY(problem_open(options, dev->ops, x, n, dim, options->centres, &p));
    SC_TRY(kmeans_given(&p.x, p.start, options->clusters, &p.found));
    give(&p, labels, dist2);
cleanup:
    problem_close(&p);
    device_close(dev);
    return status;
}

/* --- many problems ---------------------------------------------------------------------------------------- */

typedef struct batch {
    const sc_kmeans_options *options;
    const ops *ops;
    const char *x;
    const int64_t *offsets;
    int64_t n_problems, dim;
    answer out;
    pthread_mutex_t lock; /* of the failure: that of the first problem */
    sc_status status;
    int64_t failed;
    char sentence[512];
} batch;

static sc_status check_offsets(const int64_t *offsets, int64_t n_problems)
{
    if (n_problems < 1 || offsets[0] != 0)
        return sc_fail(SC_USAGE, "k-means: %lld problems whose rows begin at %lld; there must be one, and 0",
                       (long long)n_problems, n_problems < 1 ? 0LL : (long long)offsets[0]);
    for (int64_t p = 0; p < n_problems; p++)
        if (offsets[p + 1] <= offsets[p])
            return sc_fail(SC_USAGE, "k-means: problem %lld has %lld rows; it needs one at least",
                           (long long)p, (long long)(offsets[p + 1] - offsets[p]));
    return SC_OK;
}

static void solve_one(batch *b, int64_t p)
{
    const sc_kmeans_options *o = b->options;
    const int64_t first = b->offsets[p], n = b->offsets[p + 1] - first;
    const size_t centres = (size_t)p * (size_t)o->clusters * (size_t)b->dim;
    const answer out = {b->out.centres + centres, b->out.labels ? b->out.labels + first : NULL,
                        b->out.dist2 ? b->out.dist2 + first : NULL, b->out.result ? b->out.result + p : NULL};
    const sc_status status = solve(o, b->ops, b->x + (size_t)(first * b->dim) * dtype_size(rows_type(o)), n,
                                   b->dim, o->centres ? o->centres + centres : NULL, true, &out);
    if (status == SC_OK)
        return;
    pthread_mutex_lock(&b->lock);
    if (b->status == SC_OK || p < b->failed) {
        b->status = status;
        b->failed = p;
        snprintf(b->sentence, sizeof b->sentence, "%s", sc_last_error());
    }
    pthread_mutex_unlock(&b->lock);
}

/* A problem that one thread would sit on while the others have nothing left gets them all. */
static bool needs_team(const batch *b, int64_t p, int threads)
{
    return (b->offsets[p + 1] - b->offsets[p]) * 4 * threads > b->offsets[b->n_problems];
}

sc_status sc_kmeans_fit_many(const sc_kmeans_options *options, const void *x, const int64_t *offsets,
                             int64_t n_problems, int64_t dim, float *centres, int32_t *labels, float *dist2,
                             sc_kmeans_result *results)
{
    sc_status status = SC_OK;
    device *dev = NULL;
    batch b = {.options = options,
               .x = x,
               .offsets = offsets,
               .n_problems = n_problems,
               .dim = dim,
               .out = {centres, labels, dist2, results},
               .lock = PTHREAD_MUTEX_INITIALIZER};
    progress *p = NULL;
    SC_TRY(check_options(options));
    SC_TRY(check_offsets(offsets, n_problems));
    SC_TRY(features_check_as("the rows", x, rows_type(options), offsets[n_problems], dim));
    SC_TRY(device_open(&options->common, &dev));
    b.ops = dev->ops;
    p = progress_begin("k-means", "problems", n_problems);
    const bool beside = dev->ops == cpu_ops();
    for (int64_t i = 0; i < n_problems; i++)
        if (!beside || needs_team(&b, i, dev->threads)) {
            solve_one(&b, i);
            progress_add(p, 1);
        }
#pragma omp parallel for schedule(dynamic, 1) if (beside)
    for (int64_t i = 0; i < n_problems; i++)
        if (beside && !needs_team(&b, i, dev->threads)) {
            solve_one(&b, i);
            progress_add(p, 1);
        }
    if (b.status != SC_OK)
        status = n_problems == 1
                     ? sc_fail(b.status, "%s", b.sentence)
                     : sc_fail(b.status, "k-means problem %lld: %s", (long long)b.failed, b.sentence);
cleanup:
    progress_end(p);
    device_close(dev);
    return status;
}
