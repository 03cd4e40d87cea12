/* Device buffers that grow, and the cache of keys and values. */
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"

sc_status byte_count(int64_t rows, int64_t cols, size_t size, size_t *out)
{
    size_t n = 0, bytes = 0;
    if (rows < 0 || cols < 0 || __builtin_mul_overflow((size_t)rows, (size_t)cols, &n) ||
        __builtin_mul_overflow(n, size, &bytes) || bytes > (SIZE_MAX >> 2))
        return sc_fail(SC_MEMORY, "A block of %lld x %lld numbers is larger than memory can be.",
                       (long long)rows, (long long)cols);
    *out = bytes;
    return SC_OK;
}

sc_status buffer_need(const model *m, buffer *b, size_t bytes)
{
    if (bytes <= b->size && b->data != NULL)
        return SC_OK;
    buffer_release(m, b);
    const size_t size = bytes > 0 ? bytes : 1;
    sc_status status = ops_of(m)->alloc(&b->data, size);
    if (status == SC_OK)
        b->size = size;
    else
        b->data = NULL;
    return status;
}

void buffer_release(const model *m, buffer *b)
{
    ops_of(m)->release(b->data);
    b->data = NULL;
    b->size = 0;
}

sc_status buffer_upload(const model *m, buffer *b, const void *host, size_t bytes)
{
    sc_status status = buffer_need(m, b, bytes);
    if (status == SC_OK && bytes > 0)
        status = ops_of(m)->upload(NULL, b->data, host, bytes);
    return status;
}

static int64_t kv_dim(const model *m)
{
    return (int64_t)m->config.n_kv_heads * m->config.head_dim;
}

int64_t kv_cache_row_bytes(const model *m)
{
    return 2 * kv_dim(m) * (int64_t)dtype_size(m->dtype) * m->config.n_layers;
}

sc_status kv_cache_create(const model *m, int64_t capacity, kv_cache *out)
{
    sc_status status = SC_OK;
    const int32_t n_layers = m->config.n_layers;
    size_t bytes = 0, all = 0;
    memset(out, 0, sizeof *out);
    if (capacity < 1 || capacity > INT32_MAX)
        return sc_fail(SC_MEMORY,
                       "A cache of %lld tokens is not possible; work on fewer or shorter rows at once.",
                       (long long)capacity);
    SC_TRY(byte_count(capacity, kv_dim(m), dtype_size(m->dtype), &bytes));
    bytes = (bytes + 63) / 64 * 64;
    SC_TRY(byte_count(2 * n_layers, 1, bytes, &all));
    SC_TRY(sc_alloc(&out->k, (size_t)n_layers, sizeof(void *)));
    SC_TRY(sc_alloc(&out->v, (size_t)n_layers, sizeof(void *)));
    SC_TRY(ops_of(m)->alloc(&out->arena, all));
    for (int32_t l = 0; l < n_layers; l++) {
        out->k[l] = (char *)out->arena + (size_t)(2 * l) * bytes;
        out->v[l] = (char *)out->k[l] + bytes;
    }
    SC_TRY(sc_alloc(&out->free_rows, (size_t)capacity, sizeof(int32_t)));
    for (int64_t i = 0; i < capacity; i++)
        out->free_rows[i] = (int32_t)(capacity - 1 - i);
    out->n_free = out->capacity = capacity;
cleanup:
    if (status != SC_OK)
        kv_cache_destroy(m, out);
    return status;
}

void kv_cache_destroy(const model *m, kv_cache *c)
{
    ops_of(m)->release(c->arena);
    free(c->k);
    free(c->v);
    free(c->free_rows);
    memset(c, 0, sizeof *c);
}

void kv_cache_take(kv_cache *c, int64_t n, int32_t *rows)
{
    for (int64_t i = 0; i < n; i++)
        rows[i] = c->free_rows[--c->n_free];
}

void kv_cache_give(kv_cache *c, int64_t n, const int32_t *rows)
{
    /* In reverse, so that the next owner gets them in ascending order again. */
    for (int64_t i = n - 1; i >= 0; i--)
        c->free_rows[c->n_free++] = rows[i];
}
