/* fisher: greedy D-optimal design.
 *
 * S = lambda I + sum of x x' over the chosen rows. The next pick has the highest gain
 * g_i = x_i' S^-1 x_i, which is the one that raises log det S most, by log(1 + g). After a pick every gain
 * falls by (x_i . w)^2, w = S^-1 x / sqrt(1 + g): one pass over the rows instead of a quadratic form
 * for each (Chen et al. 2018 for determinantal processes; Sherman and Morrison 1950).
 *
 * Two guards keep the sequence that of exact arithmetic. S is held as its Cholesky factor, which takes
 * on x x' by plane rotations (Golub and Van Loan, 6.5.4): an inverse that is downdated instead loses
 * the digits by which gains fall. And gains fall by subtraction: a row whose gain is a small part of what it
 * was has lost digits too, as norms do in pivoted QR (Drmac and Bujanovic 2008), so candidates
 * within that error of the best are computed anew from the factor before one is chosen.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "select/resident.h"
#include "select/strategy.h"

typedef struct design {
    const selection_task *task;
    double *r;         /* [dim][dim] upper triangle, R'R = S */
    double *gains;     /* [n] */
    double *before;    /* [n] the gain when it was last computed, not subtracted from */
    int64_t *computed; /* [n] before which pick that was */
    bool *chosen;      /* [n] */
    double *w, *work;  /* [dim] */
    int64_t *stale;    /* [n] */
    resident d_gains, d_x, d_w;
} design;

/* The rounding error that a gain may carry after subtractions from `before`. */
static double error_of(const design *d, int64_t i)
{
    return 64 * DBL_EPSILON * d->before[i];
}

/* v = R'^-1 x, so that x' S^-1 x = |v|^2. */
static double solve_half(const double *r, const float *x, double *v, int64_t dim)
{
    double gain = 0;
    for (int64_t k = 0; k < dim; k++)
        v[k] = (double)x[k];
    for (int64_t k = 0; k < dim; k++) {
        const double *row = r + k * dim;
        const double value = v[k] / row[k];
        v[k] = value;
        gain += value * value;
        if (value != 0)
            for (int64_t j = k + 1; j < dim; j++)
                v[j] -= value * row[j];
    }
    return gain;
}

/* v = R^-1 v. */
static void solve_rest(const double *r, double *v, int64_t dim)
{
    for (int64_t k = dim - 1; k >= 0; k--) {
        const double *row = r + k * dim;
        double sum = v[k];
        for (int64_t j = k + 1; j < dim; j++)
            sum -= row[j] * v[j];
        v[k] = sum / row[k];
    }
}

/* R'R + x x' becomes the new R'R; x is used up. */
static void add_row(double *r, double *x, int64_t dim)
{
    for (int64_t k = 0; k < dim; k++) {
        if (x[k] == 0)
            continue;
        double *row = r + k * dim;
        const double norm = hypot(row[k], x[k]), c = row[k] / norm, s = x[k] / norm;
        row[k] = norm;
        for (int64_t j = k + 1; j < dim; j++) {
            const double a = row[j], b = x[j];
            row[j] = c * a + s * b;
            x[j] = c * b - s * a;
        }
    }
}

/* The highest gain, the lowest row if several have it. */
static int64_t highest(const design *d)
{
    int64_t best = -1;
    for (int64_t i = 0; i < d->task->n; i++)
        if (!d->chosen[i] && (best < 0 || d->gains[i] > d->gains[best]))
            best = i;
    return best;
}

/* Computes the gains that could be the highest within their error, before pick t. */
static sc_status refresh(design *d, int64_t t)
{
    const int64_t n = d->task->n, dim = d->task->dim;
    double floor = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        if (!d->chosen[i] && d->gains[i] - error_of(d, i) > floor)
            floor = d->gains[i] - error_of(d, i);
    int64_t n_stale = 0;
    for (int64_t i = 0; i < n; i++)
        if (!d->chosen[i] && d->computed[i] != t && d->gains[i] + error_of(d, i) >= floor &&
            error_of(d, i) > 1e-12 * d->gains[i])
            d->stale[n_stale++] = i;
    if (n_stale == 0)
        return SC_OK;
    bool failed = false;
#pragma omp parallel
    {
        double *v = malloc((size_t)dim * sizeof *v);
        if (!v) {
#pragma omp atomic write
            failed = true;
        }
#pragma omp for schedule(dynamic, 16)
        for (int64_t s = 0; s < n_stale; s++)
            if (v) {
                const int64_t i = d->stale[s];
                d->gains[i] = solve_half(d->r, d->task->x + i * dim, v, dim);
                d->before[i] = d->gains[i];
                d->computed[i] = t;
            }
        free(v);
    }
    if (failed)
        return sc_fail(SC_MEMORY, "select fisher: no memory for a row of %lld values", (long long)dim);
    return resident_push(&d->d_gains);
}

