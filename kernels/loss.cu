/* loss: cross-entropy over the vocabulary and its gradient in place of the logits. Twin of src/device/cpu/loss.c.
 *
 * One block a row and two passes: one for the greatest logit and the sum of exponentials (logits.cuh), one that writes the
 * gradient, from the row's end back to its beginning, so that it meets first what the cache has last seen. That is n vocab
 * elements read, and read and written once more with the gradient: 3 n vocab elements less what is still in the cache (a
 * row of 128,256 floats is 0.5 MB, and the card has one or two rows a multiprocessor in work). An exponential an
 * element and pass, from the card's own ex2, whose error grows with the distance to the greatest: 2^-22 at equal size, and of
 * what is e^-20 times as large still below 2^-18 of itself.
 *
 * The host does not wait to look at targets: a row whose target is outside of the vocabulary becomes NaN, its loss and its
 * gradient, and whoever reads the losses finds it. */
#include "logits.cuh"

enum { CAP_THREADS = 256 };

struct loss_task {
    float *losses;
    void *logits;
    const int32_t *targets;
    int64_t n, vocab;
    float scale, rate; /* rate: of the soft cap, 1 / cap; 0: none */
    bool backward;
};

/* --- kernel -------------------------------------------------------------------------------------------- */

struct loss_shared {
    logits_shared row;
    float shift, correction; /* the gradient is correction * exp(x - shift) */
};

/* The derivative of y = cap tanh(x / cap), by y and rate = 1 / cap; 1 where there is no cap. */
__device__ __forceinline__ float uncapped_slope(float y, float rate)
{
    const float t = rate * y;
    return rate > 0 ? 1 - t * t : 1;
}

template <class T>
__device__ __forceinline__ void write_gradient(T *x, int64_t n, float shift, float correction, float rate)
{
    constexpr int width = vector_width<T>();
    const row_cut cut = cut_row(x, n);
    uint4 *vectors = (uint4 *)(x + cut.head);
    const int64_t ragged = ragged_element<T>(cut, n, (int64_t)threadIdx.x);
    if (ragged >= 0) {
        const float y = to_float(x[ragged]);
        x[ragged] = from_float<T>(correction * __expf(y - shift) * uncapped_slope(y, rate));
    }
    for (int64_t v = cut.vectors - 1 - threadIdx.x; v >= 0; v -= LOGITS_AHEAD * LOGITS_THREADS) {
        uint4 raw[LOGITS_AHEAD];
#pragma unroll
        for (int a = 0; a < LOGITS_AHEAD; a++)
            if (v >= a * LOGITS_THREADS)
                raw[a] = vectors[v - a * LOGITS_THREADS];
#pragma unroll
        for (int a = 0; a < LOGITS_AHEAD; a++)
            if (v >= a * LOGITS_THREADS) {
                float values[width];
                unpack(values, raw[a]);
#pragma unroll
                for (int i = 0; i < width; i++)
                    values[i] = correction * __expf(values[i] - shift) * uncapped_slope(values[i], rate);
                vectors[v - a * LOGITS_THREADS] = pack(values);
            }
    }
}

template <class T> __global__ void __launch_bounds__(LOGITS_THREADS) loss_kernel(loss_task t)
{
    SHARED(loss_shared, shared, );
    for (int64_t row = blockIdx.x; row < t.n; row += gridDim.x) {
        T *x = (T *)t.logits + row * t.vocab;
        const bool known = t.targets[row] >= 0 && t.targets[row] < t.vocab;
        const int64_t target = known ? t.targets[row] : 0;
        const float at_target = known ? to_float(x[target]) : NAN;
        const double lse = row_lse(shared.row, x, t.vocab);
        if (threadIdx.x == 0) {
            t.losses[row] = (float)(lse - (double)at_target);
            shared.shift = (float)lse;
            shared.correction = known ? t.scale * (float)exp((double)shared.shift - lse) : NAN;
        }
        __syncthreads(); /* shift and correction are there */
        if (t.backward) {
            write_gradient(x, t.vocab, shared.shift, shared.correction, t.rate);
            __syncthreads(); /* the target's own element is written last */
            if (threadIdx.x == 0)
                x[target] = from_float<T>((shared.correction * __expf(at_target - shared.shift) - t.scale) *
                                          uncapped_slope(at_target, t.rate));
        } /* the block meets in row_lse before shift and correction are written again */
    }
}

/* In float, and with the exact tanh: a soft cap is asked of a few hundred rows at a time. */
__global__ void __launch_bounds__(CAP_THREADS) cap_kernel(float *logits, int64_t n, float cap)
{
    const int64_t i = ((int64_t)blockIdx.x * CAP_THREADS + threadIdx.x) * 4;
    if (i + 4 <= n && (uintptr_t)logits % 16 == 0) {
        float v[4];
        load_vector(v, logits + i);
#pragma unroll
        for (int e = 0; e < 4; e++)
            v[e] = cap * tanhf(v[e] / cap);
        store_vector(logits + i, v);
    } else
        for (int64_t j = i; j < n && j < i + 4; j++)
            logits[j] = cap * tanhf(logits[j] / cap);
}

/* --- launchers ----------------------------------------------------------------------------------------- */

sc_status cuda_cross_entropy(stream *s, float *losses, void *logits, dtype type, const int32_t *targets,
                             int64_t n, int64_t vocab, float scale, float soft_cap, bool backward)
{
    if (n < 0 || vocab < 1)
        return sc_fail(SC_INTERNAL, "cross_entropy: impossible shape: %lld rows of %lld", (long long)n,
                       (long long)vocab);
    if (n == 0)
        return SC_OK;
    const loss_task task = {losses,  logits, targets, n, vocab, scale, soft_cap > 0 ? 1 / soft_cap : 0,
                            backward};
    if (type == DTYPE_F32)
        LAUNCH(loss_kernel<float>, logits_grid(n), LOGITS_THREADS, 0, cuda_stream(s), task);
    else
        LAUNCH(loss_kernel<bf16>, logits_grid(n), LOGITS_THREADS, 0, cuda_stream(s), task);
    return launched("cross_entropy");
}

sc_status cuda_cap_logits(stream *s, float *logits, int64_t n, float cap)
{
    if (n < 0 || !(cap > 0))
        return sc_fail(SC_INTERNAL, "cap_logits: %lld logits cannot have a cap of %g", (long long)n,
                       (double)cap);
    if (n == 0)
        return SC_OK;
    LAUNCH(cap_kernel, grid_of(blocks_of(n, 4 * CAP_THREADS)), CAP_THREADS, 0, cuda_stream(s), logits, n,
           cap);
    return launched("cap_logits");
}
