/* One list of tensors, so that the loop, the optimizer and the checkpoint know nothing of adapters. */
#include "train/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ops *table(const model *m)
{
    return m->device->ops;
}

static size_t count_tensors(const model *m, bool full)
{
    if (!full)
        return 1;
    size_t n = 0;
    for (int64_t i = 0; i < m->n_parameters; i++)
        n += m->parameters[i].grad != NULL;
    return n;
}

static void list_tensors(const model *m, bool full, train_weights *w)
{
    if (!full) {
        train_tensor *t = &w->tensors[0];
        snprintf(t->name, sizeof(t->name), "lora");
        t->master = m->lora->values;
        t->grad = m->lora->grads;
        t->n = m->lora->n_values;
        w->n = 1;
        return;
    }
    for (int64_t i = 0; i < m->n_parameters; i++) {
        const parameter *p = &m->parameters[i];
        if (p->grad == NULL)
            continue;
        train_tensor *t = &w->tensors[w->n++];
        snprintf(t->name, sizeof(t->name), "%s", p->name);
        t->grad = p->grad;
        t->n = p->rows * p->cols;
        if (m->dtype == DTYPE_BF16)
            t->weights_bf16 = p->value;
        else
            t->master = p->value;
    }
}

sc_status train_weights_open(model *m, bool full, train_weights *out)
{
    sc_status status = SC_OK;
    bool copies = full && m->dtype == DTYPE_BF16;
    size_t per_value = copies ? 3 : 2;

    memset(out, 0, sizeof(*out));
    SC_TRY(sc_alloc(&out->tensors, count_tensors(m, full), sizeof(*out->tensors)));
    list_tensors(m, full, out);
    for (size_t i = 0; i < out->n; i++)
        out->n_values += out->tensors[i].n;
    size_t bytes = (size_t)out->n_values * per_value * sizeof(float);
    SC_TRY(table(m)->alloc(&out->storage, bytes));
    SC_TRY(table(m)->fill_zero(NULL, out->storage, bytes));
    float *next = out->storage;
    for (size_t i = 0; i < out->n; i++) {
        train_tensor *t = &out->tensors[i];
        t->m = next;
        t->v = next + t->n;
        next += 2 * t->n;
    }
    for (size_t i = 0; copies && i < out->n; i++) {
        train_tensor *t = &out->tensors[i];
        t->master = next;
        next += t->n;
        SC_TRY(table(m)->cast(NULL, t->master, DTYPE_F32, t->weights_bf16, DTYPE_BF16, t->n));
    }
cleanup:
    if (status != SC_OK)
        train_weights_close(m, out);
    return status;
}

void train_weights_close(model *m, train_weights *w)
{
    if (m != NULL && w->storage != NULL)
        table(m)->release(w->storage);
    free(w->tensors);
    memset(w, 0, sizeof(*w));
}

sc_status train_weights_norm(const model *m, const train_weights *w, double *norm)
{
    double sum = 0;
    for (size_t i = 0; i < w->n; i++) {
        double part = 0;
        sc_status status = table(m)->square_sum(NULL, &part, w->tensors[i].grad, w->tensors[i].n);
        if (status != SC_OK)
            return status;
        sum += part;
    }
    *norm = sqrt(sum);
    return SC_OK;
}

sc_status train_weights_step(model *m, train_weights *w, const adamw_options *options, bool coupled)
{
    sc_status status = SC_OK;
    adamw_options step = *options;
    if (coupled)
        step.weight_decay = 0;
    for (size_t i = 0; i < w->n; i++) {
        train_tensor *t = &w->tensors[i];
        /* grad_scale (grad + decay / grad_scale * weight) */
        if (coupled && options->weight_decay > 0)
            SC_TRY(table(m)->add(NULL, t->grad, DTYPE_F32, t->master, DTYPE_F32,
                                 options->weight_decay / options->grad_scale, t->n));
        SC_TRY(table(m)->adamw(NULL, t->master, t->weights_bf16, t->grad, t->m, t->v, t->n, &step));
    }
    SC_TRY(model_lora_refresh(m));
cleanup:
    return status;
}
