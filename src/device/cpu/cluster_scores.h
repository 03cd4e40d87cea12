/* The float side of cluster_assign.c: products of rows with all centres, and what their rounding leaves open.
 *
 * With t = |c|^2 - 2 x.c, a row's squared distance to a centre less |x|^2, every product gives two numbers,
 * low <= t <= high. A dot product in float is off by at most gamma |x||c|,
 * gamma = m u / (1 - m u), m the longest chain of additions (Higham 2002, 3.1). So a centre whose low is above another's high is not the
 * nearest one. Each centre has an error of its own: one that lies far off does not blur the others.
 *
 * A product may stop after the first `depth` columns: what the others add is at most the product of both rests' lengths
 * (Cauchy and Schwarz), which widens low and high. Where the leading columns tell most, few centres are left of a row, and
 * only to these the product goes on. */
#ifndef SC_DEVICE_CPU_CLUSTER_SCORES_H
#define SC_DEVICE_CPU_CLUSTER_SCORES_H

#include <stdint.h>

enum { SCORE_PANEL = 16, SCORE_TILE = 6, SCORE_ROWS = 48 };

static inline int64_t score_padded(int64_t k)
{
    return (k + SCORE_PANEL - 1) / SCORE_PANEL * SCORE_PANEL;
}

/* The centres, as the products want them: low = low_norms - 2 x.c - |x| spread, high likewise. */
typedef struct score_centres {
    int64_t k, dim, depth;
    float *panels;                 /* [padded k / PANEL][dim][PANEL] */
    float *low_norms, *high_norms; /* [padded k] about |c|^2; infinite where there is no centre */
    float *spread;                 /* [padded k] */
    float *rests;                  /* [padded k] 2 |c| beyond the first depth columns, at most */
    double largest;                /* |c| at most */
} score_centres;

typedef struct score_best {
    float high;    /* the lowest high, */
    int32_t index; /* and whose it is; any of several */
    float second;  /* the second lowest low */
} score_best;

/* Fills *c, whose arrays and sizes stand, from centres [k][dim]; depth is dim. */
void cpu_score_prepare(score_centres *c, const float *centres);
/* Products are to stop after so many columns, or, with dim, not any more. */
void cpu_score_set_depth(score_centres *c, const float *centres, int64_t depth);
/* Products with rows and centres of such lengths stay inside of float. */
static inline int score_in_range(const score_centres *c, double norm)
{
    return norm * c->largest < 1e36 && c->largest < 1e18 && norm < 1e18;
}
/* Up to SCORE_ROWS rows, norms[r] >= |x[r]|. Out: lows [count][padded k], best [count]. n_ahead floats at `ahead` are
 * fetched into the cache meanwhile. */
void cpu_score_rows(const score_centres *c, int count, const float *const *x, const float *norms, float *lows,
                    score_best *best, const float *ahead, int64_t n_ahead);
/* After products that stopped: goes on with the centres that are left of one row, and brings its lows and best to what
 * whole products say. Returns with how many it went on. */
int64_t cpu_score_finish(const score_centres *c, const float *centres, const float *x, float norm,
                         float *lows, score_best *best);
/* The high of one centre, which stands at `centre` as a row. */
float cpu_score_one(const score_centres *c, const float *x, float norm, const float *centre, int64_t index);
/* |x| at most. */
float cpu_score_norm(const float *x, int64_t dim);

#endif
