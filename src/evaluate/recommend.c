/* recommend: model + dialogues -> replies.jsonl.
 *
 * Rows are worked off in groups of 64. A finished group is journaled whole beside the output, as the very
 * lines that the output will hold; a restart reads them back and forms the same groups again. */
#include "seedcorn/recommend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/dataset.h"
#include "data/dialogue.h"
#include "evaluate/match.h"
#include "evaluate/parse.h"
#include "formats/groups.h"
#include "model/generator.h"
#include "text/chat.h"

enum { GROUP = 64, LIST_LENGTH = 20 };

sc_recommend_options sc_recommend_default(void)
{
    return (sc_recommend_options){.struct_size = sizeof(sc_recommend_options),
                                  .common = sc_common_default(),
                                  .beams = 25,
                                  .max_tokens = 512,
                                  .top_p = 1,
                                  .domain = "movie"};
}

/* The catalogue as token sequences. */
typedef struct title_trie {
    title_index *titles;
    size_t n;          /* items: the first n names of the index */
    char **plain;      /* [n] as they are written in a list */
    token_ids *tokens; /* [n] of " Title" */
    trie *trie;
    token_ids lead; /* "1." */
    int32_t newline;
} title_trie;

typedef struct recommendation {
    const sc_recommend_options *options;
    device *device;
    model *model;
    tokenizer *tokenizer;
    chat_family family;
    dialogues dialogues;
    title_trie catalogue;
    line_groups groups;
    sc_recommend_result result;
    progress *progress;
} recommendation;

static sc_status check_options(const sc_recommend_options *o)
{
    if (o->struct_size != sizeof *o)
        return sc_fail(
            SC_USAGE,
            "recommend: the options are not those of this library; start from sc_recommend_default()");
    if (!o->model || !o->out || !o->domain)
        return sc_fail(SC_USAGE, "recommend needs model and out");
    if (!o->dialogues == !o->request)
        return sc_fail(
            SC_USAGE,
            "recommend answers either dialogues or one request: give --dialogues FILE or --request TEXT");
    if (o->request && strspn(o->request, " \t\r\n") == strlen(o->request))
        return sc_fail(SC_USAGE, "recommend: the request is empty; say in a sentence what you look for");
    if (o->dialogues && file_same(o->dialogues, o->out))
        return sc_fail(SC_USAGE, "recommend: --out would replace %s, its own input; give another file",
                       o->dialogues);
    if (o->constrained && !o->items)
        return sc_fail(SC_USAGE, "--constrained chooses among a catalogue's titles: give --items FILE");
    if (o->beams < 1 || o->beams > 1024)
        return sc_fail(SC_USAGE, "recommend: %lld beams; give --beams from 1 to 1024", (long long)o->beams);
    if (o->batch < 0)
        return sc_fail(SC_USAGE, "recommend: the batch is %lld; it must be 0 (auto) or more",
                       (long long)o->batch);
    return generate_check_sampling("recommend", o->max_tokens, o->temperature, o->top_p);
}

/* --- inputs ----------------------------------------------------------------------------------------- */

/* One typed sentence as a dialogue of one user message, in the prompt that the evaluation uses. */
static sc_status request_dialogue(const sc_recommend_options *o, dialogues *out)
{
    sc_status status = SC_OK;
    strbuf conversation = {0}, prompt = {0};
    strbuf_printf(&conversation, "\nUser: ");
    text_fold_spaces(&conversation, o->request, strlen(o->request));
    strbuf_puts(&conversation, "\nSystem: ");
    SC_TRY(strbuf_status(&conversation));
    SC_TRY(dialogue_prompt(NULL, "the request", o->domain, strbuf_text(&conversation), &prompt));
    SC_TRY(sc_alloc(&out->rows, 1, sizeof *out->rows));
    out->n = 1;
    SC_TRY(sc_strdup(&out->rows[0].id, "request"));
    SC_TRY(sc_strdup(&out->rows[0].request, o->request));
    SC_TRY(sc_alloc(&out->rows[0].messages, 1, sizeof *out->rows[0].messages));
    out->rows[0].n_messages = 1;
    SC_TRY(sc_strdup(&out->rows[0].messages[0].role, "user"));
    SC_TRY(sc_strdup(&out->rows[0].messages[0].content, strbuf_text(&prompt)));
cleanup:
    strbuf_free(&conversation);
    strbuf_free(&prompt);
    return status;
}

