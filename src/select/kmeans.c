/* k-means: k-means++, Lloyd, repair of empty clusters. */
#include "select/kmeans.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "select/estimate.h"
#include "select/lloyd.h"

static sc_status place_centre(lloyd *w, int64_t c, int64_t row)
{
    rows_read(w->x, row, (float *)w->centres.host + c * w->dim);
    return resident_push(&w->centres);
}

/* Each next centre is a row drawn with a probability proportional to its squared distance to the
 * nearest centre so far. Ends early, with fewer centres, when every row lies on one. */
static sc_status plus_plus(lloyd *w, uint64_t seed, progress *p)
{
    sc_status status = SC_OK;
    float *nearest = NULL;
    SC_TRY(sc_alloc(&nearest, (size_t)w->n, sizeof *nearest));
    random_stream first = random_at(seed, RANDOM_KMEANS, 0, 0);
    SC_TRY(place_centre(w, 0, (int64_t)random_below(&first, (uint64_t)w->n)));
    const float *dist2 = w->dist2.host;
    for (int64_t c = 1; c <= w->k; c++) {
        SC_TRY(check_cancelled());
        SC_TRY(lloyd_assign(w, (const float *)w->centres.device + (c - 1) * w->dim, 1));
        double total = 0;
        for (int64_t i = 0; i < w->n; i++) {
            nearest[i] = c == 1 || dist2[i] < nearest[i] ? dist2[i] : nearest[i];
            total += (double)nearest[i];
        }
        progress_add(p, 1);
        if (c == w->k)
            break;
        if (!(total > 0)) {
            log_warn("only %lld of the %lld clusters have a row of their own: the rows are not more distinct",
                     (long long)c, (long long)w->k);
            w->k = c;
            break;
        }
        random_stream random = random_at(seed, RANDOM_KMEANS, (uint64_t)c, 0);
        const double mark = random_uniform(&random) * total;
        double sum = 0;
        int64_t chosen = -1;
        for (int64_t i = 0; i < w->n && !(chosen >= 0 && sum > mark); i++)
            if (nearest[i] > 0) {
                sum += (double)nearest[i];
                chosen = i;
            }
        SC_TRY(place_centre(w, c, chosen));
    }
cleanup:
    free(nearest);
    return status;
}

/* Gives every empty cluster the row that lies farthest from its centre and is not alone there. */
static sc_status repair(lloyd *w, int64_t *repaired)
{
    sc_status status = SC_OK;
    const int32_t *labels = w->labels.host;
    const float *dist2 = w->dist2.host;
    int64_t *counts = w->counts.host;
    bool measured = false;
    *repaired = 0;
    for (int64_t j = 0; j < w->k; j++) {
        if (counts[j] > 0)
            continue;
        if (!measured)
            SC_TRY(lloyd_measure(w));
        measured = true;
        int64_t far = -1;
        for (int64_t i = 0; i < w->n; i++)
            if (counts[labels[i]] > 1 && dist2[i] > 0 && (far < 0 || dist2[i] > dist2[far]))
                far = i;
        if (far < 0)
            break; /* every row lies on a centre: the cluster stays empty, its centre stays */
        counts[labels[far]]--;
        lloyd_give(w, far, (int32_t)j);
        counts[j] = 1;
        ++*repaired;
    }
    if (*repaired > 0) {
        SC_TRY(lloyd_hand_over(w));
        SC_TRY(lloyd_sum(w));
    }
cleanup:
    return status;
}

static double total_distance(const lloyd *w)
{
    double total = 0;
    for (int64_t i = 0; i < w->n; i++)
        total += (double)((const float *)w->dist2.host)[i];
    return total;
}

static int64_t n_changed(const int32_t *before, const int32_t *labels, int64_t n)
{
    int64_t changed = 0;
    for (int64_t i = 0; i < n; i++)
        changed += before[i] != labels[i];
    return changed;
}

