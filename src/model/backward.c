/* One training step's share of a packed batch: forward with every activation kept, or with those of one block and
 * the inputs of all (model->recompute: Chen et al. 2016, arXiv:1604.06174), the loss of the supervised rows
 * (loss.c), and the gradients of the adapter or of the weights.
 *
 * An adapter's step forms no product for the gradients of the frozen weights, and stops above the embeddings. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "model/internal.h"

/* Gradients of activations, [n_tokens][...] in the model's dtype; shared by all blocks. */
typedef struct gradient_buffers {
    void *x;               /* [dim] of the residual stream */
    void *h;               /* [dim] of what a norm gave */
    void *gate, *up, *glu; /* [ffn_dim] */
    void *attention, *q, *k, *v;
    void *pre; /* [widest output] with DoRA, before its magnitudes */
} gradient_buffers;

enum { GRADIENT_ARRAYS = 10 };

static sc_status gradient_sizes(const model *m, int64_t n, size_t sizes[GRADIENT_ARRAYS], size_t *total)
{
    const model_config *c = &m->config;
    const int64_t q = (int64_t)c->n_heads * c->head_dim, kv = (int64_t)c->n_kv_heads * c->head_dim;
    const bool dora = m->lora != NULL && m->lora->dora;
    const int64_t widths[GRADIENT_ARRAYS] = {
        c->dim, c->dim, c->ffn_dim, c->ffn_dim, c->ffn_dim, q, q, kv, kv, dora ? widest_output(c) : 0};
    sc_status status = SC_OK;
    *total = 0;
    for (int i = 0; i < GRADIENT_ARRAYS; i++) {
        SC_TRY(byte_count(n, widths[i], dtype_size(m->dtype), &sizes[i]));
        sizes[i] = (sizes[i] + 63) / 64 * 64;
        *total += sizes[i];
    }
cleanup:
    return status;
}

sc_status gradient_bytes(const model *m, int64_t n, size_t *total)
{
    size_t sizes[GRADIENT_ARRAYS];
    return gradient_sizes(m, n, sizes, total);
}

static sc_status gradient_place(model *m, int64_t n, gradient_buffers *g)
{
    void **places[GRADIENT_ARRAYS] = {&g->x,         &g->h, &g->gate, &g->up, &g->glu,
                                      &g->attention, &g->q, &g->k,    &g->v,  &g->pre};
    buffer *b = &storage_of(m)->ws.gradients;
    sc_status status = SC_OK;
    size_t sizes[GRADIENT_ARRAYS], total = 0, used = 0;
    SC_TRY(gradient_sizes(m, n, sizes, &total));
    SC_TRY(buffer_need(m, b, total));
    for (int i = 0; i < GRADIENT_ARRAYS; i++) {
        *places[i] = (char *)b->data + used;
        used += sizes[i];
    }
cleanup:
    return status;
}

/* dx (+)= dy W, dW += dy^T x, the bias's, and the adapter's; dx NULL: not wanted. */
static sc_status linear_backward(const pass *p, int32_t layer, linear l, const void *x, const void *dy,
                                 void *dx, float beta, const block_buffers *b, const gradient_buffers *g)
{
    const model *m = p->m;
    const parameter *w = m->layers[layer].linears[l], *bias = m->layers[layer].biases[l];
    const ops *o = ops_of(m);
    const int64_t out = w->rows, in = w->cols;
    const lora_layer *a =
        m->lora != NULL && m->lora->layers[layer][l].rank > 0 ? &m->lora->layers[layer][l] : NULL;
    sc_status status = SC_OK;
    if (bias != NULL && bias->grad != NULL) /* before magnitudes, which it has none of */
        SC_TRY(o->bias_backward(NULL, bias->grad, dy, m->dtype, p->n, out));
    if (a != NULL && a->magnitude != NULL) {
        SC_TRY(o->dora_backward(NULL, g->pre, a->dmagnitude, dy, b->pre[l], m->dtype, a->magnitude, a->norm,
                                p->n, out));
        dy = g->pre;
    }
    if (dx != NULL)
        SC_TRY(o->gemm(NULL, false, false, p->n, in, out, 1.0f, dy, m->dtype, out, w->value, m->dtype, in,
                       beta, dx, m->dtype, in));
    if (w->grad != NULL)
        SC_TRY(o->gemm(NULL, true, false, out, in, p->n, 1.0f, dy, m->dtype, out, x, m->dtype, in, 1.0f,
                       w->grad, DTYPE_F32, in));
    if (a != NULL)
        SC_TRY(o->lora_backward(NULL, dx, m->dtype, a->da, a->db, dy, m->dtype, b->xa[l], x, m->dtype, a->a,
                                a->b, p->n, in, out, a->rank, a->scaling, p->dropout,
                                dropout_seed(p, layer, l), p->row_keys, p->step,
                                storage_of(m)->ws.scratch.data));
cleanup:
    return status;
}

