/* gemm for few rows against a transposed weight: y = x W^T while decoding. Packing W would cost more than the
 * product, and both sides lie in rows along k already, as dots.h wants them. W comes from memory once; a block
 * of x stays in the level 2 cache. The order of a sum is the same for every m, so a row does not depend on its
 * neighbours. */
#include "device/cpu/cpu.h"
#include "device/cpu/dots.h"

enum { WEIGHT_ROWS_PER_TASK = 32, X_BLOCK_FLOATS = 48 << 10 };

/* c [m][n] from column j on, for m rows of x and `lines` rows of w; both are constants where it is called. */
static inline __attribute__((always_inline)) void tile(const int m, const int lines, int64_t k, float alpha,
                                                       const void *x, const dtype x_type, int64_t ldx,
                                                       const void *w, const dtype w_type, int64_t ldw,
                                                       const bool fetch, int64_t ahead, float beta, void *c,
                                                       dtype c_type, int64_t ldc)
{
    float found[WEIGHT_ROWS][TILE_ROWS];
    dots(m, lines, k, x, x_type, ldx, w, w_type, ldw, fetch, ahead, found);
    for (int i = 0; i < m; i++)
        for (int r = 0; r < lines; r++) {
            float scratch, *to = row_target(c, c_type, i * ldc + r, &scratch);
            float old = beta == 0 ? 0 : beta * load1_as(c, c_type, i * ldc + r);
            *to = alpha * found[r][i] + old;
            row_commit(c, c_type, i * ldc + r, 1, &scratch);
        }
}

/* All rows of x with `lines` rows of w; those that come next, `ahead` rows on, are asked for with the first of x's rows. */
static inline __attribute__((always_inline)) void gemv_lines(const int lines, int64_t m, int64_t k,
                                                             float alpha, const void *x, const dtype x_type,
                                                             int64_t ldx, const void *w, const dtype w_type,
                                                             int64_t ldw, int64_t ahead, float beta, void *c,
                                                             dtype c_type, int64_t ldc)
{
    int64_t i = 0;
    if (m >= TILE_ROWS) {
        tile(TILE_ROWS, lines, k, alpha, x, x_type, ldx, w, w_type, ldw, lines == WEIGHT_ROWS, ahead, beta, c,
             c_type, ldc);
        i = TILE_ROWS;
    }
    for (; i + TILE_ROWS <= m; i += TILE_ROWS)
        tile(TILE_ROWS, lines, k, alpha, at_const(x, x_type, i * ldx), x_type, ldx, w, w_type, ldw, false, 0,
             beta, at(c, c_type, i * ldc), c_type, ldc);
    x = at_const(x, x_type, i * ldx);
    c = at(c, c_type, i * ldc);
    const bool fetch = lines == WEIGHT_ROWS;
    switch (m - i) {
#ifdef __AVX512F__
    case 5:
        tile(5, lines, k, alpha, x, x_type, ldx, w, w_type, ldw, fetch, ahead, beta, c, c_type, ldc);
        break;
    case 4:
        tile(4, lines, k, alpha, x, x_type, ldx, w, w_type, ldw, fetch, ahead, beta, c, c_type, ldc);
        break;
    case 3:
        tile(3, lines, k, alpha, x, x_type, ldx, w, w_type, ldw, fetch, ahead, beta, c, c_type, ldc);
        break;
#endif
    case 2:
        tile(2, lines, k, alpha, x, x_type, ldx, w, w_type, ldw, fetch, ahead, beta, c, c_type, ldc);
        break;
    case 1:
        tile(1, lines, k, alpha, x, x_type, ldx, w, w_type, ldw, fetch, ahead, beta, c, c_type, ldc);
        break;
    default:
        break;
    }
}

/* Rows j0 .. j1-1 of n rows of w. */
static inline __attribute__((always_inline)) void gemv_range(int64_t j0, int64_t j1, int64_t n, int64_t m,
                                                             int64_t k, float alpha, const void *x,
                                                             const dtype x_type, int64_t ldx, const void *w,
                                                             const dtype w_type, int64_t ldw, float beta,
                                                             void *c, dtype c_type, int64_t ldc)
{
    int64_t j = j0;
    for (; j + WEIGHT_ROWS <= j1; j += WEIGHT_ROWS)
        gemv_lines(WEIGHT_ROWS, m, k, alpha, x, x_type, ldx, at_const(w, w_type, j * ldw), w_type, ldw,
                   j + 2 * WEIGHT_ROWS <= n ? WEIGHT_ROWS : 0, beta, at(c, c_type, j), c_type, ldc);
    for (; j < j1; j++)
        gemv_lines(1, m, k, alpha, x, x_type, ldx, at_const(w, w_type, j * ldw), w_type, ldw, 0, beta,
                   at(c, c_type, j), c_type, ldc);
}

void cpu_gemv_rows(int64_t m, int64_t n, int64_t k, float alpha, const void *x, dtype x_type, int64_t ldx,
                   const void *w, dtype w_type, int64_t ldw, float beta, void *c, dtype c_type, int64_t ldc)
{
    const int64_t tasks = (n + WEIGHT_ROWS_PER_TASK - 1) / WEIGHT_ROWS_PER_TASK;
    const int64_t block =
        X_BLOCK_FLOATS / k > TILE_ROWS ? X_BLOCK_FLOATS / k / TILE_ROWS * TILE_ROWS : TILE_ROWS;
#pragma omp parallel for schedule(static) num_threads(cpu_team(m *n + n * k, tasks))
    for (int64_t t = 0; t < tasks; t++) {
        int64_t j0 = t * WEIGHT_ROWS_PER_TASK,
                j1 = n - j0 < WEIGHT_ROWS_PER_TASK ? n : j0 + WEIGHT_ROWS_PER_TASK;
        for (int64_t i = 0; i < m; i += block) {
            const int64_t rows = m - i < block ? m - i : block;
            const void *from = at_const(x, x_type, i * ldx);
            void *to = at(c, c_type, i * ldc);
            if (x_type == DTYPE_F32 && w_type == DTYPE_F32)
                gemv_range(j0, j1, n, rows, k, alpha, from, DTYPE_F32, ldx, w, DTYPE_F32, ldw, beta, to,
                           c_type, ldc);
            else if (x_type == DTYPE_F32)
                gemv_range(j0, j1, n, rows, k, alpha, from, DTYPE_F32, ldx, w, DTYPE_BF16, ldw, beta, to,
                           c_type, ldc);
            else if (w_type == DTYPE_F32)
                gemv_range(j0, j1, n, rows, k, alpha, from, DTYPE_BF16, ldx, w, DTYPE_F32, ldw, beta, to,
                           c_type, ldc);
            else
                gemv_range(j0, j1, n, rows, k, alpha, from, DTYPE_BF16, ldx, w, DTYPE_BF16, ldw, beta, to,
                           c_type, ldc);
        }
    }
}
