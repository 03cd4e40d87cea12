/* What a teacher is told about one selected review: the item, three of its reviews, and the words
 * of those reviews that a request can be built from. */
#ifndef SC_SYNTHESIS_MATERIAL_H
#define SC_SYNTHESIS_MATERIAL_H

#include "data/dataset.h"
#include "synthesis/neighbours.h"
#include "synthesis/phrases.h"
#include "synthesis/templates.h"

enum { MATERIAL_REVIEWS = 3, MATERIAL_TEMPLATES = 5, MATERIAL_GENRES = 4, MATERIAL_LIKED = 12 };

/* Shared by all seeds of a run. */
typedef struct synthesis_context {
    const dataset *data;
    const neighbours *near;
    const dataset *catalogue;
    template_pool pool;
    const char *domain;       /* "movie" */
    char *domains, *a_domain; /* "movies", "a movie" */
    bool stories;             /* the domain tells stories: films and their kin */
    uint64_t seed;
    int64_t per_seed;
    int64_t *item_start; /* [n_items + 1] into item_rows: the reviews of an item */
    int64_t *item_rows;
} synthesis_context;

sc_status synthesis_context_open(synthesis_context *c); /* after data, domain are set: fills the rest */
void synthesis_context_close(synthesis_context *c);

typedef struct material {
    int64_t row; /* of the selected review */
    const item *subject;
    int32_t located;                /* in the catalogue; -1 */
    strbuf title;                   /* plain; empty where the item has none */
    int64_t rows[MATERIAL_REVIEWS]; /* the selected one first */
    const review *reviews[MATERIAL_REVIEWS];
    size_t n_reviews;
    phrase_set phrases;
    const char *genres[MATERIAL_GENRES]; /* categories that can be said, as they stand in the data */
    size_t n_genres;
    const char *people[MATERIAL_GENRES];
    size_t n_people;
    int32_t liked[MATERIAL_LIKED]; /* catalogue items close to the subject, for the user to mention */
    size_t n_liked;
} material;

/* Safe to call from several threads. A review whose item is not listed is SC_BAD_INPUT. */
sc_status material_collect(const synthesis_context *c, int64_t row, material *out);
void material_free(material *m);

#endif
