/* The entity or item list that belongs to a set of dialogues: ids, names, and which of them may be
 * recommended. Three shapes are read, told apart by their content:
 *   entity2id.json of He et al.: {"<http://dbpedia.org/resource/Hoffa_(film)>": 0, ...}, the ids that are
 *     movies in item_ids.json beside it;
 *   id2info.json of ReDial: {"100026": {"name": "Pari (1995)", "genre": [...], ...}, ...};
 *   items.jsonl of a dataset folder. */
#ifndef SC_DATA_CATALOGUE_H
#define SC_DATA_CATALOGUE_H

#include "base/json.h"
#include "data/ids.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct catalogue {
    id_table ids;   /* id as text -> index */
    char **names;   /* [n] plain names */
    json_t **items; /* [n] the item in the keys of items.jsonl, for those that may be recommended */
    size_t n, capacity;
    size_t n_candidates;
    char *item_ids; /* the file beside an entity list, or NULL */
} catalogue;

sc_status catalogue_open(const char *path, catalogue *out);
/* The plain name; NULL for an unknown id. */
const char *catalogue_name(const catalogue *c, const char *id);
/* The items that may be recommended, one a line. */
sc_status catalogue_write(const catalogue *c, const char *path);
void catalogue_close(catalogue *c); /* {0} is fine */

#ifdef __cplusplus
}
#endif
#endif
