/* Rows on a device: all of them, or as many at a time as it has room for. */
#include "select/rows.h"

#include <string.h>

enum {
    SPARE = 16, /* a part of what is free is left alone: drivers need some, too */
    WHOLE_TILES = 128,
    HOST_BLOCK = 16 << 20 /* bytes: what the CPU's operations do once a call is little beside it */
};

int64_t rows_host_block(int64_t n, int64_t dim)
{
    const int64_t rows = HOST_BLOCK / (dim * (int64_t)sizeof(float));
    return rows < 1 ? 1 : rows < n ? rows : n;
}

sc_status rows_plan_make(const ops *table, int64_t n, int64_t dim, size_t other, rows_plan *out)
{
    const size_t row = (size_t)dim * sizeof(float), bytes = (size_t)n * row;
    *out = (rows_plan){.rows = n};
    if (table == cpu_ops())
        return SC_OK;
    size_t left, all;
    const sc_status status = table->memory_left(&left, &all);
    if (status != SC_OK)
        return status;
    const size_t usable = left - left / SPARE, room = usable > other ? usable - other : 0;
    out->left = left;
    if (n == 0)
        return SC_OK;
    int64_t rows = conveyor_rows(row, n);
    out->pinned_bytes = 2 * (size_t)rows * row;
    out->device_bytes = bytes;
    if (bytes <= room)
        return SC_OK;
    if (2 * (size_t)rows * row > room)
        rows = (int64_t)(room / 2 / row);
    rows = rows > 8 * WHOLE_TILES ? rows / WHOLE_TILES * WHOLE_TILES : rows > 0 ? rows : 1;
    out->rows = rows;
    out->pinned_bytes = out->device_bytes = 2 * (size_t)rows * row;
    return SC_OK;
}

/* A piece at a time, so that all threads fetch their part of a mapped file. */
static void copy_rows(const void *context, int64_t first, int64_t n, void *to)
{
    enum { PIECE = 1 << 18 };
    const device_rows *r = context;
    const char *from = (const char *)(r->x + first * r->dim);
    const int64_t bytes = n * r->dim * (int64_t)sizeof(float);
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < bytes; at += PIECE)
        memcpy((char *)to + at, from + at, (size_t)(bytes - at < PIECE ? bytes - at : PIECE));
}

static sc_status make_room(device_rows *r, size_t other)
{
    sc_status status = SC_OK;
    const size_t row = (size_t)r->dim * sizeof(float);
    conveyor loader = {0};
    rows_plan plan;
    if (r->ops == cpu_ops())
        return conveyor_open(r->ops, row, rows_host_block(r->n, r->dim), true, &r->belt);
    SC_TRY(rows_plan_make(r->ops, r->n, r->dim, other, &plan));
    if (plan.rows < r->n) {
        SC_TRY(conveyor_open(r->ops, row, plan.rows, true, &r->belt));
        goto cleanup;
    }
    SC_TRY(r->ops->alloc((void **)&r->all, (size_t)r->n * row));
    SC_TRY(conveyor_open(r->ops, row, conveyor_rows(row, r->n), false, &loader));
    SC_TRY(conveyor_load(&loader, &r->source, r->all));
cleanup:
    conveyor_close(&loader);
    return status;
}

sc_status rows_open(const ops *table, const float *x, int64_t n, int64_t dim, size_t other, device_rows *out)
{
    *out = (device_rows){.ops = table, .x = x, .source = {copy_rows, out, n}, .n = n, .dim = dim};
    if (table != cpu_ops())
        return make_room(out, other);
    out->all = (float *)(uintptr_t)x; /* which no operation writes to */
    return SC_OK;
}

sc_status rows_open_from(const ops *table, conveyor_source source, int64_t dim, size_t other,
                         device_rows *out)
{
    *out = (device_rows){.ops = table, .source = source, .n = source.n, .dim = dim};
    return make_room(out, other);
}

sc_status rows_open_centred(const ops *table, const centred *c, size_t other, device_rows *out)
{
    const sc_status status =
        c->x ? rows_open(table, c->x, c->n, c->dim, other, out)
             : rows_open_from(table, (conveyor_source){centred_fill, c, c->n}, c->dim, other, out);
    out->largest = c->largest;
    return status;
}

typedef struct passing {
    rows_visit *visit;
    void *context;
} passing;

static sc_status visit_block(void *context, void *block, int64_t first, int64_t n)
{
    const passing *p = context;
    return p->visit(p->context, block, first, n);
}

sc_status rows_pass(device_rows *r, rows_visit *visit, void *context)
{
    passing p = {visit, context};
    if (r->count)
        ++*r->count;
    return r->all ? visit(context, r->all, 0, r->n) : conveyor_run(&r->belt, &r->source, visit_block, &p);
}

void rows_read(const device_rows *r, int64_t i, float *out)
{
    if (r->x)
        memcpy(out, r->x + i * r->dim, (size_t)r->dim * sizeof *out);
    else
        r->source.fill(r->source.context, i, 1, out);
}

void rows_close(device_rows *r)
{
    conveyor_close(&r->belt);
    if (r->all && r->all != r->x)
        r->ops->release(r->all);
    *r = (device_rows){0};
}
