/* nearest_update: squared distances to the nearest of a growing list of centres, exactly. Twin of
 * src/device/cpu/nearest.c: a product gives every distance within a bound, and only centres that could be nearer than the
 * nearest so far are measured in double, from the rows as they are.
 *
 * A block takes TILE_M rows, and the centres TILE_N at a time, from the first that any of its rows has not seen. After each
 * tile 32 groups of eight lanes measure what the product left in question, so that the next tile has less of it. x is read
 * once a tile of centres; with few centres a call the bytes of x bound it. Rows with few centres to look at, as all of a
 * pool have after a pick, are measured without a product, eight lanes each: that is less work, for more blocks. */
#include "lanes.cuh"
#include "launch.cuh"
#include "tile.cuh"

struct nearest_task {
    double *dist2;
    nearest_rows rows, centres;
    const int32_t *from;
    int64_t n, to, dim;
    double gamma;
};

/* --- kernel -------------------------------------------------------------------------------------------- */

enum { MEASURING = 8, GROUPS = TILE_THREADS / MEASURING, FEW = 4, FEW_THREADS = 128 };

/* Rows whose centres the product is not worth it for. */
__device__ __forceinline__ bool few_left(const nearest_task &t, int64_t row)
{
    return t.to - t.from[row] <= FEW;
}

/* Could this centre be nearer than `near`, given the product? NaN, where it left the range of float, could. */
__device__ __forceinline__ bool in_question(const nearest_task &t, int64_t row, int64_t centre, float product,
                                            double near)
{
    const double nx = t.rows.norms[row], nc = t.centres.norms[centre];
    const double least = nx * nx + nc * nc - 2 * (double)product - t.gamma * (nx * nc + nx * nx + nc * nc) -
                         (double)t.dim * 0x1p-125;
    return !(least >= near);
}

__global__ void __launch_bounds__(FEW_THREADS) few_kernel(nearest_task t)
{
    const int64_t groups = (int64_t)gridDim.x * (FEW_THREADS / MEASURING);
    for (int64_t row = (int64_t)blockIdx.x * (FEW_THREADS / MEASURING) + threadIdx.x / MEASURING; row < t.n;
         row += groups) {
        if (!few_left(t, row))
            continue;
        const bool leader = threadIdx.x % MEASURING == 0; /* who alone reads and writes the row's distance */
        double least = leader ? t.dist2[row] : 0;
        for (int64_t c = t.from[row]; c < t.to; c++)
            least = fmin(least, distance_8(t.rows.x + row * t.dim, t.centres.x + c * t.dim, t.dim));
        if (leader)
            t.dist2[row] = least;
    }
}

/* The lowest `from` of the block's rows that have many left. */
__device__ __forceinline__ int64_t first_unseen(const nearest_task &t, int64_t first)
{
    SHARED(int, lowest, );
    if (threadIdx.x == 0)
        lowest = (int)t.to;
    __syncthreads();
    if (threadIdx.x < TILE_M && first + threadIdx.x < t.n && !few_left(t, first + threadIdx.x))
        atomicMin(&lowest, (int)t.from[first + threadIdx.x]);
    __syncthreads();
    return lowest;
}

/* quality: nearest_kernel: HMMA */
/* quality: nearest_kernel<true>: LDGSTS.128 */
template <bool VECTORS> __global__ void __launch_bounds__(TILE_THREADS, 1) nearest_kernel(nearest_task t)
{
    SHARED(tile_buffers, buffers, );
    SHARED(double, near, [TILE_M]);
    SHARED(unsigned, open, [2][TILE_M]); /* bit c: column c of that half of the tile is in question */
    const int64_t first = (int64_t)blockIdx.x * TILE_M;
    const int lane = (int)threadIdx.x % 32, side = (int)threadIdx.x / 32 % 2,
              group = (int)threadIdx.x / MEASURING;
    if (threadIdx.x < TILE_M && first + threadIdx.x < t.n)
        near[threadIdx.x] = t.dist2[first + threadIdx.x];
    for (int64_t at = first_unseen(t, first); at < t.to; at += TILE_N) {
        tile_sums sums;
        float none[M16][2];
        tile_products<VECTORS, false>(buffers, sums, none, {t.rows.centred, t.n}, first,
                                      {t.centres.centred, t.to}, at, t.dim);
#pragma unroll
        for (int i = 0; i < M16; i++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = tile_row(i, 2 * half);
                unsigned bits = 0;
#pragma unroll
                for (int j = 0; j < N8; j++)
#pragma unroll
                    for (int e = 2 * half; e < 2 * half + 2; e++) {
                        const int64_t centre = at + tile_column(j, e);
                        if (first + row < t.n && centre >= t.from[first + row] && centre < t.to &&
                            in_question(t, first + row, centre, sums.at[i][j][e], near[row]))
                            bits |= 1u << (tile_column(j, e) % WARP_N);
                    }
                bits |= __shfl_xor_sync(0xffffffffu, bits, 1);
                bits |= __shfl_xor_sync(0xffffffffu, bits, 2);
                if (lane % 4 == 0)
                    open[side][row] = bits;
            }
        __syncthreads();
        for (int row = group; row < TILE_M && first + row < t.n; row += GROUPS)
            for (int half = 0; half < 2; half++)
                for (unsigned bits = open[half][row]; bits != 0; bits &= bits - 1) {
                    const int64_t centre = at + half * WARP_N + __ffs((int)bits) - 1;
                    const double d2 =
                        distance_8(t.rows.x + (first + row) * t.dim, t.centres.x + centre * t.dim, t.dim);
                    if (lane % MEASURING == 0 && d2 < near[row])
                        near[row] = d2;
                }
    }
    __syncthreads();
    if (threadIdx.x < TILE_M && first + threadIdx.x < t.n)
        t.dist2[first + threadIdx.x] = near[threadIdx.x];
}

/* --- launcher ------------------------------------------------------------------------------------------ */

sc_status cuda_nearest_update(stream *s, double *dist2, const nearest_rows *rows, int64_t n,
                              const nearest_rows *centres, const int32_t *from, int64_t to, int64_t dim)
{
    if (n < 0 || to < 0 || dim <= 0)
        return sc_fail(SC_INTERNAL, "nearest_update: impossible shape: %lld rows of %lld, %lld centres",
                       (long long)n, (long long)dim, (long long)to);
    if (n == 0 || to == 0)
        return SC_OK;
    /* the product's error, and one rounding of each side when the mean was taken off */
    const double error = tile_error(dim) + 2 * 0x1p-24,
                 gamma = error < 0.25 ? 2 * error / (1 - 2 * error) : INFINITY;
    const nearest_task task = {dist2, *rows, *centres, from, n, to, dim, gamma};
    const dim3 grid = grid_of(blocks_of(n, TILE_M));
    LAUNCH(few_kernel, striding_grid(blocks_of(n, FEW_THREADS / MEASURING)), FEW_THREADS, 0, cuda_stream(s),
           task);
    if (tile_vectors(rows->centred, centres->centred, dim))
        LAUNCH((nearest_kernel<true>), grid, TILE_THREADS, 0, cuda_stream(s), task);
    else
        LAUNCH((nearest_kernel<false>), grid, TILE_THREADS, 0, cuda_stream(s), task);
    return launched("nearest_update");
}
