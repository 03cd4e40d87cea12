/* An adapter from PEFT's files (lora_save.c says what is in them). Ranks and alphas may differ from module to module
 * (rank_pattern, alpha_pattern), targets may be a list of names or a regular expression, tensors F32, F16 or BF16.
 * What would change the adapter's meaning and is not built here is refused by name. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "model/lora.h"

static bool is_empty(const json_t *value)
{
    return value == NULL || json_is_null(value) || json_is_false(value) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

/* How A and B began changes what they stand beside only where the base weights were changed, too. */
static sc_status refuse_initialisation(const json_t *root, const char *path)
{
    static const char *const changing[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};
    const char *how = json_string_value(json_object_get(root, "init_lora_weights"));
    for (size_t i = 0; how != NULL && i < sizeof changing / sizeof changing[0]; i++)
        if (text_starts(how, changing[i]))
            return sc_fail(
                SC_BAD_INPUT,
                "%s: \"init_lora_weights\" is \"%.40s\", which stands beside changed base weights; "
                "have PEFT convert it (save_pretrained with "
                "path_initial_model_for_weight_conversion).",
                path, how);
    return SC_OK;
}

static sc_status refuse_unsupported(const json_t *root, const char *path)
{
    static const char *const unsupported[] = {"lora_bias",
                                              "use_qalora",
                                              "modules_to_save",
                                              "layer_replication",
                                              "layers_pattern",
                                              "target_parameters",
                                              "trainable_token_indices",
                                              "alora_invocation_tokens",
                                              "use_bdlora",
                                              "arrow_config",
                                              "kasa_config",
                                              "monteclora_config",
                                              "megatron_config",
                                              "ensure_weight_tying"};
    sc_status status = SC_OK;
    const char *text = NULL;
    SC_TRY(json_need_string(root, "peft_type", path, &text));
    if (strcmp(text, "LORA") != 0)
        SC_TRY(
            sc_fail(SC_BAD_INPUT, "%s: the adapter is of type %.40s; only LORA is supported.", path, text));
    SC_TRY(json_get_string(root, "bias", path, "none", &text));
    if (strcmp(text, "none") != 0)
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s: \"bias\" is \"%.40s\"; only \"none\" is supported.", path, text));
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++)
        if (!is_empty(json_object_get(root, unsupported[i])))
            SC_TRY(sc_fail(SC_BAD_INPUT,
                           "%s: \"%s\" is set, which is not supported; LoRA, rsLoRA and DoRA on linear "
                           "layers are.",
                           path, unsupported[i]));
    SC_TRY(refuse_initialisation(root, path));
cleanup:
    return status;
}

/* --- which modules ------------------------------------------------------------------------------------------- */

/* Python's re.fullmatch, which PEFT uses: the expressions in use mean the same in PCRE2. */
static sc_status full_match(const char *expression, const char *module, const char *path, bool *matches)
{
    sc_status status = SC_OK;
    int code = 0;
    PCRE2_SIZE at = 0;
    PCRE2_UCHAR reason[128] = "";
    pcre2_match_data *data = NULL;
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, NULL);
    if (compiled == NULL) {
        pcre2_get_error_message(code, reason, sizeof reason);
        return sc_fail(SC_BAD_INPUT, "%s: \"%.80s\" is no regular expression that can be read here: %s.",
                       path, expression, (const char *)reason);
    }
    data = pcre2_match_data_create_from_pattern(compiled, NULL);
    if (data == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "No memory for a regular expression."));
    code = pcre2_match(compiled, (PCRE2_SPTR)module, PCRE2_ZERO_TERMINATED, 0,
                       PCRE2_ANCHORED | PCRE2_ENDANCHORED, data, NULL);
    if (code < 0 && code != PCRE2_ERROR_NOMATCH) {
        pcre2_get_error_message(code, reason, sizeof reason);
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s: \"%.80s\" cannot be compared with \"%s\": %s.", path, expression,
                       module, (const char *)reason));
    }
    *matches = code >= 0;
cleanup:
    pcre2_match_data_free(data);
    pcre2_code_free(compiled);
    return status;
}

