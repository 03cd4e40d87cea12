/* Embeddings as the rows of a selection: mapped, checked, centred, and projected to a plane. */
#include "select/features.h"

#include <math.h>
#include <stdlib.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "select/avx2.h"

enum { COLUMNS = 512 };

static inline __attribute__((always_inline)) float value(const void *x, const dtype type, int64_t i)
{
    return type == DTYPE_F32 ? ((const float *)x)[i] : bf16_to_f32(((const uint16_t *)x)[i]);
}

/* The first row that is not finite, or n: all exponent bits set is what infinity and NaN have in common. */
static inline __attribute__((always_inline)) int64_t first_bad(const void *x, const dtype type, int64_t n,
                                                               int64_t dim)
{
    const uint32_t most = type == DTYPE_F32 ? 0x7f800000 : 0x7f80;
    int64_t bad = n;
#pragma omp parallel for schedule(static) reduction(min : bad)
    for (int64_t i = 0; i < n; i++) {
        uint32_t any = 0;
        for (int64_t d = i * dim; d < (i + 1) * dim; d++) {
            const uint32_t bits = type == DTYPE_F32 ? ((const uint32_t *)x)[d] : ((const uint16_t *)x)[d];
            any |= (bits & most) == most;
        }
        if (any && i < bad)
            bad = i;
    }
    return bad;
}

sc_status features_check_as(const char *what, const void *x, dtype type, int64_t n, int64_t dim)
{
    if (n <= 0 || dim <= 0)
        return sc_fail(SC_BAD_INPUT, "%s: empty, there is nothing to select from", what);
    if (n > INT32_MAX || dim > (1 << 20))
        return sc_fail(SC_BAD_INPUT,
                       "%s: %lld rows of width %lld are more than a selection can take (%d, %d)", what,
                       (long long)n, (long long)dim, INT32_MAX, 1 << 20);
    const int64_t bad =
        type == DTYPE_F32 ? first_bad(x, DTYPE_F32, n, dim) : first_bad(x, DTYPE_BF16, n, dim);
    if (bad == n)
        return SC_OK;
    int64_t d = 0;
    while (isfinite(value(x, type, bad * dim + d)))
        d++;
    return sc_fail(SC_BAD_INPUT, "%s: row %lld (counted from 0) holds %s at position %lld", what,
                   (long long)bad, isnan(value(x, type, bad * dim + d)) ? "NaN" : "infinity", (long long)d);
}

sc_status features_check(const char *what, const float *x, int64_t n, int64_t dim)
{
    return features_check_as(what, x, DTYPE_F32, n, dim);
}

sc_status features_open(const char *path, int64_t n_rows, const char *of, features *out)
{
    sc_status status = SC_OK;
    *out = (features){0};
    SC_TRY(npy_open_as(path, NPY_F4, 2, &out->file));
    out->x = out->file.data;
    out->n = out->file.shape[0];
    out->dim = out->file.shape[1];
    if (n_rows >= 0 && out->n != n_rows) {
        status =
            sc_fail(SC_BAD_INPUT, "%s has %lld rows, but the data set has %lld %s; embed this data set again",
                    path, (long long)out->n, (long long)n_rows, of);
        goto cleanup;
    }
    SC_TRY(features_check(path, out->x, out->n, out->dim));
cleanup:
    if (status != SC_OK)
        features_close(out);
    return status;
}

void features_close(features *f)
{
    npy_close(&f->file);
    *f = (features){0};
}

/* Sums and extremes of columns first .. first + width - 1, rows in order; width at most COLUMNS. */
typedef struct column_sums {
    double sum[COLUMNS];
    float low[COLUMNS], high[COLUMNS];
} column_sums;

INLINE void sum_columns(const void *x, const dtype type, const centred *c, int64_t first, int64_t width,
                        column_sums *out)
{
    for (int64_t d = 0; d < width; d++) {
        out->sum[d] = 0;
        out->low[d] = out->high[d] = value(x, type, first + d);
    }
    for (int64_t i = 0; i < c->n; i++)
        for (int64_t d = 0; d < width; d++) {
            const float v = value(x, type, i * c->dim + first + d);
            out->sum[d] += (double)v;
            out->low[d] = v < out->low[d] ? v : out->low[d];
            out->high[d] = v > out->high[d] ? v : out->high[d];
        }
}

INLINE void move_row(const centred *c, const dtype type, int64_t i, float *restrict to)
{
    const double *restrict mean = c->mean;
    const double scale = c->scale;
    for (int64_t d = 0; d < c->dim; d++)
        to[d] = (float)(((double)value(c->from, type, i * c->dim + d) - mean[d]) * scale);
}

