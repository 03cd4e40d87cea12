/* Dot products of rows with a panel, one or two registers of vectors that lie transposed ([depth][width]), in float: 6 rows
 * by 16 fill 12 of AVX2's 16 registers, and a step takes 8 loads for 12 fused multiply-adds; 12 rows by 32 fill 24 of
 * AVX-512's 32, with 14 loads for 24. A sum is begun anew every PANEL_RUN columns, so its rounding is that of a chain of
 * PANEL_RUN + dim / PANEL_RUN additions, wherever a row stands. */
#ifndef SC_DEVICE_CPU_PANEL_H
#define SC_DEVICE_CPU_PANEL_H

#include <stdbool.h>

#include "device/cpu/tile.h"

/* A slice of columns of two registers is 20 kB. */
enum {
    PANEL_ROWS = LANES == 8 ? 6 : 12,
    PANEL_RUN = 80,
    PANEL_SLICE = LANES == 8 ? 4 * PANEL_RUN : 2 * PANEL_RUN
};

/* The additions that a product may pass through, and the product's own rounding. */
static inline double panel_chain(int64_t dim)
{
    return PANEL_RUN + (double)dim / PANEL_RUN + 2;
}

/* dots [rows][LANES * vectors] = or += products over columns at .. at + depth - 1 of x; `rows` and `vectors` are constants
 * where it is called. */
static inline __attribute__((always_inline)) void panel_tile(const int rows, const int vectors, int64_t depth,
                                                             const float *const *x, int64_t at,
                                                             const float *panel, float *dots)
{
    const int64_t width = LANES * (int64_t)vectors;
    const float *from[PANEL_ROWS];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
        from[r] = x[r] + at;
    for (int64_t first = 0; first < depth; first += PANEL_RUN) {
        const int64_t end = depth - first < PANEL_RUN ? depth : first + PANEL_RUN;
        floats sums[PANEL_ROWS][2];
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sums[r][v] = (floats){0};
        for (int64_t d = first; d < end; d++) {
            floats across[2];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                across[v] = load_floats(panel + d * width + LANES * v);
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++) {
                const float value = from[r][d];
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++)
                    sums[r][v] += value * across[v];
            }
        }
        const bool begins = at + first == 0;
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) {
                float *to = dots + r * width + LANES * v;
                store_floats(to, begins ? sums[r][v] : load_floats(to) + sums[r][v]);
            }
    }
}

static inline __attribute__((always_inline)) void panel_rows(int rows, const int vectors, int64_t depth,
                                                             const float *const *x, int64_t at,
                                                             const float *panel, float *dots)
{
    switch (rows) {
#ifdef __AVX512F__
    case 12:
        panel_tile(12, vectors, depth, x, at, panel, dots);
        break;
    case 11:
        panel_tile(11, vectors, depth, x, at, panel, dots);
        break;
    case 10:
        panel_tile(10, vectors, depth, x, at, panel, dots);
        break;
    case 9:
        panel_tile(9, vectors, depth, x, at, panel, dots);
        break;
    case 8:
        panel_tile(8, vectors, depth, x, at, panel, dots);
        break;
    case 7:
        panel_tile(7, vectors, depth, x, at, panel, dots);
        break;
#endif
    case 6:
        panel_tile(6, vectors, depth, x, at, panel, dots);
        break;
    case 5:
        panel_tile(5, vectors, depth, x, at, panel, dots);
        break;
    case 4:
        panel_tile(4, vectors, depth, x, at, panel, dots);
        break;
    case 3:
        panel_tile(3, vectors, depth, x, at, panel, dots);
        break;
    case 2:
        panel_tile(2, vectors, depth, x, at, panel, dots);
        break;
    default:
        panel_tile(1, vectors, depth, x, at, panel, dots);
        break;
    }
}

#endif