static void title_trie_free(title_trie *t)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->plain)
            free(t->plain[i]);
        if (t->tokens)
            token_ids_free(&t->tokens[i]);
    }
    free(t->plain);
    free(t->tokens);
    token_ids_free(&t->lead);
    trie_free(t->trie);
    title_index_close(t->titles);
    *t = (title_trie){0};
}

static sc_status title_trie_open(const char *items, const tokenizer *tok, title_trie *t)
{
    sc_status status = SC_OK;
    strbuf text = {0};
    token_ids newline = {0};
    const int32_t **sequences = NULL;
    int32_t *lengths = NULL;
    const char **spaced = NULL;
    SC_TRY(title_index_open(items, MATCH_STRICT, &t->titles));
    t->n = title_index_n_items(t->titles);
    if (t->n == 0) {
        status = sc_fail(SC_BAD_INPUT, "%s has no item with a title: nothing to choose from", items);
        goto cleanup;
    }
    SC_TRY(sc_alloc(&t->plain, t->n, sizeof *t->plain));
    SC_TRY(sc_alloc(&t->tokens, t->n, sizeof *t->tokens));
    SC_TRY(sc_alloc(&spaced, t->n, sizeof *spaced));
    SC_TRY(sc_alloc(&sequences, t->n, sizeof *sequences));
    SC_TRY(sc_alloc(&lengths, t->n, sizeof *lengths));
    for (size_t i = 0; i < t->n; i++) {
        strbuf_clear(&text);
        strbuf_putc(&text, ' ');
        SC_TRY(dataset_plain_title(title_index_name(t->titles, (int32_t)i), &text));
        SC_TRY(sc_strdup(&t->plain[i], strbuf_text(&text)));
        spaced[i] = t->plain[i];
    }
    SC_TRY(tokenizer_encode_batch(tok, spaced, t->n, false, t->tokens));
    for (size_t i = 0; i < t->n; i++) {
        sequences[i] = t->tokens[i].ids;
        lengths[i] = (int32_t)t->tokens[i].n;
        memmove(t->plain[i], t->plain[i] + 1, strlen(t->plain[i]));
    }
    SC_TRY(trie_create(sequences, lengths, t->n, &t->trie));
    SC_TRY(tokenizer_encode(tok, "1.", 2, false, &t->lead));
    SC_TRY(tokenizer_encode(tok, "\n", 1, false, &newline));
    if (newline.n != 1) {
        status = sc_fail(SC_BAD_INPUT,
                         "the model's tokenizer has no token for a line end, which ends a title in a list");
        goto cleanup;
    }
    t->newline = newline.ids[0];
cleanup:
    strbuf_free(&text);
    token_ids_free(&newline);
    free(spaced);
    free(sequences);
    free(lengths);
    return status;
}

/* --- the journal -------------------------------------------------------------------------------------- */

static sc_status make_settings(const recommendation *r, json_t **out)
{
    sc_status status = SC_OK;
    const sc_recommend_options *o = r->options;
    char adapter[65] = "", items[65] = "", files[65];
    if (o->adapter)
        SC_TRY(model_lora_sha256(o->adapter, adapter));
    if (o->constrained)
        SC_TRY(file_sha256(o->items, items));
    SC_TRY(model_files_sha256(o->model, files));
    *out =
        json_pack("{s:s,s:s,s:s,s:s,s:s,s:b,s:I,s:I,s:f,s:f,s:I,s:s,s:s}", "dialogues", r->dialogues.sha256,
                  "model", r->model->sha256, "model_files", files, "adapter", adapter, "items", items,
                  "constrained", o->constrained, "beams", (json_int_t)(o->constrained ? o->beams : 0),
                  "max_tokens", (json_int_t)(o->constrained ? 0 : o->max_tokens), "temperature",
                  o->temperature, "top_p", o->top_p, "seed", (json_int_t)o->common.seed, "dtype",
                  r->model->dtype == DTYPE_BF16 ? "bf16" : "fp32", "device", r->device->ops->name);
    if (*out == NULL)
        status = sc_fail(SC_MEMORY, "no memory for the settings of recommend");
cleanup:
    return status;
}

