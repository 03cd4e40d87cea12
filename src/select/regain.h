/* Gains of all rows anew: what many flushes have added to their slack is gone. */
#ifndef SC_SELECT_REGAIN_H
#define SC_SELECT_REGAIN_H

#include "select/resident.h"

typedef struct regain_task {
    const ops *ops;
    const resident *x, *norms, *a; /* [n][dim] float, [n] |x|, [dim][dim] S^-1 */
    int64_t n, dim;
    double a_error; /* x' A x is known within a_error |x|^2 */
} regain_task;

/* gains [n] and slack [n] of the host, -infinity left alone: x' A x in one product in float where that says more than
 * what stands there. *helped: the slack of all has become half of what it was, or less. */
sc_status regain(const regain_task *t, double *gains, double *slack, bool *helped);

#endif
