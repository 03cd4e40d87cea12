/* factor: symmetric matrices in double: updates, Cholesky's factor, and the inverse out of it. Sums run in a
 * fixed order, whatever the number of threads; LAPACK's do not. */
#include "device/cpu/cpu.h"
#include "device/cpu/double.h"
#include "device/cpu/rows.h"

#include <immintrin.h>

enum { COLUMNS = 16, PANEL = 32, PACKED = 64 };

static sc_status check_dim(const char *name, int64_t dim)
{
    return dim > 0
               ? SC_OK
               : sc_fail(SC_INTERNAL, "%s: impossible shape: a matrix of %lld rows", name, (long long)dim);
}

/* a [height][width] += sign sums, or sums' transpose, [height][PANEL]. */
static void add_tile(double *a, int64_t dim, const double *sums, int64_t height, int64_t width, double sign)
{
    for (int64_t i = 0; i < height; i++)
        for (int64_t j = 0; j < width; j++)
            a[i * dim + j] += sign * sums[i * PANEL + j];
}

static void add_turned(double *a, int64_t dim, const double *sums, int64_t height, int64_t width, double sign)
{
    const __m256d signs = _mm256_set1_pd(sign);
    const int64_t whole = width % 4 == 0 ? height / 4 * 4 : 0;
    for (int64_t i = 0; i < whole; i += 4)
        for (int64_t j = 0; j < width; j += 4) {
            const double *from = sums + i * PANEL + j;
            const __m256d r0 = _mm256_loadu_pd(from), r1 = _mm256_loadu_pd(from + PANEL),
                          r2 = _mm256_loadu_pd(from + 2 * PANEL), r3 = _mm256_loadu_pd(from + 3 * PANEL);
            const __m256d even = _mm256_unpacklo_pd(r0, r1), odd = _mm256_unpackhi_pd(r0, r1);
            const __m256d even2 = _mm256_unpacklo_pd(r2, r3), odd2 = _mm256_unpackhi_pd(r2, r3);
            const __m256d turned[4] = {
                _mm256_permute2f128_pd(even, even2, 0x20), _mm256_permute2f128_pd(odd, odd2, 0x20),
                _mm256_permute2f128_pd(even, even2, 0x31), _mm256_permute2f128_pd(odd, odd2, 0x31)};
            for (int q = 0; q < 4; q++) {
                double *to = a + (j + q) * dim + i;
                _mm256_storeu_pd(to, _mm256_add_pd(_mm256_loadu_pd(to), _mm256_mul_pd(signs, turned[q])));
            }
        }
    for (int64_t j = 0; j < width; j++)
        for (int64_t i = whole; i < height; i++)
            a[j * dim + i] += sign * sums[i * PANEL + j];
}

/* `width` columns of w [b][dim], in one piece where they are few enough: rows that lie a power of two apart share a few sets of the
 * cache. */
typedef struct columns {
    double packed[PACKED * PANEL];
    const double *at;
    int64_t step;
} columns;

static void take_columns(columns *c, const double *w, int64_t width, int64_t dim, int64_t b)
{
    c->at = b <= PACKED ? c->packed : w;
    c->step = b <= PACKED ? PANEL : dim;
    for (int64_t l = 0; l < b && b <= PACKED; l++)
        memcpy(c->packed + l * PANEL, w + l * dim, (size_t)width * sizeof *w);
}

/* What is added is symmetric to the bit, so half of it is summed: the tiles on the diagonal and below. */
sc_status cpu_rank_update(stream *s, double *a, const double *w, int64_t dim, int64_t b, double sign)
{
    (void)s;
    sc_status status = check_dim("rank_update", dim);
    if (status != SC_OK)
        return status;
    const int64_t blocks = (dim + PANEL - 1) / PANEL;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(dim *dim *b, blocks))
    for (int64_t block = blocks - 1; block >= 0; block--) { /* the longest first */
        const int64_t down = block * PANEL, height = dim - down < PANEL ? dim - down : PANEL;
        columns mine, theirs;
        take_columns(&mine, w + down, height, dim, b);
        for (int64_t across = 0; across <= down; across += PANEL) {
            const int64_t width = across < down ? PANEL : height;
            double sums[PANEL * PANEL];
            take_columns(&theirs, w + across, width, dim, b);
            for (int64_t i = 0; i < height; i++)
                for (int64_t j = 0; j < width; j += COLUMNS)
                    sum16(sums + i * PANEL + j, width - j < COLUMNS ? width - j : COLUMNS, mine.at + i,
                          mine.step, theirs.at + j, theirs.step, b);
            add_tile(a + down * dim + across, dim, sums, height, width, sign);
            if (across < down)
                add_turned(a + across * dim + down, dim, sums, height, width, sign);
        }
    }
    return SC_OK;
}

