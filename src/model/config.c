/* config.json and generation_config.json of a model folder, as transformers 4 and 5 write them.
 *
 * What an architecture's name stands for is a row of the table `families`; the rest of the engine knows features only.
 *
 * transformers 4 has `rope_theta` and `rope_scaling` at the top level, transformers 5 has both in
 * `rope_parameters`. What would change the computation and is not built here is refused by name: a model
 * that runs a little wrong is worse than one that does not start. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "model/model.h"

enum { MAX_DIM = 1 << 20, MAX_VOCAB = 1 << 24 };

/* Features of an architecture, and what transformers takes where its config.json says nothing. */
typedef struct family {
    const char *architecture;
    bool qkv_bias, qk_norm;
    bool gemma; /* (1 + w) norms, also of branches, and scaled embeddings; the activation has another key */
    int32_t period; /* all layers but the last of every so many slide; 0: none does, a window must be off */
    double attention_cap, logit_cap; /* 0: the family has no caps */
    int32_t head_dim;                /* 0: hidden_size / num_attention_heads */
    int32_t max_positions;
    double theta, theta_sliding; /* the latter 0: as theta */
    bool tied;
} family;

static const family families[] = {
    {.architecture = "LlamaForCausalLM", .max_positions = 2048, .theta = 1e4},
    {.architecture = "Qwen2ForCausalLM", .qkv_bias = true, .max_positions = 32768, .theta = 1e4},
    {.architecture = "Qwen3ForCausalLM",
     .qk_norm = true,
     .head_dim = 128,
     .max_positions = 32768,
     .theta = 1e4},
    {.architecture = "Gemma2ForCausalLM",
     .gemma = true,
     .period = 2,
     .attention_cap = 50,
     .logit_cap = 30,
     .head_dim = 256,
     .max_positions = 8192,
     .theta = 1e4,
     .tied = true},
    {.architecture = "Gemma3ForCausalLM",
     .qk_norm = true,
     .gemma = true,
     .period = 6,
     .head_dim = 256,
     .max_positions = 131072,
     .theta = 1e6,
     .theta_sliding = 1e4,
     .tied = true},
};
enum { N_FAMILIES = sizeof families / sizeof families[0] };
#define MODELS                                                                                               \
    "LlamaForCausalLM (Llama, SmolLM2), Qwen2ForCausalLM (Qwen2.5), Qwen3ForCausalLM, "                      \
    "Gemma2ForCausalLM and Gemma3ForCausalLM"

static sc_status need_count(const json_t *root, const char *key, const char *path, int64_t highest,
                            int32_t *out)
{
    int64_t value = 0;
    sc_status status = json_need_int(root, key, path, &value);
    if (status != SC_OK)
        return status;
    if (value < 1 || value > highest)
        return sc_fail(SC_BAD_INPUT, "%s: \"%s\" is %lld, but it must lie between 1 and %lld.", path, key,
                       (long long)value, (long long)highest);
    *out = (int32_t)value;
    return SC_OK;
}

static sc_status get_count(const json_t *root, const char *key, const char *path, int64_t highest,
                           int32_t fallback, int32_t *out)
{
    const json_t *value = json_object_get(root, key);
    if (value == NULL || json_is_null(value)) {
        *out = fallback;
        return SC_OK;
    }
    return need_count(root, key, path, highest, out);
}

/* A switch that would change the computation must be absent, null or off. */
static sc_status refuse_true(const json_t *root, const char *key, const char *path)
{
    bool value = false;
    sc_status status = json_get_bool(root, key, path, false, &value);
    if (status == SC_OK && value)
        status = sc_fail(SC_BAD_INPUT,
                         "%s: \"%s\" is true; only models without it are supported, choose another model.",
                         path, key);
    return status;
}

static sc_status refuse_present(const json_t *root, const char *key, const char *path)
{
    const json_t *value = json_object_get(root, key);
    if (value == NULL || json_is_null(value))
        return SC_OK;
    return sc_fail(SC_BAD_INPUT, "%s: \"%s\" is set and is not supported; choose another model.", path, key);
}

