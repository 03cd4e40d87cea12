/* adapter.cuh: what the kernels of low-rank adapters share: their loads, the split of floats, the mask of dropout, and the
 * product of a narrow matrix with a small one.
 *
 * The matrices of an adapter are floats. A float is split into two TF32 numbers as in tile.cuh; a bf16 is one. So a product of a
 * bf16 and a float takes two products on the tensor cores, of two floats three, both right to 3 2^-22 of |x w|. What those
 * lose in their sums is kept small by adding up at most ADAPTER_DEPTH columns there and the rest by the ordinary adder:
 * over k columns the whole is within
 *
 *     (k / 16 + 160) 2^-24 |x| |w|
 *
 * of exact: 144 for eight or fewer products of the tensor cores in a chain, 9 2^-23 each, 12 for the split, and one for each sum
 * of the adder. */
#ifndef SC_KERNELS_ADAPTER_CUH
#define SC_KERNELS_ADAPTER_CUH

#include "launch.cuh"
#include "random.cuh"
#include "tile.cuh"
#include "vectors.cuh"

/* Rows of floats or bf16, activations or gradients: the big side of every product. */
struct wide_rows {
    void *at;
    int64_t n, width;
    bool vectors; /* rows begin at multiples of 16 bytes */
};

/* The matrix of an adapter, seen as [rank][width]: A is, B lies the other way. */
struct small_matrix {
    const float *at;
    int64_t rank_step, width_step;
};

/* Which elements dropout keeps; row_keys NULL: all. */
struct dropout_mask {
    const uint64_t *row_keys;
    uint32_t limit; /* an element is dropped whose number is below */
    float keep;     /* what the others are multiplied by */
    random_key key;
};

static inline wide_rows wide_of(const void *at, dtype type, int64_t n, int64_t width)
{
    const wide_rows rows = {(void *)at, n, width,
                            (uintptr_t)at % 16 == 0 && (size_t)width * dtype_size(type) % 16 == 0};
    return rows;
}

__device__ __forceinline__ bool dropped(const uint4 &numbers, int i, uint32_t limit)
{
    return (i == 0 ? numbers.x : i == 1 ? numbers.y : i == 2 ? numbers.z : numbers.w) < limit;
}

/* Rows first .. first + ROWS - 1, columns column .. column + COLUMNS - 1; zeros outside. */
template <int ROWS, int COLUMNS, int THREADS, class T, int PITCH>
__device__ __forceinline__ void load_wide(T (*to)[PITCH], const wide_rows &x, int64_t first, int64_t column)
{
    constexpr int width = vector_width<T>();
    const T *from = (const T *)x.at;
    if (x.vectors) {
        for (int i = (int)threadIdx.x; i < ROWS * (COLUMNS / width); i += THREADS) {
            const int row = i / (COLUMNS / width), c = i % (COLUMNS / width) * width;
            const bool wanted = first + row < x.n && column + c < x.width;
            copy_async16(&to[row][c], wanted ? from + (first + row) * x.width + column + c : from, wanted);
        }
        return;
    }
    for (int i = (int)threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
        const int row = i / COLUMNS, c = i % COLUMNS;
        const bool wanted = first + row < x.n && column + c < x.width;
        to[row][c] = wanted ? from[(first + row) * x.width + column + c] : (T)0;
    }
}

/* to[r * row_step + c * column_step] = element (first + r, column + c) of from [n][width]; zeros outside. */
template <int ROWS, int COLUMNS, int THREADS>
__device__ __forceinline__ void load_floats(float *to, int row_step, int column_step, const float *from,
                                            int64_t n, int64_t width, int64_t first, int64_t column)
{
    for (int i = (int)threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
        const int r = i / COLUMNS, c = i % COLUMNS;
        const bool wanted = first + r < n && column + c < width;
        copy_async4(&to[r * row_step + c * column_step],
                    wanted ? from + (first + r) * width + column + c : from, wanted);
    }
}

/* to[r][w] = element (rank r, width w) of the small matrix, RANKS x WIDTHS of them; neighbouring threads read what lies
 * side by side. ranks, width: how many there are. */