/* Whether target_modules or exclude_modules speak of a module: a list of names or name ends, or one expression. */
static sc_status names_module(const json_t *names, const char *module, const char *path, bool *named)
{
    sc_status status = SC_OK;
    size_t i;
    const json_t *name;
    *named = false;
    if (json_is_string(names) && strcmp(json_string_value(names), "all-linear") == 0)
        *named = true;
    else if (json_is_string(names))
        SC_TRY(full_match(json_string_value(names), module, path, named));
    json_array_foreach(names, i, name)
    {
        const char *word = json_string_value(name);
        const size_t n = strlen(module), k = word != NULL ? strlen(word) : 0;
        if (word == NULL)
            SC_TRY(sc_fail(SC_BAD_INPUT, "%s: a list of modules holds something that is no string.", path));
        *named = *named || (k > 0 && k <= n && strcmp(module + n - k, word) == 0 &&
                            (k == n || module[n - k - 1] == '.'));
    }
cleanup:
    return status;
}

/* layers_to_transform: a block's number, or a list of them; absent: all. */
static bool takes_block(const json_t *blocks, int32_t block)
{
    size_t i;
    const json_t *one;
    if (is_empty(blocks))
        return true;
    if (json_is_integer(blocks))
        return json_integer_value(blocks) == block;
    json_array_foreach(blocks, i,
                       one) if (json_is_integer(one) && json_integer_value(one) == block) return true;
    return false;
}

/* What a pattern says of a module: the value of the first key that fits its end (PEFT's get_pattern_key). */
static sc_status pattern_value(const json_t *pattern, const char *module, const char *path, double fallback,
                               double *out)
{
    sc_status status = SC_OK;
    strbuf expression = {0};
    const char *key;
    json_t *value;
    bool fits = false;
    *out = fallback;
    json_object_foreach((json_t *)pattern, key, value)
    {
        strbuf_clear(&expression);
        strbuf_printf(&expression, "(.*\\.)?(%s)", key);
        SC_TRY(strbuf_status(&expression));
        SC_TRY(full_match(strbuf_text(&expression), module, path, &fits));
        if (!fits)
            continue;
        if (!json_is_number(value))
            SC_TRY(sc_fail(SC_BAD_INPUT, "%s: the pattern \"%.80s\" stands beside no number.", path, key));
        *out = json_number_value(value);
        break;
    }
cleanup:
    strbuf_free(&expression);
    return status;
}

static sc_status adapt_modules(const model *m, lora *l, const json_t *root, const char *path)
{
    sc_status status = SC_OK;
    const json_t *targets = json_object_get(root, "target_modules");
    const json_t *excluded = json_object_get(root, "exclude_modules");
    const json_t *blocks = json_object_get(root, "layers_to_transform");
    char module[96];
    int64_t n = 0;
    if (is_empty(targets))
        return sc_fail(SC_BAD_INPUT, "%s: \"target_modules\" is empty.", path);
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            bool named = false, out = false;
            double rank = 0, alpha = 0;
            lora_module_name(m->layers[i].linears[k], module, sizeof module);
            SC_TRY(names_module(targets, module, path, &named));
            SC_TRY(names_module(excluded, module, path, &out));
            if (!named || out || !takes_block(blocks, i))
                continue;
            SC_TRY(
                pattern_value(json_object_get(root, "rank_pattern"), module, path, (double)l->rank, &rank));
            SC_TRY(pattern_value(json_object_get(root, "alpha_pattern"), module, path, (double)l->alpha,
                                 &alpha));
            if (!(rank >= 0 && rank < 1e9 && rank == floor(rank)))
                SC_TRY(sc_fail(SC_BAD_INPUT, "%s: the rank of %s is %g.", path, module, rank));
            status = lora_adapt(l, i, (linear)k, (int64_t)rank, alpha, path);
            if (status == SC_USAGE) /* the fault is in a file, not in a flag */
                status = SC_BAD_INPUT;
            SC_TRY(status);
            n++;
        }
    if (n == 0) {
        char *text = json_dumps(targets, JSON_COMPACT | JSON_ENCODE_ANY);
        status = sc_fail(SC_BAD_INPUT,
                         "%s: the target modules %.120s name no linear layer of the model %s; the adapter "
                         "belongs to another model.",
                         path, text != NULL ? text : "", m->folder);
        free(text);
    }
cleanup:
    return status;
}

