/* What the CPU files share: rows of either type seen as floats, and a vectorisable exp.
 *
 * An operation works in float on blocks of ROW_BLOCK elements. For DTYPE_F32 a block is the memory
 * itself; for DTYPE_BF16 it is a scratch array on the thread's stack, converted on load and rounded
 * on store. */
#ifndef SC_DEVICE_CPU_ROWS_H
#define SC_DEVICE_CPU_ROWS_H

#include <math.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "device/device.h"

enum { ROW_BLOCK = 512, SMALL_WORK = 16384 /* elements below which one thread is faster than a team */ };

static inline int cpu_team(int64_t work, int64_t tasks)
{
#ifdef _OPENMP
    if (work < SMALL_WORK || omp_in_parallel())
        return 1;
    int most = omp_get_max_threads();
    return tasks < most ? (tasks > 0 ? (int)tasks : 1) : most;
#else
    (void)work;
    (void)tasks;
    return 1;
#endif
}

static inline int64_t row_part(int64_t n, int64_t at)
{
    return n - at < ROW_BLOCK ? n - at : ROW_BLOCK;
}

static inline void widen(float *restrict dst, const uint16_t *restrict src, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = bf16_to_f32(src[i]);
}

static inline void narrow(uint16_t *restrict dst, const float *restrict src, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = f32_to_bf16(src[i]);
}

static inline const void *at_const(const void *base, dtype type, int64_t offset)
{
    return (const char *)base + (size_t)offset * dtype_size(type);
}

static inline void *at(void *base, dtype type, int64_t offset)
{
    return (char *)base + (size_t)offset * dtype_size(type);
}

/* n floats of base[offset...]: the memory itself, or scratch. */
static inline const float *row_load(const void *base, dtype type, int64_t offset, int64_t n, float *scratch)
{
    if (type == DTYPE_F32)
        return (const float *)base + offset;
    widen(scratch, (const uint16_t *)base + offset, n);
    return scratch;
}

/* Where n results for base[offset...] are to be written; row_commit() brings them home. */
static inline float *row_target(void *base, dtype type, int64_t offset, float *scratch)
{
    return type == DTYPE_F32 ? (float *)base + offset : scratch;
}

static inline void row_commit(void *base, dtype type, int64_t offset, int64_t n, const float *scratch)
{
    if (type != DTYPE_F32)
        narrow((uint16_t *)base + offset, scratch, n);
}

/* e^x to about 2 ulp: 2^n * p(r), |r| <= ln 2 / 2, polynomial of Cephes' expf (Moshier). Unlike libm's, it
 * is inlined into vector loops. Below -87.33 it gives 0, above 88.37 infinity. */
static inline float fast_exp(float x)
{
    float clipped = x < -87.33f ? -87.33f : x > 88.37f ? 88.37f : x;
    float shifted = clipped * 1.44269504088896341f + 12582912.0f; /* 1.5 * 2^23: rounds to an integer */
    float n = shifted - 12582912.0f;
    float r = clipped - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    union {
        float f;
        int32_t i;
    } bits = {.f = shifted}, power;
    power.i = (int32_t)((uint32_t)(bits.i + 127) << 23); /* the low bits of `shifted` hold n */
    float y = p * power.f;
    y = x < -87.33f ? 0.0f : y;
    y = x > 88.37f ? INFINITY : y;
    return x == x ? y : x;
}

/* tanh x to about 2 ulp, by Cephes' tanhf (Moshier); inlined into vector loops, unlike libm's. */
static inline float fast_tanh(float x)
{
    const float y = x < 0 ? -x : x, z = x * x;
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    const float small = p * z * x + x, large = 1.0f - 2.0f / (fast_exp(2 * y) + 1.0f);
    return y < 0.625f ? small : x < 0 ? -large : large;
}

/* x becomes cap tanh(x / cap) */
static inline void cap_values(float *restrict x, int64_t n, float cap)
{
    const float rate = 1.0f / cap;
    for (int64_t i = 0; i < n; i++)
        x[i] = cap * fast_tanh(x[i] * rate);
}

/* sin x and cos x to about 1e-7, for |x| up to 1e8: x less a multiple of pi/2, in double, then the polynomials of Cephes'
 * sinf and cosf (Moshier). Inlined into vector loops, where libm's sincos took most of rope's time. */
static inline void fast_sincos(double x, float *sine, float *cosine)
{
    const double shifted =
        x * 0.63661977236758134308 + 6755399441055744.0; /* 1.5 * 2^52: rounds to an integer */
    const double n = shifted - 6755399441055744.0;
    const float r = (float)((x - n * 1.57079632679489655800) - n * 6.12323399573676603587e-17), rr = r * r;
    const float s = r + r * rr * (-1.6666654611e-1f + rr * (8.3321608736e-3f + rr * -1.9515295891e-4f));
    const float c =
        1.0f - 0.5f * rr +
        rr * rr * (4.166664568298827e-2f + rr * (-1.388731625493765e-3f + rr * 2.443315711809948e-5f));
    union {
        double f;
        uint64_t u;
    } bits = {.f = shifted};
    const uint32_t quarter = (uint32_t)bits.u; /* its low bits hold n */
    const float a = quarter & 1 ? c : s, b = quarter & 1 ? s : c;
    *sine = quarter & 2 ? -a : a;
    *cosine = (quarter + 1) & 2 ? -b : b;
}

/* 1 / (1 + e^-x), without overflow at either end. */
static inline float fast_sigmoid(float x)
{
    return 1.0f / (1.0f + fast_exp(-x));
}

static inline float sum_of(const float *restrict x, int64_t n)
{
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; i++)
        total += x[i];
    return total;
}

static inline float max_of(const float *restrict x, int64_t n)
{
    float most = -INFINITY;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

#endif
