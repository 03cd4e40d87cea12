/* Levenshtein distance of one query to many names, 64 cells at a time (Myers 1999; Hyyro 2003). */
#ifndef SC_EVALUATE_DISTANCE_H
#define SC_EVALUATE_DISTANCE_H

#include "base/status.h"

/* Symbols are dense numbers 0 .. n_symbols-1; -1 in a query is a symbol that no name has. */
typedef struct distance_query {
    uint64_t *positions;    /* [n_symbols][n_words] where each symbol stands in the query */
    uint64_t *plus, *minus; /* [n_words] scratch: vertical differences of +1 and -1 */
    int32_t length, n_words, n_symbols;
} distance_query;

sc_status distance_query_open(distance_query *q, const int32_t *symbols, int32_t length, int32_t n_symbols);
int32_t distance_to(distance_query *q, const uint16_t *name, int32_t length);
void distance_query_close(distance_query *q);

#endif
