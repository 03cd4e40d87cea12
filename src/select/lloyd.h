/* The two steps of Lloyd's iteration (1982), labels and means, on one set of rows; kmeans.c drives them.
 *
 * With bounds (Hamerly 2010) rows that cannot have changed sides are not compared again, and sums are exact, so that only rows
 * which did change sides are taken from one to the other: the same labels, and the same bytes, as without. */
#ifndef SC_SELECT_LLOYD_H
#define SC_SELECT_LLOYD_H

#include "select/kmeans.h"

typedef struct lloyd {
    const ops *ops;
    device_rows *x;
    int64_t n, dim, k;
    bool bounded;    /* false too where the table lacks the operations */
    bool summing;    /* labels and sums in one pass over the rows, which streams them */
    bool summed_now; /* the sums are of the labels as they are */
    resident centres, labels, dist2, sums, counts, summed, scratch; /* the first three are the result's */
    resident norms2, moved, near, far;                              /* of bounds: see cluster_reassign */
    exact_grid grid;                                                /* of the sums: see cluster_update */
    double *step2;                                                  /* [k] squared ways of the centres */
    void *arrays[8]; /* the hosts of those that are not the result's */
    int n_arrays;
} lloyd;

sc_status lloyd_open(lloyd *w, device_rows *x, int64_t k, bool plain, kmeans_result *out);
/* And what lloyd_start and the means want besides; the rows are centred ones, of which it is known how large they are. */
sc_status lloyd_open_sums(lloyd *w);
void lloyd_close(lloyd *w); /* {0} is fine */

/* Labels and dist2 of every row for k centres [k][dim] on the device. */
sc_status lloyd_assign(lloyd *w, const float *centres, int64_t k);
/* Labels for the first centres of all. */
sc_status lloyd_start(lloyd *w);
/* Labels after the centres have moved. */
sc_status lloyd_reassign(lloyd *w);
/* dist2 of the labels as they are; without bounds it is always there. */
sc_status lloyd_measure(lloyd *w);
/* Sums and counts of the labels. */
sc_status lloyd_sum(lloyd *w);
/* Gives row i to a cluster that is not its nearest, between lloyd_measure and lloyd_hand_over. */
void lloyd_give(lloyd *w, int64_t i, int32_t cluster);
sc_status lloyd_hand_over(lloyd *w);
/* The centres become the means; *shift is the squared way of all. */
sc_status lloyd_move(lloyd *w, double *shift);
/* The mean of the columns' variances; the rows are mean-centred. */
sc_status lloyd_variance(lloyd *w, double *variance);

#endif