static sc_status read_config(const model *m, const char *path, lora **out)
{
    sc_status status = SC_OK;
    json_t *root = NULL;
    lora *l = NULL;
    int64_t rank = 0;
    bool transposed = false;
    lora_options options = {0};
    SC_TRY(json_parse_file(path, &root));
    if (!json_is_object(root))
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s: a JSON object is expected.", path));
    SC_TRY(refuse_unsupported(root, path));
    SC_TRY(json_get_int(root, "r", path, 8, &rank)); /* PEFT's defaults */
    SC_TRY(json_get_number(root, "lora_alpha", path, 8, &options.alpha));
    SC_TRY(json_get_number(root, "lora_dropout", path, 0, &options.dropout));
    SC_TRY(json_get_bool(root, "use_rslora", path, false, &options.rslora));
    SC_TRY(json_get_bool(root, "use_dora", path, false, &options.dora));
    SC_TRY(json_get_bool(root, "fan_in_fan_out", path, false, &transposed));
    if (transposed) /* PEFT does the same: it concerns GPT-2's Conv1D only, and A and B lie as ever */
        log_warn("%s: \"fan_in_fan_out\" has no meaning for linear layers and is ignored", path);
    options.rank = rank > 0 && rank < INT32_MAX ? (int32_t)rank : 0;
    status = lora_new(m, &options, path, &l);
    if (status == SC_USAGE)
        status = SC_BAD_INPUT;
    SC_TRY(status);
    SC_TRY(adapt_modules(m, l, root, path));
    *out = l;
    l = NULL;
cleanup:
    lora_discard(m, l);
    json_decref(root);
    return status;
}

/* --- tensors ------------------------------------------------------------------------------------------------- */

/* cols 0: a vector. */
static sc_status read_tensor(const model *m, const safetensors *file, const char *path, const char *name,
                             int64_t rows, int64_t cols, float *to)
{
    sc_status status = SC_OK;
    const st_tensor *t = NULL;
    float *host = NULL;
    const int n_dims = cols > 0 ? 2 : 1;
    SC_TRY(safetensors_need(file, name, &t));
    if (t->n_dims != n_dims || t->shape[0] != rows || (cols > 0 && t->shape[1] != cols))
        SC_TRY(sc_fail(
            SC_BAD_INPUT,
            "%s: the tensor %s has %d dimensions and the shape [%lld, %lld], but the model %s calls for "
            "[%lld, %lld]; the adapter belongs to another model.",
            path, name, t->n_dims, (long long)t->shape[0], (long long)t->shape[1], m->folder, (long long)rows,
            (long long)(cols > 0 ? cols : 1)));
    SC_TRY(sc_alloc(&host, (size_t)t->n_values, sizeof *host));
    SC_TRY(st_tensor_floats(t, 0, t->n_values, host));
    for (int64_t i = 0; i < t->n_values; i++)
        if (!isfinite(host[i]))
            SC_TRY(sc_fail(SC_BAD_INPUT, "%s: the tensor %s holds NaN or infinity; the adapter is damaged.",
                           path, name));
    SC_TRY(ops_of(m)->upload(NULL, to, host, (size_t)t->n_values * sizeof *host));
    SC_TRY(ops_of(m)->synchronise(NULL));
cleanup:
    free(host);
    return status;
}

/* What a file holds beyond what its configuration asks for: named, since it says which part is meant. */
static sc_status check_extra(const model *m, const safetensors *file, const char *path, size_t n)
{
    char name[LORA_NAME_SIZE];
    static const char *const parts[] = {"lora_A.weight", "lora_B.weight", "lora_magnitude_vector",
                                        "lora_magnitude_vector.weight"};
    if (n == safetensors_count(file))
        return SC_OK;
    for (size_t t = 0; t < safetensors_count(file); t++) {
        const char *extra = safetensors_at(file, t)->name;
        bool known = false;
        for (int32_t i = 0; i < m->config.n_layers && !known; i++)
            for (int k = 0; k < N_LINEARS && !known; k++)
                for (size_t p = 0; p < (m->lora->dora ? 4 : 2) && !known; p++) {
                    lora_tensor_name(m->layers[i].linears[k], parts[p], name, sizeof name);
                    known = m->lora->layers[i][k].rank > 0 && strcmp(name, extra) == 0;
                }
        if (!known)
            return sc_fail(
                SC_BAD_INPUT,
                "%s holds %zu tensors, but its config and the model %s account for %zu; the first of the "
                "others is %.120s: the adapter belongs to another model or has parts that are not supported.",
                path, safetensors_count(file), m->folder, n, extra);
    }
    return SC_OK;
}