/* The same bits, wider registers. */
AVX2 static void sum_columns_avx2(const void *x, dtype type, const centred *c, int64_t first, int64_t width,
                                  column_sums *out)
{
    if (type == DTYPE_F32)
        sum_columns(x, DTYPE_F32, c, first, width, out);
    else
        sum_columns(x, DTYPE_BF16, c, first, width, out);
}

static void sum_columns_plain(const void *x, dtype type, const centred *c, int64_t first, int64_t width,
                              column_sums *out)
{
    sum_columns(x, type, c, first, width, out);
}

AVX2 static void move_row_avx2(const centred *c, int64_t i, float *to)
{
    if (c->type == DTYPE_F32)
        move_row(c, DTYPE_F32, i, to);
    else
        move_row(c, DTYPE_BF16, i, to);
}

static void move_row_plain(const centred *c, int64_t i, float *to)
{
    move_row(c, c->type, i, to);
}

/* Each thread owns columns, as many as there are for it, and walks the rows in order. Returns how far any value lies
 * from its mean. */
static double find_means(const void *x, dtype type, centred *out)
{
    void (*const sums)(const void *, dtype, const centred *, int64_t, int64_t, column_sums *) =
        HAS_AVX2() ? sum_columns_avx2 : sum_columns_plain;
    const int64_t dim = out->dim;
    int64_t team = 1;
    double largest = 0;
#ifdef _OPENMP
    team = omp_in_parallel() ? 1 : omp_get_max_threads();
#endif
    int64_t columns = ((dim + team - 1) / team + 15) / 16 * 16;
    columns = columns < COLUMNS ? columns : COLUMNS;
#pragma omp parallel for schedule(dynamic, 1) reduction(max : largest)
    for (int64_t first = 0; first < dim; first += columns) {
        const int64_t width = dim - first < columns ? dim - first : columns;
        column_sums found;
        sums(x, type, out, first, width, &found);
        for (int64_t d = 0; d < width; d++) {
            const double mean = out->mean[first + d] = found.sum[d] / (double)out->n;
            const double above = (double)found.high[d] - mean, below = mean - (double)found.low[d];
            largest = above > largest ? above : largest;
            largest = below > largest ? below : largest;
        }
    }
    return largest;
}

bool features_copied(int64_t n, int64_t dim)
{
    return memory_affords(n * dim * (int64_t)sizeof(float));
}

sc_status features_centre_as(const void *x, dtype type, int64_t n, int64_t dim, centred *out)
{
    sc_status status = SC_OK;
    *out = (centred){.from = x, .type = type, .scale = 1, .n = n, .dim = dim};
    SC_TRY(sc_alloc(&out->mean, (size_t)dim, sizeof *out->mean));
    if (features_copied(n, dim))
        SC_TRY(sc_alloc(&out->x, (size_t)n * (size_t)dim, sizeof *out->x));
    const double largest = find_means(x, type, out);
    /* Squares of 1e16, summed over a million columns, still fit into a float. */
    if (largest > 1e15) {
        int exponent;
        (void)frexp(largest, &exponent);
        out->scale = ldexp(1, -exponent);
    }
    out->largest = largest * out->scale * (1 + 0x1p-20); /* and its rounding */
    if (out->x)
        centred_fill(out, 0, n, out->x);
cleanup:
    if (status != SC_OK)
        centred_free(out);
    return status;
}

void centred_fill(const void *context, int64_t first, int64_t n, void *out)
{
    const centred *c = context;
    void (*const move)(const centred *, int64_t, float *) = HAS_AVX2() ? move_row_avx2 : move_row_plain;
#pragma omp parallel for schedule(static) if (n > 1)
    for (int64_t i = 0; i < n; i++)
        move(c, first + i, (float *)out + i * c->dim);
}

/* Row i, in the copy or in `scratch`. */
static const float *row_of(const centred *c, int64_t i, float *scratch)
{
    if (c->x)
        return c->x + i * c->dim;
    centred_fill(c, i, 1, scratch);
    return scratch;
}

sc_status features_centre(const float *x, int64_t n, int64_t dim, centred *out)
{
    return features_centre_as(x, DTYPE_F32, n, dim, out);
}

void centred_free(centred *c)
{
    free(c->x);
    free(c->mean);
    *c = (centred){0};
}

/* --- the map ------------------------------------------------------------------------------- */

