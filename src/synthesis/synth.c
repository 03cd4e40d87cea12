/* sc_synth: checks the options, loads the data, lets a teacher work, and puts the files in place.
 *
 * The teachers keep what they finish in OUT/journal.log; dialogues.jsonl and failed.jsonl are
 * written in the order of the selection and renamed into place at the end, so a stopped run leaves a
 * journal and no half file, and a run that was stopped gives the bytes of one that was not. */
#include "seedcorn/synth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "formats/npy.h"
#include "synthesis/run.h"

sc_synth_options sc_synth_default(void)
{
    return (sc_synth_options){
        .struct_size = sizeof(sc_synth_options),
        .common = sc_common_default(),
        .teacher = "offline",
        .dialogues_per_seed = 5,
        .domain = "movie",
        .base_url = "https://api.openai.com/v1",
        .api_key_env = "OPENAI_API_KEY",
        .temperature = 0.8,
        .in_flight = 16,
        .max_retries = 8,
        .answer_tokens = 512,
        .timeout = 120.0,
    };
}

static sc_status check_options(const sc_synth_options *o)
{
    if (o == NULL || o->struct_size != sizeof *o)
        return sc_fail(SC_USAGE, "synth: the options were not made by sc_synth_default() of this version");
    if (o->data == NULL || o->selection == NULL || o->out == NULL)
        return sc_fail(SC_USAGE, "synth needs a data set folder (--data), a selection (--selection) and a "
                                 "folder to write to (--out)");
    if (o->teacher == NULL || (strcmp(o->teacher, "offline") != 0 && strcmp(o->teacher, "openai") != 0))
        return sc_fail(SC_USAGE, "synth: no teacher is called \"%s\"; there are offline and openai",
                       o->teacher != NULL ? o->teacher : "");
    if (o->dialogues_per_seed < 1 || o->dialogues_per_seed > 1000)
        return sc_fail(SC_USAGE, "synth: dialogues per seed is %lld; it must be between 1 and 1000",
                       (long long)o->dialogues_per_seed);
    if (o->domain == NULL || o->domain[0] == '\0' || strlen(o->domain) > 40 ||
        !utf8_valid(o->domain, strlen(o->domain)) || strpbrk(o->domain, "{}\n\r\t\"\\") != NULL)
        return sc_fail(SC_USAGE, "synth: the domain must be a word or two, like movie or product");
    if (o->in_flight < 1 || o->in_flight > 10000 || o->max_retries < 0 || o->max_retries > 1000 ||
        o->max_requests < 0 || o->max_total_tokens < 0 || o->answer_tokens < 1 || o->answer_tokens > 1000000)
        return sc_fail(
            SC_USAGE,
            "synth: --in-flight must be 1 to 10000, --max-retries 0 to 1000, --answer-tokens at least 1, "
            "and the caps not negative");
    if (!(o->temperature >= 0.0 && o->temperature <= 2.0) || !(o->timeout > 0.0 && o->timeout <= 86400.0))
        return sc_fail(SC_USAGE, "synth: the temperature must be between 0 and 2, and the timeout above 0 "
                                 "and at most 86400 seconds");
    return SC_OK;
}

/* selection.jsonl: every row once, inside the data set, and of the same review if it names one. */
static sc_status read_selection(synthesis_run *run)
{
    sc_status status = SC_OK;
    const dataset *d = run->context.data;
    line_reader *reader = NULL;
    json_t *line = NULL;
    unsigned char *taken = NULL;
    size_t cap = 0;
    char where[512];
    SC_TRY(sc_alloc(&taken, d->n_reviews + 1, 1));
    SC_TRY(line_reader_open(run->options->selection, 1 << 20, &reader));
    for (;;) {
        int64_t row = 0;
        const char *id = NULL;
        SC_TRY(json_next_line(reader, &line));
        if (line == NULL)
            break;
        snprintf(where, sizeof where, "%s:%lld", run->options->selection,
                 (long long)line_reader_line(reader));
        SC_TRY(json_need_int(line, "row", where, &row));
        SC_TRY(json_get_string(line, "review_id", where, NULL, &id));
        if (row < 0 || (size_t)row >= d->n_reviews) {
            status = sc_fail(SC_BAD_INPUT,
                             "%s: row %lld is outside the %zu reviews of %s; select from this data set",
                             where, (long long)row, d->n_reviews, run->options->data);
            goto cleanup;
        }
        if (id != NULL && strcmp(id, d->reviews[row].id) != 0) {
            status =
                sc_fail(SC_BAD_INPUT,
                        "%s: row %lld of %s is review %s, not %s; the selection was made from other data",
                        where, (long long)row, run->options->data, d->reviews[row].id, id);
            goto cleanup;
        }
        if (taken[row]) {
            status = sc_fail(SC_BAD_INPUT, "%s: row %lld was selected before", where, (long long)row);
            goto cleanup;
        }
        taken[row] = 1;
        SC_TRY(sc_grow(&run->rows, &cap, run->n_rows + 1, sizeof *run->rows));
        run->rows[run->n_rows++] = row;
        json_decref(line);
        line = NULL;
    }
    if (run->n_rows == 0)
        status = sc_fail(SC_BAD_INPUT, "%s holds no selected review", run->options->selection);
cleanup:
    json_decref(line);
    line_reader_close(reader);
    free(taken);
    return status;
}

