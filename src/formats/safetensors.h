/* safetensors: named tensors, mapped and used in place.
 * Format: huggingface/safetensors README: u64 header length, JSON header {name: {dtype, shape,
 * data_offsets}}, then the data, which the tensors cover without overlap and without holes. */
#ifndef SC_FORMATS_SAFETENSORS_H
#define SC_FORMATS_SAFETENSORS_H

#include "base/file.h"

#define ST_MAX_DIMS 8

typedef enum st_type {
    ST_F32 = 0,
    ST_F16,
    ST_BF16,
    ST_F64,
    ST_I64,
    ST_I32,
    ST_I16,
    ST_I8,
    ST_U64,
    ST_U32,
    ST_U16,
    ST_U8,
    ST_BOOL,
    ST_F8_E4M3,
    ST_F8_E5M2
} st_type;
size_t st_type_size(st_type type);
const char *st_type_name(st_type type); /* "F32", "BF16", ... as in the header */

typedef struct st_tensor {
    const char *name;
    st_type type;
    int n_dims;                 /* 0 for a scalar */
    int64_t shape[ST_MAX_DIMS]; /* axes beyond n_dims are 1 */
    int64_t n_values;
    const void
        *data;    /* in the mapping; writers of the format align it, but the format does not ask for it: */
    bool aligned; /* whether data may be read through a pointer of its type */
    size_t n_bytes;
    size_t file; /* which shard, 0-based */
} st_tensor;

typedef struct safetensors safetensors;

/* `path`: a .safetensors file, a *.safetensors.index.json, or a folder that holds model.safetensors
 * or model.safetensors.index.json. Every shard is opened and checked. */
sc_status safetensors_open(const char *path, safetensors **out);
void safetensors_close(safetensors *s); /* NULL is fine */

size_t safetensors_count(const safetensors *s);
const st_tensor *safetensors_at(const safetensors *s, size_t i);           /* sorted by name (bytewise) */
const st_tensor *safetensors_find(const safetensors *s, const char *name); /* NULL if there is none */
/* A missing tensor is SC_BAD_INPUT with a sentence that names it, the file and the nearest name. */
sc_status safetensors_need(const safetensors *s, const char *name, const st_tensor **out);
/* The files, in the order of their names: for the identity of a model (bytes of every file). */
size_t safetensors_n_files(const safetensors *s);
const char *safetensors_file_path(const safetensors *s, size_t i);
const file_map *safetensors_file_map(const safetensors *s, size_t i);
/* The value of __metadata__[key] of the first file, or NULL. */
const char *safetensors_metadata(const safetensors *s, const char *key);
/* Values first..first+n-1 as float, from F32, F16, BF16 or F64 (rounded), whatever the alignment. */
sc_status st_tensor_floats(const st_tensor *t, int64_t first, int64_t n, float *out);

/* Planned, then filled in order; atomic; __metadata__ {"format":"pt"}. */
typedef struct st_plan {
    const char *name;
    st_type type;
    int n_dims;
    int64_t shape[ST_MAX_DIMS];
} st_plan;
typedef struct safetensors_writer safetensors_writer;

/* `path` ends in ".safetensors". If shard_limit > 0 and the tensors take more bytes, they are spread over
 * "X-00001-of-0000N.safetensors" in the order of the plan, with "X.safetensors.index.json" beside
 * them (Hugging Face's layout; one tensor larger than the limit has a shard of its own).
 * Put wide types before narrow ones: the format has no padding between tensors. */
sc_status safetensors_writer_open(const char *path, const st_plan *tensors, size_t n_tensors,
                                  uint64_t shard_limit, safetensors_writer **out);
/* The bytes of the tensors in the order of the plan, in pieces of any size. */
sc_status safetensors_writer_data(safetensors_writer *w, const void *bytes, size_t n_bytes);
/* Every byte came and is on the disk, under temporary names: what can still fail is renaming. */
sc_status safetensors_writer_sync(safetensors_writer *w);
/* The files get their names; closes in every case; *pointer becomes NULL. */
sc_status safetensors_writer_commit(safetensors_writer **pointer);
void safetensors_writer_discard(safetensors_writer **pointer); /* fine with NULL */

/* IEEE half and bfloat16 to float, exact. */
float half_to_float(uint16_t bits);
float bfloat16_to_float(uint16_t bits);

#endif
