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
static double chain_error(double chain)
{
    const double u = (chain + 4) * 0x1p-24;
    return u < 0.5 ? u / (1 - u) : INFINITY;
}

static double product_error(int64_t dim)
{
    const double panel = panel_chain(dim), row = (double)dim / (4 * LANES) + 4 * LANES + 8;
    return chain_error(panel < row ? row : panel);
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

/* The length whose square was summed with such an error, at most. */
static double rest_length(float square, double error, int64_t dim)
{
    return sqrt((double)square * (1 + 2 * error) + (double)dim * 0x1p-125);
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
            const double may = 8 * 0x1p-24 * norm2 + (double)dim * 0x1p-123;
            c->low_norms[l] = l < k ? at_most(norm2 - may) : INFINITY;
            c->high_norms[l] = l < k ? at_least(norm2 + may) : INFINITY;
            c->spread[l] = l < k ? at_least(2 * product_error(dim) * sqrt(norm2)) : 0;
            largest = norm2 > largest ? norm2 : largest;
        }
    c->largest = sqrt(largest);
    c->depth = dim;
    c->rounded = false;
    memset(c->rests, 0, (size_t)kp * sizeof *c->rests);
}

void cpu_score_set_depth(score_centres *c, const float *centres, int64_t depth)
{
    c->depth = depth;
    c->rounded = false;
#pragma omp parallel for schedule(static) num_threads(cpu_team(c->k *(c->dim - depth), c->k))
    for (int64_t j = 0; j < c->k; j++) {
        double norm2 = 0;
        for (int64_t d = depth; d < c->dim; d++)
            norm2 += (double)centres[j * c->dim + d] * (double)centres[j * c->dim + d];
        /* and the rounding of its product with a row's rest */
        c->rests[j] = at_least(2 * sqrt(norm2) * (1 + 0x1p-20));
    }
}

/* With x' and c' for x and c rounded, x.c - x'.c' = x.(c - c') + (x - x').c', and |x'|, |c'| are longer by 2^-8 at most. */
void cpu_score_set_rounded(score_centres *c, const float *centres)
{
    const int64_t kp = score_padded(c->k), dim = c->dim;
    const double error = chain_error(score_rounded_chain(dim));
    c->depth = dim;
    c->rounded = true;
#pragma omp parallel for schedule(static) num_threads(cpu_team(kp *dim, (kp + SCORE_WIDE - 1) / SCORE_WIDE))
    for (int64_t j = 0; j < kp; j += SCORE_WIDE) {
        const int64_t n = c->k - j < SCORE_WIDE ? c->k - j : SCORE_WIDE;
        float rest2[SCORE_WIDE];
        amx_score_pack(c->pairs + j * score_rounded_dim(dim) / 2, rest2, centres + j * dim, n, dim);
        for (int64_t l = j; l < j + SCORE_WIDE && l < kp; l++) {
            const double norm = l < c->k ? sqrt((double)c->high_norms[l]) : 0;
            const double rest = rest_length(rest2[l - j], error, dim);
            c->blur[l] = l < c->k ? at_least(2 * (rest + error * (1 + 0x1p-6) * norm) * (1 + 0x1p-20)) : 0;
            c->rests[l] = at_least(2 * norm * (1 + 0x1p-7));
        }
    }
}

static void tile_rows(int rows, int64_t depth, const float *const *x, int64_t at, const float *panel,
                      float *dots)
{
    panel_rows(rows, SCORE_PANEL / LANES, depth, x, at, panel, dots);
}

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

static inline __attribute__((always_inline)) void see(const score_centres *c, score_lanes *seen, float norm,
                                                      float rest, const float *dots, int64_t first,
                                                      float *lows)
{
    const int8v steps = {0, 1, 2, 3, 4, 5, 6, 7};
    float8 high = load8(seen->high), low = load8(seen->low), second = load8(seen->second);
    int8v index;
    memcpy(&index, seen->index, sizeof index);
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
    store8(seen->high, high);
    store8(seen->low, low);
    store8(seen->second, second);
    memcpy(seen->index, &index, sizeof index);
}

static score_best best_of(const score_lanes *seen)
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

/* The next rows, on their way into the cache: a share of them with each of so many tiles. */
typedef struct prefetch {
    const float *at, *end;
    int64_t share;
} prefetch;

static prefetch prefetch_by(int64_t tiles, const float *ahead, int64_t n)
{
    return (prefetch){ahead, ahead + n, (n / LINE + tiles) / tiles * LINE};
}

static inline void fetch(prefetch *p)
{
    for (int64_t l = 0; l < p->share && p->at < p->end; l += LINE, p->at += LINE)
        __builtin_prefetch(p->at, 0, 2);
}

/* A block of rows, and what each of them has seen. */
typedef struct scored {
    int count;
    const float *const *x, *norms;
    float rests[SCORE_ROWS], *lows;
    score_lanes seen[SCORE_ROWS];
} scored;

