/* gemm for some rows of bf16 against a transposed bf16 weight on a processor with AMX: y = x W^T while decoding a batch, as
 * gemv_bf16.c. It is W, in rows along k already, that is the left operand, y^T = W x^T: the many are read from memory once and as they
 * lie, and the few are packed. A row of y does not depend on its neighbours. */
#include <stdlib.h>

#include "device/cpu/amx.h"
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

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
            if (beta != 0)
                y = _mm512_fmadd_ps(_mm512_set1_ps(beta), amx_load(to, type, some), y);
            amx_store(to, type, some, y);
        }
    }
}

/* sums [32][rows] = 32 rows of W, times x^T. Where `next` is not NULL, the 32 rows of W there are asked for meanwhile, 32 lines a
 * step: more at once would wait for one another. */
static void product(float *sums, int64_t rows, int64_t steps, amx_left w, amx_right x, const uint16_t *next)
{
    for (int64_t j = 0; j < rows; j += AMX_STEP, next = NULL) {
        amx_left left = w;
        amx_right right = {x.at + j, x.step, x.row};
        amx_zero_sums();
        for (int64_t s = 0; s < steps; s++, left.at += left.step, right.at += right.step) {
            for (int64_t i = 0; next && i < AMX_STEP; i++)
                _mm_prefetch(next + (s * AMX_STEP + i) * AMX_DEPTH, _MM_HINT_T1);
            amx_add_step(left, right);
        }
        amx_store_sums(sums + j, rows);
    }
}

bool cpu_gemv_amx(int64_t m, int64_t n, int64_t k, float alpha, const uint16_t *x, int64_t ldx,
                  const uint16_t *w, int64_t ldw, float beta, void *c, dtype c_type, int64_t ldc)
{
    if (k % AMX_DEPTH || k == 0 || m > GEMV_AMX_ROWS)
        return false;
    const int64_t rows = amx_padded(m), blocks = (n + AMX_STEP - 1) / AMX_STEP;
    const int64_t last = (blocks - 1) * AMX_STEP; /* the block that may end before its 32 rows */
    uint32_t *const pairs = aligned_alloc(64, (size_t)(k / 2 * (rows + AMX_STEP)) * sizeof *pairs);
    if (!pairs)
        return false;
    uint16_t *const rest = (uint16_t *)(pairs + k / 2 * rows);
    amx_pack_rows(pairs, rows, x, ldx, m, k);
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
            const bool more = ldw == k && j0 + 2 * AMX_STEP <= n; /* whole rows, one behind the other */
            product(sums, rows, k / AMX_DEPTH, left, (amx_right){pairs, AMX_DEPTH / 2 * rows, rows},
                    more ? w + (j0 + AMX_STEP) * ldw : NULL);
            for (int64_t j = 0; j < columns; j += 16)
                finish(at(c, c_type, j0 + j), c_type, ldc, m, columns - j < 16 ? columns - j : 16,
                       sums + j * rows, rows, alpha, beta);
        }
        amx_end();
    }
    free(pairs);
    return true;
}
