/* Rows on their way to a device: while one block is computed on, the next is written to pinned memory and uploaded on a
 * stream of its own. On a table that works on the host's memory a block is written where it is visited. */
#ifndef SC_SELECT_CONVEYOR_H
#define SC_SELECT_CONVEYOR_H

#include "device/device.h"

/* Where rows come from: `fill` writes rows first .. first + n - 1, n * row_bytes, with as many threads as it likes. */
typedef struct conveyor_source {
    void (*fill)(const void *context, int64_t first, int64_t n, void *to);
    const void *context;
    int64_t n;
} conveyor_source;

/* What is done with rows first .. first + n - 1, which lie at `block` on the device: put into the default stream. */
typedef sc_status conveyor_visit(void *context, void *block, int64_t first, int64_t n);

typedef struct conveyor_lane {
    void *pinned, *device;
    stream *stream;
} conveyor_lane;

typedef struct conveyor {
    const ops *ops;
    size_t row_bytes;
    int64_t rows; /* of a block */
    conveyor_lane lanes[2];
} conveyor;

/* How many rows make a block that is worth a copy of its own, of n. */
int64_t conveyor_rows(size_t row_bytes, int64_t n);
/* `in_blocks`: rows are visited in blocks; otherwise they are only loaded. {0} may be closed. */
sc_status conveyor_open(const ops *table, size_t row_bytes, int64_t rows, bool in_blocks, conveyor *out);
/* All rows to one place of the device, where they are when the conveyor is closed. */
sc_status conveyor_load(conveyor *c, const conveyor_source *from, void *to);
/* Visits all rows, block by block in ascending order. The last visits may still be under way when it returns. */
sc_status conveyor_run(conveyor *c, const conveyor_source *from, conveyor_visit *visit, void *context);
void conveyor_close(conveyor *c);

#endif
