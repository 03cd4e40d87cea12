/* quadratic: products in double with symmetric matrices [dim][dim], their sums in an order that no number of threads
 * changes. */
#include "device/cpu/cpu.h"
#include "device/cpu/double.h"
#include "device/cpu/rows.h"

enum { ROWS = 2, LINES = 4, BLOCK = 32 };

/* out[r][l] = x_r . a_l, a tile of rows in float by lines in double */
static inline __attribute__((always_inline)) void mixed_dots(const int rows, const int lines, int64_t dim,
                                                             const float *x, const double *a,
                                                             double out[ROWS][LINES])
{
    double4 sums[ROWS][LINES];
    int64_t j = 0;
    memset(sums, 0, sizeof sums);
    for (; j + 4 <= dim; j += 4) {
        double4 xs[ROWS];
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++)
            xs[r] = load4_floats(x + r * dim + j);
#pragma GCC unroll 4
        for (int l = 0; l < lines; l++) {
            const double4 as = load4(a + l * dim + j);
#pragma GCC unroll 2
            for (int r = 0; r < rows; r++)
                sums[r][l] += xs[r] * as;
        }
    }
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int l = 0; l < lines; l++) {
            out[r][l] = sum4(sums[r][l]);
            for (int64_t q = j; q < dim; q++)
                out[r][l] += (double)x[r * dim + q] * a[l * dim + q];
        }
}

/* The terms of lines j .. of the matrix, for one or two rows. */
static inline __attribute__((always_inline)) void add_lines(const int rows, const int lines, int64_t dim,
                                                            const float *x, const double *a, int64_t j,
                                                            double *out)
{
    double dots[ROWS][LINES];
    mixed_dots(rows, lines, dim, x, a + j * dim, dots);
    for (int r = 0; r < rows; r++)
        for (int l = 0; l < lines; l++)
            out[r] += dots[r][l] * (double)x[r * dim + j + l];
}

static void block_forms(double *out, const float *x, const double *a, int64_t n, int64_t dim)
{
    memset(out, 0, (size_t)n * sizeof *out);
    for (int64_t j = 0; j < dim; j += LINES)
        for (int64_t i = 0; i < n; i += ROWS) {
            const bool two = n - i >= ROWS;
            if (dim - j >= LINES && two)
                add_lines(ROWS, LINES, dim, x + i * dim, a, j, out + i);
            else if (dim - j >= LINES)
                add_lines(1, LINES, dim, x + i * dim, a, j, out + i);
            else
                for (int64_t l = j; l < dim; l++)
                    if (two)
                        add_lines(ROWS, 1, dim, x + i * dim, a, l, out + i);
                    else
                        add_lines(1, 1, dim, x + i * dim, a, l, out + i);
        }
}

sc_status cpu_quadratic_forms(stream *s, double *out, const float *x, const double *a, int64_t n, int64_t dim)
{
    (void)s;
    if (n < 0 || dim <= 0)
        return sc_fail(SC_INTERNAL, "quadratic_forms: impossible shape: %lld rows of %lld", (long long)n,
                       (long long)dim);
    const int64_t blocks = (n + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *dim *dim, blocks))
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t i = block * BLOCK;
        block_forms(out + i, x + i * dim, a, n - i < BLOCK ? n - i : BLOCK, dim);
    }
    return SC_OK;
}

/* out = a b, b symmetric */
static void times_symmetric(double *out, const double *a, const double *b, int64_t dim)
{
#pragma omp parallel for schedule(static) num_threads(cpu_team(dim *dim *dim, (dim + 1) / 2))
    for (int64_t i = 0; i < dim; i += 2)
        if (dim - i >= 2)
            dots64_rows(2, dim, dim, a + i * dim, dim, b, dim, out + i * dim, dim);
        else
            dots64_rows(1, dim, dim, a + i * dim, dim, b, dim, out + i * dim, dim);
}

sc_status cpu_sandwich(stream *s, double *b, const double *a, const double *f, int64_t dim, void *workspace)
{
    (void)s;
    if (dim <= 0)
        return sc_fail(SC_INTERNAL, "sandwich: impossible shape: a matrix of %lld rows", (long long)dim);
    times_symmetric(workspace, a, f, dim);
    times_symmetric(b, workspace, a, dim);
    return SC_OK;
}

size_t cpu_sandwich_workspace(int64_t dim)
{
    return sizeof(double) * (size_t)dim * (size_t)dim;
}
