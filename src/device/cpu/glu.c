/* glu: gated linear units (Shazeer 2020), y = act(gate) * up, with SiLU or the tanh form of GELU. */
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

/* gelu(x) = x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3): the tanh form (Hendrycks & Gimpel 2016), since
 * (1 + tanh u) / 2 = sigmoid(2u). */
#define GELU_SLOPE 1.5957691216057308f /* 2 sqrt(2/pi) */
#define GELU_CUBIC 0.044715f

static inline float silu(float x)
{
    return x * fast_sigmoid(x);
}

static inline float silu_slope(float x)
{
    float g = fast_sigmoid(x);
    return g + x * g * (1.0f - g);
}

static inline float gelu(float x)
{
    return x * fast_sigmoid(GELU_SLOPE * (x + GELU_CUBIC * x * x * x));
}

static inline float gelu_slope(float x)
{
    float g = fast_sigmoid(GELU_SLOPE * (x + GELU_CUBIC * x * x * x));
    return g + x * g * (1.0f - g) * GELU_SLOPE * (1.0f + 3.0f * GELU_CUBIC * x * x);
}

sc_status cpu_glu_forward(stream *s, void *y, const void *gate, const void *up, dtype type, int64_t n,
                          activation act)
{
    (void)s;
    int64_t blocks = (n + ROW_BLOCK - 1) / ROW_BLOCK;
#pragma omp parallel for schedule(static) num_threads(cpu_team(4 * n, blocks))
    for (int64_t b = 0; b < blocks; b++) {
        int64_t from = b * ROW_BLOCK, part = row_part(n, from);
        float gs[ROW_BLOCK], us[ROW_BLOCK], ys[ROW_BLOCK];
        const float *g = row_load(gate, type, from, part, gs), *u = row_load(up, type, from, part, us);
        if (act == ACT_SILU)
            for (int64_t i = 0; i < part; i++)
                ys[i] = silu(g[i]) * u[i];
        else
            for (int64_t i = 0; i < part; i++)
                ys[i] = gelu(g[i]) * u[i];
        if (type == DTYPE_F32)
            memcpy((float *)y + from, ys, (size_t)part * sizeof *ys);
        row_commit(y, type, from, part, ys);
    }
    return SC_OK;
}

sc_status cpu_glu_backward(stream *s, void *dgate, void *dup, const void *dy, const void *gate,
                           const void *up, dtype type, int64_t n, activation act)
{
    (void)s;
    int64_t blocks = (n + ROW_BLOCK - 1) / ROW_BLOCK;
#pragma omp parallel for schedule(static) num_threads(cpu_team(4 * n, blocks))
    for (int64_t b = 0; b < blocks; b++) {
        int64_t from = b * ROW_BLOCK, part = row_part(n, from);
        /* Results stay in scratch until all is read: dgate and dup may be gate, up or dy. */
        float gs[ROW_BLOCK], us[ROW_BLOCK], ds[ROW_BLOCK], dg[ROW_BLOCK], du[ROW_BLOCK];
        const float *g = row_load(gate, type, from, part, gs), *u = row_load(up, type, from, part, us);
        const float *d = row_load(dy, type, from, part, ds);
        if (act == ACT_SILU)
            for (int64_t i = 0; i < part; i++) {
                dg[i] = d[i] * u[i] * silu_slope(g[i]);
                du[i] = d[i] * silu(g[i]);
            }
        else
            for (int64_t i = 0; i < part; i++) {
                dg[i] = d[i] * u[i] * gelu_slope(g[i]);
                du[i] = d[i] * gelu(g[i]);
            }
        if (type == DTYPE_F32) {
            memcpy((float *)dgate + from, dg, (size_t)part * sizeof *dg);
            memcpy((float *)dup + from, du, (size_t)part * sizeof *du);
        }
        row_commit(dgate, type, from, part, dg);
        row_commit(dup, type, from, part, du);
    }
    return SC_OK;
}
