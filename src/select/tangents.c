/* Tangents of js: slopes in float, their products with the mean in double. */
#include "select/tangents.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "select/avx2.h"

static const double DEEPEST = 88; /* above |log FLT_MIN|: no slope is lower */

void tangents_open(tangents *t, int64_t k, double weight)
{
    const double deep = 1 + log((double)k), width = (double)k + 16;
    /* The planes', and the sums and products of entropies, distributions and slopes in double; and that of the score,
     * of which alpha H(p) is a part whatever the weight is. */
    *t = (tangents){.k = k,
                    .weight = weight,
                    .slack = weight * (0x1p-44 * deep * deep + 0x1p-51 * width * DEEPEST) + 0x1p-50 * deep};
}

static void free_slots(tangents *t)
{
    free(t->slopes);
    free(t->heights);
    t->slopes = NULL;
    t->heights = NULL;
    t->room = 0;
}

void tangents_close(tangents *t)
{
    free_slots(t);
    *t = (tangents){0};
}

sc_status tangents_clear(tangents *t, int64_t slots)
{
    sc_status status = SC_OK;
    if (slots > t->room) {
        free_slots(t);
        SC_TRY(sc_alloc(&t->slopes, (size_t)slots * (size_t)t->k, sizeof *t->slopes));
        SC_TRY(sc_alloc(&t->heights, (size_t)slots, sizeof *t->heights));
        t->room = slots;
    }
    for (int64_t q = 0; q < slots; q++)
        t->heights[q] = INFINITY;
cleanup:
    return status;
}

/* log x within 2^-23 (1 + |log x|) for a normal x > 0: x = 2^e m, sqrt(1/2) <= m < sqrt(2), log m = 2 artanh s,
 * s = (m - 1) / (m + 1), |s| < 0.172: what the series leaves out is below 2 s^11 / 11 < 2^-30. */
INLINE float log_near(float x)
{
    int32_t bits, e;
    float m;
    memcpy(&bits, &x, sizeof bits);
    e = (bits - 0x3f3504f3) >> 23;
    bits -= (int32_t)((uint32_t)e << 23);
    memcpy(&m, &bits, sizeof m);
    const float f = m - 1, s = f / (2 + f), z = s * s;
    const float series = z * (1.0f / 3 + z * (1.0f / 5 + z * (1.0f / 7 + z * (1.0f / 9))));
    return (float)e * 0x1.62e43p-1f + (2 * s + 2 * s * series);
}

INLINE void find_slopes(float *restrict slopes, const double *restrict p, const double *restrict mean,
                        int64_t k)
{
    for (int64_t j = 0; j < k; j++) {
        const float a = (float)(0.5 * (p[j] + mean[j]));
        slopes[j] = log_near(a > FLT_MIN ? a : FLT_MIN);
    }
}

/* In 16 partial sums: what a chain of additions waits for is the most of it. */
INLINE double product(const float *restrict slopes, const double *restrict mean, int64_t k)
{
    enum { LANES = 16 };
    double sums[LANES] = {0}, total = 0;
    int64_t j = 0;
    for (; j + LANES <= k; j += LANES)
        for (int l = 0; l < LANES; l++)
            sums[l] += (double)slopes[j + l] * mean[j + l];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            sums[l] += sums[l + half];
    for (; j < k; j++)
        total += (double)slopes[j] * mean[j];
    return sums[0] + total;
}

INLINE void find_bounds(const tangents *t, const int64_t *slots, int64_t n, const double *mean,
                        double *bounds)
{
    const double all = t->common + t->slack;
    for (int64_t b = 0; b < n; b++) {
        const double height = t->heights[slots[b]];
        bounds[b] = height;
        if (height < INFINITY)
            bounds[b] += all - 0.5 * t->weight * product(t->slopes + slots[b] * t->k, mean, t->k);
    }
}

/* The same bits, wider registers. */
AVX2 static void find_slopes_avx2(float *slopes, const double *p, const double *mean, int64_t k)
{
    find_slopes(slopes, p, mean, k);
}

static void find_slopes_plain(float *slopes, const double *p, const double *mean, int64_t k)
{
    find_slopes(slopes, p, mean, k);
}

AVX2 static void find_bounds_avx2(const tangents *t, const int64_t *slots, int64_t n, const double *mean,
                                  double *bounds)
{
    find_bounds(t, slots, n, mean, bounds);
}

static void find_bounds_plain(const tangents *t, const int64_t *slots, int64_t n, const double *mean,
                              double *bounds)
{
    find_bounds(t, slots, n, mean, bounds);
}

void tangents_move(tangents *t, const double *mean)
{
    double entropy = 0;
    for (int64_t j = 0; j < t->k; j++)
        entropy -= mean[j] > 0 ? mean[j] * log(mean[j]) : 0;
    t->common = -0.5 * t->weight * entropy;
}

void tangents_set(tangents *t, int64_t slot, const double *p, const double *mean, double score)
{
    float *slopes = t->slopes + slot * t->k;
    (HAS_AVX2() ? find_slopes_avx2 : find_slopes_plain)(slopes, p, mean, t->k);
    t->heights[slot] = score - t->common + 0.5 * t->weight * product(slopes, mean, t->k);
}

void tangents_bound(const tangents *t, const int64_t *slots, int64_t n, const double *mean, double *bounds)
{
    (HAS_AVX2() ? find_bounds_avx2 : find_bounds_plain)(t, slots, n, mean, bounds);
}