/* Of n rows; dx (+)= the gradient of what was normed. */
static sc_status norm_backward(const model *m, const parameter *w, const void *dy, const void *x,
                               const float *rstd, void *dx, bool accumulate, int64_t n)
{
    return ops_of(m)->rmsnorm_backward(NULL, dx, accumulate, w->grad, dy, x, w->value, rstd, m->dtype,
                                       m->dtype, n, w->rows, m->config.norm_shift,
                                       storage_of(m)->ws.scratch.data);
}

/* Of a branch, y = x + norm(out) or y = x + out: *dout is the gradient of out. That of x is the one of y already. */
static sc_status branch_backward(const pass *p, const parameter *norm, const void *out, const float *rstd,
                                 const gradient_buffers *g, const void **dout)
{
    *dout = norm != NULL ? g->h : g->x;
    return norm != NULL ? norm_backward(p->m, norm, g->x, out, rstd, g->h, false, p->n) : SC_OK;
}

/* From q and k as attention sees them, g->q and g->k, back to what their linear layers gave. */
static sc_status heads_backward(const pass *p, int32_t layer, const block_buffers *b,
                                const gradient_buffers *g)
{
    const model *m = p->m;
    const model_config *c = &m->config;
    const struct model_layer *w = &m->layers[layer];
    const float *inv_freq = layer_inv_freq(m, layer);
    const ops *o = ops_of(m);
    const int64_t q = (int64_t)c->n_heads * c->head_dim, kv = (int64_t)c->n_kv_heads * c->head_dim;
    sc_status status = SC_OK;
    SC_TRY(o->rope(NULL, g->q, m->dtype, p->positions, inv_freq, p->n, c->n_heads, c->head_dim, q, true));
    SC_TRY(o->rope(NULL, g->k, m->dtype, p->positions, inv_freq, p->n, c->n_kv_heads, c->head_dim, kv, true));
    if (c->qk_norm) {
        SC_TRY(norm_backward(m, w->q_norm, g->q, b->q_raw, b->rstd_q, g->q, false, p->n * c->n_heads));
        SC_TRY(norm_backward(m, w->k_norm, g->k, b->k_raw, b->rstd_k, g->k, false, p->n * c->n_kv_heads));
    }
cleanup:
    return status;
}

/* g->x holds the gradient of the block's output and then that of its input. */
static sc_status block_backward(const pass *p, int32_t layer, const block_buffers *b,
                                const gradient_buffers *g, bool want_input)
{
    const model *m = p->m;
    const model_config *c = &m->config;
    const struct model_layer *w = &m->layers[layer];
    const ops *o = ops_of(m);
    void *dh = want_input ? g->h : NULL;
    const void *dout = NULL;
    attention_shape shape = *p->packed;
    sc_status status = SC_OK;

    SC_TRY(branch_backward(p, w->mlp_out_norm, b->mlp_out, b->rstd_mlp_out, g, &dout));
    SC_TRY(linear_backward(p, layer, LINEAR_DOWN, b->glu, dout, g->glu, 0, b, g));
    SC_TRY(
        o->glu_backward(NULL, g->gate, g->up, g->glu, b->gate, b->up, m->dtype, p->n * c->ffn_dim, c->act));
    SC_TRY(linear_backward(p, layer, LINEAR_GATE, b->h_mid, g->gate, g->h, 0, b, g));
    SC_TRY(linear_backward(p, layer, LINEAR_UP, b->h_mid, g->up, g->h, 1, b, g));
    SC_TRY(norm_backward(m, w->mid_norm, g->h, b->x_mid, b->rstd_mid, g->x, true, p->n));

    SC_TRY(branch_backward(p, w->attention_out_norm, b->attention_out, b->rstd_attention_out, g, &dout));
    SC_TRY(linear_backward(p, layer, LINEAR_O, b->attention, dout, g->attention, 0, b, g));
    shape.window = layer_window(c, layer);
    SC_TRY(o->attention_backward(NULL, g->q, g->k, g->v, g->attention, b->attention, b->lse, b->q, b->k, b->v,
                                 m->dtype, &shape, storage_of(m)->ws.scratch.data));
    SC_TRY(heads_backward(p, layer, b, g));
    SC_TRY(linear_backward(p, layer, LINEAR_Q, b->h, g->q, dh, 0, b, g));
    SC_TRY(linear_backward(p, layer, LINEAR_K, b->h, g->k, dh, 1, b, g));
    SC_TRY(linear_backward(p, layer, LINEAR_V, b->h, g->v, dh, 1, b, g));
    if (want_input)
        SC_TRY(norm_backward(m, w->input_norm, g->h, b->x, b->rstd, g->x, true, p->n));
cleanup:
    return status;
}

