/* LoRA adapters (Hu et al. 2021, arXiv:2106.09685) in PEFT's files: made, read, written, merged.
 *
 * adapter_model.safetensors holds base_model.model.<module>.lora_A.weight [rank][in] and .lora_B.weight
 * [out][rank] in F32 (PEFT, docs/source/developer_guides/checkpoint.md); scaling is alpha / rank, or
 * alpha / sqrt(rank) with use_rslora. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/random.h"
#include "model/internal.h"

enum { MAX_RANK = 4096, NAME_SIZE = 160 };

/* "model.layers.0.self_attn.q_proj": a parameter's name without ".weight". */
static void module_name(const parameter *w, char *out, size_t size)
{
    snprintf(out, size, "%.*s", (int)(strlen(w->name) - strlen(".weight")), w->name);
}

static void tensor_name(const parameter *w, char which, char *out, size_t size)
{
    char module[96];
    module_name(w, module, sizeof module);
    snprintf(out, size, "base_model.model.%s.lora_%c.weight", module, which);
}

void lora_destroy(model *m)
{
    if (m->lora == NULL)
        return;
    ops_of(m)->release(m->lora->values);
    ops_of(m)->release(m->lora->grads);
    free(m->lora->layers);
    free(m->lora);
    m->lora = NULL;
}

/* Lays out A and B of every adapted layer (marked by a non-NULL a) and replaces the model's adapter. */
static sc_status attach(model *m, lora *l)
{
    const ops *o = ops_of(m);
    sc_status status = SC_OK;
    int64_t n = 0;
    for (int pass_no = 0; pass_no < 2; pass_no++) {
        n = 0;
        for (int32_t i = 0; i < m->config.n_layers; i++)
            for (int k = 0; k < N_LINEARS; k++) {
                lora_layer *x = &l->layers[i][k];
                int64_t out = 0, in = 0;
                linear_shape(&m->config, (linear)k, &out, &in);
                if (x->a == NULL)
                    continue;
                if (pass_no == 1)
                    *x = (lora_layer){.a = l->values + n,
                                      .b = l->values + n + l->rank * in,
                                      .da = l->grads + n,
                                      .db = l->grads + n + l->rank * in};
                n += l->rank * (in + out);
            }
        if (pass_no == 0) {
            SC_TRY(o->alloc((void **)&l->values, (size_t)n * sizeof(float)));
            SC_TRY(o->alloc((void **)&l->grads, (size_t)n * sizeof(float)));
            SC_TRY(o->fill_zero(NULL, l->values, (size_t)n * sizeof(float)));
            SC_TRY(o->fill_zero(NULL, l->grads, (size_t)n * sizeof(float)));
        }
    }
    l->n_values = n;
    lora_destroy(m);
    m->lora = l;
cleanup:
    return status;
}

static void discard(const model *m, lora *l)
{
    if (l == NULL || l == m->lora)
        return;
    ops_of(m)->release(l->values);
    ops_of(m)->release(l->grads);
    free(l->layers);
    free(l);
}

/* PEFT's rule: a target is a module's full name or a tail of it that begins after a dot. */
static bool target_fits(const char *module, const char *target)
{
    const size_t n = strlen(module), k = strlen(target);
    return k > 0 && k <= n && strcmp(module + n - k, target) == 0 && (k == n || module[n - k - 1] == '.');
}

/* Marks the layers that `target` names; "all-linear" names all of them. */
static int64_t mark(const model *m, lora *l, const char *target)
{
    int64_t n = 0;
    char module[96];
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            module_name(m->layers[i].linears[k], module, sizeof module);
            if (strcmp(target, "all-linear") != 0 && !target_fits(module, target))
                continue;
            l->layers[i][k].a = &l->alpha; /* any address: attach() sets the real one */
            l->targets[k] = true;
            n++;
        }
    return n;
}

