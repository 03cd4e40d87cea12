/* The forward pass over a packed batch: RMSNorm, grouped-query attention with rotary positions, gated MLP, each with its
 * residual (Touvron et al. 2023, arXiv:2302.13971), and what the features of a config add: biases of q, k and v (Qwen2),
 * norms of their heads (Qwen3), norms of branches, soft caps and windows (Gemma-2: arXiv:2408.00118).
 *
 * block_forward is the one description of a block. Inference lays every block over the same buffers and adds
 * to the residual stream in place; training hands it buffers that keep what the backward pass needs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"

enum { ALIGN = 64 };

static int64_t q_dim(const model_config *c)
{
    return (int64_t)c->n_heads * c->head_dim;
}
static int64_t kv_dim(const model_config *c)
{
    return (int64_t)c->n_kv_heads * c->head_dim;
}

/* Lays arrays one after the other; with base NULL it only counts. */
typedef struct placer {
    char *base;
    size_t used;
    bool overflow;
} placer;

static void *place(placer *p, int64_t rows, int64_t cols, size_t size)
{
    size_t bytes = 0, end = 0;
    if (byte_count(rows, cols, size, &bytes) != SC_OK ||
        __builtin_add_overflow(p->used, (bytes + ALIGN - 1) / ALIGN * ALIGN, &end)) {
        p->overflow = true;
        return NULL;
    }
    void *at = p->base == NULL ? NULL : p->base + p->used;
    p->used = end;
    return at;
}

int64_t widest_output(const model_config *c)
{
    int64_t most = 0;
    for (int l = 0; l < N_LINEARS; l++) {
        int64_t out = 0, in = 0;
        linear_shape(c, (linear)l, &out, &in);
        most = out > most ? out : most;
    }
    return most;
}

static void place_block(const model *m, int64_t n, bool training, placer *p, block_buffers *b)
{
    const model_config *c = &m->config;
    const size_t size = dtype_size(m->dtype);
    memset(b, 0, sizeof *b);
    b->x = place(p, n, c->dim, size);
    b->h = place(p, n, c->dim, size);
    b->q = place(p, n, q_dim(c), size);
    b->k = place(p, n, kv_dim(c), size);
    b->q_raw = c->qk_norm && training ? place(p, n, q_dim(c), size) : b->q;
    b->k_raw = c->qk_norm && training ? place(p, n, kv_dim(c), size) : b->k;
    b->v = place(p, n, kv_dim(c), size);
    b->attention = place(p, n, q_dim(c), size);
    b->gate = place(p, n, c->ffn_dim, size);
    b->up = place(p, n, c->ffn_dim, size);
    b->glu = place(p, n, c->ffn_dim, size);
    b->x_mid = training ? place(p, n, c->dim, size) : b->x;
    b->h_mid = training ? place(p, n, c->dim, size) : b->h;
    b->out = training ? NULL : b->x;
    if (c->branch_norms) { /* in inference a branch's input is free by then */
        b->attention_out = training ? place(p, n, c->dim, size) : b->h;
        b->mlp_out = training ? place(p, n, c->dim, size) : b->h_mid;
    }
    if (training && c->branch_norms) {
        b->rstd_attention_out = place(p, n, 1, sizeof(float));
        b->rstd_mlp_out = place(p, n, 1, sizeof(float));
    }
    if (training && c->qk_norm) {
        b->rstd_q = place(p, n, c->n_heads, sizeof(float));
        b->rstd_k = place(p, n, c->n_kv_heads, sizeof(float));
    }
    if (training) {
        b->rstd = place(p, n, 1, sizeof(float));
        b->rstd_mid = place(p, n, 1, sizeof(float));
        b->lse = place(p, n, c->n_heads, sizeof(float));
    }
    if (m->lora == NULL)
        return;
    float *shared = training ? NULL : place(p, n, m->lora->max_rank, sizeof(float));
    void *shared_pre = training || !m->lora->dora ? NULL : place(p, n, widest_output(c), size);
    for (int l = 0; l < N_LINEARS; l++) {
        int64_t out = 0, in = 0;
        if (!m->lora->targets[l])
            continue;
        linear_shape(c, (linear)l, &out, &in);
        b->xa[l] = training ? place(p, n, m->lora->max_rank, sizeof(float)) : shared;
        if (m->lora->dora)
            b->pre[l] = training ? place(p, n, out, size) : shared_pre;
    }
}

