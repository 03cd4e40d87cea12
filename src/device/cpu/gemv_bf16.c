/* gemm for few rows of bf16 against a transposed bf16 weight, where the processor multiplies pairs of them (AVX512-BF16):
 * y = x W^T while decoding, as gemv.c, at twice its operations an instruction and without widening first. W comes from
 * memory once, and x stays in the level 2 cache: a tile is 6 rows of x by 4 of W, 10 loads for 24 instructions. A sum is
 * 16 lanes, each a chain of k / 32 pairs, so that a row does not depend on its neighbours.
 *
 * Compiled for such a processor alone (src/CMakeLists.txt); cpu_gemm asks cpu_has_avx512_bf16() first. */
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

#ifdef __AVX512BF16__

#include <immintrin.h>

enum { X_ROWS = 6, W_ROWS = 4, STEP = 32 /* a register of bf16 */, W_ROWS_PER_TASK = 32 };

static inline __attribute__((always_inline)) __m512bh load_pairs(const uint16_t *p)
{
    return (__m512bh)_mm512_loadu_si512(p);
}

/* The first `left` of a register, zeros beyond: nothing behind them is read. */
static inline __attribute__((always_inline)) __m512bh load_rest(const uint16_t *p, int64_t left)
{
    return (__m512bh)_mm512_maskz_loadu_epi16((__mmask32)((1u << left) - 1), p);
}

/* The sums of four registers: neighbours join first, then quarters. */
static inline __attribute__((always_inline)) __m128 sums_of_four(__m512 a, __m512 b, __m512 c, __m512 d)
{
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512 all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/* c [rows][lines] = alpha x w^T + beta c; `rows` and `lines` are constants where it is called. Where `fetch`, the four rows of w
 * that begin `ahead` rows on are asked for meanwhile. */
static inline __attribute__((always_inline)) void tile(const int rows, const int lines, int64_t k,
                                                       float alpha, const uint16_t *x, int64_t ldx,
                                                       const uint16_t *w, int64_t ldw, const bool fetch,
                                                       int64_t ahead, float beta, void *c, dtype c_type,
                                                       int64_t ldc)
{
    __m512 sums[X_ROWS][W_ROWS];
    int64_t p = 0;
#pragma GCC unroll 6
    for (int i = 0; i < X_ROWS; i++)
#pragma GCC unroll 4
        for (int r = 0; r < W_ROWS; r++)
            sums[i][r] = _mm512_setzero_ps();
    for (; p + STEP <= k; p += STEP) {
        __m512bh ws[W_ROWS];
#pragma GCC unroll 4
        for (int r = 0; r < lines; r++) {
            ws[r] = load_pairs(w + r * ldw + p);
            if (fetch)
                __builtin_prefetch(w + (ahead + r) * ldw + p);
        }
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            const __m512bh xs = load_pairs(x + i * ldx + p);
#pragma GCC unroll 4
            for (int r = 0; r < lines; r++)
                sums[i][r] = _mm512_dpbf16_ps(sums[i][r], ws[r], xs);
        }
    }
    if (p < k) {
        __m512bh ws[W_ROWS];
#pragma GCC unroll 4
        for (int r = 0; r < lines; r++)
            ws[r] = load_rest(w + r * ldw + p, k - p);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            const __m512bh xs = load_rest(x + i * ldx + p, k - p);
#pragma GCC unroll 4
            for (int r = 0; r < lines; r++)
                sums[i][r] = _mm512_dpbf16_ps(sums[i][r], ws[r], xs);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++) {
        const __m128 found = sums_of_four(sums[i][0], sums[i][1], sums[i][2], sums[i][3]);
        for (int r = 0; r < lines; r++) {
            float scratch, *to = row_target(c, c_type, i * ldc + r, &scratch);
            const float old = beta == 0             ? 0
                              : c_type == DTYPE_F32 ? beta * ((const float *)c)[i * ldc + r]
                                                    : beta * bf16_to_f32(((const uint16_t *)c)[i * ldc + r]);
            *to = alpha * found[r] + old;
            row_commit(c, c_type, i * ldc + r, 1, &scratch);
        }
    }
}

/* All rows of x with `lines` rows of w; what comes next of w is asked for with the first of x's. */
static inline __attribute__((always_inline)) void all_rows(const int lines, int64_t m, int64_t k, float alpha,
                                                           const uint16_t *x, int64_t ldx, const uint16_t *w,
                                                           int64_t ldw, int64_t ahead, float beta, void *c,
                                                           dtype c_type, int64_t ldc)
{
    const bool fetch = lines == W_ROWS;
    const int64_t whole = m / X_ROWS * X_ROWS;
    int64_t i = 0;
    if (whole > 0)
        tile(X_ROWS, lines, k, alpha, x, ldx, w, ldw, fetch, ahead, beta, c, c_type, ldc);
    for (i = X_ROWS; i < whole; i += X_ROWS)
        tile(X_ROWS, lines, k, alpha, x + i * ldx, ldx, w, ldw, false, 0, beta, at(c, c_type, i * ldc),
             c_type, ldc);
    x += whole * ldx;
    c = at(c, c_type, whole * ldc);
    switch (m - whole) {
    case 5:
        tile(5, lines, k, alpha, x, ldx, w, ldw, fetch, ahead, beta, c, c_type, ldc);
        break;
    case 4:
        tile(4, lines, k, alpha, x, ldx, w, ldw, fetch, ahead, beta, c, c_type, ldc);
        break;
    case 3:
        tile(3, lines, k, alpha, x, ldx, w, ldw, fetch, ahead, beta, c, c_type, ldc);
        break;
    case 2:
        tile(2, lines, k, alpha, x, ldx, w, ldw, fetch, ahead, beta, c, c_type, ldc);
        break;
    case 1:
        tile(1, lines, k, alpha, x, ldx, w, ldw, fetch, ahead, beta, c, c_type, ldc);
        break;
    default:
        break;
    }
}

bool cpu_gemv_bf16(int64_t m, int64_t n, int64_t k, float alpha, const uint16_t *x, int64_t ldx,
                   const uint16_t *w, int64_t ldw, float beta, void *c, dtype c_type, int64_t ldc)
{
    const int64_t tasks = (n + W_ROWS_PER_TASK - 1) / W_ROWS_PER_TASK;
#pragma omp parallel for schedule(static) num_threads(cpu_team(m *n + n * k, tasks))
    for (int64_t t = 0; t < tasks; t++) {
        const int64_t first = t * W_ROWS_PER_TASK,
                      end = n - first < W_ROWS_PER_TASK ? n : first + W_ROWS_PER_TASK;
        int64_t j = first;
        for (; j + W_ROWS <= end; j += W_ROWS)
            all_rows(W_ROWS, m, k, alpha, x, ldx, w + j * ldw, ldw, j + 2 * W_ROWS <= n ? W_ROWS : 0, beta,
                     at(c, c_type, j), c_type, ldc);
        for (; j < end; j++)
            all_rows(1, m, k, alpha, x, ldx, w + j * ldw, ldw, 0, beta, at(c, c_type, j), c_type, ldc);
    }
    return true;
}

#else

bool cpu_gemv_bf16(int64_t m, int64_t n, int64_t k, float alpha, const uint16_t *x, int64_t ldx,
                   const uint16_t *w, int64_t ldw, float beta, void *c, dtype c_type, int64_t ldc)
{
    (void)m, (void)n, (void)k, (void)alpha, (void)x, (void)ldx, (void)w, (void)ldw, (void)beta, (void)c,
        (void)c_type, (void)ldc;
    return false;
}

#endif
