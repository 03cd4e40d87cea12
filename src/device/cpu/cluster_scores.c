/* cluster_scores: the products of cluster_assign.c, at the rate of a matrix product. A tile of 6 rows by one panel
 * of 16 centres fills 12 registers; a slice of the panel stays in the first cache while all rows of a block pass, and
 * the block in the second while all panels do. What the labels need of a tile is taken from it at once. */
#include "device/cpu/cluster_scores.h"
#include "device/cpu/panel.h"
#include "device/cpu/rows.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>

typedef int32_t int8v __attribute__((vector_size(32)));

enum { LINE = 16 /* floats of a cache line */ };

/* gamma above, and four roundings more for what is made of the product. */
static double product_error(int64_t dim)
{
    const double panel = panel_chain(dim), row = (double)dim / (4 * LANES) + 4 * LANES + 8;
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
    c->depth = dim;
    memset(c->rests, 0, (size_t)kp * sizeof *c->rests);
}

void cpu_score_set_depth(score_centres *c, const float *centres, int64_t depth)
{
    c->depth = depth;
#pragma omp parallel for schedule(static) num_threads(cpu_team(c->k *(c->dim - depth), c->k))
    for (int64_t j = 0; j < c->k; j++) {
        double norm2 = 0;
        for (int64_t d = depth; d < c->dim; d++)
            norm2 += (double)centres[j * c->dim + d] * (double)centres[j * c->dim + d];
        /* and the rounding of its product with a row's rest */
        c->rests[j] = at_least(2 * sqrt(norm2) * (1 + 0x1p-20));
    }
}

static void tile_rows(int rows, int64_t depth, const float *const *x, int64_t at, const float *panel,
                      float *dots)
{
    panel_rows(rows, SCORE_PANEL / LANES, depth, x, at, panel, dots);
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
                                                      float rest, const float *dots, int64_t first,
                                                      float *lows)
{
    const int8v steps = {0, 1, 2, 3, 4, 5, 6, 7};
    float8 high = seen->high, low = seen->low, second = seen->second;
    int8v index = seen->index;
#pragma GCC unroll 2
    for (int v = 0; v < SCORE_PANEL; v += 8) {
        const float8 product = 2 * load8(dots + v);
        const float8 may = norm * load8(c->spread + first + v) + rest * load8(c->rests + first + v);
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

static float dot(const float *x, const float *y, int64_t dim)
{
    floats sums[4];
    int64_t d = 0;
    memset(sums, 0, sizeof sums);
    for (; d + 4 * LANES <= dim; d += 4 * LANES)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            sums[v] += load_floats(x + d + LANES * v) * load_floats(y + d + LANES * v);
    float total = sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; d < dim; d++)
        total += x[d] * y[d];
    return total;
}

/* The length of a row beyond the first depth columns, at most: what the whole has above its head. */
static float rest_of(const score_centres *c, const float *x, float norm)
{
    if (c->depth == c->dim)
        return 0;
    const double whole = (double)norm * (double)norm * (1 + 0x1p-50);
    const double head = (double)dot(x, x, c->depth) * (1 - 2 * product_error(c->dim));
    return whole > head ? at_least(sqrt(whole - head) * (1 + 0x1p-50)) : 0;
}

void cpu_score_rows(const score_centres *c, int count, const float *const *x, const float *norms, float *lows,
                    score_best *best, const float *ahead, int64_t n_ahead)
{
    const int64_t kp = score_padded(c->k), dim = c->dim, depth = c->depth;
    const int64_t slice = PANEL_SLICE, slices = (depth + slice - 1) / slice;
    const int64_t tiles = (count + PANEL_ROWS - 1) / PANEL_ROWS * slices * (kp / SCORE_PANEL);
    const int64_t share = (n_ahead / LINE + tiles) / tiles * LINE;
    const float *const end = ahead + n_ahead;
    float dots[SCORE_ROWS * SCORE_PANEL], rests[SCORE_ROWS];
    lanes seen[SCORE_ROWS];
    for (int r = 0; r < count; r++) {
        rests[r] = rest_of(c, x[r], norms[r]);
        seen[r] = (lanes){(float8){0} + INFINITY, (float8){0} + INFINITY, (float8){0} + INFINITY, {0}};
    }
    for (int64_t j = 0; j < kp; j += SCORE_PANEL) {
        for (int64_t at = 0; at < depth; at += slice) {
            const int64_t columns = depth - at < slice ? depth - at : slice;
            const float *panel = c->panels + j * dim + at * SCORE_PANEL;
            for (int r = 0; r < count; r += PANEL_ROWS) {
                for (int64_t l = 0; l < share && ahead < end; l += LINE, ahead += LINE)
                    __builtin_prefetch(ahead, 0, 2);
                tile_rows(count - r < PANEL_ROWS ? count - r : PANEL_ROWS, columns, x + r, at, panel,
                          dots + r * SCORE_PANEL);
            }
        }
        for (int r = 0; r < count; r++)
            see(c, seen + r, norms[r], rests[r], dots + r * SCORE_PANEL, j, lows + r * kp + j);
    }
    for (int r = 0; r < count; r++)
        best[r] = best_of(seen + r);
}

float cpu_score_one(const score_centres *c, const float *x, float norm, const float *centre, int64_t index)
{
    return (c->high_norms[index] - 2 * dot(x, centre, c->dim)) + norm * c->spread[index];
}

/* Whether any of a panel's lows is at most `high`. */
static inline bool any_left(const float *lows, float high)
{
    typedef int64_t word4 __attribute__((vector_size(32)));
    const int8v left = (load8(lows) <= high) | (load8(lows + 8) <= high);
    const word4 words = (word4)left;
    return ((words[0] | words[1]) | (words[2] | words[3])) != 0;
}

int64_t cpu_score_finish(const score_centres *c, const float *centres, const float *x, float norm,
                         float *lows, score_best *best)
{
    const int64_t kp = score_padded(c->k), dim = c->dim, first = best->index;
    int64_t finished = 0;
    for (int64_t p = -1; p < kp;
         p = p < 0 ? 0 : p + SCORE_PANEL) { /* the one that looks nearest, then the others */
        if (p >= 0 && !any_left(lows + p, best->high))
            continue;
        const int64_t from = p < 0 ? first : p, to = p < 0 ? first + 1 : p + SCORE_PANEL;
        for (int64_t j = from; j < to; j++) {
            if (p >= 0 && (j == first || !(lows[j] <= best->high)))
                continue;
            const float product = 2 * dot(x, centres + j * dim, dim), may = norm * c->spread[j];
            const float high = (c->high_norms[j] - product) + may;
            lows[j] = (c->low_norms[j] - product) - may;
            finished++;
            if (high < best->high || j == first) {
                best->high = high;
                best->index = (int32_t)j;
            }
        }
    }
    const float own = lows[best->index];
    float8 second = (float8){0} + INFINITY;
    lows[best->index] = INFINITY;
    for (int64_t j = 0; j < kp; j += 8)
        second = lower(second, load8(lows + j));
    lows[best->index] = own;
    best->second = INFINITY;
    for (int l = 0; l < 8; l++)
        best->second = second[l] < best->second ? second[l] : best->second;
    return finished;
}

float cpu_score_norm(const float *x, int64_t dim)
{
    return at_least(sqrt((double)dot(x, x, dim) * (1 + 2 * product_error(dim)) + (double)dim * 0x1p-125));
}
