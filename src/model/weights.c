/* Opening a model folder: every weight found by its Hugging Face name, its shape checked against the config,
 * used where it lies in the mapped file or converted once. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "model/internal.h"

enum { ALIGN = 64, PIECE = 1 << 18, PER_LAYER = N_LINEARS + 9 /* norms and biases at most */ };

static st_type st_type_of(dtype t)
{
    return t == DTYPE_BF16 ? ST_BF16 : ST_F32;
}

/* --- names and shapes -------------------------------------------------------------------------------- */

static parameter *add_parameter(model *m, int64_t rows, int64_t cols, const char *name)
{
    parameter *p = &m->parameters[m->n_parameters++];
    snprintf(p->name, sizeof p->name, "%s", name);
    p->rows = rows;
    p->cols = cols;
    return p;
}

static parameter *add_of_layer(model *m, int32_t layer, int64_t rows, int64_t cols, const char *part)
{
    char name[96];
    snprintf(name, sizeof name, "model.layers.%d.%s", layer, part);
    return add_parameter(m, rows, cols, name);
}

bool parameter_is_bias(const parameter *p)
{
    return text_ends(p->name, ".bias");
}

/* A linear layer and what belongs to it. */
static void list_linear(model *m, int32_t i, linear l)
{
    const model_config *c = &m->config;
    struct model_layer *layer = &m->layers[i];
    char part[64];
    int64_t out = 0, in = 0;
    linear_shape(c, l, &out, &in);
    const char *block = l < LINEAR_GATE ? "self_attn" : "mlp";
    snprintf(part, sizeof part, "%s.%s.weight", block, linear_name(l));
    layer->linears[l] = add_of_layer(m, i, out, in, part);
    if (c->qkv_bias && l <= LINEAR_V) {
        snprintf(part, sizeof part, "%s.%s.bias", block, linear_name(l));
        layer->biases[l] = add_of_layer(m, i, out, 1, part);
    }
    if (c->qk_norm && l == LINEAR_Q)
        layer->q_norm = add_of_layer(m, i, c->head_dim, 1, "self_attn.q_norm.weight");
    if (c->qk_norm && l == LINEAR_K)
        layer->k_norm = add_of_layer(m, i, c->head_dim, 1, "self_attn.k_norm.weight");
}

/* post_attention_layernorm is what comes before the MLP, but where branches have norms: there it is attention's. */
static void list_norms_between(model *m, int32_t i)
{
    const int32_t dim = m->config.dim;
    struct model_layer *layer = &m->layers[i];
    parameter *after = add_of_layer(m, i, dim, 1, "post_attention_layernorm.weight");
    if (m->config.branch_norms) {
        layer->attention_out_norm = after;
        layer->mid_norm = add_of_layer(m, i, dim, 1, "pre_feedforward_layernorm.weight");
    } else {
        layer->mid_norm = after;
    }
}

sc_status weights_list(model *m)
{
    const model_config *c = &m->config;
    sc_status status = SC_OK;
    SC_TRY(sc_alloc(&m->layers, (size_t)c->n_layers, sizeof *m->layers));
    SC_TRY(sc_alloc(&m->parameters, (size_t)c->n_layers * PER_LAYER + 3, sizeof *m->parameters));
    m->embedding = add_parameter(m, c->vocab_size, c->dim, "model.embed_tokens.weight");
    for (int32_t i = 0; i < c->n_layers; i++) {
        struct model_layer *layer = &m->layers[i];
        layer->input_norm = add_of_layer(m, i, c->dim, 1, "input_layernorm.weight");
        for (int l = 0; l < N_LINEARS; l++) {
            if (l == LINEAR_GATE)
                list_norms_between(m, i);
            list_linear(m, i, (linear)l);
        }
        if (c->branch_norms)
            layer->mlp_out_norm = add_of_layer(m, i, c->dim, 1, "post_feedforward_layernorm.weight");
    }
    m->final_norm = add_parameter(m, c->dim, 1, "model.norm.weight");
    m->head = c->tied ? m->embedding : add_parameter(m, c->vocab_size, c->dim, "lm_head.weight");
cleanup:
    return status;
}

