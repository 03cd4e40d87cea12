/* import dialogues: conversations of several data sets -> evaluation dialogues, the list of the items
 * that may be recommended, and a note of what was read and dropped. */
#include "seedcorn/import.h"

#include <stdlib.h>
#include <string.h>

#include "data/dialogue.h"
#include "data/samples.h"

typedef struct dialogue_format {
    const char *name;
    sc_status (*read)(dialogue_import *in);
} dialogue_format;

static const dialogue_format formats[] = {{"he2023", import_he2023}, {"nbcrs", import_nbcrs},
                                          {"redial", import_redial}, {"inspired", import_inspired},
                                          {"unicrs", import_unicrs}, {"messages", import_messages}};
enum { N_FORMATS = sizeof formats / sizeof formats[0] };

sc_import_dialogues_options sc_import_dialogues_default(void)
{
    sc_import_dialogues_options o = {0};
    o.struct_size = sizeof o;
    o.common = sc_common_default();
    o.domain = "movie";
    return o;
}

static sc_status find_format(const char *name, const dialogue_format **out)
{
    const char *names[N_FORMATS + 1] = {0};
    for (int i = 0; i < N_FORMATS; i++) {
        names[i] = formats[i].name;
        if (strcmp(name, formats[i].name) == 0) {
            *out = &formats[i];
            return SC_OK;
        }
    }
    const char *nearest = text_nearest(name, names);
    return sc_fail(
        SC_USAGE,
        "unknown dialogue format \"%s\"%s%s; there are he2023, nbcrs, redial, inspired, unicrs and messages",
        name, nearest ? ", did you mean " : "", nearest ? nearest : "");
}

/* The prompt file without the line end that editors put at the end of a file; tried out at once, so that
 * a mistake in it does not wait for the first dialogue. */
static sc_status read_prompt(dialogue_import *in)
{
    sc_status status = SC_OK;
    strbuf text = {0}, trial = {0};
    if (in->options->prompt) {
        SC_TRY(file_read_all(in->options->prompt, &text));
        if (!utf8_valid(strbuf_text(&text), text.len) || strlen(strbuf_text(&text)) != text.len) {
            status = sc_fail(SC_BAD_INPUT, "%s is not valid UTF-8 text", in->options->prompt);
            goto cleanup;
        }
        if (text.len > 0 && text.data[text.len - 1] == '\n')
            text.data[--text.len] = '\0';
        SC_TRY(sc_strdup(&in->pattern, strbuf_text(&text)));
    }
    SC_TRY(dialogue_prompt(in->pattern, in->options->prompt, in->options->domain, "", &trial));
cleanup:
    strbuf_free(&text);
    strbuf_free(&trial);
    return status;
}

/* "dir/test.jsonl" + ".items.jsonl" -> "dir/test.items.jsonl" */
static sc_status sibling(const char *out, const char *suffix, char **path)
{
    strbuf name = {0};
    size_t n = strlen(out);
    strbuf_append(&name, out, text_ends(out, ".jsonl") ? n - strlen(".jsonl") : n);
    strbuf_puts(&name, suffix);
    sc_status status = strbuf_status(&name);
    *path = status == SC_OK ? strbuf_take(&name) : NULL;
    return status;
}