sc_status block_layout(const model *m, int64_t n, bool training, size_t *bytes)
{
    placer p = {0};
    block_buffers b;
    place_block(m, n, training, &p, &b);
    if (p.overflow)
        return sc_fail(SC_MEMORY, "The activations of %lld tokens are larger than memory can be.",
                       (long long)n);
    *bytes = p.used;
    return SC_OK;
}

void block_place(const model *m, int64_t n, bool training, void *memory, block_buffers *out)
{
    placer p = {.base = memory};
    place_block(m, n, training, &p, out);
}

/* --- a batch --------------------------------------------------------------------------------------- */

static sc_status check_batch(const model *m, const packed_batch *batch)
{
    if (batch->n_tokens < 1 || batch->n_tokens > INT32_MAX || batch->n_seqs < 1)
        return sc_fail(SC_INTERNAL, "A batch of %lld tokens in %lld sequences was given to the model.",
                       (long long)batch->n_tokens, (long long)batch->n_seqs);
    if (batch->cu_seqlens[0] != 0 || batch->cu_seqlens[batch->n_seqs] != batch->n_tokens)
        return sc_fail(SC_INTERNAL, "A batch's sequence ends do not fit its %lld tokens.",
                       (long long)batch->n_tokens);
    for (int64_t s = 0; s < batch->n_seqs; s++) {
        const int64_t length = (int64_t)batch->cu_seqlens[s + 1] - batch->cu_seqlens[s];
        if (length < 1)
            return sc_fail(SC_INTERNAL, "Sequence %lld of a batch is empty.", (long long)s);
        if (length > m->config.max_positions)
            return sc_fail(SC_BAD_INPUT,
                           "A text of %lld tokens is longer than the %d positions of the model %s.",
                           (long long)length, m->config.max_positions, m->folder);
    }
    for (int64_t i = 0; i < batch->n_tokens; i++)
        if (batch->ids[i] < 0 || batch->ids[i] >= m->config.vocab_size)
            return sc_fail(SC_BAD_INPUT,
                           "Token id %d is outside the vocabulary of %d of the model %s; its tokenizer.json "
                           "belongs to another model.",
                           batch->ids[i], m->config.vocab_size, m->folder);
    return SC_OK;
}

sc_status pass_begin(model *m, const packed_batch *batch, pass *p, attention_shape *shape)
{
    sc_status status = SC_OK;
    workspace *ws = &storage_of(m)->ws;
    const int64_t n = batch->n_tokens;
    int32_t *positions = NULL;
    int64_t longest = 0;

    memset(p, 0, sizeof *p);
    SC_TRY(check_batch(m, batch));
    for (int64_t s = 0; s < batch->n_seqs; s++)
        if (batch->cu_seqlens[s + 1] - batch->cu_seqlens[s] > longest)
            longest = batch->cu_seqlens[s + 1] - batch->cu_seqlens[s];
    if (batch->positions == NULL) {
        SC_TRY(sc_alloc(&positions, (size_t)n, sizeof *positions));
        for (int64_t s = 0; s < batch->n_seqs; s++)
            for (int32_t i = batch->cu_seqlens[s]; i < batch->cu_seqlens[s + 1]; i++)
                positions[i] = i - batch->cu_seqlens[s];
    }
    SC_TRY(buffer_upload(m, &ws->ids, batch->ids, (size_t)n * sizeof(int32_t)));
    SC_TRY(buffer_upload(m, &ws->positions, positions != NULL ? positions : batch->positions,
                         (size_t)n * sizeof(int32_t)));
    SC_TRY(
        buffer_upload(m, &ws->cu_seqlens, batch->cu_seqlens, (size_t)(batch->n_seqs + 1) * sizeof(int32_t)));
    if (batch->row_keys != NULL)
        SC_TRY(buffer_upload(m, &ws->row_keys, batch->row_keys, (size_t)n * sizeof(uint64_t)));

    const model_config *c = &m->config;
    *shape = (attention_shape){
        .cu_seqlens = ws->cu_seqlens.data,
        .n_seqs = batch->n_seqs,
        .n_tokens = n,
        .max_seqlen = longest,
        .n_heads = c->n_heads,
        .n_kv_heads = c->n_kv_heads,
        .head_dim = c->head_dim,
        .q_stride = q_dim(c),
        .kv_stride = kv_dim(c),
        .scale = c->attention_scale,
        .soft_cap = c->attention_cap,
    };
    p->m = m;
    p->n = n;
    p->ids = ws->ids.data;
    p->positions = ws->positions.data;
    p->packed = shape;
    p->row_keys = batch->row_keys != NULL ? ws->row_keys.data : NULL;
    p->seed = batch->seed;
    p->step = batch->step;
cleanup:
    free(positions);
    return status;
}

