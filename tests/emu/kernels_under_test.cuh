// Kernels that the emulator's own test runs: correct ones in the styles that the product uses, and each with the bugs
// that people make. `bug` is a compile-time constant, so that the correct kernel is untouched by the rest.
//
// The file compiles with nvcc as well, which keeps both sides of kernels/portable.cuh the same.
#pragma once
#include "cooperative.cuh"

#include <cuda_bf16.h>

enum class Bug {
    none,
    missing_barrier,        // between writing and reading shared memory
    missing_second_barrier, // between reading it and writing it again
    divergent_barrier,      // only some threads of the block reach it
    extra_barrier,          // one thread reaches one more
    missing_syncwarp,
    missing_copy_wait,
    missing_grid_barrier,
    divergent_grid_barrier,
    exit_before_grid_barrier,
    divergent_shuffle,
    exited_lanes,
    overlapping_masks,
    lane_not_in_mask,
    static_overflow,
    dynamic_overflow,
    uninitialised_shared,
    read_past_end,
    write_past_end,
    misaligned,
    race_between_blocks
};

// ---- elementwise: y = a x + y; threads beyond n exit early

template <Bug bug> __global__ void scale_add(int n, float a, const float *x, float *y)
{
    int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n)
        return;
    int from = bug == Bug::read_past_end ? i + 1 : i;
    y[i] = a * x[from] + y[i];
    if (bug == Bug::write_past_end && i == n - 1)
        y[n] = 0;
}

// The same in vectors of four; `offset` floats are skipped, which must be a multiple of four.
template <Bug bug> __global__ void scale_by_four(int n_vectors, float a, const float *x, float *y)
{
    int i = static_cast<int>(threadIdx.x);
    int offset = bug == Bug::misaligned ? 1 : 0;
    if (i >= n_vectors)
        return;
    float4 v = *reinterpret_cast<const float4 *>(x + 4 * i + offset);
    *reinterpret_cast<float4 *>(y + 4 * i) = make_float4(a * v.x, a * v.y, a * v.z, a * v.w);
}

// ---- softmax of each row, one warp per row, blockDim = (32, rows per block)

__device__ __forceinline__ float as_float(float x)
{
    return x;
}

__device__ __forceinline__ float as_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

__device__ __forceinline__ void store(float *p, float x)
{
    *p = x;
}

__device__ __forceinline__ void store(__nv_bfloat16 *p, float x)
{
    *p = __float2bfloat16_rn(x);
}

