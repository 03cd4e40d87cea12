/* The popularity baseline: the same list for everybody, items by their number of interactions. */
#ifndef SC_EVALUATE_POPULARITY_H
#define SC_EVALUATE_POPULARITY_H

#include "evaluate/parse.h"

/* At most `limit` distinct plain titles of the data set's items, most interactions first, equal numbers in
 * the order of items.jsonl; items without a title or an interaction are left out. */
sc_status popularity_titles(const char *data, size_t limit, title_list *out);

#endif
