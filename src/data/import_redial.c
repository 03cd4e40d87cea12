/* ReDial (Li et al. 2018), in two shapes, told apart line by line:
 * the dialogues themselves ("messages" with "@id" for films, "movieMentions"), and iEvaLM's evaluation
 * turns ("context", "rec" with titles; github.com/RUCAIBox/iEvaLM-CRS, data/redial_eval). */
#include <string.h>

#include "data/dialogue.h"
#include "data/dataset.h"
#include "data/turns.h"

/* The title behind "@id": of the dialogue's own list, else of --items; NULL if nobody knows it. */
static const char *mention(const dialogue_import *in, const json_t *mentions, const char *id)
{
    const char *title = json_string_value(json_object_get(mentions, id));
    return title && !is_blank(title) ? title : catalogue_name(&in->items, id);
}

/* One message: "@135508" becomes "The Babadook (2014)", and that title is noted. */
static sc_status add_message(dialogue_import *in, turns *t, bool user, const char *text,
                             const json_t *mentions)
{
    sc_status status = SC_OK;
    strbuf spoken = {0}, title = {0};
    json_t *titles = json_array();
    for (const char *c = text; *c;) {
        size_t digits = *c == '@' ? strspn(c + 1, "0123456789") : 0;
        if (digits == 0 || digits > 18) {
            strbuf_putc(&spoken, *c++);
            continue;
        }
        char id[20] = {0};
        memcpy(id, c + 1, digits);
        const char *known = mention(in, mentions, id);
        if (known) {
            strbuf_clear(&title);
            text_fold_spaces(&title, known, strlen(known));
            strbuf_puts(&spoken, strbuf_text(&title));
            SC_TRY(name_append(titles, strbuf_text(&title), true));
        } else {
            strbuf_append(&spoken, c, digits + 1);
            SC_TRY(count_reason(in->dropped, "unknown_mention", 1));
        }
        c += digits + 1;
    }
    SC_TRY(strbuf_status(&spoken));
    SC_TRY(turns_add(t, user, strbuf_text(&spoken)));
    for (size_t i = 0; i < json_array_size(titles); i++)
        SC_TRY(turns_title(t, json_string_value(json_array_get(titles, i))));
cleanup:
    json_decref(titles);
    strbuf_free(&spoken);
    strbuf_free(&title);
    return status;
}

static sc_status take_dialogue(dialogue_import *in, const json_t *line, const char *where)
{
    sc_status status = SC_OK;
    turns t = {0};
    json_t *messages = NULL;
    int64_t seeker = 0, recommender = 0;
    char buffer[32];
    const char *dialog = NULL;
    SC_TRY(json_need_array(line, "messages", where, &messages));
    SC_TRY(json_need_int(line, "initiatorWorkerId", where, &seeker));
    SC_TRY(json_need_int(line, "respondentWorkerId", where, &recommender));
    SC_TRY(id_text(line, "conversationId", where, buffer, &dialog));
    const json_t *mentions = json_object_get(line, "movieMentions"); /* an empty list where it is empty */
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        const char *text = NULL;
        int64_t sender = 0;
        SC_TRY(json_need_string(message, "text", where, &text));
        SC_TRY(json_need_int(message, "senderWorkerId", where, &sender));
        if (sender != seeker && sender != recommender) {
            status = sc_fail(SC_BAD_INPUT,
                             "%s: message %zu is by worker %lld, who is neither side of the dialogue", where,
                             i, (long long)sender);
            goto cleanup;
        }
        SC_TRY(add_message(in, &t, sender == seeker, text, mentions));
    }
    SC_TRY(turns_write(&t, in, dialog, "redial"));
cleanup:
    turns_clear(&t);
    return status;
}

/* Titles of a list of strings, plain. */
static sc_status plain_names(const json_t *line, const char *key, const char *where, json_t *names)
{
    sc_status status = SC_OK;
    json_t *list = NULL;
    strbuf plain = {0};
    SC_TRY(json_need_array(line, key, where, &list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *title = json_string_value(json_array_get(list, i));
        if (!title) {
            status = sc_fail(SC_BAD_INPUT, "%s: \"%s\"[%zu] must be a title", where, key, i);
            goto cleanup;
        }
        strbuf_clear(&plain);
        SC_TRY(dataset_plain_title(title, &plain));
        SC_TRY(name_append(names, strbuf_text(&plain), true));
    }
cleanup:
    strbuf_free(&plain);
    return status;
}

static sc_status take_turn(dialogue_import *in, const json_t *line, const char *where)
{
    sc_status status = SC_OK;
    json_t *context = NULL;
    const char **texts = NULL, *dialog = NULL, *number = NULL;
    char dialog_buffer[32], number_buffer[32];
    strbuf text = {0}, id = {0};
    sample s = {.targets = json_array(), .seen = json_array()};
    SC_TRY(json_need_array(line, "context", where, &context));
    size_t n = json_array_size(context);
    SC_TRY(sc_alloc(&texts, n + 1, sizeof *texts));
    for (size_t i = 0; i < n; i++) {
        texts[i] = json_string_value(json_array_get(context, i));
        if (!texts[i]) {
            status = sc_fail(SC_BAD_INPUT, "%s: \"context\"[%zu] must be a string", where, i);
            goto cleanup;
        }
    }
    SC_TRY(plain_names(line, "rec", where, s.targets));
    SC_TRY(plain_names(line, "entity", where, s.seen));
    if (json_array_size(s.targets) == 0) {
        status = count_reason(in->dropped, "no_target", 1);
        goto cleanup;
    }
    /* Every sample is a turn of the recommender, so the turn before it is the user's. */
    SC_TRY(dialogue_conversation_text(texts, n, n % 2 == 0 ? 1 : 0, &text));
    SC_TRY(id_text(line, "dialog_id", where, dialog_buffer, &dialog));
    SC_TRY(id_text(line, "turn_id", where, number_buffer, &number));
    strbuf_printf(&id, "%s:%s", dialog, number);
    SC_TRY(strbuf_status(&id));
    SC_TRY(check_id(id.data, "dialogue id", where));
    s.id = id.data;
    s.conversation = text.data;
    s.source = json_pack("{s:s, s:s, s:s}", "format", "redial", "dialog_id", dialog, "turn_id", number);
    SC_TRY(sample_write(in, &s));
cleanup:
    json_decref(s.targets);
    json_decref(s.seen);
    json_decref(s.source);
    strbuf_free(&text);
    strbuf_free(&id);
    free(texts);
    return status;
}

static sc_status take_line(dialogue_import *in, const json_t *line, const char *where)
{
    return json_object_get(line, "messages") ? take_dialogue(in, line, where) : take_turn(in, line, where);
}

sc_status import_redial(dialogue_import *in)
{
    return samples_each_line(in, JSON_OBJECT, take_line);
}
