/* attention_backward for bf16 on a processor with AMX: attention_backward.c's five products, each of tiles. With scores kept
 * [key][query],
 *     S^T = K Q^T,  P^T = exp(S^T - lse),  dP^T = V dout^T,  dS^T = P^T * (dP^T - D) * scale,
 *     dV += P^T dout,  dK += dS^T Q,  dQ^T += K^T dS^T,
 * every left operand lies in rows, of keys, as it comes or as it is made; only K^T is transposed, once a call.
 *
 * As there, a task is one head of one sequence, whose keys' gradients stand in the workspace, and a second pass adds those of the
 * heads that share a key head. Rows of the workspace are padded, so that whole tiles may be written. */
#include "device/cpu/attention_amx.h"

enum { BLOCK = QUERIES /* keys of a block */, GROUPS = QUERIES / 16 };

typedef struct backward {
    uint16_t *dq;
    const uint16_t *dout, *out, *q, *k, *v, *keys; /* the last: k transposed */
    const float *lse;
    const attention_shape *shape;
    float *dk, *dv; /* [n_heads][amx_rows][head_dim] */
} backward;

/* The query side of a block: as right operands of products over the head, and over queries. */
typedef struct query_block {
    _Alignas(64) uint32_t q_along[HEAD_MOST / 2 * QUERIES], dout_along[HEAD_MOST / 2 * QUERIES];
    _Alignas(64) uint32_t q_across[QUERIES / 2 * HEAD_MOST], dout_across[QUERIES / 2 * HEAD_MOST];
    _Alignas(64) float dq[HEAD_MOST * QUERIES];
    _Alignas(64) float lse[QUERIES], dot[QUERIES]; /* lse in units of log 2 */
} query_block;

/* What a block of keys makes of the queries. */
typedef struct key_block {
    _Alignas(64) float scores[BLOCK * QUERIES], slopes[BLOCK * QUERIES];
    _Alignas(64) uint16_t p[BLOCK * QUERIES], ds[BLOCK * QUERIES]; /* in rows of keys */
    _Alignas(64) uint32_t ds_pairs[BLOCK / 2 * QUERIES];
    _Alignas(64) uint16_t k[BLOCK * HEAD_MOST], v[BLOCK * HEAD_MOST];
} key_block;

static void load_queries(query_block *b, const backward *all, int64_t row0, int64_t length, int64_t head)
{
    const attention_shape *shape = all->shape;
    const int64_t dim = shape->head_dim, stride = shape->q_stride, offset = row0 * stride + head * dim;
    amx_pack_rows(b->q_along, QUERIES, all->q + offset, stride, length, dim);
    amx_pack_rows(b->dout_along, QUERIES, all->dout + offset, stride, length, dim);
    amx_pair_rows(b->q_across, dim, QUERIES / 2, all->q + offset, stride, length, dim);
    amx_pair_rows(b->dout_across, dim, QUERIES / 2, all->dout + offset, stride, length, dim);
    memset(b->dq, 0, (size_t)(dim * QUERIES) * sizeof *b->dq);
    for (int64_t i = 0; i < QUERIES; i++) {
        b->lse[i] = INFINITY; /* a query beyond the end has probabilities of zero */
        b->dot[i] = 0;
    }
    for (int64_t i = 0; i < length; i++) {
        const uint16_t *o = all->out + offset + i * stride, *d = all->dout + offset + i * stride;
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t j = 0; j < dim; j++)
            dot += bf16_to_f32(d[j]) * bf16_to_f32(o[j]);
        b->dot[i] = dot;
        b->lse[i] = all->lse[head * shape->n_tokens + row0 + i] * AMX_LOG2_E;
    }
}

