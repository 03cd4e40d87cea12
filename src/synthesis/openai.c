/* The endpoint teacher: two chat completions per dialogue, the request and the answer to it, through
 * any OpenAI-compatible server.
 *
 * Every answer is on the disk, under the hash of its request, before it counts; a start looks there
 * first. So a stopped run sends nothing twice but what was on its way. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/dialogue.h"
#include "evaluate/parse.h"
#include "net/http.h"
#include "synthesis/answer.h"
#include "synthesis/budget.h"
#include "synthesis/offline.h"
#include "synthesis/prompts.h"
#include "synthesis/run.h"

typedef enum work_stage { WORK_QUERY, WORK_LIST } work_stage;

/* One dialogue in the making. */
typedef struct work {
    struct teacher *owner;
    size_t index; /* of the dialogue in the run: rank * per_seed + j */
    work_stage stage;
    material material;
    offline_draft draft; /* templates, and the request once it is known */
    bool names_target;
    chat_answer query, list;
    char key[65];     /* of the request on its way, or waited for */
    int64_t reserved; /* tokens */
    bool sent, waits; /* waits: another dialogue has sent the same request */
} work;

typedef struct teacher {
    synthesis_run *run;
    http_engine *engine;
    budget budget;
    strbuf url;
    const char *cap_field; /* "max_completion_tokens" or "max_tokens" */
    work **active;
    size_t n_active, cap_active;
    char **lines; /* [n] 'd' or 'f' and the line; NULL: not done */
    size_t n_lines, n_done, n_written;
    bool budget_hit;
    char budget_reason[512];
} teacher;

static void work_free(work *w)
{
    material_free(&w->material);
    offline_draft_free(&w->draft);
    chat_answer_free(&w->query);
    chat_answer_free(&w->list);
    free(w);
}

static void deactivate(teacher *t, work *w)
{
    for (size_t i = 0; i < t->n_active; i++)
        if (t->active[i] == w) {
            memmove(t->active + i, t->active + i + 1, (t->n_active - i - 1) * sizeof *t->active);
            t->n_active--;
            break;
        }
    work_free(w);
}

/* Lines leave in the order of the selection, as soon as those before them are there. */
static sc_status write_ready(teacher *t)
{
    sc_status status = SC_OK;
    for (; t->n_written < t->n_lines && t->lines[t->n_written] != NULL; t->n_written++) {
        char *line = t->lines[t->n_written];
        char id[40];
        int64_t rank = (int64_t)t->n_written / t->run->context.per_seed;
        run_dialogue_id(rank, (int64_t)t->n_written % t->run->context.per_seed, id);
        status = line[0] == 'd' ? run_emit_text(t->run, line + 1, strlen(line + 1))
                                : run_fail(t->run, id, t->run->rows[rank], line + 1);
        free(line);
        t->lines[t->n_written] = NULL;
        if (status != SC_OK)
            break;
    }
    return status;
}

static sc_status conclude(teacher *t, work *w, char kind, const char *text)
{
    strbuf line = {0};
    strbuf_putc(&line, kind);
    strbuf_puts(&line, text);
    sc_status status = strbuf_status(&line);
    if (status == SC_OK) {
        t->lines[w->index] = strbuf_take(&line);
        t->n_done++;
        progress_add(t->run->progress, 1);
        deactivate(t, w);
        status = write_ready(t);
    }
    strbuf_free(&line);
    return status;
}

/* --- the prompts -------------------------------------------------------------------------------- */
static void describe_item(const material *m, strbuf *out)
{
    strbuf_printf(out, "Title: %s", m->title.len > 0 ? strbuf_text(&m->title) : "(unknown)");
    if (m->subject->year > 0)
        strbuf_printf(out, " (%d)", (int)m->subject->year);
    for (size_t i = 0; i < m->n_genres; i++)
        strbuf_printf(out, "%s%s", i == 0 ? "\nGenres: " : ", ", m->genres[i]);
    for (size_t i = 0; i < m->n_people; i++)
        strbuf_printf(out, "%s%s", i == 0 ? "\nPeople: " : ", ", m->people[i]);
    if (m->subject->description != NULL && m->subject->description[0] != '\0')
        strbuf_printf(out, "\nDescription: %.1200s", m->subject->description);
}

/* The words of the item's users that a prompt can hold. */
static void quote_reviews(const material *m, strbuf *out)
{
    for (size_t i = 0; i < m->n_reviews; i++) {
        if (i > 0)
            strbuf_putc(out, '\n');
        dataset_review_quote(m->reviews[i], i + 1, out);
    }
}