template <int RANKS, int WIDTHS, int THREADS>
__device__ __forceinline__ void load_small(float *to, int rank_pitch, int width_pitch, const small_matrix &m,
                                           int64_t ranks, int64_t width, int64_t rank, int64_t column)
{
    if (m.width_step == 1)
        load_floats<RANKS, WIDTHS, THREADS>(to, rank_pitch, width_pitch, m.at, ranks, width, rank, column);
    else
        load_floats<WIDTHS, RANKS, THREADS>(to, width_pitch, rank_pitch, m.at, width, ranks, column, rank);
}

/* Two neighbouring elements as TF32 numbers, hi + lo; bf16 have no lo. */
__device__ __forceinline__ void split_pair(unsigned (&hi)[2], unsigned (&lo)[2], const float *at)
{
    const float2 pair = *(const float2 *)at;
    const split_float first = split(pair.x), second = split(pair.y);
    hi[0] = first.hi;
    hi[1] = second.hi;
    lo[0] = first.lo;
    lo[1] = second.lo;
}

__device__ __forceinline__ void split_pair(unsigned (&hi)[2], unsigned (&lo)[2], const bf16 *at)
{
    const unsigned pair = *(const unsigned *)at;
    hi[0] = pair << 16;
    hi[1] = pair & 0xffff0000u;
    lo[0] = lo[1] = 0;
}

template <class T>
__device__ __forceinline__ void add_products(float (&sum)[4], const unsigned (&a_hi)[4],
                                             const unsigned (&a_lo)[4], const unsigned (&b_hi)[2],
                                             const unsigned (&b_lo)[2])
{
    if (sizeof(T) == 4)
        mma_tf32_1688(sum, a_lo, b_hi);
    mma_tf32_1688(sum, a_hi, b_lo);
    mma_tf32_1688(sum, a_hi, b_hi);
}

/* --- narrow [n][rank] times small [rank][width] --------------------------------------------------------- */

/* A block of 4 warps, 2 by 2, computes UP_ROWS x UP_COLUMNS, each warp 32 x 32. Which of the columns a lane's fragments hold
 * is free: they are laid so that a thread ends with 8 neighbouring columns of each of its 4 rows. */
enum { UP_THREADS = 128, UP_ROWS = 64, UP_COLUMNS = 64, UP_DEPTH = 16, UP_EACH = 8, UP_STAGES = 2 };
enum { UP_NARROW_PITCH = UP_DEPTH + 8, UP_SMALL_PITCH = UP_COLUMNS + 1 };

struct up_buffers {
    float narrow[UP_STAGES][UP_ROWS][UP_NARROW_PITCH];
    float small[UP_STAGES][UP_DEPTH][UP_SMALL_PITCH];
};

/* at[r][c]: row up_row(r), column up_column() + c of the tile */
struct up_sums {
    float at[4][UP_EACH];
};

__device__ __forceinline__ int up_row(int r)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    return warp / 2 * 32 + r * 8 + lane / 4;
}

__device__ __forceinline__ int up_column()
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    return warp % 2 * 32 + lane % 4 * UP_EACH;
}

__device__ __forceinline__ void up_load(up_buffers &buffers, int stage, const float *narrow, int64_t n,
                                        const small_matrix &m, int64_t width, int64_t rank, int64_t first,
                                        int64_t column, int64_t k)
{
    if (rank % 4 == 0 && (uintptr_t)narrow % 16 == 0)
        for (int i = (int)threadIdx.x; i < UP_ROWS * (UP_DEPTH / 4); i += UP_THREADS) {
            const int row = i / (UP_DEPTH / 4), c = i % (UP_DEPTH / 4) * 4;
            const bool wanted = first + row < n && k + c < rank;
            copy_async16(&buffers.narrow[stage][row][c],
                         wanted ? narrow + (first + row) * rank + k + c : narrow, wanted);
        }
    else
        load_floats<UP_ROWS, UP_DEPTH, UP_THREADS>(&buffers.narrow[stage][0][0], UP_NARROW_PITCH, 1, narrow,
                                                   n, rank, first, k);
    load_small<UP_DEPTH, UP_COLUMNS, UP_THREADS>(&buffers.small[stage][0][0], UP_SMALL_PITCH, 1, m, rank,
                                                 width, k, column);
}

