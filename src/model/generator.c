/* Conversations to tokens, and tokens to replies. */
#include "model/generator.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

sc_generate_options sc_generate_default(void)
{
    return (sc_generate_options){.struct_size = sizeof(sc_generate_options),
                                 .common = sc_common_default(),
                                 .max_tokens = 256,
                                 .top_p = 1,
                                 .repetition_penalty = 1};
}

/* Settings become floats: what is none is refused rather than taken for 0 or infinity. */
static bool is_positive_float(double x)
{
    return x >= 1e-37 && x <= 1e38;
}

sc_status generate_check_sampling(const char *verb, int64_t max_tokens, double temperature, double top_p)
{
    if (max_tokens < 1 || max_tokens > (1 << 20))
        return sc_fail(SC_USAGE, "%s: --max-tokens is %lld; it must be from 1 to %d", verb,
                       (long long)max_tokens, 1 << 20);
    if (!(temperature == 0 || is_positive_float(temperature)))
        return sc_fail(SC_USAGE, "%s: the temperature is %g; it must be 0, or from 1e-37 to 1e38", verb,
                       temperature);
    if (!is_positive_float(top_p) || top_p > 1)
        return sc_fail(SC_USAGE, "%s: top-p is %g; it must be above 0 and at most 1", verb, top_p);
    return SC_OK;
}

sc_status generate_check_options(const sc_generate_options *o)
{
    if (o->struct_size != sizeof *o)
        return sc_fail(
            SC_USAGE,
            "generate: the options are not those of this library; start from sc_generate_default()");
    if (!o->model)
        return sc_fail(SC_USAGE, "generate needs a model");
    if (o->top_k < 0 || o->top_k > INT32_MAX)
        return sc_fail(SC_USAGE, "generate: top-k is %lld; it must be 0 (all) or more", (long long)o->top_k);
    if (!(o->min_p >= 0 && o->min_p <= 1))
        return sc_fail(SC_USAGE, "generate: min-p is %g; it must be from 0 to 1", o->min_p);
    if (!is_positive_float(o->repetition_penalty))
        return sc_fail(SC_USAGE,
                       "generate: the repetition penalty is %g; it must be from 1e-37 to 1e38 (1: none)",
                       o->repetition_penalty);
    if (o->batch < 0)
        return sc_fail(SC_USAGE, "generate: the batch is %lld; it must be 0 (64) or more",
                       (long long)o->batch);
    for (const char *const *s = o->stop; s && *s; s++)
        if (**s == '\0')
            return sc_fail(SC_USAGE, "generate: an empty stop text would end every reply at once");
    return generate_check_sampling("generate", o->max_tokens, o->temperature, o->top_p);
}

static sc_status copy_stops(const char *const *stop, sc_generator *g)
{
    sc_status status = SC_OK;
    size_t n = 0;
    while (stop && stop[n])
        n++;
    SC_TRY(sc_alloc(&g->stops, n + 1, sizeof *g->stops));
    for (; g->n_stops < n; g->n_stops++)
        SC_TRY(sc_strdup(&g->stops[g->n_stops], stop[g->n_stops]));
cleanup:
    return status;
}

sc_status sc_generator_open(const sc_generate_options *o, sc_generator **out)
{
    sc_status status = SC_OK;
    sc_generator *g = NULL;
    *out = NULL;
    SC_TRY(generate_check_options(o));
    SC_TRY(sc_alloc(&g, 1, sizeof *g));
    SC_TRY(copy_stops(o->stop, g));
    SC_TRY(chat_family_of(o->model, &g->family));
    SC_TRY(tokenizer_open(o->model, &g->tokenizer));
    SC_TRY(device_open(&o->common, &g->device));
    SC_TRY(model_open(o->model, g->device, &g->model));
    SC_TRY(model_check_tokenizer(g->model, g->tokenizer));
    if (o->adapter)
        SC_TRY(model_lora_load(g->model, o->adapter));
    g->settings = (generate_options){.max_tokens = o->max_tokens,
                                     .temperature = (float)o->temperature,
                                     .top_p = (float)o->top_p,
                                     .seed = (uint64_t)o->common.seed,
                                     .max_live = o->batch,
                                     .top_k = (int32_t)o->top_k,
                                     .min_p = (float)o->min_p,
                                     .penalty = (float)o->repetition_penalty,
                                     .logprobs = true};
    *out = g;
    g = NULL;
cleanup:
    sc_generator_close(g);
    return status;
}

void sc_generator_close(sc_generator *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->n_stops; i++)
        free(g->stops[i]);
    free(g->stops);
    model_close(g->model);
    tokenizer_close(g->tokenizer);
    device_close(g->device);
    free(g);
}

/* --- conversations to tokens -------------------------------------------------------------------------------- */

/* Rows of tokens, one after the other; of each the place from which on it is scored. */
typedef struct token_rows {
    token_ids ids;
    int64_t *cu, *starts; /* [n + 1], [n] */
} token_rows;

