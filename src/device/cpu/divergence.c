/* divergence: the Jensen-Shannon divergence of many distributions to one, on the CPU.
 *
 * JS(p || q) = 1/2 KL(p || m) + 1/2 KL(q || m) with m = (p + q) / 2, in nats (Lin 1991). It lies in
 * 0 .. ln 2; 0 log 0 is 0.
 */
#include "device/cpu/cpu.h"

#include <math.h>

sc_status cpu_js_to_mean(stream *s, double *js, const double *p, const double *q, int64_t n, int64_t k)
{
    (void)s;
    if (n < 0 || k <= 0)
        return sc_fail(SC_INTERNAL, "js_to_mean: impossible shape: %lld rows of %lld", (long long)n,
                       (long long)k);
#pragma omp parallel for schedule(static) if (n * k > 32768) /* a small batch is done before threads wake */
    for (int64_t i = 0; i < n; i++) {
        const double *row = p + i * k;
        double sum = 0;
        for (int64_t j = 0; j < k; j++) {
            const double m = 0.5 * (row[j] + q[j]);
            /* Each term is p log(p/m) + q log(q/m) >= 0 up to rounding. */
            if (row[j] > 0)
                sum += row[j] * log(row[j] / m);
            if (q[j] > 0)
                sum += q[j] * log(q[j] / m);
        }
        js[i] = sum > 0 ? 0.5 * sum : 0;
    }
    return SC_OK;
}
