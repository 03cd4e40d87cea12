/* gemm: which of the ways to multiply is taken, and the plain one.
 *
 * A few rows against a transposed weight (decoding) is bound by memory: gemv.c, gemv_bf16.c, gemv_amx.c. Floats go to oneDNN's sgemm;
 * bf16 goes to a oneDNN primitive where the processor multiplies it faster than floats. Everything else, mixed types
 * above all, takes the plain product: blocks of both sides are packed into float panels on the stack (Goto &
 * van de Geijn 2008) and multiplied by tile.h. */
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"
#include "device/cpu/tile.h"

/* A panel of A (ROWS x DEPTH) and one of B (DEPTH x COLUMNS) stay in a 512 KiB level 2 cache beside their part of C. A panel
 * of B, the dearer one to make where B is transposed, serves a band of rows. */
enum { BLOCK_ROWS = 96, BLOCK_COLUMNS = 96, BLOCK_DEPTH = 256, BAND_ROWS = 4 * BLOCK_ROWS };

/* panel [p][j] = element (p0 + p, j0 + j) of op(B), columns beyond `columns` zero */
static void pack_b(float *restrict panel, const void *b, dtype type, int64_t ldb, bool trans, int64_t p0,
                   int64_t depth, int64_t j0, int64_t columns)
{
    if (!trans) {
        for (int64_t p = 0; p < depth; p++) {
            float *row = panel + p * BLOCK_COLUMNS;
            const float *values = row_load(b, type, (p0 + p) * ldb + j0, columns, row);
            if (values != row)
                memcpy(row, values, (size_t)columns * sizeof *row);
            for (int64_t j = columns; j < BLOCK_COLUMNS; j++)
                row[j] = 0;
        }
        return;
    }
    float scratch[8][BLOCK_DEPTH];
    for (int64_t j = 0; j < BLOCK_COLUMNS; j += 8) {
        const float *from[8];
        for (int64_t r = 0; r < 8; r++) {
            if (j + r < columns) {
                from[r] = row_load(b, type, (j0 + j + r) * ldb + p0, depth, scratch[r]);
            } else {
                memset(scratch[r], 0, (size_t)depth * sizeof(float));
                from[r] = scratch[r];
            }
        }
        int64_t p = 0;
        for (; p + 8 <= depth; p += 8) {
            float8 square[8];
            for (int r = 0; r < 8; r++)
                square[r] = load8(from[r] + p);
            transpose8(square);
            for (int r = 0; r < 8; r++)
                store8(panel + (p + r) * BLOCK_COLUMNS + j, square[r]);
        }
        for (; p < depth; p++)
            for (int64_t r = 0; r < 8; r++)
                panel[p * BLOCK_COLUMNS + j + r] = from[r][p];
    }
}

/* op(A) rows i0.., depth p0.., in A's own order: where they lie, or in the panel; *row and *col are their strides */
static const float *pack_a(float *restrict panel, const void *a, dtype type, int64_t lda, bool trans,
                           int64_t i0, int64_t rows, int64_t p0, int64_t depth, int64_t *row, int64_t *col)
{
    const int64_t lines = trans ? depth : rows, length = trans ? rows : depth;
    const int64_t line0 = trans ? p0 : i0, at0 = trans ? i0 : p0;
    int64_t pitch = lda;
    const float *found = NULL;
    if (type == DTYPE_F32) {
        found = (const float *)a + line0 * lda + at0;
    } else {
        pitch = trans ? BLOCK_ROWS : BLOCK_DEPTH;
        for (int64_t line = 0; line < lines; line++)
            widen(panel + line * pitch, (const uint16_t *)a + (line0 + line) * lda + at0, length);
        found = panel;
    }
    *row = trans ? 1 : pitch;
    *col = trans ? pitch : 1;
    return found;
}

static void finish_block(const float *restrict sums, int64_t rows, int64_t columns, float alpha, float beta,
                         void *c, dtype type, int64_t ldc, int64_t i0, int64_t j0)
{
    float scratch[BLOCK_COLUMNS];
    for (int64_t i = 0; i < rows; i++) {
        int64_t offset = (i0 + i) * ldc + j0;
        const float *sum = sums + i * BLOCK_COLUMNS;
        float *to = row_target(c, type, offset, scratch);
        if (beta == 0) {
            for (int64_t j = 0; j < columns; j++)
                to[j] = alpha * sum[j];
        } else {
            const float *old = row_load(c, type, offset, columns, scratch);
            for (int64_t j = 0; j < columns; j++)
                to[j] = alpha * sum[j] + beta * old[j];
        }
        row_commit(c, type, offset, columns, scratch);
    }
}

