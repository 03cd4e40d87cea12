/* design_flush: what a block of picks takes from the gains of all rows. Twin of src/device/cpu/design_flush.c, whose
 * bound of the rounding holds here with tile.cuh's error.
 *
 * One product whose epilogue sums the squares of its rows: the product is never stored. With up to TILE_N picks x is read
 * once, 4 n dim bytes for 2 n dim b operations: 32 operations a byte at 64 picks, which three tensor-core products in
 * place of one keep close to the bandwidth. */
#include "launch.cuh"
#include "tile.cuh"

#include <float.h>

struct flush_task {
    double *gains, *slack;
    const double *norms;
    tile_rows x, w;
    int64_t dim;
    double reach; /* error of one product over |x|, times |W| */
};

/* --- kernel -------------------------------------------------------------------------------------------- */

/* A row's squares over the columns of one warp: this thread's, then those of its three neighbours. */
__device__ __forceinline__ double row_squares(const tile_sums &sums, int i, int half)
{
    double total = 0;
    for (int j = 0; j < N8; j++)
        for (int e = 2 * half; e < 2 * half + 2; e++)
            total += (double)sums.at[i][j][e] * (double)sums.at[i][j][e];
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    return total;
}

/* quality: flush_kernel: HMMA */
/* quality: flush_kernel<true>: LDGSTS.128 */
template <bool VECTORS> __global__ void __launch_bounds__(TILE_THREADS) flush_kernel(flush_task t)
{
    SHARED(tile_buffers, buffers, );
    SHARED(double, drops, [2][TILE_M]);
    const int64_t first = (int64_t)blockIdx.x * TILE_M;
    const int lane = (int)threadIdx.x % 32, side = (int)threadIdx.x / 32 % 2, row = (int)threadIdx.x;
    double drop = 0; /* of row `row`, in the first TILE_M threads */
    for (int64_t l = 0; l < t.w.n; l += TILE_N) {
        tile_sums sums;
        float none[M16][2];
        tile_products<VECTORS, false>(buffers, sums, none, t.x, first, t.w, l, t.dim);
        for (int i = 0; i < M16; i++)
            for (int half = 0; half < 2; half++) {
                const double squares = row_squares(sums, i, half);
                if (lane % 4 == 0)
                    drops[side][tile_row(i, 2 * half)] = squares;
            }
        __syncthreads();
        if (row < TILE_M)
            drop += drops[0][row] + drops[1][row];
    }
    if (row >= TILE_M || first + row >= t.x.n)
        return;
    double *gain = t.gains + first + row, *may = t.slack + first + row;
    const double reach = t.reach * t.norms[first + row];
    const double left = *gain - drop;
    const double loose =
        *may + 2 * reach * sqrt(drop) + reach * reach + 4 * DBL_EPSILON * (fabs(*gain) + drop);
    /* Gains never rise, so an old bound stays one; it is kept where this block says less, or where the product left the
     * range of float. */
    if (left + loose <= *gain + *may) {
        *gain = left;
        *may = loose;
    }
}

/* --- launcher ------------------------------------------------------------------------------------------ */

sc_status cuda_design_flush(stream *s, double *gains, double *slack, const double *norms, const float *x,
                            const float *w, int64_t n, int64_t dim, int64_t b, double w_norm)
{
    if (n < 0 || dim <= 0 || b < 0)
        return sc_fail(SC_INTERNAL, "design_flush: impossible shape: %lld rows of %lld, %lld picks",
                       (long long)n, (long long)dim, (long long)b);
    if (n == 0 || b == 0)
        return SC_OK;
    const flush_task task = {gains, slack, norms, {x, n}, {w, b}, dim, tile_error(dim) * w_norm};
    const dim3 grid = grid_of(blocks_of(n, TILE_M));
    if (tile_vectors(x, w, dim))
        LAUNCH((flush_kernel<true>), grid, TILE_THREADS, 0, cuda_stream(s), task);
    else
        LAUNCH((flush_kernel<false>), grid, TILE_THREADS, 0, cuda_stream(s), task);
    return launched("design_flush");
}