static void token_rows_free(token_rows *r)
{
    token_ids_free(&r->ids);
    free(r->cu);
    free(r->starts);
}

static sc_status named(const char *const *names, size_t i, const char *what)
{
    return names ? sc_fail(SC_BAD_INPUT, "the conversation \"%.80s\" %s", names[i], what)
                 : sc_fail(SC_BAD_INPUT, "conversation %zu %s", i + 1, what);
}

/* What the assistant says in the last message: its ids' first place, and their end. */
static sc_status find_reply(const chat_rendered *r, size_t n_messages, int64_t *first, int64_t *end)
{
    size_t at = n_messages > 1 ? r->message_end[n_messages - 2] : 0, last = r->ids.n;
    while (at < r->ids.n && !r->mask[at])
        at++;
    while (last > at && !r->mask[last - 1])
        last--;
    *first = (int64_t)at;
    *end = (int64_t)last;
    return at < last ? SC_OK : sc_fail(SC_INTERNAL, "a rendered reply has no tokens");
}

static sc_status render(const sc_generator *g, const sc_conversation *c, bool scored, token_rows *out,
                        size_t i)
{
    sc_status status = SC_OK;
    chat_message *messages = NULL;
    chat_rendered r = {0};
    int64_t end;
    SC_TRY(sc_alloc(&messages, c->n, sizeof *messages));
    for (size_t k = 0; k < c->n; k++)
        messages[k] = (chat_message){c->messages[k].role, c->messages[k].content};
    SC_TRY(chat_render(g->tokenizer, g->family, messages, c->n, !scored, &r));
    end = (int64_t)r.ids.n;
    if (scored)
        SC_TRY(find_reply(&r, c->n, &out->starts[i], &end));
    for (int64_t k = 0; k < end; k++)
        SC_TRY(token_ids_push(&out->ids, r.ids.ids[k]));
    out->cu[i + 1] = (int64_t)out->ids.n;
cleanup:
    free(messages);
    chat_rendered_free(&r);
    return status;
}

static sc_status render_all(const sc_generator *g, const sc_conversation *conversations,
                            const char *const *names, size_t n, bool scored, token_rows *out)
{
    sc_status status = SC_OK;
    char why[256];
    SC_TRY(sc_alloc(&out->cu, n + 1, sizeof *out->cu));
    SC_TRY(sc_alloc(&out->starts, n, sizeof *out->starts));
    for (size_t i = 0; i < n; i++) {
        const sc_conversation *c = &conversations[i];
        for (size_t k = 0; k < c->n; k++)
            if (!c->messages[k].role || !c->messages[k].content)
                SC_TRY(named(names, i, "has a message without a role or a content"));
        if (c->n == 0)
            SC_TRY(named(names, i, "has no messages"));
        if ((strcmp(c->messages[c->n - 1].role, "assistant") == 0) != scored)
            SC_TRY(named(names, i,
                         scored ? "does not end with a message of the assistant's, which could be scored"
                                : "ends with a message of the assistant's, so there is nothing to answer"));
        status = render(g, c, scored, out, i);
        if (status == SC_BAD_INPUT) {
            snprintf(why, sizeof why, "cannot be read: %s", sc_last_error());
            status = named(names, i, why);
        }
        SC_TRY(status);
        const int64_t length = out->cu[i + 1] - out->cu[i], most = g->model->config.max_positions;
        if (length + !scored > most) {
            snprintf(why, sizeof why, "has %lld tokens, more than the %lld positions of the model allow",
                     (long long)length, (long long)most);
            SC_TRY(named(names, i, why));
        }
    }
cleanup:
    return status;
}

sc_status generator_check(const sc_generator *g, const sc_conversation *conversations,
                          const char *const *names, size_t n, bool scored)
{
    token_rows rows = {0};
    sc_status status = render_all(g, conversations, names, n, scored, &rows);
    token_rows_free(&rows);
    return status;
}

/* --- tokens to replies -------------------------------------------------------------------------------------- */

/* What the rows have said, as far as it is looked through for the texts that end it. */
typedef struct listener {
    const sc_generator *g;
    strbuf *texts; /* [n] bytes */
    size_t *cut;   /* [n] where the text that ended a row begins; SIZE_MAX: none did */
    sc_status status;
} listener;

static bool hears_stop(void *context, size_t row, const generated *so_far)
{
    listener *l = context;
    strbuf *text = &l->texts[row];
    const size_t before = text->len;
    if (l->status != SC_OK)
        return true;
    l->status = tokenizer_decode(l->g->tokenizer, &so_far->ids[so_far->n - 1], 1, false, text);
    if (l->status != SC_OK)
        return true;
    const char *bytes = strbuf_text(text);
    for (size_t i = 0; i < l->g->n_stops; i++) {
        const size_t n = strlen(l->g->stops[i]);
        for (size_t at = before > n - 1 ? before - (n - 1) : 0; at + n <= text->len && at < l->cut[row]; at++)
            if (memcmp(bytes + at, l->g->stops[i], n) == 0)
                l->cut[row] = at;
    }
    return l->cut[row] != SIZE_MAX;
}

