/* generate: dialogues -> replies, or how likely their last messages are. Rows are worked off in groups of 64; a finished
 * group is kept as the lines that the output will hold. */
#include <stdlib.h>
#include <string.h>

#include "data/dialogue.h"
#include "formats/groups.h"
#include "model/generator.h"

enum { GROUP = 64 };

typedef struct generation {
    const sc_generate_options *options;
    sc_generator *generator;
    dialogues dialogues;
    line_groups groups;
    sc_generate_result result;
    progress *progress;
} generation;

/* What the lines depend on; of the batch it is the last bits of the log-probabilities. A score has no other settings. */
static sc_status make_settings(const generation *r, json_t **out)
{
    sc_status status = SC_OK;
    const sc_generate_options *o = r->options;
    const model *m = r->generator->model;
    char adapter[65] = "", files[65];
    json_t *stop = NULL;
    if (o->adapter)
        SC_TRY(model_lora_sha256(o->adapter, adapter));
    SC_TRY(model_files_sha256(o->model, files));
    *out = json_pack("{s:s,s:s,s:s,s:s,s:b,s:s,s:s}", "dialogues", r->dialogues.sha256, "model", m->sha256,
                     "model_files", files, "adapter", adapter, "score", o->score, "dtype",
                     m->dtype == DTYPE_BF16 ? "bf16" : "fp32", "device", r->generator->device->ops->name);
    if (!o->score) {
        stop = json_array();
        for (const char *const *s = o->stop; s && *s; s++)
            json_array_append_new(stop, json_text(*s));
        json_t *more =
            json_pack("{s:I,s:f,s:I,s:f,s:f,s:f,s:O,s:I,s:I}", "max_tokens", (json_int_t)o->max_tokens,
                      "temperature", o->temperature, "top_k", (json_int_t)o->top_k, "top_p", o->top_p,
                      "min_p", o->min_p, "repetition_penalty", o->repetition_penalty, "stop", stop, "batch",
                      (json_int_t)(o->batch == 0 || o->batch > GROUP ? GROUP : o->batch), "seed",
                      (json_int_t)o->common.seed);
        json_object_update(*out, more);
        json_decref(more);
    }
    if (*out == NULL)
        status = sc_fail(SC_MEMORY, "no memory for the settings of generate");
cleanup:
    json_decref(stop);
    return status;
}

static sc_status write_line(strbuf *out, json_t *line)
{
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    if (text) {
        strbuf_puts(out, text);
        strbuf_putc(out, '\n');
    }
    json_decref(line);
    const bool failed = text == NULL;
    free(text);
    return failed ? sc_fail(SC_MEMORY, "no memory for a reply") : strbuf_status(out);
}

/* A group's conversations, which point into the dialogues. */
typedef struct conversation_group {
    sc_conversation conversations[GROUP];
    const char *names[GROUP];
    sc_message *messages;
} conversation_group;

static sc_status group_take(const generation *r, size_t group, conversation_group *out)
{
    sc_status status = SC_OK;
    const dialogue *rows = r->dialogues.rows + group * GROUP;
    size_t total = 0, at = 0;
    for (size_t i = 0; i < line_groups_rows(&r->groups, group); i++)
        total += rows[i].n_messages;
    SC_TRY(sc_alloc(&out->messages, total, sizeof *out->messages));
    for (size_t i = 0; i < line_groups_rows(&r->groups, group); i++) {
        out->conversations[i] = (sc_conversation){out->messages + at, rows[i].n_messages};
        out->names[i] = rows[i].id;
        for (size_t k = 0; k < rows[i].n_messages; k++)
            out->messages[at++] = (sc_message){rows[i].messages[k].role, rows[i].messages[k].content};
    }
cleanup:
    return status;
}

static sc_status answer(generation *r, size_t group, const conversation_group *c, group_totals *totals)
{
    sc_status status = SC_OK;
    const size_t n = line_groups_rows(&r->groups, group);
    sc_reply replies[GROUP] = {{0}};
    SC_TRY(generator_reply(r->generator, c->conversations, c->names, n, group * GROUP, replies, r->progress));
    for (size_t i = 0; i < n; i++) {
        const sc_reply *y = &replies[i];
        totals->prompt_tokens += y->n_prompt;
        totals->new_tokens += y->n_tokens;
        totals->logprob += y->logprob;
        SC_TRY(write_line(&r->groups.lines[group],
                          json_pack("{s:s,s:o,s:s,s:I,s:f}", "id", c->names[i], "text", json_text(y->text),
                                    "finish_reason", y->stopped ? "stop" : "length", "n_tokens",
                                    (json_int_t)y->n_tokens, "logprob", y->logprob)));
    }
cleanup:
    sc_replies_free(replies, n);
    return status;
}

