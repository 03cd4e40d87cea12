/* optimizer: AdamW and the norm of a gradient. Twin of src/device/cpu/optimizer.c.
 *
 * `adamw` reads the gradient, reads and writes the weights and both moments, and writes the rounded copy: 30 bytes a
 * weight, each once. `square_sum` reads 4 n bytes for 2 n operations in double. */
#include "elements.cuh"
#include "launch.cuh"

#include <math.h>
#include <mutex>

enum { ADAMW_THREADS = 256, ADAMW_WIDTH = 4 };
/* The blocks of a sum depend on n alone, and so does its order; a thread has SUM_EACH vectors under way. */
enum { SUM_THREADS = 256, SUM_WIDTH = 4, SUM_EACH = 4, SUM_LEAST = 4096, SUM_BLOCKS = 1024 };

struct adamw_task {
    float *master, *m, *v;
    bf16 *rounded; /* or NULL */
    const float *grad;
    int64_t n;
    float beta1, beta2, grad_scale, eps;
    float rate, root, keep; /* w = w * keep - rate * m / (sqrt(v) * root + eps) */
};

/* --- kernels ------------------------------------------------------------------------------------------- */

template <int WIDTH> __device__ __forceinline__ void adamw_at(const adamw_task &t, int64_t i)
{
    float w[WIDTH], g[WIDTH], m[WIDTH], v[WIDTH];
    load_vector(w, t.master + i);
    load_vector(g, t.grad + i);
    load_vector(m, t.m + i);
    load_vector(v, t.v + i);
#pragma unroll
    for (int e = 0; e < WIDTH; e++) {
        const float scaled = g[e] * t.grad_scale;
        m[e] = t.beta1 * m[e] + (1.0f - t.beta1) * scaled;
        v[e] = t.beta2 * v[e] + (1.0f - t.beta2) * scaled * scaled;
        w[e] = w[e] * t.keep - t.rate * m[e] / (sqrtf(v[e]) * t.root + t.eps);
    }
    store_vector(t.m + i, m);
    store_vector(t.v + i, v);
    store_vector(t.master + i, w);
    if (t.rounded)
        store_vector(t.rounded + i, w);
}

template <int WIDTH> __global__ void __launch_bounds__(ADAMW_THREADS) adamw_kernel(adamw_task t)
{
    const int64_t i = ((int64_t)blockIdx.x * ADAMW_THREADS + threadIdx.x) * WIDTH;
    if (i + WIDTH <= t.n)
        adamw_at<WIDTH>(t, i);
    else
        for (int64_t j = i; j < t.n; j++)
            adamw_at<1>(t, j);
}

/* Block b sums its share; a thread takes every SUM_THREADS-th vector of it. */
template <int WIDTH>
__global__ void __launch_bounds__(SUM_THREADS) square_kernel(double *sums, const float *x, int64_t n)
{
    SHARED(double, parts, [32]);
    const int64_t step = (int64_t)gridDim.x * SUM_THREADS * WIDTH;
    double sum = 0;
    int64_t i = ((int64_t)blockIdx.x * SUM_THREADS + threadIdx.x) * WIDTH;
    for (; i < n; i += SUM_EACH * step) {
        float v[SUM_EACH][WIDTH];
#pragma unroll
        for (int k = 0; k < SUM_EACH; k++)
            if (i + k * step + WIDTH <= n) {
                load_vector(v[k], x + i + k * step);
            } else {
#pragma unroll
                for (int e = 0; e < WIDTH; e++)
                    v[k][e] = i + k * step + e < n ? x[i + k * step + e] : 0;
            }
#pragma unroll
        for (int k = 0; k < SUM_EACH; k++)
#pragma unroll
            for (int e = 0; e < WIDTH; e++)
                sum = __fma_rn((double)v[k][e], (double)v[k][e], sum);
    }
    sum = block_sum(sum, parts);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = sum;
}

/* --- launchers ----------------------------------------------------------------------------------------- */

sc_status cuda_adamw(stream *s, float *master, void *weights_bf16, const float *grad, float *m, float *v,
                     int64_t n, const adamw_options *options)
{
    const cudaStream_t on = cuda_stream(s);
    if (options->step < 1)
        return sc_fail(SC_INTERNAL, "adamw: step %lld; the first is 1", (long long)options->step);
    if (n < 0)
        return sc_fail(SC_INTERNAL, "adamw: impossible size: %lld", (long long)n);
    if (n == 0)
        return SC_OK;
    const double step = (double)options->step, lr = (double)options->lr;
    const adamw_task task = {master,
                             m,
                             v,
                             (bf16 *)weights_bf16,
                             grad,
                             n,
                             options->beta1,
                             options->beta2,
                             options->grad_scale,
                             options->eps,
                             (float)(lr / (1.0 - pow((double)options->beta1, step))),
                             (float)(1.0 / sqrt(1.0 - pow((double)options->beta2, step))),
                             (float)(1.0 - lr * (double)options->weight_decay)};
    if (fits_vectors(ADAMW_WIDTH, 0, master, weights_bf16, grad, m, v))
        LAUNCH((adamw_kernel<ADAMW_WIDTH>), grid_of(blocks_of(n, ADAMW_THREADS * ADAMW_WIDTH)), ADAMW_THREADS,
               0, on, task);
    else
        LAUNCH((adamw_kernel<1>), grid_of(blocks_of(n, ADAMW_THREADS)), ADAMW_THREADS, 0, on, task);
    return launched("adamw");
}

/* The sums of the blocks: 8 KB of the card's memory from the first call to the end of the process, for a sum has no
 * workspace. It waits for its result, so that a lock is all that two callers need. */
static std::mutex sums_lock;
static double *block_sums;

static sc_status fetch_sums(stream *s, double *host, const float *x, int64_t n, int64_t blocks)
{
    const cudaStream_t on = cuda_stream(s);
    const std::lock_guard<std::mutex> lock(sums_lock);
    if (!block_sums) {
        const sc_status status = cuda_alloc((void **)&block_sums, SUM_BLOCKS * sizeof *block_sums);
        if (status != SC_OK)
            return status;
    }
    if (fits_vectors(SUM_WIDTH, 0, x))
        LAUNCH((square_kernel<SUM_WIDTH>), grid_of(blocks), SUM_THREADS, 0, on, block_sums, x, n);
    else
        LAUNCH((square_kernel<1>), grid_of(blocks), SUM_THREADS, 0, on, block_sums, x, n);
    const sc_status status = launched("square_sum");
    return status == SC_OK ? fetch("square_sum", s, host, block_sums, (size_t)blocks * sizeof *host) : status;
}

sc_status cuda_square_sum(stream *s, double *out, const float *x, int64_t n)
{
    double sums[SUM_BLOCKS];
    const int64_t shares = blocks_of(n, SUM_LEAST),
                  blocks = shares < SUM_BLOCKS ? shares : (int64_t)SUM_BLOCKS;
    if (n < 0)
        return sc_fail(SC_INTERNAL, "square_sum: impossible size: %lld", (long long)n);
    *out = 0;
    if (n == 0)
        return SC_OK;
    const sc_status status = fetch_sums(s, sums, x, n, blocks);
    for (int64_t b = 0; status == SC_OK && b < blocks; b++)
        *out += sums[b];
    return status;
}
