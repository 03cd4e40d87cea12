/* Chats in the form of OpenAI's API, one {"messages": [{"role", "content"}, ...]} a line, as fine-tuning
 * files and chat logs have them. A line that has our "request" holds the whole prompt already and keeps its
 * messages; any other is a conversation, which goes into the prompt. An assistant's message at the end is
 * the answer: it is left out, and where the line has no "targets" its numbered list is the truth. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/dataset.h"
#include "data/dialogue.h"
#include "data/turns.h"

/* "content" as a string, or as a list of parts of which the texts count. */
static sc_status message_text(const json_t *message, const char *where, size_t index, strbuf *out)
{
    const json_t *content = json_object_get(message, "content");
    strbuf_clear(out);
    if (json_is_string(content)) {
        strbuf_puts(out, json_string_value(content));
        return strbuf_status(out);
    }
    for (size_t i = 0; i < json_array_size(content); i++) {
        const char *text = json_string_value(json_object_get(json_array_get(content, i), "text"));
        if (!text)
            return sc_fail(SC_BAD_INPUT, "%s: part %zu of \"messages\"[%zu] is not a text", where, i, index);
        strbuf_puts(out, text);
    }
    if (!json_is_array(content))
        return sc_fail(SC_BAD_INPUT, "%s: \"content\" of \"messages\"[%zu] must be a string", where, index);
    return strbuf_status(out);
}

/* The titles of "1. Heat (1995)\n2) Alien" */
static sc_status numbered_titles(const char *text, json_t *names)
{
    sc_status status = SC_OK;
    strbuf title = {0}, plain = {0};
    for (const char *line = text; *line;) {
        size_t n = strcspn(line, "\n");
        size_t at = strspn(line, " \t");
        size_t digits = strspn(line + at, "0123456789");
        if (digits > 0 && digits < 4 && (line[at + digits] == '.' || line[at + digits] == ')')) {
            at += digits + 1;
            strbuf_clear(&title);
            strbuf_clear(&plain);
            text_fold_spaces(&title, line + at, n > at ? n - at : 0);
            SC_TRY(strbuf_status(&title));
            SC_TRY(dataset_plain_title(strbuf_text(&title), &plain));
            SC_TRY(name_append(names, strbuf_text(&plain), true));
        }
        line += n + (line[n] == '\n');
    }
cleanup:
    strbuf_free(&title);
    strbuf_free(&plain);
    return status;
}

static sc_status given_names(const json_t *line, const char *key, const char *where, json_t *names,
                             bool *given)
{
    sc_status status = SC_OK;
    const json_t *list = json_object_get(line, key);
    *given = list && !json_is_null(list);
    if (*given && !json_is_array(list))
        return sc_fail(SC_BAD_INPUT, "%s: \"%s\" must be a list of titles", where, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (!name || is_blank(name))
            return sc_fail(SC_BAD_INPUT, "%s: \"%s\"[%zu] must be a title", where, key, i);
        SC_TRY(name_append(names, name, false));
    }
cleanup:
    return status;
}

