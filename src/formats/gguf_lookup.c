/* Access to an open GGUF file: typed metadata, tensors by name, rows as floats. */
#include <stdlib.h>

#include "formats/gguf_blocks.h"
#include "formats/gguf_parts.h"

size_t gguf_n_values(const gguf *g)
{
    return g->n_values;
}

const gguf_value *gguf_value_at(const gguf *g, size_t i)
{
    return &g->values[i];
}

const gguf_value *gguf_find(const gguf *g, const char *key)
{
    gguf_value wanted = {.key = key};
    const gguf_value *pointer = &wanted;
    const gguf_value **found =
        bsearch(&pointer, g->values_by_key, g->n_values, sizeof *g->values_by_key, gguf_by_key);
    return found ? *found : NULL;
}

static sc_status missing(const gguf *g, const char *key)
{
    return sc_fail(SC_BAD_INPUT, "%s: the metadata lacks %s", g->path, key);
}

static sc_status wrong_kind(const gguf *g, const char *key, const char *need)
{
    return sc_fail(SC_BAD_INPUT, "%s: the value of %s is not %s", g->path, key, need);
}

sc_status gguf_need_int(const gguf *g, const char *key, int64_t *out)
{
    const gguf_value *v = gguf_find(g, key);
    if (!v)
        return missing(g, key);
    if (!gguf_kind_integer(v->kind) || (!gguf_kind_signed(v->kind) && v->as.u > INT64_MAX))
        return wrong_kind(g, key, "an integer");
    *out = v->as.i; /* unsigned values up to INT64_MAX have the same bits */
    return SC_OK;
}

sc_status gguf_get_int(const gguf *g, const char *key, int64_t fallback, int64_t *out)
{
    *out = fallback;
    return gguf_find(g, key) ? gguf_need_int(g, key, out) : SC_OK;
}

sc_status gguf_need_number(const gguf *g, const char *key, double *out)
{
    const gguf_value *v = gguf_find(g, key);
    if (!v)
        return missing(g, key);
    if (v->kind == GGUF_F32 || v->kind == GGUF_F64)
        *out = v->as.f;
    else if (gguf_kind_integer(v->kind))
        *out = gguf_kind_signed(v->kind) ? (double)v->as.i : (double)v->as.u;
    else
        return wrong_kind(g, key, "a number");
    return SC_OK;
}

sc_status gguf_get_number(const gguf *g, const char *key, double fallback, double *out)
{
    *out = fallback;
    return gguf_find(g, key) ? gguf_need_number(g, key, out) : SC_OK;
}

sc_status gguf_need_string(const gguf *g, const char *key, const char **out)
{
    const gguf_value *v = gguf_find(g, key);
    if (!v)
        return missing(g, key);
    if (v->kind != GGUF_STRING)
        return wrong_kind(g, key, "a string");
    *out = v->as.string;
    return SC_OK;
}

sc_status gguf_get_string(const gguf *g, const char *key, const char *fallback, const char **out)
{
    *out = fallback;
    return gguf_find(g, key) ? gguf_need_string(g, key, out) : SC_OK;
}

sc_status gguf_get_bool(const gguf *g, const char *key, bool fallback, bool *out)
{
    const gguf_value *v = gguf_find(g, key);
    *out = fallback;
    if (!v)
        return SC_OK;
    if (v->kind != GGUF_BOOL)
        return wrong_kind(g, key, "true or false");
    *out = v->as.u != 0;
    return SC_OK;
}

sc_status gguf_need_strings(const gguf *g, const char *key, const char *const **out, size_t *n)
{
    const gguf_value *v = gguf_find(g, key);
    if (!v)
        return missing(g, key);
    if (v->kind != GGUF_ARRAY || v->element != GGUF_STRING)
        return wrong_kind(g, key, "an array of strings");
    *out = v->strings;
    *n = v->n;
    return SC_OK;
}

sc_status gguf_array_ints(const gguf *g, const char *key, int64_t *out, size_t n)
{
    const gguf_value *v = gguf_find(g, key);
    if (!v)
        return missing(g, key);
    if (v->kind != GGUF_ARRAY || !gguf_kind_integer(v->element))
        return wrong_kind(g, key, "an array of integers");
    if (v->n != n)
        return sc_fail(SC_BAD_INPUT, "%s: %s has %zu values; need %zu", g->path, key, v->n, n);
    size_t size = gguf_kind_size((uint32_t)v->element);
    for (size_t i = 0; i < n; i++) {
        out[i] = gguf_signed_at(v->packed + i * size, size);
        if (!gguf_kind_signed(v->element) && size < 8)
            out[i] &= (int64_t)((UINT64_C(1) << (8 * size)) - 1);
        else if (!gguf_kind_signed(v->element) && out[i] < 0)
            return wrong_kind(g, key, "an array of integers below 2^63");
    }
    return SC_OK;
}

size_t gguf_n_tensors(const gguf *g)
{
    return g->n_tensors;
}

const gguf_tensor *gguf_tensor_at(const gguf *g, size_t i)
{
    return &g->tensors[i];
}

const gguf_tensor *gguf_tensor_find(const gguf *g, const char *name)
{
    gguf_tensor wanted = {.name = name};
    const gguf_tensor *pointer = &wanted;
    const gguf_tensor **found =
        bsearch(&pointer, g->tensors_by_name, g->n_tensors, sizeof *g->tensors_by_name, gguf_by_name);
    return found ? *found : NULL;
}

sc_status gguf_tensor_need(const gguf *g, const char *name, const gguf_tensor **out)
{
    *out = gguf_tensor_find(g, name);
    return *out ? SC_OK : sc_fail(SC_BAD_INPUT, "%s: there is no tensor %s", g->path, name);
}

const char *gguf_type_name(uint32_t type)
{
    const gguf_block *b = gguf_block_of(type);
    return b ? b->name : "unknown";
}

sc_status gguf_read_rows(const gguf_tensor *t, int64_t first, int64_t n, float *out)
{
    const gguf_block *b = gguf_block_of(t->type);
    if (!t->data || !b || !b->decode)
        return sc_fail(SC_BAD_INPUT,
                       "tensor %s has block type %u (%s), which is not read; use a file with F32, F16, "
                       "BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K blocks",
                       t->name, t->type, gguf_type_name(t->type));
    if (first < 0 || n < 0 || first > t->n_rows || n > t->n_rows - first)
        return sc_fail(SC_INTERNAL, "rows %lld to %lld of tensor %s were asked for; it has %lld",
                       (long long)first, (long long)first + (long long)n, t->name, (long long)t->n_rows);
    b->decode(t->data + (size_t)first * t->row_bytes, (size_t)n * t->row_bytes / b->bytes, out);
    return SC_OK;
}