static void score_floats(const score_centres *c, scored *b, const float *ahead, int64_t n_ahead)
{
    const int64_t kp = score_padded(c->k), depth = c->depth;
    const int64_t slice = PANEL_SLICE, slices = (depth + slice - 1) / slice;
    prefetch next =
        prefetch_by((b->count + PANEL_ROWS - 1) / PANEL_ROWS * slices * (kp / SCORE_PANEL), ahead, n_ahead);
    float dots[SCORE_ROWS * SCORE_PANEL];
    for (int r = 0; r < b->count; r++)
        b->rests[r] = rest_of(c, b->x[r], b->norms[r]);
    for (int64_t j = 0; j < kp; j += SCORE_PANEL) {
        for (int64_t at = 0; at < depth; at += slice) {
            const int64_t columns = depth - at < slice ? depth - at : slice;
            const float *panel = c->panels + j * c->dim + at * SCORE_PANEL;
            for (int r = 0; r < b->count; r += PANEL_ROWS) {
                fetch(&next);
                tile_rows(b->count - r < PANEL_ROWS ? b->count - r : PANEL_ROWS, columns, b->x + r, at, panel,
                          dots + r * SCORE_PANEL);
            }
        }
        for (int r = 0; r < b->count; r++)
            see(c, b->seen + r, b->norms[r], b->rests[r], dots + r * SCORE_PANEL, j, b->lows + r * kp + j);
    }
}

static void score_rounded(const score_centres *c, scored *b, uint16_t *rounded, const float *ahead,
                          int64_t n_ahead)
{
    const int64_t kp = score_padded(c->k), dim = c->dim;
    const double error = chain_error(score_rounded_chain(dim));
    prefetch next = prefetch_by((kp + SCORE_WIDE - 1) / SCORE_WIDE, ahead, n_ahead);
    float dots[2 * SCORE_WIDE * SCORE_WIDE]; /* score_rounded_rows(SCORE_ROWS) */
    amx_score_round(rounded, b->rests, b->x, b->count, dim);
    for (int r = 0; r < b->count; r++)
        b->rests[r] = at_least(rest_length(b->rests[r], error, dim));
    for (int64_t j = 0; j < kp; j += SCORE_WIDE) {
        fetch(&next);
        amx_score_dots(dots, rounded, b->count, c->pairs + j * score_rounded_dim(dim) / 2, dim);
        for (int64_t v = 0; v < SCORE_WIDE && j + v < kp; v += SCORE_PANEL)
            amx_score_see(c, j + v, b->count, dots + v, b->norms, b->rests, b->lows, b->seen);
    }
}

void cpu_score_rows(const score_centres *c, int count, const float *const *x, const float *norms, float *lows,
                    uint16_t *rounded, score_best *best, const float *ahead, int64_t n_ahead)
{
    scored block;
    block.count = count;
    block.x = x;
    block.norms = norms;
    block.lows = lows;
    for (int r = 0; r < count; r++)
        for (int l = 0; l < SCORE_PANEL; l++) {
            block.seen[r].high[l] = block.seen[r].low[l] = block.seen[r].second[l] = INFINITY;
            block.seen[r].index[l] = 0;
        }
    if (c->rounded)
        score_rounded(c, &block, rounded, ahead, n_ahead);
    else
        score_floats(c, &block, ahead, n_ahead);
    for (int r = 0; r < count; r++)
        best[r] = c->rounded ? amx_score_best(block.seen + r) : best_of(block.seen + r);
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

/* The whole product with centre j, which may turn out to be the best one, and `takes` the place of what was there. */
static void finish(const score_centres *c, const float *centres, const float *x, float norm, int64_t j,
                   bool takes, float *lows, score_best *best)
{
    const float product = 2 * dot(x, centres + j * c->dim, c->dim), may = norm * c->spread[j];
    const float high = (c->high_norms[j] - product) + may;
    lows[j] = (c->low_norms[j] - product) - may;
    if (high < best->high || takes) {
        best->high = high;
        best->index = (int32_t)j;
    }
}

int64_t cpu_score_finish(const score_centres *c, const float *centres, const float *x, float norm,
                         float *lows, score_best *best)
{
    const int64_t kp = score_padded(c->k), first = best->index;
    int64_t finished = 1;
    finish(c, centres, x, norm, first, true, lows, best); /* the one that looks nearest, then the others */
    for (int64_t p = 0; p < kp; p += SCORE_PANEL) {
        if (!any_left(lows + p, best->high))
            continue;
        int64_t left[SCORE_PANEL];
        int n = 0;
        for (int64_t j = p; j < p + SCORE_PANEL; j++) {
            left[n] = j;
            n += lows[j] <= best->high && j != first;
        }
        for (int q = 0; q < n; q++)
            if (lows[left[q]] <= best->high) {
                finish(c, centres, x, norm, left[q], false, lows, best);
                finished++;
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