/* The diagonal block [PANEL] at `at`, of which everything to the left has been taken. */
static bool factor_diagonal(double *l, int64_t dim, int64_t at, int64_t width)
{
    for (int64_t j = at; j < at + width; j++) {
        double pivot = l[j * dim + j];
        for (int64_t q = at; q < j; q++)
            pivot -= l[j * dim + q] * l[j * dim + q];
        if (!(pivot > 0))
            return false;
        l[j * dim + j] = sqrt(pivot);
        for (int64_t i = j + 1; i < at + width; i++) {
            double value = l[i * dim + j];
            for (int64_t q = at; q < j; q++)
                value -= l[i * dim + q] * l[j * dim + q];
            l[i * dim + j] = value / l[j * dim + j];
        }
    }
    return true;
}

/* Left-looking by panels (Golub and Van Loan 2013, 4.2): L L' = A, L in the lower triangle, zeros above it. */
sc_status cpu_cholesky(stream *s, double *l, const double *a, int64_t dim, bool *definite)
{
    (void)s;
    sc_status status = check_dim("cholesky", dim);
    if (status != SC_OK)
        return status;
    *definite = true;
    for (int64_t i = 0; i < dim; i++)
        for (int64_t j = 0; j < dim; j++)
            l[i * dim + j] = j <= i ? a[i * dim + j] : 0;
    for (int64_t at = 0; at < dim && *definite; at += PANEL) {
        const int64_t width = dim - at < PANEL ? dim - at : PANEL;
#pragma omp parallel for schedule(static) num_threads(cpu_team((dim - at) * at * width, dim - at))
        for (int64_t i = at; i < dim; i++) {
            double taken[PANEL];
            dots64_rows(1, width, at, l + i * dim, dim, l + at * dim, dim, taken, PANEL);
            for (int64_t j = 0; j < width && at + j <= i; j++)
                l[i * dim + at + j] -= taken[j];
        }
        *definite = factor_diagonal(l, dim, at, width);
        if (!*definite)
            break;
#pragma omp parallel for schedule(static) num_threads(cpu_team((dim - at) * width * width, dim - at))
        for (int64_t i = at + width; i < dim; i++)
            for (int64_t j = at; j < at + width; j++) {
                double value = l[i * dim + j];
                for (int64_t q = at; q < j; q++)
                    value -= l[i * dim + q] * l[j * dim + q];
                l[i * dim + j] = value / l[j * dim + j];
            }
    }
    return SC_OK;
}

/* A^-1 = M' M with M = L^-1, whose rows follow one from the other; columns are independent. */
sc_status cpu_cholesky_inverse(stream *s, double *inverse, const double *l, int64_t dim, void *workspace)
{
    (void)s;
    double *m = workspace;
    sc_status status = check_dim("cholesky_inverse", dim);
    if (status != SC_OK)
        return status;
    const int64_t blocks = (dim + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(dim *dim *dim, blocks))
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t j = block * COLUMNS, width = dim - j < COLUMNS ? dim - j : COLUMNS;
        for (int64_t i = 0; i < dim; i++) {
            double *row = m + i * dim + j;
            memset(row, 0, (size_t)width * sizeof *row);
            if (i < j)
                continue;
            if (i < j + width)
                row[i - j] = 1;
            combine16(row, width, l + i * dim + j, 1, m + j * dim + j, dim, i - j, -1);
            for (int64_t c = 0; c < width; c++)
                row[c] /= l[i * dim + i];
        }
    }
    memset(inverse, 0, (size_t)(dim * dim) * sizeof *inverse);
#pragma omp parallel for schedule(dynamic, 8) num_threads(cpu_team(dim *dim *dim, dim))
    for (int64_t i = 0; i < dim; i++)
        for (int64_t j = 0; j < dim; j += COLUMNS) {
            /* rows before max(i, j) hold zeros in one of the two columns */
            const int64_t first = i > j ? i : j;
            combine16(inverse + i * dim + j, dim - j < COLUMNS ? dim - j : COLUMNS, m + first * dim + i, dim,
                      m + first * dim + j, dim, dim - first, 1);
        }
    return SC_OK;
}

size_t cpu_cholesky_inverse_workspace(int64_t dim)
{
    return sizeof(double) * (size_t)dim * (size_t)dim;
}
