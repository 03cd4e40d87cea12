/* What training will hold in memory, array by array, before any of it is allocated; and what it computes. */
#include <string.h>

#include "model/lora.h"

double model_block_operations(const model_config *c, double context)
{
    double total = 0, keys = 0;
    for (int l = 0; l < N_LINEARS; l++) {
        int64_t out = 0, in = 0;
        linear_shape(c, (linear)l, &out, &in);
        total += 2.0 * (double)out * (double)in;
    }
    for (int32_t i = 0; i < c->n_layers; i++)
        keys += c->slides[i] && context > c->window ? c->window : context;
    return total * c->n_layers + 4.0 * c->n_heads * c->head_dim * keys;
}

double model_head_operations(const model_config *c)
{
    return 2.0 * c->dim * (double)c->vocab_size;
}

static int64_t aligned(int64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t at_least_one(int64_t bytes) /* buffer_need's smallest */
{
    return bytes > 0 ? bytes : 1;
}

static void plan_weights(const model *m, const memory_task *task, model_memory *out)
{
    const model_storage *s = storage_of(m);
    int64_t n = 0, all = 0;
    for (int64_t i = 0; i < m->n_parameters; i++) {
        const int64_t values = m->parameters[i].rows * m->parameters[i].cols;
        n += values;
        all += aligned(values * (int64_t)dtype_size(m->dtype));
    }
    out->mapped = task->full ? 0 : s->mapped_bytes;
    out->weights = task->full ? all : s->owned_bytes;
    out->weights +=
        rope_sets(&m->config) * (m->config.head_dim / 2) * (int64_t)sizeof(float); /* rotary frequencies */
    if (task->full) {
        out->n_trained = n;
        out->masters = m->dtype == DTYPE_BF16 ? n * (int64_t)sizeof(float) : 0;
    }
}

static void plan_adapter(const model *m, model_memory *out)
{
    int64_t norms = 0;
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            const parameter *w = m->layers[i].linears[k];
            const int64_t rank = m->lora->layers[i][k].rank;
            if (rank == 0)
                continue;
            out->n_trained += rank * (w->rows + w->cols) + (m->lora->dora ? w->rows : 0);
            norms += m->lora->dora ? w->rows : 0;
        }
    out->adapter = (out->n_trained + norms) * (int64_t)sizeof(float);
}

static void plan_head(const model *m, const memory_task *task, model_memory *out)
{
    const int64_t size = (int64_t)dtype_size(m->dtype), dim = m->config.dim, vocab = m->config.vocab_size;
    const int64_t n = task->training.n_supervised, held = task->validation.n_supervised,
                  most = larger(n, held);
    out->head = aligned(4 * n * dim * size) + n * (int64_t)sizeof(float); /* gathered rows, lengths */
    out->head += smaller(most, LOSS_ROWS) * vocab * (int64_t)sizeof(float);
    out->head += m->dtype == DTYPE_F32 ? 0 : smaller(n, LOSS_ROWS) * vocab * size;
    out->head += 3 * most * (int64_t)sizeof(float); /* rows, targets, losses */
    out->head += held * dim * size;
}

static int64_t scratch_bytes(model *m, const memory_batch *b, bool training)
{
    const model_config *c = &m->config;
    const attention_shape shape = {.n_seqs = b->n_seqs,
                                   .n_tokens = b->n_tokens,
                                   .max_seqlen = b->longest,
                                   .n_heads = c->n_heads,
                                   .n_kv_heads = c->n_kv_heads,
                                   .head_dim = c->head_dim,
                                   .q_stride = (int64_t)c->n_heads * c->head_dim,
                                   .kv_stride = (int64_t)c->n_kv_heads * c->head_dim};
    const pass p = {.m = m,
                    .n = b->n_tokens,
                    .packed = &shape,
                    .dropout = training && m->lora != NULL ? m->lora->dropout : 0};
    return at_least_one((int64_t)pass_scratch_bytes(&p, training));
}

/* Validation keeps no activations; both use the same buffers, each as large as the larger need. */
static sc_status plan_pass(model *m, const memory_task *task, model_memory *out)
{
    const memory_batch *t = &task->training, *v = &task->validation;
    sc_status status = SC_OK;
    size_t block = 0, residual = 0, total = 0;
    SC_TRY(activation_bytes(m, t->n_tokens, &block, &residual, &total));
    out->activations = (int64_t)total;
    SC_TRY(gradient_bytes(m, t->n_tokens, &total));
    out->activation_gradients = (int64_t)total;
    out->scratch = scratch_bytes(m, t, true);
    if (v->n_tokens > 0) {
        SC_TRY(block_layout(m, v->n_tokens, false, &total));
        out->activations = larger(out->activations, (int64_t)total);
        out->scratch = larger(out->scratch, scratch_bytes(m, v, false));
    }
    /* ids and positions, the rows' keys, and where sequences begin */
    out->batch =
        larger(t->n_tokens, v->n_tokens) * (2 * (int64_t)sizeof(int32_t) + (int64_t)sizeof(uint64_t)) +
        (larger(t->n_seqs, v->n_seqs) + 1) * (int64_t)sizeof(int32_t);
cleanup:
    return status;
}

sc_status model_memory_plan(model *m, const memory_task *task, model_memory *out)
{
    sc_status status = SC_OK;
    lora *kept = m->lora, *adapter = NULL;
    memset(out, 0, sizeof *out);
    if (!task->full && task->init_adapter != NULL) {
        SC_TRY(lora_outline_folder(m, task->init_adapter, &adapter));
        adapter->dropout = (float)task->adapter.dropout;
    } else if (!task->full) {
        SC_TRY(lora_outline(m, &task->adapter, &adapter));
    }
    m->lora = adapter;
    plan_weights(m, task, out);
    if (adapter != NULL)
        plan_adapter(m, out);
    out->gradients = out->n_trained * (int64_t)sizeof(float);
    out->moments = 2 * out->gradients;
    plan_head(m, task, out);
    SC_TRY(plan_pass(m, task, out));
cleanup:
    m->lora = kept;
    lora_discard(m, adapter);
    return status;
}