/* Lloyd's iterations from the centres as they stand. */
static sc_status iterate(lloyd *w, const kmeans_options *options, progress *p, kmeans_result *out)
{
    sc_status status = SC_OK;
    const int64_t n = w->n, limit = options->max_iterations > 0 ? options->max_iterations : 100;
    int32_t *before = NULL;
    double enough = 0, shift;
    SC_TRY(sc_alloc(&before, (size_t)n, sizeof *before));
    if (options->tolerance > 0)
        SC_TRY(lloyd_variance(w, &enough));
    enough *= options->tolerance;
    SC_TRY(lloyd_start(w));
    while (out->iterations < limit && !out->converged) {
        int64_t repaired;
        SC_TRY(check_cancelled());
        memcpy(before, out->labels, (size_t)n * sizeof *before);
        SC_TRY(lloyd_sum(w));
        SC_TRY(repair(w, &repaired));
        SC_TRY(lloyd_move(w, &shift));
        SC_TRY(lloyd_reassign(w));
        const int64_t changed = n_changed(before, out->labels, n);
        out->repaired += repaired;
        out->iterations++;
        out->converged = repaired == 0 && (shift <= enough || changed == 0);
        progress_note(p, "%lld rows changed sides", (long long)changed);
        progress_add(p, 1);
    }
    SC_TRY(lloyd_measure(w));
    out->inertia = total_distance(w);
cleanup:
    free(before);
    return status;
}

/* What k-means wants on the device beside the rows. */
static size_t beside_rows(const ops *table, int64_t n, int64_t dim, int64_t k)
{
    estimate beside = {0};
    kmeans_fit_plan(n, dim, k < n ? k : n, false, table, &beside);
    return (size_t)estimate_device_bytes(&beside);
}

sc_status kmeans_rows_open(const ops *table, const centred *rows, int64_t k, device_rows *out)
{
    return rows_open_centred(table, rows, beside_rows(table, rows->n, rows->dim, k), out);
}

sc_status kmeans(device_rows *x, const kmeans_options *options, kmeans_result *out)
{
    sc_status status = SC_OK;
    const int64_t n = x->n, dim = x->dim;
    lloyd w = {0};
    progress *p = NULL;
    *out = (kmeans_result){0};
    const int64_t k = options->k < n ? options->k : n;
    if (n < 1 || dim < 1 || options->k < 1)
        return sc_fail(SC_USAGE, "k-means needs at least one row, one column and one cluster");
    if (k < options->k && !options->quiet)
        log_warn("%lld clusters were asked for, but there are only %lld rows", (long long)options->k,
                 (long long)n);
    SC_TRY(lloyd_open(&w, x, k, options->plain, out));
    SC_TRY(lloyd_open_sums(&w));
    if (options->centres) {
        memcpy(w.centres.host, options->centres, (size_t)k * (size_t)dim * sizeof(float));
        SC_TRY(resident_push(&w.centres));
    } else {
        p = options->quiet ? NULL : progress_begin("k-means++", "centres", k);
        SC_TRY(plus_plus(&w, options->seed, p));
        progress_end(p);
        p = NULL;
    }
    if (!options->quiet)
        p = progress_begin("k-means", "iterations",
                           options->max_iterations > 0 ? options->max_iterations : 100);
    SC_TRY(iterate(&w, options, p, out));
    out->k = w.k;
cleanup:
    progress_end(p);
    lloyd_close(&w);
    if (status != SC_OK)
        kmeans_free(out);
    return status;
}

sc_status kmeans_given(device_rows *x, const float *centres, int64_t k, kmeans_result *out)
{
    sc_status status = SC_OK;
    lloyd w = {0};
    *out = (kmeans_result){0};
    SC_TRY(lloyd_open(&w, x, k, true, out));
    memcpy(out->centres, centres, (size_t)k * (size_t)x->dim * sizeof *centres);
    SC_TRY(resident_push(&w.centres));
    SC_TRY(lloyd_assign(&w, w.centres.device, k));
    out->k = k;
    out->converged = true;
    out->inertia = total_distance(&w);
cleanup:
    lloyd_close(&w);
    if (status != SC_OK)
        kmeans_free(out);
    return status;
}

