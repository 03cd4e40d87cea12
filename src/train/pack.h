/* Dialogues to token rows, and rows to packed batches (cu_seqlens, no padding). */
#ifndef SC_TRAIN_PACK_H
#define SC_TRAIN_PACK_H

#include "data/dialogue.h"
#include "model/model.h"
#include "text/chat.h"

/* All dialogues as ids and targets, one after the other. */
typedef struct train_rows {
    int32_t *ids;        /* [offsets[n]] */
    int32_t *targets;    /* [offsets[n]] the next id where it is supervised, else -1 */
    int64_t *offsets;    /* [n + 1] */
    int64_t *supervised; /* [n] targets that are not -1 */
    int64_t n;
    int64_t n_cut; /* dialogues cut at a message boundary because of max_tokens */
} train_rows;

/* A dialogue longer than max_tokens loses whole messages at its end; one that has no supervised token (left) is
 * SC_BAD_INPUT and named. */
sc_status train_rows_build(const tokenizer *t, chat_family family, const dialogues *d, int64_t max_tokens,
                           train_rows *out);
void train_rows_free(train_rows *r);

/* Some rows as one batch; `batch` points into the other members. Reusable: build grows them. */
typedef struct train_batch {
    packed_batch batch;
    int32_t *ids, *targets, *cu_seqlens;
    uint64_t *row_keys; /* the dialogue's index in the high half, the token's place in the low one */
    size_t cap_ids, cap_targets, cap_cu, cap_keys;
    int64_t n_supervised;
} train_batch;

sc_status train_batch_build(const train_rows *r, const int64_t *rows, size_t n, train_batch *out);
void train_batch_free(train_batch *b);

/* Rows into batches of at most max_tokens (a longer row is alone), as few as best fit decreasing finds: the longest
 * first, each to the fullest batch that has room (Johnson 1973: at most 11/9 of the least, and a bit). rows[0..n) is
 * rearranged; batch b is rows[ends[b - 1] .. ends[b]). */
sc_status train_pack_best_fit(const train_rows *r, int64_t *rows, size_t n, int64_t max_tokens, size_t *ends,
                              size_t *n_batches);

#endif
