/* What attention's forward and backward pass on AMX's tiles share: how operands are laid out for amx_product. */
#ifndef SC_DEVICE_CPU_ATTENTION_AMX_H
#define SC_DEVICE_CPU_ATTENTION_AMX_H

#include "device/cpu/amx.h"
#include "device/cpu/attention.h"

#define AMX_LOG2_E 1.44269504088896341f

/* Where a sequence's tokens begin if each sequence is padded to whole steps, and how many rows all of them need. */
static inline int64_t amx_first_row(const attention_shape *shape, int64_t seq)
{
    return amx_padded(shape->cu_seqlens[seq] + AMX_STEP * seq);
}

static inline int64_t amx_rows(const attention_shape *shape)
{
    return amx_padded(shape->n_tokens + AMX_STEP * shape->n_seqs);
}

/* Rows of keys or values, transposed: 32 tokens of a head stand as [dim][32], one such block after the other; tokens beyond a
 * sequence's end are zeros. */
static inline size_t amx_transposed_bytes(const attention_shape *shape)
{
    return (size_t)(amx_rows(shape) * shape->n_kv_heads * shape->head_dim) * sizeof(uint16_t);
}

/* Where the block of a sequence's token `at`, a multiple of 32, begins. */
static inline int64_t amx_transposed_at(const attention_shape *shape, int64_t seq, int64_t kv_head,
                                        int64_t at)
{
    const int64_t n = amx_padded(shape->cu_seqlens[seq + 1] - shape->cu_seqlens[seq]);
    return (amx_first_row(shape, seq) * shape->n_kv_heads + kv_head * n + at) * shape->head_dim;
}

/* A sequence's head from there on, as an operand. */
static inline amx_left amx_transposed(const uint16_t *all, const attention_shape *shape, int64_t seq,
                                      int64_t kv_head, int64_t at)
{
    return (amx_left){.at = all + amx_transposed_at(shape, seq, kv_head, at),
                      .step = (int64_t)AMX_STEP * shape->head_dim,
                      .row = AMX_STEP};
}

/* attention_amx.c: fills it from x, the keys or the values. */
void amx_transpose_rows(uint16_t *all, const uint16_t *x, const attention_shape *shape);

/* Rows of a head as an operand: the memory itself, or where a step would pass the end of n rows, a copy ended by zeros.
 * Such a copy is whole: `scratch` has amx_padded(n) rows of head_dim. */
static inline amx_left amx_rows_of(uint16_t *scratch, const uint16_t *x, int64_t stride, int64_t n,
                                   int64_t dim)
{
    if (n % AMX_STEP == 0)
        return (amx_left){.at = x, .step = AMX_DEPTH, .row = stride};
    for (int64_t i = 0; i < n; i++)
        memcpy(scratch + i * dim, x + i * stride, (size_t)dim * sizeof *x);
    memset(scratch + n * dim, 0, (size_t)((amx_padded(n) - n) * dim) * sizeof *x);
    return (amx_left){.at = scratch, .step = AMX_DEPTH, .row = dim};
}

/* sums [dim][QUERIES], times `rates` of the queries, rounded to n rows of x. */
static inline void amx_store_queries(uint16_t *x, int64_t stride, int64_t n, int64_t dim, const float *sums,
                                     const float *rates)
{
    for (int64_t i = 0; i < n; i += 16) {
        const __m512 rate = _mm512_load_ps(rates + i);
        for (int64_t d = 0; d < dim; d += 16) {
            __m512i r[16];
            for (int64_t j = 0; j < 16; j++)
                r[j] = _mm512_castps_si512(_mm512_mul_ps(_mm512_load_ps(sums + (d + j) * QUERIES + i), rate));
            amx_transpose(r);
            for (int64_t j = 0; j < 16 && i + j < n; j++)
                _mm256_storeu_si256((__m256i *)(x + (i + j) * stride + d),
                                    (__m256i)_mm512_cvtneps_pbh(_mm512_castsi512_ps(r[j])));
        }
    }
}

/* By what products of queries and keys, after amx_see, become exponents of 2. */
static inline float amx_rate(const attention_shape *shape)
{
    return shape->soft_cap > 0 ? AMX_LOG2_E : shape->scale * AMX_LOG2_E;
}

/* Products [key][QUERIES] of n keys from k0 become scores: capped, and -infinity where a query does not see a key; nobody sees rows
 * beyond n, which end the step. */
static inline void amx_see(float *scores, const attention_shape *shape, int64_t k0, int64_t n, int64_t first)
{
    if (shape->soft_cap > 0) {
        for (int64_t i = 0; i < n * QUERIES; i++)
            scores[i] *= shape->scale;
        cap_values(scores, n * QUERIES, shape->soft_cap);
    }
    const __m512 unseen = _mm512_set1_ps(-INFINITY);
    for (int64_t j = 0; j < amx_padded(n); j++) {
        const int64_t own = k0 + j - first; /* the query that is the key's own token */
        uint64_t seen = j < n ? ~0ull : 0;
        if (!shape->bidirectional && own > 0)
            seen &= own < QUERIES ? ~0ull << own : 0;
        if (shape->window > 0 && own + shape->window < QUERIES)
            seen &= own + shape->window > 0 ? ~(~0ull << (own + shape->window)) : 0;
        for (int64_t i = 0; seen != ~0ull && i < QUERIES; i += 16)
            _mm512_mask_store_ps(scores + j * QUERIES + i, (__mmask16)(~seen >> i), unseen);
    }
}

#endif
