/* The GGUF container (ggml docs/gguf.md): header, metadata, tensor infos, aligned data. Everything
 * is checked against the bytes that are left before it is used. */

#include <stdlib.h>
#include <string.h>

#include "formats/gguf_blocks.h"
#include "formats/gguf_parts.h"

/* ---- reading bytes ---- */

typedef struct cursor {
    gguf *g;
    size_t at;
} cursor;

static size_t left(const cursor *c)
{
    return c->g->map.size - c->at;
}

static sc_status cut_short(const cursor *c)
{
    return sc_fail(SC_BAD_INPUT, "%s: the file is cut short or damaged at byte %zu of %zu", c->g->path, c->at,
                   c->g->map.size);
}

static sc_status take(cursor *c, void *out, size_t n)
{
    if (left(c) < n)
        return cut_short(c);
    memcpy(out, c->g->map.data + c->at, n);
    c->at += n;
    return SC_OK;
}

/* Memory that gguf_close frees. */
static sc_status keep(gguf *g, void *out_pointer, size_t count, size_t size)
{
    sc_status status = sc_grow(&g->kept, &g->cap_kept, g->n_kept + 1, sizeof *g->kept);
    void *block = NULL;
    if (status == SC_OK)
        status = sc_alloc(&block, count, size);
    if (status == SC_OK) {
        g->kept[g->n_kept++] = block;
        memcpy(out_pointer, &block, sizeof block);
    }
    return status;
}

/* u64 length, bytes. Gives the place of the bytes. */
static sc_status skip_string(cursor *c, const char **bytes, size_t *n)
{
    uint64_t length;
    sc_status status = take(c, &length, sizeof length);
    if (status != SC_OK)
        return status;
    if (length > left(c))
        return cut_short(c);
    *bytes = (const char *)c->g->map.data + c->at;
    *n = (size_t)length;
    if (memchr(*bytes, 0, *n))
        return sc_fail(SC_BAD_INPUT, "%s: a string before byte %zu holds a zero byte", c->g->path,
                       c->at + *n);
    c->at += *n;
    return SC_OK;
}

static sc_status take_string(cursor *c, const char **out)
{
    const char *bytes;
    size_t n;
    char *copy;
    sc_status status;
    SC_TRY(skip_string(c, &bytes, &n));
    SC_TRY(keep(c->g, &copy, n + 1, 1));
    memcpy(copy, bytes, n);
    *out = copy;
cleanup:
    return status;
}

/* ---- metadata ---- */

static sc_status take_scalar(cursor *c, gguf_value *v)
{
    uint8_t bytes[8] = {0};
    size_t size = gguf_kind_size((uint32_t)v->kind);
    sc_status status = take(c, bytes, size);
    if (status != SC_OK)
        return status;
    if (v->kind == GGUF_F32) {
        float narrow;
        memcpy(&narrow, bytes, 4);
        v->as.f = narrow;
    } else if (v->kind == GGUF_F64) {
        memcpy(&v->as.f, bytes, 8);
    } else if (gguf_kind_signed(v->kind)) {
        v->as.i = gguf_signed_at(bytes, size);
    } else {
        memcpy(&v->as.u, bytes, 8);
        if (v->kind == GGUF_BOOL && v->as.u > 1)
            return sc_fail(SC_BAD_INPUT, "%s: the value of %s is neither true nor false", c->g->path, v->key);
    }
    return SC_OK;
}

/* n strings as one block of pointers and one of bytes. */
static sc_status take_strings(cursor *c, gguf_value *v)
{
    sc_status status;
    size_t total = 0, n, start = c->at;
    const char *bytes;
    const char **pointers;
    char *storage;
    for (size_t i = 0; i < v->n; i++) {
        SC_TRY(skip_string(c, &bytes, &n));
        total += n + 1;
    }
    SC_TRY(keep(c->g, &pointers, v->n + 1, sizeof *pointers));
    SC_TRY(keep(c->g, &storage, total + 1, 1));
    c->at = start;
    for (size_t i = 0; i < v->n; i++) {
        SC_TRY(skip_string(c, &bytes, &n));
        memcpy(storage, bytes, n);
        pointers[i] = storage;
        storage += n + 1;
    }
    v->strings = pointers;
cleanup:
    return status;
}

static sc_status take_array(cursor *c, gguf_value *v)
{
    sc_status status;
    uint32_t element;
    uint64_t n;
    SC_TRY(take(c, &element, sizeof element));
    SC_TRY(take(c, &n, sizeof n));
    size_t size = element == GGUF_STRING ? 8 : gguf_kind_size(element);
    if (size == 0) {
        status = sc_fail(SC_BAD_INPUT, "%s: %s is an array of kind %u, which is not read", c->g->path, v->key,
                         element);
        goto cleanup;
    }
    if (n > left(c) / size) {
        status = sc_fail(SC_BAD_INPUT, "%s: %s claims %llu values, more than the file can hold", c->g->path,
                         v->key, (unsigned long long)n);
        goto cleanup;
    }
    v->element = (gguf_kind)element;
    v->n = (size_t)n;
    if (element == GGUF_STRING) {
        SC_TRY(take_strings(c, v));
    } else {
        v->packed = c->g->map.data + c->at;
        c->at += v->n * size;
    }
cleanup:
    return status;
}

