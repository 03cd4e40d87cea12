/* Writing a model as a Hugging Face folder: the weights as they are now, and the files that describe and
 * tokenise, copied from where the model was opened. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "model/internal.h"

/* transformers' own limit for one file. */
#define SHARD_LIMIT UINT64_C(5000000000)
enum { PIECE = 1 << 20 };

static sc_status copy_file(const char *from_folder, const char *to_folder, const char *name)
{
    sc_status status = SC_OK;
    char *from = path_join(from_folder, name), *to = path_join(to_folder, name);
    strbuf bytes = {0};
    if (from == NULL || to == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "No memory for a path in %s.", to_folder));
    if (!file_exists(from))
        goto cleanup;
    SC_TRY(file_read_all(from, &bytes));
    SC_TRY(file_write_all(to, strbuf_text(&bytes), bytes.len));
cleanup:
    strbuf_free(&bytes);
    free(from);
    free(to);
    return status;
}

/* config.json with the dtype of the new files, under the key its transformers version uses. */
static sc_status write_config(const model *m, const char *folder, dtype file_type)
{
    const char *type = file_type == DTYPE_BF16 ? "bfloat16" : "float32";
    sc_status status = SC_OK;
    char *from = path_join(m->folder, "config.json"), *to = path_join(folder, "config.json");
    json_t *root = NULL;
    if (from == NULL || to == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "No memory for a path in %s.", folder));
    SC_TRY(json_parse_file(from, &root));
    const char *key = json_object_get(root, "torch_dtype") != NULL ? "torch_dtype" : "dtype";
    if (json_object_set_new(root, key, json_string(type)) != 0)
        SC_TRY(sc_fail(SC_MEMORY, "No memory for %s.", to));
    SC_TRY(json_write_file(to, root));
cleanup:
    json_decref(root);
    free(from);
    free(to);
    return status;
}

/* One weight from the device into the file, rounded or widened on the way. */
static sc_status write_weight(const model *m, const parameter *p, dtype file_type, safetensors_writer *w,
                              char *raw, char *converted)
{
    const size_t size = dtype_size(m->dtype);
    const int64_t total = p->rows * p->cols;
    sc_status status = SC_OK;
    for (int64_t first = 0; first < total; first += PIECE) {
        const int64_t n = total - first < PIECE ? total - first : PIECE;
        SC_TRY(
            ops_of(m)->download(NULL, raw, (const char *)p->value + (size_t)first * size, (size_t)n * size));
        SC_TRY(ops_of(m)->synchronise(NULL));
        const char *bytes = raw;
        if (file_type != m->dtype) {
            for (int64_t i = 0; i < n; i++)
                if (file_type == DTYPE_BF16)
                    ((uint16_t *)(void *)converted)[i] = f32_to_bf16(((const float *)(const void *)raw)[i]);
                else
                    ((float *)(void *)converted)[i] = bf16_to_f32(((const uint16_t *)(const void *)raw)[i]);
            bytes = converted;
        }
        SC_TRY(safetensors_writer_data(w, bytes, (size_t)n * dtype_size(file_type)));
    }
cleanup:
    return status;
}

static sc_status write_weights(const model *m, const char *folder, dtype file_type, uint64_t limit)
{
    sc_status status = SC_OK;
    safetensors_writer *writer = NULL;
    st_plan *plan = NULL;
    char *raw = NULL, *converted = NULL, *path = path_join(folder, "model.safetensors");
    if (path == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "No memory for a path in %s.", folder));
    SC_TRY(sc_alloc(&raw, PIECE, sizeof(float)));
    SC_TRY(sc_alloc(&converted, PIECE, sizeof(float)));
    SC_TRY(sc_alloc(&plan, (size_t)m->n_parameters, sizeof *plan));
    for (int64_t i = 0; i < m->n_parameters; i++) {
        const parameter *p = &m->parameters[i];
        plan[i] = (st_plan){.name = p->name,
                            .type = file_type == DTYPE_BF16 ? ST_BF16 : ST_F32,
                            .n_dims = p->cols == 1 ? 1 : 2,
                            .shape = {p->rows, p->cols}};
    }
    SC_TRY(safetensors_writer_open(path, plan, (size_t)m->n_parameters, limit, &writer));
    for (int64_t i = 0; i < m->n_parameters; i++) {
        SC_TRY(check_cancelled());
        SC_TRY(write_weight(m, &m->parameters[i], file_type, writer, raw, converted));
    }
    SC_TRY(safetensors_writer_commit(&writer));
cleanup:
    safetensors_writer_discard(&writer);
    free(plan);
    free(raw);
    free(converted);
    free(path);
    return status;
}

static uint64_t shard_limit(int64_t shard_bytes)
{
    return shard_bytes > 0 ? (uint64_t)shard_bytes : SHARD_LIMIT;
}

bool model_saves_shards(const model *m, dtype file_type, int64_t shard_bytes)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; i < m->n_parameters; i++)
        bytes += (uint64_t)(m->parameters[i].rows * m->parameters[i].cols) * dtype_size(file_type);
    return m->n_parameters > 1 && bytes > shard_limit(shard_bytes);
}

/* What lies beside config.json and the weights, where a model has it. */
static const char *const beside[] = {"generation_config.json",
                                     "tokenizer.json",
                                     "tokenizer_config.json",
                                     "special_tokens_map.json",
                                     "added_tokens.json",
                                     "chat_template.jinja",
                                     "vocab.json",
                                     "merges.txt"};
enum { N_BESIDE = sizeof beside / sizeof beside[0] };

sc_status model_files_sha256(const char *folder, char hex[65])
{
    sc_status status = SC_OK;
    strbuf digests = {0};
    for (size_t i = 0; i <= N_BESIDE; i++) {
        const char *name = i < N_BESIDE ? beside[i] : "config.json";
        char *path = path_join(folder, name), one[65];
        if (path == NULL)
            SC_TRY(sc_fail(SC_MEMORY, "No memory for a path in %s.", folder));
        status = file_exists(path) ? file_sha256(path, one) : SC_OK;
        if (status == SC_OK && file_exists(path))
            strbuf_printf(&digests, "%s %s\n", name, one);
        free(path);
        SC_TRY(status);
    }
    SC_TRY(strbuf_status(&digests));
    sha256_hex(strbuf_text(&digests), digests.len, hex);
cleanup:
    strbuf_free(&digests);
    return status;
}

sc_status model_save(const model *m, const char *folder, dtype file_type, int64_t shard_bytes)
{
    sc_status status = SC_OK;
    if (m->lora != NULL)
        return sc_fail(SC_INTERNAL, "The adapter of %s must be merged before the model is saved.", m->folder);
    SC_TRY(file_make_dirs(folder));
    if (file_same(folder, m->folder))
        SC_TRY(sc_fail(SC_USAGE, "%s is the folder the model was opened from; give another one to write to.",
                       folder));
    for (size_t i = 0; i < N_BESIDE; i++)
        SC_TRY(copy_file(m->folder, folder, beside[i]));
    SC_TRY(write_config(m, folder, file_type));
    SC_TRY(write_weights(m, folder, file_type, shard_limit(shard_bytes)));
cleanup:
    return status;
}
