/* What picks take from the gains of all rows; and gains of all rows anew, without the slack of many flushes. */
#ifndef SC_SELECT_REGAIN_H
#define SC_SELECT_REGAIN_H

#include "select/resident.h"
#include "select/rows.h"

/* design_flush in a pass over the rows: gains, slack and norms [n], w [b][dim] on the device. */
sc_status flush_rows(device_rows *x, double *gains, double *slack, const double *norms, const float *w,
                     int64_t b, double w_norm);

typedef struct regain_task {
    device_rows *x;            /* [n][dim] */
    const resident *norms, *a; /* [n] |x|, [dim][dim] S^-1 */
    double a_error;            /* x' A x is known within a_error |x|^2 */
} regain_task;

/* gains [n] and slack [n] of the host, -infinity left alone: x' A x in one product in float where that says more than
 * what stands there. *helped: the slack of all has become half of what it was, or less. */
sc_status regain(const regain_task *t, double *gains, double *slack, bool *helped);

#endif