static sc_status write_note(dialogue_import *in, const char *path)
{
    const sc_import_dialogues_options *o = in->options;
    sc_status status = SC_OK;
    json_t *note = NULL, *sources = json_array();
    if (!sources)
        return sc_fail(SC_MEMORY, "memory ran out");
    SC_TRY(source_describe(sources, "dialogues", o->input));
    if (o->items)
        SC_TRY(source_describe(sources, "items", o->items));
    if (in->items.item_ids)
        SC_TRY(source_describe(sources, "item_ids", in->items.item_ids));
    if (o->prompt)
        SC_TRY(source_describe(sources, "prompt", o->prompt));
    int64_t written = o->limit > 0 ? (int64_t)in->n_kept : in->n_rows;
    note = json_pack("{s:s, s:i, s:s, s:s, s:I, s:I, s:{s:I, s:I, s:I, s:I, s:I}, s:O, s:O, s:o}", "format",
                     "seedcorn-dialogues", "version", 1, "source_format", o->format, "domain", o->domain,
                     "limit", (json_int_t)o->limit, "seed", (json_int_t)o->common.seed, "counts", "dialogues",
                     (json_int_t)written, "samples", (json_int_t)in->n_rows, "targets",
                     (json_int_t)in->n_targets, "new_targets", (json_int_t)in->n_new, "items",
                     (json_int_t)in->items.n_candidates, "sources", sources, "dropped", in->dropped,
                     "cleaned", clean_counts_json(&in->cleaned));
    if (!note) {
        status = sc_fail(SC_MEMORY, "memory ran out");
        goto cleanup;
    }
    SC_TRY(json_write_file(path, note));
cleanup:
    json_decref(note);
    json_decref(sources);
    return status;
}

static void close_import(dialogue_import *in)
{
    file_writer_discard(&in->out);
    catalogue_close(&in->items);
    hash_set_free(&in->ids);
    json_decref(in->dropped);
    for (size_t i = 0; i < in->n_kept; i++)
        free(in->kept[i].text);
    free(in->kept);
    free(in->pattern);
}

sc_status sc_import_dialogues(const sc_import_dialogues_options *o, sc_import_result *result)
{
    sc_status status = SC_OK;
    dialogue_import in = {.options = o};
    const dialogue_format *format = NULL;
    char *items_path = NULL, *note_path = NULL, *folder = NULL;
    const double start = seconds_now();
    if (!o || o->struct_size != sizeof *o || !o->input || !o->out || !o->format)
        return sc_fail(SC_USAGE, "import dialogues needs --input, --format and --out");
    if (o->limit < 0)
        return sc_fail(SC_USAGE, "--limit is %lld; 0 means all rows, n that n of them are drawn",
                       (long long)o->limit);
    if (!o->domain || is_blank(o->domain))
        return sc_fail(SC_USAGE, "--domain is empty; it is the word in the prompt, for example movie");
    SC_TRY(find_format(o->format, &format));
    in.dropped = json_object();
    folder = path_dir(o->out);
    if (!in.dropped || !folder) {
        status = sc_fail(SC_MEMORY, "memory ran out");
        goto cleanup;
    }
    SC_TRY(read_prompt(&in));
    if (o->items)
        SC_TRY(catalogue_open(o->items, &in.items));
    SC_TRY(file_make_dirs(folder));
    SC_TRY(sibling(o->out, ".items.jsonl", &items_path));
    SC_TRY(sibling(o->out, ".import.json", &note_path));
    SC_TRY(file_writer_open(o->out, &in.out));
    SC_TRY(format->read(&in));
    if (in.n_rows == 0) {
        status =
            sc_fail(SC_BAD_INPUT, "%s: none of %lld records gives a dialogue; is --format %s the right one?",
                    o->input, (long long)in.n_read, o->format);
        goto cleanup;
    }
    SC_TRY(samples_finish(&in));
    if (o->items)
        SC_TRY(catalogue_write(&in.items, items_path));
    SC_TRY(write_note(&in, note_path));
    SC_TRY(file_writer_commit(&in.out));
    if (result) {
        *result = (sc_import_result){.n_items = (int64_t)in.items.n_candidates,
                                     .n_dialogues = o->limit > 0 ? (int64_t)in.n_kept : in.n_rows,
                                     .n_read = in.n_read,
                                     .n_dropped = count_total(in.dropped)};
        result->seconds = seconds_now() - start;
    }
    log_info("%s: %lld dialogues with %lld targets, %lld of them new to the conversation", o->out,
             (long long)in.n_rows, (long long)in.n_targets, (long long)in.n_new);
    if (o->limit > 0 && (int64_t)in.n_kept < in.n_rows)
        log_info("%s: %zu of these dialogues are kept, drawn with seed %lld", o->out, in.n_kept,
                 (long long)o->common.seed);
cleanup:
    close_import(&in);
    free(items_path);
    free(note_path);
    free(folder);
    return status;
}