size_t pass_scratch_bytes(const pass *p, bool training)
{
    const model *m = p->m;
    const ops *o = ops_of(m);
    size_t most = 0;
#define CONSIDER(expression)                                                                                 \
    do {                                                                                                     \
        const size_t bytes_ = (expression);                                                                  \
        most = bytes_ > most ? bytes_ : most;                                                                \
    } while (0)
    if (p->packed != NULL && o->attention_forward_workspace != NULL)
        CONSIDER(o->attention_forward_workspace(p->packed));
    if (p->packed != NULL && training && o->attention_backward_workspace != NULL)
        CONSIDER(o->attention_backward_workspace(p->packed));
    if (p->cached != NULL && o->attention_cached_workspace != NULL)
        CONSIDER(o->attention_cached_workspace(p->cached));
    if (training && o->rmsnorm_backward_workspace != NULL)
        CONSIDER(o->rmsnorm_backward_workspace(p->n, m->config.dim));
    if (training && m->config.qk_norm && o->rmsnorm_backward_workspace != NULL)
        CONSIDER(o->rmsnorm_backward_workspace(p->n * m->config.n_heads, m->config.head_dim));
    if (training && o->embedding_backward_workspace != NULL)
        CONSIDER(o->embedding_backward_workspace(p->n, m->config.vocab_size, m->config.dim));
    if (m->lora != NULL && o->lora_workspace != NULL)
        for (int l = 0; l < N_LINEARS; l++) {
            int64_t out = 0, in = 0;
            linear_shape(&m->config, (linear)l, &out, &in);
            CONSIDER(o->lora_workspace(p->n, in, out, m->lora->max_rank, p->dropout));
        }
    for (int l = 0; m->lora != NULL && m->lora->dora && l < N_LINEARS; l++) {
        int64_t out = 0, in = 0;
        linear_shape(&m->config, (linear)l, &out, &in);
        CONSIDER(o->dora_norm_workspace(in, out)); /* model_lora_refresh */
    }
#undef CONSIDER
    return most;
}

sc_status pass_scratch(const pass *p, bool training)
{
    return buffer_need(p->m, &storage_of(p->m)->ws.scratch, pass_scratch_bytes(p, training));
}

/* --- blocks ------------------------------------------------------------------------------------------ */

/* Rounded before it multiplies, as the models were trained: sqrt(3072) is 55.5 in bf16. */
float embedding_scale(const model *m)
{
    const float root = sqrtf((float)m->config.dim);
    if (!m->config.scaled_embedding)
        return 1;
    return m->dtype == DTYPE_BF16 ? bf16_to_f32(f32_to_bf16(root)) : root;
}

sc_status pass_embed(const pass *p, void *x)
{
    const model *m = p->m;
    return ops_of(m)->embedding_forward(NULL, x, m->dtype, m->embedding->value, m->dtype, p->ids, p->n,
                                        m->config.dim, embedding_scale(m));
}

/* y = x W^T (+ y if beta is 1, or the layer's bias) with the adapter's part; xa and pre of the block take what the backward
 * pass needs. */
