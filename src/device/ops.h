/* ops.h: the table of operations that a device offers. The model, the trainer and the selection
 * are written once against it.
 *
 * Rules. The caller owns all memory; operations never allocate device memory and never
 * synchronise, but for a result that goes to the host, which they wait for. Pointers are device
 * pointers. Matrices are row-major: [rows][cols] with cols contiguous unless a leading dimension
 * (ld*, in elements) is given. `dtype` arguments speak of the activation or weight they stand
 * beside: DTYPE_F32 or DTYPE_BF16; gradients of weights, moments, statistics (rstd, lse), losses
 * and LoRA matrices are always float. Sums over rows run in a fixed order: the same inputs give the
 * same bytes for the same number of threads.
 *
 * `workspace` points to as many bytes as <op>_workspace() tells, or NULL where that is 0.
 * An operation that a table lacks is NULL. Every function returns sc_status.
 */
#ifndef SC_DEVICE_OPS_H
#define SC_DEVICE_OPS_H

#include <stdbool.h>

/* Part of the contract: the numbers that dropout and sampling draw, and what sampling decides by. */
#include "base/random.h"
#include "base/status.h"
#include "device/exact_sum.h"
#include "device/sample_weight.h"

typedef enum dtype { DTYPE_F32 = 0, DTYPE_BF16 = 1 } dtype;
static inline size_t dtype_size(dtype t)
{
    return t == DTYPE_BF16 ? 2 : 4;
}

typedef struct stream stream; /* order of execution; NULL is the device's default stream */
typedef struct ops ops;

typedef enum pooling { POOL_MEAN = 0, POOL_LAST = 1 } pooling;
typedef enum activation { ACT_SILU = 0, ACT_GELU_TANH = 1 } activation;

/* Packed variable-length attention. Row t of q, k, v is token t; sequence s owns the rows
 * cu_seqlens[s] .. cu_seqlens[s+1]-1 and sees none of the others; causal inside, unless it is said to be bidirectional.
 * What is 0 from n_shared on is left out. */
typedef struct attention_shape {
    const int32_t *cu_seqlens; /* [n_seqs + 1], starts at 0 */
    int64_t n_seqs, n_tokens;
    int64_t max_seqlen;
    int32_t n_heads, n_kv_heads, head_dim; /* n_heads is a multiple of n_kv_heads */
    int64_t q_stride, kv_stride;           /* elements between tokens (rows of q/out/dout and of k/v) */
    float scale;                           /* head_dim^-0.5 in the Llama family */
    int64_t n_shared; /* forward only: every sequence sees the first n_shared tokens of the first one, too */
    int64_t window;   /* causal only: a token sees itself and the window - 1 before it, shared ones first */
    float soft_cap;   /* scores become soft_cap * tanh(score / soft_cap) (Gemma-2) */
    bool bidirectional; /* every token sees its whole sequence (BERT); without shared tokens */
} attention_shape;

/* Rows for nearest_update: as they are, less a mean that is the same for rows and centres, and the lengths of the
 * latter. */
typedef struct nearest_rows {
    const float *x, *centred; /* [n][dim] */
    const double *norms;      /* [n] */
} nearest_rows;

/* How far centres lie apart, at least: of a < b < n, at apart[a * (2 * capacity - a - 1) / 2 + b - a - 1]. */
typedef struct centres_apart {
    const float *apart; /* [capacity * (capacity - 1) / 2] */
    int64_t capacity, n;
} centres_apart;

/* What is known of rows between two of Lloyd's iterations, in exact arithmetic (Hamerly 2010). */
typedef struct cluster_bounds {
    const float *norms2; /* [n] |x|^2, rounded once */
    const double
        *moved;   /* [k] how far each centre has gone since the last call, at least; NULL: labels stand */
    double *near; /* [n] in and out: the distance to the row's centre, at most; infinity: not known */
    double *far;  /* [n] in and out: the distance to any other, at least; 0: not known */
} cluster_bounds;

