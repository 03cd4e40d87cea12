/* One thread is enough to be ahead: it makes tokens far faster than any model takes them. */
#include "model/embed_texts.h"

#include <stdio.h>
#include <string.h>

static sc_status row_text(const embed_texts *t, int64_t row, strbuf *out)
{
    sc_status status = SC_OK;
    strbuf_clear(out);
    if (t->kind != TEXT_ITEM)
        SC_TRY(dataset_review_text(t->data, (size_t)row, out));
    if (t->kind == TEXT_ITEM)
        SC_TRY(dataset_item_text(t->data, (size_t)row, out));
    if (t->kind == TEXT_BOTH && t->data->reviews[row].item >= 0) {
        strbuf_puts(out, "\n\n");
        SC_TRY(dataset_item_text(t->data, (size_t)t->data->reviews[row].item, out));
    }
    SC_TRY(strbuf_status(out));
cleanup:
    return status;
}

static sc_status make_group(const embed_texts *t, text_group *g)
{
    sc_status status = SC_OK;
    g->n_tokens = g->n_cut = 0;
    for (int64_t i = 0; i < g->n; i++) {
        token_ids *ids = &g->ids[i];
        ids->n = 0;
        SC_TRY(row_text(t, g->first + i, &g->text));
        SC_TRY(tokenizer_encode(t->tokenizer, strbuf_text(&g->text), g->text.len, false, ids));
        if (ids->n > (size_t)t->max_tokens) {
            ids->n = (size_t)t->max_tokens;
            g->n_cut++;
        }
        if (ids->n == 0)
            SC_TRY(token_ids_push(ids, t->empty_id));
        g->n_tokens += (int64_t)ids->n;
    }
cleanup:
    return status;
}

/* The sentence of a failure belongs to the thread it happened in. */
static void *run(void *context)
{
    embed_texts *t = context;
    text_group *g = &t->groups[!t->present];
    g->status = make_group(t, g);
    if (g->status != SC_OK)
        snprintf(g->sentence, sizeof g->sentence, "%s", sc_last_error());
    return NULL;
}

static sc_status begin(embed_texts *t)
{
    text_group *g = &t->groups[!t->present];
    const int64_t left = t->n_rows - t->next;
    g->first = t->next;
    g->n = left < EMBED_GROUP ? left : EMBED_GROUP;
    const int failed = pthread_create(&t->thread, NULL, run, t);
    t->ahead = failed == 0;
    return failed ? sc_fail(SC_MEMORY, "no thread can be started: %s", strerror(failed)) : SC_OK;
}

static void wait_for(embed_texts *t)
{
    if (t->ahead)
        pthread_join(t->thread, NULL);
    t->ahead = false;
}

sc_status embed_texts_take(embed_texts *t, const text_group **out)
{
    sc_status status = SC_OK;
    if (!t->ahead)
        SC_TRY(begin(t));
    wait_for(t);
    t->present = !t->present;
    const text_group *g = &t->groups[t->present];
    if (g->status != SC_OK)
        SC_TRY(sc_fail(g->status, "%s", g->sentence));
    t->next = g->first + g->n;
    if (t->next < t->n_rows)
        SC_TRY(begin(t));
    *out = g;
cleanup:
    return status;
}

void embed_texts_close(embed_texts *t)
{
    wait_for(t);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < EMBED_GROUP; i++)
            token_ids_free(&t->groups[k].ids[i]);
        strbuf_free(&t->groups[k].text);
    }
}
