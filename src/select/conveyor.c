/* Rows on their way to a device, over two lanes: a pinned buffer, a buffer of the device and a stream each. */
#include "select/conveyor.h"

#include <stdlib.h>

#include "base/log.h"

enum { BLOCK_BYTES = 64 << 20, WHOLE_TILES = 128 };

int64_t conveyor_rows(size_t row_bytes, int64_t n)
{
    int64_t rows = (int64_t)(BLOCK_BYTES / row_bytes);
    rows = rows > WHOLE_TILES ? rows / WHOLE_TILES * WHOLE_TILES : rows;
    rows = rows > 1 ? rows : 1;
    return rows < n ? rows : n;
}

sc_status conveyor_open(const ops *table, size_t row_bytes, int64_t rows, bool in_blocks, conveyor *out)
{
    sc_status status = SC_OK;
    *out = (conveyor){.ops = table, .row_bytes = row_bytes, .rows = rows};
    const size_t bytes = (size_t)rows * row_bytes;
    if (!table->stream_open)
        return table->alloc(&out->lanes[0].device, bytes);
    for (int l = 0; l < 2; l++) {
        conveyor_lane *lane = &out->lanes[l];
        SC_TRY(table->alloc_pinned(&lane->pinned, bytes));
        SC_TRY(table->stream_open(&lane->stream));
        if (in_blocks)
            SC_TRY(table->alloc(&lane->device, bytes));
    }
cleanup:
    return status;
}

/* The lane's pinned buffer is free once its last upload is done. Its buffer on the device is, once the visit of its last
 * block is done, which the default stream knows of by now. */
static sc_status send(const conveyor *c, const conveyor_lane *lane, const conveyor_source *from,
                      int64_t first, int64_t n, void *to)
{
    sc_status status = SC_OK;
    SC_TRY(c->ops->synchronise(lane->stream));
    from->fill(from->context, first, n, lane->pinned);
    if (to == lane->device)
        SC_TRY(c->ops->stream_wait(lane->stream, NULL));
    SC_TRY(c->ops->upload(lane->stream, to, lane->pinned, (size_t)n * c->row_bytes));
cleanup:
    return status;
}

sc_status conveyor_load(conveyor *c, const conveyor_source *from, void *to)
{
    sc_status status = SC_OK;
    int turn = 0;
    for (int64_t first = 0; first < from->n; first += c->rows, turn ^= 1) {
        const int64_t left = from->n - first, n = left < c->rows ? left : c->rows;
        SC_TRY(check_cancelled());
        SC_TRY(send(c, &c->lanes[turn], from, first, n, (char *)to + (size_t)first * c->row_bytes));
    }
cleanup:
    return status;
}

static sc_status run_on_host(const conveyor *c, const conveyor_source *from, conveyor_visit *visit,
                             void *context)
{
    sc_status status = SC_OK;
    for (int64_t first = 0; first < from->n; first += c->rows) {
        const int64_t left = from->n - first, n = left < c->rows ? left : c->rows;
        SC_TRY(check_cancelled());
        from->fill(from->context, first, n, c->lanes[0].device);
        SC_TRY(visit(context, c->lanes[0].device, first, n));
    }
cleanup:
    return status;
}

sc_status conveyor_run(conveyor *c, const conveyor_source *from, conveyor_visit *visit, void *context)
{
    sc_status status = SC_OK;
    int turn = 0;
    if (!c->ops->stream_open)
        return run_on_host(c, from, visit, context);
    if (from->n > 0)
        SC_TRY(send(c, &c->lanes[0], from, 0, from->n < c->rows ? from->n : c->rows, c->lanes[0].device));
    for (int64_t first = 0; first < from->n; first += c->rows, turn ^= 1) {
        const conveyor_lane *here = &c->lanes[turn], *other = &c->lanes[turn ^ 1];
        const int64_t left = from->n - first, n = left < c->rows ? left : c->rows, after = left - n;
        SC_TRY(check_cancelled());
        /* before the visit is put into the default stream, so that the other lane does not wait for it */
        if (after > 0)
            SC_TRY(send(c, other, from, first + n, after < c->rows ? after : c->rows, other->device));
        SC_TRY(c->ops->stream_wait(NULL, here->stream));
        SC_TRY(visit(context, here->device, first, n));
    }
cleanup:
    return status;
}

void conveyor_close(conveyor *c)
{
    for (int l = 0; l < 2 && c->ops; l++) {
        conveyor_lane *lane = &c->lanes[l];
        if (lane->stream) {
            (void)c->ops->synchronise(lane->stream);
            c->ops->stream_close(lane->stream);
        }
        if (lane->pinned)
            c->ops->release_pinned(lane->pinned);
        c->ops->release(lane->device);
    }
    *c = (conveyor){0};
}