/* Greedy D-optimal picks inside a pool of rows whose best is known to beat all others: S = lambda I + sum of
 * x x' over the chosen, the next has the highest gain x' S^-1 x, the lowest row of equals. */
typedef enum design_stop {
    DESIGN_FULL,   /* `most` picks were made */
    DESIGN_BEATEN, /* the best of the pool does not surely beat tau any more */
    DESIGN_UNSURE, /* rounding could decide which is the best */
    DESIGN_EMPTY   /* no row is left */
} design_stop;

typedef struct design_pool {
    const float *x;       /* [m][dim] */
    const int64_t *rows;  /* [m] ascending: what they are called outside */
    const double *norms;  /* [m] |x| */
    double *gains;        /* [m] in and out; -infinity: not to be chosen, or chosen */
    double *slack;        /* [m] in and out: the true gain is at most gains + slack */
    const double *a;      /* [dim][dim] S^-1 before the first pick */
    double a_error;       /* x' A x is known within a_error |x|^2 */
    double tau;           /* no row outside has a gain above this, */
    int64_t tau_row;      /* and the lowest that might have it is this one */
    int64_t m, dim, most; /* most: picks at most */
    /* The groups of place q are groups[group_offsets[q] .. group_offsets[q + 1] - 1], each once; a group with nothing
     * left closes the places that are in it. NULL: no groups. */
    const int64_t *group_offsets;
    const int32_t *groups;
    int64_t *left;  /* in and out */
    double *w;      /* out [most][dim]: a row's gain fell by the sum of (w . x)^2 */
    int64_t *picks; /* out [most] places in the pool */
    double *found;  /* out [most] their gains when chosen */
    int64_t n, n_evaluated;
    design_stop stop;
} design_pool;

/* als: the most factors, and how als_gram sums: in runs of ALS_RUN rows, longer ones if there were more than ALS_RUNS. */
enum { ALS_FACTORS = 512, ALS_RUN = 4096, ALS_RUNS = 128 };

static inline int64_t als_run(int64_t n)
{
    const int64_t share = (n + ALS_RUNS - 1) / ALS_RUNS;
    return share > ALS_RUN ? share : (int64_t)ALS_RUN;
}

static inline int64_t als_runs(int64_t n)
{
    return (n + als_run(n) - 1) / als_run(n);
}

/* Attention of new tokens over a cache addressed token by token: query i sees the cache rows
 * kv_rows[kv_offsets[i] .. kv_offsets[i+1]-1], in any order. So several beams share the rows of
 * their common prompt, and a beam is moved by rewriting indices, not by copying keys. */
typedef struct attention_cached_shape {
    const int32_t *kv_rows;    /* [kv_offsets[n_queries]] */
    const int64_t *kv_offsets; /* [n_queries + 1] */
    int64_t n_queries;
    int32_t n_heads, n_kv_heads, head_dim;
    int64_t q_stride, cache_stride; /* elements between queries; between cache rows */
    float scale;
    float soft_cap; /* as above; 0: none */
    int64_t
        window; /* a query sees the last so many of its rows, which are then in order of position; 0: all */
} attention_cached_shape;

typedef struct adamw_options {
    float lr, beta1, beta2, eps, weight_decay;
    int64_t step;     /* 1 for the first update: bias correction 1 - beta^step */
    float grad_scale; /* multiplies the gradient: clipping and token weighting */
} adamw_options;

typedef struct sample_options {
    float temperature; /* 0: greedy, ties to the lowest id */
    float top_p;       /* of the fewest that have this share of what top_k leaves; 1: all */
    uint64_t seed;     /* the number drawn for row i is keyed by (seed, keys[i], step) */
    uint32_t step;
    int32_t top_k; /* of the k most probable, of equal ones those of the lowest ids; 0: all */
    float min_p;   /* of what top_p leaves, those at least so many times as probable as the first */
} sample_options;

