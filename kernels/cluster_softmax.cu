/* cluster_softmax: the softmax of -|x - c| / temperature over all centres, and its entropy, in double. Twin of
 * src/device/cpu/cluster.c, whose distances it repeats to the bit; exp and log are the card's.
 *
 * A block owns SOFTMAX_ROWS rows. It writes their squared distances to p, SOFTMAX_CENTRES centres at a time, and then
 * turns each of its rows into a distribution: p is touched while it is in the cache. 3 n k dim operations in double bound
 * it. */
#include "launch.cuh"

enum {
    SOFTMAX_ROWS = 64,
    SOFTMAX_CENTRES = 64,
    SOFTMAX_DEPTH = 16,
    SOFTMAX_THREADS = 256,
    SIDE = 16,
    EACH = 4
};
/* An odd pitch: what one thread writes down a column, the others write beside it. */
enum { SOFTMAX_PITCH = SOFTMAX_ROWS + 1 };

struct softmax_task {
    double *p, *entropy;
    const float *x, *centres;
    int64_t n, k, dim;
    double temperature;
};

/* --- kernel -------------------------------------------------------------------------------------------- */

/* Columns d .. of 64 rows from `first`, widened and turned: to[column][row]; zeros outside. */
__device__ __forceinline__ void load_turned(double (*to)[SOFTMAX_PITCH], const float *from, int64_t first,
                                            int64_t n, int64_t dim, int64_t d)
{
    for (int i = (int)threadIdx.x; i < SOFTMAX_ROWS * SOFTMAX_DEPTH; i += SOFTMAX_THREADS) {
        const int row = i / SOFTMAX_DEPTH, column = i % SOFTMAX_DEPTH;
        const bool inside = first + row < n && d + column < dim;
        to[column][row] = inside ? (double)from[(first + row) * dim + d + column] : 0.0;
    }
}

__device__ __forceinline__ double warp_sum(double v)
{
    for (int step = 16; step > 0; step /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}

/* One row of squared distances becomes its distribution; a warp takes part. */
__device__ __forceinline__ double softmax_row(double *p, int64_t k, double temperature)
{
    const int lane = (int)threadIdx.x % 32;
    double smallest = INFINITY, z = 0, mean = 0;
    for (int64_t j = lane; j < k; j += 32) {
        const double distance = sqrt(p[j]);
        smallest = distance < smallest ? distance : smallest;
    }
    for (int step = 16; step > 0; step /= 2) {
        const double other = __shfl_xor_sync(0xffffffffu, smallest, step);
        smallest = other < smallest ? other : smallest;
    }
    for (int64_t j = lane; j < k; j += 32) {
        const double energy = (sqrt(p[j]) - smallest) / temperature, weight = exp(-energy);
        z += weight;
        mean += weight > 0 ? weight * energy : 0;
        p[j] = weight;
    }
    z = warp_sum(z);
    mean = warp_sum(mean);
    for (int64_t j = lane; j < k; j += 32)
        p[j] /= z;
    return log(z) + mean / z;
}

__global__ void __launch_bounds__(SOFTMAX_THREADS) softmax_kernel(softmax_task t)
{
    SHARED(double, xs, [SOFTMAX_DEPTH][SOFTMAX_PITCH]);
    SHARED(double, cs, [SOFTMAX_DEPTH][SOFTMAX_PITCH]);
    const int64_t first = (int64_t)blockIdx.x * SOFTMAX_ROWS;
    const int down = (int)threadIdx.x / SIDE, across = (int)threadIdx.x % SIDE;
    for (int64_t at = 0; at < t.k; at += SOFTMAX_CENTRES) {
        double sums[EACH][EACH];
        for (int i = 0; i < EACH; i++)
            for (int j = 0; j < EACH; j++)
                sums[i][j] = 0;
        for (int64_t d = 0; d < t.dim; d += SOFTMAX_DEPTH) {
            const int depth = t.dim - d < SOFTMAX_DEPTH ? (int)(t.dim - d) : SOFTMAX_DEPTH;
            __syncthreads(); /* the columns before have been used */
            load_turned(xs, t.x, first, t.n, t.dim, d);
            load_turned(cs, t.centres, at, t.k, t.dim, d);
            __syncthreads();
            for (int c = 0; c < depth; c++)
#pragma unroll
                for (int i = 0; i < EACH; i++)
#pragma unroll
                    for (int j = 0; j < EACH; j++) {
                        const double diff = xs[c][down + SIDE * i] - cs[c][across + SIDE * j];
                        sums[i][j] += diff * diff;
                    }
        }
        for (int i = 0; i < EACH; i++)
            for (int j = 0; j < EACH; j++) {
                const int64_t row = first + down + SIDE * i, centre = at + across + SIDE * j;
                if (row < t.n && centre < t.k)
                    t.p[row * t.k + centre] = sums[i][j];
            }
    }
    __syncthreads();
    for (int64_t row = first + threadIdx.x / 32; row < first + SOFTMAX_ROWS && row < t.n;
         row += SOFTMAX_THREADS / 32) {
        const double entropy = softmax_row(t.p + row * t.k, t.k, t.temperature);
        if (threadIdx.x % 32 == 0)
            t.entropy[row] = entropy;
    }
}

/* --- launcher ------------------------------------------------------------------------------------------ */

size_t cuda_cluster_softmax_workspace(int64_t n, int64_t k, int64_t dim)
{
    (void)n, (void)k, (void)dim;
    return 0;
}

sc_status cuda_cluster_softmax(stream *s, double *p, double *entropy, const float *x, const float *centres,
                               int64_t n, int64_t k, int64_t dim, double temperature, void *workspace)
{
    (void)workspace;
    if (n < 0 || n > (int64_t)INT32_MAX * SOFTMAX_ROWS || k <= 0 || dim <= 0 || !(temperature > 0))
        return sc_fail(
            SC_INTERNAL,
            "cluster_softmax: impossible shape: %lld rows, %lld centres, width %lld, temperature %g",
            (long long)n, (long long)k, (long long)dim, temperature);
    const softmax_task task = {p, entropy, x, centres, n, k, dim, temperature};
    LAUNCH(softmax_kernel, grid_of(blocks_of(n, SOFTMAX_ROWS)), SOFTMAX_THREADS, 0, cuda_stream(s), task);
    return launched("cluster_softmax");
}
