/* The float side of cluster_assign.c: products of rows with all centres, and what their rounding leaves open.
 *
 * With t = |c|^2 - 2 x.c, a row's squared distance to a centre less |x|^2, every product gives two numbers,
 * low <= t <= high. A dot product in float is off by at most gamma |x||c|,
 * gamma = m u / (1 - m u), m the longest chain of additions (Higham 2002, 3.1). So a centre whose low is above another's high is not the
 * nearest one. Each centre has an error of its own: one that lies far off does not blur the others.
 *
 * A product may be coarse: it stops after the first `depth` columns, or, on a processor with AMX, is that of rows and centres
 * rounded to bf16, which is many times as fast. What is left out is at most the product of both rests' lengths (Cauchy and
 * Schwarz), which widens low and high. Few centres are then left of a row, as a rule, and only to these whole products are
 * made. */
#ifndef SC_DEVICE_CPU_CLUSTER_SCORES_H
#define SC_DEVICE_CPU_CLUSTER_SCORES_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SCORE_PANEL = 16,
    SCORE_TILE = 6,
    SCORE_ROWS = 48,
    SCORE_WIDE = 32 /* rows and centres of a block of bf16 */
};

static inline int64_t score_padded(int64_t k)
{
    return (k + SCORE_PANEL - 1) / SCORE_PANEL * SCORE_PANEL;
}

/* Columns and rows of bf16 are padded to whole steps of AMX. */
static inline int64_t score_rounded_dim(int64_t dim)
{
    return (dim + 31) / 32 * 32;
}

static inline int64_t score_rounded_rows(int64_t count)
{
    return (count + 31) / 32 * 32;
}

/* The centres, as the products want them: low = low_norms - 2 x.c - |x| spread, high likewise. */
typedef struct score_centres {
    int64_t k, dim, depth;
    bool rounded;    /* products are those of bf16 */
    float *panels;   /* [padded k / PANEL][dim][PANEL] */
    uint32_t *pairs; /* of bf16, [k / WIDE, upwards] panels of amx_score_pack; NULL without AMX */
    float *low_norms, *high_norms; /* [padded k] about |c|^2; infinite where there is no centre */
    float *spread;                 /* [padded k] */
    float *blur;                   /* [padded k] the spread of products of bf16 */
    float *rests;                  /* [padded k] 2 |c| times what is left out of a row, at most */
    double largest;                /* |c| at most */
} score_centres;

/* The longest chain of additions behind a product of bf16, 16 pairs of columns in a step, and behind the sum of squares of what
 * rounding took. */
static inline double score_rounded_chain(int64_t dim)
{
    return 18 + (double)score_rounded_dim(dim) / 32;
}

static inline bool score_coarse(const score_centres *c)
{
    return c->rounded || c->depth < c->dim;
}

typedef struct score_best {
    float high;    /* the lowest high, */
    int32_t index; /* and whose it is; any of several */
    float second;  /* the second lowest low */
} score_best;

/* What a row has seen so far: the l-th of every 16 centres in lane l, or of every 8 in the first 8 lanes. */
typedef struct score_lanes {
    float high[SCORE_PANEL], low[SCORE_PANEL],
        second[SCORE_PANEL];    /* the lowest high, the two lowest lows, */
    int32_t index[SCORE_PANEL]; /* and whose the lowest high is */
} score_lanes;

/* Fills *c, whose arrays and sizes stand, from centres [k][dim]; depth is dim. */
void cpu_score_prepare(score_centres *c, const float *centres);
/* Products are to stop after so many columns, or, with dim, not any more. */
void cpu_score_set_depth(score_centres *c, const float *centres, int64_t depth);
/* Products are to be those of bf16: where c->pairs is not NULL. */
void cpu_score_set_rounded(score_centres *c, const float *centres);
/* Products with rows and centres of such lengths stay inside of float. */
static inline int score_in_range(const score_centres *c, double norm)
{
    return norm * c->largest < 1e36 && c->largest < 1e18 && norm < 1e18;
}
/* Up to SCORE_ROWS rows, norms[r] >= |x[r]|. Out: lows [count][padded k], best [count]. Scratch: rounded [score_rounded_rows(count)][rounded
 * dim], for products of bf16. n_ahead floats at `ahead` are fetched into the cache meanwhile. */
void cpu_score_rows(const score_centres *c, int count, const float *const *x, const float *norms, float *lows,
                    uint16_t *rounded, score_best *best, const float *ahead, int64_t n_ahead);
/* After coarse products: goes on with the centres that are left of one row, and brings its lows and best to what
 * whole products say. Returns with how many it went on. */
int64_t cpu_score_finish(const score_centres *c, const float *centres, const float *x, float norm,
                         float *lows, score_best *best);
/* The high of one centre, which stands at `centre` as a row. */
float cpu_score_one(const score_centres *c, const float *x, float norm, const float *centre, int64_t index);
/* |x| at most. */
float cpu_score_norm(const float *x, int64_t dim);

/* --- cluster_scores_amx.c, where cpu_has_amx() -------------------------------------------------------------- */

/* A panel of up to SCORE_WIDE centres [n][dim] as pairs of bf16, SCORE_WIDE rounded dim / 2 of them in an order of its own; rest2[j] is about |c|^2 of what
 * rounding took, summed by chains of score_rounded_chain additions at most. */
void amx_score_pack(uint32_t *pairs, float *rest2, const float *centres, int64_t n, int64_t dim);
/* Rows x[r] [dim] as bf16, [score_rounded_rows(count)][rounded dim] in an order of its own; rest2 [count] as above. */
void amx_score_round(uint16_t *rounded, float *rest2, const float *const *x, int64_t count, int64_t dim);
/* dots [score_rounded_rows(count)][SCORE_WIDE] of such rows with a panel. */
void amx_score_dots(float *dots, const uint16_t *rounded, int64_t count, const uint32_t *pairs, int64_t dim);
/* What rows see of the SCORE_PANEL centres from `first` on, by their dots [count][SCORE_WIDE]; rests[r] is what rounding took of a
 * row, at most. Out: those columns of lows [count][padded k], and seen [count]. */
void amx_score_see(const score_centres *c, int64_t first, int count, const float *dots, const float *norms,
                   const float *rests, float *lows, score_lanes *seen);
/* Of all lanes. */
score_best amx_score_best(const score_lanes *seen);

#endif
