/* design: one step of the greedy D-optimal recursion, on the CPU.
 *
 * After x_t was added to S, gain_i = x_i' S^-1 x_i falls by (x_i . w)^2 with
 * w = S^-1 x_t / sqrt(1 + x_t' S^-1 x_t) (Sherman and Morrison 1950).
 */
#include "device/cpu/cpu.h"

#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define AVX2 __attribute__((target("avx2")))
#define HAS_AVX2() __builtin_cpu_supports("avx2")
#else
#define AVX2
#define HAS_AVX2() 0
#endif

typedef float float4 __attribute__((vector_size(16), aligned(4)));
typedef double double4 __attribute__((vector_size(32), aligned(8)));

/* Sixteen partial sums in a fixed order: the same bits from SSE2 and AVX2 code. */
static inline __attribute__((always_inline)) double dot(const float *x, const double *w, int64_t dim)
{
    double4 sum[4];
    memset(sum, 0, sizeof sum);
    int64_t d = 0;
    for (; d + 16 <= dim; d += 16)
        for (int v = 0; v < 4; v++)
            sum[v] += __builtin_convertvector(*(const float4 *)(x + d + 4 * v), double4) *
                      *(const double4 *)(w + d + 4 * v);
    for (int l = 0; d < dim; d++, l++)
        sum[l / 4][l % 4] += (double)x[d] * w[d];
    const double4 all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    return (all[0] + all[1]) + (all[2] + all[3]);
}

static double dot_plain(const float *x, const double *w, int64_t dim)
{
    return dot(x, w, dim);
}

AVX2 static double dot_avx2(const float *x, const double *w, int64_t dim)
{
    return dot(x, w, dim);
}

sc_status cpu_design_update(stream *s, double *gains, const float *x, const double *w, int64_t n, int64_t dim)
{
    (void)s;
    if (n < 0 || dim <= 0)
        return sc_fail(SC_INTERNAL, "design_update: impossible shape: %lld rows of %lld", (long long)n,
                       (long long)dim);
    double (*const row_dot)(const float *, const double *, int64_t) = HAS_AVX2() ? dot_avx2 : dot_plain;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        const double y = row_dot(x + i * dim, w, dim);
        gains[i] -= y * y;
    }
    return SC_OK;
}