static sc_status linear_forward(const pass *p, int32_t layer, linear l, const void *x, float beta, void *y,
                                const block_buffers *b)
{
    const model *m = p->m;
    const ops *o = ops_of(m);
    const parameter *w = m->layers[layer].linears[l];
    const lora_layer *a =
        m->lora != NULL && m->lora->layers[layer][l].rank > 0 ? &m->lora->layers[layer][l] : NULL;
    const bool dora = a != NULL && a->magnitude != NULL;
    void *sum = dora ? b->pre[l] : y;
    const parameter *bias = m->layers[layer].biases[l];
    sc_status status = SC_OK;

    if (bias != NULL) { /* of q, k and v only, which join nothing else */
        SC_TRY(o->bias_forward(NULL, y, bias->value, m->dtype, p->n, w->rows));
        beta = 1;
    }
    SC_TRY(o->gemm(NULL, false, true, p->n, w->rows, w->cols, 1.0f, x, m->dtype, w->cols, w->value, m->dtype,
                   w->cols, dora ? 0 : beta, sum, m->dtype, w->rows));
    if (a != NULL)
        SC_TRY(o->lora_forward(NULL, sum, m->dtype, b->xa[l], x, m->dtype, a->a, a->b, p->n, w->cols, w->rows,
                               a->rank, a->scaling, p->dropout, dropout_seed(p, layer, l), p->row_keys,
                               p->step, storage_of(m)->ws.scratch.data));
    if (dora)
        SC_TRY(o->dora_forward(NULL, y, beta != 0, sum, m->dtype, a->magnitude, a->norm, p->n, w->rows));
cleanup:
    return status;
}

/* y = x + f W^T: the residual joins in the matrix product. */
static sc_status residual_forward(const pass *p, int32_t layer, linear l, const void *f, const void *x,
                                  void *y, const block_buffers *b)
{
    const model *m = p->m;
    if (y != x) {
        sc_status status = ops_of(m)->cast(NULL, y, m->dtype, x, m->dtype, p->n * m->config.dim);
        if (status != SC_OK)
            return status;
    }
    return linear_forward(p, layer, l, f, 1.0f, y, b);
}

static sc_status norm_rows(const model *m, void *y, float *rstd, const void *x, const parameter *w, int64_t n)
{
    return ops_of(m)->rmsnorm_forward(NULL, y, rstd, x, w->value, m->dtype, m->dtype, n, w->rows,
                                      m->config.norm_eps, m->config.norm_shift);
}

/* y = x + f W^T, or y = x + norm(f W^T) where a branch has a norm: `out` is what it reads. */
static sc_status branch_forward(const pass *p, int32_t layer, linear l, const void *f, const void *x, void *y,
                                const parameter *norm, void *out, float *rstd, const block_buffers *b)
{
    const model *m = p->m;
    void *normed = y == x ? out : y; /* one of the sum's two sides lies where the sum goes */
    sc_status status = SC_OK;
    if (norm == NULL)
        return residual_forward(p, layer, l, f, x, y, b);
    SC_TRY(linear_forward(p, layer, l, f, 0, out, b));
    SC_TRY(norm_rows(m, normed, rstd, out, norm, p->n));
    SC_TRY(ops_of(m)->add(NULL, y, m->dtype, y == x ? normed : x, m->dtype, 1, p->n * m->config.dim));
cleanup:
    return status;
}

/* Norms of heads, and their turn by position. */
static sc_status place_heads(const pass *p, int32_t layer, const block_buffers *b)
{
    const model *m = p->m;
    const model_config *c = &m->config;
    const struct model_layer *w = &m->layers[layer];
    const float *inv_freq = layer_inv_freq(m, layer);
    const ops *o = ops_of(m);
    sc_status status = SC_OK;
    if (c->qk_norm) {
        SC_TRY(norm_rows(m, b->q, b->rstd_q, b->q_raw, w->q_norm, p->n * c->n_heads));
        SC_TRY(norm_rows(m, b->k, b->rstd_k, b->k_raw, w->k_norm, p->n * c->n_kv_heads));
    }
    SC_TRY(o->rope(NULL, b->q, m->dtype, p->positions, inv_freq, p->n, c->n_heads, c->head_dim, q_dim(c),
                   false));
    SC_TRY(o->rope(NULL, b->k, m->dtype, p->positions, inv_freq, p->n, c->n_kv_heads, c->head_dim, kv_dim(c),
                   false));
cleanup:
    return status;
}

