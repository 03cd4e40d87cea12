/* Dialogues: the strict reader, and the prompt of He et al. 2023 ("Large Language Models as Zero-Shot
 * Conversational Recommenders", CIKM '23; the published code's prompt, character by character). */
#include "data/dialogue.h"

#include <stdlib.h>
#include <string.h>

#include "data/ids.h"
#include "data/source.h"

const char *const dialogue_default_prompt =
    "Pretend you are a {domain} recommender system. \n I will give you a conversation between a user and you "
    "(a "
    "recommender system). Based on the conversation, you reply me with 20 recommendations without extra "
    "sentences.\n Here is the conversation: {conversation}";

static sc_status read_strings(const json_t *line, const char *key, const char *where, char ***out, size_t *n)
{
    sc_status status = SC_OK;
    const json_t *list = json_object_get(line, key);
    if (!list || json_is_null(list))
        return SC_OK;
    if (!json_is_array(list))
        return sc_fail(SC_BAD_INPUT, "%s: \"%s\" must be a list of titles", where, key);
    SC_TRY(sc_alloc(out, json_array_size(list), sizeof **out));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text || is_blank(text))
            return sc_fail(SC_BAD_INPUT, "%s: \"%s\"[%zu] must be a title", where, key, i);
        SC_TRY(sc_strdup(&(*out)[i], text));
        *n = i + 1;
    }
cleanup:
    return status;
}

static sc_status read_messages(const json_t *line, const char *where, dialogue *d)
{
    static const char *const roles[] = {"system", "user", "assistant", NULL};
    sc_status status = SC_OK;
    json_t *list = NULL;
    SC_TRY(json_need_array(line, "messages", where, &list));
    if (json_array_size(list) == 0)
        return sc_fail(SC_BAD_INPUT, "%s: \"messages\" is empty", where);
    SC_TRY(sc_alloc(&d->messages, json_array_size(list), sizeof *d->messages));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *message = json_array_get(list, i);
        const char *role = NULL, *content = NULL;
        if (!json_is_object(message))
            return sc_fail(SC_BAD_INPUT, "%s: \"messages\"[%zu] must be an object", where, i);
        SC_TRY(json_need_string(message, "role", where, &role));
        SC_TRY(json_need_string(message, "content", where, &content));
        bool known = false;
        for (const char *const *name = roles; *name; name++)
            known |= strcmp(*name, role) == 0;
        if (!known)
            return sc_fail(SC_BAD_INPUT,
                           "%s: the role \"%.60s\" of \"messages\"[%zu] is none of system, user, assistant",
                           where, role, i);
        if (is_blank(content))
            return sc_fail(SC_BAD_INPUT, "%s: the content of \"messages\"[%zu] is empty", where, i);
        d->n_messages = i + 1;
        SC_TRY(sc_strdup(&d->messages[i].role, role));
        SC_TRY(sc_strdup(&d->messages[i].content, content));
    }
cleanup:
    return status;
}

static sc_status read_dialogue(const json_t *line, const char *where, dialogue *d)
{
    static const char *const known[] = {"id", "messages", "targets", "seen", "request", NULL};
    sc_status status = SC_OK;
    const char *id = NULL, *request = NULL;
    SC_TRY(json_need_string(line, "id", where, &id));
    if (is_blank(id))
        return sc_fail(SC_BAD_INPUT, "%s: \"id\" is empty", where);
    SC_TRY(check_id(id, "id", where));
    SC_TRY(sc_strdup(&d->id, id));
    SC_TRY(read_messages(line, where, d));
    SC_TRY(read_strings(line, "targets", where, &d->targets, &d->n_targets));
    SC_TRY(read_strings(line, "seen", where, &d->seen, &d->n_seen));
    SC_TRY(json_get_string(line, "request", where, NULL, &request));
    if (request)
        SC_TRY(sc_strdup(&d->request, request));
    d->extra = json_copy((json_t *)(uintptr_t)line);
    if (!d->extra)
        return sc_fail(SC_MEMORY, "%s: memory ran out", where);
    for (const char *const *key = known; *key; key++)
        json_object_del(d->extra, *key);
cleanup:
    return status;
}

static void free_dialogue(dialogue *d)
{
    for (size_t i = 0; i < d->n_messages; i++) {
        free(d->messages[i].role);
        free(d->messages[i].content);
    }
    for (size_t i = 0; i < d->n_targets; i++)
        free(d->targets[i]);
    for (size_t i = 0; i < d->n_seen; i++)
        free(d->seen[i]);
    free(d->id);
    free(d->messages);
    free(d->targets);
    free(d->seen);
    free(d->request);
    json_decref(d->extra);
}

