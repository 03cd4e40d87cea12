/* A dialogue is rendered once; every epoch packs the same ids in another order. */
#include "train/pack.h"

#include <stdlib.h>
#include <string.h>

typedef struct builder {
    train_rows *rows;
    size_t cap_ids, cap_targets;
} builder;

/* The length that is kept: all, or up to the last message that ends within max_tokens. */
static size_t kept_length(const chat_rendered *r, size_t n_messages, int64_t max_tokens)
{
    if (r->ids.n <= (size_t)max_tokens)
        return r->ids.n;
    size_t kept = 0;
    for (size_t i = 0; i < n_messages; i++)
        if (r->message_end[i] <= (size_t)max_tokens)
            kept = r->message_end[i];
    return kept;
}

static sc_status append_row(builder *b, const chat_rendered *r, size_t kept, int64_t row)
{
    sc_status status = SC_OK;
    train_rows *rows = b->rows;
    int64_t start = rows->offsets[row];
    size_t total = (size_t)start + kept;

    SC_TRY(sc_grow(&rows->ids, &b->cap_ids, total, sizeof(*rows->ids)));
    SC_TRY(sc_grow(&rows->targets, &b->cap_targets, total, sizeof(*rows->targets)));
    memcpy(rows->ids + start, r->ids.ids, kept * sizeof(*rows->ids));
    for (size_t t = 0; t < kept; t++) {
        bool supervised = t + 1 < kept && r->mask[t + 1];
        rows->targets[start + (int64_t)t] = supervised ? r->ids.ids[t + 1] : -1;
        rows->supervised[row] += supervised;
    }
    rows->offsets[row + 1] = (int64_t)total;
cleanup:
    return status;
}

sc_status train_rows_build(const tokenizer *t, chat_family family, const dialogues *d, int64_t max_tokens,
                           train_rows *out)
{
    sc_status status = SC_OK;
    builder b = {.rows = out};
    chat_message *messages = NULL;
    size_t cap_messages = 0;
    chat_rendered rendered = {0};

    memset(out, 0, sizeof(*out));
    SC_TRY(sc_alloc(&out->offsets, d->n + 1, sizeof(*out->offsets)));
    SC_TRY(sc_alloc(&out->supervised, d->n, sizeof(*out->supervised)));
    for (size_t i = 0; i < d->n; i++) {
        const dialogue *row = &d->rows[i];
        SC_TRY(sc_grow(&messages, &cap_messages, row->n_messages, sizeof(*messages)));
        for (size_t k = 0; k < row->n_messages; k++)
            messages[k] = (chat_message){row->messages[k].role, row->messages[k].content};
        chat_rendered_free(&rendered);
        SC_TRY(chat_render(t, family, messages, row->n_messages, false, &rendered));
        size_t kept = kept_length(&rendered, row->n_messages, max_tokens);
        out->n_cut += kept < rendered.ids.n;
        SC_TRY(append_row(&b, &rendered, kept, (int64_t)i));
        if (out->supervised[i] == 0 && kept < rendered.ids.n)
            SC_TRY(sc_fail(
                SC_BAD_INPUT,
                "dialogue '%s' has %zu tokens and nothing of the assistant within --max-tokens %lld: raise "
                "it, or take the dialogue out",
                row->id, rendered.ids.n, (long long)max_tokens));
        if (out->supervised[i] == 0)
            SC_TRY(sc_fail(SC_BAD_INPUT,
                           "dialogue '%s' has no word of the assistant to learn from: take it out", row->id));
    }
    out->n = (int64_t)d->n;
cleanup:
    chat_rendered_free(&rendered);
    free(messages);
    if (status != SC_OK)
        train_rows_free(out);
    return status;
}

void train_rows_free(train_rows *r)
{
    free(r->ids);
    free(r->targets);
    free(r->offsets);
    free(r->supervised);
    memset(r, 0, sizeof(*r));
}