__device__ __forceinline__ void up_multiply(up_sums &sums, const float (*narrow)[UP_NARROW_PITCH],
                                            const float (*small)[UP_SMALL_PITCH])
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, group = lane / 4, quad = lane % 4;
    const int column = warp % 2 * 32 + group / 2 * UP_EACH + group % 2;
    float part[2][4][4];
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            for (int e = 0; e < 4; e++)
                part[i][j][e] = 0;
#pragma unroll
    for (int k = 0; k < UP_DEPTH; k += 8) {
        unsigned a_hi[2][4], a_lo[2][4];
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                unsigned hi[2], lo[2];
                split_pair(hi, lo, &narrow[up_row(2 * i + half)][k + 2 * quad]);
                a_hi[i][half] = hi[0];
                a_hi[i][half + 2] = hi[1];
                a_lo[i][half] = lo[0];
                a_lo[i][half + 2] = lo[1];
            }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const split_float b0 = split(small[k + 2 * quad][column + 2 * j]);
            const split_float b1 = split(small[k + 2 * quad + 1][column + 2 * j]);
            const unsigned b_hi[2] = {b0.hi, b1.hi}, b_lo[2] = {b0.lo, b1.lo};
#pragma unroll
            for (int i = 0; i < 2; i++)
                add_products<float>(part[i][j], a_hi[i], a_lo[i], b_hi, b_lo);
        }
    }
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < UP_EACH; c++)
            sums.at[r][c] += part[r / 2][c / 2][r % 2 * 2 + c % 2];
}

/* sums = rows first .. of narrow [n][rank] times columns column .. of the small matrix. The block has to meet before the next
 * product. */
__device__ __forceinline__ void up_products(up_buffers &buffers, up_sums &sums, const float *narrow,
                                            int64_t n, const small_matrix &m, int64_t width, int64_t rank,
                                            int64_t first, int64_t column)
{
    const int64_t steps = blocks_of(rank, UP_DEPTH);
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < UP_EACH; c++)
            sums.at[r][c] = 0;
    up_load(buffers, 0, narrow, n, m, width, rank, first, column, 0);
    copy_async_commit();
    for (int64_t step = 0; step < steps; step++) {
        copy_async_wait<0>();
        __syncthreads(); /* the copies have arrived, and all warps are done with the stage filled next */
        if (step + 1 < steps)
            up_load(buffers, (int)((step + 1) % UP_STAGES), narrow, n, m, width, rank, first, column,
                    (step + 1) * UP_DEPTH);
        copy_async_commit();
        up_multiply(sums, buffers.narrow[step % UP_STAGES], buffers.small[step % UP_STAGES]);
    }
}

/* A thread's 8 columns of one row of x. */
template <class T>
__device__ __forceinline__ void load_eight(float (&to)[UP_EACH], const wide_rows &x, int64_t row,
                                           int64_t column)
{
    constexpr int width = vector_width<T>();
    const T *from = (const T *)x.at + row * x.width + column;
#pragma unroll
    for (int c = 0; c < UP_EACH; c += width) {
        float values[width];
        if (x.vectors && row < x.n && column + c < x.width)
            unpack(values, *(const uint4 *)(from + c));
        else
#pragma unroll
            for (int i = 0; i < width; i++)
                values[i] = !x.vectors && row < x.n && column + c + i < x.width ? to_float(from[c + i]) : 0;
#pragma unroll
        for (int i = 0; i < width; i++)
            to[c + i] = values[i];
    }
}

template <class T>
__device__ __forceinline__ void store_eight(const wide_rows &x, int64_t row, int64_t column,
                                            const float (&from)[UP_EACH])
{
    constexpr int width = vector_width<T>();
    T *to = (T *)x.at + row * x.width + column;
#pragma unroll
    for (int c = 0; c < UP_EACH; c += width) {
        float values[width];
#pragma unroll
        for (int i = 0; i < width; i++)
            values[i] = from[c + i];
        if (x.vectors) {
            if (row < x.n && column + c < x.width)
                *(uint4 *)(to + c) = pack(values);
        } else
#pragma unroll
            for (int i = 0; i < width; i++)
                if (row < x.n && column + c + i < x.width)
                    to[c + i] = from_float<T>(values[i]);
    }
}

#endif
