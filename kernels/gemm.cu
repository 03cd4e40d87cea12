/* gemm: C = alpha op(A) op(B) + beta C, accumulated in float. Twin of src/device/cpu/gemm.c.
 *
 * Few rows of bf16 go to gemv.cu; cuBLASLt does the rest where the driver's machine has it (gemm_lt.cu), and without it bf16
 * goes to gemm_bf16.cu. The kernel here takes what is left: mixed types, and floats where the library is absent. A block
 * computes GEMM_TILE x GEMM_TILE, a thread 4 x 4 of them. */
#include "gemm.h"
#include "launch.cuh"

enum { GEMM_TILE = 64, GEMM_DEPTH = 16, GEMM_SIDE = 16, GEMM_EACH = 4, GEMM_THREADS = 256 };

struct gemm_matrix {
    const void *at;
    dtype type;
    int64_t row_step, column_step;
};

struct gemm_task {
    gemm_matrix a, b; /* op(A) [m][k], op(B) [k][n] */
    void *c;
    dtype c_type;
    int64_t m, n, k, ldc;
    float alpha, beta;
};

/* --- kernel -------------------------------------------------------------------------------------------- */

__device__ __forceinline__ float element(const gemm_matrix &x, int64_t row, int64_t column, int64_t rows,
                                         int64_t columns)
{
    return row < rows && column < columns
               ? load_as_float(x.at, x.type, row * x.row_step + column * x.column_step)
               : 0;
}

__global__ void __launch_bounds__(GEMM_THREADS) gemm_kernel(gemm_task t)
{
    SHARED(float, as, [GEMM_DEPTH][GEMM_TILE + 1]);
    SHARED(float, bs, [GEMM_DEPTH][GEMM_TILE + 1]);
    const int64_t across = blocks_of(t.n, GEMM_TILE);
    const int64_t i0 = blockIdx.x / across * GEMM_TILE, j0 = blockIdx.x % across * GEMM_TILE;
    const int y = (int)threadIdx.x / GEMM_SIDE, x = (int)threadIdx.x % GEMM_SIDE;
    /* Neighbouring threads read neighbouring elements, whichever way the matrix lies. */
    const bool a_down = t.a.row_step == 1, b_across = t.b.column_step == 1;
    float sums[GEMM_EACH][GEMM_EACH];
    for (int i = 0; i < GEMM_EACH; i++)
        for (int j = 0; j < GEMM_EACH; j++)
            sums[i][j] = 0;
    for (int64_t p = 0; p < t.k; p += GEMM_DEPTH) {
        __syncthreads(); /* the columns before have been used */
        for (int e = (int)threadIdx.x; e < GEMM_TILE * GEMM_DEPTH; e += GEMM_THREADS) {
            const int row = a_down ? e % GEMM_TILE : e / GEMM_DEPTH,
                      q = a_down ? e / GEMM_TILE : e % GEMM_DEPTH;
            as[q][row] = element(t.a, i0 + row, p + q, t.m, t.k);
        }
        for (int e = (int)threadIdx.x; e < GEMM_TILE * GEMM_DEPTH; e += GEMM_THREADS) {
            const int column = b_across ? e % GEMM_TILE : e / GEMM_DEPTH;
            const int q = b_across ? e / GEMM_TILE : e % GEMM_DEPTH;
            bs[q][column] = element(t.b, p + q, j0 + column, t.k, t.n);
        }
        __syncthreads();
        for (int q = 0; q < GEMM_DEPTH; q++)
#pragma unroll
            for (int i = 0; i < GEMM_EACH; i++)
#pragma unroll
                for (int j = 0; j < GEMM_EACH; j++)
                    sums[i][j] = __fmaf_rn(as[q][y + GEMM_SIDE * i], bs[q][x + GEMM_SIDE * j], sums[i][j]);
    }
#pragma unroll
    for (int i = 0; i < GEMM_EACH; i++)
#pragma unroll
        for (int j = 0; j < GEMM_EACH; j++) {
            const int64_t row = i0 + y + GEMM_SIDE * i, column = j0 + x + GEMM_SIDE * j;
            if (row >= t.m || column >= t.n)
                continue;
            store_product(t.c, t.c_type, row * t.ldc + column, t.alpha, sums[i][j], t.beta);
        }
}

/* --- launcher ------------------------------------------------------------------------------------------ */

sc_status cuda_gemm(stream *s, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                    const void *a, dtype a_type, int64_t lda, const void *b, dtype b_type, int64_t ldb,
                    float beta, void *c, dtype c_type, int64_t ldc)
{
    if (m < 0 || n < 0 || k < 0)
        return sc_fail(SC_INTERNAL, "gemm: impossible shape: [%lld][%lld] times [%lld][%lld]", (long long)m,
                       (long long)k, (long long)k, (long long)n);
    if (lda < (trans_a ? m : k) || ldb < (trans_b ? k : n) || ldc < n)
        return sc_fail(SC_INTERNAL,
                       "gemm: a leading dimension is smaller than the row: lda %lld, ldb %lld, ldc %lld",
                       (long long)lda, (long long)ldb, (long long)ldc);
    if (m == 0 || n == 0)
        return SC_OK;
    const gemm_call call = {trans_a, trans_b, m,      n,   k,    alpha, a,      a_type,
                            lda,     b,       b_type, ldb, beta, c,     c_type, ldc};
    if (gemm_few_rows(cuda_stream(s), &call) || gemm_lt(cuda_stream(s), &call) ||
        gemm_bf16(cuda_stream(s), &call))
        return launched("gemm");
    if (blocks_of(m, GEMM_TILE) > INT32_MAX / blocks_of(n, GEMM_TILE))
        return sc_fail(SC_INTERNAL, "gemm: [%lld][%lld] is too large for one launch", (long long)m,
                       (long long)n);
    const gemm_task task = {{a, a_type, trans_a ? 1 : lda, trans_a ? lda : 1},
                            {b, b_type, trans_b ? 1 : ldb, trans_b ? ldb : 1},
                            c,
                            c_type,
                            m,
                            n,
                            k,
                            ldc,
                            alpha,
                            beta};
    const dim3 grid = grid_of(blocks_of(m, GEMM_TILE) * blocks_of(n, GEMM_TILE));
    LAUNCH(gemm_kernel, grid, GEMM_THREADS, 0, cuda_stream(s), task);
    return launched("gemm");
}
