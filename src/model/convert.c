/* GGUF -> Hugging Face folder. Names and metadata keys: gguf-py constants.py; the row order of q and k:
 * LlamaModel.permute in llama.cpp's convert_hf_to_gguf.py, undone here; llama3 frequency factors:
 * generate_extra_tensors there. */
#include "model/convert.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "text/tokenizer.h"

#define MAX_LAYERS 4096
#define CHUNK_BYTES (4 << 20)
#define LLAMA3_LOW 1.0
#define LLAMA3_HIGH 4.0
#define LLAMA3_ORIGINAL 8192.0

typedef struct plan_item {
    const gguf_tensor *tensor;
    int64_t rotated; /* rows of a head whose RoPE pairs stand side by side; 0: rows as they are */
} plan_item;

typedef struct conversion {
    const char *path;
    gguf *g;
    int64_t layers, dim, ffn, heads, kv_heads, head_dim, vocab, context;
    int64_t bos, eos, eot, pad, unk; /* -1: none */
    double eps, theta, rope_factor;  /* rope_factor 0: no llama3 scaling */
    bool tied;
    st_plan *plan;
    plan_item *items;
    size_t n_items;
    const char *const *tokens;
    size_t n_tokens;
} conversion;

/* ---- settings ---- */

static sc_status positive(const conversion *c, const char *key, int64_t fallback, int64_t *out)
{
    sc_status status = fallback > 0 ? gguf_get_int(c->g, key, fallback, out) : gguf_need_int(c->g, key, out);
    if (status == SC_OK && (*out < 1 || *out > INT32_MAX))
        return sc_fail(SC_BAD_INPUT, "%s: %s is %lld, which is out of range", c->path, key, (long long)*out);
    return status;
}

static sc_status token_id(const conversion *c, const char *key, int64_t *out)
{
    sc_status status = gguf_get_int(c->g, key, -1, out);
    if (status == SC_OK && (*out < -1 || *out >= c->vocab))
        return sc_fail(SC_BAD_INPUT, "%s: %s is %lld, outside the vocabulary of %lld", c->path, key,
                       (long long)*out, (long long)c->vocab);
    return status;
}

static sc_status refuse_unknown_kinds(const conversion *c)
{
    const char *architecture, *scaling;
    int64_t experts;
    sc_status status;
    SC_TRY(gguf_need_string(c->g, "general.architecture", &architecture));
    if (strcmp(architecture, "llama") != 0) {
        status =
            sc_fail(SC_BAD_INPUT, "%s: architecture \"%s\" is not converted from GGUF; only \"llama\" is",
                    c->path, architecture);
        goto cleanup;
    }
    SC_TRY(gguf_get_int(c->g, "llama.expert_count", 0, &experts));
    SC_TRY(gguf_get_string(c->g, "llama.rope.scaling.type", "none", &scaling));
    if (experts != 0)
        status = sc_fail(SC_BAD_INPUT, "%s: a mixture of %lld experts is not converted", c->path,
                         (long long)experts);
    else if (strcmp(scaling, "none") != 0)
        status = sc_fail(SC_BAD_INPUT, "%s: RoPE scaling \"%s\" is not converted", c->path, scaling);
cleanup:
    return status;
}