static sc_status read_tensors(const model *m, const safetensors *file, const char *path)
{
    sc_status status = SC_OK;
    size_t n = 0;
    char name[LORA_NAME_SIZE];
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            const lora_layer *x = &m->lora->layers[i][k];
            const parameter *w = m->layers[i].linears[k];
            if (x->rank == 0)
                continue;
            lora_tensor_name(w, "lora_A.weight", name, sizeof name);
            SC_TRY(read_tensor(m, file, path, name, x->rank, w->cols, x->a));
            lora_tensor_name(w, "lora_B.weight", name, sizeof name);
            SC_TRY(read_tensor(m, file, path, name, w->rows, x->rank, x->b));
            n += 2;
            if (!m->lora->dora)
                continue;
            lora_tensor_name(w, "lora_magnitude_vector", name, sizeof name);
            if (safetensors_find(file, name) == NULL) /* as some versions wrote it */
                lora_tensor_name(w, "lora_magnitude_vector.weight", name, sizeof name);
            if (safetensors_find(file, name) == NULL)
                lora_tensor_name(w, "lora_magnitude_vector", name, sizeof name);
            SC_TRY(read_tensor(m, file, path, name, w->rows, 0, x->magnitude));
            n++;
        }
    SC_TRY(check_extra(m, file, path, n));
cleanup:
    return status;
}

static sc_status find_files(const char *folder, char **config, char **weights)
{
    sc_status status = SC_OK;
    char *pickled = path_join(folder, "adapter_model.bin");
    *config = path_join(folder, "adapter_config.json");
    *weights = path_join(folder, "adapter_model.safetensors");
    if (*config == NULL || *weights == NULL || pickled == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "No memory for a path in %s.", folder));
    if (!file_exists(*weights) && file_exists(pickled))
        SC_TRY(sc_fail(SC_BAD_INPUT,
                       "%s holds adapter_model.bin, which only Python can read; load it in PEFT and write it "
                       "with save_pretrained, which makes adapter_model.safetensors.",
                       folder));
    if (!file_exists(*config) || !file_exists(*weights))
        SC_TRY(sc_fail(SC_BAD_INPUT,
                       "%s is not an adapter folder; it must hold adapter_config.json and "
                       "adapter_model.safetensors.",
                       folder));
cleanup:
    free(pickled);
    return status;
}

sc_status lora_outline_folder(const model *m, const char *folder, lora **out)
{
    char *config = NULL, *weights = NULL;
    sc_status status = find_files(folder, &config, &weights);
    if (status == SC_OK)
        status = read_config(m, config, out);
    free(config);
    free(weights);
    return status;
}

sc_status model_lora_load(model *m, const char *folder)
{
    sc_status status = SC_OK;
    char *config = NULL, *weights = NULL;
    safetensors *file = NULL;
    lora *l = NULL;
    SC_TRY(find_files(folder, &config, &weights));
    SC_TRY(read_config(m, config, &l));
    SC_TRY(safetensors_open(weights, &file));
    SC_TRY(lora_attach(m, l));
    l = NULL;
    status = read_tensors(m, file, weights);
    if (status == SC_OK)
        status = model_lora_refresh(m);
    if (status != SC_OK)
        lora_destroy(m); /* half an adapter is none */
cleanup:
    lora_discard(m, l);
    safetensors_close(file);
    free(config);
    free(weights);
    return status;
}

sc_status model_lora_sha256(const char *folder, char hex[65])
{
    sc_status status = SC_OK;
    char both[2 * 64 + 1];
    char *tensors = path_join(folder, "adapter_model.safetensors");
    char *config = path_join(folder, "adapter_config.json");
    if (!tensors || !config)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice"));
    SC_TRY(file_sha256(tensors, both));
    SC_TRY(file_sha256(config, both + 64));
    sha256_hex(both, 2 * 64, hex);
cleanup:
    free(tensors);
    free(config);
    return status;
}
