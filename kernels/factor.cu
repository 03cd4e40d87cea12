/* factor: symmetric matrices in double: updates, Cholesky's factor, and the inverse out of it. Twin of
 * src/device/cpu/factor.c, to the bit: every sum runs over the same terms in the same order.
 *
 * An update is 2 dim^2 b operations and a factor dim^3 / 3, small beside what the rows cost; the panels of the factor follow
 * one another, which bounds it: three launches for PANEL columns. */
#include "dots.cuh"
#include "launch.cuh"

enum { PANEL = 32 };

/* --- rank_update --------------------------------------------------------------------------------------- */

enum {
    RANK_TILE = 64,
    RANK_DEPTH = 16,
    RANK_SIDE = 16,
    RANK_EACH = RANK_TILE / RANK_SIDE,
    RANK_THREADS = 256
};

/* Rows l .. of w, columns from `first`; zeros outside. */
__device__ __forceinline__ void rank_load(double (*to)[RANK_TILE], const double *w, int64_t dim, int64_t b,
                                          int64_t l, int64_t first)
{
    for (int i = (int)threadIdx.x; i < RANK_DEPTH * RANK_TILE; i += RANK_THREADS) {
        const int row = i / RANK_TILE, column = i % RANK_TILE;
        const bool inside = l + row < b && first + column < dim;
        to[row][column] = inside ? w[(l + row) * dim + first + column] : 0.0;
    }
}

/* a [dim][dim] += sign * W' W. LOWER: W is lower triangular, so rows before either column hold zeros. */
template <bool LOWER>
__global__ void __launch_bounds__(RANK_THREADS)
    rank_kernel(double *a, const double *w, int64_t dim, int64_t b, double sign)
{
    SHARED(double, down, [RANK_DEPTH][RANK_TILE]);
    SHARED(double, across, [RANK_DEPTH][RANK_TILE]);
    const int64_t i0 = (int64_t)blockIdx.y * RANK_TILE, j0 = (int64_t)blockIdx.x * RANK_TILE;
    const int y = (int)threadIdx.x / RANK_SIDE, x = (int)threadIdx.x % RANK_SIDE;
    double sums[RANK_EACH][RANK_EACH];
    for (int i = 0; i < RANK_EACH; i++)
        for (int j = 0; j < RANK_EACH; j++)
            sums[i][j] = 0;
    for (int64_t l = LOWER ? (i0 > j0 ? i0 : j0) : 0; l < b; l += RANK_DEPTH) {
        __syncthreads(); /* the rows before have been used */
        rank_load(down, w, dim, b, l, i0);
        rank_load(across, w, dim, b, l, j0);
        __syncthreads();
        const int depth = b - l < RANK_DEPTH ? (int)(b - l) : RANK_DEPTH;
        for (int q = 0; q < depth; q++)
#pragma unroll
            for (int i = 0; i < RANK_EACH; i++)
#pragma unroll
                for (int j = 0; j < RANK_EACH; j++)
                    sums[i][j] += down[q][y + RANK_SIDE * i] * across[q][x + RANK_SIDE * j];
    }
    for (int i = 0; i < RANK_EACH; i++)
        for (int j = 0; j < RANK_EACH; j++) {
            const int64_t row = i0 + y + RANK_SIDE * i, column = j0 + x + RANK_SIDE * j;
            if (row < dim && column < dim)
                a[row * dim + column] += sign * sums[i][j];
        }
}

static dim3 rank_grid(int64_t dim)
{
    const unsigned tiles = (unsigned)blocks_of(dim, RANK_TILE);
    return dim3(tiles, tiles);
}

/* --- cholesky ------------------------------------------------------------------------------------------ */

enum { COPY_THREADS = 256, SOLVE_ROWS = 64 };

/* The lower triangle of a, zeros above. */
__global__ void __launch_bounds__(COPY_THREADS) lower_kernel(double *l, const double *a, int64_t dim)
{
    const int64_t stride = (int64_t)gridDim.x * COPY_THREADS;
    for (int64_t i = (int64_t)blockIdx.x * COPY_THREADS + threadIdx.x; i < dim * dim; i += stride)
        l[i] = i % dim <= i / dim ? a[i] : 0;
}

