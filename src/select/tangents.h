/* Tangents of js: how high a row's score can have come since it was evaluated, for k multiplications.
 *
 * With a = (p + m) / 2 the score is alpha H(p) + w (H(a) - H(p) / 2 - H(m) / 2), and of its terms only H(a) speaks of both. H is
 * concave: for any positive r and the next mean m', a' = (p + m') / 2,
 *     H(a') <= - sum a' log r + log sum r                                       (Gibbs' inequality)
 * which at r = a is the tangent: H(a') <= H(a) - sum log(a) (m' - m) / 2, off by KL(a' || a), of second order in the
 * step. The logarithms are kept in float. That is r a little beside a: where |log r_j - log a_j| <= d_j, the plane may lie
 * below H by at most sum a_j d_j^2, which is of second order too. Here d_j <= 2^-22 (1 + |log a_j|), so with
 * sum a (1 - log a)^2 <= (1 + log k)^2 (concave terms; a sums to 1) it is at most 2^-44 (1 + log k)^2. */
#ifndef SC_SELECT_TANGENTS_H
#define SC_SELECT_TANGENTS_H

#include <stdint.h>

#include "base/status.h"

typedef struct tangents {
    int64_t k, room; /* slots that there is room for */
    double weight;   /* w */
    float *slopes;   /* [room][k] log r, r about (p + m) / 2 for the mean that the slot was set against */
    double
        *heights;  /* [room] the tangent's value is heights - w slopes . m / 2 + common; INFINITY: not set */
    double common; /* -w H(m) / 2, of all rows alike */
    double slack;  /* of all that is rounded */
} tangents;

/* There are no slots before tangents_clear. */
void tangents_open(tangents *t, int64_t k, double weight);
void tangents_close(tangents *t); /* {0} is fine */
/* Room for `slots`, none of them set. */
sc_status tangents_clear(tangents *t, int64_t slots);
/* The mean is another now. */
void tangents_move(tangents *t, const double *mean);
/* A row's score has just been computed against the mean. */
void tangents_set(tangents *t, int64_t slot, const double *p, const double *mean, double score);
/* bounds [n]: what the scores of n slots against the mean are at most, INFINITY of one that is not set. */
void tangents_bound(const tangents *t, const int64_t *slots, int64_t n, const double *mean, double *bounds);

#endif