/* Hash of a file of the catalogue, or of nothing where it is absent. */
static sc_status add_file_hash(json_t *facts, const char *key, const char *folder, const char *name)
{
    sc_status status = SC_OK;
    char hex[65] = "";
    char *path = path_join(folder, name);
    if (path == NULL)
        return sc_fail(SC_MEMORY, "memory does not suffice for a path");
    if (file_exists(path))
        status = file_sha256(path, hex);
    free(path);
    if (status == SC_OK)
        json_object_set_new(facts, key, json_text(hex));
    return status;
}

static sc_status make_fingerprint(synthesis_run *run)
{
    sc_status status = SC_OK;
    const sc_synth_options *o = run->options;
    const synthesis_context *c = &run->context;
    strbuf text = {0};
    char hex[65] = "";
    json_t *facts = json_object();
    json_object_set_new(facts, "version", json_text("offline-1"));
    json_object_set_new(facts, "seed", json_integer(o->common.seed));
    json_object_set_new(facts, "per_seed", json_integer(o->dialogues_per_seed));
    json_object_set_new(facts, "domain", json_text(o->domain));
    json_object_set_new(facts, "templates", json_text(c->pool.sha256));
    json_object_set_new(facts, "reviews", json_text(c->data->reviews_sha256));
    json_object_set_new(facts, "items", json_text(c->data->items_sha256));
    json_object_set_new(facts, "catalogue", json_text(c->catalogue->items_sha256));
    SC_TRY(add_file_hash(facts, "interactions", c->catalogue->path, "interactions.npy"));
    SC_TRY(add_file_hash(facts, "ratings", c->catalogue->path, "interactions_rating.npy"));
    SC_TRY(file_sha256(o->selection, hex));
    json_object_set_new(facts, "selection", json_text(hex));
    if (o->embeddings != NULL) {
        SC_TRY(file_sha256(o->embeddings, hex));
        json_object_set_new(facts, "embeddings", json_text(hex));
    }
    SC_TRY(json_canonical(facts, &text));
    sha256_hex(strbuf_text(&text), text.len, run->fingerprint);
cleanup:
    json_decref(facts);
    strbuf_free(&text);
    return status;
}

void run_dialogue_id(int64_t rank, int64_t j, char id[40])
{
    snprintf(id, 40, "%06lld-%lld", (long long)rank, (long long)j);
}

sc_status run_emit_text(synthesis_run *run, const char *line, size_t n)
{
    sc_status status = file_writer_write(run->dialogues, line, n);
    if (status == SC_OK)
        status = file_writer_write(run->dialogues, "\n", 1);
    run->result->n_dialogues++;
    return status;
}

sc_status run_fail(synthesis_run *run, const char *id, int64_t row, const char *reason)
{
    sc_status status = SC_OK;
    const review *r = &run->context.data->reviews[row];
    json_t *line =
        json_pack("{s:s, s:I, s:o, s:o, s:o}", "id", id, "row", (json_int_t)row, "review_id",
                  json_text(r->id), "parent_asin", json_text(r->parent_asin), "reason", json_text(reason));
    if (line == NULL)
        return sc_fail(SC_MEMORY, "memory does not suffice for a line of failed.jsonl");
    status = json_write_line(run->failed, line);
    json_decref(line);
    run->result->n_failed++;
    snprintf(run->last_reason, sizeof run->last_reason, "%s", reason);
    return status;
}

/* Films and their kin are told; everything else is used. */
static bool tells_stories(const char *domain)
{
    static const char *const words[] = {"movie", "film",    "show",      "series",
                                        "anime", "tv show", "tv series", NULL};
    for (const char *const *w = words; *w != NULL; w++)
        if (strcasecmp(*w, domain) == 0)
            return true;
    return false;
}

static sc_status open_embeddings(const char *path, const dataset *catalogue, npy_file *out)
{
    sc_status status = npy_open_as(path, NPY_F4, 2, out);
    if (status == SC_OK && (size_t)out->shape[0] != catalogue->n_items)
        status = sc_fail(
            SC_BAD_INPUT,
            "%s has %lld rows, but the catalogue %s has %zu items; embed its items (embed --text item)", path,
            (long long)out->shape[0], catalogue->path, catalogue->n_items);
    const float *values = out->data;
    for (int64_t i = 0; status == SC_OK && i < out->n_values; i++)
        if (!(values[i] > -3.0e38f && values[i] < 3.0e38f))
            status =
                sc_fail(SC_BAD_INPUT, "%s: row %lld holds a value that is not finite; embed the items again",
                        path, (long long)(i / (out->shape[1] > 0 ? out->shape[1] : 1)));
    return status;
}