/* Takes the columns before `at` from those of the panel, in rows `at` and below. */
__global__ void __launch_bounds__(DOTS_THREADS)
    panel_kernel(double *l, int64_t dim, int64_t at, int64_t width)
{
    SHARED(dots_buffers, buffers, );
    const int64_t first = at + (int64_t)blockIdx.x * DOTS_ROWS;
    double taken[DOTS_DOWN][DOTS_ACROSS];
    dots_tile<double, false>(buffers, taken, {l, dim, first, dim}, {l, dim, at, at + width}, at);
    for (int i = 0; i < DOTS_DOWN; i++)
        for (int j = 0; j < DOTS_ACROSS; j++) {
            const int64_t row = first + dots_row(i), column = at + dots_line(j);
            if (row < dim && column < at + width && column <= row)
                l[row * dim + column] -= taken[i][j];
        }
}

/* The diagonal block of the panel, one warp, a row a lane. Where a pivot is not positive, l[0] becomes NaN. */
__global__ void __launch_bounds__(PANEL) diagonal_kernel(double *l, int64_t dim, int64_t at, int width)
{
    SHARED(double, block, [PANEL][PANEL + 1]);
    const int i = (int)threadIdx.x;
    for (int j = 0; j < width && i < width; j++)
        block[i][j] = l[(at + i) * dim + at + j];
    bool definite = l[0] == l[0];
    for (int j = 0; j < width; j++) {
        if (i == j) {
            double pivot = block[j][j];
            for (int q = 0; q < j; q++)
                pivot -= block[j][q] * block[j][q];
            definite = definite && pivot > 0;
            block[j][j] = sqrt(pivot);
        }
        __syncwarp();
        if (i > j && i < width) {
            double value = block[i][j];
            for (int q = 0; q < j; q++)
                value -= block[i][q] * block[j][q];
            block[i][j] = value / block[j][j];
        } /* the next pivot's lane reads its own row alone, so it need not wait */
    }
    for (int j = 0; j <= i && i < width; j++)
        l[(at + i) * dim + at + j] = block[i][j];
    const bool failed = __any_sync(0xffffffffu, !definite);
    if (i == 0 && failed)
        l[0] = NAN;
}

/* The panel's rows below its diagonal block, a row a thread: X L' = panel. */
__global__ void __launch_bounds__(SOLVE_ROWS) solve_kernel(double *l, int64_t dim, int64_t at, int width)
{
    SHARED(double, block, [PANEL][PANEL + 1]);
    SHARED(double, rows, [SOLVE_ROWS][PANEL + 1]);
    const int64_t first = at + width + (int64_t)blockIdx.x * SOLVE_ROWS;
    const int mine = (int)threadIdx.x;
    for (int i = mine; i < PANEL * PANEL; i += SOLVE_ROWS)
        if (i / PANEL < width && i % PANEL <= i / PANEL)
            block[i / PANEL][i % PANEL] = l[(at + i / PANEL) * dim + at + i % PANEL];
    for (int i = mine; i < SOLVE_ROWS * PANEL; i += SOLVE_ROWS)
        if (first + i / PANEL < dim && i % PANEL < width)
            rows[i / PANEL][i % PANEL] = l[(first + i / PANEL) * dim + at + i % PANEL];
    __syncthreads();
    for (int j = 0; j < width; j++) {
        double value = rows[mine][j];
        for (int q = 0; q < j; q++)
            value -= rows[mine][q] * block[j][q];
        rows[mine][j] = value / block[j][j];
    }
    __syncthreads();
    for (int i = mine; i < SOLVE_ROWS * PANEL; i += SOLVE_ROWS)
        if (first + i / PANEL < dim && i % PANEL < width)
            l[(first + i / PANEL) * dim + at + i % PANEL] = rows[i / PANEL][i % PANEL];
}

/* --- cholesky_inverse ---------------------------------------------------------------------------------- */

enum { INVERSE_SIDE = 16, INVERSE_THREADS = INVERSE_SIDE * INVERSE_SIDE };

