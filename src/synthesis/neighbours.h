/* What people who liked this item also liked: item-item collaborative filtering over a catalogue,
 * shrunk towards shared genres, people, years and embeddings where co-ratings are thin. */
#ifndef SC_SYNTHESIS_NEIGHBOURS_H
#define SC_SYNTHESIS_NEIGHBOURS_H

#include "data/dataset.h"

typedef struct neighbours neighbours;

/* `catalogue` has items and interactions and must outlive the result. `embeddings`: float32
 * [n_items][dim], row i = item i, or NULL. Items without a title take no part; of several items with
 * one title the most liked one stands for all. */
sc_status neighbours_create(const dataset *catalogue, const float *embeddings, size_t dim, neighbours **out);
void neighbours_free(neighbours *n);

/* The catalogue's item for an item of another data set: by id, else by title and year; -1: none. */
int32_t neighbours_locate(const neighbours *n, const item *subject);
/* Plain title of a catalogue item ("Alien"), NULL where it has none. */
const char *neighbours_title(const neighbours *n, int32_t index);
int64_t neighbours_likes(const neighbours *n, int32_t index);

typedef struct neighbour_query {
    const item *subject;  /* what is liked; may be absent from the catalogue */
    const int32_t *liked; /* further liked items, by catalogue index */
    size_t n_liked;
    const char *genre;          /* asked for by name, or NULL: items that have it come first */
    const char *person;         /* the same for a person */
    int32_t decade;             /* 1990: the same for 1990..1999; 0: none */
    const char *const *exclude; /* titles that must not appear: already mentioned */
    size_t n_exclude;
} neighbour_query;

enum { NEIGHBOUR_SEED, NEIGHBOUR_CO_RATED, NEIGHBOUR_CONTENT };
typedef struct neighbour {
    int32_t item; /* catalogue index */
    int source;   /* what its score rests on */
    double score;
} neighbour;

/* At most k distinct titles, best first; ties go to the more liked item, then to the lower index.
 * *n may be smaller than k where the catalogue is. Safe to call from several threads. */
sc_status neighbours_rank(const neighbours *n, const neighbour_query *query, size_t k, neighbour *out,
                          size_t *n_out);

#endif