/* Gathers the turns, and the messages as they are, without an answer at the end. */
static sc_status read_chat(dialogue_import *in, const json_t *messages, const char *where, turns *t,
                           json_t *kept, strbuf *answer, bool wrapped)
{
    sc_status status = SC_OK;
    strbuf text = {0};
    size_t n = json_array_size(messages);
    for (size_t i = 0; i < n; i++) {
        const json_t *message = json_array_get(messages, i);
        const char *role = NULL;
        if (!json_is_object(message)) {
            status = sc_fail(SC_BAD_INPUT, "%s: \"messages\"[%zu] must be an object", where, i);
            goto cleanup;
        }
        SC_TRY(json_need_string(message, "role", where, &role));
        SC_TRY(message_text(message, where, i, &text));
        bool assistant = strcmp(role, "assistant") == 0, user = strcmp(role, "user") == 0;
        bool system = strcmp(role, "system") == 0 || strcmp(role, "developer") == 0;
        if (!assistant && !user && !system) {
            status = sc_fail(SC_BAD_INPUT,
                             "%s: the role \"%.60s\" of \"messages\"[%zu] is none of system, user, assistant",
                             where, role, i);
            goto cleanup;
        }
        if (assistant && i + 1 == n) {
            strbuf_puts(answer, strbuf_text(&text));
            break;
        }
        if (is_blank(strbuf_text(&text)))
            continue;
        json_t *copy =
            json_pack("{s:s, s:s%}", "role", system ? "system" : role, "content", text.data, text.len);
        if (!copy || json_array_append_new(kept, copy) != 0) {
            status = sc_fail(SC_MEMORY, "%s: memory ran out", where);
            goto cleanup;
        }
        if (!system)
            SC_TRY(turns_add(t, user, text.data));
        else if (wrapped) /* the prompt takes its place */
            SC_TRY(count_reason(in->dropped, "system_message", 1));
    }
    SC_TRY(strbuf_status(answer));
cleanup:
    strbuf_free(&text);
    return status;
}

static sc_status chat_conversation(const turns *t, strbuf *out)
{
    const char **texts = NULL;
    sc_status status = sc_alloc(&texts, t->n, sizeof *texts);
    for (size_t i = 0; status == SC_OK && i < t->n; i++)
        texts[i] = strbuf_text(&t->rows[i].text);
    if (status == SC_OK)
        status = dialogue_conversation_text(texts, t->n, t->rows[0].user ? 0 : 1, out);
    free(texts);
    return status;
}

static sc_status take_chat(dialogue_import *in, const json_t *line, const char *where)
{
    sc_status status = SC_OK;
    turns t = {0};
    strbuf answer = {0}, text = {0}, id = {0};
    json_t *messages = NULL, *kept = json_array();
    const char *request = NULL, *name = NULL;
    char buffer[32];
    bool has_targets = false, has_seen = false;
    sample s = {.targets = json_array(), .seen = json_array()};
    SC_TRY(json_need_array(line, "messages", where, &messages));
    SC_TRY(json_get_string(line, "request", where, NULL, &request));
    SC_TRY(read_chat(in, messages, where, &t, kept, &answer, request == NULL));
    SC_TRY(given_names(line, "targets", where, s.targets, &has_targets));
    SC_TRY(given_names(line, "seen", where, s.seen, &has_seen));
    if (!has_targets)
        SC_TRY(numbered_titles(strbuf_text(&answer), s.targets));
    if (t.n == 0) {
        status = count_reason(in->dropped, "no_text", 1);
        goto cleanup;
    }
    if (request)
        strbuf_puts(&text, request);
    else
        SC_TRY(chat_conversation(&t, &text));
    name = buffer;
    snprintf(buffer, sizeof buffer, "chat-%lld", (long long)in->n_read);
    if (json_object_get(line, "id"))
        SC_TRY(id_text(line, "id", where, buffer, &name));
    SC_TRY(check_id(name, "id", where));
    strbuf_puts(&id, name);
    SC_TRY(strbuf_status(&id));
    SC_TRY(strbuf_status(&text));
    s.id = id.data;
    s.conversation = strbuf_text(&text);
    s.messages = request ? kept : NULL; /* our own lines hold the whole prompt */
    s.source = json_pack("{s:s, s:s}", "format", "messages", "id", name);
    SC_TRY(sample_write(in, &s));
cleanup:
    turns_clear(&t);
    json_decref(kept);
    json_decref(s.targets);
    json_decref(s.seen);
    json_decref(s.source);
    strbuf_free(&answer);
    strbuf_free(&text);
    strbuf_free(&id);
    return status;
}

sc_status import_messages(dialogue_import *in)
{
    return samples_each_line(in, JSON_OBJECT, take_chat);
}
