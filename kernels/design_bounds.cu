/* design_peaks, design_above, design_put: which rows have the highest bounds, gain + slack, found where the gains are, so
 * that they need not go to the host. No twin on the CPU, whose gains lie on the host.
 *
 * Passes over 16 n bytes. The rows above a floor are listed in ascending order: every block counts its own, one block adds
 * the counts up, and every block writes its own behind those of the blocks before it. */
#include "launch.cuh"

enum { BOUND_THREADS = 256, BOUND_WARPS = BOUND_THREADS / 32, BOUND_ROWS = 4 * BOUND_THREADS };

struct bounds_task {
    const double *gains, *slack;
    int64_t n;
    double floor;
    int64_t *
        counts; /* [blocks + 1] of rows above in each block of BOUND_ROWS; then of those in the blocks before */
    int32_t *rows;
    double *top_gains, *top_slack;
    int64_t most;
};

/* --- kernels ------------------------------------------------------------------------------------------- */

__device__ __forceinline__ double bound_of(const double *gains, const double *slack, int64_t i)
{
    return gains[i] == -INFINITY ? -INFINITY : gains[i] + slack[i];
}

/* A warp a segment. */
__global__ void __launch_bounds__(BOUND_THREADS)
    peaks_kernel(double *peaks, const double *gains, const double *slack, int64_t n, int64_t segment)
{
    const int64_t warps = (int64_t)gridDim.x * BOUND_WARPS, segments = (n + segment - 1) / segment;
    const int lane = (int)threadIdx.x % 32;
    for (int64_t j = (int64_t)blockIdx.x * BOUND_WARPS + threadIdx.x / 32; j < segments; j += warps) {
        const int64_t end = (j + 1) * segment < n ? (j + 1) * segment : n;
        double peak = -INFINITY;
        for (int64_t i = j * segment + lane; i < end; i += 32)
            peak = fmax(peak, bound_of(gains, slack, i));
        for (int step = 16; step > 0; step /= 2)
            peak = fmax(peak, __shfl_xor_sync(0xffffffffu, peak, step));
        if (lane == 0)
            peaks[j] = peak;
    }
}

/* How many of this block's rows are at least as good as the floor. With WRITES they are put where they belong. */
template <bool WRITES> __global__ void __launch_bounds__(BOUND_THREADS) above_kernel(bounds_task t)
{
    SHARED(int, found, [BOUND_WARPS]);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int64_t first = (int64_t)blockIdx.x * BOUND_ROWS;
    int64_t place = WRITES ? t.counts[blockIdx.x] : 0;
    for (int64_t at = first; at < first + BOUND_ROWS && at < t.n; at += BOUND_THREADS) {
        const int64_t i = at + threadIdx.x;
        const bool above = i < t.n && t.gains[i] != -INFINITY && bound_of(t.gains, t.slack, i) >= t.floor;
        const unsigned mine = __ballot_sync(0xffffffffu, above);
        if (lane == 0)
            found[warp] = __popc(mine);
        __syncthreads();
        int before = 0, all = 0;
        for (int w = 0; w < BOUND_WARPS; w++) {
            before += w < warp ? found[w] : 0;
            all += found[w];
        }
        __syncthreads();
        const int64_t to = place + before + __popc(mine & ((1u << lane) - 1));
        if (WRITES && above && to < t.most) {
            t.rows[to] = (int32_t)i;
            t.top_gains[to] = t.gains[i];
            t.top_slack[to] = t.slack[i];
        }
        place += all;
    }
    if (!WRITES && threadIdx.x == 0)
        t.counts[blockIdx.x] = place;
}

