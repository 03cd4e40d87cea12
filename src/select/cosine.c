/* Cosines of rows. */
#include "select/cosine.h"

#include <math.h>
#include <string.h>

void cosine_norms(const float *x, int64_t n, int64_t dim, double *norms)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t d = 0; d < dim; d++)
            sum += (double)x[i * dim + d] * (double)x[i * dim + d];
        norms[i] = sqrt(sum);
    }
}

void cosine_unit(const float *row, int64_t dim, double norm, float *unit)
{
    if (!(norm > 0)) {
        memset(unit, 0, (size_t)dim * sizeof *unit);
        return;
    }
    for (int64_t d = 0; d < dim; d++)
        unit[d] = (float)((double)row[d] / norm);
}

double cosine_exact(const float *a, double norm_a, const float *b, double norm_b, int64_t dim)
{
    double dot = 0;
    for (int64_t d = 0; d < dim; d++)
        dot += (double)a[d] * (double)b[d];
    return norm_a > 0 && norm_b > 0 ? dot / (norm_a * norm_b) : 0;
}

double cosine_error(int64_t dim)
{
    return ((double)dim + 4) * 6e-8;
}
