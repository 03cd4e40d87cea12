/* design_bait: what a pick does to the two quadratic forms that bait scores every row by. Twin of
 * src/device/cpu/design_bait.c. One pass over x bounds it: 4 n dim bytes for 4 n dim operations in double.
 * Eight lanes a row, and several rows a group, which then reads u and v once for all. */
#include "lanes.cuh"
#include "launch.cuh"

enum { BAIT_THREADS = 256, BAIT_LANES = 8, BAIT_ROWS = 4 };

struct bait_task {
    double *a, *b;
    const float *x;
    const double *u, *v;
    int64_t n, dim;
    double scale, gamma;
};

/* --- kernel -------------------------------------------------------------------------------------------- */

__global__ void __launch_bounds__(BAIT_THREADS) bait_kernel(bait_task t)
{
    const int64_t whole = t.dim / BAIT_LANES * BAIT_LANES;
    const int64_t first =
        ((int64_t)blockIdx.x * (BAIT_THREADS / BAIT_LANES) + threadIdx.x / BAIT_LANES) * BAIT_ROWS;
    double with_u[BAIT_ROWS], with_v[BAIT_ROWS];
    for (int r = 0; r < BAIT_ROWS; r++)
        with_u[r] = with_v[r] = 0;
    for (int64_t d = threadIdx.x % BAIT_LANES; d < whole; d += BAIT_LANES) {
        const double u = t.u[d], v = t.v[d];
#pragma unroll
        for (int r = 0; r < BAIT_ROWS; r++)
            if (first + r < t.n) {
                const double x = t.x[(first + r) * t.dim + d];
                with_u[r] = __fma_rn(x, u, with_u[r]);
                with_v[r] = __fma_rn(x, v, with_v[r]);
            }
    }
#pragma unroll
    for (int r = 0; r < BAIT_ROWS; r++) {
        double p = join_halves<BAIT_LANES>(with_u[r]), q = join_halves<BAIT_LANES>(with_v[r]);
        if (first + r >= t.n || threadIdx.x % BAIT_LANES != 0)
            continue;
        for (int64_t d = whole; d < t.dim; d++) {
            p = __fma_rn((double)t.x[(first + r) * t.dim + d], t.u[d], p);
            q = __fma_rn((double)t.x[(first + r) * t.dim + d], t.v[d], q);
        }
        const double along = p / t.scale;
        t.a[first + r] -= p * along;
        t.b[first + r] += along * (along * t.gamma - 2 * q);
    }
}

/* --- launcher ------------------------------------------------------------------------------------------ */

sc_status cuda_design_bait(stream *s, double *a, double *b, const float *x, const double *u, const double *v,
                           int64_t n, int64_t dim, double scale, double gamma)
{
    if (n < 0 || dim <= 0 || !(scale > 0))
        return sc_fail(SC_INTERNAL, "design_bait: impossible shape: %lld rows of %lld", (long long)n,
                       (long long)dim);
    const bait_task task = {a, b, x, u, v, n, dim, scale, gamma};
    const int64_t rows_a_block = (int64_t)BAIT_THREADS / BAIT_LANES * BAIT_ROWS;
    LAUNCH(bait_kernel, grid_of(blocks_of(n, rows_a_block)), BAIT_THREADS, 0, cuda_stream(s), task);
    return launched("design_bait");
}
