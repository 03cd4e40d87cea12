/* lora: low-rank adapters (Hu et al. 2022), y += scaling * (drop(x) A^T) B^T, and their gradients. */
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

static size_t aligned(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* Where the workspace has d(xa) [n][rank], with dropout a float matrix [n][in], and what AMX's products want. */
typedef struct places {
    size_t dropped, amx, end;
} places;

static places places_of(int64_t n, int64_t in, int64_t out, int64_t rank, float dropout)
{
    places found;
    found.dropped = aligned((size_t)n * (size_t)rank * sizeof(float));
    found.amx = found.dropped + (dropout > 0 ? aligned((size_t)n * (size_t)in * sizeof(float)) : 0);
    found.end = found.amx + amx_lora_workspace(n, in, out, rank);
    return found;
}

size_t cpu_lora_workspace(int64_t n, int64_t in, int64_t out, int64_t rank, float dropout)
{
    return places_of(n, in, out, rank, dropout).end;
}

/* to [n][in] = from with elements dropped and the others times `keep` (accumulate: added to it). Column c of a row takes the c-th
 * number of the row's stream, forward and backward alike. */
static void drop(void *to, dtype to_type, const void *from, dtype from_type, bool accumulate, int64_t n,
                 int64_t in, float p, float keep, uint64_t seed, const uint64_t *row_keys, uint32_t step)
{
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

/* Products of wide rows [n][width], of activations, and narrow ones [n][rank]; of bf16 on AMX where `amx` is its workspace. */
typedef struct product {
    stream *s;
    int64_t n;
    void *amx;
} product;

static product product_of(stream *s, int64_t n, int64_t in, int64_t out, int64_t rank, dtype x_type,
                          dtype y_type, void *amx)
{
    product p = {.s = s, .n = n};
#ifdef __AVX512F__ /* of the two builds, the one that such a processor uses */
    if (x_type == DTYPE_BF16 && y_type == DTYPE_BF16 && lora_takes_amx(n, in, out, rank))
        p.amx = amx;
#else
    (void)in, (void)out, (void)rank, (void)x_type, (void)y_type, (void)amx;
#endif
    return p;
}

/* narrow = factor wide m */
static sc_status down(const product *p, float *narrow, const void *wide, dtype type, const amx_adapter *m,
                      float factor)
{
    if (p->amx != NULL) {
        amx_lora_down(narrow, wide, m, p->n, factor, p->amx);
        return SC_OK;
    }
    return cpu_gemm(p->s, false, m->rank_in_rows, p->n, m->rank, m->width, factor, wide, type, m->width,
                    m->at, DTYPE_F32, m->rank_in_rows ? m->width : m->rank, 0, narrow, DTYPE_F32, m->rank);
}

/* wide += factor narrow m, or = where it is a matrix of floats that dropout thins out afterwards */
static sc_status up(const product *p, void *wide, dtype type, bool thinned, const float *narrow,
                    const amx_adapter *m, float factor)
{
    if (p->amx != NULL && (thinned || type == DTYPE_BF16)) {
        amx_lora_up(wide, type, narrow, m, p->n, factor, p->amx);
        return SC_OK;
    }
    return cpu_gemm(p->s, false, !m->rank_in_rows, p->n, m->width, m->rank, factor, narrow, DTYPE_F32,
                    m->rank, m->at, DTYPE_F32, m->rank_in_rows ? m->width : m->rank, thinned ? 0 : 1, wide,
                    type, m->width);
}

/* the adapter's gradient += factor narrow^T wide, or its transpose, as the adapter lies */
static sc_status gradient(const product *p, float *dm, const amx_adapter *m, const float *narrow,
                          const void *wide, dtype type, float factor)
{
    if (p->amx != NULL) {
        amx_lora_gradient(dm, m, narrow, wide, p->n, factor, p->amx);
        return SC_OK;
    }
    if (m->rank_in_rows)
        return cpu_gemm(p->s, true, false, m->rank, m->width, p->n, factor, narrow, DTYPE_F32, m->rank, wide,
                        type, m->width, 1, dm, DTYPE_F32, m->width);
    return cpu_gemm(p->s, true, false, m->width, m->rank, p->n, factor, wide, type, m->width, narrow,
                    DTYPE_F32, m->rank, 1, dm, DTYPE_F32, m->rank);
}

typedef struct dropping {
    float p;
    uint64_t seed;
    const uint64_t *row_keys;
    uint32_t step;
} dropping;

/* x after dropout, in `room`: as floats, or for AMX as bf16 whose elements are still to be multiplied by *rest. */
static const void *thin(const product *p, const dropping *how, void *room, const void *x, dtype *type,
                        int64_t in, float *rest)
{
    *rest = 1;
    if (!(how->p > 0))
        return x;
    const float keep = 1.0f / (1.0f - how->p);
    const dtype to = p->amx != NULL ? DTYPE_BF16 : DTYPE_F32;
    if (to == DTYPE_BF16)
        *rest = keep;
    drop(room, to, x, *type, false, p->n, in, how->p, keep / *rest, how->seed, how->row_keys, how->step);
    *type = to;
    return room;
}

sc_status cpu_lora_forward(stream *s, void *y, dtype y_type, float *xa, const void *x, dtype x_type,
                           const float *a, const float *b, int64_t n, int64_t in, int64_t out, int64_t rank,
                           float scaling, float dropout, uint64_t seed, const uint64_t *row_keys,
                           uint32_t step, void *workspace)
{
    const places at = places_of(n, in, out, rank, dropout);
    const product p = product_of(s, n, in, out, rank, x_type, y_type, (char *)workspace + at.amx);
    const dropping how = {dropout, seed, row_keys, step};
    const amx_adapter left = {a, in, rank, true}, right = {b, out, rank, false};
    float rest;
    sc_status status = check_dropout(dropout, row_keys);
    if (status != SC_OK)
        return status;
    x = thin(&p, &how, (char *)workspace + at.dropped, x, &x_type, in, &rest);
    SC_TRY(down(&p, xa, x, x_type, &left, rest));
    SC_TRY(up(&p, y, y_type, false, xa, &right, scaling));
cleanup:
    return status;
}

sc_status cpu_lora_backward(stream *s, void *dx, dtype dx_type, float *da, float *db, const void *dy,
                            dtype dy_type, const float *xa, const void *x, dtype x_type, const float *a,
                            const float *b, int64_t n, int64_t in, int64_t out, int64_t rank, float scaling,
                            float dropout, uint64_t seed, const uint64_t *row_keys, uint32_t step,
                            void *workspace)
{
    const places at = places_of(n, in, out, rank, dropout);
    const product p = product_of(s, n, in, out, rank, x_type, dy_type, (char *)workspace + at.amx);
    const dropping how = {dropout, seed, row_keys, step};
    const amx_adapter left = {a, in, rank, true}, right = {b, out, rank, false};
    float *const dxa = workspace, *const room = (float *)((char *)workspace + at.dropped);
    float rest;
    sc_status status = check_dropout(dropout, row_keys);
    if (status != SC_OK)
        return status;
    SC_TRY(gradient(&p, db, &right, xa, dy, dy_type, scaling));
    SC_TRY(down(&p, dxa, dy, dy_type, &right, scaling));
    x = thin(&p, &how, room, x, &x_type, in, &rest);
    SC_TRY(gradient(&p, da, &left, dxa, x, x_type, rest));
    if (!dx)
        goto cleanup;
    if (!(dropout > 0)) {
        SC_TRY(up(&p, dx, dx_type, false, dxa, &left, 1));
        goto cleanup;
    }
    SC_TRY(up(&p, room, DTYPE_F32, true, dxa, &left, 1));
    drop(dx, dx_type, room, DTYPE_F32, true, n, in, dropout, 1.0f / (1.0f - dropout), seed, row_keys, step);
cleanup:
    return status;
}
