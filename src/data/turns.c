/* From a conversation to samples. */
#include "data/turns.h"

#include <stdlib.h>
#include <string.h>

#include "data/dataset.h"
#include "data/dialogue.h"

sc_status turns_add(turns *t, bool user, const char *text)
{
    sc_status status = SC_OK;
    strbuf folded = {0};
    text_fold_spaces(&folded, text, strlen(text));
    SC_TRY(strbuf_status(&folded));
    if (t->n == 0 || t->rows[t->n - 1].user != user) {
        SC_TRY(sc_grow(&t->rows, &t->capacity, t->n + 1, sizeof *t->rows));
        t->rows[t->n++] = (turn){.user = user, .titles = json_array()};
    }
    strbuf *now = &t->rows[t->n - 1].text;
    if (now->len > 0 && folded.len > 0)
        strbuf_putc(now, ' ');
    strbuf_puts(now, strbuf_text(&folded));
    SC_TRY(strbuf_status(now));
cleanup:
    strbuf_free(&folded);
    return status;
}

sc_status turns_title(turns *t, const char *title)
{
    sc_status status = SC_OK;
    strbuf plain = {0};
    SC_TRY(dataset_plain_title(title, &plain));
    SC_TRY(name_append(t->rows[t->n - 1].titles, strbuf_text(&plain), true));
cleanup:
    strbuf_free(&plain);
    return status;
}

static sc_status write_turn(const turns *t, size_t at, const char *const *texts, const json_t *seen,
                            dialogue_import *in, const char *dialog, const char *format)
{
    sc_status status = SC_OK;
    strbuf text = {0}, id = {0};
    sample s = {.targets = t->rows[at].titles, .seen = (json_t *)(uintptr_t)seen};
    SC_TRY(dialogue_conversation_text(texts, at, t->rows[0].user ? 0 : 1, &text));
    strbuf_printf(&id, "%s:%zu", dialog, at);
    SC_TRY(strbuf_status(&id));
    s.id = id.data;
    s.conversation = text.data;
    s.source = json_pack("{s:s, s:s, s:I}", "format", format, "dialog_id", dialog, "turn", (json_int_t)at);
    SC_TRY(sample_write(in, &s));
cleanup:
    json_decref(s.source);
    strbuf_free(&text);
    strbuf_free(&id);
    return status;
}

sc_status turns_write(const turns *t, dialogue_import *in, const char *dialog, const char *format)
{
    sc_status status = SC_OK;
    const char **texts = NULL;
    json_t *seen = json_array();
    int64_t rows = in->n_rows;
    SC_TRY(check_id(dialog, "dialogue id", in->options->input));
    SC_TRY(sc_alloc(&texts, t->n + 1, sizeof *texts));
    for (size_t i = 0; i < t->n; i++) {
        const turn *now = &t->rows[i];
        texts[i] = strbuf_text(&now->text);
        if (!now->user && json_array_size(now->titles) > 0)
            SC_TRY(write_turn(t, i, texts, seen, in, dialog, format));
        for (size_t k = 0; k < json_array_size(now->titles); k++)
            SC_TRY(name_append(seen, json_string_value(json_array_get(now->titles, k)), true));
    }
    if (in->n_rows == rows)
        SC_TRY(count_reason(in->dropped, "no_recommendation", 1));
cleanup:
    json_decref(seen);
    free(texts);
    return status;
}

void turns_clear(turns *t)
{
    for (size_t i = 0; i < t->n; i++) {
        strbuf_free(&t->rows[i].text);
        json_decref(t->rows[i].titles);
    }
    free(t->rows);
    memset(t, 0, sizeof *t);
}
