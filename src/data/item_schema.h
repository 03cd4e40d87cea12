/* Item metadata of any source -> the keys of Amazon Reviews '23
 * (https://amazon-reviews-2023.github.io/data_processing/0core.html, "Item Metadata"). */
#ifndef SC_DATA_ITEM_SCHEMA_H
#define SC_DATA_ITEM_SCHEMA_H

#include "data/csv.h"
#include "data/source.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One item with every key of the schema, in a fixed order (a new reference). Takes the shapes that
 * occur: title null, price a string, description a string, categories nested, details as a string of
 * JSON, "asin" for "parent_asin". *out = NULL if the line has no id. A wrong type is an error. */
sc_status item_normalise(const json_t *line, const char *where, clean_counts *counts, json_t **out);
/* What is written for an id that has reviews but no metadata. */
sc_status item_without_metadata(const char *id, json_t **out);
/* A record of a CSV file: columns parent_asin, item_id or asin; title; categories or genres (divided by
 * '|'); description, store, price, year, directors, cast. */
sc_status item_from_csv(const csv_reader *r, const char *const *fields, const char *where,
                        clean_counts *counts, json_t **out);
/* Adds to `item` what `other` knows more: a title where there is none, the longer description, further
 * categories and details. *changed tells whether there was anything. */
sc_status item_enrich(json_t *item, const json_t *other, bool *changed);

#ifdef __cplusplus
}
#endif
#endif