static sc_status attend(const pass *p, int32_t layer, const block_buffers *b)
{
    const model *m = p->m;
    const model_config *c = &m->config;
    const ops *o = ops_of(m);
    void *scratch = storage_of(m)->ws.scratch.data;
    sc_status status = SC_OK;

    SC_TRY(place_heads(p, layer, b));
    if (p->cache != NULL) {
        SC_TRY(o->scatter_rows(NULL, p->cache->k[layer], b->k, p->cache_rows, p->n, kv_dim(c), kv_dim(c),
                               m->dtype));
        SC_TRY(o->scatter_rows(NULL, p->cache->v[layer], b->v, p->cache_rows, p->n, kv_dim(c), kv_dim(c),
                               m->dtype));
        for (int64_t i = 0; i < p->n_copies; i++) {
            const int64_t n = p->packed->n_shared;
            const int32_t *rows = p->shared_rows + i * n;
            SC_TRY(o->scatter_rows(NULL, p->cache->k[layer], b->k, rows, n, kv_dim(c), kv_dim(c), m->dtype));
            SC_TRY(o->scatter_rows(NULL, p->cache->v[layer], b->v, rows, n, kv_dim(c), kv_dim(c), m->dtype));
        }
    }
    if (p->packed != NULL) {
        attention_shape shape = *p->packed;
        shape.window = layer_window(c, layer);
        SC_TRY(o->attention_forward(NULL, b->attention, b->lse, b->q, b->k, b->v, m->dtype, &shape, scratch));
    } else {
        attention_cached_shape shape = *p->cached;
        shape.window = layer_window(c, layer);
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a pass is packed or has a cache */
        SC_TRY(o->attention_cached(NULL, b->attention, b->q, p->cache->k[layer], p->cache->v[layer], m->dtype,
                                   &shape, scratch));
    }
cleanup:
    return status;
}

sc_status block_forward(const pass *p, int32_t layer, const block_buffers *b)
{
    const model *m = p->m;
    const model_config *c = &m->config;
    const struct model_layer *w = &m->layers[layer];
    const ops *o = ops_of(m);
    sc_status status = SC_OK;

    SC_TRY(norm_rows(m, b->h, b->rstd, b->x, w->input_norm, p->n));
    SC_TRY(linear_forward(p, layer, LINEAR_Q, b->h, 0, b->q_raw, b));
    SC_TRY(linear_forward(p, layer, LINEAR_K, b->h, 0, b->k_raw, b));
    SC_TRY(linear_forward(p, layer, LINEAR_V, b->h, 0, b->v, b));
    SC_TRY(attend(p, layer, b));
    SC_TRY(branch_forward(p, layer, LINEAR_O, b->attention, b->x, b->x_mid, w->attention_out_norm,
                          b->attention_out, b->rstd_attention_out, b));

    SC_TRY(norm_rows(m, b->h_mid, b->rstd_mid, b->x_mid, w->mid_norm, p->n));
    SC_TRY(linear_forward(p, layer, LINEAR_GATE, b->h_mid, 0, b->gate, b));
    SC_TRY(linear_forward(p, layer, LINEAR_UP, b->h_mid, 0, b->up, b));
    SC_TRY(o->glu_forward(NULL, b->glu, b->gate, b->up, m->dtype, p->n * c->ffn_dim, c->act));
    SC_TRY(branch_forward(p, layer, LINEAR_DOWN, b->glu, b->x_mid, b->out, w->mlp_out_norm, b->mlp_out,
                          b->rstd_mlp_out, b));
cleanup:
    return status;
}