static sc_status score(generation *r, size_t group, const conversation_group *c, group_totals *totals)
{
    sc_status status = SC_OK;
    const size_t n = line_groups_rows(&r->groups, group);
    double logprobs[GROUP];
    int64_t n_prompt[GROUP], n_tokens[GROUP];
    SC_TRY(generator_score(r->generator, c->conversations, c->names, n, logprobs, n_prompt, n_tokens, NULL));
    for (size_t i = 0; i < n; i++) {
        totals->prompt_tokens += n_prompt[i];
        totals->new_tokens += n_tokens[i];
        totals->logprob += logprobs[i];
        SC_TRY(
            write_line(&r->groups.lines[group], json_pack("{s:s,s:I,s:f}", "id", c->names[i], "n_tokens",
                                                          (json_int_t)n_tokens[i], "logprob", logprobs[i])));
    }
    progress_add(r->progress, (int64_t)n);
cleanup:
    return status;
}

static sc_status work_off(generation *r, size_t group)
{
    sc_status status = SC_OK;
    conversation_group c = {0};
    group_totals totals = {0};
    SC_TRY(group_take(r, group, &c));
    SC_TRY(r->options->score ? score(r, group, &c, &totals) : answer(r, group, &c, &totals));
    SC_TRY(line_groups_finish(&r->groups, group, totals));
cleanup:
    free(c.messages);
    return status;
}

/* A conversation that cannot be answered is found before the first of them costs time. */
static sc_status check_all(const generation *r)
{
    sc_status status = SC_OK;
    conversation_group c = {0};
    for (size_t g = 0; g < r->groups.n; g++) {
        SC_TRY(check_cancelled());
        if (r->groups.done[g])
            continue;
        SC_TRY(group_take(r, g, &c));
        SC_TRY(generator_check(r->generator, c.conversations, c.names, line_groups_rows(&r->groups, g),
                               r->options->score));
        free(c.messages);
        c.messages = NULL;
    }
cleanup:
    free(c.messages);
    return status;
}

static sc_status groups_open(generation *r)
{
    json_t *settings = NULL;
    sc_status status = make_settings(r, &settings);
    if (status == SC_OK)
        status = line_groups_open(r->options->out, true, settings, r->dialogues.n, GROUP, &r->groups);
    json_decref(settings);
    return status;
}

sc_status sc_generate(const sc_generate_options *options, sc_generate_result *result)
{
    sc_status status = SC_OK;
    const double start = seconds_now();
    generation r = {.options = options};
    SC_TRY(generate_check_options(options));
    if (!options->dialogues || !options->out)
        return sc_fail(SC_USAGE, "generate needs dialogues and out");
    if (file_same(options->dialogues, options->out))
        return sc_fail(SC_USAGE, "generate: --out would replace %s, its own input; give another file",
                       options->dialogues);
    SC_TRY(dialogues_read(options->dialogues, &r.dialogues));
    SC_TRY(sc_generator_open(options, &r.generator));
    SC_TRY(groups_open(&r));
    SC_TRY(check_all(&r));
    const int64_t unit = options->score ? 1 : options->max_tokens;
    r.progress = progress_begin(options->score ? "score" : "generate",
                                options->score ? "dialogues" : "tokens", (int64_t)r.dialogues.n * unit);
    progress_skip(r.progress, r.groups.n_resumed * unit);
    for (size_t g = 0; g < r.groups.n; g++) {
        SC_TRY(check_cancelled());
        if (!r.groups.done[g])
            SC_TRY(work_off(&r, g));
        r.result.prompt_tokens += r.groups.totals[g].prompt_tokens;
        r.result.new_tokens += r.groups.totals[g].new_tokens;
        r.result.logprob += r.groups.totals[g].logprob;
    }
    SC_TRY(line_groups_commit(&r.groups));
    if (r.result.new_tokens > 0)
        r.result.logprob /= (double)r.result.new_tokens;
    r.result.n_resumed = r.groups.n_resumed;
    r.result.n_rows = (int64_t)r.dialogues.n;
    r.result.seconds = seconds_now() - start;
    if (result)
        *result = r.result;
cleanup:
    progress_end(r.progress);
    line_groups_close(&r.groups);
    dialogues_free(&r.dialogues);
    sc_generator_close(r.generator);
    return status;
}
