/* k-means on rows in memory: k-means++ (Arthur and Vassilvitskii 2007) or given centres, then Lloyd's iterations.
 *
 * Labels are those of float64 arithmetic on mean-centred rows, sums run in row order, and random numbers are keyed:
 * the same input gives the same bytes for any number of threads. Empty clusters are given the row that lies
 * farthest from its centre. O(n k dim) an iteration; memory n dim floats beside the rows. */
#ifndef SEEDCORN_KMEANS_H
#define SEEDCORN_KMEANS_H

#include "seedcorn/common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sc_kmeans_options {
    size_t struct_size;
    sc_common common;
    int64_t clusters;       /* k, from 1 */
    int64_t max_iterations; /* 100 */
    double
        tolerance; /* 1e-4: stop when the centres' squared shift is at most this times the mean variance of a
                         column; 0: when no label changes */
    const float *centres; /* [clusters][dim] to start from, or NULL: k-means++ */
} sc_kmeans_options;

typedef struct sc_kmeans_result {
    int64_t clusters;             /* fewer than asked for if there are fewer distinct rows */
    double inertia;               /* sum of the squared distances to the nearest centres */
    int64_t iterations, repaired; /* repaired: empty clusters that were given a row */
    int64_t converged;            /* 1: settled, 0: max_iterations were not enough */
} sc_kmeans_result;

SC_API sc_kmeans_options sc_kmeans_default(void);

/* x [n][dim], finite. Out: centres [options->clusters][dim], of which the first result->clusters are set, and
 * labels [n] and dist2 [n] (squared distances), each possibly NULL. SC_BAD_INPUT: a NaN or infinity, named by row. */
SC_API sc_status sc_kmeans_fit(const sc_kmeans_options *options, const float *x, int64_t n, int64_t dim,
                               float *centres, int32_t *labels, float *dist2, sc_kmeans_result *result);

/* The nearest of options->clusters centres, options->centres, for every row. */
SC_API sc_status sc_kmeans_predict(const sc_kmeans_options *options, const float *x, int64_t n, int64_t dim,
                                   int32_t *labels, float *dist2);

#ifdef __cplusplus
}
#endif
#endif
