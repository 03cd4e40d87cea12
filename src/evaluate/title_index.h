/* The inside of a catalogue, for match.c. */
#ifndef SC_EVALUATE_TITLE_INDEX_H
#define SC_EVALUATE_TITLE_INDEX_H

#include "evaluate/match.h"

typedef struct name_entry {
    char *name, *key;   /* as written, as compared */
    uint16_t *symbols;  /* [length] of the key */
    int32_t length;     /* code points of the key */
    uint64_t signature; /* bit s % 64 for every symbol s of the key */
    bool item;
} name_entry;

struct title_index {
    match_mode mode;
    name_entry *names; /* [n_names] items first, then by key */
    size_t n_names, n_items;
    uint32_t *alphabet; /* [n_symbols] code points, ascending */
    int32_t n_symbols, longest;
    int32_t *by_length;       /* [n_names] indices, by length, then ascending */
    int32_t *by_length_start; /* [longest + 2] */
    int32_t *by_key;          /* [n_names] indices, by key */
};

int32_t title_index_find_key(const title_index *c, const char *key); /* -1: absent */
/* Symbols of a compared form; returns how many. `out` holds n. -1: a code point that no name has. */
int32_t title_index_symbols(const title_index *c, const char *key, size_t n, int32_t *out);

#endif