static sc_status new_lora(const model *m, int64_t rank, double alpha, double scaling, double dropout,
                          const char *where, lora **out)
{
    sc_status status = SC_OK;
    lora *l = NULL;
    if (rank < 1 || rank > MAX_RANK)
        return sc_fail(SC_USAGE, "%s: the rank is %lld, but it must lie between 1 and %d.", where,
                       (long long)rank, MAX_RANK);
    if (!(alpha > 0 && alpha < 1e6))
        return sc_fail(SC_USAGE, "%s: alpha is %g, but it must be a positive number.", where, alpha);
    if (!(dropout >= 0 && dropout < 1))
        return sc_fail(SC_USAGE, "%s: the dropout is %g, but it must lie between 0 and 1.", where, dropout);
    SC_TRY(sc_alloc(&l, 1, sizeof *l));
    SC_TRY(sc_alloc(&l->layers, (size_t)m->config.n_layers, sizeof *l->layers));
    l->rank = (int32_t)rank;
    l->alpha = (float)alpha;
    l->scaling = (float)scaling;
    l->dropout = (float)dropout;
    *out = l;
    l = NULL;
cleanup:
    discard(m, l);
    return status;
}

/* --- a fresh adapter ------------------------------------------------------------------------------------ */

static sc_status init_values(const model *m, uint64_t seed)
{
    sc_status status = SC_OK;
    float *host = NULL;
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            int64_t out = 0, in = 0;
            linear_shape(&m->config, (linear)k, &out, &in);
            if (m->lora->layers[i][k].a == NULL)
                continue;
            const int64_t n = m->lora->rank * in;
            const double bound = 1 / sqrt((double)in);
            random_stream r = random_at(seed, RANDOM_LORA_INIT, (uint64_t)i * N_LINEARS + (uint64_t)k, 0);
            SC_TRY(sc_alloc(&host, (size_t)n, sizeof *host));
            for (int64_t j = 0; j < n; j++)
                host[j] = (float)(bound * (2 * random_uniform(&r) - 1));
            SC_TRY(ops_of(m)->upload(NULL, m->lora->layers[i][k].a, host, (size_t)n * sizeof *host));
            SC_TRY(ops_of(m)->synchronise(NULL));
            free(host);
            host = NULL;
        }
cleanup:
    free(host);
    return status;
}

sc_status model_lora_create(model *m, const lora_options *options)
{
    sc_status status = SC_OK;
    lora *l = NULL;
    char *list = NULL, *rest = NULL;
    SC_TRY(new_lora(m, options->rank, options->alpha, options->alpha / options->rank, options->dropout,
                    "The adapter", &l));
    SC_TRY(sc_strdup(&list, options->targets != NULL ? options->targets : "all-linear"));
    for (char *word = strtok_r(list, ", ", &rest); word != NULL; word = strtok_r(NULL, ", ", &rest))
        if (mark(m, l, word) == 0)
            SC_TRY(sc_fail(
                SC_USAGE,
                "The adapter target \"%.60s\" is no layer of this model; give all-linear or some of q_proj, "
                "k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj.",
                word));
    bool any = false;
    for (int k = 0; k < N_LINEARS; k++)
        any = any || l->targets[k];
    if (!any)
        SC_TRY(sc_fail(SC_USAGE,
                       "The adapter has no targets; give all-linear or a list such as q_proj,v_proj."));
    SC_TRY(attach(m, l));
    l = NULL;
    SC_TRY(init_values(m, options->seed));
cleanup:
    discard(m, l);
    free(list);
    return status;
}

/* --- reading ---------------------------------------------------------------------------------------------- */