void kmeans_free(kmeans_result *r)
{
    free(r->centres);
    free(r->labels);
    free(r->dist2);
    *r = (kmeans_result){0};
}

/* --- what it would take ---------------------------------------------------------------------------- */

/* A block of rows against k centres, which are rows themselves, and the sums of clusters where there are several. The rows are as they
 * came, not centred, so these sums are good for their time alone. */
static sc_status time_iteration(const selection_task *task, int64_t k, double *operations)
{
    sc_status status = SC_OK;
    lloyd w = {0};
    kmeans_result found = {0};
    const int64_t dim = task->dim, enough = estimate_rows(task->n, task->n, 2.0 * (double)k * (double)dim);
    const int64_t n = enough > k ? enough : k;
    device_rows x = {0};
    SC_TRY(rows_open(task->device->ops, task->x, n, dim, beside_rows(task->device->ops, n, dim, k), &x));
    SC_TRY(lloyd_open(&w, &x, k, true, &found));
    SC_TRY(lloyd_open_sums(&w));
    memcpy(w.centres.host, task->x, w.centres.bytes);
    SC_TRY(resident_push(&w.centres));
    SC_TRY(lloyd_assign(&w, w.centres.device, k));
    if (k > 1)
        SC_TRY(lloyd_sum(&w));
    *operations = 2.0 * (double)n * (double)k * (double)dim;
cleanup:
    lloyd_close(&w);
    rows_close(&x);
    kmeans_free(&found);
    return status;
}

static sc_status probe_lloyd(const selection_task *task, double *operations)
{
    enum { CENTRES = 64 };
    return time_iteration(task, task->n < CENTRES ? task->n : CENTRES, operations);
}

/* The rows are read for one centre: it is memory that takes the time. */
static sc_status probe_plus_plus(const selection_task *task, double *operations)
{
    return time_iteration(task, 1, operations);
}

void kmeans_fit_plan(int64_t n, int64_t dim, int64_t k, bool given, const ops *table, estimate *out)
{
    /* Lloyd settles in some 25 iterations, as a rule. */
    const double cells = (double)n * (double)dim, iterations = 25;
    estimate_rows_pass(out, n, dim);
    estimate_resident_add(out, "k-means: centres", k * dim, sizeof(float));
    estimate_resident_add(out, "k-means: labels and distances", n, sizeof(int32_t) + sizeof(float));
    estimate_phase_begin(out);
    estimate_array_add(out, "k-means: distances or labels before", n, sizeof(float));
    estimate_resident_add(out, "k-means: sums and counts", given ? 0 : k * (2 * dim + 1), sizeof(double));
    estimate_resident_add(out, "k-means: labels that the sums are of", given ? 0 : n, sizeof(int32_t));
    estimate_array_add(out, "k-means: rows that change sides", given ? 0 : 2 * n, sizeof(uint32_t));
    estimate_resident_add(
        out, "k-means: scratch",
        (int64_t)(table->cluster_assign_workspace ? table->cluster_assign_workspace(n, k, dim) : 0), 1);
    if (!given && table->cluster_reassign)
        estimate_resident_add(out, "k-means: bounds", n, sizeof(float) + 2 * sizeof(double));
    estimate_phase_end(out);
    if (given) {
        estimate_work_add(out, "distances to the given centres", 2 * cells * (double)k, 1, probe_lloyd);
        return;
    }
    estimate_work_add(out, "k-means++", 2 * cells * (double)k, (double)k, probe_plus_plus);
    estimate_work_add(out, "k-means: 25 iterations", iterations * 2 * cells * (double)k, 2 * iterations,
                      probe_lloyd);
}