sc_status train_batch_build(const train_rows *r, const int64_t *rows, size_t n, train_batch *out)
{
    sc_status status = SC_OK;
    int64_t total = 0, at = 0;

    for (size_t i = 0; i < n; i++)
        total += r->offsets[rows[i] + 1] - r->offsets[rows[i]];
    if (total > INT32_MAX)
        SC_TRY(
            sc_fail(SC_USAGE, "a batch of %lld tokens is too large: lower --micro-batch", (long long)total));
    SC_TRY(sc_grow(&out->ids, &out->cap_ids, (size_t)total, sizeof(*out->ids)));
    SC_TRY(sc_grow(&out->targets, &out->cap_targets, (size_t)total, sizeof(*out->targets)));
    SC_TRY(sc_grow(&out->row_keys, &out->cap_keys, (size_t)total, sizeof(*out->row_keys)));
    SC_TRY(sc_grow(&out->cu_seqlens, &out->cap_cu, n + 1, sizeof(*out->cu_seqlens)));
    out->n_supervised = 0;
    out->cu_seqlens[0] = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t start = r->offsets[rows[i]], length = r->offsets[rows[i] + 1] - start;
        memcpy(out->ids + at, r->ids + start, (size_t)length * sizeof(*out->ids));
        memcpy(out->targets + at, r->targets + start, (size_t)length * sizeof(*out->targets));
        for (int64_t t = 0; t < length; t++)
            out->row_keys[at + t] = (uint64_t)rows[i] << 32 | (uint64_t)t;
        out->n_supervised += r->supervised[rows[i]];
        at += length;
        out->cu_seqlens[i + 1] = (int32_t)at;
    }
    out->batch = (packed_batch){.ids = out->ids,
                                .cu_seqlens = out->cu_seqlens,
                                .n_seqs = (int64_t)n,
                                .n_tokens = total,
                                .row_keys = out->row_keys};
cleanup:
    return status;
}

void train_batch_free(train_batch *b)
{
    free(b->ids);
    free(b->targets);
    free(b->cu_seqlens);
    free(b->row_keys);
    memset(b, 0, sizeof(*b));
}

typedef struct placed {
    int64_t row, length, place; /* where it stood */
    size_t batch;
} placed;

static int longest_first(const void *a, const void *b)
{
    const placed *x = a, *y = b;
    if (x->length != y->length)
        return x->length < y->length ? 1 : -1;
    return (x->place > y->place) - (x->place < y->place);
}

static int by_batch(const void *a, const void *b)
{
    const placed *x = a, *y = b;
    if (x->batch != y->batch)
        return x->batch > y->batch ? 1 : -1;
    return (x->place > y->place) - (x->place < y->place);
}

sc_status train_pack_best_fit(const train_rows *r, int64_t *rows, size_t n, int64_t max_tokens, size_t *ends,
                              size_t *n_batches)
{
    sc_status status = SC_OK;
    placed *all = NULL;
    int64_t *room = NULL;
    size_t batches = 0;
    *n_batches = 0;
    SC_TRY(sc_alloc(&all, n, sizeof *all));
    SC_TRY(sc_alloc(&room, n, sizeof *room));
    for (size_t i = 0; i < n; i++)
        all[i] = (placed){rows[i], r->offsets[rows[i] + 1] - r->offsets[rows[i]], (int64_t)i, 0};
    qsort(all, n, sizeof *all, longest_first);
    for (size_t i = 0; i < n; i++) {
        size_t best = batches;
        for (size_t b = 0; b < batches; b++)
            if (room[b] >= all[i].length && (best == batches || room[b] < room[best]))
                best = b;
        if (best == batches)
            room[batches++] = max_tokens;
        room[best] -= all[i].length;
        all[i].batch = best;
    }
    qsort(all, n, sizeof *all, by_batch);
    for (size_t i = 0; i < n; i++) {
        rows[i] = all[i].row;
        ends[all[i].batch] = i + 1;
    }
    *n_batches = batches;
cleanup:
    free(all);
    free(room);
    return status;
}
