/* sample_weight.h: what sampling decides by, in whole numbers, so that every table draws the same token.
 *
 * A token weighs exp((x - top) / temperature), top the greatest logit of its row, in fixed point: the greatest weighs
 * 2^(24 + shift), and all of a row fit into 62 bits. Sums of whole numbers do not depend on their order, so threads, lanes and
 * cards find the same sums, edges and tokens to the last bit; a weight's own rounding is that of a float, 3 2^-24 of it and
 * (x - top) / temperature 2^-23. Fused multiplications are written out, so the one line of floats does not depend
 * on what a compiler fuses. For src/device/cpu/sample.c and kernels/sample.cu, by way of ops.h. */
#ifndef SC_DEVICE_SAMPLE_WEIGHT_H
#define SC_DEVICE_SAMPLE_WEIGHT_H

#include "device/device_too.h"

typedef struct sample_scale {
    float top;  /* the greatest logit */
    float rate; /* log2(e) / temperature */
    int shift;
} sample_scale;

DEVICE_TOO sample_scale sample_scale_of(float temperature, int64_t vocab)
{
    const double rate = 1.44269504088896341 / (double)temperature;
    sample_scale s = {0, rate < (double)FLT_MAX ? (float)rate : FLT_MAX, 38};
    for (; vocab > 0; vocab /= 2)
        s.shift--;
    return s;
}

/* 2^-y, y = (top - x) rate = n - f with n whole and |f| <= 1/2: 2^f by the polynomial of Cephes' exp2f (Moshier). */
DEVICE_TOO uint64_t sample_weight(const sample_scale *s, float x)
{
    const float distance = s->top - x;
    if (!(distance > 0))
        return (uint64_t)1 << (24 + s->shift);
    if (!(distance * s->rate < 63.0f))
        return 0;
    const float n = floorf(fmaf(distance, s->rate, 0.5f)), f = fmaf(-distance, s->rate, n);
    float p = 1.535336188319500e-4f;
    p = fmaf(p, f, 1.339887440266574e-3f);
    p = fmaf(p, f, 9.618437357674640e-3f);
    p = fmaf(p, f, 5.550332471162809e-2f);
    p = fmaf(p, f, 2.402264791363012e-1f);
    p = fmaf(p, f, 6.931472028550421e-1f);
    p = fmaf(p, f, 1.0f);
    return (uint64_t)(int32_t)(p * 16777216.0f) << s->shift >> (int)n;
}

/* The least weight that min_p leaves. */
DEVICE_TOO uint64_t sample_least(const sample_scale *s, float min_p)
{
    const uint64_t least = (uint64_t)ceil(ldexp((double)min_p, 24 + s->shift));
    return least > 0 ? least : 1;
}

/* What the most probable tokens have to reach: top_p < 1 of all, but one token at least. */
DEVICE_TOO uint64_t sample_share(float top_p, uint64_t all)
{
    const uint64_t share = (uint64_t)((double)top_p * (double)all);
    return share > 0 ? share : 1;
}

/* 64 random bits as a number from 0 to all - 1: the token is drawn whose sum first exceeds it. */
DEVICE_TOO uint64_t sample_point(uint64_t random, uint64_t all)
{
    return (uint64_t)((unsigned __int128)random * all >> 64);
}

/* The order of floats as unsigned numbers: larger float, larger number. */
DEVICE_TOO uint32_t sample_rank(float x)
{
    union {
        float f;
        uint32_t u;
    } bits;
    bits.f = x;
    return bits.u & 0x80000000u ? ~bits.u : bits.u | 0x80000000u;
}

DEVICE_TOO float sample_ranked(uint32_t rank)
{
    union {
        float f;
        uint32_t u;
    } bits;
    bits.u = rank & 0x80000000u ? rank & 0x7fffffffu : ~rank;
    return bits.f;
}

#endif