/* What would change the adapter's meaning and is not built here. */
static sc_status refuse_unsupported(const json_t *root, const char *path)
{
    static const char *const switches[] = {"use_dora", "fan_in_fan_out", "lora_bias", "use_qalora"};
    static const char *const lists[] = {"rank_pattern",        "alpha_pattern",          "modules_to_save",
                                        "layers_to_transform", "exclude_modules",        "layer_replication",
                                        "target_parameters",   "trainable_token_indices"};
    sc_status status = SC_OK;
    const char *text = NULL;
    SC_TRY(json_need_string(root, "peft_type", path, &text));
    if (strcmp(text, "LORA") != 0)
        SC_TRY(
            sc_fail(SC_BAD_INPUT, "%s: the adapter is of type %.40s; only LORA is supported.", path, text));
    SC_TRY(json_get_string(root, "bias", path, "none", &text));
    if (strcmp(text, "none") != 0)
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s: \"bias\" is \"%.40s\"; only \"none\" is supported.", path, text));
    for (size_t i = 0; i < sizeof switches / sizeof switches[0]; i++) {
        bool on = false;
        SC_TRY(json_get_bool(root, switches[i], path, false, &on));
        if (on)
            SC_TRY(sc_fail(SC_BAD_INPUT,
                           "%s: \"%s\" is true, which is not supported; only plain LoRA adapters are.", path,
                           switches[i]));
    }
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        const json_t *value = json_object_get(root, lists[i]);
        const bool empty = value == NULL || json_is_null(value) ||
                           (json_is_object(value) && json_object_size(value) == 0) ||
                           (json_is_array(value) && json_array_size(value) == 0);
        if (!empty)
            SC_TRY(sc_fail(SC_BAD_INPUT,
                           "%s: \"%s\" is set, which is not supported; only plain LoRA adapters are.", path,
                           lists[i]));
    }
cleanup:
    return status;
}

static sc_status mark_json(const model *m, lora *l, const json_t *targets, const char *path)
{
    const size_t n = json_is_array(targets) ? json_array_size(targets) : 1;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        const char *word = json_string_value(json_is_array(targets) ? json_array_get(targets, i) : targets);
        if (word == NULL || mark(m, l, word) == 0)
            return sc_fail(
                SC_BAD_INPUT,
                "%s: the target module \"%.80s\" is no linear layer of the model %s; the adapter belongs to "
                "another model.",
                path, word != NULL ? word : "(not a string)", m->folder);
        any = true;
    }
    return any ? SC_OK : sc_fail(SC_BAD_INPUT, "%s: \"target_modules\" is empty.", path);
}

static sc_status read_config(const model *m, const char *path, lora **out)
{
    sc_status status = SC_OK;
    json_t *root = NULL;
    lora *l = NULL;
    int64_t rank = 0;
    double alpha = 0, dropout = 0;
    bool rslora = false;
    SC_TRY(json_parse_file(path, &root));
    if (!json_is_object(root))
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s: a JSON object is expected.", path));
    SC_TRY(refuse_unsupported(root, path));
    SC_TRY(json_get_int(root, "r", path, 8, &rank)); /* PEFT's defaults */
    SC_TRY(json_get_number(root, "lora_alpha", path, 8, &alpha));
    SC_TRY(json_get_number(root, "lora_dropout", path, 0, &dropout));
    SC_TRY(json_get_bool(root, "use_rslora", path, false, &rslora));
    status = new_lora(m, rank, alpha, rank > 0 ? alpha / (rslora ? sqrt((double)rank) : (double)rank) : 0,
                      dropout, path, &l);
    if (status == SC_USAGE) /* the fault is in a file, not in a flag */
        status = SC_BAD_INPUT;
    if (status != SC_OK)
        goto cleanup;
    SC_TRY(mark_json(m, l, json_object_get(root, "target_modules"), path));
    *out = l;
    l = NULL;
cleanup:
    discard(m, l);
    json_decref(root);
    return status;
}

