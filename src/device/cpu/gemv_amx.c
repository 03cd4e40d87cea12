/* gemm for some rows of bf16 against a transposed bf16 weight on a processor with AMX: y = x W^T while decoding a batch, as
 * gemv_bf16.c. It is W, in rows along k already, that is the left operand, y^T = W x^T: the many are read from memory once and as they
 * lie, and the few are packed. A row of y does not depend on its neighbours. */
#include <stdlib.h>

#include "device/cpu/amx.h"
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

/* x as the right operand: [k / 2][rows], rows beyond m zeros */
static void pack_rows(uint32_t *pairs, int64_t rows, const uint16_t *x, int64_t ldx, int64_t m, int64_t k)
{
    for (int64_t i = 0; i < rows; i += 16)
        for (int64_t p = 0; p < k / 2; p += 16) {
            __m512i r[16];
            for (int64_t j = 0; j < 16; j++)
                r[j] = i + j < m ? _mm512_loadu_si512(x + (i + j) * ldx + 2 * p) : _mm512_setzero_si512();
            amx_transpose(r);
            for (int64_t j = 0; j < 16; j++)
                _mm512_store_si512(pairs + (p + j) * rows + i, r[j]);
        }
}

/* c [rows][columns] = alpha sums^T + beta c, for 16 columns or fewer; sums is [16][pitch] */
static void finish(void *c, dtype type, int64_t ldc, int64_t rows, int64_t columns, const float *sums,
                   int64_t pitch, float alpha, float beta)
{
    const __mmask16 some = (__mmask16)((1u << columns) - 1);
    for (int64_t i = 0; i < rows; i += 16) {
        __m512i r[16];
        for (int64_t j = 0; j < 16; j++)
            r[j] = _mm512_load_si512(sums + j * pitch + i);
        amx_transpose(r);
        for (int64_t j = 0; j < 16 && i + j < rows; j++) {
            void *to = at(c, type, (i + j) * ldc);
            __m512 y = _mm512_mul_ps(_mm512_castsi512_ps(r[j]), _mm512_set1_ps(alpha));
            if (beta != 0) {
                const __m512i halves = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, to));
                const __m512 old = type == DTYPE_F32 ? _mm512_maskz_loadu_ps(some, to)
                                                     : _mm512_castsi512_ps(_mm512_slli_epi32(halves, 16));
                y = _mm512_fmadd_ps(_mm512_set1_ps(beta), old, y);
            }
            if (type == DTYPE_F32)
                _mm512_mask_storeu_ps(to, some, y);
            else
                _mm256_mask_storeu_epi16(to, some, (__m256i)_mm512_cvtneps_pbh(y));
        }
    }
}

/* sums [32][rows] = 32 rows of W, times x^T. Meanwhile the `next` lines of memory behind them, which are the rows that come next,
 * are asked for, a few a step: more would wait for one another. */
static void product(float *sums, int64_t rows, int64_t steps, amx_left w, amx_right x, const uint16_t *ahead,
                    int64_t lines)
{
    const int64_t each = (lines + steps - 1) / steps;
    const size_t w_row = (size_t)w.row * sizeof *w.at, x_row = (size_t)x.row * sizeof *x.at;
    for (int64_t j = 0; j < rows; j += AMX_STEP) {
        const uint16_t *left = w.at;
        const uint32_t *right = x.at + j;
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int64_t s = 0; s < steps; s++, left += w.step, right += x.step) {
            for (int64_t i = 0; i < each && j == 0 && lines > 0; i++, ahead += AMX_DEPTH)
                _mm_prefetch(ahead, _MM_HINT_T1);
            _tile_loadd(4, left, w_row);
            _tile_loadd(6, right, x_row);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, right + AMX_ROWS, x_row);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, left + AMX_ROWS * w.row, w_row);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        const size_t row = (size_t)rows * sizeof *sums;
        _tile_stored(0, sums + j, row);
        _tile_stored(1, sums + j + AMX_ROWS, row);
        _tile_stored(2, sums + AMX_ROWS * rows + j, row);
        _tile_stored(3, sums + AMX_ROWS * rows + j + AMX_ROWS, row);
    }
}

bool cpu_gemv_amx(int64_t m, int64_t n, int64_t k, float alpha, const uint16_t *x, int64_t ldx,
                  const uint16_t *w, int64_t ldw, float beta, void *c, dtype c_type, int64_t ldc)
{
    if (k % AMX_DEPTH || k == 0 || m > GEMV_AMX_ROWS)
        return false;
    const int64_t rows = (m + AMX_STEP - 1) / AMX_STEP * AMX_STEP, blocks = (n + AMX_STEP - 1) / AMX_STEP;
    const int64_t last = (blocks - 1) * AMX_STEP; /* the block that may end before its 32 rows */
    uint32_t *const pairs = aligned_alloc(64, (size_t)(k / 2 * (rows + AMX_STEP)) * sizeof *pairs);
    if (!pairs)
        return false;
    uint16_t *const rest = (uint16_t *)(pairs + k / 2 * rows);
    pack_rows(pairs, rows, x, ldx, m, k);
    for (int64_t i = 0; i < AMX_STEP && last + AMX_STEP > n; i++)
        if (last + i < n)
            memcpy(rest + i * k, w + (last + i) * ldw, (size_t)k * sizeof *rest);
        else
            memset(rest + i * k, 0, (size_t)k * sizeof *rest);
#pragma omp parallel num_threads(cpu_team(m *n + n * k, blocks))
    {
        _Alignas(64) float sums[AMX_STEP * GEMV_AMX_ROWS];
        amx_begin();
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t j0 = block * AMX_STEP, columns = n - j0 < AMX_STEP ? n - j0 : AMX_STEP;
            const amx_left left = columns < AMX_STEP ? (amx_left){rest, AMX_DEPTH, k}
                                                     : (amx_left){w + j0 * ldw, AMX_DEPTH, ldw};
            const int64_t lines = j0 + 2 * AMX_STEP <= n && ldw == k ? k : 0; /* 32 rows, 32 elements a line */
            product(sums, rows, k / AMX_DEPTH, left, (amx_right){pairs, AMX_DEPTH / 2 * rows, rows},
                    w + (j0 + AMX_STEP) * ldw, lines);
            for (int64_t j = 0; j < columns; j += 16)
                finish(at(c, c_type, j0 + j), c_type, ldc, m, columns - j < 16 ? columns - j : 16,
                       sums + j * rows, rows, alpha, beta);
        }
        amx_end();
    }
    free(pairs);
    return true;
}