static sc_status read_architecture(const json_t *root, const char *path, const family **out)
{
    const json_t *list = json_object_get(root, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    if (name == NULL)
        return sc_fail(SC_BAD_INPUT,
                       "%s: \"architectures\" names no model class; those supported are " MODELS ".", path);
    for (size_t i = 0; i < N_FAMILIES; i++)
        if (strcmp(name, families[i].architecture) == 0) {
            *out = &families[i];
            return SC_OK;
        }
    return sc_fail(
        SC_BAD_INPUT,
        "%s: the architecture \"%.60s\" is not supported; the models that can be opened are " MODELS ".",
        path, name);
}

static sc_status read_activation(const json_t *root, const char *path, const family *f, model_config *out)
{
    const char *key = f->gemma ? "hidden_activation" : "hidden_act", *act = NULL;
    sc_status status = json_get_string(root, key, path, f->gemma ? "gelu_pytorch_tanh" : "silu", &act);
    if (status != SC_OK)
        return status;
    if (strcmp(act, "silu") == 0 || strcmp(act, "swish") == 0)
        out->act = ACT_SILU;
    else if (strcmp(act, "gelu_pytorch_tanh") == 0 || strcmp(act, "gelu_new") == 0)
        out->act = ACT_GELU_TANH;
    else
        return sc_fail(SC_BAD_INPUT,
                       "%s: the activation \"%.40s\" in \"%s\" is not supported "
                       "(silu and gelu_pytorch_tanh are).",
                       path, act, key);
    return SC_OK;
}

static sc_status positive(double value, const char *key, const char *path)
{
    if (!(value > 0 && value < 1e300))
        return sc_fail(SC_BAD_INPUT, "%s: \"%s\" is %g, but it must be a positive number.", path, key, value);
    return SC_OK;
}

/* The Llama 3 frequency scaling, Llama 3.1 model card and transformers' modeling_rope_utils. */
static sc_status read_llama3(const json_t *rope, const char *path, model_config *out)
{
    sc_status status = SC_OK;
    SC_TRY(json_need_number(rope, "factor", path, &out->rope_factor));
    SC_TRY(json_need_number(rope, "low_freq_factor", path, &out->rope_low));
    SC_TRY(json_need_number(rope, "high_freq_factor", path, &out->rope_high));
    SC_TRY(json_need_number(rope, "original_max_position_embeddings", path, &out->rope_original));
    SC_TRY(positive(out->rope_factor, "factor", path));
    SC_TRY(positive(out->rope_low, "low_freq_factor", path));
    SC_TRY(positive(out->rope_original, "original_max_position_embeddings", path));
    if (!(out->rope_high > out->rope_low && out->rope_high < 1e300))
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s: \"high_freq_factor\" (%g) must be above \"low_freq_factor\" (%g).",
                       path, out->rope_high, out->rope_low));
    out->rope_llama3 = true;
cleanup:
    return status;
}

/* One set of settings: rope_parameters or rope_scaling, or what stands in them for one type of layer. */
static sc_status read_rope_set(const json_t *rope, const char *path, bool llama3_allowed, double *theta,
                               model_config *out)
{
    sc_status status = SC_OK;
    const char *type = NULL;
    double partial = 1;
    if (!json_is_object(rope))
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s: the rope settings must be an object or null.", path));
    SC_TRY(json_get_number(rope, "rope_theta", path, *theta, theta));
    SC_TRY(json_get_number(rope, "partial_rotary_factor", path, 1, &partial));
    SC_TRY(json_get_string(rope, "type", path, "default", &type));
    SC_TRY(json_get_string(rope, "rope_type", path, type, &type));
    if (strcmp(type, "llama3") == 0 && llama3_allowed)
        SC_TRY(read_llama3(rope, path, out));
    else if (strcmp(type, "default") != 0)
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s: the rope type \"%.40s\" is not supported (default%s).", path, type,
                       llama3_allowed ? " and llama3 are" : " is"));
    if (partial != 1)
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s: \"partial_rotary_factor\" is %g; only 1 is supported.", path,
                       partial));
cleanup:
    return status;
}