/* --- one group --------------------------------------------------------------------------------------- */

/* The prompts of a group, one after the other. */
typedef struct prompts {
    token_ids ids;
    int64_t cu[GROUP + 1];
} prompts;

static sc_status render(const recommendation *r, const dialogue *d, prompts *out, size_t index)
{
    sc_status status = SC_OK;
    chat_rendered rendered = {0};
    chat_message *messages = NULL;
    size_t n = d->n_messages;
    /* Lines with the assistant's list in them (training dialogues) are answered anew. */
    while (n > 0 && strcmp(d->messages[n - 1].role, "assistant") == 0)
        n--;
    if (n == 0)
        return sc_fail(SC_BAD_INPUT, "the dialogue \"%.80s\" has no user's message to answer", d->id);
    SC_TRY(sc_alloc(&messages, n, sizeof *messages));
    for (size_t i = 0; i < n; i++)
        messages[i] = (chat_message){d->messages[i].role, d->messages[i].content};
    SC_TRY(chat_render(r->tokenizer, r->family, messages, n, true, &rendered));
    for (size_t i = 0; i < rendered.ids.n; i++)
        SC_TRY(token_ids_push(&out->ids, rendered.ids.ids[i]));
    for (size_t i = 0; r->options->constrained && i < r->catalogue.lead.n; i++)
        SC_TRY(token_ids_push(&out->ids, r->catalogue.lead.ids[i]));
    out->cu[index + 1] = (int64_t)out->ids.n;
    const int64_t length = out->cu[index + 1] - out->cu[index];
    const int64_t room = r->options->constrained ? 1 : r->options->max_tokens;
    if (r->model->config.max_positions > 0 && length + room > r->model->config.max_positions)
        status = sc_fail(SC_BAD_INPUT,
                         "the dialogue \"%.80s\" has %lld tokens; with %lld new ones that is more than the "
                         "model's %d positions%s",
                         d->id, (long long)length, (long long)room, r->model->config.max_positions,
                         r->options->constrained ? "" : "; give a smaller --max-tokens");
cleanup:
    free(messages);
    chat_rendered_free(&rendered);
    return status;
}

static sc_status write_reply(strbuf *out, const char *id, const char *text, const char *finish_reason,
                             int64_t n_tokens)
{
    sc_status status = SC_OK;
    title_list titles = {0};
    json_t *line = json_object(), *list = json_array();
    char *dumped = NULL;
    SC_TRY(parse_reply(text, PARSE_STRICT, &titles));
    for (size_t i = 0; i < titles.n && i < LIST_LENGTH; i++)
        json_array_append_new(list, json_text(titles.titles[i]));
    json_object_set_new(line, "id", json_text(id));
    json_object_set_new(line, "text", json_text(text));
    json_object_set(line, "titles", list);
    json_object_set_new(line, "finish_reason", json_string(finish_reason));
    json_object_set_new(line, "n_tokens", json_integer(n_tokens));
    dumped = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17));
    if (!dumped) {
        status = sc_fail(SC_MEMORY, "no memory for the reply to \"%.80s\"", id);
        goto cleanup;
    }
    strbuf_puts(out, dumped);
    strbuf_putc(out, '\n');
    SC_TRY(strbuf_status(out));
cleanup:
    free(dumped);
    json_decref(line);
    json_decref(list);
    title_list_free(&titles);
    return status;
}

/* The text of generated ids; bytes of a character that the end cut in two are repaired. */
static sc_status decode(const tokenizer *t, const generated *g, strbuf *out)
{
    strbuf raw = {0};
    sc_status status = tokenizer_decode(t, g->ids, (size_t)g->n, false, &raw);
    if (status == SC_OK) {
        strbuf_clear(out);
        utf8_sanitize_string(out, strbuf_text(&raw), raw.len);
        status = strbuf_status(out);
    }
    strbuf_free(&raw);
    return status;
}

static size_t batch_rows(const sc_recommend_options *o)
{
    return o->batch > 0 && o->batch < GROUP ? (size_t)o->batch : GROUP;
}

