/* A small matrix product for blocks that sit in cache: the core of the plain gemm and of attention.
 *
 * C [m][n] += A B. Element (i, p) of A is a[i * row_a + p * col_a], so A may be read transposed; the rows of B
 * and C are contiguous. GCC's vector types keep it free of one processor's intrinsics: 8 floats are one AVX2
 * register, and 6 x 16 results fill 12 of the 16. */
#ifndef SC_DEVICE_CPU_TILE_H
#define SC_DEVICE_CPU_TILE_H

#include <stdint.h>
#include <string.h>

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

/* `rows` results by 8 * `vectors`; both are constants where it is called, so the loops unroll. */
static inline __attribute__((always_inline)) void tile_core(const int rows, const int vectors, int64_t k,
                                                            const float *a, int64_t row_a, int64_t col_a,
                                                            const float *b, int64_t ldb, float *c,
                                                            int64_t ldc)
{
    float8 sums[6][2];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            sums[i][j] = load8(c + i * ldc + 8 * j);
    for (int64_t p = 0; p < k; p++) {
        float8 right[2];
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            right[j] = load8(b + p * ldb + 8 * j);
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
            store8(c + i * ldc + 8 * j, sums[i][j]);
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

/* n is a multiple of 8. */
static inline void tile_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t row_a, int64_t col_a,
                                const float *b, int64_t ldb, float *c, int64_t ldc)
{
    int64_t j = 0;
    for (; j + 16 <= n; j += 16)
        tile_columns(2, m, k, a, row_a, col_a, b + j, ldb, c + j, ldc);
    if (j < n)
        tile_columns(1, m, k, a, row_a, col_a, b + j, ldb, c + j, ldc);
}

#endif