static sc_status take_value(cursor *c)
{
    gguf *g = c->g;
    gguf_value v = {0};
    uint32_t kind;
    sc_status status;
    SC_TRY(take_string(c, &v.key));
    SC_TRY(take(c, &kind, sizeof kind));
    v.kind = (gguf_kind)kind;
    if (kind == GGUF_STRING) {
        SC_TRY(take_string(c, &v.as.string));
    } else if (kind == GGUF_ARRAY) {
        SC_TRY(take_array(c, &v));
    } else if (gguf_kind_size(kind) > 0) {
        SC_TRY(take_scalar(c, &v));
    } else {
        status = sc_fail(SC_BAD_INPUT, "%s: %s has the unknown kind %u", g->path, v.key, kind);
        goto cleanup;
    }
    SC_TRY(sc_grow(&g->values, &g->cap_values, g->n_values + 1, sizeof *g->values));
    g->values[g->n_values++] = v;
cleanup:
    return status;
}

/* ---- tensors ---- */

/* Reads one tensor's info; its offset from the start of the data goes to *offset. */
static sc_status take_tensor(cursor *c, gguf_tensor *t, uint64_t *offset)
{
    sc_status status;
    uint32_t n_dims;
    memset(t, 0, sizeof *t);
    SC_TRY(take_string(c, &t->name));
    SC_TRY(take(c, &n_dims, sizeof n_dims));
    if (n_dims < 1 || n_dims > GGUF_MAX_DIMS) {
        status = sc_fail(SC_BAD_INPUT, "%s: tensor %s has %u axes; 1 to %d are possible", c->g->path, t->name,
                         n_dims, GGUF_MAX_DIMS);
        goto cleanup;
    }
    t->n_dims = (int)n_dims;
    t->n_rows = 1;
    for (int i = 0; i < GGUF_MAX_DIMS; i++) {
        t->shape[i] = 1;
        if (i < t->n_dims)
            SC_TRY(take(c, &t->shape[i], sizeof t->shape[i]));
        if (t->shape[i] < 1 || (i > 0 && __builtin_mul_overflow(t->n_rows, t->shape[i], &t->n_rows))) {
            status = sc_fail(SC_BAD_INPUT, "%s: the shape of tensor %s is out of range", c->g->path, t->name);
            goto cleanup;
        }
    }
    t->row_values = t->shape[0];
    SC_TRY(take(c, &t->type, sizeof t->type));
    SC_TRY(take(c, offset, sizeof *offset));
cleanup:
    return status;
}

static sc_status place_tensor(gguf *g, gguf_tensor *t, size_t data_start, uint64_t offset, uint64_t alignment)
{
    const gguf_block *b = gguf_block_of(t->type);
    if (!b || b->bytes == 0)
        return SC_OK; /* gguf_read_rows names it, should it be needed */
    if (t->row_values % (int64_t)b->values != 0)
        return sc_fail(SC_BAD_INPUT, "%s: rows of %lld values of tensor %s are no whole %s blocks", g->path,
                       (long long)t->row_values, t->name, b->name);
    size_t bytes, room = data_start < g->map.size ? g->map.size - data_start : 0;
    if (__builtin_mul_overflow((size_t)(t->row_values / (int64_t)b->values), b->bytes, &t->row_bytes) ||
        __builtin_mul_overflow((size_t)t->n_rows, t->row_bytes, &bytes))
        return sc_fail(SC_BAD_INPUT, "%s: the shape of tensor %s overflows", g->path, t->name);
    if (offset % alignment != 0)
        return sc_fail(SC_BAD_INPUT, "%s: tensor %s does not start at a multiple of %llu", g->path, t->name,
                       (unsigned long long)alignment);
    if (offset > room || bytes > room - offset)
        return sc_fail(SC_BAD_INPUT,
                       "%s: tensor %s lies beyond the end of the file; the file is cut short or damaged",
                       g->path, t->name);
    t->data = g->map.data + data_start + offset;
    return SC_OK;
}

/* Sorted pointers for the look-up; a key or a name that is there twice is refused. */
static sc_status sort_keys(gguf *g)
{
    sc_status status;
    SC_TRY(keep(g, &g->values_by_key, g->n_values + 1, sizeof *g->values_by_key));
    for (size_t i = 0; i < g->n_values; i++)
        g->values_by_key[i] = &g->values[i];
    qsort(g->values_by_key, g->n_values, sizeof *g->values_by_key, gguf_by_key);
    for (size_t i = 1; i < g->n_values; i++) {
        if (gguf_by_key(&g->values_by_key[i - 1], &g->values_by_key[i]) == 0) {
            status =
                sc_fail(SC_BAD_INPUT, "%s: the key %s is there twice", g->path, g->values_by_key[i]->key);
            goto cleanup;
        }
    }
cleanup:
    return status;
}

