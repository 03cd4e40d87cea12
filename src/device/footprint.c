/* The arrays that are given out, with their sizes: a table is told of neither when it takes one back. There are few at a
 * time, so that they are looked for one by one, from the newest. */
#include "device/footprint.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/status.h"

typedef struct array {
    const void *data;
    size_t size;
} array;

static const ops *under;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static array *arrays;
static size_t n_arrays, room, now, most;

static sc_status remember(const void *data, size_t size)
{
    if (n_arrays == room) {
        const size_t more = room > 0 ? 2 * room : 64;
        array *grown = realloc(arrays, more * sizeof *grown);
        if (grown == NULL)
            return sc_fail(SC_MEMORY, "no memory for the list of the device's arrays");
        arrays = grown;
        room = more;
    }
    arrays[n_arrays++] = (array){data, size};
    now += size;
    most = now > most ? now : most;
    return SC_OK;
}

static sc_status footprint_alloc(void **out, size_t bytes)
{
    sc_status status = under->alloc(out, bytes);
    if (status != SC_OK)
        return status;
    pthread_mutex_lock(&lock);
    status = remember(*out, bytes);
    pthread_mutex_unlock(&lock);
    if (status != SC_OK) {
        under->release(*out);
        *out = NULL;
    }
    return status;
}

static void footprint_release(void *pointer)
{
    pthread_mutex_lock(&lock);
    for (size_t i = n_arrays; i-- > 0 && pointer != NULL;) {
        if (arrays[i].data == pointer) {
            now -= arrays[i].size;
            arrays[i] = arrays[--n_arrays];
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    under->release(pointer);
}

const ops *footprint_ops(const ops *of)
{
    static ops table;
    under = of;
    table = *of;
    table.alloc = footprint_alloc;
    table.release = footprint_release;
    free(arrays);
    arrays = NULL;
    n_arrays = room = now = most = 0;
    return &table;
}

size_t footprint_most(void)
{
    return most;
}