static sc_status query_prompt(teacher *t, work *w, strbuf *out)
{
    sc_status status = SC_OK;
    const synthesis_context *c = &t->run->context;
    int64_t j = (int64_t)(w->index % (size_t)c->per_seed);
    strbuf item_text = {0}, reviews = {0}, examples = {0};
    char number[24];
    beginnings none = {0};
    int64_t block = j / MATERIAL_TEMPLATES * MATERIAL_TEMPLATES;
    for (int64_t k = 0; k < MATERIAL_TEMPLATES; k++) {
        offline_draft example = {0};
        SC_TRY(offline_write(c, &w->material, block + k, &none, &example));
        strbuf_printf(&examples, "%sExample %lld:\n%s", k > 0 ? "\n" : "", (long long)k + 1, example.request);
        if (block + k == j) {
            offline_draft_free(&w->draft);
            w->draft = example;
        } else {
            offline_draft_free(&example);
        }
    }
    describe_item(&w->material, &item_text);
    quote_reviews(&w->material, &reviews);
    snprintf(number, sizeof number, "%lld", (long long)(j - block) + 1);
    SC_TRY(strbuf_status(&item_text));
    SC_TRY(strbuf_status(&reviews));
    SC_TRY(strbuf_status(&examples));
    const char *names[] = {"domain", "domains", "item", "reviews", "examples", "number", NULL};
    const char *values[] = {
        c->domain, c->domains, strbuf_text(&item_text), strbuf_text(&reviews), strbuf_text(&examples),
        number};
    SC_TRY(text_expand(out, prompt_query, "the teacher's prompt", names, values));
cleanup:
    strbuf_free(&item_text);
    strbuf_free(&reviews);
    strbuf_free(&examples);
    return status;
}

/* The body, in canonical form, and its hash together with the address. */
static sc_status request_body(teacher *t, const char *prompt, strbuf *body, char key[65])
{
    const sc_synth_options *o = t->run->options;
    sc_status status = SC_OK;
    strbuf named = {0};
    json_t *root = json_pack("{s:o, s:[{s:s, s:o}], s:f, s:I}", "model", json_text(o->teacher_model),
                             "messages", "role", "user", "content", json_text(prompt), "temperature",
                             o->temperature, t->cap_field, (json_int_t)o->answer_tokens);
    if (root == NULL) {
        status = sc_fail(SC_MEMORY, "memory does not suffice for a request");
        goto cleanup;
    }
    SC_TRY(json_canonical(root, body));
    strbuf_printf(&named, "%s\n%s", strbuf_text(&t->url), strbuf_text(body));
    SC_TRY(strbuf_status(&named));
    sha256_hex(strbuf_text(&named), named.len, key);
cleanup:
    json_decref(root);
    strbuf_free(&named);
    return status;
}

