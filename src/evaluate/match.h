/* Titles matched to a catalogue of names. */
#ifndef SC_EVALUATE_MATCH_H
#define SC_EVALUATE_MATCH_H

#include "base/json.h"

typedef enum match_mode {
    /* Normalised titles of items (title_normalise): the exact one, else the nearest within 0 edits for at most
     * 5 code points of the shorter title, 1 for at most 10, 2 beyond, with the same numbers in it. */
    MATCH_STRICT = 0,
    /* He et al. 2023: the nearest by Levenshtein distance over lower-cased names of all entities, however
     * far; a distance above MATCH_HE_LIMIT is out of vocabulary. Their ties fall by hash order; ours go to items
     * before other entities, then to the lexicographically first. */
    MATCH_HE2023 = 1
} match_mode;

enum { MATCH_HE_LIMIT = 2 };

/* Distinct names, in one fixed order: items first, then by their compared form. */
typedef struct title_index title_index;

/* `path`: items.jsonl (key "title"), or an entity2id.json of He et al. with item_ids.json beside it
 * (without that, every entity is an item); either may be compressed. */
sc_status title_index_open(const char *path, match_mode mode, title_index **out);
/* items [n], or NULL: all are. */
sc_status title_index_create(const char *const *names, const bool *items, size_t n, match_mode mode,
                             title_index **out);
void title_index_close(title_index *c);

size_t title_index_size(const title_index *c);    /* distinct names */
size_t title_index_n_items(const title_index *c); /* those of items: indices 0 .. n_items-1 */
const char *title_index_name(const title_index *c, int32_t index); /* as first written */
const char *title_index_key(const title_index *c, int32_t index);  /* as compared */
/* The form in which names of this catalogue are compared, appended. */
void title_index_form(const title_index *c, const char *title, strbuf *out);
/* The same for a name of a data set (a target, an entity) rather than a title of a reply: he2023 drops
 * its parentheses too. */
void title_index_form_of_name(const title_index *c, const char *name, strbuf *out);
/* The name with exactly this compared form, -1 if there is none. */
sc_status title_index_find(const title_index *c, const char *title, int32_t *out);

typedef struct title_match {
    int32_t name;     /* index, -1: none (strict; he2023 always has a nearest) */
    int32_t distance; /* -1 where name is */
    bool known;       /* within the mode's threshold */
} title_match;

/* Each distinct title is looked up once; over threads, with a result that does not depend on them. */
sc_status title_index_match(const title_index *c, const char *const *titles, size_t n, title_match *out);

#endif
