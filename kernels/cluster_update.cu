/* cluster_update: adds the rows of each cluster to its sum, in double and in ascending order of the rows, so to the bit as
 * src/device/cpu/cluster.c does.
 *
 * A block owns UPDATE_THREADS columns of one cluster. It goes through the labels, UPDATE_THREADS at a time, writes the rows
 * of its cluster to a list in shared memory, in order, and adds them; every thread owns a column. Each row is read once,
 * 4 n dim bytes; the labels are read by every block, 4 n k dim / UPDATE_THREADS bytes, from the cache. */
#include "launch.cuh"

enum { UPDATE_THREADS = 256, UPDATE_WARPS = UPDATE_THREADS / 32 };

struct update_task {
    double *sums;
    int64_t *counts;
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
    double sum = column < t.dim ? t.sums[cluster * t.dim + column] : 0;
    int64_t count = 0;
    for (int64_t at = 0; at < t.n; at += UPDATE_THREADS) {
        const int64_t i = at + threadIdx.x;
        const bool mine = i < t.n && t.labels[i] == cluster;
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
            list[before + __popc(warp_mine & ((1u << lane) - 1))] = (int)threadIdx.x;
        __syncthreads();
        for (int q = 0; q < all && column < t.dim; q++)
            sum += (double)t.x[(at + list[q]) * t.dim + column];
        count += all;
    }
    if (column < t.dim)
        t.sums[cluster * t.dim + column] = sum;
    if (column == 0)
        t.counts[cluster] += count;
}

/* A label outside of 0 .. k - 1 makes counts[0] negative: the first such row's number, less n. */
__global__ void __launch_bounds__(UPDATE_THREADS) check_kernel(update_task t)
{
    const int64_t stride = (int64_t)gridDim.x * UPDATE_THREADS;
    for (int64_t i = (int64_t)blockIdx.x * UPDATE_THREADS + threadIdx.x; i < t.n; i += stride)
        if (t.labels[i] < 0 || t.labels[i] >= t.k)
            atomicMin((long long *)t.counts, (long long)(i - t.n));
}

/* --- launcher ------------------------------------------------------------------------------------------ */

sc_status cuda_cluster_update(stream *s, double *sums, int64_t *counts, const float *x, const int32_t *labels,
                              int64_t n, int64_t k, int64_t dim)
{
    if (n < 0 || k <= 0 || k > INT32_MAX || dim <= 0 || dim > (1 << 24))
        return sc_fail(SC_INTERNAL, "cluster_update: impossible shape: %lld rows, %lld centres, width %lld",
                       (long long)n, (long long)k, (long long)dim);
    const update_task task = {sums, counts, x, labels, n, k, dim};
    const dim3 grid((unsigned)k, (unsigned)blocks_of(dim, UPDATE_THREADS));
    LAUNCH(update_kernel, grid, UPDATE_THREADS, 0, cuda_stream(s), task);
    LAUNCH(check_kernel, striding_grid(blocks_of(n, UPDATE_THREADS)), UPDATE_THREADS, 0, cuda_stream(s),
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
