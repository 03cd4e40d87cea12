/* The logarithm of a row's sum of exponentials, for the loss and for sampling. */
#ifndef SC_DEVICE_CPU_SOFTMAX_H
#define SC_DEVICE_CPU_SOFTMAX_H

#include "device/cpu/rows.h"

/* log(sum_i exp(x_i)) of n elements from `first`: block sums in float, their sum in double. Elements may be
 * -infinity; if all are, so is the result. */
static inline double log_sum_exp(const void *x, dtype type, int64_t first, int64_t n)
{
    float scratch[ROW_BLOCK], most = -INFINITY;
    double total = 0;
    for (int64_t from = 0; from < n; from += ROW_BLOCK) {
        int64_t part = row_part(n, from);
        const float *values = row_load(x, type, first + from, part, scratch);
        float top = max_of(values, part);
        if (top > most) {
            total *= exp((double)most - (double)top);
            most = top;
        }
        if (most == -INFINITY)
            continue;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < part; i++)
            sum += fast_exp(values[i] - most);
        total += (double)sum;
    }
    return (double)most + log(total);
}

#endif
