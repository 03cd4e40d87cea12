/* design_flush: what a block of picks takes from the gains of all rows, as one product whose epilogue sums the
 * squares of its rows: the product itself is never stored, and x is read once.
 *
 * The gains become those of exact arithmetic within `slack`, which grows by a bound of the rounding. With W
 * rounded to float and the order of summation of dots.h or panel.h, a computed product is off by at most gamma |x||w|,
 * gamma = c u / (1 - c u), c the longest chain (Higham 2002, 3.1); so by Cauchy and Schwarz the sum of squares
 * over the block is off by at most 2 gamma |x| |W| sqrt(drop) + (gamma |x| |W|)^2, |W| the Frobenius norm. */
#include "device/cpu/cpu.h"
#include "device/cpu/dots.h"
#include "device/cpu/panel.h"

#include <float.h>
#include <math.h>

enum { X_BLOCK_FLOATS = 192 << 10, MOST_ROWS = 384 };

/* drops[i] += sum over `lines` rows of w of the squared product with row i of x */
static inline __attribute__((always_inline)) void drop_lines(const int lines, double *drops, int64_t n,
                                                             const float *x, const float *w, int64_t dim)
{
    float found[WEIGHT_ROWS][TILE_ROWS];
    int64_t i = 0;
    for (; i + TILE_ROWS <= n; i += TILE_ROWS) {
        dots(TILE_ROWS, lines, dim, x + i * dim, DTYPE_F32, dim, w, DTYPE_F32, dim, false, 0, found);
        for (int t = 0; t < TILE_ROWS; t++)
            for (int r = 0; r < lines; r++)
                drops[i + t] += (double)found[r][t] * (double)found[r][t];
    }
    for (; i < n; i++) {
        dots(1, lines, dim, x + i * dim, DTYPE_F32, dim, w, DTYPE_F32, dim, false, 0, found);
        for (int r = 0; r < lines; r++)
            drops[i] += (double)found[r][0] * (double)found[r][0];
    }
}

/* The same for up to LANES * vectors of them, transposed a slice at a time. */
static inline __attribute__((always_inline)) void drop_panel(const int vectors, int64_t lines, double *drops,
                                                             int64_t n, const float *x, const float *w,
                                                             int64_t dim)
{
    const int64_t width = LANES * (int64_t)vectors;
    float panel[PANEL_SLICE * 2 * LANES], found[MOST_ROWS * 2 * LANES];
    for (int64_t at = 0; at < dim; at += PANEL_SLICE) {
        const int64_t depth = dim - at < PANEL_SLICE ? dim - at : PANEL_SLICE;
        for (int64_t r = 0; r < width; r++)
            for (int64_t d = 0; d < depth; d++)
                panel[d * width + r] = r < lines ? w[r * dim + at + d] : 0;
        for (int64_t i = 0; i < n; i += PANEL_ROWS) {
            const float *rows[PANEL_ROWS];
            const int64_t count = n - i < PANEL_ROWS ? n - i : PANEL_ROWS;
            for (int64_t r = 0; r < count; r++)
                rows[r] = x + (i + r) * dim;
            panel_rows((int)count, vectors, depth, rows, at, panel, found + i * width);
        }
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = 0; r < lines; r++)
            drops[i] += (double)found[i * width + r] * (double)found[i * width + r];
}

/* A few are fastest as they lie. */
static void drop_all(double *drops, int64_t n, const float *x, const float *w, int64_t dim, int64_t b)
{
    int64_t l = 0;
    for (; b - l > LANES; l += 2 * LANES)
        drop_panel(2, b - l < 2 * LANES ? b - l : 2 * LANES, drops, n, x, w + l * dim, dim);
    if (b - l > 4) {
        drop_panel(1, b - l, drops, n, x, w + l * dim, dim);
        l = b;
    }
    switch (b - l) {
    case 4:
        drop_lines(4, drops, n, x, w + l * dim, dim);
        break;
    case 3:
        drop_lines(3, drops, n, x, w + l * dim, dim);
        break;
    case 2:
        drop_lines(2, drops, n, x, w + l * dim, dim);
        break;
    case 1:
        drop_lines(1, drops, n, x, w + l * dim, dim);
        break;
    default:
        break;
    }
}

sc_status cpu_design_flush(stream *s, double *gains, double *slack, const double *norms, const float *x,
                           const float *w, int64_t n, int64_t dim, int64_t b, double w_norm)
{
    (void)s;
    if (n < 0 || dim <= 0 || b < 0)
        return sc_fail(SC_INTERNAL, "design_flush: impossible shape: %lld rows of %lld, %lld picks",
                       (long long)n, (long long)dim, (long long)b);
    int64_t block = X_BLOCK_FLOATS / dim / PANEL_ROWS * PANEL_ROWS;
    block = block < PANEL_ROWS ? PANEL_ROWS : block > MOST_ROWS ? MOST_ROWS : block;
    const double line = dots_chain(dim), panel = panel_chain(dim) + 1;
    const double chain = (line < panel ? panel : line) * 0x1p-24;
    const double gamma = chain < 0.5 ? chain / (1 - chain) : 1;
    const int64_t tasks = (n + block - 1) / block;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(n *dim *b, tasks))
    for (int64_t t = 0; t < tasks; t++) {
        const int64_t first = t * block, rows = n - first < block ? n - first : block;
        const float *from = x + first * dim;
        double drops[MOST_ROWS] = {0};
        drop_all(drops, rows, from, w, dim, b);
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
