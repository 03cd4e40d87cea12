/* Every operation that models use, with its clock. */
#include "device/profile.h"

#include <math.h>

#include "base/log.h"
#include "device/device.h"

static profile_entry entries[N_PROFILE_FAMILIES];
static double peak, bandwidth; /* a second */

void profile_clear(void)
{
    static const char *const names[N_PROFILE_FAMILIES] = {"gemm",      "attention", "norm",  "rope",
                                                          "glu",       "lora",      "loss",  "embedding",
                                                          "optimizer", "sample",    "tensor"};
    for (int f = 0; f < N_PROFILE_FAMILIES; f++)
        entries[f] = (profile_entry){.name = names[f]};
}

const profile_entry *profile_entries(void)
{
    return entries;
}

static sc_status note(profile_family f, double start, double operations, double bytes, sc_status status)
{
    entries[f].calls++;
    entries[f].seconds += seconds_now() - start;
    entries[f].operations += operations;
    entries[f].bytes += bytes;
    entries[f].floor += fmax(operations / peak, bytes / bandwidth);
    return status;
}

/* --- what an operation comes to ---------------------------------------------------------------------------- */

static double values(dtype type, int64_t rows, int64_t cols)
{
    return (double)dtype_size(type) * (double)rows * (double)cols;
}

/* Pairs of a query and a key that it sees. */
static double pairs_of(const attention_shape *s)
{
    double pairs = 0;
    for (int64_t i = 0; i < s->n_seqs; i++) {
        const double n = s->cu_seqlens[i + 1] - s->cu_seqlens[i];
        const double shared = i > 0 ? (double)s->n_shared : 0;
        /* Query p sees the last `window` of shared + p + 1 keys: all pairs but those that are too far apart. */
        const double far = s->window > 0 ? shared + n - (double)s->window : 0;
        const double far_own = s->window > 0 ? shared - (double)s->window : 0;
        pairs += s->bidirectional ? n * n : 0.5 * n * (n + 1) + n * shared;
        pairs -= (far > 0 ? 0.5 * far * (far + 1) : 0) - (far_own > 0 ? 0.5 * far_own * (far_own + 1) : 0);
    }
    return pairs;
}

static double attention_operations(const attention_shape *s)
{
    return 4.0 * pairs_of(s) * s->n_heads * s->head_dim;
}

static double attention_bytes(dtype type, const attention_shape *s, int times)
{
    return times * 2 * values(type, s->n_tokens, (int64_t)(s->n_heads + s->n_kv_heads) * s->head_dim);
}

static int64_t rows_seen(const attention_cached_shape *s)
{
    int64_t rows = 0;
    for (int64_t i = 0; i < s->n_queries; i++) {
        const int64_t n = s->kv_offsets[i + 1] - s->kv_offsets[i];
        rows += s->window > 0 && n > s->window ? s->window : n;
    }
    return rows;
}

static double cached_operations(const attention_cached_shape *s)
{
    return 4.0 * (double)rows_seen(s) * s->n_heads * s->head_dim;
}

static double cached_bytes(dtype type, const attention_cached_shape *s)
{
    return 2 * values(type, rows_seen(s), (int64_t)s->n_kv_heads * s->head_dim) +
           2 * values(type, s->n_queries, (int64_t)s->n_heads * s->head_dim);
}

/* --- the operations ---------------------------------------------------------------------------------------- */

