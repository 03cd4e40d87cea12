/* Tables of ids: a string -> its index in order of first appearance, and a set of 64-bit hashes.
 * They are the only things that grow with the data during an import. */
#ifndef SC_DATA_IDS_H
#define SC_DATA_IDS_H

#include <stdbool.h>

#include "base/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* {0} is an empty table. */
typedef struct id_table {
    strbuf bytes;    /* all ids, each terminated by a zero */
    size_t *offsets; /* [n] start of id i in bytes */
    size_t n, capacity;
    uint32_t *slots; /* [n_slots] open addressing, index + 1, 0: free */
    size_t n_slots;
} id_table;

/* The index of `id`, given a new one if it is not known yet. is_new may be NULL. */
sc_status id_table_put(id_table *t, const char *id, int32_t *index, bool *is_new);
/* -1 if absent. */
int32_t id_table_find(const id_table *t, const char *id);
/* Valid until the next put. */
const char *id_table_get(const id_table *t, int32_t index);
void id_table_free(id_table *t);

/* A set of 64-bit hashes: 8 to 16 bytes an entry, whatever the length of the text. */
typedef struct hash_set {
    uint64_t *slots;
    size_t n, n_slots;
    bool has_zero;
} hash_set;

uint64_t hash_bytes(const void *bytes, size_t n);
sc_status hash_set_add(hash_set *s, uint64_t hash, bool *is_new);
void hash_set_free(hash_set *s);

/* Completes `text` (already in the buffer) to one that the set has not seen: unchanged at first,
 * then with -2, -3 ... appended. Two texts are taken for the same if their 64-bit hashes agree,
 * which can only give a suffix too many, never the same id twice. */
sc_status unique_id(hash_set *seen, strbuf *text);

#ifdef __cplusplus
}
#endif
#endif
