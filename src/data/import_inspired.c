/* INSPIRED (Hayati et al. 2020) in two shapes: its own tab-separated utterances
 * (github.com/sweetpeach/Inspired, data/dialog_data), and the dialogues of UniCRS
 * (github.com/RUCAIBox/UniCRS, data/inspired), one list of turns a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/csv.h"
#include "data/turns.h"

static sc_status speaker(const char *name, const char *where, bool *user)
{
    *user = strcmp(name, "SEEKER") == 0;
    if (!*user && strcmp(name, "RECOMMENDER") != 0)
        return sc_fail(SC_BAD_INPUT, "%s: the speaker \"%.60s\" is neither SEEKER nor RECOMMENDER", where,
                       name);
    return SC_OK;
}

/* The data set writes the word QUOTATION_MARK where an utterance has one. */
static void put_utterance(strbuf *out, const char *text)
{
    static const char mark[] = "QUOTATION_MARK";
    for (const char *next; (next = strstr(text, mark)); text = next + strlen(mark)) {
        strbuf_append(out, text, (size_t)(next - text));
        strbuf_putc(out, '"');
    }
    strbuf_puts(out, text);
}

/* "San Andreas (2015);  Die Hard (1988)" */
static sc_status add_titles(turns *t, const char *list)
{
    sc_status status = SC_OK;
    strbuf title = {0};
    while (*list) {
        size_t n = strcspn(list, ";");
        strbuf_clear(&title);
        text_fold_spaces(&title, list, n);
        SC_TRY(strbuf_status(&title));
        if (title.len > 0)
            SC_TRY(turns_title(t, title.data));
        list += n + (list[n] == ';');
    }
cleanup:
    strbuf_free(&title);
    return status;
}

sc_status import_inspired(dialogue_import *in)
{
    sc_status status = SC_OK;
    csv_reader *r = NULL;
    const char *const *fields = NULL;
    turns t = {0};
    hash_set known = {0};
    strbuf dialog = {0}, text = {0}, repaired = {0};
    int id_column = 0, speaker_column = 0, text_column = 0, titles_column = 0;
    bool user = false, is_new = false;
    SC_TRY(csv_open(in->options->input, (csv_options){'\t', false, SOURCE_MAX_RECORD}, &r));
    SC_TRY(csv_need_column(r, "dialog_id", &id_column));
    SC_TRY(csv_need_column(r, "speaker", &speaker_column));
    SC_TRY(csv_need_column(r, "text", &text_column));
    SC_TRY(csv_need_column(r, "movies", &titles_column));
    for (;;) {
        SC_TRY(csv_next(r, &fields));
        if (t.n > 0 && (!fields || strcmp(fields[id_column], strbuf_text(&dialog)) != 0)) {
            SC_TRY(turns_write(&t, in, strbuf_text(&dialog), "inspired"));
            turns_clear(&t);
        }
        if (!fields)
            break;
        if (t.n == 0) {
            strbuf_clear(&dialog);
            strbuf_puts(&dialog, fields[id_column]);
            SC_TRY(strbuf_status(&dialog));
            SC_TRY(check_id(dialog.data, "dialogue id", csv_where(r)));
            SC_TRY(hash_set_add(&known, hash_bytes(dialog.data, dialog.len), &is_new));
            if (!is_new) {
                status = sc_fail(SC_BAD_INPUT, "%s: the rows of the dialogue %.80s do not stand together",
                                 csv_where(r), dialog.data);
                goto cleanup;
            }
            in->n_read++;
        }
        SC_TRY(speaker(fields[speaker_column], csv_where(r), &user));
        strbuf_clear(&text);
        strbuf_clear(&repaired);
        put_utterance(&text, fields[text_column]);
        SC_TRY(strbuf_status(&text));
        in->cleaned.invalid_utf8 += (int64_t)utf8_sanitize(&repaired, strbuf_text(&text), text.len);
        SC_TRY(strbuf_status(&repaired));
        SC_TRY(turns_add(&t, user, strbuf_text(&repaired)));
        strbuf_clear(&repaired);
        utf8_sanitize(&repaired, fields[titles_column], strlen(fields[titles_column]));
        SC_TRY(strbuf_status(&repaired));
        SC_TRY(add_titles(&t, strbuf_text(&repaired)));
    }
cleanup:
    turns_clear(&t);
    hash_set_free(&known);
    csv_close(r);
    strbuf_free(&dialog);
    strbuf_free(&text);
    strbuf_free(&repaired);
    return status;
}

static sc_status take_turns(dialogue_import *in, const json_t *list, const char *where)
{
    sc_status status = SC_OK;
    turns t = {0};
    char dialog[32];
    snprintf(dialog, sizeof dialog, "%lld", (long long)in->n_read);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *now = json_array_get(list, i);
        const char *text = NULL, *role = NULL;
        json_t *titles = NULL;
        bool user = false;
        if (!json_is_object(now)) {
            status = sc_fail(SC_BAD_INPUT, "%s: turn %zu must be an object", where, i);
            goto cleanup;
        }
        SC_TRY(json_need_string(now, "text", where, &text));
        SC_TRY(json_need_string(now, "role", where, &role));
        SC_TRY(json_need_array(now, "movie", where, &titles));
        SC_TRY(speaker(role, where, &user));
        SC_TRY(turns_add(&t, user, text));
        for (size_t k = 0; k < json_array_size(titles); k++) {
            const char *title = json_string_value(json_array_get(titles, k));
            if (!title) {
                status = sc_fail(SC_BAD_INPUT, "%s: \"movie\"[%zu] of turn %zu must be a title", where, k, i);
                goto cleanup;
            }
            SC_TRY(turns_title(&t, title));
        }
    }
    SC_TRY(turns_write(&t, in, dialog, "unicrs"));
cleanup:
    turns_clear(&t);
    return status;
}

sc_status import_unicrs(dialogue_import *in)
{
    return samples_each_line(in, JSON_ARRAY, take_turns);
}
