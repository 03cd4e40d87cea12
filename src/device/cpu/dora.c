/* dora: weights split into magnitude and direction (Liu et al. 2024, arXiv:2402.09353), row by row of the weight:
 * y = magnitude / |W + scaling B A| * (x (W + scaling B A)^T). The length is a constant to the gradient (section 4.3). */
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

/* Rows of the weight whose sum with the adapter is formed at a time. */
enum { NORM_ROWS = 64 };

size_t cpu_dora_norm_workspace(int64_t in, int64_t out)
{
    return (size_t)(out < NORM_ROWS ? out : NORM_ROWS) * (size_t)in * sizeof(float);
}

static float length(const float *x, int64_t n)
{
    double squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < n; i++)
        squares += (double)x[i] * (double)x[i];
    return (float)sqrt(squares);
}

sc_status cpu_dora_norm(stream *s, float *norm, const void *w, dtype w_type, const float *a, const float *b,
                        int64_t in, int64_t out, int64_t rank, float scaling, void *workspace)
{
    sc_status status = SC_OK;
    float *sum = workspace;
    for (int64_t first = 0; first < out; first += NORM_ROWS) {
        const int64_t n = out - first < NORM_ROWS ? out - first : NORM_ROWS;
        SC_TRY(cpu_cast(s, sum, DTYPE_F32, at_const(w, w_type, first * in), w_type, n * in));
        SC_TRY(cpu_gemm(s, false, false, n, in, rank, scaling, b + first * rank, DTYPE_F32, rank, a,
                        DTYPE_F32, in, 1, sum, DTYPE_F32, in));
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *in, n))
        for (int64_t row = 0; row < n; row++)
            norm[first + row] = length(sum + row * in, in);
    }
cleanup:
    return status;
}

/* A row of zeros has no direction: nothing comes out of it. */
static inline float gain(float magnitude, float norm)
{
    return norm > 0 ? magnitude / norm : 0;
}

sc_status cpu_dora_forward(stream *s, void *y, bool accumulate, const void *x, dtype type,
                           const float *magnitude, const float *norm, int64_t n, int64_t out)
{
    (void)s;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *out, n))
    for (int64_t row = 0; row < n; row++)
        for (int64_t from = 0; from < out; from += ROW_BLOCK) {
            const int64_t part = row_part(out, from), offset = row * out + from;
            float xs[ROW_BLOCK], ys[ROW_BLOCK];
            const float *xf = row_load(x, type, offset, part, xs);
            float *yf = row_target(y, type, offset, ys);
            if (accumulate && type != DTYPE_F32)
                row_load(y, type, offset, part, ys);
            for (int64_t i = 0; i < part; i++) {
                const float value = xf[i] * gain(magnitude[from + i], norm[from + i]);
                yf[i] = accumulate ? yf[i] + value : value;
            }
            row_commit(y, type, offset, part, ys);
        }
    return SC_OK;
}

/* Columns are shared out, so each one's sum is over the rows in their order, whatever the threads. */
enum { COLUMNS = 64 };

sc_status cpu_dora_backward(stream *s, void *dx, float *dmagnitude, const void *dy, const void *x, dtype type,
                            const float *magnitude, const float *norm, int64_t n, int64_t out)
{
    (void)s;
    const int64_t blocks = (out + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *out, blocks))
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t from = block * COLUMNS, part = out - from < COLUMNS ? out - from : COLUMNS;
        float sums[COLUMNS] = {0}, gains[COLUMNS];
        for (int64_t i = 0; i < part; i++)
            gains[i] = gain(magnitude[from + i], norm[from + i]);
        for (int64_t row = 0; row < n; row++) {
            float xs[COLUMNS], ys[COLUMNS], ds[COLUMNS];
            const float *xf = row_load(x, type, row * out + from, part, xs);
            const float *yf = row_load(dy, type, row * out + from, part, ys);
            float *df = row_target(dx, type, row * out + from, ds);
            for (int64_t i = 0; i < part; i++) {
                sums[i] += yf[i] * xf[i];
                df[i] = yf[i] * gains[i];
            }
            row_commit(dx, type, row * out + from, part, ds);
        }
        for (int64_t i = 0; i < part; i++)
            dmagnitude[from + i] += norm[from + i] > 0 ? sums[i] / norm[from + i] : 0;
    }
    return SC_OK;
}
