/* Every row's softmax over the distances to centres: kept, or made when they are asked for.
 *
 * k doubles a row are as much as the row where k is half its width, so they are kept only where they fill less than an
 * eighth of the memory that is free. Both ways give the same bytes. */
#ifndef SC_SELECT_DISTRIBUTIONS_H
#define SC_SELECT_DISTRIBUTIONS_H

#include "select/resident.h"
#include "select/rows.h"

typedef struct distributions {
    const ops *ops;
    double *p; /* [n][k] on the host, or NULL: not kept */
    int64_t k;
    double temperature; /* of the rows as they are moved */
    /* to make some of them */
    const centred *rows;
    float *x;     /* [DISTRIBUTIONS_MOST][dim] on the host */
    double *made; /* [DISTRIBUTIONS_MOST][k + 1] on the host, p and entropies */
    resident centres, d_x, d_made, d_work;
} distributions;

enum { DISTRIBUTIONS_MOST = 1024 };

/* *entropy [n] in nats, the caller's to free; `rows`, `x` (opened on them) and centres [k][dim] are moved alike. `rows` has
 * to live as long as `out`. */
sc_status distributions_make(const centred *rows, device_rows *x, const float *centres, int64_t k,
                             double temperature, distributions *out, double **entropy);
/* p [n][k] of the rows named, n at most DISTRIBUTIONS_MOST. */
sc_status distributions_read(distributions *d, const int32_t *rows, int64_t n, double *p);
void distributions_close(distributions *d); /* {0} is fine */

/* Would they be kept? */
bool distributions_kept(int64_t n, int64_t k);
/* How many rows are worked on at a time. */
int64_t distributions_part(const ops *table, int64_t n, int64_t k, bool kept);

#endif
