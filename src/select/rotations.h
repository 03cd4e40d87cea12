/* S = lambda I + sum of x x' as its Cholesky factor, which takes on rows by plane rotations (Golub and Van Loan
 * 2013, 6.5.4). Slower than products with S^-1, and right where those are not: nothing is ever subtracted, so
 * gains that are a small part of what they were keep their digits. */
#ifndef SC_SELECT_ROTATIONS_H
#define SC_SELECT_ROTATIONS_H

#include <stdint.h>

#include "base/status.h"

typedef struct rotations {
    double *r;    /* [dim][dim] upper triangle, R'R = S */
    double *work; /* [dim] */
    int64_t dim, n;
} rotations;

sc_status rotations_open(rotations *f, int64_t dim, double lambda);
void rotations_close(rotations *f); /* {0} is fine */
void rotations_add(rotations *f, const float *x);
/* v [dim] = R'^-1 x; returns x' S^-1 x = |v|^2. Threads may call it with vectors of their own. */
double rotations_gain(const rotations *f, const float *x, double *v);
/* v = R^-1 v: of rotations_gain's v, S^-1 x. */
void rotations_solve(const rotations *f, double *v);

#endif