/* A character that the end cut in two is repaired. */
static sc_status make_text(const listener *l, size_t row, const generated *from, sc_reply *out)
{
    sc_status status = SC_OK;
    strbuf raw = {0}, clean = {0};
    if (l->g->n_stops == 0)
        SC_TRY(tokenizer_decode(l->g->tokenizer, from->ids, (size_t)from->n, false, &raw));
    const strbuf *bytes = l->g->n_stops > 0 ? &l->texts[row] : &raw;
    utf8_sanitize_string(&clean, strbuf_text(bytes), l->cut[row] < bytes->len ? l->cut[row] : bytes->len);
    SC_TRY(strbuf_status(&clean));
    SC_TRY(sc_strdup(&out->text, strbuf_text(&clean)));
cleanup:
    strbuf_free(&raw);
    strbuf_free(&clean);
    return status;
}

sc_status generator_reply(sc_generator *g, const sc_conversation *conversations, const char *const *names,
                          size_t n, uint64_t first, sc_reply *replies, progress *p)
{
    sc_status status = SC_OK;
    token_rows rows = {0};
    listener ears = {.g = g};
    uint64_t *keys = NULL;
    generated *said = NULL;
    generate_options settings = g->settings;
    const int32_t end = chat_end_token(g->tokenizer, g->family);
    if (n == 0)
        return SC_OK;
    memset(replies, 0, n * sizeof *replies);
    SC_TRY(render_all(g, conversations, names, n, false, &rows));
    SC_TRY(sc_alloc(&keys, n, sizeof *keys));
    SC_TRY(sc_alloc(&said, n, sizeof *said));
    SC_TRY(sc_alloc(&ears.texts, n, sizeof *ears.texts));
    SC_TRY(sc_alloc(&ears.cut, n, sizeof *ears.cut));
    for (size_t i = 0; i < n; i++) {
        keys[i] = first + i;
        ears.cut[i] = SIZE_MAX;
    }
    settings.stop_ids = &end;
    settings.n_stop_ids = end >= 0;
    settings.ends = g->n_stops > 0 ? hears_stop : NULL;
    settings.context = &ears;
    SC_TRY(generate(g->model, rows.ids.ids, rows.cu, n, keys, &settings, said, p));
    SC_TRY(ears.status);
    for (size_t i = 0; i < n; i++) {
        sc_reply *r = &replies[i];
        *r = (sc_reply){
            .n_prompt = rows.cu[i + 1] - rows.cu[i], .n_tokens = said[i].n, .stopped = said[i].stopped};
        for (int64_t k = 0; k < said[i].n; k++)
            r->logprob += (double)said[i].logprobs[k];
        SC_TRY(make_text(&ears, i, &said[i], r));
    }
cleanup:
    if (status != SC_OK)
        sc_replies_free(replies, n);
    generated_free(said, n);
    for (size_t i = 0; ears.texts && i < n; i++)
        strbuf_free(&ears.texts[i]);
    free(ears.texts);
    free(ears.cut);
    free(said);
    free(keys);
    token_rows_free(&rows);
    return status;
}

sc_status generator_score(sc_generator *g, const sc_conversation *conversations, const char *const *names,
                          size_t n, double *logprobs, int64_t *n_prompt, int64_t *n_tokens, progress *p)
{
    sc_status status = SC_OK;
    token_rows rows = {0};
    float *each = NULL;
    if (n == 0)
        return SC_OK;
    SC_TRY(render_all(g, conversations, names, n, true, &rows));
    SC_TRY(sc_alloc(&each, rows.ids.n, sizeof *each));
    SC_TRY(model_score(g->model, rows.ids.ids, rows.cu, rows.starts, n, each, p));
    for (size_t i = 0, at = 0; i < n; i++) {
        const int64_t scored = rows.cu[i + 1] - rows.cu[i] - rows.starts[i];
        logprobs[i] = 0;
        for (int64_t k = 0; k < scored; k++)
            logprobs[i] += (double)each[at++];
        if (n_prompt)
            n_prompt[i] = rows.starts[i];
        if (n_tokens)
            n_tokens[i] = scored;
    }
cleanup:
    free(each);
    token_rows_free(&rows);
    return status;
}

sc_status sc_generator_reply(sc_generator *g, const sc_conversation *conversations, size_t n,
                             sc_reply *replies)
{
    return generator_reply(g, conversations, NULL, n, 0, replies, NULL);
}

sc_status sc_generator_score(sc_generator *g, const sc_conversation *conversations, size_t n,
                             double *logprobs, int64_t *n_tokens)
{
    return generator_score(g, conversations, NULL, n, logprobs, NULL, n_tokens, NULL);
}

void sc_replies_free(sc_reply *replies, size_t n)
{
    for (size_t i = 0; replies && i < n; i++) {
        free(replies[i].text);
        replies[i].text = NULL;
    }
}
