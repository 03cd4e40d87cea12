/* One training step's share of a packed batch: forward with every activation kept, the loss of the supervised
 * rows, and the gradients of the adapter or of the weights.
 *
 * The head works on supervised rows only, LOSS_ROWS at a time, so the logits of a whole batch never exist.
 * An adapter's step forms no product for the gradients of the frozen weights, and stops above the embeddings. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "model/internal.h"

enum { LOSS_ROWS = 256 };

/* Gradients of activations, [n_tokens][...] in the model's dtype; shared by all blocks. */
typedef struct gradient_buffers {
    void *x;               /* [dim] of the residual stream */
    void *h;               /* [dim] of what a norm gave */
    void *gate, *up, *glu; /* [ffn_dim] */
    void *attention, *q, *k, *v;
} gradient_buffers;

static sc_status gradient_place(model *m, int64_t n, gradient_buffers *g)
{
    const model_config *c = &m->config;
    const int64_t q = (int64_t)c->n_heads * c->head_dim, kv = (int64_t)c->n_kv_heads * c->head_dim;
    const int64_t widths[] = {c->dim, c->dim, c->ffn_dim, c->ffn_dim, c->ffn_dim, q, q, kv, kv};
    void **places[] = {&g->x, &g->h, &g->gate, &g->up, &g->glu, &g->attention, &g->q, &g->k, &g->v};
    buffer *b = &storage_of(m)->ws.gradients;
    sc_status status = SC_OK;
    size_t used[9], total = 0;
    for (int i = 0; i < 9; i++) {
        size_t bytes = 0;
        SC_TRY(byte_count(n, widths[i], dtype_size(m->dtype), &bytes));
        used[i] = total;
        total += (bytes + 63) / 64 * 64;
    }
    SC_TRY(buffer_need(m, b, total));
    for (int i = 0; i < 9; i++)
        *places[i] = (char *)b->data + used[i];
cleanup:
    return status;
}

/* dx (+)= dy W, dW += dy^T x, and the adapter's; dx NULL: not wanted. */
static sc_status linear_backward(const pass *p, int32_t layer, linear l, const void *x, const void *dy,
                                 void *dx, float beta, const float *xa)
{
    const model *m = p->m;
    const parameter *w = m->layers[layer].linears[l];
    const ops *o = ops_of(m);
    const int64_t out = w->rows, in = w->cols;
    sc_status status = SC_OK;
    if (dx != NULL)
        SC_TRY(o->gemm(NULL, false, false, p->n, in, out, 1.0f, dy, m->dtype, out, w->value, m->dtype, in,
                       beta, dx, m->dtype, in));
    if (w->grad != NULL)
        SC_TRY(o->gemm(NULL, true, false, out, in, p->n, 1.0f, dy, m->dtype, out, x, m->dtype, in, 1.0f,
                       w->grad, DTYPE_F32, in));
    if (m->lora != NULL && m->lora->layers[layer][l].a != NULL) {
        const lora_layer *a = &m->lora->layers[layer][l];
        SC_TRY(o->lora_backward(NULL, dx, m->dtype, a->da, a->db, dy, m->dtype, xa, x, m->dtype, a->a, a->b,
                                p->n, in, out, m->lora->rank, m->lora->scaling, p->dropout,
                                dropout_seed(p, layer, l), p->row_keys, p->step,
                                storage_of(m)->ws.scratch.data));
    }
cleanup:
    return status;
}

static sc_status norm_backward(const pass *p, const parameter *w, const void *dy, const void *x,
                               const float *rstd, void *dx)
{
    const model *m = p->m;
    return ops_of(m)->rmsnorm_backward(NULL, dx, true, w->grad, dy, x, w->value, rstd, m->dtype, m->dtype,
                                       p->n, m->config.dim, storage_of(m)->ws.scratch.data);
}

