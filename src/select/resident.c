/* An array of the host and its place on a device. */
#include "select/resident.h"

#include <stdlib.h>
#include <string.h>

sc_status resident_open(const ops *table, void *host, size_t bytes, resident *out)
{
    *out = (resident){.ops = table, .host = host, .bytes = bytes};
    if (table == cpu_ops()) {
        out->device = host;
        return SC_OK;
    }
    sc_status status = table->alloc(&out->device, bytes);
    return status == SC_OK ? resident_push(out) : status;
}

sc_status resident_make(const ops *table, size_t count, size_t size, resident *out)
{
    sc_status status = SC_OK;
    *out = (resident){.ops = table, .bytes = count * size};
    if (table->alloc_pinned) {
        SC_TRY(table->alloc_pinned(&out->host, out->bytes));
        out->owned = true;
        memset(out->host, 0, out->bytes);
        SC_TRY(table->alloc(&out->device, out->bytes));
    } else {
        SC_TRY(sc_alloc(&out->host, count, size));
        out->owned = true;
        out->device = out->host;
    }
cleanup:
    return status;
}

sc_status resident_scratch(const ops *table, size_t bytes, resident *out)
{
    *out = (resident){.ops = table, .bytes = bytes};
    return bytes > 0 ? table->alloc(&out->device, bytes) : SC_OK;
}

sc_status resident_push(resident *r)
{
    return resident_push_part(r, 0, r->bytes);
}

sc_status resident_push_part(resident *r, size_t offset, size_t bytes)
{
    if (r->device == r->host)
        return SC_OK;
    return r->ops->upload(NULL, (char *)r->device + offset, (const char *)r->host + offset, bytes);
}

sc_status resident_pull(resident *r)
{
    if (r->device == r->host)
        return SC_OK;
    sc_status status = r->ops->download(NULL, r->host, r->device, r->bytes);
    return status == SC_OK ? r->ops->synchronise(NULL) : status;
}

void resident_close(resident *r)
{
    if (r->device && r->device != r->host)
        r->ops->release(r->device); /* which waits for copies that are under way */
    if (r->owned && r->ops->release_pinned)
        r->ops->release_pinned(r->host);
    else if (r->owned)
        free(r->host);
    *r = (resident){0};
}
