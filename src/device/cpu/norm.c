/* norm: RMSNorm (Zhang & Sennrich 2019), y = x * rstd * (shift + w) with rstd = 1 / sqrt(mean(x^2) + eps). */
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

sc_status cpu_rmsnorm_forward(stream *s, void *y, float *rstd, const void *x, const void *w, dtype type,
                              dtype w_type, int64_t n, int64_t dim, float eps, float shift)
{
    (void)s;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *dim, n))
    for (int64_t row = 0; row < n; row++) {
        float xs[ROW_BLOCK], ws[ROW_BLOCK], ys[ROW_BLOCK];
        double squares = 0;
        for (int64_t from = 0; from < dim; from += ROW_BLOCK) {
            int64_t part = row_part(dim, from);
            const float *xf = row_load(x, type, row * dim + from, part, xs);
            float total = 0;
#pragma omp simd reduction(+ : total)
            for (int64_t i = 0; i < part; i++)
                total += xf[i] * xf[i];
            squares += total;
        }
        float r = (float)(1.0 / sqrt(squares / (double)dim + (double)eps));
        if (rstd)
            rstd[row] = r;
        for (int64_t from = 0; from < dim; from += ROW_BLOCK) {
            int64_t part = row_part(dim, from);
            const float *xf = row_load(x, type, row * dim + from, part, xs);
            const float *wf = row_load(w, w_type, from, part, ws);
            float *yf = row_target(y, type, row * dim + from, ys);
            for (int64_t i = 0; i < part; i++)
                yf[i] = xf[i] * r * (shift + wf[i]);
            row_commit(y, type, row * dim + from, part, ys);
        }
    }
    return SC_OK;
}

/* dw is a sum over rows: it is cut into at most DW_PARTS runs of rows, a number that depends on n alone, so
 * that the order of the sum does not depend on the threads. */
enum { DW_PARTS = 64, DW_ROWS = 16 };

static int64_t dw_parts(int64_t n)
{
    int64_t parts = (n + DW_ROWS - 1) / DW_ROWS;
    return parts < 1 ? 1 : parts > DW_PARTS ? DW_PARTS : parts;
}

size_t cpu_rmsnorm_backward_workspace(int64_t n, int64_t dim)
{
    return (size_t)dw_parts(n) * (size_t)dim * sizeof(float);
}

/* With g = dy * (shift + w): dx = rstd * g - x * rstd^3 * mean(g * x);  dw += dy * x * rstd. */
static void backward_row(void *dx, bool accumulate, float *restrict dw, const void *dy, const void *x,
                         const void *w, float shift, float r, dtype type, dtype w_type, int64_t row,
                         int64_t dim)
{
    float xs[ROW_BLOCK], ws[ROW_BLOCK], gs[ROW_BLOCK], ds[ROW_BLOCK];
    double dot = 0;
    for (int64_t from = 0; from < dim; from += ROW_BLOCK) {
        int64_t part = row_part(dim, from);
        const float *xf = row_load(x, type, row * dim + from, part, xs);
        const float *wf = row_load(w, w_type, from, part, ws);
        const float *gf = row_load(dy, type, row * dim + from, part, gs);
        float total = 0;
#pragma omp simd reduction(+ : total)
        for (int64_t i = 0; i < part; i++)
            total += gf[i] * (shift + wf[i]) * xf[i];
        dot += total;
        if (dw)
            for (int64_t i = 0; i < part; i++)
                dw[from + i] += gf[i] * xf[i] * r;
    }
    float slope = (float)(dot / (double)dim * (double)r * (double)r * (double)r);
    for (int64_t from = 0; from < dim; from += ROW_BLOCK) {
        int64_t part = row_part(dim, from), offset = row * dim + from;
        const float *xf = row_load(x, type, offset, part, xs);
        const float *wf = row_load(w, w_type, from, part, ws);
        const float *gf = row_load(dy, type, offset, part, gs);
        float *df = row_target(dx, type, offset, ds);
        if (accumulate) {
            if (type != DTYPE_F32)
                row_load(dx, type, offset, part, ds);
            for (int64_t i = 0; i < part; i++)
                df[i] += r * gf[i] * (shift + wf[i]) - xf[i] * slope;
        } else {
            for (int64_t i = 0; i < part; i++)
                df[i] = r * gf[i] * (shift + wf[i]) - xf[i] * slope;
        }
        row_commit(dx, type, offset, part, ds);
    }
}

sc_status cpu_rmsnorm_backward(stream *s, void *dx, bool accumulate_dx, float *dw, const void *dy,
                               const void *x, const void *w, const float *rstd, dtype type, dtype w_type,
                               int64_t n, int64_t dim, float shift, void *workspace)
{
    (void)s;
    float *partial = workspace;
    int64_t parts = dw_parts(n);
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *dim, parts))
    for (int64_t p = 0; p < parts; p++) {
        float *own = dw ? partial + p * dim : NULL;
        if (own)
            memset(own, 0, (size_t)dim * sizeof *own);
        for (int64_t row = n * p / parts; row < n * (p + 1) / parts; row++)
            backward_row(dx, accumulate_dx, own, dy, x, w, shift, rstd[row], type, w_type, row, dim);
    }
    if (!dw)
        return SC_OK;
    for (int64_t p = 0; p < parts; p++)
        for (int64_t i = 0; i < dim; i++)
            dw[i] += partial[p * dim + i];
    return SC_OK;
}
