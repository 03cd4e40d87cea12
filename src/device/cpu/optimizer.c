/* optimizer: AdamW (Loshchilov & Hutter 2019) and the norm of a gradient. */
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

sc_status cpu_adamw(stream *s, float *master, void *weights_bf16, const float *grad, float *m, float *v,
                    int64_t n, const adamw_options *options)
{
    (void)s;
    if (options->step < 1)
        return sc_fail(SC_INTERNAL, "adamw: step %lld; the first is 1", (long long)options->step);
    const float beta1 = options->beta1, beta2 = options->beta2, grad_scale = options->grad_scale;
    const double step = (double)options->step;
    /* w -= lr * (m / c1) / (sqrt(v / c2) + eps), with the corrections folded into scalars */
    const float rate = (float)((double)options->lr / (1.0 - pow((double)beta1, step)));
    const float root = (float)(1.0 / sqrt(1.0 - pow((double)beta2, step)));
    const float keep = (float)(1.0 - (double)options->lr * (double)options->weight_decay);
    const float eps = options->eps;
    uint16_t *half = weights_bf16;
    int64_t blocks = (n + ROW_BLOCK - 1) / ROW_BLOCK;
#pragma omp parallel for schedule(static) num_threads(cpu_team(4 * n, blocks))
    for (int64_t b = 0; b < blocks; b++) {
        int64_t from = b * ROW_BLOCK, part = row_part(n, from);
        float *restrict w = master + from, *restrict mm = m + from, *restrict vv = v + from;
        const float *restrict gg = grad + from;
        for (int64_t i = 0; i < part; i++) {
            float g = gg[i] * grad_scale;
            float m1 = beta1 * mm[i] + (1.0f - beta1) * g;
            float v1 = beta2 * vv[i] + (1.0f - beta2) * g * g;
            mm[i] = m1;
            vv[i] = v1;
            w[i] = w[i] * keep - rate * m1 / (sqrtf(v1) * root + eps);
        }
        if (half)
            narrow(half + from, w, part);
    }
    return SC_OK;
}

/* The parts depend on n alone: the order of the sum is the same for any number of threads. */
enum { SUM_PARTS = 256, SUM_PART_LEAST = 4096 };

sc_status cpu_square_sum(stream *s, double *out, const float *x, int64_t n)
{
    (void)s;
    double sums[SUM_PARTS] = {0};
    int64_t parts = (n + SUM_PART_LEAST - 1) / SUM_PART_LEAST;
    parts = parts > SUM_PARTS ? SUM_PARTS : parts;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, parts))
    for (int64_t p = 0; p < parts; p++) {
        double total = 0;
        int64_t from = n / parts * p + (p < n % parts ? p : n % parts);
        int64_t to = from + n / parts + (p < n % parts ? 1 : 0);
#pragma omp simd reduction(+ : total)
        for (int64_t i = from; i < to; i++)
            total += (double)x[i] * (double)x[i];
        sums[p] = total;
    }
    double total = 0;
    for (int64_t p = 0; p < parts; p++)
        total += sums[p];
    *out = total;
    return SC_OK;
}
