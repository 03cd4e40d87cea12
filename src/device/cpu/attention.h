/* What the forward, the backward and the cached attention share: block sizes, loads, the causal mask. */
#ifndef SC_DEVICE_CPU_ATTENTION_H
#define SC_DEVICE_CPU_ATTENTION_H

#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"
#include "device/cpu/tile.h"

enum { QUERIES = 64, KEYS = 96, HEAD_MOST = 256 };

sc_status attention_check(const attention_shape *shape, const char *name);

/* Rows of a head in scratch are padded with zeros to whole vectors. */
static inline int64_t head_wide(int64_t dim)
{
    return (dim + LANES - 1) / LANES * LANES;
}

/* n rows of one head as floats, `*pitch` apart, readable up to head_wide(dim): the memory itself, or scratch */
static inline const float *load_rows(float *restrict scratch, const void *x, dtype type, int64_t offset,
                                     int64_t stride, int64_t n, int64_t dim, int64_t *pitch)
{
    int64_t wide = head_wide(dim);
    if (type == DTYPE_F32 && wide == dim) {
        *pitch = stride;
        return (const float *)x + offset;
    }
    *pitch = wide;
    for (int64_t i = 0; i < n; i++) {
        float *to = scratch + i * wide;
        const float *from = row_load(x, type, offset + i * stride, dim, to);
        if (from != to)
            memcpy(to, from, (size_t)dim * sizeof *to);
        for (int64_t d = dim; d < wide; d++)
            to[d] = 0;
    }
    return scratch;
}

/* out [dim][QUERIES] = scale * n rows of one head, transposed; queries beyond n are zero */
static inline void load_transposed(float *restrict out, const void *x, dtype type, int64_t offset,
                                   int64_t stride, int64_t n, int64_t dim, float scale)
{
    for (int64_t i0 = 0; i0 < QUERIES; i0 += 8) {
        float rows[8][HEAD_MOST];
        for (int64_t r = 0; r < 8; r++) {
            if (i0 + r >= n) {
                memset(rows[r], 0, (size_t)dim * sizeof(float));
                continue;
            }
            const float *from = row_load(x, type, offset + (i0 + r) * stride, dim, rows[r]);
            for (int64_t d = 0; d < dim; d++)
                rows[r][d] = scale * from[d];
        }
        for (int64_t d = 0; d < dim; d++)
            for (int64_t r = 0; r < 8; r++)
                out[d * QUERIES + i0 + r] = rows[r][d];
    }
}

static inline void store_row(void *x, dtype type, int64_t offset, int64_t n, const float *values)
{
    if (type == DTYPE_F32)
        memcpy((float *)x + offset, values, (size_t)n * sizeof *values);
    else
        narrow((uint16_t *)x + offset, values, n);
}

/* scores [n keys from k0][QUERIES from first]: what a query must not see becomes -infinity */
static inline void mask(float *restrict scores, const attention_shape *shape, int64_t k0, int64_t n,
                        int64_t first)
{
    for (int64_t j = 0; j < n; j++) {
        const int64_t own = k0 + j - first; /* the query that is the key's own token */
        for (int64_t i = 0; !shape->bidirectional && i < QUERIES && i < own; i++)
            scores[j * QUERIES + i] = -INFINITY;
        for (int64_t i = own + shape->window > 0 ? own + shape->window : 0; shape->window > 0 && i < QUERIES;
             i++)
            scores[j * QUERIES + i] = -INFINITY;
    }
}

/* Keys that queries first .. first + length - 1 of a sequence of n tokens see between them: from, and before. */
static inline int64_t seen_from(const attention_shape *shape, int64_t first)
{
    const int64_t from = first - shape->window + 1;
    return shape->window > 0 && from > 0 ? from : 0;
}

static inline int64_t seen_before(const attention_shape *shape, int64_t first, int64_t length, int64_t n)
{
    return shape->bidirectional ? n : first + length;
}

#endif
