/* The order in which als_gram sums, on every table. */
#ifndef SC_DEVICE_ALS_H
#define SC_DEVICE_ALS_H

#include "device/ops.h"

enum { ALS_RUNS = 128 }; /* at most: their sums are held at once */

/* How many rows of n make a run; the last one may have fewer. */
static inline int64_t als_run(int64_t n)
{
    const int64_t share = (n + ALS_RUNS - 1) / ALS_RUNS;
    return share > ALS_RUN ? share : (int64_t)ALS_RUN;
}

static inline int64_t als_runs(int64_t n)
{
    return (n + als_run(n) - 1) / als_run(n);
}

#endif
