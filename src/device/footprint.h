/* How much memory a table gives out: a table that forwards to another one and counts. One at a time in a process. */
#ifndef SC_DEVICE_FOOTPRINT_H
#define SC_DEVICE_FOOTPRINT_H

#include "device/ops.h"

const ops *footprint_ops(const ops *of);
/* The most bytes that were given out at a time, since footprint_ops. */
size_t footprint_most(void);

#endif
