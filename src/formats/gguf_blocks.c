/* Decoding ggml's blocks: layouts from ggml-common.h, arithmetic as in ggml-quants.c, operation by
 * operation in float (no fused multiply-add: the library is built with -ffp-contract=off), so that
 * the floats equal those of ggml's reference code and of the gguf Python package bit for bit. */
#include "formats/gguf_blocks.h"

#include <string.h>

#include "formats/safetensors.h"

static float half_at(const uint8_t *p)
{
    return half_to_float((uint16_t)(p[0] | p[1] << 8));
}

static void decode_f32(const uint8_t *b, size_t n, float *out)
{
    if (n > 0)
        memcpy(out, b, n * 4);
}

static void decode_f16(const uint8_t *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = half_at(b + 2 * i);
}

static void decode_bf16(const uint8_t *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = bfloat16_to_float((uint16_t)(b[2 * i] | b[2 * i + 1] << 8));
}

/* half d; 16 bytes: low nibbles are values 0..15, high nibbles 16..31. */
static void decode_q4_0(const uint8_t *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, b += 18, out += 32) {
        float d = half_at(b);
        for (int j = 0; j < 16; j++) {
            out[j] = (float)((b[2 + j] & 15) - 8) * d;
            out[j + 16] = (float)((b[2 + j] >> 4) - 8) * d;
        }
    }
}

/* half d, half m; nibbles as in Q4_0. */
static void decode_q4_1(const uint8_t *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, b += 20, out += 32) {
        float d = half_at(b), m = half_at(b + 2);
        for (int j = 0; j < 16; j++) {
            out[j] = (float)(b[4 + j] & 15) * d + m;
            out[j + 16] = (float)(b[4 + j] >> 4) * d + m;
        }
    }
}

static uint32_t word_at(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* half d; 32 fifth bits; nibbles as in Q4_0. */
static void decode_q5_0(const uint8_t *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, b += 22, out += 32) {
        float d = half_at(b);
        uint32_t high = word_at(b + 2);
        for (int j = 0; j < 16; j++) {
            int low_value = (b[6 + j] & 15) | (int)(high >> j & 1) << 4;
            int high_value = b[6 + j] >> 4 | (int)(high >> (j + 16) & 1) << 4;
            out[j] = (float)(low_value - 16) * d;
            out[j + 16] = (float)(high_value - 16) * d;
        }
    }
}

/* half d, half m; 32 fifth bits; nibbles as in Q4_0. */
static void decode_q5_1(const uint8_t *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, b += 24, out += 32) {
        float d = half_at(b), m = half_at(b + 2);
        uint32_t high = word_at(b + 4);
        for (int j = 0; j < 16; j++) {
            out[j] = (float)((b[8 + j] & 15) | (int)(high >> j & 1) << 4) * d + m;
            out[j + 16] = (float)(b[8 + j] >> 4 | (int)(high >> (j + 16) & 1) << 4) * d + m;
        }
    }
}

/* half d; 32 signed bytes. */
static void decode_q8_0(const uint8_t *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, b += 34, out += 32) {
        float d = half_at(b);
        for (int j = 0; j < 32; j++)
            out[j] = (float)(int8_t)b[2 + j] * d;
    }
}

/* The 6-bit scale and minimum of sub-block j of the eight of a K block, packed in 12 bytes. */
static void scale_and_minimum(const uint8_t *packed, int j, int *scale, int *minimum)
{
    if (j < 4) {
        *scale = packed[j] & 63;
        *minimum = packed[j + 4] & 63;
    } else {
        *scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
        *minimum = packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
    }
}

/* half d, half dmin; 12 bytes of scales; 128 bytes: per 64 values the low nibbles first. */
static void decode_q4_k(const uint8_t *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, b += 144) {
        float d = half_at(b), dmin = half_at(b + 2);
        for (int j = 0; j < 8; j++, out += 32) {
            int scale, minimum;
            scale_and_minimum(b + 4, j, &scale, &minimum);
            float step = d * (float)scale, base = dmin * (float)minimum;
            const uint8_t *q = b + 16 + 32 * (j / 2);
            for (int l = 0; l < 32; l++)
                out[l] = step * (float)(j % 2 ? q[l] >> 4 : q[l] & 15) - base;
        }
    }
}

