/* regain: with A = L L', x' A x is the sum of the squares of x L, which is what design_flush takes from a gain for the
 * columns of L. So one flush of dim picks, taken from nothing, gives every gain, with a bound of its own rounding. */
#include "select/regain.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

/* w [dim][dim] float: the columns of L as rows; *norm their length, all together. */
static void transpose(const double *l, int64_t dim, float *w, double *norm)
{
    double squares = 0;
    for (int64_t i = 0; i < dim; i++)
        for (int64_t j = 0; j <= i; j++) {
            w[j * dim + i] = (float)l[i * dim + j];
            squares += l[i * dim + j] * l[i * dim + j];
        }
    *norm = sqrt(squares);
}

/* What is taken from nothing is the gain, less than nothing. */
static void merge(const regain_task *t, const double *taken, const double *may, double squares, double *gains,
                  double *slack)
{
    const double *norms = t->norms->host;
    for (int64_t i = 0; i < t->n; i++) {
        /* and what the factor itself is off by (Higham 2002, 10.1) */
        const double loose =
            may[i] + (t->a_error + 4 * (double)t->dim * DBL_EPSILON * squares) * norms[i] * norms[i];
        if (gains[i] == -INFINITY || !(taken[i] < 0) || !(-taken[i] + loose < gains[i] + slack[i]))
            continue;
        gains[i] = -taken[i];
        slack[i] = loose;
    }
}

static double total_slack(const regain_task *t, const double *gains, const double *slack)
{
    double total = 0;
    for (int64_t i = 0; i < t->n; i++)
        total += gains[i] != -INFINITY ? slack[i] : 0;
    return total;
}

sc_status regain(const regain_task *t, double *gains, double *slack, bool *helped)
{
    sc_status status = SC_OK;
    const size_t n = (size_t)t->n, square = (size_t)t->dim * (size_t)t->dim;
    double *l = NULL, *taken = NULL, *may = NULL, norm;
    float *w = NULL;
    const double before = total_slack(t, gains, slack);
    bool definite = false;
    resident d_l = {0}, d_w = {0}, d_taken = {0}, d_may = {0};
    *helped = false;
    SC_TRY(sc_alloc(&l, square, sizeof *l));
    SC_TRY(sc_alloc(&w, square, sizeof *w));
    SC_TRY(sc_alloc(&taken, n, sizeof *taken));
    SC_TRY(sc_alloc(&may, n, sizeof *may));
    SC_TRY(resident_open(t->ops, l, square * sizeof *l, &d_l));
    SC_TRY(t->ops->cholesky(NULL, d_l.device, t->a->device, t->dim, &definite));
    if (!definite) /* rounding has taken A's last eigenvalues; the bounds stay as they are */
        goto cleanup;
    SC_TRY(resident_pull(&d_l));
    transpose(l, t->dim, w, &norm);
    SC_TRY(resident_open(t->ops, w, square * sizeof *w, &d_w));
    SC_TRY(resident_open(t->ops, taken, n * sizeof *taken, &d_taken));
    SC_TRY(resident_open(t->ops, may, n * sizeof *may, &d_may));
    SC_TRY(t->ops->design_flush(NULL, d_taken.device, d_may.device, t->norms->device, t->x->device,
                                d_w.device, t->n, t->dim, t->dim, norm));
    SC_TRY(resident_pull(&d_taken));
    SC_TRY(resident_pull(&d_may));
    merge(t, taken, may, norm * norm, gains, slack);
    *helped = total_slack(t, gains, slack) <= 0.5 * before;
cleanup:
    resident_close(&d_l);
    resident_close(&d_w);
    resident_close(&d_taken);
    resident_close(&d_may);
    free(l);
    free(w);
    free(taken);
    free(may);
    return status;
}