/* --- from answers to a dialogue ----------------------------------------------------------------- */
/* "User: ..." and "System: ..." lines become turns; any other text is one message. */
static sc_status take_query(work *w)
{
    sc_status status = SC_OK;
    strbuf turn = {0}, conversation = {0}, request = {0};
    char *turns[32];
    size_t n = 0;
    bool user_first = true, user = true;
    const char *text = w->query.content;
    bool spoken = strncmp(text + strspn(text, " \n\r\t"), "User:", 5) == 0 ||
                  strncmp(text + strspn(text, " \n\r\t"), "System:", 7) == 0;
    if (!spoken) {
        const char *begin = text, *end = text + strlen(text);
        while (begin < end && strchr(" \t\r\n\"", *begin) != NULL)
            begin++;
        while (end > begin && strchr(" \t\r\n\"", end[-1]) != NULL)
            end--;
        text_fold_spaces(&turn, begin, (size_t)(end - begin));
        SC_TRY(strbuf_status(&turn));
        turns[n++] = strbuf_take(&turn);
    }
    for (const char *p = text; spoken && *p != '\0';) {
        size_t length = strcspn(p, "\n");
        const char *line = p + strspn(p, " \t\r");
        bool says_user = strncmp(line, "User:", 5) == 0, says_system = strncmp(line, "System:", 7) == 0;
        size_t skip = says_user ? 5 : says_system ? 7 : 0;
        if (line < p + length && (skip > 0 || n > 0)) {
            if (skip > 0 && (n == 0 || says_user != user)) { /* the other one speaks */
                if (n == sizeof turns / sizeof turns[0])
                    break;
                SC_TRY(sc_strdup(&turns[n], ""));
                user = says_user;
                if (n++ == 0)
                    user_first = user;
            }
            strbuf_puts(&turn, turns[n - 1]);
            if (turn.len > 0)
                strbuf_putc(&turn, ' ');
            text_fold_spaces(&turn, line + skip, (size_t)(p + length - line) - skip);
            SC_TRY(strbuf_status(&turn));
            free(turns[n - 1]);
            turns[n - 1] = strbuf_take(&turn);
        }
        p += length + (p[length] == '\n');
    }
    while (n > 1 && (user_first ? n % 2 == 0 : n % 2 == 1)) /* a system turn at the end is no request */
        free(turns[--n]);
    if (n == 0 || (n == 1 && !user_first) || turns[n - 1][0] == '\0') {
        status = sc_fail(SC_BAD_INPUT, "the teacher's request has no words of a user");
        goto cleanup;
    }
    SC_TRY(offline_conversation((const char *const *)turns, n, user_first, &conversation));
    if (n == 1) {
        strbuf_puts(&request, turns[0]);
    } else {
        size_t end = conversation.len -
                     (text_ends(strbuf_text(&conversation), "\nSystem: ") ? strlen("\nSystem: ") : 0);
        strbuf_append(&request, strbuf_text(&conversation) + 1, end - 1);
    }
    SC_TRY(strbuf_status(&request));
    if (request.len > 8000) {
        status =
            sc_fail(SC_BAD_INPUT, "the teacher's request has %zu characters; it is no request", request.len);
        goto cleanup;
    }
    free(w->draft.request);
    free(w->draft.conversation);
    w->draft.request = strbuf_take(&request);
    w->draft.conversation = strbuf_take(&conversation);
    w->draft.n_turns = n;
    w->names_target =
        w->material.title.len > 0 && phrases_name_title(w->draft.request, strbuf_text(&w->material.title));
cleanup:
    while (n > 0)
        free(turns[--n]);
    strbuf_free(&turn);
    strbuf_free(&conversation);
    strbuf_free(&request);
    return status;
}

static json_t *usage_of(const work *w)
{
    int64_t prompt = w->query.prompt_tokens + w->list.prompt_tokens;
    int64_t completion = w->query.completion_tokens + w->list.completion_tokens;
    bool known = w->query.prompt_tokens >= 0 && w->list.prompt_tokens >= 0 &&
                 w->query.completion_tokens >= 0 && w->list.completion_tokens >= 0;
    return known ? json_pack("{s:I, s:I}", "prompt_tokens", (json_int_t)prompt, "completion_tokens",
                             (json_int_t)completion)
                 : json_null(); /* never estimated */
}

static bool holds(const json_t *list, const char *title)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcasecmp(json_string_value(json_array_get(list, i)), title) == 0)
            return true;
    return false;
}

/* Links the teacher's titles to the catalogue by their plain names; what is not there is dropped. */
static sc_status link_titles(work *w, json_t *raw, json_t *targets, int *unlinked)
{
    sc_status status = SC_OK;
    const synthesis_context *c = &w->owner->run->context;
    title_list titles = {0};
    SC_TRY(parse_reply(w->list.content, PARSE_STRICT, &titles));
    for (size_t i = 0; i < titles.n; i++) {
        json_array_append_new(raw, json_text(titles.titles[i]));
        int32_t found = neighbours_locate(c->near, &(item){.id = (char *)"", .title = titles.titles[i]});
        const char *title = found >= 0 ? neighbours_title(c->near, found) : NULL;
        if (title == NULL)
            (*unlinked)++;
        else if (json_array_size(targets) < OFFLINE_LIST && !holds(targets, title) &&
                 !phrases_name_title(w->draft.request, title))
            json_array_append_new(targets, json_text(title));
    }
    if (json_array_size(targets) == 0)
        status = sc_fail(SC_BAD_INPUT,
                         "none of the %zu titles that the teacher recommends is in the catalogue", titles.n);
cleanup:
    title_list_free(&titles);
    return status;
}

