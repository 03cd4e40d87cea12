/* design_flush: what a block of picks takes from the gains of all rows, as one product whose epilogue sums the
 * squares of its rows: the product itself is never stored, and x is read once.
 *
 * The gains become those of exact arithmetic within `slack`, which grows by a bound of the rounding. With W
 * rounded to float and dots.h's order of summation, a computed product is off by at most gamma |x||w|,
 * gamma = c u / (1 - c u), c the longest chain (Higham 2002, 3.1); so by Cauchy and Schwarz the sum of squares
 * over the block is off by at most 2 gamma |x| |W| sqrt(drop) + (gamma |x| |W|)^2, |W| the Frobenius norm. */
#include "device/cpu/cpu.h"
#include "device/cpu/dots.h"

#include <float.h>
#include <math.h>

enum { X_BLOCK_FLOATS = 32 << 10, MOST_ROWS = 768 };

/* drops[i] += sum over `lines` rows of w of the squared product with row i of x */
static inline __attribute__((always_inline)) void drop_lines(const int lines, double *drops, int64_t n,
                                                             const float *x, const float *w, int64_t dim)
{
    float found[WEIGHT_ROWS][TILE_ROWS];
    int64_t i = 0;
    for (; i + TILE_ROWS <= n; i += TILE_ROWS) {
        dots(TILE_ROWS, lines, dim, x + i * dim, DTYPE_F32, dim, w, DTYPE_F32, dim, found);
        for (int t = 0; t < TILE_ROWS; t++)
            for (int r = 0; r < lines; r++)
                drops[i + t] += (double)found[r][t] * (double)found[r][t];
    }
    for (; i < n; i++) {
        dots(1, lines, dim, x + i * dim, DTYPE_F32, dim, w, DTYPE_F32, dim, found);
        for (int r = 0; r < lines; r++)
            drops[i] += (double)found[r][0] * (double)found[r][0];
    }
}

sc_status cpu_design_flush(stream *s, double *gains, double *slack, const double *norms, const float *x,
                           const float *w, int64_t n, int64_t dim, int64_t b, double w_norm)
{
    (void)s;
    if (n < 0 || dim <= 0 || b < 0)
        return sc_fail(SC_INTERNAL, "design_flush: impossible shape: %lld rows of %lld, %lld picks",
                       (long long)n, (long long)dim, (long long)b);
    int64_t block = X_BLOCK_FLOATS / dim / TILE_ROWS * TILE_ROWS;
    block = block < TILE_ROWS ? TILE_ROWS : block > MOST_ROWS ? MOST_ROWS : block;
    const double chain = ((double)dim / 8 + 12) * 0x1p-24, gamma = chain < 0.5 ? chain / (1 - chain) : 1;
    const int64_t tasks = (n + block - 1) / block;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(n *dim *b, tasks))
    for (int64_t t = 0; t < tasks; t++) {
        const int64_t first = t * block, rows = n - first < block ? n - first : block;
        const float *from = x + first * dim;
        double drops[MOST_ROWS] = {0};
        int64_t l = 0;
        for (; l + WEIGHT_ROWS <= b; l += WEIGHT_ROWS)
            drop_lines(WEIGHT_ROWS, drops, rows, from, w + l * dim, dim);
        for (; l < b; l++)
            drop_lines(1, drops, rows, from, w + l * dim, dim);
        for (int64_t i = 0; i < rows; i++) {
            double *gain = gains + first + i, *may = slack + first + i;
            const double reach = gamma * norms[first + i] * w_norm;
            const double left = *gain - drops[i];
            const double loose = *may + 2 * reach * sqrt(drops[i]) + reach * reach +
                                 4 * DBL_EPSILON * (fabs(*gain) + drops[i]);
            /* Gains never rise, so an old bound stays one; it is kept where this block says less, or where
             * the product left the range of float. */
            if (left + loose <= *gain + *may) {
                *gain = left;
                *may = loose;
            }
        }
    }
    return SC_OK;
}
