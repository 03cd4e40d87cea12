/* cluster_assign: the nearest centre of every row, as float64 arithmetic finds it. Twin of src/device/cpu/cluster_assign.c.
 *
 * Two kernels. The first computes |c|^2 - 2 x.c for all centres by tile.cuh and keeps the lowest and the second lowest of
 * each row; where the product's error cannot rule the second out, the row is marked. The second measures in double: marked
 * rows against every centre, the others against the one found, if distances are wanted. Up to TILE_N centres x is read once
 * by each: 4 n dim bytes; with many centres the products bound it, 6 n k dim operations. */
#include "lanes.cuh"
#include "launch.cuh"
#include "tile.cuh"

#include <float.h>

struct assign_task {
    int32_t *labels; /* marked rows: -1 - the label */
    float *dist2;
    tile_rows x, centres;
    const double *norms2; /* |c|^2 */
    int64_t dim;
};

/* --- kernels ------------------------------------------------------------------------------------------- */

enum { MEASURING = 16, MEASURE_THREADS = 256, NORM_THREADS = 128 };

__global__ void __launch_bounds__(NORM_THREADS) norms_kernel(double *norms2, tile_rows centres, int64_t dim)
{
    const int64_t centre = (int64_t)blockIdx.x * (NORM_THREADS / 32) + threadIdx.x / 32;
    if (centre >= centres.n)
        return;
    double sum = 0;
    for (int64_t d = threadIdx.x % 32; d < dim; d += 32) {
        const double v = centres.rows[centre * dim + d];
        sum += v * v;
    }
    for (int step = 16; step > 0; step /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (threadIdx.x % 32 == 0)
        norms2[centre] = sum;
}

/* The lowest of |c|^2 - 2 x.c, the lowest centre of equals, and the second lowest. */
struct lowest_two {
    double best, second;
    int centre;
};

__device__ __forceinline__ void take(lowest_two &have, double score, int centre)
{
    if (score < have.best || (score == have.best && centre < have.centre)) {
        have.second = have.best;
        have.best = score;
        have.centre = centre;
    } else if (!(score >=
                 have.second)) { /* NaN makes every comparison fail, and is kept here to mark the row */
        have.second = score;
    }
}

__device__ __forceinline__ lowest_two merge(lowest_two a, const lowest_two &b)
{
    const double second = b.second;
    take(a, b.best, b.centre);
    if (!(second >= a.second))
        a.second = second;
    return a;
}

__device__ __forceinline__ lowest_two merge_lanes(lowest_two have, int step)
{
    lowest_two other;
    other.best = __shfl_xor_sync(0xffffffffu, have.best, step);
    other.second = __shfl_xor_sync(0xffffffffu, have.second, step);
    other.centre = __shfl_xor_sync(0xffffffffu, have.centre, step);
    return merge(have, other);
}

__device__ __forceinline__ double largest_norm(const assign_task &t)
{
    SHARED(double, largest, [TILE_THREADS / 32]);
    double most = 0;
    for (int64_t j = threadIdx.x; j < t.centres.n; j += TILE_THREADS)
        most = t.norms2[j] > most ? t.norms2[j] : most;
    for (int step = 16; step > 0; step /= 2) {
        const double other = __shfl_xor_sync(0xffffffffu, most, step);
        most = other > most ? other : most;
    }
    if (threadIdx.x % 32 == 0)
        largest[threadIdx.x / 32] = most;
    __syncthreads();
    for (int w = 0; w < TILE_THREADS / 32; w++)
        most = largest[w] > most ? largest[w] : most;
    return sqrt(most);
}

/* What two scores of a row may be wrong by together; infinite or NaN where that is not known. */
__device__ __forceinline__ double doubt(const assign_task &t, float length2, double largest)
{
    const double length = sqrt(1.01 * (double)length2);
    return 4 * tile_error(t.dim) * length * largest + 16 * DBL_EPSILON * largest * largest +
           (double)t.dim * 0x1p-120;
}

/* quality: assign_kernel: HMMA */
/* quality: assign_kernel<true>: LDGSTS.128 */
template <bool VECTORS> __global__ void __launch_bounds__(TILE_THREADS) assign_kernel(assign_task t)
{
    SHARED(tile_buffers, buffers, );
    SHARED(lowest_two, other, [TILE_M / 4]); /* a quarter of the rows at a time, for want of room */
    const int64_t first = (int64_t)blockIdx.x * TILE_M;
    const int lane = (int)threadIdx.x % 32, side = (int)threadIdx.x / 32 % 2, quarter = (int)threadIdx.x / 64;
    const double largest = largest_norm(t);
    lowest_two found[M16][2];
    float lengths[M16][2], length2[M16][2];
#pragma unroll
    for (int i = 0; i < M16; i++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            found[i][half] = {INFINITY, INFINITY, INT_MAX};
    for (int64_t at = 0; at < t.centres.n; at += TILE_N) {
        tile_sums sums;
#pragma unroll
        for (int i = 0; i < M16; i++)
            lengths[i][0] = lengths[i][1] = 0;
        tile_products<VECTORS, true>(buffers, sums, lengths, t.x, first, t.centres, at, t.dim);
#pragma unroll
        for (int i = 0; i < M16; i++)
#pragma unroll
            for (int j = 0; j < N8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const int64_t centre = at + tile_column(j, e);
                    if (centre < t.centres.n)
                        take(found[i][e / 2], t.norms2[centre] - 2 * (double)sums.at[i][j][e], (int)centre);
                }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < M16; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            length2[i][half] = lengths[i][half] + __shfl_xor_sync(0xffffffffu, lengths[i][half], 1);
            length2[i][half] += __shfl_xor_sync(0xffffffffu, length2[i][half], 2);
            found[i][half] = merge_lanes(merge_lanes(found[i][half], 1), 2);
        }
    for (int turn = 0; turn < TILE_M / WARP_M; turn++) {
        if (turn == quarter && side == 1 && lane % 4 == 0)
#pragma unroll
            for (int i = 0; i < M16; i++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    other[tile_row(i, 2 * half) % WARP_M] = found[i][half];
        __syncthreads();
        if (turn == quarter && side == 0 && lane % 4 == 0)
#pragma unroll
            for (int i = 0; i < M16; i++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const int row = tile_row(i, 2 * half);
                    const lowest_two two = merge(found[i][half], other[row % WARP_M]);
                    const bool sure = two.second > two.best + doubt(t, length2[i][half], largest);
                    const int label = two.centre < t.centres.n ? two.centre : 0;
                    if (first + row < t.x.n)
                        t.labels[first + row] = sure ? label : -1 - label;
                }
        __syncthreads();
    }
}

/* Sixteen lanes a row. */
__global__ void __launch_bounds__(MEASURE_THREADS) measure_kernel(assign_task t)
{
    const int64_t groups = (int64_t)gridDim.x * (MEASURE_THREADS / MEASURING);
    for (int64_t i = (int64_t)blockIdx.x * (MEASURE_THREADS / MEASURING) + threadIdx.x / MEASURING; i < t.x.n;
         i += groups) {
        const float *x = t.x.rows + i * t.dim;
        int label = t.centres.n > 1 ? t.labels[i] : 0;
        double distance = 0;
        if (label < 0) {
            label = 0;
            distance = distance_16(x, t.centres.rows, t.dim);
            for (int64_t j = 1; j < t.centres.n; j++) {
                const double to = distance_16(x, t.centres.rows + j * t.dim, t.dim);
                if (to < distance) {
                    distance = to;
                    label = (int)j;
                }
            }
        } else if (t.dist2) {
            distance = distance_16(x, t.centres.rows + label * t.dim, t.dim);
        }
        __syncwarp(lane_group<MEASURING>()); /* all lanes have read the label */
        if (threadIdx.x % MEASURING == 0) {
            t.labels[i] = label;
            if (t.dist2)
                t.dist2[i] = (float)distance;
        }
    }
}

/* --- launchers ----------------------------------------------------------------------------------------- */

static bool shape_ok(int64_t n, int64_t k, int64_t dim)
{
    return n >= 0 && n <= (int64_t)INT32_MAX * TILE_M && k > 0 && k <= INT32_MAX - TILE_N && dim > 0 &&
           dim <= (1 << 24);
}

size_t cuda_cluster_assign_workspace(int64_t n, int64_t k, int64_t dim)
{
    return shape_ok(n, k, dim) ? (size_t)k * sizeof(double) : 0;
}

sc_status cuda_cluster_assign(stream *s, int32_t *labels, float *dist2, const float *x, const float *centres,
                              int64_t n, int64_t k, int64_t dim, void *workspace)
{
    if (!shape_ok(n, k, dim) || !workspace)
        return sc_fail(SC_INTERNAL, "cluster_assign: impossible shape: %lld rows, %lld centres, width %lld",
                       (long long)n, (long long)k, (long long)dim);
    const cudaStream_t on = cuda_stream(s);
    const assign_task task = {labels, dist2, {x, n}, {centres, k}, (const double *)workspace, dim};
    if (n == 0)
        return SC_OK;
    if (k > 1) {
        LAUNCH(norms_kernel, grid_of(blocks_of(k, NORM_THREADS / 32)), NORM_THREADS, 0, on,
               (double *)workspace, task.centres, dim);
        if (tile_vectors(x, centres, dim))
            LAUNCH((assign_kernel<true>), grid_of(blocks_of(n, TILE_M)), TILE_THREADS, 0, on, task);
        else
            LAUNCH((assign_kernel<false>), grid_of(blocks_of(n, TILE_M)), TILE_THREADS, 0, on, task);
    }
    LAUNCH(measure_kernel, striding_grid(blocks_of(n, MEASURE_THREADS / MEASURING)), MEASURE_THREADS, 0, on,
           task);
    return launched("cluster_assign");
}
