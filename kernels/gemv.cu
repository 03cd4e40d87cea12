/* gemv: up to 16 rows against a transposed bf16 matrix, y = x W', as in decoding: bound by the bytes of W.
 *
 * The tensor cores multiply 16 rows of W with 8 of x, whose sums over k may be taken in any order, so long as W and x keep
 * the same one: a lane loads 16 bytes of a row, eight neighbours along k, and gives the first four of them to one product
 * and the others to the next. So W goes from memory into registers by loads of 16 bytes, 64 neighbouring bytes a row, once,
 * past the first-level cache, which keeps x for the blocks of a multiprocessor. A warp asks for 128 elements of 16 rows at
 * once, 8 loads a lane: 64 KiB are on their way to a multiprocessor with two blocks. The 8 warps of a block share out k
 * in turn, and their sums are added in order; a row of x has the same bytes whatever its neighbours.
 *
 * Bytes: 2 n k for W; x and y are small. Operations: 2 x 8 n k, or 2 x 16 n k from 9 rows on. */
#include "gemm.h"
#include "launch.cuh"

enum { GEMV_MOST = 16, GEMV_LINES = 16, GEMV_WARPS = 8, GEMV_THREADS = 32 * GEMV_WARPS };
enum { GEMV_STEP = 32, GEMV_AHEAD = 4, GEMV_RUN = GEMV_STEP * GEMV_AHEAD };
/* The 8 lines by 4 columns that a warp writes at once lie in different banks. Reading, lanes of two rows share four of the
 * 32 banks: a second pass, once a warp of results. */
enum { GEMV_PITCH = GEMV_LINES + 4 };

struct gemv_task {
    const bf16 *x, *w;
    void *y;
    dtype y_type;
    int64_t m, n, k, ldx, ldw, ldy;
    float alpha, beta;
};

/* --- kernel -------------------------------------------------------------------------------------------- */

/* HALVES: of eight rows of x. */
/* quality: gemv_kernel: HMMA, LDG.128 */
template <int HALVES> __global__ void __launch_bounds__(GEMV_THREADS, 2) gemv_kernel(gemv_task t)
{
    SHARED(float, parts, [GEMV_WARPS][HALVES * 8][GEMV_PITCH]);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, group = lane / 4, quad = lane % 4;
    const int64_t j0 = (int64_t)blockIdx.x * GEMV_LINES, line = j0 + group;
    const uint4 none = make_uint4(0, 0, 0, 0);
    float sums[HALVES][4];
    for (int h = 0; h < HALVES; h++)
        for (int e = 0; e < 4; e++)
            sums[h][e] = 0;
    for (int64_t k = warp * GEMV_RUN; k < t.k; k += GEMV_WARPS * GEMV_RUN) {
        uint4 w[GEMV_AHEAD][2], x[GEMV_AHEAD][HALVES];
#pragma unroll
        for (int s = 0; s < GEMV_AHEAD; s++) {
            const int64_t at = k + s * GEMV_STEP + quad * 8;
            const bool inside = at < t.k;
#pragma unroll
            for (int half = 0; half < 2; half++)
                w[s][half] = inside && line + half * 8 < t.n
                                 ? __ldcs((const uint4 *)(t.w + (line + half * 8) * t.ldw + at))
                                 : none;
#pragma unroll
            for (int h = 0; h < HALVES; h++)
                x[s][h] = inside && group + h * 8 < t.m
                              ? __ldg((const uint4 *)(t.x + (group + h * 8) * t.ldx + at))
                              : none;
        }
#pragma unroll
        for (int s = 0; s < GEMV_AHEAD; s++) {
            const unsigned first[4] = {w[s][0].x, w[s][1].x, w[s][0].y, w[s][1].y};
            const unsigned second[4] = {w[s][0].z, w[s][1].z, w[s][0].w, w[s][1].w};
#pragma unroll
            for (int h = 0; h < HALVES; h++) {
                const unsigned first_x[2] = {x[s][h].x, x[s][h].y}, second_x[2] = {x[s][h].z, x[s][h].w};
                mma_bf16_16816(sums[h], first, first_x);
                mma_bf16_16816(sums[h], second, second_x);
            }
        }
    }
    for (int h = 0; h < HALVES; h++)
        for (int e = 0; e < 4; e++)
            parts[warp][h * 8 + quad * 2 + e % 2][group + e / 2 * 8] = sums[h][e];
    __syncthreads();
    const int row = (int)threadIdx.x / GEMV_LINES, column = (int)threadIdx.x % GEMV_LINES;
    if (row >= t.m || j0 + column >= t.n)
        return;
    float sum = 0;
    for (int from = 0; from < GEMV_WARPS; from++)
        sum += parts[from][row][column];
    store_product(t.y, t.y_type, row * t.ldy + j0 + column, t.alpha, sum, t.beta);
}

/* --- launcher ------------------------------------------------------------------------------------------ */

bool gemm_few_rows(cudaStream_t on, const gemm_call *g)
{
    if (g->m > GEMV_MOST || g->trans_a || !g->trans_b || g->a_type != DTYPE_BF16 || g->b_type != DTYPE_BF16)
        return false;
    if (((uintptr_t)g->a | (uintptr_t)g->b) % 16 != 0 || (g->k | g->lda | g->ldb) % 8 != 0 ||
        blocks_of(g->n, GEMV_LINES) > INT32_MAX)
        return false;
    const gemv_task task = {(const bf16 *)g->a,
                            (const bf16 *)g->b,
                            g->c,
                            g->c_type,
                            g->m,
                            g->n,
                            g->k,
                            g->lda,
                            g->ldb,
                            g->ldc,
                            g->alpha,
                            g->beta};
    const dim3 grid = grid_of(blocks_of(g->n, GEMV_LINES));
    if (g->m <= 8)
        LAUNCH(gemv_kernel<1>, grid, GEMV_THREADS, 0, on, task);
    else
        LAUNCH(gemv_kernel<2>, grid, GEMV_THREADS, 0, on, task);
    return true;
}