/* g->x holds the gradient of the block's output and then that of its input. */
static sc_status block_backward(const pass *p, int32_t layer, const block_buffers *b,
                                const gradient_buffers *g, bool want_input)
{
    const model *m = p->m;
    const model_config *c = &m->config;
    const struct model_layer *w = &m->layers[layer];
    const ops *o = ops_of(m);
    const int64_t q = (int64_t)c->n_heads * c->head_dim, kv = (int64_t)c->n_kv_heads * c->head_dim;
    void *dh = want_input ? g->h : NULL;
    sc_status status = SC_OK;

    SC_TRY(linear_backward(p, layer, LINEAR_DOWN, b->glu, g->x, g->glu, 0, b->xa[LINEAR_DOWN]));
    SC_TRY(
        o->glu_backward(NULL, g->gate, g->up, g->glu, b->gate, b->up, m->dtype, p->n * c->ffn_dim, c->act));
    SC_TRY(linear_backward(p, layer, LINEAR_GATE, b->h_mid, g->gate, g->h, 0, b->xa[LINEAR_GATE]));
    SC_TRY(linear_backward(p, layer, LINEAR_UP, b->h_mid, g->up, g->h, 1, b->xa[LINEAR_UP]));
    SC_TRY(norm_backward(p, w->post_norm, g->h, b->x_mid, b->rstd_mid, g->x));

    SC_TRY(linear_backward(p, layer, LINEAR_O, b->attention, g->x, g->attention, 0, b->xa[LINEAR_O]));
    SC_TRY(o->attention_backward(NULL, g->q, g->k, g->v, g->attention, b->attention, b->lse, b->q, b->k, b->v,
                                 m->dtype, p->packed, storage_of(m)->ws.scratch.data));
    SC_TRY(o->rope(NULL, g->q, m->dtype, p->positions, m->inv_freq, p->n, c->n_heads, c->head_dim, q, true));
    SC_TRY(
        o->rope(NULL, g->k, m->dtype, p->positions, m->inv_freq, p->n, c->n_kv_heads, c->head_dim, kv, true));
    SC_TRY(linear_backward(p, layer, LINEAR_Q, b->h, g->q, dh, 0, b->xa[LINEAR_Q]));
    SC_TRY(linear_backward(p, layer, LINEAR_K, b->h, g->k, dh, 1, b->xa[LINEAR_K]));
    SC_TRY(linear_backward(p, layer, LINEAR_V, b->h, g->v, dh, 1, b->xa[LINEAR_V]));
    if (want_input)
        SC_TRY(norm_backward(p, w->input_norm, g->h, b->x, b->rstd, g->x));
cleanup:
    return status;
}

/* --- the loss -------------------------------------------------------------------------------------------- */

typedef struct supervised {
    int32_t *rows, *targets; /* host [n] */
    int64_t n;
} supervised;

static sc_status find_supervised(const model *m, const packed_batch *batch, const int32_t *targets,
                                 supervised *s)
{
    sc_status status = SC_OK;
    SC_TRY(sc_alloc(&s->rows, (size_t)batch->n_tokens, sizeof(int32_t)));
    SC_TRY(sc_alloc(&s->targets, (size_t)batch->n_tokens, sizeof(int32_t)));
    for (int64_t i = 0; i < batch->n_tokens; i++) {
        if (targets[i] < 0)
            continue;
        if (targets[i] >= m->config.vocab_size)
            SC_TRY(sc_fail(SC_BAD_INPUT, "The target id %d is outside the vocabulary of %d of the model %s.",
                           targets[i], m->config.vocab_size, m->folder));
        s->rows[s->n] = (int32_t)i;
        s->targets[s->n++] = targets[i];
    }
cleanup:
    return status;
}

/* The loss of n rows of normed hidden states h, and dh, the gradient with respect to them. */
static sc_status head_chunk(model *m, const void *h, void *dh, const int32_t *targets, float *losses,
                            int64_t n, float scale)
{
    workspace *ws = &storage_of(m)->ws;
    const ops *o = ops_of(m);
    const int64_t vocab = m->config.vocab_size, dim = m->config.dim;
    sc_status status = SC_OK;
    float *logits = NULL;
    size_t bytes = 0;
    SC_TRY(head_logits(m, h, n, &logits));
    SC_TRY(o->cross_entropy(NULL, losses, logits, DTYPE_F32, targets, n, vocab, scale, true));
    const void *d = logits;
    if (m->dtype != DTYPE_F32) { /* the products of the backward pass take the weights' own type */
        SC_TRY(byte_count(n, vocab, dtype_size(m->dtype), &bytes));
        SC_TRY(buffer_need(m, &ws->logits_model, bytes));
        SC_TRY(o->cast(NULL, ws->logits_model.data, m->dtype, logits, DTYPE_F32, n * vocab));
        d = ws->logits_model.data;
    }
    SC_TRY(o->gemm(NULL, false, false, n, dim, vocab, 1.0f, d, m->dtype, vocab, m->head->value, m->dtype, dim,
                   0, dh, m->dtype, dim));
    if (m->head->grad != NULL)
        SC_TRY(o->gemm(NULL, true, false, vocab, dim, n, 1.0f, d, m->dtype, vocab, h, m->dtype, dim, 1.0f,
                       m->head->grad, DTYPE_F32, dim));
cleanup:
    return status;
}

