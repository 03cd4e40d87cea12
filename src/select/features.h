/* The rows that a strategy looks at: embeddings.npy, checked, and as they are about their mean. */
#ifndef SC_SELECT_FEATURES_H
#define SC_SELECT_FEATURES_H

#include "device/device.h"
#include "formats/npy.h"

typedef struct features {
    const float *x; /* [n][dim], mapped */
    int64_t n, dim;
    npy_file file;
} features;

/* SC_BAD_INPUT: no rows, too many, or one with a NaN or infinity, named. */
sc_status features_check(const char *what, const float *x, int64_t n, int64_t dim);
/* The same for rows of either type: bf16 rows are exact data, widened as they are read. */
sc_status features_check_as(const char *what, const void *x, dtype type, int64_t n, int64_t dim);

/* Row i is line i of the data set's reviews.jsonl or items.jsonl: `of` is "reviews" or "items". n_rows -1: however many
 * there are. SC_BAD_INPUT: not float32 [n_rows][dim], or a NaN or infinity, named by its row. */
sc_status features_open(const char *path, int64_t n_rows, const char *of, features *out);
void features_close(features *f); /* {0} is fine */

/* Distances expanded as |x|^2 - 2 x.c + |c|^2 lose their digits where the mean is large beside the
 * spread, as it is for the hidden states of language models. So clustering works on (x - mean) * scale.
 * Small files are copied; rows that fill an eighth of the memory that is free, or more, are moved each time
 * they are read, and no copy is made. Both ways give the same bytes. */
typedef struct centred {
    const void *from; /* [n][dim] as they are, the caller's */
    dtype type;
    float *x;       /* [n][dim] moved, or NULL: no copy */
    double *mean;   /* [dim] */
    double scale;   /* 1, or a power of two that keeps squared distances inside of float */
    double largest; /* the size of a moved value, at most */
    int64_t n, dim;
} centred;
sc_status features_centre(const float *x, int64_t n, int64_t dim, centred *out);
sc_status features_centre_as(const void *x, dtype type, int64_t n, int64_t dim, centred *out);
/* Would they be copied? */
bool features_copied(int64_t n, int64_t dim);
/* Rows first .. first + n - 1, moved, to out [n][dim]; context is a centred. */
void centred_fill(const void *context, int64_t first, int64_t n, void *out);
void centred_free(centred *c);

/* out [n][2]: the rows on their first two principal components, for a map. Orthogonal iteration in
 * double (Golub and Van Loan, 8.2.4) on at most 20,000 evenly spaced rows; each component points
 * where its largest entry is positive. The same bytes for any number of threads. */
sc_status features_map(const centred *c, uint64_t seed, float *out);

#endif