static sc_status read_settings(conversion *c)
{
    sc_status status;
    int64_t rope_dims;
    SC_TRY(refuse_unknown_kinds(c));
    SC_TRY(gguf_need_strings(c->g, "tokenizer.ggml.tokens", &c->tokens, &c->n_tokens));
    SC_TRY(positive(c, "llama.block_count", 0, &c->layers));
    SC_TRY(positive(c, "llama.context_length", 0, &c->context));
    SC_TRY(positive(c, "llama.embedding_length", 0, &c->dim));
    SC_TRY(positive(c, "llama.feed_forward_length", 0, &c->ffn));
    SC_TRY(positive(c, "llama.attention.head_count", 0, &c->heads));
    SC_TRY(positive(c, "llama.attention.head_count_kv", c->heads, &c->kv_heads));
    SC_TRY(positive(c, "llama.attention.key_length", c->dim / c->heads > 0 ? c->dim / c->heads : 1,
                    &c->head_dim));
    SC_TRY(positive(c, "llama.rope.dimension_count", c->head_dim, &rope_dims));
    SC_TRY(positive(c, "llama.vocab_size", (int64_t)c->n_tokens, &c->vocab));
    SC_TRY(gguf_need_number(c->g, "llama.attention.layer_norm_rms_epsilon", &c->eps));
    SC_TRY(gguf_get_number(c->g, "llama.rope.freq_base", 10000.0, &c->theta));
    SC_TRY(token_id(c, "tokenizer.ggml.bos_token_id", &c->bos));
    SC_TRY(token_id(c, "tokenizer.ggml.eos_token_id", &c->eos));
    SC_TRY(token_id(c, "tokenizer.ggml.eot_token_id", &c->eot));
    SC_TRY(token_id(c, "tokenizer.ggml.padding_token_id", &c->pad));
    SC_TRY(token_id(c, "tokenizer.ggml.unknown_token_id", &c->unk));
    if (c->layers > MAX_LAYERS || c->heads % c->kv_heads != 0 || c->head_dim % 2 != 0 ||
        rope_dims != c->head_dim || (int64_t)c->n_tokens != c->vocab || !(c->eps > 0 && c->eps < 1) ||
        !(c->theta >= 1 && isfinite(c->theta)))
        status = sc_fail(
            SC_BAD_INPUT,
            "%s: the settings do not fit together (%lld layers, %lld heads, %lld kv heads, head_dim %lld, "
            "%lld of them rotated, %lld tokens of %zu, eps %g, theta %g)",
            c->path, (long long)c->layers, (long long)c->heads, (long long)c->kv_heads,
            (long long)c->head_dim, (long long)rope_dims, (long long)c->vocab, c->n_tokens, c->eps, c->theta);
cleanup:
    return status;
}

/* rope_freqs holds one divisor per frequency. Llama 3's rule gives 1 for short waves, the factor for
 * long ones and a blend between; the factor is read off and the rule checked on every frequency. */
static sc_status read_rope_factors(conversion *c)
{
    const gguf_tensor *t = gguf_tensor_find(c->g, "rope_freqs.weight");
    if (!t)
        return SC_OK;
    sc_status status;
    float *factors = NULL;
    int64_t n = c->head_dim / 2;
    bool fits = t->n_rows == 1 && t->row_values == n;
    if (fits) {
        SC_TRY(sc_alloc(&factors, (size_t)n, sizeof *factors));
        SC_TRY(gguf_read_rows(t, 0, 1, factors));
        c->rope_factor = factors[n - 1];
    }
    fits = fits && c->rope_factor >= 1 && isfinite(c->rope_factor);
    for (int64_t i = 0; fits && i < n; i++) {
        double wavelength = 2 * M_PI * pow(c->theta, 2.0 * (double)i / (double)c->head_dim);
        double expected = 1;
        if (wavelength > LLAMA3_ORIGINAL / LLAMA3_LOW) {
            expected = c->rope_factor;
        } else if (wavelength >= LLAMA3_ORIGINAL / LLAMA3_HIGH) {
            double smooth = (LLAMA3_ORIGINAL / wavelength - LLAMA3_LOW) / (LLAMA3_HIGH - LLAMA3_LOW);
            expected = 1 / ((1 - smooth) / c->rope_factor + smooth);
        }
        fits = fabs(factors[i] - expected) <= 1e-3 * expected;
    }
    status = fits ? SC_OK
                  : sc_fail(SC_BAD_INPUT,
                            "%s: the RoPE factors in rope_freqs.weight are not those of Llama 3", c->path);
cleanup:
    free(factors);
    return status;
}