static sc_status sort_tensors(gguf *g)
{
    sc_status status;
    SC_TRY(keep(g, &g->tensors_by_name, g->n_tensors + 1, sizeof *g->tensors_by_name));
    for (size_t i = 0; i < g->n_tensors; i++)
        g->tensors_by_name[i] = &g->tensors[i];
    qsort(g->tensors_by_name, g->n_tensors, sizeof *g->tensors_by_name, gguf_by_name);
    for (size_t i = 1; i < g->n_tensors; i++) {
        if (gguf_by_name(&g->tensors_by_name[i - 1], &g->tensors_by_name[i]) == 0) {
            status =
                sc_fail(SC_BAD_INPUT, "%s: tensor %s is there twice", g->path, g->tensors_by_name[i]->name);
            goto cleanup;
        }
    }
cleanup:
    return status;
}

/* ---- the file ---- */

static sc_status take_header(cursor *c, uint64_t *n_tensors, uint64_t *n_values)
{
    sc_status status;
    char magic[4];
    uint32_t version;
    if (left(c) < 4 || memcmp(c->g->map.data, "GGUF", 4) != 0)
        return sc_fail(SC_BAD_INPUT, "%s: not a GGUF file", c->g->path);
    SC_TRY(take(c, magic, sizeof magic));
    SC_TRY(take(c, &version, sizeof version));
    if (version != 2 && version != 3) {
        status = sc_fail(SC_BAD_INPUT, "%s: GGUF version %u is not read; 2 and 3 (little-endian) are",
                         c->g->path, version);
        goto cleanup;
    }
    SC_TRY(take(c, n_tensors, sizeof *n_tensors));
    SC_TRY(take(c, n_values, sizeof *n_values));
    /* A tensor's info takes at least 32 bytes, a key with its value 13. */
    if (*n_tensors > left(c) / 32 || *n_values > left(c) / 13)
        status = sc_fail(SC_BAD_INPUT,
                         "%s: the header claims %llu tensors and %llu keys, more than the file can hold",
                         c->g->path, (unsigned long long)*n_tensors, (unsigned long long)*n_values);
cleanup:
    return status;
}

static sc_status read_tensors(cursor *c, uint64_t n_tensors)
{
    gguf *g = c->g;
    sc_status status;
    uint64_t *offsets = NULL;
    int64_t alignment;
    SC_TRY(gguf_get_int(g, "general.alignment", 32, &alignment));
    if (alignment < 1 || alignment > 1 << 20 || (alignment & (alignment - 1)) != 0) {
        status = sc_fail(SC_BAD_INPUT, "%s: general.alignment is %lld, no power of two up to 1048576",
                         g->path, (long long)alignment);
        goto cleanup;
    }
    SC_TRY(sc_alloc(&offsets, (size_t)n_tensors + 1, sizeof *offsets));
    for (uint64_t i = 0; i < n_tensors; i++) {
        SC_TRY(sc_grow(&g->tensors, &g->cap_tensors, g->n_tensors + 1, sizeof *g->tensors));
        SC_TRY(take_tensor(c, &g->tensors[g->n_tensors], &offsets[i]));
        g->n_tensors++;
    }
    size_t data_start = (c->at + (size_t)alignment - 1) & ~((size_t)alignment - 1);
    for (size_t i = 0; i < g->n_tensors; i++)
        SC_TRY(place_tensor(g, &g->tensors[i], data_start, offsets[i], (uint64_t)alignment));
cleanup:
    free(offsets);
    return status;
}

sc_status gguf_open(const char *path, gguf **out)
{
    sc_status status;
    gguf *g = NULL;
    *out = NULL;
    uint64_t n_tensors, n_values;
    SC_TRY(sc_alloc(&g, 1, sizeof *g));
    SC_TRY(sc_strdup(&g->path, path));
    SC_TRY(file_map_open(path, &g->map));
    cursor c = {g, 0};
    SC_TRY(take_header(&c, &n_tensors, &n_values));
    for (uint64_t i = 0; i < n_values; i++)
        SC_TRY(take_value(&c));
    SC_TRY(sort_keys(g));
    SC_TRY(read_tensors(&c, n_tensors));
    SC_TRY(sort_tensors(g));
    *out = g;
    g = NULL;
cleanup:
    gguf_close(g);
    return status;
}

void gguf_close(gguf *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->n_kept; i++)
        free(g->kept[i]);
    free(g->kept);
    free(g->values);
    free(g->tensors);
    file_map_close(&g->map);
    free(g->path);
    free(g);
}