static sc_status design_open(design *d, const selection_task *task)
{
    sc_status status = SC_OK;
    const ops *table = task->device->ops;
    const size_t n = (size_t)task->n, dim = (size_t)task->dim;
    *d = (design){.task = task};
    if (!table->design_update)
        return sc_fail(SC_DEVICE, "the device \"%s\" lacks the operation design_update; use --device cpu",
                       table->name);
    SC_TRY(sc_alloc(&d->r, dim * dim, sizeof *d->r));
    SC_TRY(sc_alloc(&d->gains, n, sizeof *d->gains));
    SC_TRY(sc_alloc(&d->before, n, sizeof *d->before));
    SC_TRY(sc_alloc(&d->computed, n, sizeof *d->computed));
    SC_TRY(sc_alloc(&d->chosen, n, sizeof *d->chosen));
    SC_TRY(sc_alloc(&d->w, dim, sizeof *d->w));
    SC_TRY(sc_alloc(&d->work, dim, sizeof *d->work));
    SC_TRY(sc_alloc(&d->stale, n, sizeof *d->stale));
    for (size_t k = 0; k < dim; k++)
        d->r[k * dim + k] = sqrt(task->lambda);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < task->n; i++) {
        double sum = 0;
        for (int64_t j = 0; j < task->dim; j++)
            sum += (double)task->x[i * task->dim + j] * (double)task->x[i * task->dim + j];
        d->gains[i] = d->before[i] = sum / task->lambda;
    }
    SC_TRY(resident_open(table, d->gains, n * sizeof *d->gains, &d->d_gains));
    SC_TRY(resident_open(table, (void *)(uintptr_t)task->x, n * dim * sizeof *task->x, &d->d_x));
    SC_TRY(resident_open(table, d->w, dim * sizeof *d->w, &d->d_w));
cleanup:
    return status;
}

static void design_close(design *d)
{
    resident_close(&d->d_gains);
    resident_close(&d->d_x);
    resident_close(&d->d_w);
    free(d->r);
    free(d->gains);
    free(d->before);
    free(d->computed);
    free(d->chosen);
    free(d->w);
    free(d->work);
    free(d->stale);
}

sc_status fisher_select(const selection_task *task, selection_pick *picks)
{
    sc_status status = SC_OK;
    const int64_t dim = task->dim;
    const ops *table = task->device->ops;
    design d;
    double total = 0;
    progress *p = progress_begin("select fisher", "picks", task->budget);
    SC_TRY(design_open(&d, task));
    for (int64_t t = 0; t < task->budget; t++) {
        SC_TRY(check_cancelled());
        if (t > 0)
            SC_TRY(refresh(&d, t));
        const int64_t row = highest(&d);
        const float *x = task->x + row * dim;
        const double gain = solve_half(d.r, x, d.w, dim);
        total += log1p(gain);
        picks[t] = (selection_pick){.row = row, .score = gain, .gain = log1p(gain), .objective = total};
        d.chosen[row] = true;
        solve_rest(d.r, d.w, dim);
        for (int64_t k = 0; k < dim; k++) {
            d.w[k] /= sqrt(1 + gain);
            d.work[k] = (double)x[k];
        }
        add_row(d.r, d.work, dim);
        SC_TRY(resident_push(&d.d_w));
        SC_TRY(table->design_update(NULL, d.d_gains.device, d.d_x.device, d.d_w.device, task->n, dim));
        SC_TRY(resident_pull(&d.d_gains));
        progress_add(p, 1);
    }
cleanup:
    design_close(&d);
    progress_end(p);
    return status;
}