/* Losses of the supervised rows of x, the last block's output; dx becomes the gradient of the scaled sum. */
static sc_status head_backward(const pass *p, const void *x, void *dx, const supervised *s, float scale,
                               double *loss_sum, float *losses)
{
    model *m = p->m;
    workspace *ws = &storage_of(m)->ws;
    const ops *o = ops_of(m);
    const int64_t dim = m->config.dim;
    const size_t row_bytes = (size_t)dim * dtype_size(m->dtype);
    sc_status status = SC_OK;
    float *host = NULL;
    size_t bytes = 0;

    /* gathered x, normed h, dh and d(gathered x), then rstd */
    SC_TRY(byte_count(s->n, 4 * dim, dtype_size(m->dtype), &bytes));
    bytes = (bytes + 63) / 64 * 64;
    SC_TRY(buffer_need(m, &ws->gathered, bytes + (size_t)s->n * sizeof(float)));
    char *xs = ws->gathered.data, *h = xs + (size_t)s->n * row_bytes, *dh = h + (size_t)s->n * row_bytes;
    char *dxs = dh + (size_t)s->n * row_bytes;
    float *rstd = (float *)(void *)(xs + bytes);
    SC_TRY(buffer_upload(m, &ws->rows, s->rows, (size_t)s->n * sizeof(int32_t)));
    SC_TRY(buffer_upload(m, &ws->ids_out, s->targets, (size_t)s->n * sizeof(int32_t)));
    SC_TRY(buffer_need(m, &ws->losses, (size_t)s->n * sizeof(float)));
    float *device_losses = ws->losses.data;

    SC_TRY(o->gather_rows(NULL, xs, x, ws->rows.data, s->n, dim, dim, m->dtype));
    SC_TRY(o->rmsnorm_forward(NULL, h, rstd, xs, m->final_norm->value, m->dtype, m->dtype, s->n, dim,
                              m->config.norm_eps));
    for (int64_t i = 0; i < s->n; i += LOSS_ROWS) {
        const int64_t n = s->n - i < LOSS_ROWS ? s->n - i : LOSS_ROWS;
        SC_TRY(check_cancelled());
        SC_TRY(head_chunk(m, h + (size_t)i * row_bytes, dh + (size_t)i * row_bytes,
                          (const int32_t *)ws->ids_out.data + i, device_losses + i, n, scale));
    }
    SC_TRY(o->rmsnorm_backward(NULL, dxs, false, m->final_norm->grad, dh, xs, m->final_norm->value, rstd,
                               m->dtype, m->dtype, s->n, dim, ws->scratch.data));
    SC_TRY(o->fill_zero(NULL, dx, (size_t)p->n * row_bytes));
    SC_TRY(o->scatter_rows(NULL, dx, dxs, ws->rows.data, s->n, dim, dim, m->dtype));

    SC_TRY(sc_alloc(&host, (size_t)s->n, sizeof *host));
    SC_TRY(o->download(NULL, host, device_losses, (size_t)s->n * sizeof *host));
    SC_TRY(o->synchronise(NULL));
    for (int64_t i = 0; i < s->n; i++)
        *loss_sum += (double)host[i];
    if (losses != NULL)
        memcpy(losses, host, (size_t)s->n * sizeof *host);
cleanup:
    free(host);
    return status;
}

/* --- the step ---------------------------------------------------------------------------------------------- */

static sc_status embedding_backward(const pass *p, const void *dx)
{
    model *m = p->m;
    if (m->embedding->grad == NULL)
        return SC_OK;
    return ops_of(m)->embedding_backward(NULL, m->embedding->grad, dx, m->dtype, p->ids, p->n,
                                         m->config.vocab_size, m->config.dim, storage_of(m)->ws.scratch.data);
}