/* --- the step ---------------------------------------------------------------------------------------------- */

/* As in transformers, the padding token learns nothing as an input, even where a text holds it. */
static sc_status embedding_backward(const pass *p, const void *dx)
{
    model *m = p->m;
    if (m->embedding->grad == NULL)
        return SC_OK;
    return ops_of(m)->embedding_backward(NULL, m->embedding->grad, dx, m->dtype, p->ids, p->n,
                                         m->config.vocab_size, m->config.dim, m->config.pad_id,
                                         embedding_scale(m), storage_of(m)->ws.scratch.data);
}

/* Each block has its own buffers; or, to be recomputed, they share one's but for their inputs. */
sc_status activation_bytes(const model *m, int64_t n, size_t *block, size_t *residual, size_t *total)
{
    const int32_t n_layers = m->config.n_layers;
    sc_status status = SC_OK;
    size_t all_blocks = 0, all_streams = 0;
    SC_TRY(block_layout(m, n, true, block));
    SC_TRY(byte_count(n, m->config.dim, dtype_size(m->dtype), residual));
    *residual = (*residual + 63) / 64 * 64;
    SC_TRY(byte_count(m->recompute ? 1 : n_layers, 1, *block, &all_blocks));
    SC_TRY(byte_count(m->recompute ? n_layers : 1, 1, *residual, &all_streams));
    *total = all_blocks + all_streams;
cleanup:
    return status;
}

static sc_status place_blocks(const pass *p, block_buffers *blocks)
{
    const model *m = p->m;
    const int32_t n_layers = m->config.n_layers;
    buffer *memory = &storage_of(m)->ws.activations;
    sc_status status = SC_OK;
    size_t block = 0, residual = 0, total = 0;
    SC_TRY(activation_bytes(m, p->n, &block, &residual, &total));
    SC_TRY(buffer_need(m, memory, total));
    char *base = memory->data, *streams = base + (m->recompute ? 1 : (size_t)n_layers) * block;
    for (int32_t l = 0; l < n_layers; l++) {
        block_place(m, p->n, true, base + (m->recompute ? 0 : (size_t)l * block), &blocks[l]);
        if (m->recompute && l > 0)
            blocks[l].x = streams + (size_t)(l - 1) * residual;
        if (l > 0)
            blocks[l - 1].out = blocks[l].x;
    }
    blocks[n_layers - 1].out = streams + (m->recompute ? (size_t)(n_layers - 1) * residual : 0);
cleanup:
    return status;
}

sc_status model_train_step(model *m, const packed_batch *batch, const int32_t *targets, float loss_scale,
                           double *loss_sum, float *losses)
{
    const int32_t n_layers = m->config.n_layers;
    sc_status status = SC_OK;
    attention_shape shape;
    supervised s = {0};
    gradient_buffers g;
    block_buffers *blocks = NULL;
    pass p;

    *loss_sum = 0;
    SC_TRY(pass_begin(m, batch, &p, &shape));
    SC_TRY(supervised_find(m, batch, targets, &s));
    if (s.n == 0)
        goto cleanup;
    p.dropout = m->lora != NULL && batch->row_keys != NULL ? m->lora->dropout : 0;

    SC_TRY(sc_alloc(&blocks, (size_t)n_layers, sizeof *blocks));
    SC_TRY(place_blocks(&p, blocks));
    SC_TRY(pass_scratch(&p, true));
    SC_TRY(gradient_place(m, p.n, &g));

    SC_TRY(pass_embed(&p, blocks[0].x));
    for (int32_t l = 0; l < n_layers; l++)
        SC_TRY(block_forward(&p, l, &blocks[l]));
    SC_TRY(head_backward(&p, blocks[n_layers - 1].out, g.x, &s, loss_scale, loss_sum, losses));
    for (int32_t l = n_layers - 1; l >= 0; l--) {
        SC_TRY(check_cancelled());
        if (m->recompute && l < n_layers - 1) /* the last block's activations are still there */
            SC_TRY(block_forward(&p, l, &blocks[l]));
        SC_TRY(block_backward(&p, l, &blocks[l], &g, l > 0 || m->embedding->grad != NULL));
    }
    SC_TRY(embedding_backward(&p, g.x));
    SC_TRY(ops_of(m)->synchronise(NULL));
cleanup:
    free(blocks);
    supervised_free(&s);
    return status;
}
