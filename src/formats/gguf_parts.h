/* What formats/gguf.c (the parser) and formats/gguf_lookup.c (access) share. */
#ifndef SC_FORMATS_GGUF_PARTS_H
#define SC_FORMATS_GGUF_PARTS_H

#include <string.h>

#include "formats/gguf.h"

struct gguf {
    char *path;
    file_map map;
    gguf_value *values;
    size_t n_values, cap_values;
    const gguf_value **values_by_key;
    gguf_tensor *tensors;
    size_t n_tensors, cap_tensors;
    const gguf_tensor **tensors_by_name;
    void **kept; /* terminated copies of the strings */
    size_t n_kept, cap_kept;
};

/* Bytes of one value of a plain kind, 0 for strings, arrays and unknown kinds. */
static inline size_t gguf_kind_size(uint32_t kind)
{
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return kind < sizeof sizes ? sizes[kind] : 0;
}

static inline bool gguf_kind_signed(gguf_kind kind)
{
    return kind == GGUF_I8 || kind == GGUF_I16 || kind == GGUF_I32 || kind == GGUF_I64;
}

static inline bool gguf_kind_integer(gguf_kind kind)
{
    return kind != GGUF_F32 && kind != GGUF_F64 && kind != GGUF_BOOL && kind != GGUF_STRING &&
           kind != GGUF_ARRAY;
}

static inline int64_t gguf_signed_at(const uint8_t *p, size_t size)
{
    uint64_t bits = 0;
    if (size == 0 || size > sizeof bits)
        return 0;
    memcpy(&bits, p, size);
    unsigned unused = 64 - 8 * (unsigned)size;
    return (int64_t)(bits << unused) >> unused;
}

/* Orders of the sorted pointers. */
static inline int gguf_by_key(const void *a, const void *b)
{
    return strcmp((*(const gguf_value *const *)a)->key, (*(const gguf_value *const *)b)->key);
}

static inline int gguf_by_name(const void *a, const void *b)
{
    return strcmp((*(const gguf_tensor *const *)a)->name, (*(const gguf_tensor *const *)b)->name);
}

#endif