static void shape_text(const st_tensor *t, char *out, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    for (int i = 0; i < t->n_dims && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
}

static sc_status check_tensor(const model *m, const parameter *p, const st_tensor *t)
{
    const bool vector = p->cols == 1;
    char found[160], expected[64];
    if (t->n_dims != (vector ? 1 : 2) || t->shape[0] != p->rows || (!vector && t->shape[1] != p->cols)) {
        shape_text(t, found, sizeof found);
        if (vector)
            snprintf(expected, sizeof expected, "%lld", (long long)p->rows);
        else
            snprintf(expected, sizeof expected, "%lld, %lld", (long long)p->rows, (long long)p->cols);
        return sc_fail(
            SC_BAD_INPUT,
            "%s: the tensor %s has the shape [%s], but config.json calls for [%s]; the weights and the "
            "config belong to different models.",
            m->folder, p->name, found, expected);
    }
    if (t->type != ST_F32 && t->type != ST_F16 && t->type != ST_BF16)
        return sc_fail(SC_BAD_INPUT,
                       "%s: the tensor %s is of type %s; F32, F16 and BF16 weights are supported.", m->folder,
                       p->name, st_type_name(t->type));
    return SC_OK;
}

/* Tensors that no parameter asks for: some files carry what can be computed or is tied. */
static sc_status check_extra(const model *m, const safetensors *files)
{
    for (size_t i = 0; i < safetensors_count(files); i++) {
        const char *name = safetensors_at(files, i)->name;
        bool known = text_ends(name, ".rotary_emb.inv_freq") || strcmp(name, "lm_head.weight") == 0;
        for (int64_t j = 0; j < m->n_parameters && !known; j++)
            known = strcmp(name, m->parameters[j].name) == 0;
        if (!known)
            return sc_fail(
                SC_BAD_INPUT,
                "%s: the weights hold the tensor %.120s, which a %s of %d layers does not have; config.json "
                "belongs to another model, or this one has parts that are not supported.",
                m->folder, name, m->config.architecture, m->config.n_layers);
    }
    return SC_OK;
}

/* --- values --------------------------------------------------------------------------------------------- */

static size_t parameter_bytes(const model *m, const parameter *p)
{
    return (size_t)p->rows * (size_t)p->cols * dtype_size(m->dtype);
}

size_t weights_place_bytes(const model *m, const parameter *p)
{
    return (parameter_bytes(m, p) + ALIGN - 1) / ALIGN * ALIGN;
}

static bool usable_in_place(const model *m, const st_tensor *t)
{
    return device_on_host(m->device) && t->aligned && t->type == st_type_of(m->dtype);
}

static sc_status copy_tensor(const model *m, const st_tensor *t, void *to)
{
    const ops *o = ops_of(m);
    if (t->type == st_type_of(m->dtype))
        return o->upload(NULL, to, t->data, t->n_bytes);
    sc_status status = SC_OK;
    float *values = NULL;
    uint16_t *rounded = NULL;
    const size_t size = dtype_size(m->dtype);
    SC_TRY(sc_alloc(&values, PIECE, sizeof *values));
    if (m->dtype == DTYPE_BF16)
        SC_TRY(sc_alloc(&rounded, PIECE, sizeof *rounded));
    for (int64_t first = 0; first < t->n_values; first += PIECE) {
        const int64_t n = t->n_values - first < PIECE ? t->n_values - first : PIECE;
        SC_TRY(st_tensor_floats(t, first, n, values));
        if (rounded != NULL)
            for (int64_t i = 0; i < n; i++)
                rounded[i] = f32_to_bf16(values[i]);
        SC_TRY(o->upload(NULL, (char *)to + (size_t)first * size, rounded != NULL ? (void *)rounded : values,
                         (size_t)n * size));
        SC_TRY(o->synchronise(NULL));
    }
cleanup:
    free(values);
    free(rounded);
    return status;
}

/* Checks every tensor against the config, and counts what is used in place and what becomes a copy. */
static sc_status survey(model *m, const safetensors *files)
{
    model_storage *s = storage_of(m);
    sc_status status = SC_OK;
    s->file_type = DTYPE_BF16;
    for (int64_t i = 0; i < m->n_parameters; i++) {
        const parameter *p = &m->parameters[i];
        const st_tensor *t = NULL;
        SC_TRY(safetensors_need(files, p->name, &t));
        SC_TRY(check_tensor(m, p, t));
        if (t->type != ST_BF16)
            s->file_type = DTYPE_F32;
        const int64_t bytes = (int64_t)weights_place_bytes(m, p);
        if (usable_in_place(m, t))
            s->mapped_bytes += bytes;
        else
            s->owned_bytes += bytes;
    }
    SC_TRY(check_extra(m, files));
cleanup:
    return status;
}

static sc_status load_values(model *m, safetensors *files)
{
    model_storage *s = storage_of(m);
    sc_status status = SC_OK;
    size_t used = 0;
    if (s->owned_bytes > 0)
        SC_TRY(ops_of(m)->alloc(&s->owned, (size_t)s->owned_bytes));
    for (int64_t i = 0; i < m->n_parameters; i++) {
        parameter *p = &m->parameters[i];
        const st_tensor *t = safetensors_find(files, p->name);
        if (usable_in_place(m, t)) {
            p->value =
                (void *)(uintptr_t)t->data; /* never written while it is mapped: s->writable is false */
            continue;
        }
        p->value = (char *)s->owned + used;
        used += weights_place_bytes(m, p);
        SC_TRY(check_cancelled());
        SC_TRY(copy_tensor(m, t, p->value));
    }
    s->writable = s->mapped_bytes == 0;
    if (!s->writable)
        s->files = files;
cleanup:
    return status;
}

sc_status weights_make_writable(model *m)
{
    model_storage *s = storage_of(m);
    sc_status status = SC_OK;
    void *block = NULL;
    size_t bytes = 0, used = 0;
    if (s->writable)
        return SC_OK;
    for (int64_t i = 0; i < m->n_parameters; i++)
        bytes += weights_place_bytes(m, &m->parameters[i]);
    SC_TRY(ops_of(m)->alloc(&block, bytes));
    for (int64_t i = 0; i < m->n_parameters; i++) {
        parameter *p = &m->parameters[i];
        SC_TRY(ops_of(m)->upload(NULL, (char *)block + used, p->value, parameter_bytes(m, p)));
        used += weights_place_bytes(m, p);
    }
    used = 0;
    for (int64_t i = 0; i < m->n_parameters; i++) {
        m->parameters[i].value = (char *)block + used;
        used += weights_place_bytes(m, &m->parameters[i]);
    }
    ops_of(m)->release(s->owned);
    s->owned = block;
    block = NULL;
    safetensors_close(s->files);
    s->files = NULL;
    s->writable = true;
cleanup:
    if (block != NULL)
        ops_of(m)->release(block);
    return status;
}

/* --- rotary frequencies --------------------------------------------------------------------------------- */

/* theta^(-2i/d) rounded to float as transformers has it; Llama 3's scaling stretches the long waves by
 * `factor` and blends in between (Llama 3.1 model card). */
static void find_inv_freq(const model_config *c, double theta, bool llama3, float *out)
{
    for (int32_t i = 0; i < c->head_dim / 2; i++) {
        const float power = (float)pow(theta, (double)((float)(2 * i) / (float)c->head_dim));
        float f = 1.0f / power;
        if (llama3) {
            const double wave = 2 * M_PI / (double)f;
            const double longest = c->rope_original / c->rope_low, shortest = c->rope_original / c->rope_high;
            if (wave > longest) {
                f = (float)((double)f / c->rope_factor);
            } else if (wave >= shortest) {
                const double s = (c->rope_original / wave - c->rope_low) / (c->rope_high - c->rope_low);
                f = (float)((1 - s) * (double)f / c->rope_factor + s * (double)f);
            }
        }
        out[i] = f;
    }
}

sc_status weights_inv_freq(model *m)
{
    const model_config *c = &m->config;
    const size_t n = (size_t)rope_sets(c) * (size_t)(c->head_dim / 2);
    sc_status status = SC_OK;
    float *host = NULL;
    SC_TRY(sc_alloc(&host, n, sizeof *host));
    find_inv_freq(c, c->rope_theta, c->rope_llama3, host);
    if (rope_sets(c) > 1)
        find_inv_freq(c, c->rope_theta_sliding, false, host + c->head_dim / 2);
    SC_TRY(ops_of(m)->alloc((void **)&m->inv_freq, n * sizeof *host));
    SC_TRY(ops_of(m)->upload(NULL, m->inv_freq, host, n * sizeof *host));
cleanup:
    free(host);
    return status;
}

/* --- the model --------------------------------------------------------------------------------------------- */

sc_status weights_begin(const char *from, device *d, model **out)
{
    sc_status status = SC_OK;
    model *m = NULL;
    SC_TRY(device_runs_models(d));
    SC_TRY(sc_alloc(&m, 1, sizeof *m));
    m->device = d;
    m->dtype = d->dtype;
    SC_TRY(sc_alloc(&m->storage, 1, sizeof(model_storage)));
    SC_TRY(sc_strdup(&m->folder, from));
    *out = m;
    m = NULL;
cleanup:
    model_close(m);
    return status;
}

static sc_status open_outline(const char *folder, device *d, model **out, safetensors **files)
{
    sc_status status = SC_OK;
    model *m = NULL;
    SC_TRY(weights_begin(folder, d, &m));
    SC_TRY(model_config_read(folder, &m->config));
    SC_TRY(weights_list(m));
    SC_TRY(safetensors_open(folder, files));
    SC_TRY(survey(m, *files));
    *out = m;
    m = NULL;
cleanup:
    model_close(m);
    return status;
}

sc_status model_outline(const char *folder, device *d, model **out)
{
    safetensors *files = NULL;
    *out = NULL;
    const sc_status status = open_outline(folder, d, out, &files);
    safetensors_close(files);
    return status;
}

sc_status model_open(const char *folder, device *d, model **out)
{
    sc_status status = SC_OK;
    safetensors *files = NULL;
    model *m = NULL;
    identity *who = NULL;
    *out = NULL;
    SC_TRY(open_outline(folder, d, &m, &files));
    SC_TRY(identity_begin(files, &who));
    SC_TRY(load_values(m, files));
    SC_TRY(weights_inv_freq(m));
    SC_TRY(identity_end(&who, m->sha256));
    if (storage_of(m)->files == files)
        files = NULL;
    *out = m;
    m = NULL;
cleanup:
    identity_end(&who, NULL); /* before the files that it reads are closed */
    if (m != NULL && storage_of(m)->files == files)
        files = NULL; /* model_close has it */
    safetensors_close(files);
    model_close(m);
    return status;
}

void model_close(model *m)
{
    if (m == NULL)
        return;
    if (m->storage != NULL) {
        model_storage *s = storage_of(m);
        workspace *ws = &s->ws;
        buffer *all[] = {&ws->ids,         &ws->positions,   &ws->cu_seqlens,   &ws->row_keys,
                         &ws->cache_rows,  &ws->shared_rows, &ws->kv_rows,      &ws->kv_offsets,
                         &ws->activations, &ws->hidden,      &ws->scratch,      &ws->rows,
                         &ws->gathered,    &ws->logits,      &ws->logits_model, &ws->ids_out,
                         &ws->losses,      &ws->gradients};
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
            buffer_release(m, all[i]);
        lora_destroy(m);
        ops_of(m)->release(m->inv_freq);
        ops_of(m)->release(s->owned);
        ops_of(m)->release(s->grads);
        safetensors_close(s->files);
        free(s);
    }
    free(m->parameters);
    free(m->layers);
    free(m->folder);
    free(m);
}

sc_status model_check_tokenizer(const model *m, const tokenizer *t)
{
    if (tokenizer_vocab_size(t) > m->config.vocab_size)
        return sc_fail(
            SC_BAD_INPUT,
            "%s: the tokenizer has %d ids, but the weights have rows for only %d; put the tokenizer.json "
            "that belongs to these weights beside them.",
            m->folder, tokenizer_vocab_size(t), m->config.vocab_size);
    return SC_OK;
}

dtype model_file_dtype(const model *m)
{
    return storage_of(m)->file_type;
}

sc_status model_grads_create(model *m)
{
    model_storage *s = storage_of(m);
    sc_status status = SC_OK;
    int64_t n = 0;
    SC_TRY(weights_make_writable(m));
    if (s->grads != NULL)
        return model_grads_zero(m);
    for (int64_t i = 0; i < m->n_parameters; i++)
        n += m->parameters[i].rows * m->parameters[i].cols;
    SC_TRY(ops_of(m)->alloc((void **)&s->grads, (size_t)n * sizeof(float)));
    s->n_grads = n;
    n = 0;
    for (int64_t i = 0; i < m->n_parameters; i++) {
        m->parameters[i].grad = s->grads + n;
        n += m->parameters[i].rows * m->parameters[i].cols;
    }
    SC_TRY(model_grads_zero(m));
cleanup:
    return status;
}

sc_status model_grads_zero(model *m)
{
    model_storage *s = storage_of(m);
    sc_status status = SC_OK;
    if (s->grads != NULL)
        SC_TRY(ops_of(m)->fill_zero(NULL, s->grads, (size_t)s->n_grads * sizeof(float)));
    if (m->lora != NULL)
        SC_TRY(ops_of(m)->fill_zero(NULL, m->lora->grads, (size_t)m->lora->n_values * sizeof(float)));
cleanup:
    return status;
}