static sc_status free_group(recommendation *r, size_t group, const prompts *p, int64_t *new_tokens)
{
    sc_status status = SC_OK;
    const sc_recommend_options *o = r->options;
    const size_t first = group * GROUP, n = line_groups_rows(&r->groups, group);
    const size_t batch = batch_rows(o);
    const int32_t end = chat_end_token(r->tokenizer, r->family);
    const generate_options settings = {.max_tokens = o->max_tokens,
                                       .temperature = (float)o->temperature,
                                       .top_p = (float)o->top_p,
                                       .seed = (uint64_t)o->common.seed,
                                       .stop_ids = &end,
                                       .n_stop_ids = end >= 0};
    generated rows[GROUP] = {0};
    uint64_t keys[GROUP];
    int64_t cu[GROUP + 1];
    strbuf text = {0};
    for (size_t i = 0; i < n; i++)
        keys[i] = first + i;
    for (size_t at = 0; at < n; at += batch) {
        const size_t count = n - at < batch ? n - at : batch;
        for (size_t i = 0; i <= count; i++)
            cu[i] = p->cu[at + i] - p->cu[at];
        SC_TRY(generate(r->model, p->ids.ids + p->cu[at], cu, count, keys + at, &settings, rows + at,
                        r->progress));
    }
    for (size_t i = 0; i < n; i++) {
        SC_TRY(decode(r->tokenizer, &rows[i], &text));
        SC_TRY(write_reply(&r->groups.lines[group], r->dialogues.rows[first + i].id, strbuf_text(&text),
                           rows[i].stopped ? "stop" : "length", rows[i].n));
        *new_tokens += rows[i].n;
    }
cleanup:
    for (size_t i = 0; i < GROUP; i++)
        free(rows[i].ids);
    strbuf_free(&text);
    return status;
}

/* Marks the titles that the conversation has. */
static sc_status ban_seen(const title_trie *t, const dialogue *d, uint8_t *banned)
{
    for (size_t i = 0; i < d->n_seen; i++) {
        int32_t name;
        sc_status status = title_index_find(t->titles, d->seen[i], &name);
        if (status != SC_OK)
            return status;
        if (name >= 0 && (size_t)name < t->n)
            banned[name] = 1;
    }
    return SC_OK;
}

static sc_status constrained_group(recommendation *r, size_t group, const prompts *p, int64_t *new_tokens)
{
    sc_status status = SC_OK;
    const title_trie *t = &r->catalogue;
    const size_t first = group * GROUP, n = line_groups_rows(&r->groups, group),
                 batch = batch_rows(r->options);
    uint8_t *banned = NULL;
    const uint8_t *row_banned[GROUP];
    beam_result *found = NULL;
    int64_t n_found[GROUP] = {0}, cu[GROUP + 1];
    strbuf text = {0};
    SC_TRY(sc_alloc(&banned, n * t->n, sizeof *banned));
    SC_TRY(sc_alloc(&found, n * LIST_LENGTH, sizeof *found));
    for (size_t i = 0; i < n; i++) {
        row_banned[i] = banned + i * t->n;
        SC_TRY(ban_seen(t, &r->dialogues.rows[first + i], banned + i * t->n));
    }
    for (size_t at = 0; at < n; at += batch) {
        const size_t count = n - at < batch ? n - at : batch;
        for (size_t i = 0; i <= count; i++)
            cu[i] = p->cu[at + i] - p->cu[at];
        SC_TRY(generate_beam_batch(r->model, p->ids.ids + p->cu[at], cu, count, t->trie, row_banned + at,
                                   t->newline, r->options->beams, LIST_LENGTH, found + at * LIST_LENGTH,
                                   n_found + at, r->progress));
    }
    for (size_t i = 0; i < n; i++) {
        int64_t tokens = 0;
        strbuf_clear(&text);
        for (int64_t b = 0; b < n_found[i]; b++) {
            const int32_t value = found[i * LIST_LENGTH + (size_t)b].value;
            strbuf_printf(&text, "%s%lld. %s", b > 0 ? "\n" : "", (long long)b + 1, t->plain[value]);
            tokens += (int64_t)t->tokens[value].n + 1;
        }
        SC_TRY(strbuf_status(&text));
        SC_TRY(write_reply(&r->groups.lines[group], r->dialogues.rows[first + i].id, strbuf_text(&text),
                           "constrained", tokens));
        *new_tokens += tokens;
    }
cleanup:
    free(banned);
    free(found);
    strbuf_free(&text);
    return status;
}

