/* Cosines of rows: exact in double, and how far a product of unit rows in float may be from them. */
#ifndef SC_SELECT_COSINE_H
#define SC_SELECT_COSINE_H

#include <stdint.h>

/* norms [n] = |x_i| */
void cosine_norms(const float *x, int64_t n, int64_t dim, double *norms);
/* unit [dim] = row / norm, zeros where the norm is 0 */
void cosine_unit(const float *row, int64_t dim, double norm, float *unit);
/* 0 where a norm is 0 */
double cosine_exact(const float *a, double norm_a, const float *b, double norm_b, int64_t dim);
/* A product in float of two unit rows is within this of their cosine: parts of length 1 at most, each rounded once,
 * and a sum of dim of them (Higham 2002, 3.1). */
double cosine_error(int64_t dim);

#endif