/* ---- tensors ---- */

static sc_status add_tensor(conversion *c, const char *from, const char *to, int64_t rows, int64_t cols,
                            int64_t rotated)
{
    sc_status status;
    const gguf_tensor *t;
    SC_TRY(gguf_tensor_need(c->g, from, &t));
    if (t->row_values != cols || t->n_rows != rows) {
        status =
            sc_fail(SC_BAD_INPUT, "%s: tensor %s is %lld x %lld; the settings say %lld x %lld", c->path, from,
                    (long long)t->n_rows, (long long)t->row_values, (long long)rows, (long long)cols);
        goto cleanup;
    }
    char *name;
    SC_TRY(sc_strdup(&name, to));
    st_plan *p = &c->plan[c->n_items];
    *p = (st_plan){.name = name, .type = ST_F32, .n_dims = rows == 1 && t->n_dims == 1 ? 1 : 2};
    p->shape[0] = p->n_dims == 1 ? cols : rows;
    p->shape[1] = cols;
    c->items[c->n_items++] = (plan_item){t, rotated};
cleanup:
    return status;
}

static sc_status plan_layer(conversion *c, int64_t layer)
{
    const int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const struct {
        const char *from, *to;
        int64_t rows, cols, rotated;
    } parts[] = {
        {"attn_norm", "input_layernorm", 1, c->dim, 0},
        {"attn_q", "self_attn.q_proj", q, c->dim, c->head_dim},
        {"attn_k", "self_attn.k_proj", kv, c->dim, c->head_dim},
        {"attn_v", "self_attn.v_proj", kv, c->dim, 0},
        {"attn_output", "self_attn.o_proj", c->dim, q, 0},
        {"ffn_norm", "post_attention_layernorm", 1, c->dim, 0},
        {"ffn_gate", "mlp.gate_proj", c->ffn, c->dim, 0},
        {"ffn_up", "mlp.up_proj", c->ffn, c->dim, 0},
        {"ffn_down", "mlp.down_proj", c->dim, c->ffn, 0},
    };
    sc_status status = SC_OK;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && status == SC_OK; i++) {
        char from[96], to[128];
        snprintf(from, sizeof from, "blk.%lld.%s.weight", (long long)layer, parts[i].from);
        snprintf(to, sizeof to, "model.layers.%lld.%s.weight", (long long)layer, parts[i].to);
        status = add_tensor(c, from, to, parts[i].rows, parts[i].cols, parts[i].rotated);
    }
    return status;
}

/* Every tensor of the file gets its place; one that has none would change the model if dropped. */
static sc_status plan_tensors(conversion *c)
{
    sc_status status;
    size_t capacity = 3 + 9 * (size_t)c->layers, extra = c->rope_factor > 0;
    c->tied = gguf_tensor_find(c->g, "output.weight") == NULL;
    SC_TRY(sc_alloc(&c->plan, capacity, sizeof *c->plan));
    SC_TRY(sc_alloc(&c->items, capacity, sizeof *c->items));
    SC_TRY(add_tensor(c, "token_embd.weight", "model.embed_tokens.weight", c->vocab, c->dim, 0));
    for (int64_t i = 0; i < c->layers; i++)
        SC_TRY(plan_layer(c, i));
    SC_TRY(add_tensor(c, "output_norm.weight", "model.norm.weight", 1, c->dim, 0));
    if (!c->tied)
        SC_TRY(add_tensor(c, "output.weight", "lm_head.weight", c->vocab, c->dim, 0));
    for (size_t i = 0; i < gguf_n_tensors(c->g) && c->n_items + extra != gguf_n_tensors(c->g); i++) {
        const gguf_tensor *t = gguf_tensor_at(c->g, i);
        bool used = strcmp(t->name, "rope_freqs.weight") == 0;
        for (size_t k = 0; k < c->n_items && !used; k++)
            used = c->items[k].tensor == t;
        if (!used) {
            status = sc_fail(SC_BAD_INPUT, "%s: tensor %s has no place in a Llama model", c->path, t->name);
            goto cleanup;
        }
    }
cleanup:
    return status;
}

