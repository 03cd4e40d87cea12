/* lora: low-rank adapters (Hu et al. 2022), y += scaling * (drop(x) A^T) B^T, and their gradients. */
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

static size_t aligned(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* The workspace holds d(xa) [n][rank], then, with dropout, a float matrix [n][in]. */
size_t cpu_lora_workspace(int64_t n, int64_t in, int64_t out, int64_t rank, float dropout)
{
    (void)out;
    size_t bytes = aligned((size_t)n * (size_t)rank * sizeof(float));
    return dropout > 0 ? bytes + aligned((size_t)n * (size_t)in * sizeof(float)) : bytes;
}

static float *dropped_of(void *workspace, int64_t n, int64_t rank)
{
    return (float *)((char *)workspace + aligned((size_t)n * (size_t)rank * sizeof(float)));
}

/* to [n][in] = from with elements dropped and the others divided by 1 - p (accumulate: added to it). Column c of
 * a row takes the c-th number of the row's stream, forward and backward alike. */
static void drop(void *to, dtype to_type, const void *from, dtype from_type, bool accumulate, int64_t n,
                 int64_t in, float p, uint64_t seed, const uint64_t *row_keys, uint32_t step)
{
    const float keep = 1.0f / (1.0f - p);
    const uint32_t limit = (uint32_t)((double)p * 4294967296.0);
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *in, n))
    for (int64_t row = 0; row < n; row++) {
        random_stream numbers = random_at(seed, RANDOM_DROPOUT, row_keys[row], step);
        for (int64_t at0 = 0; at0 < in; at0 += ROW_BLOCK) {
            int64_t part = row_part(in, at0), offset = row * in + at0;
            float source[ROW_BLOCK], target[ROW_BLOCK];
            const float *x = row_load(from, from_type, offset, part, source);
            float *y = row_target(to, to_type, offset, target);
            if (accumulate && to_type != DTYPE_F32)
                row_load(to, to_type, offset, part, target);
            for (int64_t i = 0; i < part; i++) {
                float value = random_u32(&numbers) < limit ? 0 : x[i] * keep;
                y[i] = accumulate ? y[i] + value : value;
            }
            row_commit(to, to_type, offset, part, target);
        }
    }
}

static sc_status check_dropout(float dropout, const uint64_t *row_keys)
{
    if (!(dropout >= 0 && dropout < 1))
        return sc_fail(SC_USAGE, "a dropout of %g is outside 0..1", (double)dropout);
    if (dropout > 0 && !row_keys)
        return sc_fail(SC_INTERNAL, "lora: dropout without row keys");
    return SC_OK;
}

sc_status cpu_lora_forward(stream *s, void *y, dtype y_type, float *xa, const void *x, dtype x_type,
                           const float *a, const float *b, int64_t n, int64_t in, int64_t out, int64_t rank,
                           float scaling, float dropout, uint64_t seed, const uint64_t *row_keys,
                           uint32_t step, void *workspace)
{
    sc_status status = check_dropout(dropout, row_keys);
    if (status != SC_OK)
        return status;
    if (dropout > 0) {
        float *dropped = dropped_of(workspace, n, rank);
        drop(dropped, DTYPE_F32, x, x_type, false, n, in, dropout, seed, row_keys, step);
        x = dropped;
        x_type = DTYPE_F32;
    }
    SC_TRY(cpu_gemm(s, false, true, n, rank, in, 1, x, x_type, in, a, DTYPE_F32, in, 0, xa, DTYPE_F32, rank));
    SC_TRY(cpu_gemm(s, false, true, n, out, rank, scaling, xa, DTYPE_F32, rank, b, DTYPE_F32, rank, 1, y,
                    y_type, out));
cleanup:
    return status;
}

sc_status cpu_lora_backward(stream *s, void *dx, dtype dx_type, float *da, float *db, const void *dy,
                            dtype dy_type, const float *xa, const void *x, dtype x_type, const float *a,
                            const float *b, int64_t n, int64_t in, int64_t out, int64_t rank, float scaling,
                            float dropout, uint64_t seed, const uint64_t *row_keys, uint32_t step,
                            void *workspace)
{
    sc_status status = check_dropout(dropout, row_keys);
    if (status != SC_OK)
        return status;
    float *dxa = workspace, *dropped = dropout > 0 ? dropped_of(workspace, n, rank) : NULL;
    SC_TRY(cpu_gemm(s, true, false, out, rank, n, scaling, dy, dy_type, out, xa, DTYPE_F32, rank, 1, db,
                    DTYPE_F32, rank));
    SC_TRY(cpu_gemm(s, false, false, n, rank, out, scaling, dy, dy_type, out, b, DTYPE_F32, rank, 0, dxa,
                    DTYPE_F32, rank));
    if (dropped) {
        drop(dropped, DTYPE_F32, x, x_type, false, n, in, dropout, seed, row_keys, step);
        x = dropped;
        x_type = DTYPE_F32;
    }
    SC_TRY(
        cpu_gemm(s, true, false, rank, in, n, 1, dxa, DTYPE_F32, rank, x, x_type, in, 1, da, DTYPE_F32, in));
    if (!dx)
        goto cleanup;
    if (!dropped) {
        SC_TRY(cpu_gemm(s, false, false, n, in, rank, 1, dxa, DTYPE_F32, rank, a, DTYPE_F32, in, 1, dx,
                        dx_type, in));
        goto cleanup;
    }
    SC_TRY(cpu_gemm(s, false, false, n, in, rank, 1, dxa, DTYPE_F32, rank, a, DTYPE_F32, in, 0, dropped,
                    DTYPE_F32, in));
    drop(dx, dx_type, dropped, DTYPE_F32, true, n, in, dropout, seed, row_keys, step);
cleanup:
    return status;
}
