/* The two steps of Lloyd's iteration, plain and with bounds. */
#include "select/lloyd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* An array of the host, freed by lloyd_close, and its place on the device. */
static sc_status array_open(lloyd *w, int64_t count, size_t size, resident *place)
{
    void *host = NULL;
    sc_status status = sc_alloc(&host, (size_t)count, size);
    if (status != SC_OK)
        return status;
    w->arrays[w->n_arrays++] = host;
    return resident_open(w->ops, host, (size_t)count * size, place);
}

/* No row is in any sum. */
sc_status lloyd_open_sums(lloyd *w)
{
    sc_status status = SC_OK;
    w->grid = exact_grid_of(w->n, w->x->largest);
    SC_TRY(array_open(w, 2 * w->k * w->dim, sizeof(double), &w->sums));
    SC_TRY(array_open(w, w->k, sizeof(int64_t), &w->counts));
    SC_TRY(array_open(w, w->n, sizeof(int32_t), &w->summed));
    memset(w->summed.host, 0xff, w->summed.bytes);
    SC_TRY(resident_push(&w->summed));
    SC_TRY(w->ops->fill_zero(NULL, w->sums.device, w->sums.bytes));
    SC_TRY(w->ops->fill_zero(NULL, w->counts.device, w->counts.bytes));
cleanup:
    return status;
}

static sc_status bounds_open(lloyd *w)
{
    sc_status status = SC_OK;
    SC_TRY(array_open(w, w->n, sizeof(float), &w->norms2));
    SC_TRY(array_open(w, w->k, sizeof(double), &w->moved));
    SC_TRY(array_open(w, w->n, sizeof(double), &w->near));
    SC_TRY(array_open(w, w->n, sizeof(double), &w->far));
cleanup:
    return status;
}

sc_status lloyd_open(lloyd *w, device_rows *x, int64_t k, bool plain, kmeans_result *out)
{
    sc_status status = SC_OK;
    const ops *table = x->ops;
    const int64_t n = x->n, dim = x->dim;
    *w = (lloyd){.ops = table, .x = x, .n = n, .dim = dim, .k = k};
    if (!table->cluster_assign || !table->cluster_update || !table->cluster_assign_workspace)
        return sc_fail(SC_DEVICE, "the device \"%s\" lacks the operation cluster_assign; use --device cpu",
                       table->name);
    w->summing = rows_streamed(x);
    w->bounded = !plain && table->cluster_reassign;
    SC_TRY(sc_alloc(&out->centres, (size_t)k * (size_t)dim, sizeof *out->centres));
    SC_TRY(sc_alloc(&out->labels, (size_t)n, sizeof *out->labels));
    SC_TRY(sc_alloc(&out->dist2, (size_t)n, sizeof *out->dist2));
    SC_TRY(resident_open(table, out->centres, (size_t)k * (size_t)dim * sizeof(float), &w->centres));
    SC_TRY(resident_open(table, out->labels, (size_t)n * sizeof(int32_t), &w->labels));
    SC_TRY(resident_open(table, out->dist2, (size_t)n * sizeof(float), &w->dist2));
    SC_TRY(sc_alloc(&w->step2, (size_t)k, sizeof *w->step2));
    SC_TRY(resident_scratch(table, table->cluster_assign_workspace(n, k, dim), &w->scratch));
    if (w->bounded)
        SC_TRY(bounds_open(w));
cleanup:
    return status;
}

void lloyd_close(lloyd *w)
{
    resident *places[] = {&w->centres, &w->labels, &w->dist2, &w->sums, &w->counts, &w->summed,
                          &w->scratch, &w->norms2, &w->moved, &w->near, &w->far};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        resident_close(places[i]);
    for (int i = 0; i < w->n_arrays; i++)
        free(w->arrays[i]);
    free(w->step2);
    *w = (lloyd){0};
}

/* --- labels ----------------------------------------------------------------------------------------------- */

typedef struct assigning {
    const lloyd *w;
    const float *centres;
    int64_t k;
    bool sums; /* too */
} assigning;

static sc_status visit_sum(void *context, const float *x, int64_t first, int64_t n)
{
    const lloyd *w = context;
    return w->ops->cluster_update(NULL, w->sums.device, w->counts.device, (int32_t *)w->summed.device + first,
                                  w->grid, x, (const int32_t *)w->labels.device + first, n, w->k, w->dim);
}

static sc_status visit_assign(void *context, const float *x, int64_t first, int64_t n)
{
    const assigning *a = context;
    const lloyd *w = a->w;
    const sc_status status =
        w->ops->cluster_assign(NULL, (int32_t *)w->labels.device + first, (float *)w->dist2.device + first, x,
                               a->centres, n, a->k, w->dim, w->scratch.device);
    return status == SC_OK && a->sums ? visit_sum((void *)(uintptr_t)w, x, first, n) : status;
}

static sc_status assign(lloyd *w, const float *centres, int64_t k, bool sums)
{
    sc_status status = SC_OK;
    assigning a = {w, centres, k, sums};
    SC_TRY(rows_pass(w->x, visit_assign, &a));
    w->summed_now = sums;
    SC_TRY(resident_pull(&w->labels));
    SC_TRY(resident_pull(&w->dist2));
cleanup:
    return status;
}

sc_status lloyd_assign(lloyd *w, const float *centres, int64_t k)
{
    return assign(w, centres, k, false);
}

