/* loss: cross-entropy over the vocabulary. One pass finds the maximum and the sum of exponentials (rescaled
 * block by block when the maximum grows), a second writes the gradient over the logits. */
#include "device/cpu/cpu.h"
#include "device/cpu/softmax.h"

sc_status cpu_cross_entropy(stream *s, float *losses, void *logits, dtype type, const int32_t *targets,
                            int64_t n, int64_t vocab, float scale, bool backward)
{
    (void)s;
    for (int64_t i = 0; i < n; i++)
        if (targets[i] < 0 || targets[i] >= vocab)
            return sc_fail(SC_INTERNAL, "cross_entropy: target %d of row %lld is outside 0..%lld",
                           (int)targets[i], (long long)i, (long long)vocab - 1);
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *vocab, n))
    for (int64_t row = 0; row < n; row++) {
        float scratch[ROW_BLOCK], out[ROW_BLOCK];
        int64_t first = row * vocab, target = targets[row];
        double lse = log_sum_exp(logits, type, first, vocab);
        losses[row] = (float)(lse - (double)*row_load(logits, type, first + target, 1, scratch));
        if (!backward)
            continue;
        float shift = (float)lse, correction = scale * (float)exp((double)shift - lse);
        for (int64_t from = 0; from < vocab; from += ROW_BLOCK) {
            int64_t part = row_part(vocab, from);
            const float *x = row_load(logits, type, first + from, part, scratch);
            float *d = row_target(logits, type, first + from, out);
            for (int64_t i = 0; i < part; i++)
                d[i] = correction * fast_exp(x[i] - shift);
            if (target >= from && target < from + part)
                d[target - from] -= scale;
            row_commit(logits, type, first + from, part, out);
        }
    }
    return SC_OK;
}
