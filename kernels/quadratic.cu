/* quadratic: products in double with symmetric matrices [dim][dim]. Twin of src/device/cpu/quadratic.c.
 * 2 n dim^2 operations in double bound the forms, 4 dim^3 the sandwich. */
#include "dots.cuh"
#include "launch.cuh"

/* --- kernels ------------------------------------------------------------------------------------------- */

/* out[i] = sum over j of (x_i . a_j) x_ij, j ascending. A block owns DOTS_ROWS rows. */
__global__ void __launch_bounds__(DOTS_THREADS)
    forms_kernel(double *out, const float *x, const double *a, int64_t n, int64_t dim)
{
    SHARED(dots_buffers, buffers, );
    SHARED(double, products, [DOTS_ROWS][DOTS_LINES + 1]);
    const int64_t first = (int64_t)blockIdx.x * DOTS_ROWS, row = first + threadIdx.x;
    double sum = 0;
    for (int64_t line = 0; line < dim; line += DOTS_LINES) {
        double dots[DOTS_DOWN][DOTS_ACROSS];
        dots_tile<float, true>(buffers, dots, {x, dim, first, n}, {a, dim, line, dim}, dim);
        for (int i = 0; i < DOTS_DOWN; i++)
            for (int j = 0; j < DOTS_ACROSS; j++)
                products[dots_row(i)][dots_line(j)] = dots[i][j];
        __syncthreads();
        if (threadIdx.x < DOTS_ROWS && row < n)
            for (int j = 0; j < DOTS_LINES && line + j < dim; j++)
                sum = __fma_rn(products[threadIdx.x][j], (double)x[row * dim + line + j], sum);
    }
    if (threadIdx.x < DOTS_ROWS && row < n)
        out[row] = sum;
}

/* out = a b, b symmetric */
__global__ void __launch_bounds__(DOTS_THREADS)
    product_kernel(double *out, const double *a, const double *b, int64_t dim)
{
    SHARED(dots_buffers, buffers, );
    const int64_t first = (int64_t)blockIdx.y * DOTS_ROWS, line = (int64_t)blockIdx.x * DOTS_LINES;
    double dots[DOTS_DOWN][DOTS_ACROSS];
    dots_tile<double, true>(buffers, dots, {a, dim, first, dim}, {b, dim, line, dim}, dim);
    for (int i = 0; i < DOTS_DOWN; i++)
        for (int j = 0; j < DOTS_ACROSS; j++)
            if (first + dots_row(i) < dim && line + dots_line(j) < dim)
                out[(first + dots_row(i)) * dim + line + dots_line(j)] = dots[i][j];
}

/* --- launchers ----------------------------------------------------------------------------------------- */

sc_status cuda_quadratic_forms(stream *s, double *out, const float *x, const double *a, int64_t n,
                               int64_t dim)
{
    if (n < 0 || dim <= 0)
        return sc_fail(SC_INTERNAL, "quadratic_forms: impossible shape: %lld rows of %lld", (long long)n,
                       (long long)dim);
    LAUNCH(forms_kernel, grid_of(blocks_of(n, DOTS_ROWS)), DOTS_THREADS, 0, cuda_stream(s), out, x, a, n,
           dim);
    return launched("quadratic_forms");
}

size_t cuda_sandwich_workspace(int64_t dim)
{
    return sizeof(double) * (size_t)dim * (size_t)dim;
}

sc_status cuda_sandwich(stream *s, double *b, const double *a, const double *f, int64_t dim, void *workspace)
{
    if (dim <= 0)
        return sc_fail(SC_INTERNAL, "sandwich: impossible shape: a matrix of %lld rows", (long long)dim);
    double *half = (double *)workspace;
    const dim3 grid((unsigned)blocks_of(dim, DOTS_LINES), (unsigned)blocks_of(dim, DOTS_ROWS));
    LAUNCH(product_kernel, grid, DOTS_THREADS, 0, cuda_stream(s), half, a, f, dim);
    LAUNCH(product_kernel, grid, DOTS_THREADS, 0, cuda_stream(s), b, half, a, dim);
    return launched("sandwich");
}
