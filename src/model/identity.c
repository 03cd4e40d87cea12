/* What weights a model has: the SHA-256 of their files. Hashing half a gigabyte takes as long as converting it, so a thread of
 * its own does it meanwhile; it also brings the files into memory in the order that disks like. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"

struct identity {
    pthread_t thread;
    const safetensors *files;
    char sha256[65];
    sc_status status;
};

/* One file: its SHA-256. Several: the SHA-256 of their digests in the order of their names. */
static void *find(void *context)
{
    identity *i = context;
    strbuf digests = {0};
    for (size_t f = 0; f < safetensors_n_files(i->files); f++) {
        const file_map *map = safetensors_file_map(i->files, f);
        sha256_hex(map->data, map->size, i->sha256);
        strbuf_puts(&digests, i->sha256);
    }
    i->status = strbuf_status(&digests);
    if (i->status == SC_OK && safetensors_n_files(i->files) > 1)
        sha256_hex(digests.data, digests.len, i->sha256);
    strbuf_free(&digests);
    return NULL;
}

sc_status identity_begin(const safetensors *files, identity **out)
{
    sc_status status = SC_OK;
    identity *i = NULL;
    *out = NULL;
    SC_TRY(sc_alloc(&i, 1, sizeof *i));
    i->files = files;
    const int failed = pthread_create(&i->thread, NULL, find, i);
    if (failed)
        SC_TRY(sc_fail(SC_MEMORY, "no thread can be started: %s", strerror(failed)));
    *out = i;
    i = NULL;
cleanup:
    free(i);
    return status;
}

sc_status identity_end(identity **which, char sha256[65])
{
    identity *i = *which;
    *which = NULL;
    if (i == NULL)
        return SC_OK;
    pthread_join(i->thread, NULL);
    const sc_status status = i->status;
    if (sha256 != NULL)
        memcpy(sha256, i->sha256, sizeof i->sha256);
    free(i);
    /* The sentence of a failure belongs to the thread it happened in. */
    return status == SC_OK ? SC_OK
                           : sc_fail(status, "memory does not suffice for the digests of the weights");
}