/* p and ds of two keys of 16 queries */
static inline void slope(__m512 *p, __m512 *ds, const float *score, const float *slopes, __m512 rate,
                         __m512 lse, __m512 dot, __m512 scale, float cap)
{
    const __m512 s = _mm512_load_ps(score);
    *p = amx_exp2(_mm512_fmsub_ps(s, rate, lse));
    *ds = _mm512_mul_ps(_mm512_mul_ps(*p, scale), _mm512_sub_ps(_mm512_load_ps(slopes), dot));
    if (cap > 0) { /* times the derivative of cap tanh(x / cap), by its value; an unseen key's is none */
        const __m512 t = _mm512_mul_ps(s, _mm512_set1_ps(1.0f / cap));
        const __mmask16 seen = _mm512_cmp_ps_mask(s, _mm512_set1_ps(-INFINITY), _CMP_NEQ_UQ);
        *ds = _mm512_maskz_mul_ps(seen, *ds, _mm512_fnmadd_ps(t, t, _mm512_set1_ps(1.0f)));
    }
}

/* The block's probabilities and their slopes, from scores and dP, in both layouts. */
static void differentiate(key_block *k, const query_block *b, const attention_shape *shape, int64_t rows)
{
    const __m512 rate = _mm512_set1_ps(amx_rate(shape)), scale = _mm512_set1_ps(shape->scale);
    for (int g = 0; g < GROUPS; g++) {
        const __m512 lse = _mm512_load_ps(b->lse + 16 * g), dot = _mm512_load_ps(b->dot + 16 * g);
        for (int64_t j = 0; j < rows; j += 2) {
            const int64_t even = j * QUERIES + 16 * g, odd = even + QUERIES;
            __m512 p[2], ds[2];
            slope(&p[0], &ds[0], k->scores + even, k->slopes + even, rate, lse, dot, scale, shape->soft_cap);
            slope(&p[1], &ds[1], k->scores + odd, k->slopes + odd, rate, lse, dot, scale, shape->soft_cap);
            _mm256_store_si256((__m256i *)(k->p + even), (__m256i)_mm512_cvtneps_pbh(p[0]));
            _mm256_store_si256((__m256i *)(k->p + odd), (__m256i)_mm512_cvtneps_pbh(p[1]));
            _mm256_store_si256((__m256i *)(k->ds + even), (__m256i)_mm512_cvtneps_pbh(ds[0]));
            _mm256_store_si256((__m256i *)(k->ds + odd), (__m256i)_mm512_cvtneps_pbh(ds[1]));
            _mm512_store_si512(k->ds_pairs + j / 2 * QUERIES + 16 * g, amx_round_pairs(ds[0], ds[1]));
        }
    }
}

static void backward_head(const backward *all, int64_t seq, int64_t head)
{
    query_block b;
    key_block k;
    const attention_shape *shape = all->shape;
    const int64_t dim = shape->head_dim, start = shape->cu_seqlens[seq],
                  n = shape->cu_seqlens[seq + 1] - start;
    const int64_t kv_head = head / (shape->n_heads / shape->n_kv_heads), steps = dim / AMX_DEPTH;
    const int64_t own = (head * amx_rows(shape) + amx_first_row(shape, seq)) * dim;
    float *dk = all->dk + own, *dv = all->dv + own;
    memset(dk, 0, (size_t)(amx_padded(n) * dim) * sizeof *dk);
    memset(dv, 0, (size_t)(amx_padded(n) * dim) * sizeof *dv);
    const amx_right q_along = {b.q_along, AMX_DEPTH / 2 * QUERIES, QUERIES},
                    dout_along = {b.dout_along, AMX_DEPTH / 2 * QUERIES, QUERIES},
                    q_across = {b.q_across, AMX_DEPTH / 2 * dim, dim},
                    dout_across = {b.dout_across, AMX_DEPTH / 2 * dim, dim},
                    ds_pairs = {k.ds_pairs, AMX_DEPTH / 2 * QUERIES, QUERIES};
    const amx_left p = {k.p, AMX_DEPTH, QUERIES}, ds = {k.ds, AMX_DEPTH, QUERIES};
    for (int64_t first = 0; first < n; first += QUERIES) {
        const int64_t length = n - first < QUERIES ? n - first : QUERIES,
                      seen = seen_before(shape, first, length, n);
        load_queries(&b, all, start + first, length, head);
        for (int64_t at = seen_from(shape, first) / BLOCK * BLOCK; at < seen; at += BLOCK) {
            const int64_t some = seen - at < BLOCK ? seen - at : BLOCK, rows = amx_padded(some);
            const int64_t offset = (start + at) * shape->kv_stride + kv_head * dim, stride = shape->kv_stride;
            amx_product(rows, QUERIES, steps, amx_rows_of(k.k, all->k + offset, stride, some, dim), q_along,
                        false, k.scores, QUERIES);
            amx_product(rows, QUERIES, steps, amx_rows_of(k.v, all->v + offset, stride, some, dim),
                        dout_along, false, k.slopes, QUERIES);
            amx_see(k.scores, shape, at, some, first);
            differentiate(&k, &b, shape, rows);
            amx_product(rows, dim, QUERIES / AMX_DEPTH, p, dout_across, true, dv + at * dim, dim);
            amx_product(rows, dim, QUERIES / AMX_DEPTH, ds, q_across, true, dk + at * dim, dim);
            amx_product(dim, QUERIES, rows / AMX_DEPTH, amx_transposed(all->keys, shape, seq, kv_head, at),
                        ds_pairs, true, b.dq, QUERIES);
        }
        _Alignas(64) float one[QUERIES];
        for (int64_t i = 0; i < QUERIES; i++)
            one[i] = 1;
        amx_store_queries(all->dq + (start + first) * shape->q_stride + head * dim, shape->q_stride, length,
                          dim, b.dq, one);
    }
}

