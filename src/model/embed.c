/* embed: every text of a data set through the model, pooled to one vector.
 *
 * Rows are worked off in groups of GROUP. A finished group goes to OUT.partial (raw floats), and
 * OUT.partial.json says how many rows are there and under which settings, so that a call that was stopped goes
 * on, with the same batches and so the same bytes. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "data/dataset.h"
#include "formats/npy.h"
#include "model/embed_texts.h"
#include "model/internal.h"
#include "seedcorn/embed.h"
#include "text/tokenizer.h"

enum { GROUP = EMBED_GROUP, BATCH_TOKENS = 2048, HEAD_ROWS = 256 };

typedef struct job {
    const sc_embed_options *options;
    embed_text text;
    pooling pooling;
    bool surprise; /* not a vector, but the mean negative log-likelihood of the tokens */
    bool unit;
    device *device;
    model *m;
    tokenizer *tokenizer;
    dataset *data;
    int64_t n_rows, dim;
    char *partial_path, *journal_path, *json_path;
    int partial; /* file descriptor */
    bool locked; /* the partial result is this call's, not another process's */
    json_t *settings;
    int64_t done, n_tokens, n_cut, n_resumed;
    embed_texts texts;
    float *vectors; /* [GROUP][dim] of the group */
    buffer pooled, targets;
} job;

sc_embed_options sc_embed_default(void)
{
    return (sc_embed_options){.struct_size = sizeof(sc_embed_options),
                              .common = sc_common_default(),
                              .text = "review",
                              .pooling = "mean",
                              .normalize = "none",
                              .layer = -1,
                              .max_tokens = 256};
}

/* --- options -------------------------------------------------------------------------------------------- */

static sc_status pick(const char *flag, const char *value, const char *const *words, int *out)
{
    for (int i = 0; words[i] != NULL; i++)
        if (value != NULL && strcmp(value, words[i]) == 0) {
            *out = i;
            return SC_OK;
        }
    const char *near = value != NULL ? text_nearest(value, words) : NULL;
    strbuf list = {0};
    for (int i = 0; words[i] != NULL; i++)
        strbuf_printf(&list, "%s%s", i == 0 ? "" : words[i + 1] == NULL ? " or " : ", ", words[i]);
    sc_status status = sc_fail(SC_USAGE, "--%s must be %s, not \"%s\"%s%s%s.", flag, strbuf_text(&list),
                               value != NULL ? value : "", near != NULL ? "; did you mean " : "",
                               near != NULL ? near : "", near != NULL ? "?" : "");
    strbuf_free(&list);
    return status;
}

static sc_status check_options(job *j)
{
    static const char *const texts[] = {"review", "item", "both", NULL};
    static const char *const poolings[] = {"mean", "last", "nll", NULL};
    static const char *const units[] = {"none", "unit", NULL};
    const sc_embed_options *o = j->options;
    sc_status status = SC_OK;
    int text = 0, how = 0, unit = 0;
    if (o->data == NULL || o->model == NULL || o->out == NULL)
        return sc_fail(SC_USAGE, "embed needs --data, --model and --out.");
    SC_TRY(pick("text", o->text, texts, &text));
    SC_TRY(pick("pooling", o->pooling, poolings, &how));
    SC_TRY(pick("normalize", o->normalize, units, &unit));
    if (o->max_tokens < 1 || o->max_tokens > INT32_MAX / GROUP)
        SC_TRY(
            sc_fail(SC_USAGE, "--max-tokens is %lld, but it must be at least 1.", (long long)o->max_tokens));
    j->text = (embed_text)text;
    j->pooling = how == 0 ? POOL_MEAN : POOL_LAST;
    j->surprise = how == 2;
    j->unit = unit == 1;
    if (j->surprise && (j->unit || o->layer != -1))
        SC_TRY(sc_fail(SC_USAGE, "--pooling nll takes neither --normalize nor --layer."));
cleanup:
    return status;
}

