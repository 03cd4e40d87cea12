/* divergence: the Jensen-Shannon divergence of many distributions to one, in double, to the bit that of
 * src/device/cpu/divergence.c: four lanes a row, and the same logarithm. 8 n k bytes for about 70 n k operations. */
#include "lanes.cuh"
#include "launch.cuh"

#include <float.h>

enum { JS_THREADS = 256, JS_LANES = 4 };

/* --- kernel -------------------------------------------------------------------------------------------- */

/* ln x for 0 < x < infinity, x not subnormal: log4 of src/device/cpu/double.h, one lane of it. */
__device__ __forceinline__ double log_normal(double x)
{
    const unsigned long long bits = (unsigned long long)__double_as_longlong(x), bias = 1024ull << 52;
    const unsigned long long e = (bits - 0x3fe6a09e667f3bcdull + bias) >> 52; /* exponent + 1024 */
    const double m = __longlong_as_double((long long)(bits - (e << 52) + bias));
    const double exponent = (double)(long long)e - 1024;
    const double f = m - 1, s = f / (2 + f), z = s * s, half = 0.5 * f * f;
    const double r = z * (0x1.5555555555593p-1 +
                          z * (0x1.999999997fa04p-2 +
                               z * (0x1.2492494229359p-2 +
                                    z * (0x1.c71c51d8e78afp-3 +
                                         z * (0x1.7466496cb03dep-3 +
                                              z * (0x1.39a09d078c69fp-3 + z * 0x1.2f112df3e5244p-3))))));
    return exponent * 0x1.62e42feep-1 - ((half - (s * (half + r) + exponent * 0x1.a39ef35793c76p-33)) - f);
}

/* p log(p / m) + q log(q / m); the smallest normal number keeps the logarithm's argument one. */
__device__ __forceinline__ double js_term(double p, double q)
{
    const double m = 0.5 * (p + q) + DBL_MIN;
    return p * log_normal(p / m + DBL_MIN) + q * log_normal(q / m + DBL_MIN);
}

__global__ void __launch_bounds__(JS_THREADS)
    js_kernel(double *js, const double *p, const double *q, int64_t n, int64_t k)
{
    const int64_t groups = (int64_t)gridDim.x * (JS_THREADS / JS_LANES);
    for (int64_t i = (int64_t)blockIdx.x * (JS_THREADS / JS_LANES) + threadIdx.x / JS_LANES; i < n;
         i += groups) {
        double sum = 0;
        for (int64_t j = threadIdx.x % JS_LANES; j < k; j += JS_LANES)
            sum += js_term(p[i * k + j], q[j]);
        const double half = 0.5 * join_halves<JS_LANES>(sum);
        if (threadIdx.x % JS_LANES == 0)
            js[i] = half > 0 ? half : 0;
    }
}

/* --- launcher ------------------------------------------------------------------------------------------ */

sc_status cuda_js_to_mean(stream *s, double *js, const double *p, const double *q, int64_t n, int64_t k)
{
    if (n < 0 || k <= 0)
        return sc_fail(SC_INTERNAL, "js_to_mean: impossible shape: %lld rows of %lld", (long long)n,
                       (long long)k);
    LAUNCH(js_kernel, striding_grid(blocks_of(n, JS_THREADS / JS_LANES)), JS_THREADS, 0, cuda_stream(s), js,
           p, q, n, k);
    return launched("js_to_mean");
}
