/* cluster_update: takes the rows that have changed sides from one cluster's sum to the other's, exactly (exact_sum.h), so to the
 * bit as src/device/cpu/cluster_update.c does.
 *
 * A block owns UPDATE_THREADS columns of one cluster. It goes through the labels, UPDATE_THREADS at a time, writes the rows
 * that join or leave its cluster to a list in shared memory and adds or subtracts them; every thread owns a column. A row that
 * moves is read twice, 8 dim bytes, one that is new once; the labels are read by every block, 8 n k dim / UPDATE_THREADS
 * bytes, from the cache. */
#include "launch.cuh"

enum { UPDATE_THREADS = 256, UPDATE_WARPS = UPDATE_THREADS / 32 };

struct update_task {
    double *sums;
    int64_t *counts;
    int32_t *summed;
    exact_grid grid;
    const float *x;
    const int32_t *labels;
    int64_t n, k, dim;
};

/* --- kernels ------------------------------------------------------------------------------------------- */

__global__ void __launch_bounds__(UPDATE_THREADS) update_kernel(update_task t)
{
    SHARED(int, list, [UPDATE_THREADS]);
    SHARED(int, found, [UPDATE_WARPS]);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int64_t cluster = blockIdx.x, column = (int64_t)blockIdx.y * UPDATE_THREADS + threadIdx.x;
    double coarse = 0, fine = 0;
    int64_t count = 0;
    for (int64_t at = 0; at < t.n; at += UPDATE_THREADS) {
        const int64_t i = at + threadIdx.x;
        const bool joins = i < t.n && t.labels[i] == cluster, leaves = i < t.n && t.summed[i] == cluster;
        const bool mine = joins != leaves;
        const unsigned warp_mine = __ballot_sync(0xffffffffu, mine);
        if (lane == 0)
            found[warp] = __popc(warp_mine);
        __syncthreads();
        int before = 0, all = 0;
        for (int w = 0; w < UPDATE_WARPS; w++) {
            before += w < warp ? found[w] : 0;
            all += found[w];
        }
        if (mine)
            list[before + __popc(warp_mine & ((1u << lane) - 1))] = 2 * (int)threadIdx.x + leaves;
        __syncthreads();
        for (int q = 0; q < all; q++) {
            const double sign = list[q] % 2 ? -1 : 1;
            count += list[q] % 2 ? -1 : 1;
            if (column < t.dim) {
                const double x = (double)t.x[(at + list[q] / 2) * t.dim + column];
                const double most = exact_coarse(t.grid, x);
                coarse += sign * most;
                fine += sign * exact_fine(t.grid, x, most);
            }
        }
    }
    if (column < t.dim) {
        t.sums[cluster * t.dim + column] += coarse;
        t.sums[(t.k + cluster) * t.dim + column] += fine;
    }
    if (column == 0)
        t.counts[cluster] += count;
}

/* summed becomes labels. A label outside of 0 .. k - 1, or one before that is k or more, makes counts[0] negative: the first such
 * row's number, less n. */
__global__ void __launch_bounds__(UPDATE_THREADS) follow_kernel(update_task t)
{
    const int64_t stride = (int64_t)gridDim.x * UPDATE_THREADS;
    for (int64_t i = (int64_t)blockIdx.x * UPDATE_THREADS + threadIdx.x; i < t.n; i += stride) {
        const int label = t.labels[i];
        if (label < 0 || label >= t.k || t.summed[i] >= t.k)
            atomicMin((long long *)t.counts, (long long)(i - t.n));
        t.summed[i] = label;
    }
}

/* --- launcher ------------------------------------------------------------------------------------------ */

sc_status cuda_cluster_update(stream *s, double *sums, int64_t *counts, int32_t *summed, exact_grid grid,
                              const float *x, const int32_t *labels, int64_t n, int64_t k, int64_t dim)
{
    if (n < 0 || n > INT32_MAX || k <= 0 || k > INT32_MAX || dim <= 0 || dim > (1 << 24))
        return sc_fail(SC_INTERNAL, "cluster_update: impossible shape: %lld rows, %lld centres, width %lld",
                       (long long)n, (long long)k, (long long)dim);
    const update_task task = {sums, counts, summed, grid, x, labels, n, k, dim};
    const dim3 blocks((unsigned)k, (unsigned)blocks_of(dim, UPDATE_THREADS));
    LAUNCH(update_kernel, blocks, UPDATE_THREADS, 0, cuda_stream(s), task);
    LAUNCH(follow_kernel, striding_grid(blocks_of(n, UPDATE_THREADS)), UPDATE_THREADS, 0, cuda_stream(s),
           task);
    int64_t first = 0;
    sc_status status = launched("cluster_update");
    if (status == SC_OK)
        status = fetch("cluster_update", s, &first, counts, sizeof first);
    if (status == SC_OK && first < 0)
        return sc_fail(SC_INTERNAL, "cluster_update: row %lld has a label outside of 0..%lld",
                       (long long)(first + n), (long long)k - 1);
    return status;
}
