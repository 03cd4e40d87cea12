/* Products on AMX's tiles: registers of 16 rows of 64 bytes. c [16][16] += a [16][32] b [32][16], a and b of bf16 and c of floats,
 * takes as long as loading two tiles; b lies in pairs, dword [p][j] being (b[2 p][j], b[2 p + 1][j]).
 *
 * For files compiled for such processors alone (src/CMakeLists.txt); callers ask cpu_has_amx() first. */
#ifndef SC_DEVICE_CPU_AMX_H
#define SC_DEVICE_CPU_AMX_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "device/ops.h"

enum {
    AMX_ROWS = 16,
    AMX_DEPTH = 32, /* bf16 in a row */
    AMX_STEP = 32   /* rows and columns of a block of sums */
};

/* n rounded up to whole steps. */
static inline int64_t amx_padded(int64_t n)
{
    return (n + AMX_STEP - 1) / AMX_STEP * AMX_STEP;
}

/* A thread's tiles: all eight are whole ones between the two. */
static inline void amx_begin(void)
{
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } whole = {.palette = 1,
               .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
               .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&whole);
}

static inline void amx_end(void)
{
    _tile_release();
}

/* Where an operand's tiles lie: a step of 32 along the depth, and the tile's rows, are so many elements apart (bf16 of a, dwords
 * of b). */
typedef struct amx_left {
    const uint16_t *at;
    int64_t step, row;
} amx_left;

typedef struct amx_right {
    const uint32_t *at;
    int64_t step, row;
} amx_right;

/* --- products ------------------------------------------------------------------------------------------ */

/* A block of 32 x 32 sums stands in four tiles, so each operand's tile is loaded for two products. */
static inline void amx_zero_sums(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

static inline void amx_load_sums(const float *c, int64_t ldc)
{
    const size_t row = (size_t)ldc * sizeof *c;
    _tile_loadd(0, c, row);
    _tile_loadd(1, c + AMX_ROWS, row);
    _tile_loadd(2, c + AMX_ROWS * ldc, row);
    _tile_loadd(3, c + AMX_ROWS * ldc + AMX_ROWS, row);
}

static inline void amx_store_sums(float *c, int64_t ldc)
{
    const size_t row = (size_t)ldc * sizeof *c;
    _tile_stored(0, c, row);
    _tile_stored(1, c + AMX_ROWS, row);
    _tile_stored(2, c + AMX_ROWS * ldc, row);
    _tile_stored(3, c + AMX_ROWS * ldc + AMX_ROWS, row);
}

/* A step of 32 along the depth of both operands. */
static inline void amx_add_step(amx_left a, amx_right b)
{
    const size_t a_row = (size_t)a.row * sizeof *a.at, b_row = (size_t)b.row * sizeof *b.at;
    _tile_loadd(4, a.at, a_row);
    _tile_loadd(6, b.at, b_row);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b.at + AMX_ROWS, b_row);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a.at + AMX_ROWS * a.row, a_row);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

/* c [rows][columns] = a b, or += where `adds`, over `steps` times 32; rows and columns are multiples of 32. */
static inline void amx_product(int64_t rows, int64_t columns, int64_t steps, amx_left a, amx_right b,
                               bool adds, float *c, int64_t ldc)
{
    for (int64_t j = 0; j < columns; j += AMX_STEP)
        for (int64_t i = 0; i < rows; i += AMX_STEP) {
            amx_left left = {a.at + i * a.row, a.step, a.row};
            amx_right right = {b.at + j, b.step, b.row};
            if (adds)
                amx_load_sums(c + i * ldc + j, ldc);
            else
                amx_zero_sums();
            for (int64_t s = 0; s < steps; s++, left.at += left.step, right.at += right.step)
                amx_add_step(left, right);
            amx_store_sums(c + i * ldc + j, ldc);
        }
}

/* --- operands ------------------------------------------------------------------------------------------ */

/* 16 x 16 dwords, transposed: pairs of rows, then pairs of those, then quarters. */
static inline void amx_transpose(__m512i r[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/* 16 elements of two rows as pairs. */
static inline __m512i amx_pairs(const uint16_t *even, const uint16_t *odd)
{
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)even));
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)odd));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

