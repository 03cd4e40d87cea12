/* Rows that fisher takes without a pool: the pick that S^-1 has not the digits to decide, and those chosen before. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "select/fisher.h"

sc_status fisher_pick_carefully(design *d)
{
    sc_status status = SC_OK;
    const int64_t n = d->task->n, dim = d->task->dim;
    int64_t best = -1;
    if (!d->careful.r) {
        SC_TRY(rotations_open(&d->careful, dim, d->task->lambda));
        SC_TRY(sc_alloc(&d->fresh, (size_t)n, 1));
    }
    for (int64_t have = d->careful.n; have < d->task->n_given + d->t; have = d->careful.n) {
        const int64_t given = d->task->n_given;
        const int64_t row = have < given ? d->task->given[have] : d->out[have - given].row;
        rotations_add(&d->careful, d->task->x + row * dim);
    }
    memset(d->fresh, 0, (size_t)n);
    SC_TRY(resident_pull(&d->d_gains));
    SC_TRY(resident_pull(&d->d_slack));
    for (;;) {
        best = -1;
        for (int64_t i = 0; i < n; i++)
            if (d->gains[i] != -INFINITY && (best < 0 || fisher_bound(d, i) > fisher_bound(d, best)))
                best = i;
        d->gains[best] = rotations_gain(&d->careful, d->task->x + best * dim, d->w);
        d->slack[best] = 0;
        if (d->fresh[best])
            break;
        d->fresh[best] = 1;
    }
    const double gain = d->gains[best];
    rotations_solve(&d->careful, d->w);
    for (int64_t k = 0; k < dim; k++)
        d->w[k] /= sqrt(1 + gain);
    for (int64_t i = 0; i < n; i++)
        if (d->fresh[i])
            d->slack[i] = 64 * DBL_EPSILON * d->gains[i];
    memcpy(d->x_rows, d->task->x + best * dim, (size_t)dim * sizeof *d->x_rows);
    fisher_record(d, best, gain);
    d->n_closed = 0; /* all gains go to the device */
    SC_TRY(resident_push(&d->d_gains));
    SC_TRY(resident_push(&d->d_slack));
    SC_TRY(fisher_flush(d, 1));
cleanup:
    return status;
}

sc_status fisher_take_given(design *d)
{
    sc_status status = SC_OK;
    const int64_t dim = d->task->dim, n_given = d->task->n_given;
    for (int64_t at = 0; at < n_given; at += FISHER_BLOCK) {
        const int64_t n = n_given - at < FISHER_BLOCK ? n_given - at : FISHER_BLOCK;
        SC_TRY(check_cancelled());
        SC_TRY(resident_pull(&d->d_a));
        for (int64_t l = 0; l < n; l++) {
            const float *x = d->task->x + d->task->given[at + l] * dim;
            double *w = d->w + l * dim, gain = 0;
            memcpy(d->x_rows + l * dim, x, (size_t)dim * sizeof *x);
            for (int64_t i = 0; i < dim; i++) {
                w[i] = 0;
                for (int64_t j = 0; j < dim; j++)
                    w[i] += d->a[i * dim + j] * (double)x[j];
            }
            for (int64_t before = 0; before < l; before++) {
                const double *other = d->w + before * dim;
                double dot = 0;
                for (int64_t i = 0; i < dim; i++)
                    dot += other[i] * (double)x[i];
                for (int64_t i = 0; i < dim; i++)
                    w[i] -= dot * other[i];
            }
            for (int64_t i = 0; i < dim; i++)
                gain += w[i] * (double)x[i];
            for (int64_t i = 0; i < dim; i++)
                w[i] /= sqrt(1 + (gain > 0 ? gain : 0));
        }
        SC_TRY(fisher_flush(d, n));
    }
    bool built;
    d->n_built = -1;
    SC_TRY(fisher_build_inverse(d, &built));
cleanup:
    return status;
}
