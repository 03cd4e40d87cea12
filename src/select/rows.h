/* Passes over the rows of a matrix on a device. Rows that the device has room for are uploaded once; others stream through
 * it in every pass. The CPU's table works on the rows where they lie, a mapped file as a rule. */
#ifndef SC_SELECT_ROWS_H
#define SC_SELECT_ROWS_H

#include "select/conveyor.h"
#include "select/features.h"

/* How many rows are on the device at a time, and what that takes of it. */
typedef struct rows_plan {
    int64_t rows;        /* of a visit; n: all of them, all the time */
    size_t device_bytes; /* of the rows; 0 on the CPU */
    size_t pinned_bytes; /* of the host: while they are loaded, or all the time if they are streamed */
    size_t left;         /* free on the device; 0 on the CPU */
} rows_plan;

/* `other`: bytes that will be wanted on the device beside the rows, from now on. SC_DEVICE: the card does not answer. */
sc_status rows_plan_make(const ops *table, int64_t n, int64_t dim, size_t other, rows_plan *out);

/* How many rows the CPU makes at a time, where they lie nowhere. */
int64_t rows_host_block(int64_t n, int64_t dim);

/* Stays where it was opened. */
typedef struct device_rows {
    const ops *ops;
    const float *x; /* [n][dim] on the host; NULL: only `source` knows them */
    conveyor_source source;
    int64_t n, dim;
    double largest; /* the size of a value, at most, where it is known: of centred rows */
    float *all;     /* [n][dim] on the device; NULL: they are streamed */
    conveyor belt;
    double *count; /* where passes are counted, or NULL */
} device_rows;

/* x [n][dim] stays the caller's. {0} may be closed. */
sc_status rows_open(const ops *table, const float *x, int64_t n, int64_t dim, size_t other, device_rows *out);
/* The same for rows that do not lie anywhere: `source` writes them, dim floats each. On the CPU a block at a time. */
sc_status rows_open_from(const ops *table, conveyor_source source, int64_t dim, size_t other,
                         device_rows *out);
/* The same for rows about their mean, in their copy or without one; `c` stays the caller's. */
sc_status rows_open_centred(const ops *table, const centred *c, size_t other, device_rows *out);

/* Rows first .. first + n - 1 at x on the device. Per-row results go to where `first` says; sums over rows go on from what
 * the visits before have left: visits come in ascending order. */
typedef sc_status rows_visit(void *context, const float *x, int64_t first, int64_t n);
sc_status rows_pass(device_rows *r, rows_visit *visit, void *context);
/* Are they visited in blocks, which every pass makes or uploads anew? */
static inline bool rows_streamed(const device_rows *r)
{
    return !r->all;
}
/* Row i as it passes. */
void rows_read(const device_rows *r, int64_t i, float *out);
void rows_close(device_rows *r);

#endif