/* One block: counts [blocks] become those of the blocks before; counts[blocks] is the sum of all. */
__global__ void __launch_bounds__(BOUND_THREADS) add_up_kernel(int64_t *counts, int64_t blocks)
{
    SHARED(long long, sums, [2][BOUND_WARPS]); /* by turns: who is late may still read the ones before */
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    long long before = 0;
    int turn = 0;
    for (int64_t at = 0; at < blocks; at += BOUND_THREADS, turn ^= 1) {
        const int64_t b = at + threadIdx.x;
        const long long mine = b < blocks ? (long long)counts[b] : 0;
        long long sum = mine; /* of this lane and those before it in the warp */
        for (int step = 1; step < 32; step *= 2) {
            const long long other = __shfl_up_sync(0xffffffffu, sum, step);
            sum += lane >= step ? other : 0;
        }
        if (lane == 31)
            sums[turn][warp] = sum;
        __syncthreads();
        long long all = 0;
        for (int w = 0; w < BOUND_WARPS; w++) {
            sum += w < warp ? sums[turn][w] : 0;
            all += sums[turn][w];
        }
        if (b < blocks)
            counts[b] = before + sum - mine;
        before += all;
    }
    if (threadIdx.x == 0)
        counts[blocks] = before;
}

__global__ void __launch_bounds__(BOUND_THREADS)
    put_kernel(double *gains, double *slack, const int32_t *rows, const double *new_gains,
               const double *new_slack, int64_t m)
{
    const int64_t stride = (int64_t)gridDim.x * BOUND_THREADS;
    for (int64_t q = (int64_t)blockIdx.x * BOUND_THREADS + threadIdx.x; q < m; q += stride) {
        gains[rows[q]] = new_gains[q];
        slack[rows[q]] = new_slack[q];
    }
}

/* --- launchers ----------------------------------------------------------------------------------------- */

sc_status cuda_design_peaks(stream *s, double *peaks, const double *gains, const double *slack, int64_t n,
                            int64_t segment)
{
    if (n < 0 || n > INT32_MAX || segment <= 0 || segment > INT32_MAX)
        return sc_fail(SC_INTERNAL, "design_peaks: impossible shape: %lld rows in segments of %lld",
                       (long long)n, (long long)segment);
    LAUNCH(peaks_kernel, striding_grid(blocks_of(blocks_of(n, segment), BOUND_WARPS)), BOUND_THREADS, 0,
           cuda_stream(s), peaks, gains, slack, n, segment);
    return launched("design_peaks");
}

size_t cuda_design_above_workspace(int64_t n)
{
    return n < 0 || n > INT32_MAX ? 0 : (size_t)(blocks_of(n, BOUND_ROWS) + 1) * sizeof(int64_t);
}

sc_status cuda_design_above(stream *s, int64_t *n_above, int32_t *rows, double *top_gains, double *top_slack,
                            const double *gains, const double *slack, int64_t n, double floor, int64_t most,
                            void *workspace)
{
    if (n < 0 || n > INT32_MAX || most < 0 || !workspace)
        return sc_fail(SC_INTERNAL, "design_above: impossible shape: %lld rows, %lld at most", (long long)n,
                       (long long)most);
    int64_t *counts = (int64_t *)workspace;
    const int64_t blocks = blocks_of(n, BOUND_ROWS);
    const bounds_task task = {gains, slack, n, floor, counts, rows, top_gains, top_slack, most};
    LAUNCH((above_kernel<false>), grid_of(blocks), BOUND_THREADS, 0, cuda_stream(s), task);
    LAUNCH(add_up_kernel, 1, BOUND_THREADS, 0, cuda_stream(s), counts, blocks);
    LAUNCH((above_kernel<true>), grid_of(blocks), BOUND_THREADS, 0, cuda_stream(s), task);
    const sc_status status = launched("design_above");
    return status == SC_OK ? fetch("design_above", s, n_above, counts + blocks, sizeof *n_above) : status;
}

sc_status cuda_design_put(stream *s, double *gains, double *slack, const int32_t *rows,
                          const double *new_gains, const double *new_slack, int64_t m)
{
    if (m < 0)
        return sc_fail(SC_INTERNAL, "design_put: impossible shape: %lld rows", (long long)m);
    LAUNCH(put_kernel, striding_grid(blocks_of(m, BOUND_THREADS)), BOUND_THREADS, 0, cuda_stream(s), gains,
           slack, rows, new_gains, new_slack, m);
    return launched("design_put");
}