/* M = L^-1. A block owns INVERSE_SIDE columns and goes down their rows, as many at a time. */
__global__ void __launch_bounds__(INVERSE_THREADS) triangle_kernel(double *m, const double *l, int64_t dim)
{
    SHARED(double, ls, [INVERSE_SIDE][INVERSE_SIDE + 1]);
    SHARED(double, ms, [INVERSE_SIDE][INVERSE_SIDE]);
    const int r = (int)threadIdx.x / INVERSE_SIDE, c = (int)threadIdx.x % INVERSE_SIDE;
    const int64_t j0 = (int64_t)blockIdx.x * INVERSE_SIDE, column = j0 + c;
    for (int64_t i0 = 0; i0 < j0; i0 += INVERSE_SIDE)
        if (column < dim)
            m[(i0 + r) * dim + column] = 0;
    for (int64_t i0 = j0; i0 < dim; i0 += INVERSE_SIDE) {
        const int64_t row = i0 + r;
        double sum = 0;
        for (int64_t q0 = j0; q0 < i0; q0 += INVERSE_SIDE) {
            __syncthreads(); /* the tile before has been used, and the rows before are written */
            ls[r][c] = row < dim ? l[row * dim + q0 + c] : 0.0;
            ms[r][c] = column < dim ? m[(q0 + r) * dim + column] : 0.0;
            __syncthreads();
            for (int q = 0; q < INVERSE_SIDE; q++)
                sum += ls[r][q] * ms[q][c];
        }
        __syncthreads();
        ls[r][c] = row < dim && i0 + c < dim ? l[row * dim + i0 + c] : 0.0;
        __syncthreads();
        for (int q = 0; q < INVERSE_SIDE && i0 + q < dim; q++) {
            if (r == q)
                ms[q][c] = ((row == column ? 1.0 : 0.0) - sum) / ls[q][q];
            __syncthreads();
            if (r > q)
                sum += ls[r][q] * ms[q][c];
        }
        if (row < dim && column < dim)
            m[row * dim + column] = ms[r][c];
    }
}

/* --- launchers ----------------------------------------------------------------------------------------- */

static sc_status check_dim(const char *op, int64_t dim)
{
    enum { MOST = 1 << 20 };
    return dim > 0 && dim <= MOST
               ? SC_OK
               : sc_fail(SC_INTERNAL, "%s: impossible shape: a matrix of %lld rows", op, (long long)dim);
}

sc_status cuda_rank_update(stream *s, double *a, const double *w, int64_t dim, int64_t b, double sign)
{
    const sc_status status = check_dim("rank_update", dim);
    if (status != SC_OK)
        return status;
    LAUNCH((rank_kernel<false>), rank_grid(dim), RANK_THREADS, 0, cuda_stream(s), a, w, dim, b, sign);
    return launched("rank_update");
}

sc_status cuda_cholesky(stream *s, double *l, const double *a, int64_t dim, bool *definite)
{
    sc_status status = check_dim("cholesky", dim);
    const cudaStream_t on = cuda_stream(s);
    double corner = 0;
    if (status != SC_OK)
        return status;
    LAUNCH(lower_kernel, striding_grid(blocks_of(dim * dim, COPY_THREADS)), COPY_THREADS, 0, on, l, a, dim);
    for (int64_t at = 0; at < dim; at += PANEL) {
        const int width = dim - at < PANEL ? (int)(dim - at) : (int)PANEL;
        if (at > 0)
            LAUNCH(panel_kernel, grid_of(blocks_of(dim - at, DOTS_ROWS)), DOTS_THREADS, 0, on, l, dim, at,
                   (int64_t)width);
        LAUNCH(diagonal_kernel, 1, PANEL, 0, on, l, dim, at, width);
        if (at + width < dim)
            LAUNCH(solve_kernel, grid_of(blocks_of(dim - at - width, SOLVE_ROWS)), SOLVE_ROWS, 0, on, l, dim,
                   at, width);
    }
    status = launched("cholesky");
    if (status == SC_OK)
        status = fetch("cholesky", s, &corner, l, sizeof corner);
    *definite = corner > 0;
    return status;
}

size_t cuda_cholesky_inverse_workspace(int64_t dim)
{
    return sizeof(double) * (size_t)dim * (size_t)dim;
}

sc_status cuda_cholesky_inverse(stream *s, double *inverse, const double *l, int64_t dim, void *workspace)
{
    sc_status status = check_dim("cholesky_inverse", dim);
    double *m = (double *)workspace;
    if (status != SC_OK)
        return status;
    status = cuda_fill_zero(s, inverse, (size_t)dim * (size_t)dim * sizeof *inverse);
    if (status != SC_OK)
        return status;
    LAUNCH(triangle_kernel, grid_of(blocks_of(dim, INVERSE_SIDE)), INVERSE_THREADS, 0, cuda_stream(s), m, l,
           dim);
    LAUNCH((rank_kernel<true>), rank_grid(dim), RANK_THREADS, 0, cuda_stream(s), inverse, (const double *)m,
           dim, dim, 1.0);
    return launched("cholesky_inverse");
}