struct ops {
    const char *name; /* "cpu", "emu", "cuda" */

    /* --- memory, streams ------------------------------------------------------------------ */
    sc_status (*alloc)(void **out, size_t bytes); /* 64-byte aligned, not cleared */
    void (*release)(void *pointer);               /* NULL is fine; waits for what is under way */
    sc_status (*upload)(stream *s, void *device, const void *host, size_t bytes);
    sc_status (*download)(stream *s, void *host, const void *device, size_t bytes);
    sc_status (*fill_zero)(stream *s, void *device, size_t bytes);
    sc_status (*synchronise)(stream *s);

    /* --- memory of its own: tables that work on the host's lack these --------------------------- */
    /* Bytes that are free, and that there are. */
    sc_status (*memory_left)(size_t *left, size_t *all);
    /* Memory of the host that is copied from and to beside other work: upload and download return before they have
     * read or written it. Not cleared. It must not be released before such a copy is done. */
    sc_status (*alloc_pinned)(void **out, size_t bytes);
    void (*release_pinned)(void *pointer); /* NULL is fine */
    /* A stream that runs beside the default one. */
    sc_status (*stream_open)(stream **out);
    void (*stream_close)(stream *s); /* NULL is fine */
    /* What is put into s from now on waits for what is in `other` by now. */
    sc_status (*stream_wait)(stream *s, stream *other);

    /* --- tensor ----------------------------------------------------------------------------- */
    sc_status (*cast)(stream *s, void *dst, dtype dst_type, const void *src, dtype src_type, int64_t n);
    /* y[i] += alpha * x[i] */
    sc_status (*add)(stream *s, void *y, dtype y_type, const void *x, dtype x_type, float alpha, int64_t n);
    /* dst row i = src row rows[i]; scatter: dst row rows[i] = src row i (rows distinct) */
    sc_status (*gather_rows)(stream *s, void *dst, const void *src, const int32_t *rows, int64_t n_rows,
                             int64_t dim, int64_t src_ld, dtype type);
    sc_status (*scatter_rows)(stream *s, void *dst, const void *src, const int32_t *rows, int64_t n_rows,
                              int64_t dim, int64_t dst_ld, dtype type);
    /* out [n_seqs][dim] float = mean or last row of each sequence of x [n_tokens][dim] */
    sc_status (*pool_rows)(stream *s, float *out, const void *x, dtype type, const int32_t *cu_seqlens,
                           int64_t n_seqs, int64_t dim, pooling how);

    /* --- embedding -------------------------------------------------------------------------- */
    /* out [n][dim] = scale * table [vocab][dim] rows ids[i], rounded once */
    sc_status (*embedding_forward)(stream *s, void *out, dtype out_type, const void *table, dtype table_type,
                                   const int32_t *ids, int64_t n, int64_t dim, float scale);
    /* dtable [vocab][dim] += scale * dout rows, summed in order of i for each id; those of skip_id are left out
     * (torch's padding_idx; -1: none) */
    sc_status (*embedding_backward)(stream *s, float *dtable, const void *dout, dtype dout_type,
                                    const int32_t *ids, int64_t n, int64_t vocab, int64_t dim,
                                    int32_t skip_id, float scale, void *workspace);
    size_t (*embedding_backward_workspace)(int64_t n, int64_t vocab, int64_t dim);

    /* --- gemm ------------------------------------------------------------------------------- */
    /* C [m][n] = alpha op(A) op(B) + beta C, accumulated in float. op(A) is [m][k]: A is [m][k], or
     * [k][m] if trans_a; op(B) is [k][n]: B is [k][n], or [n][k] if trans_b. y = x W^T of a linear
     * layer with W [out][in] is trans_b = true. */
    sc_status (*gemm)(stream *s, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                      const void *a, dtype a_type, int64_t lda, const void *b, dtype b_type, int64_t ldb,
                      float beta, void *c, dtype c_type, int64_t ldc);
    /* The file of the library that plain products are left to; NULL: none was found. A table may lack it. */
    const char *(*gemm_library)(void);