/* dist2 of all rows becomes |x|^2. */
static sc_status measure_norms(lloyd *w)
{
    sc_status status = SC_OK;
    resident origin = {0};
    float *zeros = NULL;
    SC_TRY(sc_alloc(&zeros, (size_t)w->dim, sizeof *zeros));
    SC_TRY(resident_open(w->ops, zeros, (size_t)w->dim * sizeof *zeros, &origin));
    SC_TRY(lloyd_assign(w, origin.device, 1));
cleanup:
    resident_close(&origin);
    free(zeros);
    return status;
}

typedef struct reassigning {
    const lloyd *w;
    const double *moved;
    float *dist2;
    bool sums; /* too */
} reassigning;

static sc_status visit_reassign(void *context, const float *x, int64_t first, int64_t n)
{
    const reassigning *r = context;
    const lloyd *w = r->w;
    const cluster_bounds bounds = {(const float *)w->norms2.device + first, r->moved,
                                   (double *)w->near.device + first, (double *)w->far.device + first};
    const sc_status status = w->ops->cluster_reassign(NULL, (int32_t *)w->labels.device + first,
                                                      r->dist2 ? r->dist2 + first : NULL, &bounds, x,
                                                      w->centres.device, n, w->k, w->dim, w->scratch.device);
    return status == SC_OK && r->sums ? visit_sum((void *)(uintptr_t)w, x, first, n) : status;
}

static sc_status reassign(lloyd *w, const double *moved, float *dist2, bool sums)
{
    sc_status status = SC_OK;
    reassigning r = {w, moved, dist2, sums};
    SC_TRY(rows_pass(w->x, visit_reassign, &r));
    w->summed_now = sums;
cleanup:
    return status;
}

sc_status lloyd_start(lloyd *w)
{
    sc_status status = SC_OK;
    if (w->bounded) {
        double *near = w->near.host;
        SC_TRY(measure_norms(w));
        memcpy(w->norms2.host, w->dist2.host, w->dist2.bytes);
        for (int64_t i = 0; i < w->n; i++)
            near[i] = INFINITY; /* nothing is known of any row yet */
        SC_TRY(resident_push(&w->norms2));
        SC_TRY(resident_push(&w->near));
    }
    SC_TRY(lloyd_reassign(w));
cleanup:
    return status;
}

sc_status lloyd_reassign(lloyd *w)
{
    sc_status status = SC_OK;
    if (!w->bounded)
        return assign(w, w->centres.device, w->k, w->summing);
    SC_TRY(resident_push(&w->moved));
    SC_TRY(reassign(w, w->moved.device, NULL, w->summing));
    SC_TRY(resident_pull(&w->labels));
cleanup:
    return status;
}

sc_status lloyd_measure(lloyd *w)
{
    sc_status status = SC_OK;
    if (!w->bounded)
        return SC_OK;
    SC_TRY(reassign(w, NULL, w->dist2.device, false));
    SC_TRY(resident_pull(&w->dist2));
cleanup:
    return status;
}

void lloyd_give(lloyd *w, int64_t i, int32_t cluster)
{
    ((int32_t *)w->labels.host)[i] = cluster;
    ((float *)w->dist2.host)[i] = 0;
}

sc_status lloyd_hand_over(lloyd *w)
{
    sc_status status = SC_OK;
    const int32_t *labels = w->labels.host, *summed = w->summed.host;
    int64_t *counts = w->counts.host;
    SC_TRY(resident_pull(&w->summed));
    memset(counts, 0, w->counts.bytes); /* those of the sums, again */
    for (int64_t i = 0; i < w->n; i++)
        counts[summed[i]]++;
    SC_TRY(resident_push(&w->counts));
    if (w->bounded) { /* a row that was given away has bounds that speak of another centre */
        double *near = w->near.host;
        SC_TRY(resident_pull(&w->near));
        for (int64_t i = 0; i < w->n; i++)
            near[i] = labels[i] == summed[i] ? near[i] : INFINITY;
        SC_TRY(resident_push(&w->near));
    }
    SC_TRY(resident_push(&w->labels));
    w->summed_now = false;
cleanup:
    return status;
}

/* --- means ------------------------------------------------------------------------------------------------ */

sc_status lloyd_sum(lloyd *w)
{
    sc_status status = SC_OK;
    if (!w->summed_now)
        SC_TRY(rows_pass(w->x, visit_sum, w));
    w->summed_now = true;
    SC_TRY(resident_pull(&w->counts));
    SC_TRY(resident_pull(&w->sums));
cleanup:
    return status;
}

sc_status lloyd_move(lloyd *w, double *shift)
{
    float *centres = w->centres.host;
    const double *coarse = w->sums.host, *fine = coarse + w->k * w->dim;
    const int64_t *counts = w->counts.host, dim = w->dim;
    double *moved = w->moved.host;
    *shift = 0;
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < w->k; j++) {
        double step2 = 0;
        for (int64_t d = 0; d < dim && counts[j] > 0; d++) {
            const float to = (float)((coarse[j * dim + d] + fine[j * dim + d]) / (double)counts[j]);
            const double by = (double)to - (double)centres[j * dim + d];
            step2 += by * by;
            centres[j * dim + d] = to;
        }
        w->step2[j] = step2;
    }
    for (int64_t j = 0; j < w->k; j++) {
        *shift += w->step2[j];
        if (w->bounded)
            moved[j] = sqrt(w->step2[j]) * (1 + (double)(dim + 64) * 0x1p-52);
    }
    return resident_push(&w->centres);
}

sc_status lloyd_variance(lloyd *w, double *variance)
{
    const sc_status status = measure_norms(w);
    *variance = 0;
    for (int64_t i = 0; i < w->n && status == SC_OK; i++)
        *variance += (double)((const float *)w->dist2.host)[i];
    *variance = *variance / (double)w->n / (double)w->dim;
    return status;
}
