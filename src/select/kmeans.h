/* k-means: k-means++ (Arthur and Vassilvitskii 2007), then Lloyd's iterations (Lloyd 1982).
 *
 * Labels are decided in float64, sums run in row order, random numbers are keyed: the same result
 * for any number of threads and on any table. */
#ifndef SC_SELECT_KMEANS_H
#define SC_SELECT_KMEANS_H

#include "select/estimate.h"
#include "select/resident.h"
#include "select/rows.h"

typedef struct kmeans_options {
    int64_t k;
    uint64_t seed;
    int64_t max_iterations; /* of Lloyd; 0: 100 */
    double tolerance;       /* stop when the centres' squared shift is at most this times the mean variance
                               of a column; 0: until no label changes */
    const float *centres;   /* [k][dim] to start from; NULL: k-means++ */
    bool plain;             /* every row against every centre in every iteration: the same bytes, for tests */
    bool quiet;             /* no progress: one of many */
} kmeans_options;

typedef struct kmeans_result {
    int64_t k;                    /* fewer than asked for if there are fewer distinct rows */
    float *centres;               /* [k][dim] */
    int32_t *labels;              /* [n] nearest centre */
    float *dist2;                 /* [n] squared distance to it */
    double inertia;               /* sum of dist2 */
    int64_t iterations, repaired; /* repaired: empty clusters that were given the farthest row */
    bool converged;
} kmeans_result;

/* Rows for k-means with k centres: with room on the device for what it takes beside them. */
sc_status kmeans_rows_open(const ops *table, const centred *rows, int64_t k, device_rows *out);
/* x: mean-centred rows. */
sc_status kmeans(device_rows *x, const kmeans_options *options, kmeans_result *out);
/* Labels and inertia for given centres [k][dim]. */
sc_status kmeans_given(device_rows *x, const float *centres, int64_t k, kmeans_result *out);
void kmeans_free(kmeans_result *r);
/* What kmeans (or, with given centres, kmeans_given) takes on top of x [n][dim] with k centres. */
void kmeans_fit_plan(int64_t n, int64_t dim, int64_t k, bool given, const ops *table, estimate *out);

#endif
