/* gemm for a few rows against a transposed weight: y = x W^T while decoding. Its time is the reading of W, so
 * every row of W is read once for all rows of x, four rows of W at a time to keep loads in flight. */
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"
#include "device/cpu/tile.h"

enum { WEIGHT_ROWS = 4, ROWS_PER_TASK = 64 };

typedef uint16_t half8_loose __attribute__((vector_size(16), aligned(2), may_alias));
typedef uint32_t word8 __attribute__((vector_size(32)));

static inline __attribute__((always_inline)) float8 load8_as(const void *p, dtype type, int64_t i)
{
    if (type == DTYPE_F32)
        return load8((const float *)p + i);
    return (float8)(__builtin_convertvector(*(const half8_loose *)((const uint16_t *)p + i), word8) << 16);
}

static inline __attribute__((always_inline)) float load1_as(const void *p, dtype type, int64_t i)
{
    return type == DTYPE_F32 ? ((const float *)p)[i] : bf16_to_f32(((const uint16_t *)p)[i]);
}

static inline float sum8(float8 v)
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* out[r][i] = dot of row i of x with row r of w, for `lines` rows of w; the order of each sum is the same for
 * every m and every number of lines. */
static inline __attribute__((always_inline)) void dots(const int m, const int lines, int64_t k, const void *x,
                                                       dtype x_type, int64_t ldx, const void *w, dtype w_type,
                                                       int64_t ldw, float out[WEIGHT_ROWS][GEMV_ROWS])
{
    float8 sums[WEIGHT_ROWS][GEMV_ROWS];
    int64_t p = 0;
#pragma GCC unroll 4
    for (int r = 0; r < lines; r++)
#pragma GCC unroll 4
        for (int i = 0; i < m; i++)
            sums[r][i] = (float8){0};
    for (; p + 8 <= k; p += 8) {
        float8 xs[GEMV_ROWS];
#pragma GCC unroll 4
        for (int i = 0; i < m; i++)
            xs[i] = load8_as(x, x_type, i * ldx + p);
#pragma GCC unroll 4
        for (int r = 0; r < lines; r++) {
            float8 ws = load8_as(w, w_type, r * ldw + p);
#pragma GCC unroll 4
            for (int i = 0; i < m; i++)
                sums[r][i] += ws * xs[i];
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < lines; r++)
#pragma GCC unroll 4
        for (int i = 0; i < m; i++) {
            float total = sum8(sums[r][i]);
            for (int64_t q = p; q < k; q++)
                total += load1_as(x, x_type, i * ldx + q) * load1_as(w, w_type, r * ldw + q);
            out[r][i] = total;
        }
}

static inline __attribute__((always_inline)) void gemv_range(const int m, const dtype x_type,
                                                             const dtype w_type, int64_t j0, int64_t j1,
                                                             int64_t k, float alpha, const void *x,
                                                             int64_t ldx, const void *w, int64_t ldw,
                                                             float beta, void *c, dtype c_type, int64_t ldc)
{
    for (int64_t j = j0; j < j1; j += WEIGHT_ROWS) {
        float found[WEIGHT_ROWS][GEMV_ROWS];
        int64_t lines = j1 - j < WEIGHT_ROWS ? j1 - j : WEIGHT_ROWS;
        const void *row = at_const(w, w_type, j * ldw);
        if (lines == WEIGHT_ROWS)
            dots(m, WEIGHT_ROWS, k, x, x_type, ldx, row, w_type, ldw, found);
        else
            for (int64_t r = 0; r < lines; r++)
                dots(m, 1, k, x, x_type, ldx, at_const(row, w_type, r * ldw), w_type, ldw, found + r);
        for (int64_t r = 0; r < lines; r++)
            for (int i = 0; i < m; i++) {
                float scratch, *to = row_target(c, c_type, i * ldc + j + r, &scratch);
                float old = beta == 0 ? 0 : beta * load1_as(c, c_type, i * ldc + j + r);
                *to = alpha * found[r][i] + old;
                row_commit(c, c_type, i * ldc + j + r, 1, &scratch);
            }
    }
}

#define GEMV_CASE(rows)                                                                                      \
    case rows:                                                                                               \
        if (x_type == DTYPE_F32 && w_type == DTYPE_F32)                                                      \
            gemv_range(rows, DTYPE_F32, DTYPE_F32, j0, j1, k, alpha, x, ldx, w, ldw, beta, c, c_type, ldc);  \
        else if (x_type == DTYPE_F32)                                                                        \
            gemv_range(rows, DTYPE_F32, DTYPE_BF16, j0, j1, k, alpha, x, ldx, w, ldw, beta, c, c_type, ldc); \
        else if (w_type == DTYPE_F32)                                                                        \
            gemv_range(rows, DTYPE_BF16, DTYPE_F32, j0, j1, k, alpha, x, ldx, w, ldw, beta, c, c_type, ldc); \
        else                                                                                                 \
            gemv_range(rows, DTYPE_BF16, DTYPE_BF16, j0, j1, k, alpha, x, ldx, w, ldw, beta, c, c_type,      \
                       ldc);                                                                                 \
        break

void cpu_gemv_rows(int64_t m, int64_t n, int64_t k, float alpha, const void *x, dtype x_type, int64_t ldx,
                   const void *w, dtype w_type, int64_t ldw, float beta, void *c, dtype c_type, int64_t ldc)
{
    int64_t tasks = (n + ROWS_PER_TASK - 1) / ROWS_PER_TASK;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *k, tasks))
    for (int64_t t = 0; t < tasks; t++) {
        int64_t j0 = t * ROWS_PER_TASK, j1 = n - j0 < ROWS_PER_TASK ? n : j0 + ROWS_PER_TASK;
        switch (m) {
            GEMV_CASE(1);
            GEMV_CASE(2);
            GEMV_CASE(3);
            GEMV_CASE(4);
        default:
            break;
        }
    }
}