static sc_status open_inputs(job *j)
{
    const sc_embed_options *o = j->options;
    const int parts = j->text == TEXT_ITEM     ? DATASET_ITEMS
                      : j->text == TEXT_REVIEW ? DATASET_REVIEWS
                                               : DATASET_REVIEWS | DATASET_ITEMS;
    sc_status status = SC_OK;
    SC_TRY(device_open(&o->common, &j->device));
    SC_TRY(tokenizer_open(o->model, &j->tokenizer));
    SC_TRY(dataset_open(o->data, parts, &j->data));
    SC_TRY(model_open(o->model, j->device, &j->m));
    SC_TRY(model_check_tokenizer(j->m, j->tokenizer));
    if (o->layer < -1 || o->layer > j->m->config.n_layers)
        SC_TRY(sc_fail(SC_USAGE,
                       "--layer is %lld, but the model has blocks 1 to %d (0: the embeddings, -1: after the "
                       "final norm).",
                       (long long)o->layer, j->m->config.n_layers));
    if (o->max_tokens > j->m->config.max_positions)
        SC_TRY(sc_fail(SC_USAGE, "--max-tokens is %lld, but the model has only %d positions.",
                       (long long)o->max_tokens, j->m->config.max_positions));
    if (o->adapter != NULL) {
        SC_TRY(model_lora_load(j->m, o->adapter));
        if (j->m->dtype == DTYPE_F32) /* as exact, and one product less a layer */
            SC_TRY(model_lora_merge(j->m));
    }
    j->n_rows = (int64_t)(j->text == TEXT_ITEM ? j->data->n_items : j->data->n_reviews);
    j->dim = j->surprise ? 1 : j->m->config.dim;
    SC_TRY(sc_alloc(&j->vectors, GROUP * (size_t)j->dim, sizeof(float)));
    j->texts.data = j->data;
    j->texts.tokenizer = j->tokenizer;
    j->texts.kind = j->text;
    j->texts.n_rows = j->n_rows;
    j->texts.max_tokens = o->max_tokens;
    j->texts.empty_id = j->m->config.bos_id >= 0 ? j->m->config.bos_id : 0;
cleanup:
    return status;
}

/* --- the partial result ------------------------------------------------------------------------------------ */

static sc_status path_with(const char *path, const char *suffix, char **out)
{
    strbuf s = {0};
    strbuf_printf(&s, "%s%s", path, suffix);
    sc_status status = strbuf_status(&s);
    if (status == SC_OK)
        *out = strbuf_take(&s);
    strbuf_free(&s);
    return status;
}

/* embeddings.npy -> embeddings.json */
static sc_status make_paths(job *j)
{
    const char *out = j->options->out;
    sc_status status = SC_OK;
    char *stem = NULL, *folder = NULL;
    SC_TRY(sc_strdup(&stem, out));
    if (text_ends(stem, ".npy"))
        stem[strlen(stem) - 4] = 0;
    SC_TRY(path_with(stem, ".json", &j->json_path));
    SC_TRY(path_with(out, ".partial", &j->partial_path));
    SC_TRY(path_with(out, ".partial.json", &j->journal_path));
    folder = path_dir(out);
    if (folder == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "No memory for a path."));
    SC_TRY(file_make_dirs(folder));
cleanup:
    free(stem);
    free(folder);
    return status;
}

/* Everything that the result depends on: it goes into embeddings.json, and a resumed call must agree. */
static sc_status make_settings(job *j)
{
    const sc_embed_options *o = j->options;
    sc_status status = SC_OK;
    char adapter[65] = "", files[65];
    if (o->adapter != NULL)
        SC_TRY(model_lora_sha256(o->adapter, adapter));
    SC_TRY(model_files_sha256(o->model, files));
    j->settings = json_pack(
        "{s:I, s:I, s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "rows",
        (json_int_t)j->n_rows, "dim", (json_int_t)j->dim, "text", o->text, "pooling", o->pooling, "normalize",
        o->normalize, "layer", (json_int_t)o->layer, "max_tokens", (json_int_t)o->max_tokens, "dtype",
        j->m->dtype == DTYPE_BF16 ? "bf16" : "fp32", "model_sha256", j->m->sha256, "model_files_sha256",
        files, "adapter_sha256", o->adapter != NULL ? json_string(adapter) : json_null(), "reviews_sha256",
        j->text != TEXT_ITEM ? json_string(j->data->reviews_sha256) : json_null(), "items_sha256",
        j->text != TEXT_REVIEW ? json_string(j->data->items_sha256) : json_null(), "device_table",
        json_string(j->device->ops->name));
    if (j->settings == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "No memory for the settings of embed."));
cleanup:
    return status;
}

static sc_status write_journal(job *j)
{
    if (fdatasync(j->partial) != 0)
        return sc_fail_errno(SC_IO, "%s cannot be written", j->partial_path);
    json_t *root =
        json_pack("{s:O, s:I, s:I, s:I}", "settings", j->settings, "rows_done", (json_int_t)j->done,
                  "n_tokens", (json_int_t)j->n_tokens, "n_cut", (json_int_t)j->n_cut);
    if (root == NULL)
        return sc_fail(SC_MEMORY, "No memory for %s.", j->journal_path);
    sc_status status = json_write_file(j->journal_path, root);
    json_decref(root);
    return status;
}

