/* The rows that are most like each row. */
#ifndef SC_SELECT_NEIGHBOURS_H
#define SC_SELECT_NEIGHBOURS_H

#include "device/device.h"

/* For every row of x [n][dim] the k rows with the highest cosines, its own being 1: rows [n][k] in descending order, equal ones by ascending row, and their cosines [n][k]. Exact: a product in float finds those that rounding
 * cannot rule out, which are compared in double. O(n^2 dim) in one product by blocks; 1 <= k <= n. */
sc_status neighbours_find(device *dev, const float *x, int64_t n, int64_t dim, int64_t k, int32_t *rows,
                          float *cosines);
/* What it takes for itself. */
int64_t neighbours_bytes(const ops *table, int64_t n, int64_t dim, int64_t k);
/* And on a device, beside the rows. */
int64_t neighbours_device_bytes(int64_t n, int64_t dim);

#endif