#define TIMED(name, family, operations, bytes, parameters, arguments)                                        \
    static sc_status timed_##name parameters                                                                 \
    {                                                                                                        \
        const double start = seconds_now();                                                                  \
        const sc_status status = cpu_ops()->name arguments;                                                  \
        return note(PROFILE_##family, start, operations, bytes, status);                                     \
    }

TIMED(upload, TENSOR, 0, 2.0 * (double)n, (stream * s, void *to, const void *from, size_t n),
      (s, to, from, n))
TIMED(download, TENSOR, 0, 2.0 * (double)n, (stream * s, void *to, const void *from, size_t n),
      (s, to, from, n))
TIMED(fill_zero, TENSOR, 0, (double)n, (stream * s, void *to, size_t n), (s, to, n))
TIMED(cast, TENSOR, 0, values(a, n, 1) + values(b, n, 1),
      (stream * s, void *to, dtype a, const void *from, dtype b, int64_t n), (s, to, a, from, b, n))
TIMED(add, TENSOR, 0, 2 * values(a, n, 1) + values(b, n, 1),
      (stream * s, void *y, dtype a, const void *x, dtype b, float alpha, int64_t n),
      (s, y, a, x, b, alpha, n))
TIMED(gather_rows, TENSOR, 0, 2 * values(type, n, dim),
      (stream * s, void *to, const void *from, const int32_t *rows, int64_t n, int64_t dim, int64_t ld,
       dtype type),
      (s, to, from, rows, n, dim, ld, type))
TIMED(scatter_rows, TENSOR, 0, 2 * values(type, n, dim),
      (stream * s, void *to, const void *from, const int32_t *rows, int64_t n, int64_t dim, int64_t ld,
       dtype type),
      (s, to, from, rows, n, dim, ld, type))
TIMED(pool_rows, TENSOR, 0, values(type, cu[n], dim),
      (stream * s, float *out, const void *x, dtype type, const int32_t *cu, int64_t n, int64_t dim,
       pooling how),
      (s, out, x, type, cu, n, dim, how))

TIMED(embedding_forward, EMBEDDING, 0, values(a, n, dim) + values(b, n, dim),
      (stream * s, void *out, dtype a, const void *table, dtype b, const int32_t *ids, int64_t n, int64_t dim,
       float scale),
      (s, out, a, table, b, ids, n, dim, scale))
TIMED(embedding_backward, EMBEDDING, 0, values(type, n, dim) + 2 * values(DTYPE_F32, n, dim),
      (stream * s, float *d, const void *dout, dtype type, const int32_t *ids, int64_t n, int64_t vocab,
       int64_t dim, int32_t skip, float scale, void *w),
      (s, d, dout, type, ids, n, vocab, dim, skip, scale, w))

TIMED(gemm, GEMM, 2.0 * (double)m * (double)n * (double)k,
      values(at, m, k) + values(bt, k, n) + (beta != 0 ? 2 : 1) * values(ct, m, n),
      (stream * s, bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const void *a, dtype at,
       int64_t lda, const void *b, dtype bt, int64_t ldb, float beta, void *c, dtype ct, int64_t ldc),
      (s, ta, tb, m, n, k, alpha, a, at, lda, b, bt, ldb, beta, c, ct, ldc))

TIMED(bias_forward, TENSOR, 0, values(type, n, dim),
      (stream * s, void *y, const void *b, dtype type, int64_t n, int64_t dim), (s, y, b, type, n, dim))
TIMED(bias_backward, TENSOR, 0, values(type, n, dim),
      (stream * s, float *db, const void *dy, dtype type, int64_t n, int64_t dim), (s, db, dy, type, n, dim))

TIMED(rmsnorm_forward, NORM, 0, 2 * values(type, n, dim),
      (stream * s, void *y, float *rstd, const void *x, const void *w, dtype type, dtype wt, int64_t n,
       int64_t dim, float eps, float shift),
      (s, y, rstd, x, w, type, wt, n, dim, eps, shift))
TIMED(rmsnorm_backward, NORM, 0, (accumulate ? 4 : 3) * values(type, n, dim),
      (stream * s, void *dx, bool accumulate, float *dw, const void *dy, const void *x, const void *w,
       const float *rstd, dtype type, dtype wt, int64_t n, int64_t dim, float shift, void *space),
      (s, dx, accumulate, dw, dy, x, w, rstd, type, wt, n, dim, shift, space))

TIMED(rope, ROPE, 0, 2 * values(type, n, (int64_t)heads *head_dim),
      (stream * s, void *x, dtype type, const int32_t *positions, const float *inv, int64_t n, int32_t heads,
       int32_t head_dim, int64_t ld, bool inverse),
      (s, x, type, positions, inv, n, heads, head_dim, ld, inverse))

TIMED(attention_forward, ATTENTION, attention_operations(shape), attention_bytes(type, shape, 1),
      (stream * s, void *out, float *lse, const void *q, const void *k, const void *v, dtype type,
       const attention_shape *shape, void *w),
      (s, out, lse, q, k, v, type, shape, w))
TIMED(attention_backward, ATTENTION, 2.5 * attention_operations(shape), attention_bytes(type, shape, 2),
      (stream * s, void *dq, void *dk, void *dv, const void *dout, const void *out, const float *lse,
       const void *q, const void *k, const void *v, dtype type, const attention_shape *shape, void *w),
      (s, dq, dk, dv, dout, out, lse, q, k, v, type, shape, w))
TIMED(attention_cached, ATTENTION, cached_operations(shape), cached_bytes(type, shape),
      (stream * s, void *out, const void *q, const void *k, const void *v, dtype type,
       const attention_cached_shape *shape, void *w),
      (s, out, q, k, v, type, shape, w))

TIMED(glu_forward, GLU, 0, 3 * values(type, n, 1),
      (stream * s, void *y, const void *gate, const void *up, dtype type, int64_t n, activation act),
      (s, y, gate, up, type, n, act))
TIMED(glu_backward, GLU, 0, 5 * values(type, n, 1),
      (stream * s, void *dgate, void *dup, const void *dy, const void *gate, const void *up, dtype type,
       int64_t n, activation act),
      (s, dgate, dup, dy, gate, up, type, n, act))

TIMED(cross_entropy, LOSS, 0, (backward ? 2 : 1) * values(type, n, vocab),
      (stream * s, float *losses, void *logits, dtype type, const int32_t *targets, int64_t n, int64_t vocab,
       float scale, float soft_cap, bool backward),
      (s, losses, logits, type, targets, n, vocab, scale, soft_cap, backward))
TIMED(cap_logits, LOSS, 0, 2 * values(DTYPE_F32, n, 1), (stream * s, float *logits, int64_t n, float cap),
      (s, logits, n, cap))

TIMED(adamw, OPTIMIZER, 0, 7 * values(DTYPE_F32, n, 1) + (weights ? values(DTYPE_BF16, n, 1) : 0),
      (stream * s, float *master, void *weights, const float *grad, float *m, float *v, int64_t n,
       const adamw_options *o),
      (s, master, weights, grad, m, v, n, o))
TIMED(square_sum, OPTIMIZER, 0, values(DTYPE_F32, n, 1), (stream * s, double *out, const float *x, int64_t n),
      (s, out, x, n))

TIMED(lora_forward, LORA, 2.0 * (double)n * (double)rank * (double)(in + out),
      values(xt, n, in) + 2 * values(yt, n, out) + values(DTYPE_F32, rank, in + out),
      (stream * s, void *y, dtype yt, float *xa, const void *x, dtype xt, const float *a, const float *b,
       int64_t n, int64_t in, int64_t out, int64_t rank, float scaling, float dropout, uint64_t seed,
       const uint64_t *keys, uint32_t step, void *w),
      (s, y, yt, xa, x, xt, a, b, n, in, out, rank, scaling, dropout, seed, keys, step, w))
TIMED(lora_backward, LORA, 4.0 * (double)n * (double)rank * (double)(in + out),
      values(xt, n, in) + (dx ? 2 * values(dxt, n, in) : 0) + values(dyt, n, out) +
          3 * values(DTYPE_F32, rank, in + out),
      (stream * s, void *dx, dtype dxt, float *da, float *db, const void *dy, dtype dyt, const float *xa,
       const void *x, dtype xt, const float *a, const float *b, int64_t n, int64_t in, int64_t out,
       int64_t rank, float scaling, float dropout, uint64_t seed, const uint64_t *keys, uint32_t step,
       void *w),
      (s, dx, dxt, da, db, dy, dyt, xa, x, xt, a, b, n, in, out, rank, scaling, dropout, seed, keys, step, w))
TIMED(dora_norm, LORA, 2.0 * (double)rank * (double)in * (double)out, values(wt, out, in),
      (stream * s, float *norm, const void *weights, dtype wt, const float *a, const float *b, int64_t in,
       int64_t out, int64_t rank, float scaling, void *w),
      (s, norm, weights, wt, a, b, in, out, rank, scaling, w))
TIMED(dora_forward, LORA, 0, (accumulate ? 3 : 2) * values(type, n, out),
      (stream * s, void *y, bool accumulate, const void *x, dtype type, const float *magnitude,
       const float *norm, int64_t n, int64_t out),
      (s, y, accumulate, x, type, magnitude, norm, n, out))
TIMED(dora_backward, LORA, 0, 3 * values(type, n, out),
      (stream * s, void *dx, float *dmagnitude, const void *dy, const void *x, dtype type,
       const float *magnitude, const float *norm, int64_t n, int64_t out),
      (s, dx, dmagnitude, dy, x, type, magnitude, norm, n, out))

TIMED(sample_rows, SAMPLE, 0, values(type, n, vocab),
      (stream * s, int32_t *ids, float *logprobs, const void *logits, dtype type, int64_t n, int64_t vocab,
       const sample_options *o, const uint64_t *keys),
      (s, ids, logprobs, logits, type, n, vocab, o, keys))
TIMED(penalise_rows, SAMPLE, 0, 2 * values(DTYPE_F32, offsets[n], 1),
      (stream * s, float *logits, int64_t n, int64_t vocab, float penalty, const int32_t *ids,
       const int64_t *offsets),
      (s, logits, n, vocab, penalty, ids, offsets))
TIMED(gather_logprobs, SAMPLE, 0, values(type, n_rows, vocab),
      (stream * s, float *out, const void *logits, dtype type, int64_t n_rows, int64_t vocab,
       const int32_t *rows, const int32_t *ids, int64_t n),
      (s, out, logits, type, n_rows, vocab, rows, ids, n))

const ops *profile_ops(double peak_gflops, double bandwidth_gb)
{
    static ops table;
    table = *cpu_ops();
    peak = peak_gflops * 1e9;
    bandwidth = bandwidth_gb * 1e9;
#define TAKE(name) table.name = timed_##name
    TAKE(upload);
    TAKE(download);
    TAKE(fill_zero);
    TAKE(cast);
    TAKE(add);
    TAKE(gather_rows);
    TAKE(scatter_rows);
    TAKE(pool_rows);
    TAKE(embedding_forward);
    TAKE(embedding_backward);
    TAKE(gemm);
    TAKE(bias_forward);
    TAKE(bias_backward);
    TAKE(rmsnorm_forward);
    TAKE(rmsnorm_backward);
    TAKE(rope);
    TAKE(attention_forward);
    TAKE(attention_backward);
    TAKE(attention_cached);
    TAKE(glu_forward);
    TAKE(glu_backward);
    TAKE(cross_entropy);
    TAKE(cap_logits);
    TAKE(adamw);
    TAKE(square_sum);
    TAKE(lora_forward);
    TAKE(lora_backward);
    TAKE(dora_norm);
    TAKE(dora_forward);
    TAKE(dora_backward);
    TAKE(sample_rows);
    TAKE(penalise_rows);
    TAKE(gather_logprobs);
#undef TAKE
    profile_clear();
    return &table;
}