    /* --- bias: what a linear layer adds to every row ------------------------------------------ */
    /* Every row of y [n][dim] = b [dim], to which the layer's product is then added: rounded once, with it. */
    sc_status (*bias_forward)(stream *s, void *y, const void *b, dtype type, int64_t n, int64_t dim);
    /* db [dim] += the rows of dy [n][dim], in a fixed order */
    sc_status (*bias_backward)(stream *s, float *db, const void *dy, dtype type, int64_t n, int64_t dim);

    /* --- norm: y = x / sqrt(mean(x^2) + eps) * (shift + w)  (RMSNorm, Zhang & Sennrich 2019) --- */
    /* shift is 0, or 1 where weights are kept as what they differ from 1 (Gemma). y may be x. */
    sc_status (*rmsnorm_forward)(stream *s, void *y, float *rstd /* [n] or NULL */, const void *x,
                                 const void *w, dtype type, dtype w_type, int64_t n, int64_t dim, float eps,
                                 float shift);
    /* dx = (accumulate_dx ? dx : 0) + gradient; dw [dim] += gradient, or NULL. dx may be dy where it is not added to. */
    sc_status (*rmsnorm_backward)(stream *s, void *dx, bool accumulate_dx, float *dw, const void *dy,
                                  const void *x, const void *w, const float *rstd, dtype type, dtype w_type,
                                  int64_t n, int64_t dim, float shift, void *workspace);
    size_t (*rmsnorm_backward_workspace)(int64_t n, int64_t dim);

    /* --- rope, rotate-half: pairs (i, i + head_dim/2), in place ----------------------------- */
    /* x row t, head h at x + t*ld + h*head_dim; angle = positions[t] * inv_freq[i], in double.
     * inverse = true rotates back (the backward pass). */
    sc_status (*rope)(stream *s, void *x, dtype type, const int32_t *positions, const float *inv_freq,
                      int64_t n, int32_t n_heads, int32_t head_dim, int64_t ld, bool inverse);

    /* --- attention -------------------------------------------------------------------------- */
    /* out [n_tokens][n_heads*head_dim] (q_stride); lse [n_heads][n_tokens] or NULL */
    sc_status (*attention_forward)(stream *s, void *out, float *lse, const void *q, const void *k,
                                   const void *v, dtype type, const attention_shape *shape, void *workspace);
    size_t (*attention_forward_workspace)(const attention_shape *shape);
    sc_status (*attention_backward)(stream *s, void *dq, void *dk, void *dv, const void *dout,
                                    const void *out, const float *lse, const void *q, const void *k,
                                    const void *v, dtype type, const attention_shape *shape, void *workspace);
    size_t (*attention_backward_workspace)(const attention_shape *shape);
    sc_status (*attention_cached)(stream *s, void *out, const void *q, const void *k_cache,
                                  const void *v_cache, dtype type, const attention_cached_shape *shape,
                                  void *workspace);
    size_t (*attention_cached_workspace)(const attention_cached_shape *shape);

    /* --- glu: y = act(gate) * up ------------------------------------------------------------- */
    sc_status (*glu_forward)(stream *s, void *y, const void *gate, const void *up, dtype type, int64_t n,
                             activation act);
    sc_status (*glu_backward)(stream *s, void *dgate, void *dup, const void *dy, const void *gate,
                              const void *up, dtype type, int64_t n, activation act);

