/* The loss of a batch: the head works on supervised rows only, LOSS_ROWS at a time, so the logits of a whole batch
 * never exist. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "model/internal.h"

sc_status supervised_find(const model *m, const packed_batch *batch, const int32_t *targets, supervised *s)
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

void supervised_free(supervised *s)
{
    free(s->rows);
    free(s->targets);
    memset(s, 0, sizeof *s);
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
    SC_TRY(o->cross_entropy(NULL, losses, logits, DTYPE_F32, targets, n, vocab, scale, m->config.logit_cap,
                            true));
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

/* Where the rows are, what they should say, and memory for their losses, on the device. */
static sc_status upload_supervised(model *m, const supervised *s)
{
    workspace *ws = &storage_of(m)->ws;
    sc_status status = SC_OK;
    SC_TRY(buffer_upload(m, &ws->rows, s->rows, (size_t)s->n * sizeof(int32_t)));
    SC_TRY(buffer_upload(m, &ws->ids_out, s->targets, (size_t)s->n * sizeof(int32_t)));
    SC_TRY(buffer_need(m, &ws->losses, (size_t)s->n * sizeof(float)));
cleanup:
    return status;
}

/* The losses on the device to the host; *loss_sum becomes larger by their sum. */
static sc_status fetch_losses(const model *m, int64_t n, double *loss_sum, float *losses)
{
    sc_status status = SC_OK;
    float *host = NULL;
    const size_t bytes = (size_t)n * sizeof *host;
    SC_TRY(sc_alloc(&host, (size_t)n, sizeof *host));
    SC_TRY(ops_of(m)->download(NULL, host, storage_of(m)->ws.losses.data, bytes));
    SC_TRY(ops_of(m)->synchronise(NULL));
    for (int64_t i = 0; i < n; i++)
        *loss_sum += (double)host[i];
    if (losses != NULL)
        memcpy(losses, host, bytes);
cleanup:
    free(host);
    return status;
}

/* Losses of the supervised rows of x, the last block's output; dx becomes the gradient of the scaled sum. */
sc_status head_backward(const pass *p, const void *x, void *dx, const supervised *s, float scale,
                        double *loss_sum, float *losses)
{
    model *m = p->m;
    workspace *ws = &storage_of(m)->ws;
    const ops *o = ops_of(m);
    const int64_t dim = m->config.dim;
    const size_t row_bytes = (size_t)dim * dtype_size(m->dtype);
    sc_status status = SC_OK;
    size_t bytes = 0;

    /* gathered x, normed h, dh and d(gathered x), then rstd */
    SC_TRY(byte_count(s->n, 4 * dim, dtype_size(m->dtype), &bytes));
    bytes = (bytes + 63) / 64 * 64;
    SC_TRY(buffer_need(m, &ws->gathered, bytes + (size_t)s->n * sizeof(float)));
    SC_TRY(upload_supervised(m, s));
    char *xs = ws->gathered.data, *h = xs + (size_t)s->n * row_bytes, *dh = h + (size_t)s->n * row_bytes;
    char *dxs = dh + (size_t)s->n * row_bytes;
    float *rstd = (float *)(void *)(xs + bytes);
    float *device_losses = ws->losses.data;

    SC_TRY(o->gather_rows(NULL, xs, x, ws->rows.data, s->n, dim, dim, m->dtype));
    SC_TRY(o->rmsnorm_forward(NULL, h, rstd, xs, m->final_norm->value, m->dtype, m->dtype, s->n, dim,
                              m->config.norm_eps, m->config.norm_shift));
    for (int64_t i = 0; i < s->n; i += LOSS_ROWS) {
        const int64_t n = s->n - i < LOSS_ROWS ? s->n - i : LOSS_ROWS;
        SC_TRY(check_cancelled());
        SC_TRY(head_chunk(m, h + (size_t)i * row_bytes, dh + (size_t)i * row_bytes,
                          (const int32_t *)ws->ids_out.data + i, device_losses + i, n, scale));
    }
    SC_TRY(o->rmsnorm_backward(NULL, dxs, false, m->final_norm->grad, dh, xs, m->final_norm->value, rstd,
                               m->dtype, m->dtype, s->n, dim, m->config.norm_shift, ws->scratch.data));
    SC_TRY(o->fill_zero(NULL, dx, (size_t)p->n * row_bytes));
    SC_TRY(o->scatter_rows(NULL, dx, dxs, ws->rows.data, s->n, dim, dim, m->dtype));

    SC_TRY(fetch_losses(m, s->n, loss_sum, losses));
cleanup:
    return status;
}

sc_status model_loss(model *m, const packed_batch *batch, const int32_t *targets, double *loss_sum,
                     float *losses)
{
    workspace *ws = &storage_of(m)->ws;
    const size_t row_bytes = (size_t)m->config.dim * dtype_size(m->dtype);
    sc_status status = SC_OK;
    attention_shape shape;
    supervised s = {0};
    void *hidden = NULL;
    float *logits = NULL;
    pass p;

    *loss_sum = 0;
    SC_TRY(pass_begin(m, batch, &p, &shape));
    SC_TRY(supervised_find(m, batch, targets, &s));
    if (s.n == 0)
        goto cleanup;
    SC_TRY(upload_supervised(m, &s));
    SC_TRY(pass_hidden(&p, ws->rows.data, s.n, &hidden));
    for (int64_t i = 0; i < s.n; i += LOSS_ROWS) {
        const int64_t n = s.n - i < LOSS_ROWS ? s.n - i : LOSS_ROWS;
        SC_TRY(check_cancelled());
        SC_TRY(head_logits(m, (char *)hidden + (size_t)i * row_bytes, n, &logits));
        SC_TRY(ops_of(m)->cross_entropy(NULL, (float *)ws->losses.data + i, logits, DTYPE_F32,
                                        (const int32_t *)ws->ids_out.data + i, n, m->config.vocab_size, 1, 0,
                                        false));
    }
    SC_TRY(fetch_losses(m, s.n, loss_sum, losses));
cleanup:
    supervised_free(&s);
    return status;
}