/* ggml's rows of a head: pair i at 2i and 2i+1; Hugging Face's: at i and i + head_dim/2. */
static void unrotate(const float *from, float *to, int64_t head_dim, int64_t cols)
{
    for (int64_t i = 0; i < head_dim / 2; i++) {
        for (int64_t s = 0; s < 2; s++)
            memcpy(to + (s * head_dim / 2 + i) * cols, from + (2 * i + s) * cols, (size_t)cols * sizeof *to);
    }
}

static sc_status write_tensor(const plan_item *item, safetensors_writer *w, progress *p)
{
    const gguf_tensor *t = item->tensor;
    sc_status status;
    float *rows = NULL, *turned = NULL;
    int64_t step = CHUNK_BYTES / (int64_t)sizeof(float) / t->row_values;
    if (item->rotated > 0)
        step = item->rotated;
    else if (step < 1)
        step = 1;
    if (step > t->n_rows)
        step = t->n_rows;
    SC_TRY(sc_alloc(&rows, (size_t)step * (size_t)t->row_values, sizeof *rows));
    SC_TRY(sc_alloc(&turned, (size_t)step * (size_t)t->row_values, sizeof *turned));
    for (int64_t first = 0; first < t->n_rows; first += step) {
        int64_t n = t->n_rows - first < step ? t->n_rows - first : step;
        SC_TRY(check_cancelled());
        SC_TRY(gguf_read_rows(t, first, n, rows));
        if (item->rotated > 0)
            unrotate(rows, turned, item->rotated, t->row_values);
        SC_TRY(safetensors_writer_data(w, item->rotated > 0 ? turned : rows,
                                       (size_t)n * (size_t)t->row_values * sizeof *rows));
        progress_add(p, n * t->row_values * (int64_t)sizeof *rows);
    }
cleanup:
    free(rows);
    free(turned);
    return status;
}

static sc_status write_weights(const conversion *c, const char *path)
{
    sc_status status;
    safetensors_writer *w = NULL;
    int64_t total = 0;
    for (size_t i = 0; i < c->n_items; i++)
        total += c->items[i].tensor->n_rows * c->items[i].tensor->row_values * (int64_t)sizeof(float);
    progress *p = progress_begin("convert", "bytes", total);
    SC_TRY(safetensors_writer_open(path, c->plan, c->n_items, 0, &w));
    for (size_t i = 0; i < c->n_items; i++)
        SC_TRY(write_tensor(&c->items[i], w, p));
    SC_TRY(safetensors_writer_commit(&w));
cleanup:
    safetensors_writer_discard(&w);
    progress_end(p);
    return status;
}

/* ---- the small files ---- */

static sc_status write_object(const char *folder, const char *name, json_t *object, int fault)
{
    char *path = path_join(folder, name);
    sc_status status = !object || fault || !path
                           ? sc_fail(SC_MEMORY, "%s/%s: memory does not suffice", folder, name)
                           : json_write_file(path, object);
    free(path);
    json_decref(object);
    return status;
}

static int set_id(json_t *object, const char *key, int64_t id)
{
    return id < 0 ? 0 : json_object_set_new(object, key, json_integer(id));
}

static int set_eos(const conversion *c, json_t *object)
{
    if (c->eos < 0 || c->eot < 0 || c->eot == c->eos)
        return set_id(object, "eos_token_id", c->eos >= 0 ? c->eos : c->eot);
    return json_object_set_new(object, "eos_token_id",
                               json_pack("[I, I]", (json_int_t)c->eos, (json_int_t)c->eot));
}