    /* --- loss -------------------------------------------------------------------------------- */
    /* logits [n][vocab] in place become scale * d(loss)/d(logits) if `backward`;
     * losses[i] = -log softmax(logits_i)[targets[i]] in float. targets[i] in 0..vocab-1: others are refused, or make
     * their rows NaN where the host would have to wait to see them. Where logits have gone through cap_logits with
     * soft_cap > 0, the gradient is that of what they were before. */
    sc_status (*cross_entropy)(stream *s, float *losses, void *logits, dtype type, const int32_t *targets,
                               int64_t n, int64_t vocab, float scale, float soft_cap, bool backward);
    /* logits [n] in place become cap * tanh(logit / cap) (Gemma-2) */
    sc_status (*cap_logits)(stream *s, float *logits, int64_t n, float cap);

    /* --- optimizer --------------------------------------------------------------------------- */
    /* AdamW (Loshchilov & Hutter 2019), decoupled decay, on float master weights; `weights` (bf16,
     * or NULL) receives the rounded copy. */
    sc_status (*adamw)(stream *s, float *master, void *weights_bf16, const float *grad, float *m, float *v,
                       int64_t n, const adamw_options *options);
    /* *out (host) = sum of squares in double, in a fixed order */
    sc_status (*square_sum)(stream *s, double *out, const float *x, int64_t n);

    /* --- lora -------------------------------------------------------------------------------- */
    /* y [n][out] += scaling * (drop(x) A^T) B^T;  A [rank][in], B [out][rank]; xa [n][rank] keeps
     * drop(x) A^T for the backward pass. Dropout keeps element (row, col) by the number keyed by
     * (seed, row_keys[row], step): row_keys and p = 0 mean none. `work` [n][in] floats if p > 0. */
    sc_status (*lora_forward)(stream *s, void *y, dtype y_type, float *xa, const void *x, dtype x_type,
                              const float *a, const float *b, int64_t n, int64_t in, int64_t out,
                              int64_t rank, float scaling, float dropout, uint64_t seed,
                              const uint64_t *row_keys, uint32_t step, void *workspace);
    size_t (*lora_workspace)(int64_t n, int64_t in, int64_t out, int64_t rank, float dropout);
    /* da, db += ; dx += (dx NULL: not wanted) */
    sc_status (*lora_backward)(stream *s, void *dx, dtype dx_type, float *da, float *db, const void *dy,
                               dtype dy_type, const float *xa, const void *x, dtype x_type, const float *a,
                               const float *b, int64_t n, int64_t in, int64_t out, int64_t rank,
                               float scaling, float dropout, uint64_t seed, const uint64_t *row_keys,
                               uint32_t step, void *workspace);

    /* --- dora (Liu et al. 2024); a table may lack these ----------------------------------------- */
    /* norm[o] = the length of row o of W + scaling B A, W [out][in] */
    sc_status (*dora_norm)(stream *s, float *norm, const void *w, dtype w_type, const float *a,
                           const float *b, int64_t in, int64_t out, int64_t rank, float scaling,
                           void *workspace);
    size_t (*dora_norm_workspace)(int64_t in, int64_t out);
    /* y [n][out] = (accumulate ? y : 0) + x * magnitude / norm, column by column; 0 where norm is 0 */
    sc_status (*dora_forward)(stream *s, void *y, bool accumulate, const void *x, dtype type,
                              const float *magnitude, const float *norm, int64_t n, int64_t out);
    /* dx = dy * magnitude / norm; dmagnitude [out] += sum over rows of dy * x / norm. dx may be dy. */
    sc_status (*dora_backward)(stream *s, void *dx, float *dmagnitude, const void *dy, const void *x,
                               dtype type, const float *magnitude, const float *norm, int64_t n, int64_t out);

