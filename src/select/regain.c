/* regain: with A = L L', x' A x is the sum of the squares of x L, which is what design_flush takes from a gain for the
 * columns of L. So one flush of dim picks, taken from nothing, gives every gain, with a bound of its own rounding. */
#include "select/regain.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

typedef struct flushing {
    const ops *ops;
    double *gains, *slack;
    const double *norms;
    const float *w;
    int64_t dim, b;
    double w_norm;
} flushing;

static sc_status flush_visit(void *context, const float *x, int64_t first, int64_t n)
{
    const flushing *f = context;
    return f->ops->design_flush(NULL, f->gains + first, f->slack + first, f->norms + first, x, f->w, n,
                                f->dim, f->b, f->w_norm);
}

sc_status flush_rows(device_rows *x, double *gains, double *slack, const double *norms, const float *w,
                     int64_t b, double w_norm)
{
    flushing f = {x->ops, gains, slack, norms, w, x->dim, b, w_norm};
    return rows_pass(x, flush_visit, &f);
}

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
    for (int64_t i = 0; i < t->x->n; i++) {
        /* and what the factor itself is off by (Higham 2002, 10.1) */
        const double loose =
            may[i] + (t->a_error + 4 * (double)t->x->dim * DBL_EPSILON * squares) * norms[i] * norms[i];
        if (gains[i] == -INFINITY || !(taken[i] < 0) || !(-taken[i] + loose < gains[i] + slack[i]))
            continue;
        gains[i] = -taken[i];
        slack[i] = loose;
    }
}

static double total_slack(const regain_task *t, const double *gains, const double *slack)
{
    double total = 0;
    for (int64_t i = 0; i < t->x->n; i++)
        total += gains[i] != -INFINITY ? slack[i] : 0;
    return total;
}

sc_status regain(const regain_task *t, double *gains, double *slack, bool *helped)
{
    sc_status status = SC_OK;
    const ops *table = t->x->ops;
    const int64_t dim = t->x->dim;
    const size_t n = (size_t)t->x->n, square = (size_t)dim * (size_t)dim;
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
    SC_TRY(resident_open(table, l, square * sizeof *l, &d_l));
    SC_TRY(table->cholesky(NULL, d_l.device, t->a->device, dim, &definite));
    if (!definite) /* rounding has taken A's last eigenvalues; the bounds stay as they are */
        goto cleanup;
    SC_TRY(resident_pull(&d_l));
    transpose(l, dim, w, &norm);
    SC_TRY(resident_open(table, w, square * sizeof *w, &d_w));
    SC_TRY(resident_open(table, taken, n * sizeof *taken, &d_taken));
    SC_TRY(resident_open(table, may, n * sizeof *may, &d_may));
    SC_TRY(flush_rows(t->x, d_taken.device, d_may.device, t->norms->device, d_w.device, dim, norm));
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