static sc_status write_config(const conversion *c, const char *folder)
{
    json_t *config = json_pack(
        "{s:[s], s:b, s:f, s:I, s:s, s:I, s:f, s:I, s:I, s:b, s:s, s:I, s:I, s:I, s:f, s:f, s:b, s:s, s:b, "
        "s:I}",
        "architectures", "LlamaForCausalLM", "attention_bias", 0, "attention_dropout", 0.0, "head_dim",
        (json_int_t)c->head_dim, "hidden_act", "silu", "hidden_size", (json_int_t)c->dim, "initializer_range",
        0.02, "intermediate_size", (json_int_t)c->ffn, "max_position_embeddings", (json_int_t)c->context,
        "mlp_bias", 0, "model_type", "llama", "num_attention_heads", (json_int_t)c->heads,
        "num_hidden_layers", (json_int_t)c->layers, "num_key_value_heads", (json_int_t)c->kv_heads,
        "rms_norm_eps", c->eps, "rope_theta", c->theta, "tie_word_embeddings", c->tied, "torch_dtype",
        "float32", "use_cache", 1, "vocab_size", (json_int_t)c->vocab);
    int fault = set_id(config, "bos_token_id", c->bos) | set_eos(c, config) |
                set_id(config, "pad_token_id", c->pad) | set_id(config, "unk_token_id", c->unk);
    json_t *scaling =
        c->rope_factor > 0
            ? json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor", c->rope_factor,
                        "low_freq_factor", LLAMA3_LOW, "high_freq_factor", LLAMA3_HIGH,
                        "original_max_position_embeddings", (json_int_t)LLAMA3_ORIGINAL)
            : json_null();
    fault |= json_object_set_new(config, "rope_scaling", scaling);
    return write_object(folder, "config.json", config, fault);
}

static sc_status write_generation_config(const conversion *c, const char *folder)
{
    json_t *config = json_object();
    int fault =
        set_id(config, "bos_token_id", c->bos) | set_eos(c, config) | set_id(config, "pad_token_id", c->pad);
    return write_object(folder, "generation_config.json", config, fault);
}

static int set_token(const conversion *c, json_t *object, const char *key, int64_t id)
{
    return id < 0 ? 0 : json_object_set_new(object, key, json_string(c->tokens[id]));
}

static int set_tokens(const conversion *c, json_t *object)
{
    return set_token(c, object, "bos_token", c->bos) | set_token(c, object, "eos_token", c->eos) |
           set_token(c, object, "pad_token", c->pad) | set_token(c, object, "unk_token", c->unk);
}

static sc_status write_tokenizer_config(const conversion *c, const char *folder)
{
    sc_status status;
    const char *template_text;
    char *path = NULL;
    bool add_bos;
    SC_TRY(gguf_get_string(c->g, "tokenizer.chat_template", NULL, &template_text));
    SC_TRY(gguf_get_bool(c->g, "tokenizer.ggml.add_bos_token", false, &add_bos));
    if (template_text && !utf8_valid(template_text, strlen(template_text))) {
        status = sc_fail(SC_BAD_INPUT, "%s: the chat template is not UTF-8 text", c->path);
        goto cleanup;
    }
    json_t *config =
        json_pack("{s:b, s:b, s:I, s:s}", "add_bos_token", add_bos, "clean_up_tokenization_spaces", 0,
                  "model_max_length", (json_int_t)c->context, "tokenizer_class", "PreTrainedTokenizerFast");
    int fault = set_tokens(c, config);
    if (template_text)
        fault |= json_object_set_new(config, "chat_template", json_string(template_text));
    SC_TRY(write_object(folder, "tokenizer_config.json", config, fault));
    json_t *special = json_object();
    fault = set_tokens(c, special);
    SC_TRY(write_object(folder, "special_tokens_map.json", special, fault));
    if (template_text) {
        path = path_join(folder, "chat_template.jinja");
        status = path ? file_write_all(path, template_text, strlen(template_text))
                      : sc_fail(SC_MEMORY, "%s: memory does not suffice", folder);
    }
cleanup:
    free(path);
    return status;
}