static sc_status read_tensor(const model *m, const safetensors *file, const char *path, const parameter *w,
                             char which, int64_t rows, int64_t cols, float *to)
{
    sc_status status = SC_OK;
    const st_tensor *t = NULL;
    float *host = NULL;
    char name[NAME_SIZE];
    tensor_name(w, which, name, sizeof name);
    SC_TRY(safetensors_need(file, name, &t));
    if (t->n_dims != 2 || t->shape[0] != rows || t->shape[1] != cols)
        SC_TRY(sc_fail(
            SC_BAD_INPUT,
            "%s: the tensor %s has %d dimensions and the shape [%lld, %lld], but the model %s calls for "
            "[%lld, %lld]; the adapter belongs to another model.",
            path, name, t->n_dims, (long long)t->shape[0], (long long)t->shape[1], m->folder, (long long)rows,
            (long long)cols));
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

static sc_status read_tensors(model *m, const safetensors *file, const char *path)
{
    sc_status status = SC_OK;
    size_t n = 0;
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            const lora_layer *x = &m->lora->layers[i][k];
            const parameter *w = m->layers[i].linears[k];
            if (x->a == NULL)
                continue;
            SC_TRY(read_tensor(m, file, path, w, 'A', m->lora->rank, w->cols, x->a));
            SC_TRY(read_tensor(m, file, path, w, 'B', w->rows, m->lora->rank, x->b));
            n += 2;
        }
    if (n != safetensors_count(file))
        SC_TRY(sc_fail(
            SC_BAD_INPUT,
            "%s holds %zu tensors, but its config and the model %s account for %zu; the adapter belongs to "
            "another model or has parts that are not supported.",
            path, safetensors_count(file), m->folder, n));
cleanup:
    return status;
}

sc_status model_lora_load(model *m, const char *folder)
{
    sc_status status = SC_OK;
    char *config = path_join(folder, "adapter_config.json");
    char *weights = path_join(folder, "adapter_model.safetensors");
    safetensors *file = NULL;
    lora *l = NULL;
    if (config == NULL || weights == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "No memory for a path in %s.", folder));
    if (!file_exists(config) || !file_exists(weights))
        SC_TRY(sc_fail(SC_BAD_INPUT,
                       "%s is not an adapter folder; it must hold adapter_config.json and "
                       "adapter_model.safetensors.",
                       folder));
    SC_TRY(read_config(m, config, &l));
    SC_TRY(safetensors_open(weights, &file));
    SC_TRY(attach(m, l));
    l = NULL;
    status = read_tensors(m, file, weights);
    if (status != SC_OK)
        lora_destroy(m); /* half an adapter is none */
cleanup:
    discard(m, l);
    safetensors_close(file);
    free(config);
    free(weights);
    return status;
}

/* --- writing ----------------------------------------------------------------------------------------------- */

static sc_status write_config(const model *m, const char *path)
{
    const lora *l = m->lora;
    sc_status status = SC_OK;
    json_t *targets = json_array();
    char module[96];
    for (int k = 0; k < N_LINEARS; k++) {
        int32_t n = 0;
        for (int32_t i = 0; i < m->config.n_layers; i++)
            n += l->layers[i][k].a != NULL;
        if (n == m->config.n_layers)
            json_array_append_new(targets, json_string(linear_name((linear)k)));
        for (int32_t i = 0; i < m->config.n_layers && n < m->config.n_layers; i++)
            if (l->layers[i][k].a != NULL) { /* only some blocks: by their full names */
                module_name(m->layers[i].linears[k], module, sizeof module);
                json_array_append_new(targets, json_string(module));
            }
    }
    const bool rslora =
        l->rank > 1 && fabsf(l->scaling - l->alpha / sqrtf((float)l->rank)) < 1e-6f * l->scaling;
    json_t *root = json_pack(
        "{s:o, s:o, s:s, s:o, s:b, s:b, s:b, s:o, s:f, s:f, s:o, s:s, s:i, s:{}, s:o, s:s, s:b, s:b}",
        "alpha_pattern", json_object(), "base_model_name_or_path", json_text(m->folder), "bias", "none",
        "exclude_modules", json_null(), "fan_in_fan_out", 0, "inference_mode", 1, "init_lora_weights", 1,
        "layers_to_transform", json_null(), "lora_alpha", (double)l->alpha, "lora_dropout",
        (double)l->dropout, "modules_to_save", json_null(), "peft_type", "LORA", "r", (int)l->rank,
        "rank_pattern", "target_modules", targets, "task_type", "CAUSAL_LM", "use_dora", 0, "use_rslora",
        (int)rslora);
    if (root == NULL)
        return sc_fail(SC_MEMORY, "No memory for %s.", path);
    status = json_write_file(path, root);
    json_decref(root);
    return status;
}