sc_status model_train_step(model *m, const packed_batch *batch, const int32_t *targets, float loss_scale,
                           double *loss_sum, float *losses)
{
    workspace *ws = &storage_of(m)->ws;
    const int32_t n_layers = m->config.n_layers;
    sc_status status = SC_OK;
    attention_shape shape;
    supervised s = {0};
    gradient_buffers g;
    block_buffers *blocks = NULL;
    size_t block_bytes = 0, total = 0, last = 0;
    pass p;

    *loss_sum = 0;
    SC_TRY(pass_begin(m, batch, &p, &shape));
    SC_TRY(find_supervised(m, batch, targets, &s));
    if (s.n == 0)
        goto cleanup;
    p.dropout = m->lora != NULL && batch->row_keys != NULL ? m->lora->dropout : 0;

    SC_TRY(block_layout(m, p.n, true, &block_bytes));
    SC_TRY(byte_count(p.n, m->config.dim, dtype_size(m->dtype), &last));
    SC_TRY(byte_count(n_layers, 1, block_bytes, &total));
    SC_TRY(buffer_need(m, &ws->activations, total + last));
    SC_TRY(pass_scratch(&p, true));
    SC_TRY(gradient_place(m, p.n, &g));
    SC_TRY(sc_alloc(&blocks, (size_t)n_layers, sizeof *blocks));
    for (int32_t l = 0; l < n_layers; l++) {
        block_place(m, p.n, true, (char *)ws->activations.data + (size_t)l * block_bytes, &blocks[l]);
        if (l > 0)
            blocks[l - 1].out = blocks[l].x;
    }
    blocks[n_layers - 1].out = (char *)ws->activations.data + total;

    SC_TRY(pass_embed(&p, blocks[0].x));
    for (int32_t l = 0; l < n_layers; l++)
        SC_TRY(block_forward(&p, l, &blocks[l]));
    SC_TRY(head_backward(&p, blocks[n_layers - 1].out, g.x, &s, loss_scale, loss_sum, losses));
    for (int32_t l = n_layers - 1; l >= 0; l--) {
        SC_TRY(check_cancelled());
        SC_TRY(block_backward(&p, l, &blocks[l], &g, l > 0 || m->embedding->grad != NULL));
    }
    SC_TRY(embedding_backward(&p, g.x));
    SC_TRY(ops_of(m)->synchronise(NULL));
cleanup:
    free(blocks);
    free(s.rows);
    free(s.targets);
    return status;
}

void model_memory_plan(const model_config *c, dtype type, bool full, int32_t rank, int64_t n_tokens,
                       model_memory *out)
{
    lora adapter = {.rank = rank, .targets = {true, true, true, true, true, true, true}};
    const model m = {.config = *c, .dtype = type, .lora = full || rank <= 0 ? NULL : &adapter};
    const int64_t heads = (int64_t)c->vocab_size * c->dim;
    int64_t n_weights = heads * (c->tied ? 1 : 2) + c->dim, n_lora = 0;
    size_t block_bytes = 0;
    for (int l = 0; l < N_LINEARS; l++) {
        int64_t rows = 0, cols = 0;
        linear_shape(c, (linear)l, &rows, &cols);
        n_weights += c->n_layers * rows * cols;
        n_lora += c->n_layers * rank * (rows + cols);
    }
    n_weights += 2 * (int64_t)c->n_layers * c->dim;
    const int64_t trained = full ? n_weights : n_lora;
    memset(out, 0, sizeof *out);
    out->weights = n_weights * (int64_t)dtype_size(type) + (full ? 0 : n_lora * 4);
    out->gradients = trained * 4;
    /* two moments, and a float master copy where the weights are rounded */
    out->optimizer = trained * (full && type != DTYPE_F32 ? 12 : 8);
    if (block_layout(&m, n_tokens, true, &block_bytes) == SC_OK) {
        const int64_t q = (int64_t)c->n_heads * c->head_dim, kv = (int64_t)c->n_kv_heads * c->head_dim;
        const int64_t widest = 2 * c->dim + 3 * (int64_t)c->ffn_dim + 2 * q + 2 * kv + 4 * c->dim;
        out->activations = c->n_layers * (int64_t)block_bytes +
                           n_tokens * widest * (int64_t)dtype_size(type) +
                           (int64_t)LOSS_ROWS * c->vocab_size * (type == DTYPE_F32 ? 4 : 6);
    }
}