static sc_status write_tokenizer(const conversion *c, const char *folder)
{
    sc_status status;
    tokenizer *t = NULL;
    int64_t *wide = NULL;
    int32_t *types = NULL;
    char *path = NULL;
    const char *const *merges;
    const char *kind, *pre;
    size_t n_merges;
    SC_TRY(gguf_need_string(c->g, "tokenizer.ggml.model", &kind));
    if (strcmp(kind, "gpt2") != 0) {
        status = sc_fail(SC_BAD_INPUT,
                         "%s: tokenizer \"%s\" is not converted from GGUF; only byte-level BPE (\"gpt2\") is",
                         c->path, kind);
        goto cleanup;
    }
    SC_TRY(gguf_get_string(c->g, "tokenizer.ggml.pre", "gpt-2", &pre));
    SC_TRY(gguf_need_strings(c->g, "tokenizer.ggml.merges", &merges, &n_merges));
    SC_TRY(sc_alloc(&wide, c->n_tokens, sizeof *wide));
    SC_TRY(sc_alloc(&types, c->n_tokens, sizeof *types));
    SC_TRY(gguf_array_ints(c->g, "tokenizer.ggml.token_type", wide, c->n_tokens));
    for (size_t i = 0; i < c->n_tokens; i++)
        types[i] = wide[i] > INT32_MAX || wide[i] < 0 ? 0 : (int32_t)wide[i];
    SC_TRY(tokenizer_from_gguf(c->tokens, types, c->n_tokens, merges, n_merges, pre, &t));
    path = path_join(folder, "tokenizer.json");
    status = path ? tokenizer_save(t, path) : sc_fail(SC_MEMORY, "%s: memory does not suffice", folder);
cleanup:
    free(path);
    free(wide);
    free(types);
    tokenizer_close(t);
    return status;
}

static sc_status write_folder(const conversion *c, const char *folder)
{
    sc_status status;
    char *weights = path_join(folder, "model.safetensors");
    if (!weights)
        return sc_fail(SC_MEMORY, "%s: memory does not suffice", folder);
    SC_TRY(write_tokenizer(c, folder)); /* the likeliest to fail, so first */
    SC_TRY(write_tokenizer_config(c, folder));
    SC_TRY(write_config(c, folder));
    SC_TRY(write_generation_config(c, folder));
    SC_TRY(write_weights(c, weights));
cleanup:
    free(weights);
    return status;
}

sc_status model_convert_gguf(const char *gguf_path, const char *folder)
{
    sc_status status;
    conversion c = {.path = gguf_path};
    strbuf temporary = {0};
    bool begun = false;
    SC_TRY(gguf_open(gguf_path, &c.g));
    SC_TRY(read_settings(&c));
    SC_TRY(read_rope_factors(&c));
    SC_TRY(plan_tensors(&c));
    strbuf_printf(&temporary, "%s.tmp", folder);
    SC_TRY(strbuf_status(&temporary));
    if (rmdir(folder) != 0 && errno != ENOENT) { /* an empty folder may go; a full one stays */
        status = sc_fail_errno(SC_IO, "%s: the folder is there already; remove it or give another", folder);
        goto cleanup;
    }
    SC_TRY(file_remove_tree(temporary.data));
    begun = true;
    SC_TRY(file_make_dirs(temporary.data));
    SC_TRY(write_folder(&c, temporary.data));
    if (rename(temporary.data, folder) != 0)
        status = sc_fail_errno(SC_IO, "%s: cannot rename the finished folder", folder);
cleanup:
    if (status != SC_OK && begun)
        file_remove_tree(temporary.data);
    for (size_t i = 0; i < c.n_items; i++)
        free((char *)c.plan[i].name);
    free(c.plan);
    free(c.items);
    strbuf_free(&temporary);
    gguf_close(c.g);
    return status;
}