static sc_status read_rope(const json_t *root, const char *path, const family *f, model_config *out)
{
    sc_status status = SC_OK;
    const json_t *parameters = json_object_get(root, "rope_parameters");
    const json_t *scaling = json_object_get(root, "rope_scaling");
    const json_t *rope = json_is_object(parameters) ? parameters : scaling;
    const json_t *sliding = json_object_get(rope, "sliding_attention");
    const json_t *full = json_object_get(rope, "full_attention");
    double partial = 1;

    /* The family's own default where no place names it. */
    SC_TRY(json_get_number(root, "rope_theta", path, f->theta, &out->rope_theta));
    SC_TRY(json_get_number(root, "partial_rotary_factor", path, 1.0, &partial));
    if (partial != 1)
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s: \"partial_rotary_factor\" is %g; only 1 is supported.", path,
                       partial));
    if (f->theta_sliding > 0) {
        SC_TRY(
            json_get_number(root, "rope_local_base_freq", path, f->theta_sliding, &out->rope_theta_sliding));
        if (sliding != NULL)
            SC_TRY(read_rope_set(sliding, path, false, &out->rope_theta_sliding, out));
        if (sliding != NULL || full != NULL)
            rope = full;
        SC_TRY(positive(out->rope_theta_sliding, "rope_theta", path));
    }
    if (rope != NULL && !json_is_null(rope))
        SC_TRY(read_rope_set(rope, path, true, &out->rope_theta, out));
    SC_TRY(positive(out->rope_theta, "rope_theta", path));
cleanup:
    return status;
}

/* An end token is a number or a list of them. */
static sc_status read_eos(const json_t *value, const char *path, model_config *out)
{
    const int32_t room = (int32_t)(sizeof out->eos_ids / sizeof out->eos_ids[0]);
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    out->n_eos = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= out->vocab_size)
            return sc_fail(SC_BAD_INPUT,
                           "%s: \"eos_token_id\" must hold token ids below the vocabulary size %d.", path,
                           out->vocab_size);
        if (out->n_eos == room)
            return sc_fail(SC_BAD_INPUT, "%s: \"eos_token_id\" lists more than %d end tokens.", path, room);
        out->eos_ids[out->n_eos++] = (int32_t)json_integer_value(id);
    }
    return SC_OK;
}

/* `generation_path` need not exist. */
static sc_status read_special_ids(const char *generation_path, const json_t *root, const char *path,
                                  model_config *out)
{
    sc_status status = SC_OK;
    json_t *generation = NULL;
    int64_t bos = -1, pad = -1;

    const json_t *eos = json_object_get(root, "eos_token_id");
    if (eos != NULL && !json_is_null(eos))
        SC_TRY(read_eos(eos, path, out));
    SC_TRY(json_get_int(root, "bos_token_id", path, -1, &bos));
    if (bos < -1 || bos >= out->vocab_size)
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s: \"bos_token_id\" %lld is not below the vocabulary size %d.", path,
                       (long long)bos, out->vocab_size));
    out->bos_id = (int32_t)bos;
    SC_TRY(json_get_int(root, "pad_token_id", path, -1, &pad));
    /* Converted models name padding that was never in their table: such an id stands in no text. */
    out->pad_id = pad >= 0 && pad < out->vocab_size ? (int32_t)pad : -1;

    /* What generation ends with stands in generation_config.json; a chat model lists more tokens there. */
    if (generation_path != NULL && file_exists(generation_path)) {
        SC_TRY(json_parse_file(generation_path, &generation));
        eos = json_object_get(generation, "eos_token_id");
        if (eos != NULL && !json_is_null(eos))
            SC_TRY(read_eos(eos, generation_path, out));
    }
cleanup:
    json_decref(generation);
    return status;
}