static sc_status put_files(synthesis_run *run, const char *failed_path)
{
    sc_status status = file_writer_commit(&run->dialogues);
    if (status != SC_OK)
        return status;
    if (run->result->n_failed > 0)
        return file_writer_commit(&run->failed);
    file_writer_discard(&run->failed);
    return file_remove_tree(failed_path); /* of an earlier, less lucky run */
}

sc_status sc_synth(const sc_synth_options *options, sc_synth_result *result)
{
    sc_status status = SC_OK;
    double start = seconds_now();
    synthesis_run run = {.options = options, .result = result};
    sc_synth_result unused = {0};
    dataset *data = NULL, *catalogue = NULL;
    neighbours *near = NULL;
    npy_file embeddings = {0};
    file_lock *lock = NULL;
    char *journal_path = NULL, *dialogues_path = NULL, *failed_path = NULL;
    if (result == NULL)
        run.result = &unused;
    *run.result = (sc_synth_result){0};
    SC_TRY(check_options(options));
    bool wider = options->catalogue != NULL && strcmp(options->catalogue, options->data) != 0;
    SC_TRY(dataset_open(options->data, wider ? DATASET_REVIEWS | DATASET_ITEMS : DATASET_ALL, &data));
    if (wider)
        SC_TRY(dataset_open(options->catalogue, DATASET_ITEMS | DATASET_INTERACTIONS, &catalogue));
    const dataset *titles = wider ? catalogue : data;
    if (options->embeddings != NULL)
        SC_TRY(open_embeddings(options->embeddings, titles, &embeddings));
    SC_TRY(neighbours_create(titles, embeddings.data, (size_t)embeddings.shape[1], &near));

    run.context = (synthesis_context){.data = data,
                                      .near = near,
                                      .catalogue = titles,
                                      .domain = options->domain,
                                      .stories = tells_stories(options->domain),
                                      .seed = (uint64_t)options->common.seed,
                                      .per_seed = options->dialogues_per_seed};
    SC_TRY(options->templates != NULL
               ? templates_read(options->templates, run.context.stories, &run.context.pool)
               : templates_builtin(run.context.stories, &run.context.pool));
    SC_TRY(synthesis_context_open(&run.context));
    SC_TRY(read_selection(&run));
    SC_TRY(make_fingerprint(&run));

    SC_TRY(file_make_dirs(options->out));
    SC_TRY(file_lock_take(options->out, &lock));
    journal_path = path_join(options->out, "journal.log");
    dialogues_path = path_join(options->out, "dialogues.jsonl");
    failed_path = path_join(options->out, "failed.jsonl");
    if (journal_path == NULL || dialogues_path == NULL || failed_path == NULL) {
        status = sc_fail(SC_MEMORY, "memory does not suffice for a path");
        goto cleanup;
    }
    SC_TRY(journal_open(journal_path, &run.journal));
    SC_TRY(file_writer_open(dialogues_path, &run.dialogues));
    SC_TRY(file_writer_open(failed_path, &run.failed));
    run.progress = progress_begin("synth", "dialogues", (int64_t)run.n_rows * options->dialogues_per_seed);
    SC_TRY(strcmp(options->teacher, "offline") == 0 ? offline_run(&run) : openai_run(&run));
    if (run.result->n_dialogues == 0) {
        status = sc_fail(SC_BAD_INPUT,
                         "synth: none of the %zu selected reviews gave a dialogue; the last reason: %s",
                         run.n_rows, run.last_reason);
        goto cleanup;
    }
    SC_TRY(put_files(&run, failed_path));
    if (run.result->n_failed > 0)
        status = sc_fail(SC_PARTIAL, "synth: %lld of %lld dialogues failed; %s says why",
                         (long long)run.result->n_failed,
                         (long long)(run.result->n_failed + run.result->n_dialogues), failed_path);
cleanup:
    progress_end(run.progress);
    file_writer_discard(&run.dialogues);
    file_writer_discard(&run.failed);
    journal_close(run.journal);
    file_lock_release(lock);
    free(run.rows);
    synthesis_context_close(&run.context);
    neighbours_free(near);
    npy_close(&embeddings);
    dataset_close(catalogue);
    dataset_close(data);
    free(journal_path);
    free(dialogues_path);
    free(failed_path);
    run.result->seconds = seconds_now() - start;
    return status;
}
