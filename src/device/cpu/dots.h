/* Dot products of rows that lie contiguous, in float: a tile of 3 rows of x by 4 of w takes 7 loads for 12
 * fused multiply-adds and the 16 vector registers. Every sum runs over 8 lanes in the same order wherever its
 * rows stand in a tile: a chain of k/8 additions, 3 to join the lanes, and one for each element beyond. */
#ifndef SC_DEVICE_CPU_DOTS_H
#define SC_DEVICE_CPU_DOTS_H

#include "device/cpu/rows.h"
#include "device/cpu/tile.h"

enum { TILE_ROWS = 3, WEIGHT_ROWS = 4 };

typedef uint16_t half8_loose __attribute__((vector_size(16), aligned(2), may_alias));
typedef uint32_t word8 __attribute__((vector_size(32)));

static inline __attribute__((always_inline)) float8 load8_as(const void *p, dtype type, int64_t i)
{
    if (type == DTYPE_F32)
        return load8((const float *)p + i);
    return (float8)(__builtin_convertvector(*(const half8_loose *)((const uint16_t *)p + i), word8) << 16);
}

static inline __attribute__((always_inline)) float load1_as(const void *p, dtype type, int64_t i)
{
    return type == DTYPE_F32 ? ((const float *)p)[i] : bf16_to_f32(((const uint16_t *)p)[i]);
}

static inline float sum8(float8 v)
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* out[r][i] = dot of row i of x with row r of w, for `lines` rows of w. Where `fetch`, the four rows of w that begin `ahead`
 * rows further on are asked for meanwhile: memory then works while x's other rows are multiplied. */
static inline __attribute__((always_inline)) void dots(const int m, const int lines, int64_t k, const void *x,
                                                       dtype x_type, int64_t ldx, const void *w, dtype w_type,
                                                       int64_t ldw, const bool fetch, int64_t ahead,
                                                       float out[WEIGHT_ROWS][TILE_ROWS])
{
    float8 sums[WEIGHT_ROWS][TILE_ROWS];
    int64_t p = 0;
#pragma GCC unroll 4
    for (int r = 0; r < lines; r++)
#pragma GCC unroll 3
        for (int i = 0; i < m; i++)
            sums[r][i] = (float8){0};
    for (; p + 8 <= k; p += 8) {
        float8 xs[TILE_ROWS];
#pragma GCC unroll 3
        for (int i = 0; i < m; i++)
            xs[i] = load8_as(x, x_type, i * ldx + p);
        if (fetch) { /* two rows now, the other two eight values later: once a line of floats */
            const int64_t row = ahead + (p & 8) / 4;
            __builtin_prefetch(at_const(w, w_type, row * ldw + p));
            __builtin_prefetch(at_const(w, w_type, (row + 1) * ldw + p));
        }
#pragma GCC unroll 4
        for (int r = 0; r < lines; r++) {
            float8 ws = load8_as(w, w_type, r * ldw + p);
#pragma GCC unroll 3
            for (int i = 0; i < m; i++)
                sums[r][i] += ws * xs[i];
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < lines; r++)
#pragma GCC unroll 3
        for (int i = 0; i < m; i++) {
            float total = sum8(sums[r][i]);
            for (int64_t q = p; q < k; q++)
                total += load1_as(x, x_type, i * ldx + q) * load1_as(w, w_type, r * ldw + q);
            out[r][i] = total;
        }
}

#endif
