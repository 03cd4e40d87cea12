/* divergence: the Jensen-Shannon divergence of many distributions to one, on the CPU.
 *
 * JS(p || q) = 1/2 KL(p || m) + 1/2 KL(q || m) with m = (p + q) / 2, in nats (Lin 1991). It lies in
 * 0 .. ln 2; 0 log 0 is 0. Four terms are taken at once, in an order that no batch changes.
 */
#include "device/cpu/cpu.h"

#include <float.h>

#include "device/cpu/double.h"

/* p log(p / m) + q log(q / m) >= 0 up to rounding. The smallest normal number keeps the logarithm's argument one and is
 * lost in all that count. */
static inline __attribute__((always_inline)) double4 js_terms(double4 p, double4 q)
{
    const double4 m = 0.5 * (p + q) + DBL_MIN;
    return p * log4(p / m + DBL_MIN) + q * log4(q / m + DBL_MIN);
}

static double js_row(const double *p, const double *q, int64_t k)
{
    double4 sum = {0};
    int64_t j = 0;
    for (; j + 4 <= k; j += 4)
        sum += js_terms(load4(p + j), load4(q + j));
    if (j < k) {
        double4 last_p = {0}, last_q = {0};
        for (int l = 0; j + l < k; l++) {
            last_p[l] = p[j + l];
            last_q[l] = q[j + l];
        }
        sum += js_terms(last_p, last_q);
    }
    const double js = 0.5 * sum4(sum);
    return js > 0 ? js : 0;
}

sc_status cpu_js_to_mean(stream *s, double *js, const double *p, const double *q, int64_t n, int64_t k)
{
    (void)s;
    if (n < 0 || k <= 0)
        return sc_fail(SC_INTERNAL, "js_to_mean: impossible shape: %lld rows of %lld", (long long)n,
                       (long long)k);
#pragma omp parallel for schedule(static) if (n * k > 32768) /* a small batch is done before threads wake */
    for (int64_t i = 0; i < n; i++)
        js[i] = js_row(p + i * k, q, k);
    return SC_OK;
}
