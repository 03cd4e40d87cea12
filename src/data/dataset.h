/* A dataset folder in memory: reviews.jsonl, items.jsonl, interactions. Row i = line i. */
#ifndef SC_DATA_DATASET_H
#define SC_DATA_DATASET_H

#include "base/json.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct item {
    char *id;          /* parent_asin */
    char *title;       /* NULL where the source has none */
    char *description; /* joined by blanks, or "" */
    char **categories; /* genres or categories */
    size_t n_categories;
    char **people; /* director and cast: details.director, details.cast ... */
    size_t n_people;
    int32_t year; /* 0: unknown */
    int64_t rating_number;
} item;

typedef struct review {
    char *id; /* "review_id": stable, user_id-parent_asin-timestamp, made at import */
    char *user_id;
    int32_t user; /* index into users; -1 unknown */
    int32_t item; /* index into items; -1 if its item is not listed */
    char *parent_asin;
    char *title, *text; /* never NULL */
    double rating;
    int64_t timestamp; /* milliseconds */
} review;

typedef struct interaction {
    int32_t user, item; /* indices into users.txt and items.jsonl */
    float rating;       /* in the source's scale */
} interaction;

typedef struct dataset {
    review *reviews;
    size_t n_reviews;
    item *items;
    size_t n_items;
    char **users;
    size_t n_users;
    interaction *interactions; /* sorted by user, then item */
    size_t n_interactions;
    char *path;
    char reviews_sha256[65], items_sha256[65]; /* "" where the file was not loaded */
    struct id_table *item_ids;                 /* parent_asin -> index into items */
} dataset;

enum { DATASET_REVIEWS = 1, DATASET_ITEMS = 2, DATASET_INTERACTIONS = 4, DATASET_ALL = 7 };
/* `parts`: what to load. A folder without a needed file is SC_BAD_INPUT; an empty data set too. Items
 * and users are loaded whenever they are there, since reviews and interactions point at them. */
sc_status dataset_open(const char *folder, int parts, dataset **out);
void dataset_close(dataset *d);
/* -1 if absent. */
int32_t dataset_find_item(const dataset *d, const char *parent_asin);

/* What embed feeds to the model: "title\ntext" of a review; title, genres, description, people of an item. */
sc_status dataset_review_text(const dataset *d, size_t row, strbuf *out);
sc_status dataset_item_text(const dataset *d, size_t index, strbuf *out);
/* How a prompt quotes a review, as the number-th of several: "2. title: text", of the text no more than 2,000 bytes. */
void dataset_review_quote(const review *r, size_t number, strbuf *out);
/* Bytes of memory that the data set takes, as the allocator hands them out. */
int64_t dataset_bytes(const dataset *d);
/* How a title is shown and compared: without a trailing "(1999)" and the other names in
 * parentheses before it, spaces folded. Appended. */
sc_status dataset_plain_title(const char *title, strbuf *out);

#ifdef __cplusplus
}
#endif
#endif