    /* --- sample ------------------------------------------------------------------------------ */
    /* ids[i] drawn from logits row i; logprobs[i] (or NULL) its log-probability at temperature 1 */
    sc_status (*sample_rows)(stream *s, int32_t *ids, float *logprobs, const void *logits, dtype type,
                             int64_t n, int64_t vocab, const sample_options *options, const uint64_t *keys);
    /* Logits of what row i has said already, ids[offsets[i] .. offsets[i + 1]), each once: divided by the penalty where
     * positive, else multiplied (Keskar et al. 2019). offsets [n + 1] */
    sc_status (*penalise_rows)(stream *s, float *logits, int64_t n, int64_t vocab, float penalty,
                               const int32_t *ids, const int64_t *offsets);
    /* out[j] = log softmax(logits row rows[j])[ids[j]]: what a trie's children cost */
    sc_status (*gather_logprobs)(stream *s, float *out, const void *logits, dtype type, int64_t n_rows,
                                 int64_t vocab, const int32_t *rows, const int32_t *ids, int64_t n);

    /* --- cluster, divergence, design: selection (float rows, double decisions) --------------- */
    /* labels[i] = nearest centre (lowest index on ties), dist2[i] its squared distance (or NULL).
     * Mean-centre both sides beforehand: distances are |x|^2 - 2 x.c + |c|^2. */
    sc_status (*cluster_assign)(stream *s, int32_t *labels, float *dist2, const float *x,
                                const float *centres, int64_t n, int64_t k, int64_t dim, void *workspace);
    size_t (*cluster_assign_workspace)(int64_t n, int64_t k, int64_t dim);
    /* The same labels, where most rows have one already and the centres have moved a little: only rows whose bounds
     * do not tell are compared with all centres. dist2 is found for all rows, unless it is NULL. Workspace as above.
     * A table may lack it. */
    sc_status (*cluster_reassign)(stream *s, int32_t *labels, float *dist2, const cluster_bounds *b,
                                  const float *x, const float *centres, int64_t n, int64_t k, int64_t dim,
                                  void *workspace);
    /* Rows leave the sum of summed[i] (-1: they are in none) and join that of labels[i]; summed becomes labels, and rows that
     * stay are not read. counts [k] follow. sums [2][k][dim], coarse and fine parts by `grid`, are exact and to be added:
     * no order of rows, calls or threads makes a difference */
    sc_status (*cluster_update)(stream *s, double *sums, int64_t *counts, int32_t *summed, exact_grid grid,
                                const float *x, const int32_t *labels, int64_t n, int64_t k, int64_t dim);
    /* p [n][k] = softmax over centres of -|x - c| / temperature; entropy[i] in nats */
    sc_status (*cluster_softmax)(stream *s, double *p, double *entropy, const float *x, const float *centres,
                                 int64_t n, int64_t k, int64_t dim, double temperature, void *workspace);
    size_t (*cluster_softmax_workspace)(int64_t n, int64_t k, int64_t dim);
    /* dist2[i] = min(dist2[i], squared distance to centres from[i] .. to-1): exact in double */
    sc_status (*nearest_update)(stream *s, double *dist2, const nearest_rows *rows, int64_t n,
                                const nearest_rows *centres, const int32_t *from, int64_t to, int64_t dim);
    /* The same bytes, where it is known how far some centres lie apart: owner[i] is the nearest so far of row i (-1:
     * none), and a centre twice as far from that one as the row is cannot be nearer. A table may lack it. */
    sc_status (*nearest_update_apart)(stream *s, double *dist2, int32_t *owner, const nearest_rows *rows,
                                      int64_t n, const nearest_rows *centres, const centres_apart *apart,
                                      const int32_t *from, int64_t to, int64_t dim);
    /* js[i] = JS(p_i || q) in nats */
    sc_status (*js_to_mean)(stream *s, double *js, const double *p, const double *q, int64_t n, int64_t k);
    /* gains[i] -= sum over the b rows of w of (x_i . w)^2, products in float; slack[i], how far gains[i] may be
     * below exact arithmetic's, grows by a bound of their rounding. norms [n] = |x_i|, w_norm = |W|_F. */
    sc_status (*design_flush)(stream *s, double *gains, double *slack, const double *norms, const float *x,
                              const float *w, int64_t n, int64_t dim, int64_t b, double w_norm);
    /* Three that a table whose gains lie on the host lacks. The bound of a row is gains + slack, -infinity where gains is.
     * peaks[j] = the highest bound of rows j * segment .. (j + 1) * segment - 1 */
    sc_status (*design_peaks)(stream *s, double *peaks, const double *gains, const double *slack, int64_t n,
                              int64_t segment);
    /* The rows whose gain is not -infinity and whose bound is at least floor, ascending, with their gains and slack, the
     * first `most` of them; *n_above (host) is how many there are. */
    sc_status (*design_above)(stream *s, int64_t *n_above, int32_t *rows, double *top_gains,
                              double *top_slack, const double *gains, const double *slack, int64_t n,
                              double floor, int64_t most, void *workspace);
    size_t (*design_above_workspace)(int64_t n);
    /* gains[rows[q]] = new_gains[q], slack[rows[q]] = new_slack[q], rows [m] distinct */
    sc_status (*design_put)(stream *s, double *gains, double *slack, const int32_t *rows,
                            const double *new_gains, const double *new_slack, int64_t m);
    sc_status (*design_pool)(stream *s, design_pool *p, void *workspace);
    size_t (*design_pool_workspace)(int64_t m, int64_t dim, int64_t most);
    /* One pick's part in two quadratic forms of every row, in double, with p = x_i . u and q = x_i . v:
     * a[i] -= p^2 / scale, b[i] += (p^2 gamma / scale - 2 p q) / scale */
    sc_status (*design_bait)(stream *s, double *a, double *b, const float *x, const double *u,
                             const double *v, int64_t n, int64_t dim, double scale, double gamma);

