/* An array of the host and its place on a device. The CPU's table works on the array itself. */
#ifndef SC_SELECT_RESIDENT_H
#define SC_SELECT_RESIDENT_H

#include "device/device.h"

typedef struct resident {
    const ops *ops;
    void *host, *device;
    size_t bytes;
    bool owned; /* the host's array, too */
} resident;

/* Uploads `host`, which stays the caller's. {0} may be closed. */
sc_status resident_open(const ops *table, void *host, size_t bytes, resident *out);
/* An array of the host that it makes itself, cleared: pinned where the table has memory of its own. Such an array is pushed
 * while the host goes on, which leaves it alone until it has waited for the device (a pull waits). */
sc_status resident_make(const ops *table, size_t count, size_t size, resident *out);
/* A scratch area on the device; 0 bytes give NULL. */
sc_status resident_scratch(const ops *table, size_t bytes, resident *out);
sc_status resident_push(resident *r); /* host to device */
sc_status resident_push_part(resident *r, size_t offset, size_t bytes);
sc_status resident_pull(resident *r); /* device to host, and waits for it */
void resident_close(resident *r);

#endif
