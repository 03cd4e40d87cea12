/* tile.cuh: products of rows of floats on the tensor cores, as accurate as a float product.
 *
 * A float is split into two TF32 numbers, x = hi + lo + rest, |lo| <= 2^-11 |x|, |rest| <= 2^-22 |x|, and
 * x w = hi hi + (hi lo + lo hi) up to 3 2^-22 |x w|: three products on the tensor cores in place of one that they do
 * not have (Ootomo and Yokota 2022). Those cut the sum of 8 products and the accumulator off at its 24th bit, an error of
 * up to 9 2^-23 of the largest (Fasi et al. 2021); so the small terms are summed first, the sums of TILE_K products are
 * added to the total by the ordinary adder, and the whole is within
 *
 *     tile_error(dim) |x| |w|,    tile_error = (dim / 16 + 48) 2^-24,
 *
 * of exact. One block of 256 threads computes TILE_M x TILE_N products; its 8 warps stand 4 by 2, each over 32 x 32.
 * Rows reach shared memory by asynchronous copies, STAGES - 1 tiles ahead. */
#ifndef SC_KERNELS_TILE_CUH
#define SC_KERNELS_TILE_CUH

#include "portable.cuh"

enum { TILE_M = 128, TILE_N = 64, TILE_K = 16, TILE_STAGES = 3, TILE_THREADS = 256 };
/* 20 floats a row: the 8 rows x 4 columns of a fragment lie in 32 different banks. */
enum { TILE_PITCH = TILE_K + 4, WARP_M = 32, WARP_N = 32, M16 = WARP_M / 16, N8 = WARP_N / 8 };

struct tile_buffers {
    float x[TILE_STAGES][TILE_M][TILE_PITCH];
    float w[TILE_STAGES][TILE_N][TILE_PITCH];
};

/* Thread's share of the products: at[i][j][e] is row tile_row(i, e), column tile_column(j, e) of the tile. */
struct tile_sums {
    float at[M16][N8][4];
};

/* Rows of floats, `dim` apart. */
struct tile_rows {
    const float *rows;
    int64_t n;
};

static inline __host__ __device__ double tile_error(int64_t dim)
{
    return ((double)dim / TILE_K + 48) * 0x1p-24;
}

/* 16-byte copies need rows that begin at multiples of 16 bytes. */
static inline bool tile_vectors(const float *x, const float *w, int64_t dim)
{
    return dim % 4 == 0 && ((uintptr_t)x | (uintptr_t)w) % 16 == 0;
}

__device__ __forceinline__ int tile_row(int i, int e)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    return warp / 2 * WARP_M + i * 16 + lane / 4 + e / 2 * 8;
}

__device__ __forceinline__ int tile_column(int j, int e)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    return warp % 2 * WARP_N + j * 8 + lane % 4 * 2 + e % 2;
}

/* Columns k .. k + TILE_K - 1 of `count` rows from `first`; zeros outside. */
template <bool VECTORS, int COUNT>
__device__ __forceinline__ void tile_load(float (*to)[TILE_PITCH], tile_rows from, int64_t first, int64_t dim,
                                          int64_t k)
{
    const int width = VECTORS ? 4 : 1, per_row = TILE_K / width;
    for (int i = (int)threadIdx.x; i < COUNT * per_row; i += TILE_THREADS) {
        const int row = i / per_row, column = i % per_row * width;
        const bool wanted = first + row < from.n && k + column < dim;
        const float *at = wanted ? from.rows + (first + row) * dim + k + column : from.rows;
        if (VECTORS)
            copy_async16(&to[row][column], at, wanted);
        else
            copy_async4(&to[row][column], at, wanted);
    }
}

struct split_float {
    unsigned hi, lo;
};

__device__ __forceinline__ split_float split(float v)
{
    split_float s;
    s.hi = to_tf32(v);
    s.lo = to_tf32(v - __uint_as_float(s.hi));
    return s;
}

/* One TILE_K of products, added to the sums. LENGTHS: lengths[i][h] += the squares of row i * 16 + h * 8 + lane / 4, of
 * the columns that this thread meets; those of four neighbouring lanes are a row's. */
