/* attention_backward: gradients of the attention. The probabilities are computed again from the scores
 * and lse (Dao et al. 2022, algorithm 4); with D_i = dout_i . out_i,
 *     dS = P * (dout V^T - D),   dQ = scale dS K,   dK = scale dS^T Q,   dV = P^T dout.
 *
 * A task is one head of one sequence, alone, so nothing is summed by two threads. Heads that share a key head
 * write keys' gradients of their own into the workspace, and a second pass adds these in the order of heads. */
#include "device/cpu/attention.h"

typedef struct backward {
    void *dq;
    const void *dout, *out, *q, *k, *v;
    const float *lse;
    dtype type;
    const attention_shape *shape;
    float *dk, *dv; /* [n_heads][n_tokens][head_wide] */
} backward;

/* The query side of a block, on the stack. */
typedef struct query_block {
    float q_t[HEAD_MOST * QUERIES], dout_t[HEAD_MOST * QUERIES]; /* [dim][QUERIES] */
    float q[QUERIES * HEAD_MOST], dout[QUERIES * HEAD_MOST];     /* [QUERIES][wide] */
    float dq[QUERIES * HEAD_MOST];
    float lse[QUERIES], dot[QUERIES];
} query_block;

static void load_queries(query_block *b, const backward *all, int64_t row0, int64_t length, int64_t head,
                         const float **q, int64_t *q_pitch, const float **dout, int64_t *dout_pitch)
{
    const attention_shape *shape = all->shape;
    const int64_t dim = shape->head_dim, stride = shape->q_stride, offset = row0 * stride + head * dim;
    float scratch[HEAD_MOST];
    load_transposed(b->q_t, all->q, all->type, offset, stride, length, dim, shape->scale);
    load_transposed(b->dout_t, all->dout, all->type, offset, stride, length, dim, 1.0f);
    *q = load_rows(b->q, all->q, all->type, offset, stride, length, dim, q_pitch);
    *dout = load_rows(b->dout, all->dout, all->type, offset, stride, length, dim, dout_pitch);
    memset(b->dq, 0, (size_t)(length * head_wide(dim)) * sizeof *b->dq);
    for (int64_t i = 0; i < QUERIES; i++) {
        b->lse[i] = INFINITY; /* a query beyond the end has probabilities of zero */
        b->dot[i] = 0;
    }
    for (int64_t i = 0; i < length; i++) {
        const float *o = row_load(all->out, all->type, offset + i * stride, dim, scratch);
        const float *d = *dout + i * *dout_pitch;
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t j = 0; j < dim; j++)
            dot += d[j] * o[j];
        b->dot[i] = dot;
        b->lse[i] = all->lse[head * shape->n_tokens + row0 + i];
    }
}

/* The derivatives of cap tanh(x / cap), by its values. */
static void cap_slopes(float *restrict rates, const float *restrict scores, int64_t n, float cap)
{
    const float rate = 1.0f / cap;
    for (int64_t i = 0; i < n; i++)
        rates[i] = 1.0f - scores[i] * rate * (scores[i] * rate);
}

