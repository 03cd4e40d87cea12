/* A small matrix product for blocks that sit in cache: the core of the plain gemm and of attention.
 *
 * C [m][n] += A B. Element (i, p) of A is a[i * row_a + p * col_a], so A may be read transposed; the rows of B
 * and C are contiguous. GCC's vector types keep it free of one processor's intrinsics: 6 rows of two registers fill
 * 12 of AVX2's 16, and with AVX-512 they are as many sums as the latency of its multiply-adds wants. */
#ifndef SC_DEVICE_CPU_TILE_H
#define SC_DEVICE_CPU_TILE_H

#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

typedef float float8 __attribute__((vector_size(32)));
typedef float float8_loose __attribute__((vector_size(32), aligned(4), may_alias));

static inline float8 load8(const float *p)
{
    return *(const float8_loose *)p;
}

static inline void store8(float *p, float8 v)
{
    *(float8_loose *)p = v;
}

/* A whole register of the processor that this is compiled for (src/CMakeLists.txt: once for AVX2, once for AVX-512). */
#ifdef __AVX512F__
enum { LANES = 16 };
typedef float floats __attribute__((vector_size(64)));
typedef float floats_loose __attribute__((vector_size(64), aligned(4), may_alias));
#else
enum { LANES = 8 };
typedef float8 floats;
typedef float8_loose floats_loose;
#endif

static inline __attribute__((always_inline)) floats load_floats(const float *p)
{
    return *(const floats_loose *)p;
}

static inline __attribute__((always_inline)) void store_floats(float *p, floats v)
{
    *(floats_loose *)p = v;
}

/* Elements of a and b by number, b's from 8 on: the two compilers name it differently. */
#ifdef __clang__
#define SHUFFLE8(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t index8 __attribute__((vector_size(32)));
#define SHUFFLE8(a, b, ...) __builtin_shuffle(a, b, (index8){__VA_ARGS__})
#endif

/* Rows become columns. */
static inline __attribute__((always_inline)) void transpose8(float8 rows[8])
{
    float8 pairs[8], quads[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = SHUFFLE8(rows[i], rows[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        pairs[i + 1] = SHUFFLE8(rows[i], rows[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            quads[i + 2 * j] = SHUFFLE8(pairs[i + j], pairs[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            quads[i + 2 * j + 1] = SHUFFLE8(pairs[i + j], pairs[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        rows[i] = SHUFFLE8(quads[i], quads[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        rows[i + 4] = SHUFFLE8(quads[i], quads[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* out[i] = the sum of v[i], its lanes joined in an order that is the same for all four. */
#ifdef __AVX512F__
static inline __attribute__((always_inline)) void sums4(const floats v[4], float out[4])
{
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    const __m512 all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
#else
static inline __attribute__((always_inline)) float8 pairs(float8 a, float8 b)
{
    return SHUFFLE8(a, b, 0, 8, 2, 10, 4, 12, 6, 14) + SHUFFLE8(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
}

static inline __attribute__((always_inline)) void sums4(const floats v[4], float out[4])
{
    const float8 a = pairs(v[0], v[1]), b = pairs(v[2], v[3]);
    const float8 c = SHUFFLE8(a, b, 0, 1, 8, 9, 4, 5, 12, 13) + SHUFFLE8(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
    for (int i = 0; i < 4; i++)
        out[i] = c[i] + c[i + 4];
}
#endif

static inline __attribute__((always_inline)) float sum_lanes(floats v)
{
    const floats four[4] = {v, {0}, {0}, {0}};
    float sums[4];
    sums4(four, sums);
    return sums[0];
}

/* `rows` results by LANES * `vectors`; both are constants where it is called, so the loops unroll. */
static inline __attribute__((always_inline)) void tile_core(const int rows, const int vectors, int64_t k,
                                                            const float *a, int64_t row_a, int64_t col_a,
                                                            const float *b, int64_t ldb, float *c,
                                                            int64_t ldc)
{
    floats sums[6][2];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            sums[i][j] = load_floats(c + i * ldc + LANES * j);
    for (int64_t p = 0; p < k; p++) {
        floats right[2];
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            right[j] = load_floats(b + p * ldb + LANES * j);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            float left = a[i * row_a + p * col_a];
#pragma GCC unroll 2
            for (int j = 0; j < vectors; j++)
                sums[i][j] += left * right[j];
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            store_floats(c + i * ldc + LANES * j, sums[i][j]);
}

static inline __attribute__((always_inline)) void tile_columns(const int vectors, int64_t m, int64_t k,
                                                               const float *a, int64_t row_a, int64_t col_a,
                                                               const float *b, int64_t ldb, float *c,
                                                               int64_t ldc)
{
    int64_t i = 0;
    for (; i + 6 <= m; i += 6)
        tile_core(6, vectors, k, a + i * row_a, row_a, col_a, b, ldb, c + i * ldc, ldc);
    a += i * row_a;
    c += i * ldc;
    switch (m - i) {
    case 5:
        tile_core(5, vectors, k, a, row_a, col_a, b, ldb, c, ldc);
        break;
    case 4:
        tile_core(4, vectors, k, a, row_a, col_a, b, ldb, c, ldc);
        break;
    case 3:
        tile_core(3, vectors, k, a, row_a, col_a, b, ldb, c, ldc);
        break;
    case 2:
        tile_core(2, vectors, k, a, row_a, col_a, b, ldb, c, ldc);
        break;
    case 1:
        tile_core(1, vectors, k, a, row_a, col_a, b, ldb, c, ldc);
        break;
    default:
        break;
    }
}

/* n is a multiple of LANES. */
static inline void tile_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t row_a, int64_t col_a,
                                const float *b, int64_t ldb, float *c, int64_t ldc)
{
    int64_t j = 0;
    for (; j + 2 * LANES <= n; j += 2 * LANES)
        tile_columns(2, m, k, a, row_a, col_a, b + j, ldb, c + j, ldc);
    if (j < n)
        tile_columns(1, m, k, a, row_a, col_a, b + j, ldb, c + j, ldc);
}

#endif