/* Embedding and the first `n_blocks` blocks in shared buffers. */
static sc_status run_blocks(const pass *p, int32_t n_blocks, block_buffers *b)
{
    model *m = p->m;
    workspace *ws = &storage_of(m)->ws;
    sc_status status = SC_OK;
    size_t bytes = 0;
    SC_TRY(block_layout(m, p->n, false, &bytes));
    SC_TRY(buffer_need(m, &ws->activations, bytes));
    SC_TRY(pass_scratch(p, false));
    block_place(m, p->n, false, ws->activations.data, b);
    SC_TRY(pass_embed(p, b->x));
    for (int32_t l = 0; l < n_blocks; l++)
        SC_TRY(block_forward(p, l, b));
cleanup:
    return status;
}

sc_status pass_hidden(const pass *p, const int32_t *rows, int64_t n_rows, void **hidden)
{
    model *m = p->m;
    workspace *ws = &storage_of(m)->ws;
    const int64_t n = rows != NULL ? n_rows : p->n;
    sc_status status = SC_OK;
    block_buffers b;
    size_t bytes = 0;
    SC_TRY(run_blocks(p, m->config.n_layers, &b));
    const void *x = b.x;
    if (rows != NULL) { /* the block's inner buffer is free now */
        SC_TRY(ops_of(m)->gather_rows(NULL, b.h, b.x, rows, n_rows, m->config.dim, m->config.dim, m->dtype));
        x = b.h;
    }
    SC_TRY(byte_count(n, m->config.dim, dtype_size(m->dtype), &bytes));
    SC_TRY(buffer_need(m, &ws->hidden, bytes));
    SC_TRY(norm_rows(m, ws->hidden.data, NULL, x, m->final_norm, n));
    *hidden = ws->hidden.data;
cleanup:
    return status;
}

sc_status model_forward(model *m, const packed_batch *batch, int32_t layer, void **hidden)
{
    sc_status status = SC_OK;
    attention_shape shape;
    block_buffers b;
    pass p;
    if (layer < -1 || layer > m->config.n_layers)
        return sc_fail(SC_USAGE,
                       "Layer %d was asked for, but the model has blocks 1 to %d (0: the embeddings, -1: "
                       "after the final norm).",
                       layer, m->config.n_layers);
    SC_TRY(pass_begin(m, batch, &p, &shape));
    if (layer < 0) {
        SC_TRY(pass_hidden(&p, NULL, 0, hidden));
    } else {
        SC_TRY(run_blocks(&p, layer, &b));
        *hidden = b.x;
    }
cleanup:
    return status;
}

/* --- the head ------------------------------------------------------------------------------------------ */

sc_status head_logits(model *m, const void *hidden, int64_t n, float **logits)
{
    workspace *ws = &storage_of(m)->ws;
    const int64_t vocab = m->config.vocab_size, dim = m->config.dim;
    sc_status status = SC_OK;
    size_t bytes = 0;
    SC_TRY(byte_count(n, vocab, sizeof(float), &bytes));
    SC_TRY(buffer_need(m, &ws->logits, bytes));
    SC_TRY(ops_of(m)->gemm(NULL, false, true, n, vocab, dim, 1.0f, hidden, m->dtype, dim, m->head->value,
                           m->dtype, dim, 0, ws->logits.data, DTYPE_F32, vocab));
    if (m->config.logit_cap > 0)
        SC_TRY(ops_of(m)->cap_logits(NULL, ws->logits.data, n * vocab, m->config.logit_cap));
    *logits = ws->logits.data;
cleanup:
    return status;
}

sc_status model_logits(model *m, const void *hidden, const int32_t *rows, int64_t n_rows, float **logits)
{
    workspace *ws = &storage_of(m)->ws;
    sc_status status = SC_OK;
    size_t bytes = 0;
    SC_TRY(buffer_upload(m, &ws->rows, rows, (size_t)n_rows * sizeof(int32_t)));
    SC_TRY(byte_count(n_rows, m->config.dim, dtype_size(m->dtype), &bytes));
    SC_TRY(buffer_need(m, &ws->gathered, bytes));
    SC_TRY(ops_of(m)->gather_rows(NULL, ws->gathered.data, hidden, ws->rows.data, n_rows, m->config.dim,
                                  m->config.dim, m->dtype));
    SC_TRY(head_logits(m, ws->gathered.data, n_rows, logits));
cleanup:
    return status;
}
