/* Dot products of rows that lie contiguous, in float: a tile of 3 rows of x by 4 of w takes 7 loads for 12
 * fused multiply-adds and the 16 vector registers of AVX2, one of 6 by 4 takes 10 for 24 and AVX-512's 32. Every sum
 * runs over LANES lanes in the same order wherever its rows stand in a tile. */
#ifndef SC_DEVICE_CPU_DOTS_H
#define SC_DEVICE_CPU_DOTS_H

#include "device/cpu/rows.h"
#include "device/cpu/tile.h"

enum { TILE_ROWS = LANES == 8 ? 3 : 6, WEIGHT_ROWS = 4 };

typedef uint16_t halves_loose __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));

/* The additions that a product may pass through, and its own rounding: k / LANES in a lane, 3 or 4 to join the lanes, and
 * one for each of up to LANES - 1 elements beyond them. */
static inline double dots_chain(int64_t k)
{
    return (double)k / LANES + LANES + 4;
}

static inline __attribute__((always_inline)) floats load_as(const void *p, dtype type, int64_t i)
{
    if (type == DTYPE_F32)
        return load_floats((const float *)p + i);
    return (floats)(__builtin_convertvector(*(const halves_loose *)((const uint16_t *)p + i), words) << 16);
}

static inline __attribute__((always_inline)) float load1_as(const void *p, dtype type, int64_t i)
{
    return type == DTYPE_F32 ? ((const float *)p)[i] : bf16_to_f32(((const uint16_t *)p)[i]);
}

/* out[r][i] = dot of row i of x with row r of w, for `lines` rows of w. Where `fetch`, the four rows of w that begin `ahead`
 * rows further on are asked for meanwhile: memory then works while x's other rows are multiplied. */
static inline __attribute__((always_inline)) void dots(const int m, const int lines, int64_t k, const void *x,
                                                       dtype x_type, int64_t ldx, const void *w, dtype w_type,
                                                       int64_t ldw, const bool fetch, int64_t ahead,
                                                       float out[WEIGHT_ROWS][TILE_ROWS])
{
    floats sums[TILE_ROWS][WEIGHT_ROWS];
    int64_t p = 0;
#pragma GCC unroll 6
    for (int i = 0; i < m; i++)
#pragma GCC unroll 4
        for (int r = 0; r < WEIGHT_ROWS; r++)
            sums[i][r] = (floats){0};
    for (; p + LANES <= k; p += LANES) {
        floats xs[TILE_ROWS];
#pragma GCC unroll 6
        for (int i = 0; i < m; i++)
            xs[i] = load_as(x, x_type, i * ldx + p);
        if (fetch) { /* a line of floats: of AVX2's two steps each asks for two rows */
            for (int r = 0; r < LANES / 4; r++)
                __builtin_prefetch(at_const(w, w_type, (ahead + (p & 8) / 4 + r) * ldw + p));
        }
#pragma GCC unroll 4
        for (int r = 0; r < lines; r++) {
            floats ws = load_as(w, w_type, r * ldw + p);
#pragma GCC unroll 6
            for (int i = 0; i < m; i++)
                sums[i][r] += ws * xs[i];
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < m; i++) {
        float totals[WEIGHT_ROWS];
        sums4(sums[i], totals);
        for (int r = 0; r < lines; r++) {
            for (int64_t q = p; q < k; q++)
                totals[r] += load1_as(x, x_type, i * ldx + q) * load1_as(w, w_type, r * ldw + q);
            out[r][i] = totals[r];
        }
    }
}

#endif