enum { MAP_ROWS = 20000, MAP_STRIPES = 64, MAP_ITERATIONS = 60 };

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Gram-Schmidt on the two rows of v [2][dim]; a row that vanishes stays zero. */
static void orthonormalise(double *v, int64_t dim)
{
    for (int a = 0; a < 2; a++) {
        double *row = v + a * dim;
        for (int again = 0; again < 2 && a == 1; again++) {
            const double along = dot(row, v, dim);
            for (int64_t d = 0; d < dim; d++)
                row[d] -= along * v[d];
        }
        const double norm = sqrt(dot(row, row, dim));
        for (int64_t d = 0; d < dim; d++)
            row[d] = norm > 1e-150 ? row[d] / norm : 0;
    }
}

/* next [2][dim] = v X'X over every `step`-th row; `parts` [MAP_STRIPES][2][dim], `scratch` [MAP_STRIPES][dim]. */
static void covariance_times(const centred *c, int64_t step, const double *v, double *parts, float *scratch,
                             double *next)
{
    const int64_t dim = c->dim, rows = (c->n + step - 1) / step;
    const int64_t stripe = (rows + MAP_STRIPES - 1) / MAP_STRIPES;
#pragma omp parallel for schedule(dynamic, 1)
    for (int s = 0; s < MAP_STRIPES; s++) {
        double *part = parts + (int64_t)s * 2 * dim;
        for (int64_t d = 0; d < 2 * dim; d++)
            part[d] = 0;
        for (int64_t r = s * stripe; r < (s + 1) * stripe && r < rows; r++) {
            const float *x = row_of(c, r * step, scratch + s * dim);
            double y0 = 0, y1 = 0;
            for (int64_t d = 0; d < dim; d++) {
                y0 += (double)x[d] * v[d];
                y1 += (double)x[d] * v[dim + d];
            }
            for (int64_t d = 0; d < dim; d++) {
                part[d] += y0 * (double)x[d];
                part[dim + d] += y1 * (double)x[d];
            }
        }
    }
    for (int64_t d = 0; d < 2 * dim; d++) {
        next[d] = 0;
        for (int s = 0; s < MAP_STRIPES; s++)
            next[d] += parts[(int64_t)s * 2 * dim + d];
    }
}

sc_status features_map(const centred *c, uint64_t seed, float *out)
{
    sc_status status = SC_OK;
    const int64_t dim = c->dim, step = (c->n + MAP_ROWS - 1) / MAP_ROWS;
    double *v = NULL, *next = NULL, *parts = NULL;
    float *scratch = NULL;
    SC_TRY(sc_alloc(&v, 2 * (size_t)dim, sizeof *v));
    SC_TRY(sc_alloc(&next, 2 * (size_t)dim, sizeof *next));
    SC_TRY(sc_alloc(&parts, (size_t)MAP_STRIPES * 2 * (size_t)dim, sizeof *parts));
    SC_TRY(sc_alloc(&scratch, (size_t)MAP_STRIPES * (size_t)dim, sizeof *scratch));
    random_stream random = random_at(seed, RANDOM_SELECT, 1, 0);
    for (int64_t d = 0; d < 2 * dim; d++)
        v[d] = random_normal(&random);
    orthonormalise(v, dim);
    for (int iteration = 0; iteration < MAP_ITERATIONS; iteration++) {
        SC_TRY(check_cancelled());
        covariance_times(c, step, v, parts, scratch, next);
        orthonormalise(next, dim);
        double moved = 0;
        for (int a = 0; a < 2; a++)
            moved += 1 - fabs(dot(next + a * dim, v + a * dim, dim));
        double *swap = v;
        v = next;
        next = swap;
        if (moved < 1e-9)
            break;
    }
    for (int a = 0; a < 2; a++) {
        int64_t largest = 0;
        for (int64_t d = 1; d < dim; d++)
            if (fabs(v[a * dim + d]) > fabs(v[a * dim + largest]))
                largest = d;
        if (v[a * dim + largest] < 0)
            for (int64_t d = 0; d < dim; d++)
                v[a * dim + d] = -v[a * dim + d];
    }
    const int64_t stripe = (c->n + MAP_STRIPES - 1) / MAP_STRIPES;
#pragma omp parallel for schedule(dynamic, 1)
    for (int s = 0; s < MAP_STRIPES; s++)
        for (int64_t i = s * stripe; i < (s + 1) * stripe && i < c->n; i++) {
            const float *x = row_of(c, i, scratch + s * dim);
            for (int a = 0; a < 2; a++) {
                double y = 0;
                for (int64_t d = 0; d < dim; d++)
                    y += (double)x[d] * v[a * dim + d];
                out[2 * i + a] = (float)y;
            }
        }
cleanup:
    free(v);
    free(next);
    free(parts);
    free(scratch);
    return status;
}