sc_status model_lora_save(const model *m, const char *folder)
{
    const lora *l = m->lora;
    const int32_t n_layers = m->config.n_layers;
    sc_status status = SC_OK;
    char *config = path_join(folder, "adapter_config.json");
    char *weights = path_join(folder, "adapter_model.safetensors");
    char(*names)[NAME_SIZE] = NULL;
    st_plan *plan = NULL;
    float *host = NULL;
    safetensors_writer *writer = NULL;
    size_t n = 0;
    if (config == NULL || weights == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "No memory for a path in %s.", folder));
    if (l == NULL)
        SC_TRY(sc_fail(SC_INTERNAL, "The model %s has no adapter to save.", m->folder));
    SC_TRY(sc_alloc(&names, (size_t)n_layers * N_LINEARS * 2, sizeof *names));
    SC_TRY(sc_alloc(&plan, (size_t)n_layers * N_LINEARS * 2, sizeof *plan));
    for (int32_t i = 0; i < n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            const parameter *w = m->layers[i].linears[k];
            if (l->layers[i][k].a == NULL)
                continue;
            for (int ab = 0; ab < 2; ab++, n++) {
                tensor_name(w, ab == 0 ? 'A' : 'B', names[n], sizeof names[n]);
                plan[n] = (st_plan){.name = names[n],
                                    .type = ST_F32,
                                    .n_dims = 2,
                                    .shape = {ab == 0 ? l->rank : w->rows, ab == 0 ? w->cols : l->rank}};
            }
        }
    /* The block's order is the plan's. */
    SC_TRY(sc_alloc(&host, (size_t)l->n_values, sizeof *host));
    SC_TRY(ops_of(m)->download(NULL, host, l->values, (size_t)l->n_values * sizeof *host));
    SC_TRY(ops_of(m)->synchronise(NULL));
    SC_TRY(file_make_dirs(folder));
    SC_TRY(safetensors_writer_open(weights, plan, n, 0, &writer));
    SC_TRY(safetensors_writer_data(writer, host, (size_t)l->n_values * sizeof *host));
    SC_TRY(safetensors_writer_commit(&writer));
    SC_TRY(write_config(m, config));
cleanup:
    safetensors_writer_discard(&writer);
    free(host);
    free(plan);
    free(names);
    free(config);
    free(weights);
    return status;
}

/* --- merging ------------------------------------------------------------------------------------------------ */

sc_status model_lora_merge(model *m)
{
    const ops *o = ops_of(m);
    sc_status status = SC_OK;
    buffer wide = {0};
    if (m->lora == NULL)
        return sc_fail(SC_INTERNAL, "The model %s has no adapter to merge.", m->folder);
    SC_TRY(weights_make_writable(m));
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            const lora_layer *x = &m->lora->layers[i][k];
            parameter *w = m->layers[i].linears[k];
            const int64_t n = w->rows * w->cols;
            float *sum = w->value;
            if (x->a == NULL)
                continue;
            SC_TRY(check_cancelled());
            if (m->dtype != DTYPE_F32) {
                SC_TRY(buffer_need(m, &wide, (size_t)n * sizeof(float)));
                sum = wide.data;
                SC_TRY(o->cast(NULL, sum, DTYPE_F32, w->value, m->dtype, n));
            }
            SC_TRY(o->gemm(NULL, false, false, w->rows, w->cols, m->lora->rank, m->lora->scaling, x->b,
                           DTYPE_F32, m->lora->rank, x->a, DTYPE_F32, w->cols, 1.0f, sum, DTYPE_F32,
                           w->cols));
            if (m->dtype != DTYPE_F32)
                SC_TRY(o->cast(NULL, w->value, m->dtype, sum, DTYPE_F32, n));
        }
    SC_TRY(o->synchronise(NULL));
    lora_destroy(m);
cleanup:
    buffer_release(m, &wide);
    return status;
}
