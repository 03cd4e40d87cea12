/* loss: cross-entropy over the vocabulary. One pass finds the maximum and the sum of exponentials (rescaled
 * block by block when the maximum grows), a second writes the gradient over the logits. */
#include "device/cpu/cpu.h"
#include "device/cpu/softmax.h"

/* The derivative of y = cap tanh(x / cap), by y and 1 / cap. */
static inline float uncapped_slope(float y, float rate)
{
    return 1.0f - (rate * y) * (rate * y);
}

sc_status cpu_cross_entropy(stream *s, float *losses, void *logits, dtype type, const int32_t *targets,
                            int64_t n, int64_t vocab, float scale, float soft_cap, bool backward)
{
    (void)s;
    const float rate = soft_cap > 0 ? 1 / soft_cap : 0;
    for (int64_t i = 0; i < n; i++)
        if (targets[i] < 0 || targets[i] >= vocab)
            return sc_fail(SC_INTERNAL, "cross_entropy: target %d of row %lld is outside 0..%lld",
                           (int)targets[i], (long long)i, (long long)vocab - 1);
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *vocab, n))
    for (int64_t row = 0; row < n; row++) {
        float scratch[ROW_BLOCK], out[ROW_BLOCK];
        int64_t first = row * vocab, target = targets[row];
        double lse = log_sum_exp(logits, type, first, vocab);
        const float aim = *row_load(logits, type, first + target, 1, scratch);
        losses[row] = (float)(lse - (double)aim);
        if (!backward)
            continue;
        float shift = (float)lse, correction = scale * (float)exp((double)shift - lse);
        for (int64_t from = 0; from < vocab; from += ROW_BLOCK) {
            int64_t part = row_part(vocab, from);
            const float *x = row_load(logits, type, first + from, part, scratch);
            float *d = row_target(logits, type, first + from, out);
            if (rate > 0)
                for (int64_t i = 0; i < part; i++)
                    d[i] = correction * fast_exp(x[i] - shift) * uncapped_slope(x[i], rate);
            else
                for (int64_t i = 0; i < part; i++)
                    d[i] = correction * fast_exp(x[i] - shift);
            if (target >= from && target < from + part)
                d[target - from] -= rate > 0 ? scale * uncapped_slope(aim, rate) : scale;
            row_commit(logits, type, first + from, part, out);
        }
    }
    return SC_OK;
}

sc_status cpu_cap_logits(stream *s, float *logits, int64_t n, float cap)
{
    (void)s;
    if (n < 0 || !(cap > 0))
        return sc_fail(SC_INTERNAL, "cap_logits: %lld logits cannot have a cap of %g", (long long)n,
                       (double)cap);
    const int64_t blocks = (n + ROW_BLOCK - 1) / ROW_BLOCK;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, blocks))
    for (int64_t b = 0; b < blocks; b++)
        cap_values(logits + b * ROW_BLOCK, row_part(n, b * ROW_BLOCK), cap);
    return SC_OK;
}