static sc_status compare_settings(const job *j, const json_t *old)
{
    sc_status status = SC_OK;
    strbuf differences = {0};
    json_differences(old, j->settings, &differences);
    if (differences.len > 0)
        status = sc_fail(
            SC_CONFLICT,
            "%s holds a partial result of other settings; finish it with those, or delete it and %s to start "
            "anew: %s",
            j->partial_path, j->journal_path, strbuf_text(&differences));
    strbuf_free(&differences);
    return status;
}

static sc_status read_journal(job *j)
{
    sc_status status = SC_OK;
    json_t *root = NULL;
    uint64_t size = 0;
    if (!file_exists(j->journal_path))
        return SC_OK;
    SC_TRY(json_parse_file(j->journal_path, &root));
    SC_TRY(compare_settings(j, json_object_get(root, "settings")));
    SC_TRY(json_need_int(root, "rows_done", j->journal_path, &j->done));
    SC_TRY(json_need_int(root, "n_tokens", j->journal_path, &j->n_tokens));
    SC_TRY(json_need_int(root, "n_cut", j->journal_path, &j->n_cut));
    SC_TRY(file_size(j->partial_path, &size));
    if (j->done < 0 || j->done > j->n_rows || (j->done % GROUP != 0 && j->done != j->n_rows) ||
        (uint64_t)j->done * (uint64_t)j->dim * sizeof(float) > size)
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s does not fit %s; delete both to start anew.", j->journal_path,
                       j->partial_path));
    j->n_resumed = j->done;
cleanup:
    json_decref(root);
    return status;
}

