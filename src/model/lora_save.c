/* An adapter as PEFT's files: adapter_model.safetensors with base_model.model.<module>.lora_A.weight [rank][in],
 * .lora_B.weight [out][rank] and, with DoRA, .lora_magnitude_vector [out], in F32, and adapter_config.json (PEFT,
 * docs/source/developer_guides/checkpoint.md). */
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "model/lora.h"

/* "q_proj" where all blocks have it adapted, else the full names. */
static sc_status list_targets(const model *m, json_t *targets)
{
    const lora *l = m->lora;
    char module[96];
    int failed = 0;
    for (int k = 0; k < N_LINEARS; k++) {
        int32_t n = 0;
        for (int32_t i = 0; i < m->config.n_layers; i++)
            n += l->layers[i][k].rank > 0;
        if (n == m->config.n_layers)
            failed |= json_array_append_new(targets, json_string(linear_name((linear)k)));
        for (int32_t i = 0; i < m->config.n_layers && n < m->config.n_layers; i++)
            if (l->layers[i][k].rank > 0) {
                lora_module_name(m->layers[i].linears[k], module, sizeof module);
                failed |= json_array_append_new(targets, json_string(module));
            }
    }
    return failed ? sc_fail(SC_MEMORY, "No memory for a list of targets.") : SC_OK;
}

/* The modules whose rank or alpha is not the adapter's, by their full names. */
static sc_status list_patterns(const model *m, json_t *ranks, json_t *alphas)
{
    const lora *l = m->lora;
    char module[96];
    int failed = 0;
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            const lora_layer *x = &l->layers[i][k];
            if (x->rank == 0)
                continue;
            lora_module_name(m->layers[i].linears[k], module, sizeof module);
            if (x->rank != l->rank)
                failed |= json_object_set_new(ranks, module, json_integer(x->rank));
            if (x->alpha != l->alpha)
                failed |= json_object_set_new(alphas, module, json_real((double)x->alpha));
        }
    return failed ? sc_fail(SC_MEMORY, "No memory for the patterns of an adapter.") : SC_OK;
}

static sc_status write_config(const model *m, const char *path)
{
    const lora *l = m->lora;
    sc_status status = SC_OK;
    json_t *targets = json_array(), *ranks = json_object(), *alphas = json_object(), *root = NULL;
    SC_TRY(list_targets(m, targets));
    SC_TRY(list_patterns(m, ranks, alphas));
    root = json_pack("{s:O, s:o, s:s, s:o, s:b, s:b, s:b, s:o, s:f, s:f, s:o, s:s, s:i, s:O, s:O, s:s, s:b, "
                     "s:b}",
                     "alpha_pattern", alphas, "base_model_name_or_path", json_text(m->folder), "bias", "none",
                     "exclude_modules", json_null(), "fan_in_fan_out", 0, "inference_mode", 1,
                     "init_lora_weights", 1, "layers_to_transform", json_null(), "lora_alpha",
                     (double)l->alpha, "lora_dropout", (double)l->dropout, "modules_to_save", json_null(),
                     "peft_type", "LORA", "r", (int)l->rank, "rank_pattern", ranks, "target_modules", targets,
                     "task_type", "CAUSAL_LM", "use_dora", (int)l->dora, "use_rslora", (int)l->rslora);
    if (root == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "No memory for %s.", path));
    SC_TRY(json_write_file(path, root));
cleanup:
    json_decref(root);
    json_decref(targets);
    json_decref(ranks);
    json_decref(alphas);
    return status;
}

typedef struct tensor_list {
    st_plan *plan;
    char (*names)[LORA_NAME_SIZE];
    size_t n;
} tensor_list;

static void add_tensor(tensor_list *list, const parameter *w, const char *part, int64_t rows, int64_t cols)
{
    lora_tensor_name(w, part, list->names[list->n], LORA_NAME_SIZE);
    list->plan[list->n] = (st_plan){.name = list->names[list->n],
                                    .type = ST_F32,
                                    .n_dims = cols > 0 ? 2 : 1,
                                    .shape = {rows, cols > 0 ? cols : 1}};
    list->n++;
}

/* In the order of the adapter's block of values. */
static sc_status list_tensors(const model *m, tensor_list *list)
{
    const size_t most = (size_t)m->config.n_layers * N_LINEARS * 3;
    sc_status status = SC_OK;
    SC_TRY(sc_alloc(&list->names, most, sizeof *list->names));
    SC_TRY(sc_alloc(&list->plan, most, sizeof *list->plan));
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            const parameter *w = m->layers[i].linears[k];
            const int32_t rank = m->lora->layers[i][k].rank;
            if (rank == 0)
                continue;
            add_tensor(list, w, "lora_A.weight", rank, w->cols);
            add_tensor(list, w, "lora_B.weight", w->rows, rank);
            if (m->lora->dora)
                add_tensor(list, w, "lora_magnitude_vector", w->rows, 0);
        }
cleanup:
    return status;
}

sc_status model_lora_save(const model *m, const char *folder)
{
    const lora *l = m->lora;
    sc_status status = SC_OK;
    char *config = path_join(folder, "adapter_config.json");
    char *weights = path_join(folder, "adapter_model.safetensors");
    tensor_list list = {0};
    float *host = NULL;
    safetensors_writer *writer = NULL;
    if (config == NULL || weights == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "No memory for a path in %s.", folder));
    if (l == NULL)
        SC_TRY(sc_fail(SC_INTERNAL, "The model %s has no adapter to save.", m->folder));
    SC_TRY(list_tensors(m, &list));
    SC_TRY(sc_alloc(&host, (size_t)l->n_values, sizeof *host));
    SC_TRY(ops_of(m)->download(NULL, host, l->values, (size_t)l->n_values * sizeof *host));
    SC_TRY(ops_of(m)->synchronise(NULL));
    SC_TRY(file_make_dirs(folder));
    SC_TRY(safetensors_writer_open(weights, list.plan, list.n, 0, &writer));
    SC_TRY(safetensors_writer_data(writer, host, (size_t)l->n_values * sizeof *host));
    SC_TRY(safetensors_writer_sync(writer));
    SC_TRY(file_remove_tree(config)); /* an earlier one would scale the new tensors, were this the end */
    SC_TRY(safetensors_writer_commit(&writer));
    SC_TRY(write_config(m, config));
cleanup:
    safetensors_writer_discard(&writer);
    free(host);
    free(list.plan);
    free(list.names);
    free(config);
    free(weights);
    return status;
}
