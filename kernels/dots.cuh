/* dots.cuh: a tile of dot products in double between rows of two matrices, summed in the order of src/device/cpu/double.h:
 * four sums, of columns 0, 4, 8 ..., 1, 5, 9 ... and so on, joined as (s0 + s2) + (s1 + s3), and the columns that are left.
 *
 * A block of 256 threads stands 16 by 16, and every thread owns DOTS_DOWN x DOTS_ACROSS products, 16 rows apart. */
#ifndef SC_KERNELS_DOTS_CUH
#define SC_KERNELS_DOTS_CUH

#include "portable.cuh"

enum {
    DOTS_SIDE = 16,
    DOTS_DOWN = 2,
    DOTS_ACROSS = 4,
    DOTS_THREADS = DOTS_SIDE * DOTS_SIDE,
    DOTS_DEPTH = 16
};
enum { DOTS_ROWS = DOTS_SIDE * DOTS_DOWN, DOTS_LINES = DOTS_SIDE * DOTS_ACROSS, DOTS_PITCH = DOTS_DEPTH + 1 };

struct dots_buffers {
    double rows[DOTS_ROWS][DOTS_PITCH], lines[DOTS_LINES][DOTS_PITCH];
};

/* Rows [n], `pitch` elements apart, from `first`. */
template <class T> struct dots_rows {
    const T *at;
    int64_t pitch, first, n;
};

__device__ __forceinline__ int dots_row(int i)
{
    return (int)threadIdx.x / DOTS_SIDE + DOTS_SIDE * i;
}

__device__ __forceinline__ int dots_line(int j)
{
    return (int)threadIdx.x % DOTS_SIDE + DOTS_SIDE * j;
}

template <class T, int COUNT>
__device__ __forceinline__ void dots_load(double (*to)[DOTS_PITCH], const dots_rows<T> &from, int64_t k,
                                          int64_t column)
{
    for (int i = (int)threadIdx.x; i < COUNT * DOTS_DEPTH; i += DOTS_THREADS) {
        const int row = i / DOTS_DEPTH, c = i % DOTS_DEPTH;
        const bool inside = from.first + row < from.n && column + c < k;
        to[row][c] = inside ? (double)from.at[(from.first + row) * from.pitch + column + c] : 0.0;
    }
}

template <bool FUSED> __device__ __forceinline__ double dots_add(double sum, double a, double b)
{
    return FUSED ? __fma_rn(a, b, sum) : sum + a * b;
}

/* out[i][j] = row dots_row(i) of a . row dots_line(j) of b over k columns. Every thread of the block takes part; the
 * block need not meet before or after. FUSED: multiplications and additions are, for the sums of files that are compiled so
 * on the CPU. */
template <class T, bool FUSED>
__device__ __forceinline__ void dots_tile(dots_buffers &buffers, double (&out)[DOTS_DOWN][DOTS_ACROSS],
                                          const dots_rows<T> &a, const dots_rows<double> &b, int64_t k)
{
    double sums[DOTS_DOWN][DOTS_ACROSS][4];
    for (int i = 0; i < DOTS_DOWN; i++)
        for (int j = 0; j < DOTS_ACROSS; j++)
            for (int v = 0; v < 4; v++)
                sums[i][j][v] = 0;
    int left = 0, left_at = 0; /* columns that make no four, and where they stand in the last tile */
    for (int64_t column = 0; column < k; column += DOTS_DEPTH) {
        const int depth = k - column < DOTS_DEPTH ? (int)(k - column) : DOTS_DEPTH;
        __syncthreads(); /* the columns before have been used */
        dots_load<T, DOTS_ROWS>(buffers.rows, a, k, column);
        dots_load<double, DOTS_LINES>(buffers.lines, b, k, column);
        __syncthreads();
        left = depth % 4;
        left_at = depth - left;
        for (int c = 0; c < left_at; c += 4)
#pragma unroll
            for (int v = 0; v < 4; v++)
#pragma unroll
                for (int i = 0; i < DOTS_DOWN; i++)
#pragma unroll
                    for (int j = 0; j < DOTS_ACROSS; j++)
                        sums[i][j][v] = dots_add<FUSED>(sums[i][j][v], buffers.rows[dots_row(i)][c + v],
                                                        buffers.lines[dots_line(j)][c + v]);
    }
    for (int i = 0; i < DOTS_DOWN; i++)
        for (int j = 0; j < DOTS_ACROSS; j++) {
            double total = (sums[i][j][0] + sums[i][j][2]) + (sums[i][j][1] + sums[i][j][3]);
            for (int c = left_at; c < left_at + left; c++)
                total = dots_add<FUSED>(total, buffers.rows[dots_row(i)][c], buffers.lines[dots_line(j)][c]);
            out[i][j] = total;
        }
}

#endif