/* x [token][kv_head] = sum over the group's heads of their parts' row */
static void add_group(uint16_t *x, const float *parts, const attention_shape *shape, int64_t row,
                      int64_t token, int64_t kv_head)
{
    const int64_t dim = shape->head_dim, group = shape->n_heads / shape->n_kv_heads;
    float sums[HEAD_MOST] = {0};
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
        const float *part = parts + (h * amx_rows(shape) + row) * dim;
        for (int64_t d = 0; d < dim; d++)
            sums[d] += part[d];
    }
    narrow(x + token * shape->kv_stride + kv_head * dim, sums, dim);
}

size_t amx_attention_backward_workspace(const attention_shape *shape)
{
    return amx_transposed_bytes(shape) +
           2 * sizeof(float) * (size_t)(shape->n_heads * amx_rows(shape) * shape->head_dim);
}

void amx_attention_backward(uint16_t *dq, uint16_t *dk, uint16_t *dv, const uint16_t *dout,
                            const uint16_t *out, const float *lse, const uint16_t *q, const uint16_t *k,
                            const uint16_t *v, const attention_shape *shape, void *workspace)
{
    const int64_t all_rows = shape->n_heads * amx_rows(shape) * shape->head_dim;
    float *const parts = workspace;
    uint16_t *const keys = (uint16_t *)(parts + 2 * all_rows);
    const backward all = {.dq = dq,
                          .dout = dout,
                          .out = out,
                          .q = q,
                          .k = k,
                          .v = v,
                          .keys = keys,
                          .lse = lse,
                          .shape = shape,
                          .dk = parts,
                          .dv = parts + all_rows};
    amx_transpose_rows(keys, k, shape);
    const int64_t heads = shape->n_heads, tasks = shape->n_seqs * heads;
    const int64_t work = shape->n_tokens * heads * shape->head_dim * 8;
#pragma omp parallel num_threads(cpu_team(work, tasks))
    {
        amx_begin();
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < tasks; t++)
            backward_head(&all, t / heads, t % heads);
        amx_end();
    }
    const int64_t per_seq = (shape->max_seqlen + BLOCK - 1) / BLOCK, blocks = shape->n_seqs * per_seq;
#pragma omp parallel for schedule(static) num_threads(cpu_team(work, blocks))
    for (int64_t t = 0; t < blocks; t++) {
        const int64_t seq = t / per_seq, start = shape->cu_seqlens[seq],
                      n = shape->cu_seqlens[seq + 1] - start;
        const int64_t row0 = amx_first_row(shape, seq), first = t % per_seq * BLOCK;
        for (int64_t i = first; i < n && i < first + BLOCK; i++)
            for (int64_t h = 0; h < shape->n_kv_heads; h++) {
                add_group(dk, all.dk, shape, row0 + i, start + i, h);
                add_group(dv, all.dv, shape, row0 + i, start + i, h);
            }
    }
}