static sc_status render_group(const recommendation *r, size_t group, prompts *out)
{
    sc_status status = SC_OK;
    for (size_t i = 0; i < line_groups_rows(&r->groups, group); i++)
        SC_TRY(render(r, &r->dialogues.rows[group * GROUP + i], out, i));
cleanup:
    return status;
}

/* A dialogue that cannot be answered is found before the first of them costs time. */
static sc_status check_all(const recommendation *r)
{
    sc_status status = SC_OK;
    for (size_t g = 0; status == SC_OK && g < r->groups.n; g++) {
        prompts p = {0};
        status = check_cancelled();
        if (status == SC_OK && !r->groups.done[g])
            status = render_group(r, g, &p);
        token_ids_free(&p.ids);
    }
    return status;
}

static sc_status answer_group(recommendation *r, size_t group)
{
    sc_status status = SC_OK;
    prompts p = {0};
    int64_t new_tokens = 0;
    SC_TRY(render_group(r, group, &p));
    SC_TRY(r->options->constrained ? constrained_group(r, group, &p, &new_tokens)
                                   : free_group(r, group, &p, &new_tokens));
    SC_TRY(line_groups_finish(&r->groups, group, (group_totals){(int64_t)p.ids.n, new_tokens, 0}));
cleanup:
    token_ids_free(&p.ids);
    return status;
}

static sc_status groups_open(recommendation *r)
{
    json_t *settings = NULL;
    sc_status status = make_settings(r, &settings);
    if (status == SC_OK)
        status = line_groups_open(r->options->out, !r->options->request, settings, r->dialogues.n, GROUP,
                                  &r->groups);
    json_decref(settings);
    return status;
}

static void recommendation_close(recommendation *r)
{
    progress_end(r->progress);
    line_groups_close(&r->groups);
    title_trie_free(&r->catalogue);
    dialogues_free(&r->dialogues);
    tokenizer_close(r->tokenizer);
    model_close(r->model);
    device_close(r->device);
}

sc_status sc_recommend(const sc_recommend_options *options, sc_recommend_result *result)
{
    sc_status status = SC_OK;
    const double start = seconds_now();
    recommendation r = {.options = options};
    SC_TRY(check_options(options));
    if (options->request)
        SC_TRY(request_dialogue(options, &r.dialogues));
    else
        SC_TRY(dialogues_read(options->dialogues, &r.dialogues));
    SC_TRY(chat_family_of(options->model, &r.family));
    SC_TRY(tokenizer_open(options->model, &r.tokenizer));
    if (options->constrained)
        SC_TRY(title_trie_open(options->items, r.tokenizer, &r.catalogue));
    SC_TRY(device_open(&options->common, &r.device));
    SC_TRY(model_open(options->model, r.device, &r.model));
    SC_TRY(model_check_tokenizer(r.model, r.tokenizer));
    if (options->adapter)
        SC_TRY(model_lora_load(r.model, options->adapter));
    SC_TRY(groups_open(&r));
    SC_TRY(check_all(&r));
    const int64_t unit = options->constrained ? 1 : options->max_tokens;
    r.progress = progress_begin("recommend", options->constrained ? "dialogues" : "tokens",
                                (int64_t)r.dialogues.n * unit);
    progress_skip(r.progress, r.groups.n_resumed * unit);
    for (size_t g = 0; g < r.groups.n; g++) {
        SC_TRY(check_cancelled());
        if (!r.groups.done[g])
            SC_TRY(answer_group(&r, g));
        r.result.prompt_tokens += r.groups.totals[g].prompt_tokens;
        r.result.new_tokens += r.groups.totals[g].new_tokens;
        if (!options->constrained)
            progress_note(r.progress, "%zu of %zu dialogues",
                          g + 1 < r.groups.n ? (g + 1) * GROUP : r.dialogues.n, r.dialogues.n);
    }
    SC_TRY(line_groups_commit(&r.groups));
    r.result.n_rows = (int64_t)r.dialogues.n;
    r.result.n_resumed = r.groups.n_resumed;
    r.result.seconds = seconds_now() - start;
    if (result)
        *result = r.result;
cleanup:
    recommendation_close(&r);
    return status;
}