__device__ __forceinline__ float warp_max(float x)
{
    for (int distance = 16; distance > 0; distance /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
}

__device__ __forceinline__ float warp_sum(float x)
{
    for (int distance = 16; distance > 0; distance /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}

template <Bug bug, class T>
__global__ void __launch_bounds__(256)
    softmax_rows(const T *__restrict__ x, T *__restrict__ y, int rows, int columns)
{
    int row = static_cast<int>(blockIdx.x * blockDim.y + threadIdx.y), lane = static_cast<int>(threadIdx.x);
    if (row >= rows)
        return;
    const T *from = x + static_cast<size_t>(row) * columns;
    T *to = y + static_cast<size_t>(row) * columns;
    float largest = -INFINITY, sum = 0;
    for (int c = lane; c < columns; c += 32)
        largest = fmaxf(largest, as_float(from[c]));
    if (bug == Bug::divergent_shuffle && lane >= 24)
        largest = fmaxf(largest, 0); // these lanes go on to the next shuffle, another one
    else
        largest = warp_max(largest);
    for (int c = lane; c < columns; c += 32)
        sum += __expf(as_float(from[c]) - largest);
    sum = warp_sum(sum);
    for (int c = lane; c < columns; c += 32)
        store(&to[c], __expf(as_float(from[c]) - largest) / sum);
}

// ---- c[m][n] = a[m][k] b[k][n], 32 x 32 tiles, 64 threads with 4 x 4 results each, two buffers filled by cp.async

template <Bug bug>
__global__ void __launch_bounds__(64) gemm_tiled(const float *__restrict__ a, const float *__restrict__ b,
                                                 float *__restrict__ c, int m, int n, int k)
{
    constexpr int tile = 32, depth = 8, threads = 64;
    SHARED(float, a_tile, [2][depth][tile + 1]); // transposed
    SHARED(float, b_tile, [2][depth][tile]);
    int t = static_cast<int>(threadIdx.x), row0 = static_cast<int>(blockIdx.y) * tile,
        column0 = static_cast<int>(blockIdx.x) * tile;
    int my_row = t / 8 * 4, my_column = t % 8 * 4;
    float sum[4][4] = {};

    auto load = [&](int step) {
        int buffer = step % 2, k0 = step * depth;
        for (int i = t; i < tile * depth; i += threads) {
            int row = row0 + i / depth, ka = k0 + i % depth;
            bool wanted = row < m && ka < k;
            copy_async4(&a_tile[buffer][i % depth][i / depth],
                        wanted ? a + static_cast<size_t>(row) * k + ka : a, wanted);
            int column = column0 + i % tile, kb = k0 + i / tile;
            wanted = column < n && kb < k;
            copy_async4(&b_tile[buffer][i / tile][i % tile],
                        wanted ? b + static_cast<size_t>(kb) * n + column : b, wanted);
        }
    };

    int steps = (k + depth - 1) / depth;
    load(0);
    copy_async_commit();
    for (int step = 0; step < steps; step++) {
        if (step + 1 < steps)
            load(step + 1);
        copy_async_commit();
        if (bug != Bug::missing_copy_wait)
            copy_async_wait<1>();
        if (bug == Bug::extra_barrier && t == 0)
            __syncthreads();
        if (bug != Bug::missing_barrier)
            __syncthreads();
        for (int i = 0; i < depth; i++)
            for (int r = 0; r < 4; r++)
                for (int j = 0; j < 4; j++)
                    sum[r][j] = __fmaf_rn(a_tile[step % 2][i][my_row + r], b_tile[step % 2][i][my_column + j],
                                          sum[r][j]);
        if (bug == Bug::static_overflow && t == 0)
            b_tile[1][depth - 1][blockDim.x / 2] = 0; // one past the end
        if (bug == Bug::missing_second_barrier || (bug == Bug::divergent_barrier && t >= 32))
            continue;
        __syncthreads();
    }
    copy_async_wait<0>();
    for (int r = 0; r < 4; r++)
        for (int j = 0; j < 4; j++) {
            int row = row0 + my_row + r, column = column0 + my_column + j;
            if (row < m && column < n)
                c[static_cast<size_t>(row) * n + column] = sum[r][j];
        }
}

// ---- c[m][n] = a[m][k] w[n][k]^T in bf16: 64 x 64 tiles, four warps, mma.sync, ldmatrix, three buffers in dynamic
// shared memory. k is a multiple of 8.

constexpr int bf16_stages = 3, bf16_tile = 64, bf16_depth = 32, bf16_stride = bf16_depth + 8;
constexpr int bf16_shared_bytes = bf16_stages * 2 * bf16_tile * bf16_stride * 2;

template <Bug bug>
__global__ void __launch_bounds__(128)
    gemm_bf16(const __nv_bfloat16 *__restrict__ a, const __nv_bfloat16 *__restrict__ w, float *__restrict__ c,
              int m, int n, int k)
{
    DYNAMIC_SHARED(__nv_bfloat16, shared);
    __nv_bfloat16 *a_tiles = shared;                                         // [stages][tile][stride]
    __nv_bfloat16 *w_tiles = shared + bf16_stages * bf16_tile * bf16_stride; // [stages][tile][stride]
    int t = static_cast<int>(threadIdx.x), lane = t % 32, warp = t / 32;
    int row0 = static_cast<int>(blockIdx.y) * bf16_tile, column0 = static_cast<int>(blockIdx.x) * bf16_tile;
    int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
    float sum[2][4][4] = {};

    auto load = [&](int step) {
        int stage = step % bf16_stages * bf16_tile, k0 = step * bf16_depth;
        for (int i = t; i < bf16_tile * bf16_depth / 8; i += 128) {
            int r = i / (bf16_depth / 8), kk = i % (bf16_depth / 8) * 8;
            bool a_wanted = row0 + r < m && k0 + kk < k, w_wanted = column0 + r < n && k0 + kk < k;
            copy_async16(&a_tiles[(stage + r) * bf16_stride + kk],
                         a_wanted ? a + static_cast<size_t>(row0 + r) * k + k0 + kk : a, a_wanted);
            copy_async16(&w_tiles[(stage + r) * bf16_stride + kk],
                         w_wanted ? w + static_cast<size_t>(column0 + r) * k + k0 + kk : w, w_wanted);
        }
    };

    int steps = (k + bf16_depth - 1) / bf16_depth;
    for (int step = 0; step < bf16_stages - 1; step++) {
        if (step < steps)
            load(step);
        copy_async_commit();
    }
    for (int step = 0; step < steps; step++) {
        copy_async_wait<bug == Bug::missing_copy_wait ? bf16_stages - 1 : bf16_stages - 2>();
        __syncthreads();
        if (step + bf16_stages - 1 < steps)
            load(step + bf16_stages - 1);
        copy_async_commit();
        const __nv_bfloat16 *as = a_tiles + step % bf16_stages * bf16_tile * bf16_stride;
        const __nv_bfloat16 *ws = w_tiles + step % bf16_stages * bf16_tile * bf16_stride;
        for (int kk = 0; kk < bf16_depth; kk += 16) {
            unsigned a_part[2][4], w_part[4][2];
            int skew = bug == Bug::misaligned ? 4 : 0;
            for (int i = 0; i < 2; i++)
                load_matrix_x4(a_part[i], as + (warp_row + i * 16 + lane % 16) * bf16_stride + kk +
                                              lane / 16 * 8 + skew);
            for (int j = 0; j < 2; j++) {
                unsigned r[4];
                load_matrix_x4(r, ws + (warp_column + j * 16 + lane % 8 + lane / 16 * 8) * bf16_stride + kk +
                                      lane / 8 % 2 * 8);
                for (int side = 0; side < 2; side++)
                    for (int i = 0; i < 2; i++)
                        w_part[2 * j + side][i] = r[2 * side + i];
            }
            for (int i = 0; i < 2; i++)
                for (int j = 0; j < 4; j++)
                    mma_bf16_16816(sum[i][j], a_part[i], w_part[j]);
        }
    }
    copy_async_wait<0>();
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            for (int e = 0; e < 4; e++) {
                int row = row0 + warp_row + i * 16 + lane / 4 + e / 2 * 8;
                int column = column0 + warp_column + j * 8 + lane % 4 * 2 + e % 2;
                if (row < m && column < n)
                    c[static_cast<size_t>(row) * n + column] = sum[i][j][e];
            }
}

// ---- c[m][n] = a[m][k] b[k][n] with bf16 operands, b transposed by ldmatrix: one warp per 16 x 16 tile.

__global__ void gemm_bf16_trans(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c, int m, int n, int k)
{
    SHARED(__nv_bfloat16, a_tile, [16][24]);
    SHARED(__nv_bfloat16, b_tile, [16][24]);
    int lane = static_cast<int>(threadIdx.x), row0 = static_cast<int>(blockIdx.y) * 16,
        column0 = static_cast<int>(blockIdx.x) * 16;
    float sum[2][4] = {};
    __nv_bfloat16 zero = __float2bfloat16_rn(0);
    for (int k0 = 0; k0 < k; k0 += 16) {
        for (int i = lane; i < 256; i += 32) {
            int r = i / 16, s = i % 16;
            a_tile[r][s] = row0 + r < m && k0 + s < k ? a[(row0 + r) * k + k0 + s] : zero;
            b_tile[r][s] = k0 + r < k && column0 + s < n ? b[(k0 + r) * n + column0 + s] : zero;
        }
        __syncwarp();
        unsigned a_part[4], b_part[4];
        load_matrix_x4(a_part, &a_tile[lane % 16][lane / 16 * 8]);
        load_matrix_x4_trans(b_part, &b_tile[lane % 16][lane / 16 * 8]);
        for (int side = 0; side < 2; side++) {
            unsigned pair[2] = {b_part[2 * side], b_part[2 * side + 1]};
            mma_bf16_16816(sum[side], a_part, pair);
        }
        __syncwarp();
    }
    for (int side = 0; side < 2; side++)
        for (int e = 0; e < 4; e++) {
            int row = row0 + lane / 4 + e / 2 * 8, column = column0 + side * 8 + lane % 4 * 2 + e % 2;
            if (row < m && column < n)
                c[row * n + column] = sum[side][e];
        }
}

// ---- c[m][n] = a[m][k] b[k][n] in tf32, one warp per 16 x 8 tile; round: to tf32 here, else the hardware truncates.

__global__ void gemm_tf32(const float *a, const float *b, float *c, int m, int n, int k, bool round)
{
    int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4,
        row0 = static_cast<int>(blockIdx.y) * 16, column0 = static_cast<int>(blockIdx.x) * 8;
    float sum[4] = {};
    auto bits = [&](float x) { return round ? to_tf32(x) : __float_as_uint(x); };
    for (int k0 = 0; k0 < k; k0 += 8) {
        unsigned a_part[4], b_part[2];
        for (int i = 0; i < 4; i++) {
            int row = row0 + g + i % 2 * 8, kk = k0 + t + i / 2 * 4;
            a_part[i] = bits(row < m && kk < k ? a[row * k + kk] : 0.0f);
        }
        for (int i = 0; i < 2; i++) {
            int kk = k0 + t + i * 4, column = column0 + g;
            b_part[i] = bits(kk < k && column < n ? b[kk * n + column] : 0.0f);
        }
        mma_tf32_1688(sum, a_part, b_part);
    }
    for (int e = 0; e < 4; e++) {
        int row = row0 + g + e / 2 * 8, column = column0 + 2 * t + e % 2;
        if (row < m && column < n)
            c[row * n + column] = sum[e];
    }
}

// ---- c[m][n] = a[m][k] b[k][n] in float64, one warp per 8 x 8 tile

__global__ void gemm_f64(const double *a, const double *b, double *c, int m, int n, int k)
{
    int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4,
        row0 = static_cast<int>(blockIdx.y) * 8, column0 = static_cast<int>(blockIdx.x) * 8;
    double sum[2] = {};
    for (int k0 = 0; k0 < k; k0 += 4) {
        int kk = k0 + t;
        double a_part = row0 + g < m && kk < k ? a[(row0 + g) * k + kk] : 0.0;
        double b_part = kk < k && column0 + g < n ? b[kk * n + column0 + g] : 0.0;
        mma_f64_884(sum, a_part, b_part);
    }
    for (int e = 0; e < 2; e++)
        if (row0 + g < m && column0 + 2 * t + e < n)
            c[(row0 + g) * n + column0 + 2 * t + e] = sum[e];
}

// ---- sum, maximum and mean of x[n]: shuffles, shared memory, atomics; the last block to finish divides.

__device__ __forceinline__ void atomic_max_float(float *p, float x)
{
    int *word = reinterpret_cast<int *>(p);
    int old = load_relaxed(word);
    while (__int_as_float(old) < x) {
        int seen = atomicCAS(word, old, __float_as_int(x));
        if (seen == old)
            break;
        old = seen;
    }
}

template <Bug bug>
__global__ void statistics(const float *x, int n, double *sum, float *largest, float *mean, unsigned *n_done)
{
    SHARED(float, part, [32]);
    SHARED(bool, is_last, );
    int t = static_cast<int>(threadIdx.x), lane = t % 32, warp = t / 32,
        warps = static_cast<int>(blockDim.x) / 32;
    float s = 0, m = -INFINITY;
    for (int i = static_cast<int>(blockIdx.x * blockDim.x) + t; i < n;
         i += static_cast<int>(gridDim.x * blockDim.x)) {
        s += x[i];
        m = fmaxf(m, x[i]);
    }
    s = warp_sum(s);
    m = warp_max(m);
    if (lane == 0)
        part[warp] = s;
    __syncthreads();
    if (warp == 0) {
        bool written = lane < warps || bug == Bug::uninitialised_shared;
        s = warp_sum(written ? part[lane] : 0.0f);
        if (lane == 0 && bug == Bug::race_between_blocks)
            *sum += s;
        else if (lane == 0)
            atomicAdd(sum, s);
    }
    if (lane == 0)
        atomic_max_float(largest, m);
    __threadfence();
    if (t == 0)
        is_last = atomicAdd(n_done, 1u) == gridDim.x - 1;
    __syncthreads();
    if (is_last && t == 0)
        *mean = static_cast<float>(load_relaxed(sum) / n);
}

// ---- y = x / (sum of x): a cooperative launch, in which every block needs the partial sums of all

template <Bug bug> __global__ void normalize(const float *x, float *y, float *partial, int n)
{
    SHARED(float, total, );
    int t = static_cast<int>(threadIdx.x), blocks = static_cast<int>(gridDim.x),
        me = static_cast<int>(blockIdx.x);
    int from = static_cast<int>(static_cast<long long>(n) * me / blocks);
    int to = static_cast<int>(static_cast<long long>(n) * (me + 1) / blocks);
    if (t == 0) {
        float s = 0;
        for (int i = from; i < to; i++)
            s += x[i];
        partial[me] = s;
    }
    if (bug == Bug::exit_before_grid_barrier && me == 1 && t == 5)
        return;
    if (bug == Bug::divergent_grid_barrier && me == 1)
        grid_barrier();
    else if (bug != Bug::missing_grid_barrier)
        grid_barrier();
    if (t == 0) {
        float s = 0;
        for (int i = 0; i < blocks; i++)
            s += partial[i];
        total = s;
    }
    __syncthreads();
    for (int i = from + t; i < to; i += static_cast<int>(blockDim.x))
        y[i] = x[i] / total;
    // A second phase over what the others wrote: y[i] becomes the sum of y[i] and its mirror image.
    if (bug == Bug::none) {
        float mine[8];
        grid_barrier();
        for (int i = from + t, j = 0; i < to; i += static_cast<int>(blockDim.x), j++)
            mine[j] = y[i] + y[n - 1 - i];
        grid_barrier();
        for (int i = from + t, j = 0; i < to; i += static_cast<int>(blockDim.x), j++)
            y[i] = mine[j];
    }
}

// ---- every group of 32 backwards, through shared memory that only one warp uses

template <Bug bug> __global__ void reverse_warps(const float *x, float *y)
{
    SHARED(float, buffer, [8][32]);
    int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x),
        warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    buffer[warp][lane] = x[i];
    if (bug != Bug::missing_syncwarp)
        __syncwarp();
    y[i] = buffer[warp][31 - lane];
}

// ---- x[i] of a block into y[i], through dynamic shared memory of blockDim.x floats

template <Bug bug> __global__ void through_dynamic(const float *x, float *y)
{
    DYNAMIC_SHARED(float, buffer);
    unsigned t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    unsigned last = bug == Bug::dynamic_overflow ? 1 : 0;
    buffer[t + last] = x[i];
    __syncthreads();
    y[i] = buffer[t + last];
}

// ---- warps whose lanes part and meet again. All 32 lanes get 1 + 2 + ... + 32 or so; see the test.

template <Bug bug> __global__ void parted_lanes(int *y)
{
    int lane = static_cast<int>(threadIdx.x) % 32, x = lane + 1;
    if (bug == Bug::exited_lanes && lane >= 16)
        return;
    unsigned group = lane < 16 ? 0x0000ffffu : 0xffff0000u;
    if (bug == Bug::lane_not_in_mask && lane == 20)
        group = 0x0000ffffu;
    // A quarter shuffles among itself while the others already wait for the whole warp below.
    if (lane < 8)
        for (int distance = 4; distance > 0; distance /= 2)
            x += __shfl_xor_sync(0x000000ffu, x, distance);
    if (bug == Bug::overlapping_masks)
        group = lane < 8    ? 0x000000ffu
                : lane < 16 ? 0x0000ffffu
                            : group; // the second names lanes that use the first
    unsigned small = __ballot_sync(group, lane % 16 < 4);
    __syncwarp();
    y[threadIdx.x] = __shfl_sync(0xffffffffu, x, 3) + __popc(small);
}

// ---- lanes 0-15 wait for their warp while the others wait for the block: nobody ever goes on

__global__ void deadlock(int *y)
{
    if (threadIdx.x % 32 < 16)
        __syncwarp();
    else
        __syncthreads();
    y[threadIdx.x] = 1;
}

// ---- blocks that wait for each other by polling: block b goes on when block b + 1 has written

__global__ void chain(int *data, int *flags, int *y)
{
    int me = static_cast<int>(blockIdx.x), last = static_cast<int>(gridDim.x) - 1;
    int sum = me;
    if (me < last) {
        while (load_relaxed(&flags[me + 1]) == 0) {
        }
        __threadfence();
        sum += data[me + 1];
    }
    data[me] = sum;
    __threadfence();
    store_relaxed(&flags[me], 1);
    y[me] = sum;
}

// ---- shuffles and votes of other types and widths; y has 8 rows of 32

__global__ void shuffles(double *y)
{
    int lane = static_cast<int>(threadIdx.x);
    double x = lane + 0.5;
    unsigned long long wide = 1ull << 40 | static_cast<unsigned>(lane);
    y[0 * 32 + lane] = __shfl_sync(0xffffffffu, x, lane + 5);
    y[1 * 32 + lane] = __shfl_up_sync(0xffffffffu, x, 3);
    y[2 * 32 + lane] = __shfl_down_sync(0xffffffffu, x, 3, 8);
    y[3 * 32 + lane] = static_cast<double>(__shfl_xor_sync(0xffffffffu, wide, 1));
    y[4 * 32 + lane] = __shfl_sync(0xffffffffu, x, 2, 16);
    y[5 * 32 + lane] = __popc(__ballot_sync(0xffffffffu, lane % 3 == 0));
    y[6 * 32 + lane] = __any_sync(0xffffffffu, lane == 31) + 2 * __all_sync(0xffffffffu, lane < 31);
    y[7 * 32 + lane] =
        __syncthreads_count(lane < 7) + 100 * __syncthreads_and(lane < 32) + 1000 * __syncthreads_or(0);
}

// ---- the order in which threads run: y[i] is the thread that took ticket i, before and after a barrier

__global__ void take_tickets(int *n_taken, int *y)
{
    int me = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    y[atomicAdd(n_taken, 1)] = me;
    __syncthreads();
    y[atomicAdd(n_taken, 1)] = me;
}