void cpu_gemm_plain(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const void *a,
                    dtype a_type, int64_t lda, const void *b, dtype b_type, int64_t ldb, float beta, void *c,
                    dtype c_type, int64_t ldc)
{
    const int64_t across = (n + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS;
    int64_t blocks = (m + BLOCK_ROWS - 1) / BLOCK_ROWS, bands = (m + BAND_ROWS - 1) / BAND_ROWS;
    const int team = cpu_team(m * n + m * k + n * k, blocks * across);
    /* Enough bands for all threads, and of equal lengths. */
    while (bands < blocks && bands * across < 3 * (int64_t)team)
        bands++;
    const int64_t band = (blocks + bands - 1) / bands * BLOCK_ROWS;
    bands = (m + band - 1) / band;
#pragma omp parallel for schedule(dynamic) num_threads(team)
    for (int64_t t = 0; t < bands * across; t++) {
        const int64_t first = t / across * band, j0 = t % across * BLOCK_COLUMNS;
        const int64_t end = m - first < band ? m : first + band;
        const int64_t columns = n - j0 < BLOCK_COLUMNS ? n - j0 : BLOCK_COLUMNS;
        float left[BLOCK_ROWS * BLOCK_DEPTH], right[BLOCK_DEPTH * BLOCK_COLUMNS];
        float sums[BAND_ROWS * BLOCK_COLUMNS];
        memset(sums, 0, (size_t)((end - first) * BLOCK_COLUMNS) * sizeof *sums);
        for (int64_t p0 = 0; p0 < k; p0 += BLOCK_DEPTH) {
            const int64_t depth = k - p0 < BLOCK_DEPTH ? k - p0 : BLOCK_DEPTH;
            pack_b(right, b, b_type, ldb, trans_b, p0, depth, j0, columns);
            for (int64_t i0 = first; i0 < end; i0 += BLOCK_ROWS) {
                const int64_t rows = end - i0 < BLOCK_ROWS ? end - i0 : BLOCK_ROWS;
                int64_t row, col;
                const float *panel = pack_a(left, a, a_type, lda, trans_a, i0, rows, p0, depth, &row, &col);
                tile_product(rows, (columns + LANES - 1) / LANES * LANES, depth, panel, row, col, right,
                             BLOCK_COLUMNS, sums + (i0 - first) * BLOCK_COLUMNS, BLOCK_COLUMNS);
            }
        }
        finish_block(sums, end - first, columns, alpha, beta, c, c_type, ldc, first, j0);
    }
}

static void scale_only(int64_t m, int64_t n, float beta, void *c, dtype type, int64_t ldc)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t from = 0; from < n; from += ROW_BLOCK) {
            int64_t part = row_part(n, from), offset = i * ldc + from;
            float scratch[ROW_BLOCK];
            const float *old = row_load(c, type, offset, part, scratch);
            float *to = row_target(c, type, offset, scratch);
            for (int64_t j = 0; j < part; j++)
                to[j] = beta == 0 ? 0 : beta * old[j];
            row_commit(c, type, offset, part, scratch);
        }
}

sc_status cpu_gemm(stream *s, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                   const void *a, dtype a_type, int64_t lda, const void *b, dtype b_type, int64_t ldb,
                   float beta, void *c, dtype c_type, int64_t ldc)
{
    (void)s;
    if (m < 0 || n < 0 || k < 0 || lda < (trans_a ? m : k) || ldb < (trans_b ? k : n) || ldc < n)
        return sc_fail(
            SC_INTERNAL, "gemm: leading dimensions %lld, %lld, %lld do not fit m=%lld n=%lld k=%lld",
            (long long)lda, (long long)ldb, (long long)ldc, (long long)m, (long long)n, (long long)k);
    if (m == 0 || n == 0)
        return SC_OK;
    if (k == 0) {
        scale_only(m, n, beta, c, c_type, ldc);
        return SC_OK;
    }
    const bool halves = a_type == DTYPE_BF16 && b_type == DTYPE_BF16;
#ifdef __AVX512F__ /* of the two builds, the one that such a processor uses */
    if (m >= GEMV_AMX_LEAST && m <= GEMV_AMX_ROWS && !trans_a && trans_b && halves && cpu_has_amx() &&
        cpu_gemv_amx(m, n, k, alpha, a, lda, b, ldb, beta, c, c_type, ldc))
        return SC_OK;
#endif
    if (m <= GEMV_BF16_ROWS && !trans_a && trans_b && halves && cpu_has_avx512_bf16() &&
        cpu_gemv_bf16(m, n, k, alpha, a, lda, b, ldb, beta, c, c_type, ldc))
        return SC_OK;
    if (m <= GEMV_ROWS && !trans_a && trans_b) {
        cpu_gemv_rows(m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc);
        return SC_OK;
    }
    if (a_type == DTYPE_F32 && b_type == DTYPE_F32 && c_type == DTYPE_F32 &&
        cpu_gemm_sgemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc))
        return SC_OK;
    if (halves && cpu_bf16_is_faster() &&
        cpu_gemm_primitive(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, DTYPE_BF16, beta, c, c_type,
                           ldc))
        return SC_OK;
    cpu_gemm_plain(trans_a, trans_b, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc);
    return SC_OK;
}