sc_status dialogues_read(const char *path, dialogues *out)
{
    sc_status status = SC_OK;
    line_reader *r = NULL;
    json_t *line = NULL;
    id_table ids = {0};
    size_t capacity = 0;
    int32_t index = 0;
    bool is_new = false;
    strbuf where = {0};
    memset(out, 0, sizeof *out);
    SC_TRY(line_reader_open(path, SOURCE_MAX_RECORD, &r));
    for (;;) {
        json_decref(line);
        line = NULL;
        SC_TRY(json_next_line(r, &line));
        if (!line)
            break;
        strbuf_clear(&where);
        strbuf_printf(&where, "%s:%lld", path, (long long)line_reader_line(r));
        SC_TRY(strbuf_status(&where));
        SC_TRY(sc_grow(&out->rows, &capacity, out->n + 1, sizeof *out->rows));
        dialogue *d = &out->rows[out->n++];
        memset(d, 0, sizeof *d);
        SC_TRY(read_dialogue(line, where.data, d));
        SC_TRY(id_table_put(&ids, d->id, &index, &is_new));
        if (!is_new) {
            status = sc_fail(SC_BAD_INPUT, "%s: the id \"%.120s\" was used before, in dialogue %d",
                             where.data, d->id, index + 1);
            goto cleanup;
        }
    }
    if (out->n == 0) {
        status = sc_fail(SC_BAD_INPUT, "%s holds no dialogues", path);
        goto cleanup;
    }
    SC_TRY(file_sha256(path, out->sha256));
cleanup:
    json_decref(line);
    line_reader_close(r);
    id_table_free(&ids);
    strbuf_free(&where);
    if (status != SC_OK)
        dialogues_free(out);
    return status;
}

void dialogues_free(dialogues *d)
{
    for (size_t i = 0; i < d->n; i++)
        free_dialogue(&d->rows[i]);
    free(d->rows);
    memset(d, 0, sizeof *d);
}

sc_status dialogue_conversation_text(const char *const *turns, size_t n, int start, strbuf *out)
{
    for (size_t i = 0; i < n; i++) {
        if (turns[i][0] == '\0' || strcmp(turns[i], " ") == 0)
            continue;
        strbuf_puts(out, i % 2 == (size_t)start ? "\nUser: " : "\nSystem: ");
        strbuf_puts(out, turns[i]);
    }
    strbuf_puts(out, "\nSystem: ");
    return strbuf_status(out);
}

/* Whether the pattern has {conversation}, "{{" and "}}" being braces. */
static bool has_conversation(const char *pattern)
{
    for (const char *c = pattern; (c = strchr(c, '{')); c++) {
        if (c[1] == '{')
            c++;
        else if (text_starts(c, "{conversation}"))
            return true;
    }
    return false;
}

sc_status dialogue_prompt(const char *pattern, const char *where, const char *domain,
                          const char *conversation, strbuf *out)
{
    static const char *const names[] = {"domain", "conversation", NULL};
    const char *const values[] = {domain, conversation};
    if (!pattern) {
        pattern = dialogue_default_prompt;
        where = "the default prompt";
    }
    if (!has_conversation(pattern))
        return sc_fail(SC_BAD_INPUT, "%s has no {conversation}: the place where the conversation goes",
                       where ? where : "the prompt");
    return text_expand(out, pattern, where ? where : "the prompt", names, values);
}

sc_status dialogue_entity_name(const char *entity, strbuf *out)
{
    sc_status status = SC_OK;
    strbuf name = {0}, kept = {0};
    const char *slash = strrchr(entity, '/');
    strbuf_puts(&name, slash ? slash + 1 : entity);
    SC_TRY(strbuf_status(&name));
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] == '_' || name.data[i] == '-' || name.data[i] == '>')
            name.data[i] = ' ';
    }
    for (size_t i = 0; i < name.len;) { /* innermost parentheses, once: \([^()]*\) */
        size_t close = name.data[i] == '(' ? i + 1 + strcspn(name.data + i + 1, "()") : 0;
        if (close > 0 && name.data[close] == ')') {
            i = close + 1;
        } else {
            strbuf_putc(&kept, name.data[i]);
            i++;
        }
    }
    SC_TRY(strbuf_status(&kept));
    text_fold_spaces(out, strbuf_text(&kept), kept.len);
    SC_TRY(strbuf_status(out));
cleanup:
    strbuf_free(&name);
    strbuf_free(&kept);
    return status;
}
