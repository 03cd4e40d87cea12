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

struct loss_task {
    float *losses;
    void *logits;
    const int32_t *targets;
    int64_t n, vocab;
    float scale;
    bool backward;
};

/* --- kernel -------------------------------------------------------------------------------------------- */

struct loss_shared {
    logits_shared row;
    float shift, correction; /* the gradient is correction * exp(x - shift) */
};

template <class T>
__device__ __forceinline__ void write_gradient(T *x, int64_t n, float shift, float correction)
{
    constexpr int width = vector_width<T>();
    const row_cut cut = cut_row(x, n);
    uint4 *vectors = (uint4 *)(x + cut.head);
    const int64_t ragged = ragged_element<T>(cut, n, (int64_t)threadIdx.x);
    if (ragged >= 0)
        x[ragged] = from_float<T>(correction * __expf(to_float(x[ragged]) - shift));
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
                    values[i] = correction * __expf(values[i] - shift);
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
            write_gradient(x, t.vocab, shared.shift, shared.correction);
            __syncthreads(); /* the target's own element is written last */
            if (threadIdx.x == 0)
                x[target] = from_float<T>(shared.correction * __expf(at_target - shared.shift) - t.scale);
        }
        __syncthreads(); /* the row is done */
    }
}

/* --- launcher ------------------------------------------------------------------------------------------ */

sc_status cuda_cross_entropy(stream *s, float *losses, void *logits, dtype type, const int32_t *targets,
                             int64_t n, int64_t vocab, float scale, bool backward)
{
    if (n < 0 || vocab < 1)
        return sc_fail(SC_INTERNAL, "cross_entropy: impossible shape: %lld rows of %lld", (long long)n,
                       (long long)vocab);
    if (n == 0)
        return SC_OK;
    const loss_task task = {losses, logits, targets, n, vocab, scale, backward};
    if (type == DTYPE_F32)
        LAUNCH(loss_kernel<float>, logits_grid(n), LOGITS_THREADS, 0, cuda_stream(s), task);
    else
        LAUNCH(loss_kernel<bf16>, logits_grid(n), LOGITS_THREADS, 0, cuda_stream(s), task);
    return launched("cross_entropy");
}