static sc_status read_shape(const json_t *root, const char *path, const family *f, model_config *out)
{
    sc_status status = SC_OK;
    SC_TRY(need_count(root, "num_hidden_layers", path, MODEL_LAYERS_MOST, &out->n_layers));
    SC_TRY(need_count(root, "hidden_size", path, MAX_DIM, &out->dim));
    SC_TRY(need_count(root, "intermediate_size", path, MAX_DIM, &out->ffn_dim));
    SC_TRY(need_count(root, "num_attention_heads", path, MAX_DIM, &out->n_heads));
    SC_TRY(get_count(root, "num_key_value_heads", path, MAX_DIM, out->n_heads, &out->n_kv_heads));
    SC_TRY(need_count(root, "vocab_size", path, MAX_VOCAB, &out->vocab_size));
    SC_TRY(
        get_count(root, "max_position_embeddings", path, INT32_MAX, f->max_positions, &out->max_positions));
    SC_TRY(get_count(root, "head_dim", path, MAX_DIM, f->head_dim > 0 ? f->head_dim : out->dim / out->n_heads,
                     &out->head_dim));
    if (out->head_dim < 2 || out->head_dim % 2 != 0 || (int64_t)out->head_dim * out->n_heads > MAX_DIM)
        SC_TRY(sc_fail(SC_BAD_INPUT,
                       "%s: a head of %d numbers is not possible; \"head_dim\" (or hidden_size / "
                       "num_attention_heads) must be even.",
                       path, out->head_dim));
    if (out->n_heads % out->n_kv_heads != 0)
        SC_TRY(sc_fail(SC_BAD_INPUT,
                       "%s: \"num_attention_heads\" (%d) must be a multiple of "
                       "\"num_key_value_heads\" (%d).",
                       path, out->n_heads, out->n_kv_heads));
cleanup:
    return status;
}

/* A cap that config.json leaves out is the family's; null is none. */
static sc_status read_cap(const json_t *root, const char *key, const char *path, double fallback, float *out)
{
    const json_t *given = json_object_get(root, key);
    double cap = fallback;
    sc_status status = SC_OK;
    if (fallback == 0)
        return refuse_present(root, key, path);
    if (given != NULL && json_is_null(given))
        return SC_OK;
    SC_TRY(json_get_number(root, key, path, fallback, &cap));
    SC_TRY(positive(cap, key, path));
    *out = (float)cap;
cleanup:
    return status;
}

/* "layer_types" says which layers slide; where it is absent, all but the last of every `period` do. */
static sc_status read_layer_types(const json_t *root, const char *path, const family *f, model_config *out)
{
    const json_t *types = json_object_get(root, "layer_types");
    const bool listed = types != NULL && !json_is_null(types), may_slide = f->period > 0;
    int32_t period = f->period;
    if (may_slide) {
        sc_status status =
            get_count(root, "sliding_window_pattern", path, MODEL_LAYERS_MOST, f->period, &period);
        if (status != SC_OK)
            return status;
    }
    if (listed && (!json_is_array(types) || json_array_size(types) != (size_t)out->n_layers))
        return sc_fail(SC_BAD_INPUT, "%s: \"layer_types\" must list one type for each of the %d layers.",
                       path, out->n_layers);
    for (int32_t i = 0; i < out->n_layers; i++) {
        const char *type = listed ? json_string_value(json_array_get(types, (size_t)i)) : NULL;
        const bool slides = listed ? type != NULL && strcmp(type, "sliding_attention") == 0
                                   : may_slide && (i + 1) % period != 0;
        if (listed && (!slides || !may_slide) && (type == NULL || strcmp(type, "full_attention") != 0))
            return sc_fail(SC_BAD_INPUT,
                           "%s: the type \"%.40s\" of layer %d in \"layer_types\" is not supported (%s).",
                           path, type != NULL ? type : "?", i,
                           may_slide ? "full_attention and sliding_attention are"
                                     : "only full_attention is for this architecture");
        out->slides[i] = may_slide && out->window > 0 && slides;
    }
    return SC_OK;
}

static sc_status read_windows(const json_t *root, const char *path, const family *f, model_config *out)
{
    const json_t *window = json_object_get(root, "sliding_window");
    const json_t *switched = json_object_get(root, "use_sliding_window");
    sc_status status = SC_OK;
    SC_TRY(refuse_true(root, "use_sliding_window", path));
    if (f->period == 0 && switched == NULL) /* Qwen names a window and switches it off */
        SC_TRY(refuse_present(root, "sliding_window", path));
    if (f->period > 0 && !json_is_null(window))
        SC_TRY(get_count(root, "sliding_window", path, INT32_MAX, 4096, &out->window));
    SC_TRY(read_layer_types(root, path, f, out));
cleanup:
    return status;
}

