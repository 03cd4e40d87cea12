/* cluster_scores: the products of cluster_assign.c, at the rate of a matrix product. A tile of 6 rows by one panel
 * of 16 centres fills 12 registers; a slice of the panel stays in the first cache while all rows of a block pass, and
 * the block in the second while all panels do. What the labels need of a tile is taken from it at once. */
#include "device/cpu/cluster_scores.h"
#include "device/cpu/panel.h"

#include <float.h>
#include <math.h>

typedef int32_t int8v __attribute__((vector_size(32)));

enum { LINE = 16 /* floats of a cache line */ };

/* gamma above, and four roundings more for what is made of the product. */
static double product_error(int64_t dim)
{
    const double panel = panel_chain(dim), row = (double)dim / 32 + 40;
    const double u = ((panel < row ? row : panel) + 4) * 0x1p-24;
    return u < 0.5 ? u / (1 - u) : INFINITY;
}

static float at_most(double v)
{
    const float f = (float)v;
    return (double)f > v ? nextafterf(f, -INFINITY) : f;
}

static float at_least(double v)
{
    const float f = (float)v;
    return (double)f < v ? nextafterf(f, INFINITY) : f;
}

void cpu_score_prepare(score_centres *c, const float *centres)
{
    const int64_t k = c->k, kp = score_padded(k), dim = c->dim;
    double largest = 0;
#pragma omp parallel for schedule(static) reduction(max : largest) if (kp * dim > 65536)
    for (int64_t j = 0; j < kp; j += SCORE_PANEL)
        for (int64_t l = j; l < j + SCORE_PANEL; l++) {
            const float *from = centres + l * dim;
            float *to = c->panels + j * dim + (l - j);
            double norm2 = 0;
            for (int64_t d = 0; d < dim; d++) {
                const float v = l < k ? from[d] : 0;
                to[d * SCORE_PANEL] = v;
                norm2 += (double)v * (double)v;
            }
            /* u for each rounding of |c|^2 and of the sums it enters; the last term is underflow's */
            const double may = 8 * 0x1p-24 * norm2 + (double)dim * 0x1p-125;
            c->low_norms[l] = l < k ? at_most(norm2 - may) : INFINITY;
            c->high_norms[l] = l < k ? at_least(norm2 + may) : INFINITY;
            c->spread[l] = l < k ? at_least(2 * product_error(dim) * sqrt(norm2)) : 0;
            largest = norm2 > largest ? norm2 : largest;
        }
    c->largest = sqrt(largest);
}

static void tile_rows(int rows, int64_t depth, const float *const *x, int64_t at, const float *panel,
                      float *dots)
{
    panel_rows(rows, SCORE_PANEL / 8, depth, x, at, panel, dots);
}

/* What a row has seen so far, in 8 lanes. */
typedef struct lanes {
    float8 high, low, second;
    int8v index;
} lanes;

static inline __attribute__((always_inline)) int8v choose(int8v mask, int8v a, int8v b)
{
    return (a & mask) | (b & ~mask);
}

static inline __attribute__((always_inline)) float8 lower(float8 a, float8 b)
{
    return (float8)choose(a < b, (int8v)a, (int8v)b);
}

static inline __attribute__((always_inline)) float8 higher(float8 a, float8 b)
{
    return (float8)choose(a < b, (int8v)b, (int8v)a);
}

static inline __attribute__((always_inline)) void see(const score_centres *c, lanes *seen, float norm,
                                                      const float *dots, int64_t first, float *lows)
{
    const int8v steps = {0, 1, 2, 3, 4, 5, 6, 7};
    float8 high = seen->high, low = seen->low, second = seen->second;
    int8v index = seen->index;
#pragma GCC unroll 2
    for (int v = 0; v < SCORE_PANEL; v += 8) {
        const float8 product = 2 * load8(dots + v), may = norm * load8(c->spread + first + v);
        const float8 lo = (load8(c->low_norms + first + v) - product) - may;
        const float8 hi = (load8(c->high_norms + first + v) - product) + may;
        const int8v nearer = hi < high;
        store8(lows + v, lo);
        index = choose(nearer, steps + (int32_t)(first + v), index);
        high = lower(hi, high);
        second = lower(second, higher(low, lo));
        low = lower(low, lo);
    }
    *seen = (lanes){high, low, second, index};
}

static score_best best_of(const lanes *seen)
{
    score_best best = {seen->high[0], seen->index[0], INFINITY};
    float low = INFINITY;
    for (int l = 0; l < 8; l++) {
        if (seen->high[l] < best.high) {
            best.high = seen->high[l];
            best.index = seen->index[l];
        }
        const float lo = seen->low[l], behind = lo > low ? lo : low;
        best.second = behind < best.second ? behind : best.second;
        best.second = seen->second[l] < best.second ? seen->second[l] : best.second;
        low = lo < low ? lo : low;
    }
    return best;
}

void cpu_score_rows(const score_centres *c, int count, const float *const *x, const float *norms, float *lows,
                    score_best *best, const float *ahead, int64_t n_ahead)
{
    const int64_t kp = score_padded(c->k), dim = c->dim;
    const int64_t slice = PANEL_SLICE, slices = (dim + slice - 1) / slice;
    const int64_t tiles = (count + SCORE_TILE - 1) / SCORE_TILE * slices * (kp / SCORE_PANEL);
    const int64_t share = (n_ahead / LINE + tiles) / tiles * LINE;
    const float *const end = ahead + n_ahead;
    float dots[SCORE_ROWS * SCORE_PANEL];
    lanes seen[SCORE_ROWS];
    for (int r = 0; r < count; r++)
        seen[r] = (lanes){(float8){0} + INFINITY, (float8){0} + INFINITY, (float8){0} + INFINITY, {0}};
    for (int64_t j = 0; j < kp; j += SCORE_PANEL) {
        for (int64_t at = 0; at < dim; at += slice) {
            const int64_t depth = dim - at < slice ? dim - at : slice;
            const float *panel = c->panels + j * dim + at * SCORE_PANEL;
            for (int r = 0; r < count; r += SCORE_TILE) {
                for (int64_t l = 0; l < share && ahead < end; l += LINE, ahead += LINE)
                    __builtin_prefetch(ahead, 0, 2);
                tile_rows(count - r < SCORE_TILE ? count - r : SCORE_TILE, depth, x + r, at, panel,
                          dots + r * SCORE_PANEL);
            }
        }
        for (int r = 0; r < count; r++)
            see(c, seen + r, norms[r], dots + r * SCORE_PANEL, j, lows + r * kp + j);
    }
    for (int r = 0; r < count; r++)
        best[r] = best_of(seen + r);
}

static float dot(const float *x, const float *y, int64_t dim)
{
    float8 sums[4];
    int64_t d = 0;
    memset(sums, 0, sizeof sums);
    for (; d + 32 <= dim; d += 32)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            sums[v] += load8(x + d + 8 * v) * load8(y + d + 8 * v);
    const float8 all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    float total = ((all[0] + all[4]) + (all[2] + all[6])) + ((all[1] + all[5]) + (all[3] + all[7]));
    for (; d < dim; d++)
        total += x[d] * y[d];
    return total;
}

float cpu_score_one(const score_centres *c, const float *x, float norm, const float *centre, int64_t index)
{
    return (c->high_norms[index] - 2 * dot(x, centre, c->dim)) + norm * c->spread[index];
}

float cpu_score_norm(const float *x, int64_t dim)
{
    return at_least(sqrt((double)dot(x, x, dim) * (1 + 2 * product_error(dim)) + (double)dim * 0x1p-125));
}
