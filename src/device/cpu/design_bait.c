/* design_bait: what a pick does to the two quadratic forms that bait scores every row by. One pass over the rows, which
 * bounds it: 4 bytes an element for 4 operations. */
#include "device/cpu/cpu.h"
#include "device/cpu/double.h"
#include "device/cpu/rows.h"

enum { ROWS = 2, HALVES = 2 };

/* dots[r] = x_r . u and x_r . v, each summed in the same order whatever r is. */
static inline __attribute__((always_inline)) void
two_dots(const int rows, int64_t dim, const float *x, const double *u, const double *v, double dots[ROWS][2])
{
    double4 sums[ROWS][2][HALVES];
    int64_t j = 0;
    memset(sums, 0, sizeof sums);
    for (; j + 4 * HALVES <= dim; j += 4 * HALVES) {
#pragma GCC unroll 2
        for (int h = 0; h < HALVES; h++) {
            const double4 us = load4(u + j + 4 * h), vs = load4(v + j + 4 * h);
#pragma GCC unroll 2
            for (int r = 0; r < rows; r++) {
                const double4 xs = load4_floats(x + r * dim + j + 4 * h);
                sums[r][0][h] += xs * us;
                sums[r][1][h] += xs * vs;
            }
        }
    }
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++) {
        dots[r][0] = sum4(sums[r][0][0] + sums[r][0][1]);
        dots[r][1] = sum4(sums[r][1][0] + sums[r][1][1]);
        for (int64_t q = j; q < dim; q++) {
            dots[r][0] += (double)x[r * dim + q] * u[q];
            dots[r][1] += (double)x[r * dim + q] * v[q];
        }
    }
}

sc_status cpu_design_bait(stream *s, double *a, double *b, const float *x, const double *u, const double *v,
                          int64_t n, int64_t dim, double scale, double gamma)
{
    (void)s;
    if (n < 0 || dim <= 0 || !(scale > 0))
        return sc_fail(SC_INTERNAL, "design_bait: impossible shape: %lld rows of %lld", (long long)n,
                       (long long)dim);
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *dim, (n + 1) / ROWS))
    for (int64_t i = 0; i < n; i += ROWS) {
        double dots[ROWS][2];
        const int rows = n - i < ROWS ? 1 : ROWS;
        if (rows == ROWS)
            two_dots(ROWS, dim, x + i * dim, u, v, dots);
        else
            two_dots(1, dim, x + i * dim, u, v, dots);
        for (int r = 0; r < rows; r++) {
            const double along = dots[r][0] / scale, across = dots[r][1];
            a[i + r] -= dots[r][0] * along;
            b[i + r] += along * (along * gamma - 2 * across);
        }
    }
    return SC_OK;
}