static sc_status dialogue_line(work *w, strbuf *out)
{
    sc_status status = SC_OK;
    const synthesis_context *c = &w->owner->run->context;
    const material *m = &w->material;
    json_t *raw = json_array(), *targets = json_array(), *seen = json_array(), *rows = json_array();
    json_t *reviews = json_array(), *drawn = json_array(), *line = NULL;
    strbuf prompt = {0}, list = {0};
    char id[40];
    int unlinked = 0;
    run_dialogue_id((int64_t)(w->index / (size_t)c->per_seed), (int64_t)(w->index % (size_t)c->per_seed), id);
    SC_TRY(link_titles(w, raw, targets, &unlinked));
    for (size_t i = 0; i < json_array_size(targets); i++)
        strbuf_printf(&list, "%s%zu. %s", i > 0 ? "\n" : "", i + 1,
                      json_string_value(json_array_get(targets, i)));
    SC_TRY(strbuf_status(&list));
    if (w->names_target)
        json_array_append_new(seen, json_text(strbuf_text(&m->title)));
    for (size_t i = 0; i < m->n_reviews; i++) {
        json_array_append_new(rows, json_integer(m->rows[i]));
        json_array_append_new(reviews, json_text(m->reviews[i]->id));
    }
    for (size_t i = 0; i < w->draft.n_drawn; i++)
        json_array_append_new(drawn, json_text(w->draft.drawn[i]->id));
    SC_TRY(dialogue_prompt(NULL, id, c->domain, w->draft.conversation, &prompt));
    line = json_pack(
        "{s:s, s:[{s:s, s:o}, {s:s, s:o}], s:O, s:O, s:o, s:{s:O, s:o, s:o}, "
        "s:{s:s, s:o, s:s, s:o, s:n, s:O, s:O, s:i, s:O, s:i, s:b}}",
        "id", id, "messages", "role", "user", "content", json_text(strbuf_text(&prompt)), "role", "assistant",
        "content", json_text(strbuf_text(&list)), "targets", targets, "seen", seen, "request",
        json_text(w->draft.request), "seed", "rows", rows, "parent_asin", json_text(m->subject->id),
        "template", json_text(w->draft.used->id), "provenance", "teacher", "openai", "model",
        json_text(w->list.model[0] != '\0' ? w->list.model : w->owner->run->options->teacher_model),
        "request_sha256", w->key, "usage", usage_of(w), "cost", "reviews", reviews, "templates", drawn,
        "turns", (int)w->draft.n_turns, "titles", raw, "unlinked", unlinked, "mentions_target",
        w->names_target);
    char *text = line != NULL ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    if (text == NULL) {
        status = sc_fail(SC_MEMORY, "memory does not suffice for a dialogue");
        goto cleanup;
    }
    strbuf_puts(out, text);
    free(text);
    status = strbuf_status(out);
cleanup:
    json_decref(raw);
    json_decref(targets);
    json_decref(seen);
    json_decref(rows);
    json_decref(reviews);
    json_decref(drawn);
    json_decref(line);
    strbuf_free(&prompt);
    strbuf_free(&list);
    return status;
}

/* --- the course of one dialogue ----------------------------------------------------------------- */
static sc_status advance(work *w);

static bool is_on_its_way(const teacher *t, const char *key)
{
    for (size_t i = 0; i < t->n_active; i++)
        if (t->active[i]->sent && strcmp(t->active[i]->key, key) == 0)
            return true;
    return false;
}

/* An answer from the journal or the endpoint: on to the next stage, or done. */
static sc_status accept(work *w, const char *packed, size_t n)
{
    teacher *t = w->owner;
    chat_answer *slot = w->stage == WORK_QUERY ? &w->query : &w->list;
    sc_status status = chat_answer_unpack(packed, n, slot);
    if (status != SC_OK)
        return status;
    if (slot->prompt_tokens > 0)
        t->run->result->prompt_tokens += slot->prompt_tokens;
    if (slot->completion_tokens > 0)
        t->run->result->completion_tokens += slot->completion_tokens;
    if (w->stage == WORK_QUERY) {
        status = take_query(w);
        if (status == SC_OK) {
            w->stage = WORK_LIST;
            return advance(w);
        }
    } else {
        strbuf line = {0};
        status = dialogue_line(w, &line);
        if (status == SC_OK)
            status = conclude(t, w, 'd', strbuf_text(&line));
        else if (status == SC_BAD_INPUT)
            status = conclude(t, w, 'f', sc_last_error());
        strbuf_free(&line);
        return status;
    }
    return status == SC_BAD_INPUT ? conclude(t, w, 'f', sc_last_error()) : status;
}