template <bool LENGTHS>
__device__ __forceinline__ void tile_multiply(tile_sums &sums, float (&lengths)[M16][2],
                                              const float (*x)[TILE_PITCH], const float (*w)[TILE_PITCH])
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, group = lane / 4, quad = lane % 4;
    const int row = warp / 2 * WARP_M + group, column = warp % 2 * WARP_N + group;
    unsigned a_hi[2][M16][4], b_hi[2][N8][2];
    tile_sums part;
    for (int i = 0; i < M16; i++)
        for (int j = 0; j < N8; j++)
            for (int e = 0; e < 4; e++)
                part.at[i][j][e] = 0;
#pragma unroll
    for (int k = 0; k < 2; k++) {
        unsigned a_lo[M16][4], b_lo[N8][2];
#pragma unroll
        for (int i = 0; i < M16; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float v = x[row + i * 16 + e % 2 * 8][k * 8 + quad + e / 2 * 4];
                const split_float s = split(v);
                a_hi[k][i][e] = s.hi;
                a_lo[i][e] = s.lo;
                if (LENGTHS)
                    lengths[i][e % 2] += v * v;
            }
#pragma unroll
        for (int j = 0; j < N8; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const split_float s = split(w[column + j * 8][k * 8 + quad + e * 4]);
                b_hi[k][j][e] = s.hi;
                b_lo[j][e] = s.lo;
            }
#pragma unroll
        for (int i = 0; i < M16; i++)
#pragma unroll
            for (int j = 0; j < N8; j++) {
                mma_tf32_1688(part.at[i][j], a_lo[i], b_hi[k][j]);
                mma_tf32_1688(part.at[i][j], a_hi[k][i], b_lo[j]);
            }
    }
#pragma unroll
    for (int i = 0; i < M16; i++)
#pragma unroll
        for (int j = 0; j < N8; j++) {
            mma_tf32_1688(part.at[i][j], a_hi[0][i], b_hi[0][j]);
            mma_tf32_1688(part.at[i][j], a_hi[1][i], b_hi[1][j]);
#pragma unroll
            for (int e = 0; e < 4; e++)
                sums.at[i][j][e] += part.at[i][j][e];
        }
}

/* sums = rows first_x .. of x times rows first_w .. of w. Every thread of the block takes part, and the block has to meet
 * before the next product, which fills the buffers anew. */
template <bool VECTORS, bool LENGTHS>
__device__ __forceinline__ void tile_products(tile_buffers &buffers, tile_sums &sums,
                                              float (&lengths)[M16][2], tile_rows x, int64_t first_x,
                                              tile_rows w, int64_t first_w, int64_t dim)
{
    const int64_t steps = (dim + TILE_K - 1) / TILE_K;
    for (int i = 0; i < M16; i++)
        for (int j = 0; j < N8; j++)
            for (int e = 0; e < 4; e++)
                sums.at[i][j][e] = 0;
    for (int64_t step = 0; step < TILE_STAGES - 1; step++) {
        if (step < steps) {
            tile_load<VECTORS, TILE_M>(buffers.x[step], x, first_x, dim, step * TILE_K);
            tile_load<VECTORS, TILE_N>(buffers.w[step], w, first_w, dim, step * TILE_K);
        }
        copy_async_commit();
    }
    for (int64_t step = 0; step < steps; step++) {
        copy_async_wait<TILE_STAGES - 2>();
        __syncthreads(); /* all copies have arrived, and all warps are done with the stage filled next */
        const int64_t ahead = step + TILE_STAGES - 1;
        if (ahead < steps) {
            tile_load<VECTORS, TILE_M>(buffers.x[ahead % TILE_STAGES], x, first_x, dim, ahead * TILE_K);
            tile_load<VECTORS, TILE_N>(buffers.w[ahead % TILE_STAGES], w, first_w, dim, ahead * TILE_K);
        }
        copy_async_commit();
        tile_multiply<LENGTHS>(sums, lengths, buffers.x[step % TILE_STAGES], buffers.w[step % TILE_STAGES]);
    }
}

#endif