/* The p-th pair of n rows; rows beyond them are zeros. */
static inline __m512i amx_pair_of(const uint16_t *x, int64_t stride, int64_t n, int64_t p)
{
    static const uint16_t zeros[16];
    return amx_pairs(2 * p < n ? x + 2 * p * stride : zeros,
                     2 * p + 1 < n ? x + (2 * p + 1) * stride : zeros);
}

/* n rows of x as a right operand whose depth they are: out [pairs][pitch], of `columns` columns. */
static inline void amx_pair_rows(uint32_t *out, int64_t pitch, int64_t pairs, const uint16_t *x,
                                 int64_t stride, int64_t n, int64_t columns)
{
    for (int64_t p = 0; p < pairs; p++)
        for (int64_t c = 0; c < columns; c += 16)
            _mm512_store_si512(out + p * pitch + c, amx_pair_of(x + c, stride, n, p));
}

/* n rows of x as a right operand whose columns they are: out [depth / 2][rows]; rows beyond n are zeros. */
static inline void amx_pack_rows(uint32_t *out, int64_t rows, const uint16_t *x, int64_t stride, int64_t n,
                                 int64_t depth)
{
    for (int64_t i = 0; i < rows; i += 16)
        for (int64_t p = 0; p < depth / 2; p += 16) {
            __m512i r[16];
            for (int64_t j = 0; j < 16; j++)
                r[j] = i + j < n ? _mm512_loadu_si512(x + (i + j) * stride + 2 * p) : _mm512_setzero_si512();
            amx_transpose(r);
            for (int64_t j = 0; j < 16; j++)
                _mm512_store_si512(out + (p + j) * rows + i, r[j]);
        }
}

/* --- elements ------------------------------------------------------------------------------------------ */

static inline __m512 amx_floats(__m256i halves)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

/* Up to 16 elements of either type as floats, and back. */
static inline __m512 amx_load(const void *from, dtype type, __mmask16 some)
{
    if (type == DTYPE_F32)
        return _mm512_maskz_loadu_ps(some, from);
    return amx_floats(_mm256_maskz_loadu_epi16(some, from));
}

static inline void amx_store(void *to, dtype type, __mmask16 some, __m512 values)
{
    if (type == DTYPE_F32)
        _mm512_mask_storeu_ps(to, some, values);
    else
        _mm256_mask_storeu_epi16(to, some, (__m256i)_mm512_cvtneps_pbh(values));
}

/* 16 floats as bf16, and behind these what rounding took away, rounded: the two together keep 16 bits of a float. */
static inline __m512i amx_split(__m512 values)
{
    const __m256i high = (__m256i)_mm512_cvtneps_pbh(values);
    const __m256i low = (__m256i)_mm512_cvtneps_pbh(_mm512_sub_ps(values, amx_floats(high)));
    return _mm512_inserti64x4(_mm512_castsi256_si512(high), low, 1);
}

/* 16 floats each of two rows, rounded, as pairs. */
static inline __m512i amx_round_pairs(__m512 even, __m512 odd)
{
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                           7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, both);
}

/* The same of both parts of amx_split. */
static inline void amx_split_pairs(__m512 even, __m512 odd, __m512i *high, __m512i *low)
{
    *high = amx_round_pairs(even, odd);
    const __m512 even_high = _mm512_castsi512_ps(_mm512_slli_epi32(*high, 16));
    const __m512 odd_high = _mm512_castsi512_ps(_mm512_and_si512(*high, _mm512_set1_epi32((int)0xffff0000)));
    *low = amx_round_pairs(_mm512_sub_ps(even, even_high), _mm512_sub_ps(odd, odd_high));
}

/* 2^x to about 2 ulp; 0 below -126, where the processor would need hundreds of cycles for each denormal; a NaN stays one. */
static inline __m512 amx_exp2(__m512 x)
{
    const __m512 least = _mm512_set1_ps(-126.0f);
    const __mmask16 normal = _mm512_cmp_ps_mask(x, least, _CMP_NLT_UQ);
    const __m512 kept = _mm512_max_ps(least, x); /* of a NaN and a number, the second */
    const __m512 whole = _mm512_roundscale_ps(kept, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 r = _mm512_sub_ps(kept, whole); /* -1/2 .. 1/2: Taylor's series in r ln 2, ended at 1e-7 */
    __m512 p = _mm512_set1_ps(1.5403530e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3333558e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.6181291e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5504109e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4022651e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9314718e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_maskz_scalef_ps(normal, p, whole);
}

#endif