/* Finds the next request of this dialogue: answered already, on its way, or to be sent. */
static sc_status advance(work *w)
{
    sc_status status = SC_OK;
    teacher *t = w->owner;
    strbuf prompt = {0}, body = {0};
    SC_TRY(w->stage == WORK_QUERY ? query_prompt(t, w, &prompt)
                                  : dialogue_prompt(NULL, "the teacher's prompt", t->run->context.domain,
                                                    w->draft.conversation, &prompt));
    SC_TRY(request_body(t, strbuf_text(&prompt), &body, w->key));
    size_t n = 0;
    const char *done = journal_find(t->run->journal, w->key, &n);
    w->waits = false;
    if (done != NULL) {
        t->run->result->n_reused++;
        status = accept(w, done, n);
    } else if (is_on_its_way(t, w->key)) {
        w->waits = true;
    } else {
        w->sent = true;
        /* At least three bytes of English to a token, and the template's frame. */
        w->reserved = (int64_t)(body.len / 3) + 64 + t->run->options->answer_tokens;
        status = http_submit(t->engine, strbuf_text(&t->url), strbuf_text(&body), body.len,
                             w->index * 2 + (w->stage == WORK_LIST), w);
    }
cleanup:
    strbuf_free(&prompt);
    strbuf_free(&body);
    return status;
}

static http_verdict judge(void *context, void *user, const char *body, size_t n, strbuf *reason)
{
    (void)context;
    (void)user;
    chat_answer answer = {0};
    bool again = false;
    sc_status status = chat_answer_read(body, n, &answer, &again);
    chat_answer_free(&answer);
    if (status == SC_OK)
        return HTTP_ACCEPT;
    strbuf_puts(reason, sc_last_error());
    return again ? HTTP_RETRY : HTTP_REJECT;
}

static sc_status before_send(void *context, void *user)
{
    teacher *t = context;
    work *w = user;
    sc_status status = budget_reserve(&t->budget, w->reserved);
    if (status == SC_OK)
        t->run->result->n_requests++;
    return status;
}

static void abandoned(void *context, void *user, bool maybe_billed)
{
    teacher *t = context;
    budget_settle(&t->budget, ((work *)user)->reserved, maybe_billed ? -1 : 0);
}

/* Those who waited for the same request find its answer now, or send it themselves. */
static sc_status wake(teacher *t, const char *key)
{
    sc_status status = SC_OK;
    for (size_t i = 0; i < t->n_active && status == SC_OK;) {
        work *w = t->active[i];
        if (w->waits && strcmp(w->key, key) == 0) {
            status = advance(w);
            i = 0; /* the list may have changed */
            if (status == SC_OK && is_on_its_way(t, key))
                break;
        } else {
            i++;
        }
    }
    return status;
}

static sc_status done(void *context, void *user, const http_answer *answer)
{
    sc_status status = SC_OK;
    teacher *t = context;
    work *w = user;
    strbuf packed = {0};
    chat_answer read = {0};
    char key[65];
    memcpy(key, w->key, sizeof key);
    w->sent = false;
    if (answer->status == SC_BUDGET) {
        t->budget_hit = true;
        snprintf(t->budget_reason, sizeof t->budget_reason, "%s", answer->reason);
        deactivate(t, w);
        return SC_OK;
    }
    if (answer->status != SC_OK) {
        budget_settle(&t->budget, w->reserved, answer->http_status >= 400 ? 0 : -1);
        SC_TRY(conclude(t, w, 'f', answer->reason));
        status = wake(t, key);
        goto cleanup;
    }
    bool again = false;
    SC_TRY(chat_answer_read(answer->body, answer->n, &read, &again));
    bool known = read.prompt_tokens >= 0 && read.completion_tokens >= 0;
    budget_settle(&t->budget, w->reserved, known ? read.prompt_tokens + read.completion_tokens : -1);
    SC_TRY(chat_answer_pack(&read, &packed));
    SC_TRY(journal_put(t->run->journal, key, strbuf_text(&packed), packed.len));
    SC_TRY(accept(w, strbuf_text(&packed), packed.len));
    status = wake(t, key);
cleanup:
    chat_answer_free(&read);
    strbuf_free(&packed);
    return status;
}

/* --- the run ------------------------------------------------------------------------------------ */
static sc_status begin(teacher *t, size_t index)
{
    sc_status status = SC_OK;
    work *w = NULL;
    SC_TRY(sc_grow(&t->active, &t->cap_active, t->n_active + 1, sizeof *t->active));
    SC_TRY(sc_alloc(&w, 1, sizeof *w));
    w->owner = t;
    w->index = index;
    t->active[t->n_active++] = w;
    status = material_collect(&t->run->context, t->run->rows[index / (size_t)t->run->context.per_seed],
                              &w->material);
    if (status == SC_OK)
        status = advance(w);
    if (status == SC_BAD_INPUT)
        status = conclude(t, w, 'f', sc_last_error());
cleanup:
    return status;
}

