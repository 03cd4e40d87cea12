/* Writes a dataset folder: everything goes to OUT.tmp-... beside it and takes OUT's place at the
 * commit, so that a failed import leaves what was there. An existing OUT must hold a dataset.json
 * (it is replaced; files in it that are not ours are kept) or be empty. */
#ifndef SC_DATA_DATASET_WRITER_H
#define SC_DATA_DATASET_WRITER_H

#include "base/json.h"
#include "data/ids.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dataset_writer {
    char *out, *temporary;
    file_writer *reviews, *items, *users;
    id_table item_ids, user_ids;
    size_t n_item_lines;        /* items written; the ids behind them have no metadata */
    struct dataset_pair *pairs; /* [n_pairs] in order of the input */
    size_t n_pairs, pairs_capacity;
    int64_t n_reviews, n_interactions, n_without_metadata, n_repeated_pairs;
} dataset_writer;

/* `reviews`: whether the folder gets a reviews.jsonl. */
sc_status dataset_writer_open(const char *out, bool reviews, dataset_writer **result);
/* One line of items.jsonl (keys of item_schema.h), in the order of item_ids: before the first interaction,
 * or, for ids that were put into item_ids before, at any time. *is_new = false if an item of that id was
 * written before: nothing is written. */
sc_status dataset_writer_item(dataset_writer *w, const json_t *item, bool *is_new);
sc_status dataset_writer_review(dataset_writer *w, const json_t *review);
/* Both ids get an index if they have none. Of several ratings of one item by one user the last counts. */
sc_status dataset_writer_interaction(dataset_writer *w, const char *user_id, const char *item_id,
                                     double rating, bool *user_is_new);
/* Writes the rest; `description` becomes dataset.json, with "counts" and "files" added. Closes in every
 * case. */
sc_status dataset_writer_commit(dataset_writer **w, json_t *description);
void dataset_writer_discard(dataset_writer **w); /* NULL inside is fine */

#ifdef __cplusplus
}
#endif
#endif