static void backward_head(const backward *all, int64_t seq, int64_t head)
{
    query_block b;
    float scores[KEYS * QUERIES], slopes[KEYS * QUERIES], rates[KEYS * QUERIES], ks[KEYS * HEAD_MOST],
        vs[KEYS * HEAD_MOST];
    const attention_shape *shape = all->shape;
    const int64_t dim = shape->head_dim, wide = head_wide(dim), start = shape->cu_seqlens[seq];
    const int64_t n = shape->cu_seqlens[seq + 1] - start,
                  kv_head = head / (shape->n_heads / shape->n_kv_heads);
    float *dk = all->dk + (head * shape->n_tokens + start) * wide;
    float *dv = all->dv + (head * shape->n_tokens + start) * wide;
    memset(dk, 0, (size_t)(n * wide) * sizeof *dk);
    memset(dv, 0, (size_t)(n * wide) * sizeof *dv);
    for (int64_t first = 0; first < n; first += QUERIES) {
        int64_t length = n - first < QUERIES ? n - first : QUERIES,
                seen = seen_before(shape, first, length, n);
        int64_t q_pitch, dout_pitch, k_pitch, v_pitch;
        const float *q, *dout;
        load_queries(&b, all, start + first, length, head, &q, &q_pitch, &dout, &dout_pitch);
        for (int64_t k0 = seen_from(shape, first); k0 < seen; k0 += KEYS) {
            int64_t keys = seen - k0 < KEYS ? seen - k0 : KEYS;
            int64_t offset = (start + k0) * shape->kv_stride + kv_head * dim;
            const float *k = load_rows(ks, all->k, all->type, offset, shape->kv_stride, keys, dim, &k_pitch);
            const float *v = load_rows(vs, all->v, all->type, offset, shape->kv_stride, keys, dim, &v_pitch);
            memset(scores, 0, (size_t)(keys * QUERIES) * sizeof *scores);
            memset(slopes, 0, (size_t)(keys * QUERIES) * sizeof *slopes);
            tile_product(keys, QUERIES, dim, k, k_pitch, 1, b.q_t, QUERIES, scores, QUERIES);
            tile_product(keys, QUERIES, dim, v, v_pitch, 1, b.dout_t, QUERIES, slopes, QUERIES);
            if (shape->soft_cap > 0) {
                cap_values(scores, keys * QUERIES, shape->soft_cap);
                cap_slopes(rates, scores, keys * QUERIES, shape->soft_cap);
            }
            mask(scores, shape, k0, keys, first);
            for (int64_t j = 0; j < keys; j++)
                for (int64_t i = 0; i < QUERIES; i++) {
                    float p = fast_exp(scores[j * QUERIES + i] - b.lse[i]);
                    scores[j * QUERIES + i] = p;
                    slopes[j * QUERIES + i] = p * (slopes[j * QUERIES + i] - b.dot[i]) * shape->scale;
                }
            for (int64_t i = 0; shape->soft_cap > 0 && i < keys * QUERIES; i++)
                /* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): cap_slopes has filled them */
                slopes[i] *= rates[i];
            tile_product(keys, wide, length, scores, QUERIES, 1, dout, dout_pitch, dv + k0 * wide, wide);
            tile_product(keys, wide, length, slopes, QUERIES, 1, q, q_pitch, dk + k0 * wide, wide);
            tile_product(length, wide, keys, slopes, 1, QUERIES, k, k_pitch, b.dq, wide);
        }
        for (int64_t i = 0; i < length; i++)
            store_row(all->dq, all->type, (start + first + i) * shape->q_stride + head * dim, dim,
                      b.dq + i * wide);
    }
}

/* x [token][kv_head] = sum over the group's heads */
static void add_group(void *x, dtype type, const float *parts, const attention_shape *shape, int64_t token,
                      int64_t kv_head)
{
    const int64_t dim = shape->head_dim, wide = head_wide(dim), group = shape->n_heads / shape->n_kv_heads;
    float sums[HEAD_MOST] = {0};
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
        const float *part = parts + (h * shape->n_tokens + token) * wide;
        for (int64_t d = 0; d < dim; d++)
            sums[d] += part[d];
    }
    store_row(x, type, token * shape->kv_stride + kv_head * dim, dim, sums);
}

size_t cpu_attention_backward_workspace(const attention_shape *shape)
{
    size_t amx = 0;
#ifdef __AVX512F__ /* of the two builds, the one that such a processor uses */
    if (attention_takes_amx(shape))
        amx = amx_attention_backward_workspace(shape);
#endif
    const size_t plain = 2 * sizeof(float) * (size_t)shape->n_heads * (size_t)shape->n_tokens *
                         (size_t)head_wide(shape->head_dim);
    return amx > plain ? amx : plain;
}

sc_status cpu_attention_backward(stream *s, void *dq, void *dk, void *dv, const void *dout, const void *out,
                                 const float *lse, const void *q, const void *k, const void *v, dtype type,
                                 const attention_shape *shape, void *workspace)
{
    (void)s;
    sc_status status = attention_check(shape, "attention_backward");
    if (status != SC_OK)
        return status;
    if (shape->n_shared > 0)
        return sc_fail(SC_INTERNAL, "attention_backward: there is no gradient through shared tokens");
#ifdef __AVX512F__
    if (type == DTYPE_BF16 && attention_takes_amx(shape)) {
        amx_attention_backward(dq, dk, dv, dout, out, lse, q, k, v, shape, workspace);
        return SC_OK;
    }
#endif
    backward all = {.dq = dq,
                    .dout = dout,
                    .out = out,
                    .q = q,
                    .k = k,
                    .v = v,
                    .lse = lse,
                    .type = type,
                    .shape = shape,
                    .dk = workspace};
    all.dv = all.dk + (int64_t)shape->n_heads * shape->n_tokens * head_wide(shape->head_dim);
    const int64_t tasks = shape->n_seqs * shape->n_heads;
    const int64_t work = shape->n_tokens * shape->n_heads * shape->head_dim * 8;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(work, tasks))
    for (int64_t t = 0; t < tasks; t++)
        backward_head(&all, t / shape->n_heads, t % shape->n_heads);
    const int64_t first = shape->cu_seqlens[0], last = shape->cu_seqlens[shape->n_seqs];
#pragma omp parallel for schedule(static) num_threads(cpu_team(work, last - first))
    for (int64_t token = first; token < last; token++)
        for (int64_t h = 0; h < shape->n_kv_heads; h++) {
            add_group(dk, type, all.dk, shape, token, h);
            add_group(dv, type, all.dv, shape, token, h);
        }
    return SC_OK;
}
