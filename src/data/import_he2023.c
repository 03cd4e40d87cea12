/* The test sets of He et al. 2023 (github.com/AaronHeee/LLMs-as-Zero-Shot-Conversational-RecSys):
 * test.jsonl with entity ids, entity2id.json with their names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/dialogue.h"
#include "data/samples.h"

/* The turns of "context"; their number in *n. */
static sc_status context_turns(const json_t *line, const char *where, const char ***turns, size_t *capacity,
                               size_t *n)
{
    sc_status status = SC_OK;
    json_t *context = NULL;
    SC_TRY(json_need_array(line, "context", where, &context));
    *n = json_array_size(context);
    SC_TRY(sc_grow(turns, capacity, *n + 1, sizeof **turns));
    for (size_t i = 0; i < *n; i++) {
        (*turns)[i] = json_string_value(json_array_get(context, i));
        if (!(*turns)[i])
            return sc_fail(SC_BAD_INPUT, "%s: \"context\"[%zu] must be a string", where, i);
    }
cleanup:
    return status;
}

/* Roles go by index parity, and which parity is the user's differs between the data sets. "input", the
 * authors' own formatting, decides; where it is absent, the turn before a recommendation is the user's. */
static sc_status conversation(const json_t *line, const char *where, const char *const *turns, size_t n,
                              strbuf *out)
{
    sc_status status = SC_OK;
    const char *input = NULL;
    int start = n % 2 == 0 ? 1 : 0;
    SC_TRY(json_get_string(line, "input", where, NULL, &input));
    SC_TRY(dialogue_conversation_text(turns, n, start, out));
    if (input && strcmp(input, out->data) != 0) {
        strbuf_clear(out);
        SC_TRY(dialogue_conversation_text(turns, n, 1 - start, out));
        if (strcmp(input, out->data) != 0)
            status =
                sc_fail(SC_BAD_INPUT, "%s: \"input\" is not the conversation that \"context\" gives", where);
    }
cleanup:
    return status;
}

static sc_status entity_names(const dialogue_import *in, const json_t *line, const char *key,
                              const char *where, json_t *names)
{
    sc_status status = SC_OK;
    json_t *ids = NULL;
    char id[32];
    SC_TRY(json_need_array(line, key, where, &ids));
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *value = json_array_get(ids, i);
        if (!json_is_integer(value))
            return sc_fail(SC_BAD_INPUT, "%s: \"%s\"[%zu] must be an entity id", where, key, i);
        snprintf(id, sizeof id, "%lld", (long long)json_integer_value(value));
        const char *name = catalogue_name(&in->items, id);
        if (!name)
            return sc_fail(SC_BAD_INPUT,
                           "%s: the entity %s of \"%s\" is not in %s; is it another data set's list?", where,
                           id, key, in->options->items);
        SC_TRY(name_append(names, name, false)); /* two targets of one name are two rows of the protocol */
    }
cleanup:
    return status;
}

static sc_status take_line(dialogue_import *in, const json_t *line, const char *where, int64_t number,
                           const char ***turns, size_t *capacity)
{
    sc_status status = SC_OK;
    size_t n = 0;
    int64_t is_user = 0;
    json_t *rec = NULL;
    char dialog_buffer[32], turn_buffer[32];
    const char *dialog = NULL, *turn = NULL;
    strbuf text = {0}, id = {0};
    sample s = {.targets = json_array(), .seen = json_array()};
    SC_TRY(json_get_int(line, "is_user", where, 0, &is_user));
    SC_TRY(json_need_array(line, "rec", where, &rec));
    if (is_user != 0 || json_array_size(rec) == 0) {
        status = count_reason(in->dropped, is_user ? "user_turn" : "no_target", 1);
        goto cleanup;
    }
    SC_TRY(context_turns(line, where, turns, capacity, &n));
    SC_TRY(conversation(line, where, *turns, n, &text));
    SC_TRY(entity_names(in, line, "rec", where, s.targets));
    SC_TRY(entity_names(in, line, "prev_entity", where, s.seen));
    SC_TRY(id_text(line, "dialog_id", where, dialog_buffer, &dialog));
    SC_TRY(id_text(line, "turn_id", where, turn_buffer, &turn));
    strbuf_printf(&id, "%s:%s", dialog, turn);
    SC_TRY(strbuf_status(&id));
    s.id = id.data;
    s.conversation = text.data;
    s.source = json_pack("{s:s, s:I, s:s, s:s, s:O}", "format", "he2023", "line", (json_int_t)number,
                         "dialog_id", dialog, "turn_id", turn, "target_ids", rec);
    SC_TRY(sample_write(in, &s));
cleanup:
    json_decref(s.targets);
    json_decref(s.seen);
    json_decref(s.source);
    strbuf_free(&text);
    strbuf_free(&id);
    return status;
}

sc_status import_he2023(dialogue_import *in)
{
    sc_status status = SC_OK;
    source s = {0};
    json_t *line = NULL;
    const char **turns = NULL;
    size_t capacity = 0;
    if (!in->options->items)
        return sc_fail(SC_USAGE,
                       "the format he2023 needs --items entity2id.json: its dialogues name films by number");
    SC_TRY(source_open(&s, in->options->input, &in->cleaned));
    for (;;) {
        json_decref(line);
        SC_TRY(source_next_object(&s, &line));
        if (!line)
            break;
        in->n_read++;
        SC_TRY(take_line(in, line, source_where(&s), line_reader_line(s.lines), &turns, &capacity));
    }
cleanup:
    json_decref(line);
    free(turns);
    source_close(&s);
    return status;
}