static sc_status read_features(const json_t *root, const char *path, const family *f, model_config *out)
{
    sc_status status = SC_OK;
    double scalar = out->head_dim;
    snprintf(out->architecture, sizeof out->architecture, "%s", f->architecture);
    out->qkv_bias = f->qkv_bias;
    out->qk_norm = f->qk_norm;
    out->branch_norms = out->scaled_embedding = f->gemma;
    out->norm_shift = f->gemma ? 1 : 0;
    if (f->gemma)
        SC_TRY(json_get_number(root, "query_pre_attn_scalar", path, 256, &scalar));
    else
        SC_TRY(refuse_present(root, "query_pre_attn_scalar", path));
    SC_TRY(positive(scalar, "query_pre_attn_scalar", path));
    out->attention_scale = 1.0f / sqrtf((float)scalar);
    SC_TRY(read_cap(root, "attn_logit_softcapping", path, f->attention_cap, &out->attention_cap));
    SC_TRY(read_cap(root, "final_logit_softcapping", path, f->logit_cap, &out->logit_cap));
    SC_TRY(read_windows(root, path, f, out));
    SC_TRY(json_get_bool(root, "tie_word_embeddings", path, f->tied, &out->tied));
    SC_TRY(read_activation(root, path, f, out));
cleanup:
    return status;
}

static sc_status read_config(const char *path, const char *generation_path, model_config *out)
{
    sc_status status = SC_OK;
    json_t *root = NULL;
    const family *f = NULL;
    double eps = 0;
    memset(out, 0, sizeof *out);

    SC_TRY(json_parse_file(path, &root));
    if (!json_is_object(root))
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s: a JSON object is expected.", path));
    SC_TRY(read_architecture(root, path, &f));
    SC_TRY(refuse_true(root, "attention_bias", path));
    SC_TRY(refuse_true(root, "mlp_bias", path));
    SC_TRY(refuse_true(root, "use_bidirectional_attention", path));
    SC_TRY(refuse_present(root, "quantization_config", path));
    SC_TRY(read_shape(root, path, f, out));
    SC_TRY(read_features(root, path, f, out));
    SC_TRY(json_get_number(root, "rms_norm_eps", path, 1e-6, &eps));
    if (!(eps >= 0 && eps < 1))
        SC_TRY(
            sc_fail(SC_BAD_INPUT, "%s: \"rms_norm_eps\" is %g, but it must lie between 0 and 1.", path, eps));
    out->norm_eps = (float)eps;
    SC_TRY(read_rope(root, path, f, out));
    SC_TRY(read_special_ids(generation_path, root, path, out));
cleanup:
    json_decref(root);
    return status;
}

sc_status model_config_read(const char *folder, model_config *out)
{
    sc_status status = SC_OK;
    char *path = path_join(folder, "config.json");
    char *generation_path = path_join(folder, "generation_config.json");
    if (path == NULL || generation_path == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "No memory for a path in %s.", folder));
    if (!file_is_dir(folder))
        SC_TRY(sc_fail(SC_BAD_INPUT,
                       "%s is not a model folder; give a folder with config.json, *.safetensors and "
                       "tokenizer.json (seedcorn pull makes one).",
                       folder));
    if (!file_exists(path))
        SC_TRY(sc_fail(SC_BAD_INPUT,
                       "%s is missing; a model folder holds config.json, *.safetensors and "
                       "tokenizer.json (seedcorn pull makes one).",
                       path));
    SC_TRY(read_config(path, generation_path, out));
cleanup:
    free(path);
    free(generation_path);
    return status;
}

sc_status model_config_read_file(const char *path, model_config *out)
{
    return read_config(path, NULL, out);
}

const char *linear_name(linear l)
{
    static const char *const names[N_LINEARS] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                 "gate_proj", "up_proj", "down_proj"};
    return names[l];
}

void linear_shape(const model_config *c, linear l, int64_t *out, int64_t *in)
{
    const int64_t q = (int64_t)c->n_heads * c->head_dim, kv = (int64_t)c->n_kv_heads * c->head_dim;
    const int64_t outs[N_LINEARS] = {q, kv, kv, c->dim, c->ffn_dim, c->ffn_dim, c->dim};
    const int64_t ins[N_LINEARS] = {c->dim, c->dim, c->dim, q, c->dim, c->dim, c->ffn_dim};
    *out = outs[l];
    *in = ins[l];
}
