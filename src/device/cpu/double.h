/* Products in double for the selection: rows that lie contiguous, summed in a fixed order, so that no result
 * depends on the number of threads or on where in a tile a row stood. */
#ifndef SC_DEVICE_CPU_DOUBLE_H
#define SC_DEVICE_CPU_DOUBLE_H

#include <stdint.h>
#include <string.h>

typedef double double4 __attribute__((vector_size(32)));
typedef double double4_loose __attribute__((vector_size(32), aligned(8), may_alias));
typedef float float4_loose __attribute__((vector_size(16), aligned(4), may_alias));

enum { TILE_A = 2, TILE_B = 4 };

static inline double4 load4(const double *p)
{
    return *(const double4_loose *)p;
}

static inline __attribute__((always_inline)) double4 load4_floats(const float *p)
{
    return __builtin_convertvector(*(const float4_loose *)p, double4);
}

static inline double sum4(double4 v)
{
    return (v[0] + v[2]) + (v[1] + v[3]);
}

/* ln of four numbers, each 0 < x < infinity and not subnormal, within an ulp: x = 2^e m, sqrt(1/2) <= m < sqrt(2),
 * ln m = 2 artanh s, s = (m - 1) / (m + 1), by the minimax polynomial of fdlibm's e_log (Sun, 1993). */
static inline __attribute__((always_inline)) double4 log4(double4 x)
{
    typedef uint64_t word4 __attribute__((vector_size(32)));
    const word4 bias = (word4){0} + (UINT64_C(1024) << 52);
    const word4 shifted = (word4)x - 0x3fe6a09e667f3bcdu + bias; /* e + 1024 on top */
    const word4 e = shifted >> 52;
    const double4 m = (double4)((word4)x - (e << 52) + bias);
    const double4 exponent = (double4)(e | 0x4330000000000000u) - (0x1p52 + 1024);
    const double4 f = m - 1, s = f / (2 + f), z = s * s, half = 0.5 * f * f;
    const double4 r = z * (0x1.5555555555593p-1 +
                           z * (0x1.999999997fa04p-2 +
                                z * (0x1.2492494229359p-2 +
                                     z * (0x1.c71c51d8e78afp-3 +
                                          z * (0x1.7466496cb03dep-3 +
                                               z * (0x1.39a09d078c69fp-3 + z * 0x1.2f112df3e5244p-3))))));
    return exponent * 0x1.62e42feep-1 - ((half - (s * (half + r) + exponent * 0x1.a39ef35793c76p-33)) - f);
}

/* out[i * pitch + j] = a_i . b_j for rows_a rows of a and rows_b rows of b, both constants where it is called. */
static inline __attribute__((always_inline)) void dots64(const int rows_a, const int rows_b, int64_t k,
                                                         const double *a, int64_t lda, const double *b,
                                                         int64_t ldb, double *out, int64_t pitch)
{
    double4 sums[TILE_A][TILE_B];
    int64_t p = 0;
    memset(sums, 0, sizeof sums);
    for (; p + 4 <= k; p += 4) {
        double4 bs[TILE_B];
#pragma GCC unroll 4
        for (int j = 0; j < rows_b; j++)
            bs[j] = load4(b + j * ldb + p);
#pragma GCC unroll 2
        for (int i = 0; i < rows_a; i++) {
            const double4 as = load4(a + i * lda + p);
#pragma GCC unroll 4
            for (int j = 0; j < rows_b; j++)
                sums[i][j] += as * bs[j];
        }
    }
#pragma GCC unroll 2
    for (int i = 0; i < rows_a; i++)
#pragma GCC unroll 4
        for (int j = 0; j < rows_b; j++) {
            double total = sum4(sums[i][j]);
            for (int64_t q = p; q < k; q++)
                total += a[i * lda + q] * b[j * ldb + q];
            out[i * pitch + j] = total;
        }
}

/* The same for any number of rows of b. */
static inline __attribute__((always_inline)) void dots64_rows(const int rows_a, int64_t rows_b, int64_t k,
                                                              const double *a, int64_t lda, const double *b,
                                                              int64_t ldb, double *out, int64_t pitch)
{
    int64_t j = 0;
    for (; j + TILE_B <= rows_b; j += TILE_B)
        dots64(rows_a, TILE_B, k, a, lda, b + j * ldb, ldb, out + j, pitch);
    for (; j < rows_b; j++)
        dots64(rows_a, 1, k, a, lda, b + j * ldb, ldb, out + j, pitch);
}

/* sums [width] = sum over l of scale_l * w_l [width], l in ascending order; `width` is at most 16. */
static inline __attribute__((always_inline)) void sum16(double *sums, int64_t width, const double *scales,
                                                        int64_t scale_step, const double *w, int64_t ldw,
                                                        int64_t n)
{
    if (width == 16) {
        double4 four[4];
        memset(four, 0, sizeof four);
        for (int64_t l = 0; l < n; l++) {
            const double scale = scales[l * scale_step];
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++)
                four[v] += scale * load4(w + l * ldw + 4 * v);
        }
        memcpy(sums, four, sizeof four);
        return;
    }
    for (int64_t j = 0; j < width; j++) {
        sums[j] = 0;
        for (int64_t l = 0; l < n; l++)
            sums[j] += scales[l * scale_step] * w[l * ldw + j];
    }
}

/* y [width] += sign times that. */
static inline __attribute__((always_inline)) void combine16(double *y, int64_t width, const double *scales,
                                                            int64_t scale_step, const double *w, int64_t ldw,
                                                            int64_t n, double sign)
{
    double sums[16];
    sum16(sums, width, scales, scale_step, w, ldw, n);
    for (int64_t j = 0; j < width; j++)
        y[j] += sign * sums[j];
}

#endif
