/* The rows with the highest bounds, gain + slack, found on the device that keeps both: only they come to the host. Where
 * the table works on the host's memory, or lacks the operations, there is nothing of this. */
#ifndef SC_SELECT_TOP_ROWS_H
#define SC_SELECT_TOP_ROWS_H

#include "select/resident.h"

typedef struct top_rows {
    const ops *ops; /* NULL: not here */
    resident *gains,
        *slack; /* [n] the caller's: their hosts are right only in the rows that were found last */
    int64_t n, segment, most;
    double *peaks;
    int32_t *order, *rows;
    double *of; /* [2][most] gains and slack of `rows` */
    resident d_peaks, d_rows, d_of, d_work;
} top_rows;

/* `least`: how many rows will be wanted at a time. {0} may be closed. */
sc_status top_rows_open(const ops *table, resident *gains, resident *slack, int64_t least, top_rows *out);
static inline bool top_rows_here(const top_rows *t)
{
    return t->ops != NULL;
}
/* found [n]: *n_found open rows, ascending, among them every one whose bound is at least (1 - margin) times that of the
 * `least`-th best; the hosts of gains and slack are brought up to date there. Where there are too many of them, as there
 * are where all rows are equal, both are brought up to date everywhere, and all open rows are given. */
sc_status top_rows_find(top_rows *t, int64_t least, double margin, int32_t *found, int64_t *n_found);
/* Brings the device up to date in these rows. */
sc_status top_rows_put(top_rows *t, const int32_t *rows, int64_t m);
void top_rows_close(top_rows *t);
/* Bytes of it, on the host and on the device. */
int64_t top_rows_bytes(const ops *table, int64_t n, int64_t least);

#endif