static sc_status open_partial(job *j)
{
    sc_status status = SC_OK;
    j->partial = open(j->partial_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (j->partial < 0)
        return sc_fail_errno(SC_IO, "%s cannot be written", j->partial_path);
    if (flock(j->partial, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? sc_fail(SC_BUSY,
                                              "Another process is writing %s; wait for it or give another "
                                              "--out.",
                                              j->options->out)
                                    : sc_fail_errno(SC_IO, "%s cannot be locked", j->partial_path);
    j->locked = true;
    SC_TRY(read_journal(j));
    if (ftruncate(j->partial, (off_t)(j->done * j->dim * (int64_t)sizeof(float))) != 0)
        SC_TRY(sc_fail_errno(SC_IO, "%s cannot be written", j->partial_path));
cleanup:
    return status;
}

static sc_status append_vectors(job *j, int64_t n)
{
    const char *bytes = (const char *)j->vectors;
    size_t left = (size_t)(n * j->dim) * sizeof(float);
    off_t at = (off_t)(j->done * j->dim * (int64_t)sizeof(float));
    while (left > 0) {
        const ssize_t k = pwrite(j->partial, bytes, left, at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return sc_fail_errno(SC_IO, "%s cannot be written", j->partial_path);
        bytes += k;
        left -= (size_t)k;
        at += k;
    }
    return SC_OK;
}

/* --- one group ------------------------------------------------------------------------------------------------ */

/* For each of n sequences the mean of -log p(token | the tokens before it), from its second one on; 0 for a single
 * token. hidden [cu[n]][dim] is that of the whole batch. */
static sc_status surprise_of(job *j, const void *hidden, const int32_t *ids, const int32_t *cu, int64_t n,
                             float *out)
{
    model *m = j->m;
    const ops *o = m->device->ops;
    sc_status status = SC_OK;
    int32_t *rows = NULL, *targets = NULL;
    float *losses = NULL;
    int64_t n_targets = 0;
    SC_TRY(sc_alloc(&rows, (size_t)cu[n], sizeof *rows));
    SC_TRY(sc_alloc(&targets, (size_t)cu[n], sizeof *targets));
    SC_TRY(sc_alloc(&losses, (size_t)cu[n], sizeof *losses));
    for (int64_t i = 0; i < n; i++)
        for (int32_t t = cu[i]; t + 1 < cu[i + 1]; t++) {
            rows[n_targets] = t;
            targets[n_targets++] = ids[t + 1];
        }
    for (int64_t at = 0; at < n_targets; at += HEAD_ROWS) {
        const int64_t k = n_targets - at < HEAD_ROWS ? n_targets - at : HEAD_ROWS;
        float *logits = NULL;
        SC_TRY(buffer_upload(m, &j->targets, targets + at, (size_t)k * sizeof *targets));
        SC_TRY(buffer_need(m, &j->pooled, (size_t)k * sizeof *losses));
        SC_TRY(model_logits(m, hidden, rows + at, k, &logits));
        SC_TRY(o->cross_entropy(NULL, j->pooled.data, logits, DTYPE_F32, j->targets.data, k,
                                m->config.vocab_size, 1, 0, false));
        SC_TRY(o->download(NULL, losses + at, j->pooled.data, (size_t)k * sizeof *losses));
        SC_TRY(o->synchronise(NULL));
    }
    const float *loss = losses;
    for (int64_t i = 0; i < n; i++) {
        const int32_t tokens = cu[i + 1] - cu[i] - 1;
        double sum = 0;
        for (int32_t t = 0; t < tokens; t++)
            sum += (double)*loss++;
        out[i] = tokens > 0 ? (float)(sum / tokens) : 0;
    }
cleanup:
    free(rows);
    free(targets);
    free(losses);
    return status;
}

/* The rows order[0..n) of a group as one packed batch; their vectors go to their places in j->vectors. */
static sc_status embed_batch(job *j, const text_group *g, const int32_t *order, int64_t n)
{
    model *m = j->m;
    const ops *o = m->device->ops;
    sc_status status = SC_OK;
    int32_t *ids = NULL, cu[GROUP + 1] = {0};
    float *host = NULL;
    void *hidden = NULL;
    for (int64_t i = 0; i < n; i++)
        cu[i + 1] = cu[i] + (int32_t)g->ids[order[i]].n;
    SC_TRY(sc_alloc(&ids, (size_t)cu[n], sizeof *ids));
    for (int64_t i = 0; i < n; i++)
        memcpy(ids + cu[i], g->ids[order[i]].ids, g->ids[order[i]].n * sizeof *ids);
    const packed_batch batch = {.ids = ids, .cu_seqlens = cu, .n_seqs = n, .n_tokens = cu[n]};
    SC_TRY(model_forward(m, &batch, (int32_t)j->options->layer, &hidden));
    SC_TRY(sc_alloc(&host, (size_t)(n * j->dim), sizeof *host));
    if (j->surprise) {
        SC_TRY(surprise_of(j, hidden, ids, cu, n, host));
    } else {
        SC_TRY(buffer_need(m, &j->pooled, (size_t)(n * j->dim) * sizeof(float)));
        SC_TRY(o->pool_rows(NULL, j->pooled.data, hidden, m->dtype, storage_of(m)->ws.cu_seqlens.data, n,
                            j->dim, j->pooling));
        SC_TRY(o->download(NULL, host, j->pooled.data, (size_t)(n * j->dim) * sizeof *host));
        SC_TRY(o->synchronise(NULL));
    }
    for (int64_t i = 0; i < n; i++)
        memcpy(j->vectors + order[i] * j->dim, host + i * j->dim, (size_t)j->dim * sizeof *host);
cleanup:
    free(ids);
    free(host);
    return status;
}

static sc_status finish_vector(const job *j, int64_t row, float *v)
{
    double squares = 0;
    for (int64_t k = 0; k < j->dim; k++) {
        if (!isfinite(v[k]))
            return sc_fail(
                SC_BAD_INPUT,
                "The vector of row %lld (%s) holds NaN or infinity at dimension %lld; the weights of %s or "
                "its adapter are damaged.",
                (long long)row + 1, j->text == TEXT_ITEM ? j->data->items[row].id : j->data->reviews[row].id,
                (long long)k, j->options->model);
        squares += (double)v[k] * (double)v[k];
    }
    if (j->unit && squares > 0) {
        const double scale = 1 / sqrt(squares);
        for (int64_t k = 0; k < j->dim; k++)
            v[k] = (float)((double)v[k] * scale);
    }
    return SC_OK;
}

/* Longest first, so that the rows of a batch are alike in length, and in even batches. */
static sc_status embed_group(job *j)
{
    sc_status status = SC_OK;
    int32_t order[GROUP];
    const text_group *g = NULL;
    SC_TRY(embed_texts_take(&j->texts, &g));
    const int64_t n = g->n;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i;
        for (; at > 0 && g->ids[order[at - 1]].n < g->ids[i].n; at--)
            order[at] = order[at - 1];
        order[at] = (int32_t)i;
    }
    const int64_t n_batches = (g->n_tokens + BATCH_TOKENS - 1) / BATCH_TOKENS;
    const int64_t target = (g->n_tokens + n_batches - 1) / n_batches;
    for (int64_t from = 0, to = 0; from < n; from = to) {
        SC_TRY(check_cancelled());
        for (int64_t tokens = 0; to < n && tokens < target; to++)
            tokens += (int64_t)g->ids[order[to]].n;
        SC_TRY(embed_batch(j, g, order + from, to - from));
    }
    for (int64_t i = 0; i < n; i++)
        SC_TRY(finish_vector(j, g->first + i, j->vectors + i * j->dim));
    j->n_tokens += g->n_tokens;
    j->n_cut += g->n_cut;
cleanup:
    return status;
}

/* --- the whole ------------------------------------------------------------------------------------------------- */

static sc_status embed_rows(job *j)
{
    sc_status status = SC_OK, saved = SC_OK;
    double last = seconds_now();
    bool unsaved = false;
    progress *p = progress_begin("embed", j->text == TEXT_ITEM ? "items" : "reviews", j->n_rows);
    progress_skip(p, j->n_resumed);
    j->texts.next = j->done;
    while (j->done < j->n_rows) {
        const int64_t n = j->n_rows - j->done < GROUP ? j->n_rows - j->done : GROUP;
        const int64_t tokens = j->n_tokens, cut = j->n_cut;
        status = embed_group(j);
        if (status == SC_OK)
            status = append_vectors(j, n);
        if (status != SC_OK) { /* the group does not count */
            j->n_tokens = tokens;
            j->n_cut = cut;
            goto cleanup;
        }
        j->done += n;
        unsaved = true;
        progress_add(p, n);
        if (seconds_now() - last > 1) {
            SC_TRY(write_journal(j));
            unsaved = false;
            last = seconds_now();
        }
    }
cleanup:
    if (unsaved)
        saved = write_journal(j);
    progress_end(p);
    return status != SC_OK ? status : saved;
}

static sc_status write_result(job *j)
{
    sc_status status = SC_OK;
    npy_writer *w = NULL;
    file_map map = {0};
    json_t *root = NULL;
    const int64_t shape[2] = {j->n_rows, j->dim};
    SC_TRY(file_map_open(j->partial_path, &map));
    SC_TRY(npy_writer_open(j->options->out, NPY_F4, 2, shape, &w));
    SC_TRY(npy_writer_rows(w, map.data, j->n_rows));
    SC_TRY(npy_writer_commit(&w));
    root = json_copy(j->settings);
    json_object_del(root, "device_table");
    json_object_set_new(root, "model", json_text(j->options->model));
    json_object_set_new(root, "adapter",
                        j->options->adapter != NULL ? json_text(j->options->adapter) : json_null());
    json_object_set_new(root, "data", json_text(j->options->data));
    json_object_set_new(root, "device", json_text(j->device->name));
    json_object_set_new(root, "n_tokens", json_integer(j->n_tokens));
    json_object_set_new(root, "n_cut", json_integer(j->n_cut));
    SC_TRY(json_write_file(j->json_path, root));
    unlink(j->journal_path);
    unlink(j->partial_path);
cleanup:
    json_decref(root);
    file_map_close(&map);
    npy_writer_discard(&w);
    return status;
}

static void close_job(job *j)
{
    embed_texts_close(&j->texts);
    free(j->vectors);
    if (j->m != NULL) {
        buffer_release(j->m, &j->pooled);
        buffer_release(j->m, &j->targets);
    }
    model_close(j->m);
    tokenizer_close(j->tokenizer);
    dataset_close(j->data);
    device_close(j->device);
    json_decref(j->settings);
    if (j->partial >= 0) {
        if (j->locked && j->done == 0 && !file_exists(j->journal_path))
            unlink(j->partial_path); /* nothing in it to go on from */
        close(j->partial);
    }
    free(j->partial_path);
    free(j->journal_path);
    free(j->json_path);
    free(j);
}

sc_status sc_embed(const sc_embed_options *options, sc_embed_result *result)
{
    sc_status status = SC_OK;
    const double start = seconds_now();
    job *j = NULL;
    SC_TRY(sc_alloc(&j, 1, sizeof *j));
    j->options = options;
    j->partial = -1;
    SC_TRY(check_options(j));
    SC_TRY(open_inputs(j));
    SC_TRY(make_paths(j));
    SC_TRY(make_settings(j));
    SC_TRY(open_partial(j));
    SC_TRY(embed_rows(j));
    SC_TRY(write_result(j));
    if (result != NULL)
        *result = (sc_embed_result){.n_rows = j->n_rows,
                                    .dim = j->dim,
                                    .n_tokens = j->n_tokens,
                                    .n_cut = j->n_cut,
                                    .n_resumed = j->n_resumed,
                                    .seconds = seconds_now() - start};
cleanup:
    if (j != NULL)
        close_job(j);
    return status;
}