/* As Q4_K, with 32 bytes of fifth bits before the nibbles: bit j of byte l for value l of sub-block j. */
static void decode_q5_k(const uint8_t *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, b += 176) {
        float d = half_at(b), dmin = half_at(b + 2);
        for (int j = 0; j < 8; j++, out += 32) {
            int scale, minimum;
            scale_and_minimum(b + 4, j, &scale, &minimum);
            float step = d * (float)scale, base = dmin * (float)minimum;
            const uint8_t *q = b + 48 + 32 * (j / 2);
            for (int l = 0; l < 32; l++) {
                int nibble = j % 2 ? q[l] >> 4 : q[l] & 15;
                out[l] = step * (float)(nibble | (b[16 + l] >> j & 1) << 4) - base;
            }
        }
    }
}

/* 128 bytes of low nibbles, 64 of high pairs, 16 signed scales, half d. */
static void decode_q6_k(const uint8_t *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, b += 210) {
        const uint8_t *low = b, *high = b + 128, *scales = b + 192;
        float d = half_at(b + 208);
        for (int half = 0; half < 2; half++, low += 64, high += 32, scales += 8, out += 128) {
            for (int l = 0; l < 32; l++) {
                for (int k = 0; k < 4; k++) {
                    int nibble = k < 2 ? low[l + 32 * k] & 15 : low[l + 32 * (k - 2)] >> 4;
                    int value = (nibble | (high[l] >> (2 * k) & 3) << 4) - 32;
                    out[l + 32 * k] = d * (float)(int8_t)scales[l / 16 + 2 * k] * (float)value;
                }
            }
        }
    }
}

static const gguf_block blocks[] = {
    [0] = {"F32", 1, 4, decode_f32},
    [1] = {"F16", 1, 2, decode_f16},
    [2] = {"Q4_0", 32, 18, decode_q4_0},
    [3] = {"Q4_1", 32, 20, decode_q4_1},
    [6] = {"Q5_0", 32, 22, decode_q5_0},
    [7] = {"Q5_1", 32, 24, decode_q5_1},
    [8] = {"Q8_0", 32, 34, decode_q8_0},
    [9] = {"Q8_1", 0, 0, NULL},
    [10] = {"Q2_K", 0, 0, NULL},
    [11] = {"Q3_K", 0, 0, NULL},
    [12] = {"Q4_K", 256, 144, decode_q4_k},
    [13] = {"Q5_K", 256, 176, decode_q5_k},
    [14] = {"Q6_K", 256, 210, decode_q6_k},
    [15] = {"Q8_K", 0, 0, NULL},
    [16] = {"IQ2_XXS", 0, 0, NULL},
    [17] = {"IQ2_XS", 0, 0, NULL},
    [18] = {"IQ3_XXS", 0, 0, NULL},
    [19] = {"IQ1_S", 0, 0, NULL},
    [20] = {"IQ4_NL", 0, 0, NULL},
    [21] = {"IQ3_S", 0, 0, NULL},
    [22] = {"IQ2_S", 0, 0, NULL},
    [23] = {"IQ4_XS", 0, 0, NULL},
    [24] = {"I8", 0, 0, NULL},
    [25] = {"I16", 0, 0, NULL},
    [26] = {"I32", 0, 0, NULL},
    [27] = {"I64", 0, 0, NULL},
    [28] = {"F64", 0, 0, NULL},
    [29] = {"IQ1_M", 0, 0, NULL},
    [30] = {"BF16", 1, 2, decode_bf16},
    [34] = {"TQ1_0", 0, 0, NULL},
    [35] = {"TQ2_0", 0, 0, NULL},
    [39] = {"MXFP4", 0, 0, NULL},
};

const gguf_block *gguf_block_of(uint32_t type)
{
    return type < sizeof blocks / sizeof blocks[0] && blocks[type].name ? &blocks[type] : NULL;
}