/* What earlier runs of this folder spent counts towards the caps. */
static sc_status remember_spending(const char *key, const char *text, size_t n, void *user)
{
    chat_answer a = {0};
    if (strncmp(key, "offline/", 8) == 0)
        return SC_OK;
    sc_status status = chat_answer_unpack(text, n, &a);
    if (status == SC_OK) {
        int64_t tokens =
            (a.prompt_tokens > 0 ? a.prompt_tokens : 0) + (a.completion_tokens > 0 ? a.completion_tokens : 0);
        budget_remember(&((teacher *)user)->budget, tokens);
    }
    chat_answer_free(&a);
    return status;
}

static sc_status open_teacher(teacher *t)
{
    sc_status status = SC_OK;
    const sc_synth_options *o = t->run->options;
    if (o->teacher_model == NULL || o->teacher_model[0] == '\0')
        return sc_fail(SC_USAGE, "synth: the endpoint teacher needs the name of a model (--teacher-model)");
    if (o->base_url == NULL || o->base_url[0] == '\0')
        return sc_fail(SC_USAGE, "synth: the endpoint teacher needs an address (--base-url)");
    const char *key = o->api_key_env != NULL && o->api_key_env[0] != '\0' ? getenv(o->api_key_env) : NULL;
    if (key != NULL && key[0] == '\0')
        key = NULL;
    if (key == NULL && !http_is_loopback(o->base_url))
        return sc_fail(
            SC_AUTH,
            "synth: %s is not set; put the endpoint's key into it, or name another variable (--api-key-env)",
            o->api_key_env != NULL ? o->api_key_env : "the variable of the key");
    size_t n = strlen(o->base_url);
    strbuf_append(&t->url, o->base_url, n - (o->base_url[n - 1] == '/'));
    strbuf_puts(&t->url, "/chat/completions");
    SC_TRY(strbuf_status(&t->url));
    /* OpenAI's own newer models refuse max_tokens; Ollama's server knows nothing else. */
    t->cap_field = strstr(o->base_url, "api.openai.com") != NULL ? "max_completion_tokens" : "max_tokens";
    t->budget = (budget){.max_requests = o->max_requests, .max_tokens = o->max_total_tokens};
    SC_TRY(journal_each(t->run->journal, remember_spending, t));
    http_options options = http_options_default();
    options.key = key;
    options.in_flight = o->in_flight;
    options.max_retries = o->max_retries;
    options.timeout = o->timeout;
    options.seed = t->run->context.seed;
    http_callbacks callbacks = {
        .judge = judge, .before_send = before_send, .abandoned = abandoned, .done = done, .context = t};
    SC_TRY(http_engine_create(&options, &callbacks, &t->engine));
cleanup:
    return status;
}

sc_status openai_run(synthesis_run *run)
{
    sc_status status = SC_OK;
    teacher t = {.run = run, .n_lines = run->n_rows * (size_t)run->context.per_seed};
    SC_TRY(open_teacher(&t));
    SC_TRY(sc_alloc(&t.lines, t.n_lines + 1, sizeof *t.lines));
    for (size_t i = 0; i < t.n_lines && !t.budget_hit; i++) {
        SC_TRY(begin(&t, i));
        /* Twice the cap are at hand, so that a retry that waits leaves no gap. */
        SC_TRY(http_work(t.engine, 2 * run->options->in_flight));
    }
    SC_TRY(http_work(t.engine, 1));
    if (t.budget_hit)
        status = sc_fail(SC_BUDGET, "synth: %s (%zu of %zu dialogues are done)", t.budget_reason, t.n_done,
                         t.n_lines);
    else if (t.n_done != t.n_lines)
        status = sc_fail(SC_INTERNAL, "synth: %zu of %zu dialogues were never finished", t.n_lines - t.n_done,
                         t.n_lines);
cleanup:
    http_engine_free(t.engine);
    while (t.n_active > 0)
        work_free(t.active[--t.n_active]);
    free(t.active);
    for (size_t i = 0; t.lines != NULL && i < t.n_lines; i++)
        free(t.lines[i]);
    free(t.lines);
    strbuf_free(&t.url);
    return status;
}
