/* GGUF (versions 2 and 3, little-endian): metadata and tensors, mapped; quantised blocks to floats.
 * Format: ggml docs/gguf.md; blocks: ggml-common.h and ggml-quants.c (the dequantize_row_* functions). */
#ifndef SC_FORMATS_GGUF_H
#define SC_FORMATS_GGUF_H

#include "base/file.h"

/* The numbers are the file's. */
typedef enum gguf_kind {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12
} gguf_kind;

typedef struct gguf_value {
    const char *key;
    gguf_kind kind;
    union {
        uint64_t u;         /* U8..U64, BOOL (0 or 1) */
        int64_t i;          /* I8..I64 */
        double f;           /* F32, F64 */
        const char *string; /* terminated; a zero byte inside is refused at the opening */
    } as;
    /* ARRAY (arrays of arrays are refused, as llama.cpp does): */
    gguf_kind element;
    size_t n;
    const char *const *strings; /* [n] where element is STRING */
    const uint8_t *packed;      /* the file's bytes where it is not; read by gguf_array_* */
} gguf_value;

#define GGUF_MAX_DIMS 4
typedef struct gguf_tensor {
    const char *name;
    uint32_t type; /* ggml_type */
    int n_dims;
    int64_t shape[GGUF_MAX_DIMS]; /* ggml's order: shape[0] is the row, the fastest axis; beyond n_dims 1 */
    int64_t row_values, n_rows;   /* row_values = shape[0] */
    size_t row_bytes;             /* 0 where the type is unknown to us */
    const uint8_t *data;          /* n_rows * row_bytes, NULL where the type is unknown */
} gguf_tensor;

typedef struct gguf gguf;
/* Opens files with unknown block types too (their metadata may be wanted); reading such a tensor
 * fails and names the type. */
sc_status gguf_open(const char *path, gguf **out);
void gguf_close(gguf *g); /* NULL is fine */

size_t gguf_n_values(const gguf *g);
const gguf_value *gguf_value_at(const gguf *g, size_t i);
const gguf_value *gguf_find(const gguf *g, const char *key); /* NULL if there is none */
/* Typed access. A missing key is an error in need_*, the fallback in get_*; a wrong kind, or a
 * number that does not fit, is an error in both. Strings are borrowed. */
sc_status gguf_need_int(const gguf *g, const char *key, int64_t *out);
sc_status gguf_get_int(const gguf *g, const char *key, int64_t fallback, int64_t *out);
sc_status gguf_need_number(const gguf *g, const char *key, double *out);
sc_status gguf_get_number(const gguf *g, const char *key, double fallback, double *out);
sc_status gguf_need_string(const gguf *g, const char *key, const char **out);
sc_status gguf_get_string(const gguf *g, const char *key, const char *fallback, const char **out);
sc_status gguf_get_bool(const gguf *g, const char *key, bool fallback, bool *out);
/* An array of strings; of integers (any integer kind). */
sc_status gguf_need_strings(const gguf *g, const char *key, const char *const **out, size_t *n);
sc_status gguf_array_ints(const gguf *g, const char *key, int64_t *out,
                          size_t n); /* n = the array's length */

size_t gguf_n_tensors(const gguf *g);
const gguf_tensor *gguf_tensor_at(const gguf *g, size_t i); /* in the file's order */
const gguf_tensor *gguf_tensor_find(const gguf *g, const char *name);
sc_status gguf_tensor_need(const gguf *g, const char *name, const gguf_tensor **out);
const char *gguf_type_name(uint32_t type); /* "Q4_1"; "unknown" */
/* Rows first..first+n-1 as float, exactly as ggml dequantises them:
 * F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K. Thread-safe. */
sc_status gguf_read_rows(const gguf_tensor *t, int64_t first, int64_t n, float *out);

#endif
