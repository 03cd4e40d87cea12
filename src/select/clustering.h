/* What the strategies over clusters look at: centres, and every row's softmax over the distances to them. */
#ifndef SC_SELECT_CLUSTERING_H
#define SC_SELECT_CLUSTERING_H

#include "select/distributions.h"
#include "select/kmeans.h"

typedef struct clustering_options {
    int64_t k;
    double temperature; /* p = softmax(-distance / temperature) */
    uint64_t seed;
    const float
        *centres; /* [k][dim] given, in the place of the rows as they came; NULL: k-means++ and Lloyd */
} clustering_options;

typedef struct clustering {
    kmeans_result kmeans;
    distributions distributions;
    double *entropy; /* [n] in nats */
    double passes;   /* over the rows */
} clustering;

/* `rows` has to live as long as `out`. */
sc_status clustering_make(device *dev, const centred *rows, const clustering_options *o, clustering *out);
void clustering_free(clustering *c); /* {0} is fine */
/* What clustering_make takes with k centres. */
void clustering_plan(int64_t n, int64_t dim, int64_t k, bool given, const ops *table, estimate *out);

/* out [k][dim]: centres moved and scaled as the rows are. SC_BAD_INPUT names one that is not finite. */
sc_status clustering_move_centres(const float *centres, int64_t k, const centred *rows, float *out);

#endif
