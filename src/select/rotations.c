/* A Cholesky factor that takes on rows by plane rotations. */
#include "select/rotations.h"

#include <math.h>
#include <stdlib.h>

sc_status rotations_open(rotations *f, int64_t dim, double lambda)
{
    sc_status status = SC_OK;
    *f = (rotations){.dim = dim};
    SC_TRY(sc_alloc(&f->r, (size_t)dim * (size_t)dim, sizeof *f->r));
    SC_TRY(sc_alloc(&f->work, (size_t)dim, sizeof *f->work));
    for (int64_t k = 0; k < dim; k++)
        f->r[k * dim + k] = sqrt(lambda);
cleanup:
    if (status != SC_OK)
        rotations_close(f);
    return status;
}

void rotations_close(rotations *f)
{
    free(f->r);
    free(f->work);
    *f = (rotations){0};
}

double rotations_gain(const rotations *f, const float *x, double *v)
{
    const int64_t dim = f->dim;
    double gain = 0;
    for (int64_t k = 0; k < dim; k++)
        v[k] = (double)x[k];
    for (int64_t k = 0; k < dim; k++) {
        const double *row = f->r + k * dim;
        const double value = v[k] / row[k];
        v[k] = value;
        gain += value * value;
        if (value != 0)
            for (int64_t j = k + 1; j < dim; j++)
                v[j] -= value * row[j];
    }
    return gain;
}

void rotations_solve(const rotations *f, double *v)
{
    const int64_t dim = f->dim;
    for (int64_t k = dim - 1; k >= 0; k--) {
        const double *row = f->r + k * dim;
        double sum = v[k];
        for (int64_t j = k + 1; j < dim; j++)
            sum -= row[j] * v[j];
        v[k] = sum / row[k];
    }
}

void rotations_add(rotations *f, const float *row_x)
{
    const int64_t dim = f->dim;
    double *x = f->work;
    for (int64_t k = 0; k < dim; k++)
        x[k] = (double)row_x[k];
    for (int64_t k = 0; k < dim; k++) {
        if (x[k] == 0)
            continue;
        double *row = f->r + k * dim;
        const double norm = hypot(row[k], x[k]), c = row[k] / norm, s = x[k] / norm;
        row[k] = norm;
        for (int64_t j = k + 1; j < dim; j++) {
            const double a = row[j], b = x[j];
            row[j] = c * a + s * b;
            x[j] = c * b - s * a;
        }
    }
    f->n++;
}
