/* k-means on rows in memory: k-means++ (Arthur and Vassilvitskii 2007) or given centres, then Lloyd's iterations.
 *
 * Labels are those of float64 arithmetic on mean-centred rows, sums run in row order, and random numbers are keyed:
 * the same input gives the same bytes for any number of threads. Empty clusters are given the row that lies
 * farthest from its centre. O(n k dim) an iteration at most: rows that cannot have changed sides are left out, which
 * changes nothing (Hamerly 2010). Memory: 40 n bytes beside the rows, and n dim floats where that is
 * less than an eighth of what is free. */
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
    int64_t bf16_rows;    /* 1: x holds bf16 (uint16_t, the upper half of a float), exact data; 0: float */
} sc_kmeans_options;

typedef struct sc_kmeans_result {
    int64_t clusters;             /* fewer than asked for if there are fewer distinct rows */
    double inertia;               /* sum of the squared distances to the nearest centres */
    int64_t iterations, repaired; /* repaired: empty clusters that were given a row */
    int64_t converged;            /* 1: settled, 0: max_iterations were not enough */
} sc_kmeans_result;

SC_API sc_kmeans_options sc_kmeans_default(void);

/* x [n][dim], finite, float or bf16 as the options say. Out: centres [options->clusters][dim], of which the first result->clusters are set, and
 * labels [n] and dist2 [n] (squared distances), each possibly NULL. SC_BAD_INPUT: a NaN or infinity, named by row. */
SC_API sc_status sc_kmeans_fit(const sc_kmeans_options *options, const void *x, int64_t n, int64_t dim,
                               float *centres, int32_t *labels, float *dist2, sc_kmeans_result *result);

/* Many problems in one call: problem p clusters rows offsets[p] .. offsets[p + 1] - 1 of x, each with its own mean,
 * and its results are those of sc_kmeans_fit on these rows alone, byte for byte. Small problems run beside each other,
 * one a thread. offsets [n_problems + 1] start at 0 and rise; options->centres and the centres that come out are
 * [n_problems][clusters][dim], labels and dist2 [offsets[n_problems]], results [n_problems] or NULL. */
SC_API sc_status sc_kmeans_fit_many(const sc_kmeans_options *options, const void *x, const int64_t *offsets,
                                    int64_t n_problems, int64_t dim, float *centres, int32_t *labels,
                                    float *dist2, sc_kmeans_result *results);

/* The nearest of options->clusters centres, options->centres, for every row. */
SC_API sc_status sc_kmeans_predict(const sc_kmeans_options *options, const void *x, int64_t n, int64_t dim,
                                   int32_t *labels, float *dist2);

#ifdef __cplusplus
}
#endif
#endif