    /* --- factor: symmetric matrices [dim][dim] in double --------------------------------------- */
    /* a += sign * W' W, w [b][dim] */
    sc_status (*rank_update)(stream *s, double *a, const double *w, int64_t dim, int64_t b, double sign);
    /* L L' = A, zeros above L's diagonal; *definite (host) is false where A is not positive definite, and L is
     * then of no use */
    sc_status (*cholesky)(stream *s, double *l, const double *a, int64_t dim, bool *definite);
    sc_status (*cholesky_inverse)(stream *s, double *inverse, const double *l, int64_t dim, void *workspace);
    size_t (*cholesky_inverse_workspace)(int64_t dim);
    /* out[i] = x_i' A x_i */
    sc_status (*quadratic_forms)(stream *s, double *out, const float *x, const double *a, int64_t n,
                                 int64_t dim);
    /* B = A F A */
    sc_status (*sandwich)(stream *s, double *b, const double *a, const double *f, int64_t dim,
                          void *workspace);
    size_t (*sandwich_workspace)(int64_t dim);

    /* --- als: a half-step of alternating least squares, f from 1 to ALS_FACTORS, in double ------ */
    /* gram [f][f] = Y'Y + lambda I, y [n][f]. Every entry is summed over als_runs(n) runs of als_run(n) rows,
     * each in ascending order, and then over the runs, in ascending order. */
    sc_status (*als_gram)(stream *s, double *gram, const float *y, int64_t n, int64_t f, double lambda,
                          void *workspace);
    size_t (*als_gram_workspace)(int64_t n, int64_t f);
    /* x row i = (G + sum of c y y')^-1 sum of (1 + c) y over the rows others[offsets[i]] .. others[offsets[i + 1] - 1]
     * of y, in this order; a row of x that has none stays as it is. By Cholesky, columns in ascending order, so G has
     * to be positive definite; the back substitution takes the last unknown first. offsets [n + 1] start at 0, the
     * others' range is the caller's to check. x and y must not overlap. */
    sc_status (*als_solve)(stream *s, float *x, const float *y, const double *gram, const int64_t *offsets,
                           const int32_t *others, int64_t n, int64_t f, double confidence, void *workspace);
    size_t (*als_solve_workspace)(int64_t n, int64_t f);
};

#endif
