/* Reading safetensors: one file or shards with an index. A file is used only after its header was
 * checked as a whole: known types, sizes that fit shapes, and tensors that cover the data exactly. */
#include "formats/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define MAX_HEADER 100000000 /* the reference implementation's limit */
#define INDEX_SUFFIX ".safetensors.index.json"

typedef struct shard {
    char *path;
    file_map map;
    json_t *header; /* owns the tensors' names */
} shard;

struct safetensors {
    char *path; /* as given, for sentences */
    shard *shards;
    size_t n_shards;
    st_tensor *tensors;
    size_t n_tensors, cap_tensors;
};

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [ST_F32] = {"F32", 4},   [ST_F16] = {"F16", 2},         [ST_BF16] = {"BF16", 2},
    [ST_F64] = {"F64", 8},   [ST_I64] = {"I64", 8},         [ST_I32] = {"I32", 4},
    [ST_I16] = {"I16", 2},   [ST_I8] = {"I8", 1},           [ST_U64] = {"U64", 8},
    [ST_U32] = {"U32", 4},   [ST_U16] = {"U16", 2},         [ST_U8] = {"U8", 1},
    [ST_BOOL] = {"BOOL", 1}, [ST_F8_E4M3] = {"F8_E4M3", 1}, [ST_F8_E5M2] = {"F8_E5M2", 1},
};
#define N_TYPES (sizeof types / sizeof types[0])

size_t st_type_size(st_type type)
{
    return types[type].size;
}

const char *st_type_name(st_type type)
{
    return types[type].name;
}

/* ---- one tensor's entry ---- */

static sc_status parse_type(const char *path, const char *name, const json_t *value, st_type *out)
{
    const char *text = json_string_value(value);
    for (size_t t = 0; text && t < N_TYPES; t++) {
        if (strcmp(text, types[t].name) == 0) {
            *out = (st_type)t;
            return SC_OK;
        }
    }
    return sc_fail(SC_BAD_INPUT,
                   "%s: tensor %s has the unknown type '%s'; save the model as F32, F16 or BF16", path, name,
                   text ? text : "(none)");
}

static sc_status parse_shape(const char *path, const json_t *value, st_tensor *t)
{
    if (!json_is_array(value))
        return sc_fail(SC_BAD_INPUT, "%s: tensor %s has no shape", path, t->name);
    size_t n = json_array_size(value);
    if (n > ST_MAX_DIMS)
        return sc_fail(SC_BAD_INPUT, "%s: tensor %s has %zu axes; at most %d are read", path, t->name, n,
                       ST_MAX_DIMS);
    t->n_dims = (int)n;
    int64_t product = 1;
    bool empty = false;
    for (size_t i = 0; i < ST_MAX_DIMS; i++) {
        const json_t *axis = i < n ? json_array_get(value, i) : NULL;
        if (axis && (!json_is_integer(axis) || json_integer_value(axis) < 0))
            return sc_fail(SC_BAD_INPUT, "%s: the shape of tensor %s holds something that is no size", path,
                           t->name);
        t->shape[i] = axis ? (int64_t)json_integer_value(axis) : 1;
        /* An empty axis must not hide an overflow of the others. */
        empty = empty || t->shape[i] == 0;
        if (t->shape[i] != 0 && __builtin_mul_overflow(product, t->shape[i], &product))
            return sc_fail(SC_BAD_INPUT, "%s: the shape of tensor %s overflows", path, t->name);
    }
    t->n_values = empty ? 0 : product;
    size_t bytes;
    if (__builtin_mul_overflow((size_t)product, types[t->type].size, &bytes))
        return sc_fail(SC_BAD_INPUT, "%s: the shape of tensor %s overflows", path, t->name);
    t->n_bytes = empty ? 0 : bytes;
    return SC_OK;
}

static sc_status parse_tensor(const char *path, const char *name, const json_t *entry, const uint8_t *data,
                              size_t data_size, st_tensor *t)
{
    t->name = name;
    if (!json_is_object(entry))
        return sc_fail(SC_BAD_INPUT, "%s: the entry of tensor %s is not an object", path, name);
    sc_status status = parse_type(path, name, json_object_get(entry, "dtype"), &t->type);
    if (status == SC_OK)
        status = parse_shape(path, json_object_get(entry, "shape"), t);
    if (status != SC_OK)
        return status;
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return sc_fail(SC_BAD_INPUT, "%s: tensor %s has no data_offsets [begin, end]", path, name);
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin || (uint64_t)end > data_size)
        return sc_fail(SC_BAD_INPUT,
                       "%s: tensor %s lies at bytes %lld to %lld of %zu; the file is damaged or cut short",
                       path, name, (long long)begin, (long long)end, data_size);
    if ((uint64_t)(end - begin) != t->n_bytes)
        return sc_fail(SC_BAD_INPUT, "%s: tensor %s takes %lld bytes where its shape needs %zu", path, name,
                       (long long)(end - begin), t->n_bytes);
    t->data = data + begin;
    t->aligned = (uintptr_t)t->data % types[t->type].size == 0;
    return SC_OK;
}

/* ---- one file ---- */

static int by_place(const void *a, const void *b)
{
    const st_tensor *x = a, *y = b;
    const uint8_t *xs = x->data, *ys = y->data;
    if (xs != ys)
        return xs < ys ? -1 : 1;
    return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const st_tensor *)a)->name, ((const st_tensor *)b)->name);
}

/* The tensors cover the data from the first byte to the last, without overlap and without holes. */
static sc_status check_cover(const char *path, st_tensor *tensors, size_t n, const uint8_t *data, size_t size)
{
    if (n > 1)
        qsort(tensors, n, sizeof *tensors, by_place);
    const uint8_t *at = data;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *start = tensors[i].data;
        if (start < at)
            return sc_fail(SC_BAD_INPUT, "%s: tensors %s and %s overlap", path, tensors[i - 1].name,
                           tensors[i].name);
        if (start > at)
            return sc_fail(SC_BAD_INPUT, "%s: %zu bytes before tensor %s belong to no tensor", path,
                           (size_t)(start - at), tensors[i].name);
        at = start + tensors[i].n_bytes;
    }
    if (at != data + size)
        return sc_fail(SC_BAD_INPUT, "%s: %zu bytes after the last tensor belong to no tensor", path,
                       (size_t)(data + size - at));
    return SC_OK;
}

static sc_status check_metadata(const char *path, const json_t *metadata)
{
    const char *key;
    json_t *value;
    if (metadata && !json_is_object(metadata))
        return sc_fail(SC_BAD_INPUT, "%s: __metadata__ is not an object", path);
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value))
            return sc_fail(SC_BAD_INPUT, "%s: __metadata__ holds '%s', which is not a string", path, key);
    }
    return SC_OK;
}

/* Maps the shard's file and appends its tensors. */
static sc_status open_shard(safetensors *s, size_t index)
{
    shard *sh = &s->shards[index];
    sc_status status;
    SC_TRY(file_map_open(sh->path, &sh->map));
    uint64_t length = 0;
    if (sh->map.size < 8) {
        status = sc_fail(SC_BAD_INPUT, "%s: not a safetensors file (%zu bytes)", sh->path, sh->map.size);
        goto cleanup;
    }
    memcpy(&length, sh->map.data, 8);
    if (length > MAX_HEADER) {
        status = sc_fail(SC_BAD_INPUT,
                         "%s: not a safetensors file (its header would take %llu bytes; 100 MB is the limit)",
                         sh->path, (unsigned long long)length);
        goto cleanup;
    }
    if (length > sh->map.size - 8) {
        status = sc_fail(SC_BAD_INPUT, "%s: the file is cut short inside its header", sh->path);
        goto cleanup;
    }
    const char *text = (const char *)sh->map.data + 8;
    if (length == 0 || text[0] != '{') {
        status = sc_fail(SC_BAD_INPUT, "%s: not a safetensors file (its header is no JSON object)", sh->path);
        goto cleanup;
    }
    SC_TRY(json_parse(text, (size_t)length, sh->path, &sh->header));
    const uint8_t *data = sh->map.data + 8 + length;
    size_t size = sh->map.size - 8 - (size_t)length, first = s->n_tensors;
    const char *name;
    json_t *entry;
    json_object_foreach(sh->header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) {
            SC_TRY(check_metadata(sh->path, entry));
            continue;
        }
        SC_TRY(sc_grow(&s->tensors, &s->cap_tensors, s->n_tensors + 1, sizeof *s->tensors));
        st_tensor *t = &s->tensors[s->n_tensors];
        memset(t, 0, sizeof *t);
        t->file = index;
        SC_TRY(parse_tensor(sh->path, name, entry, data, size, t));
        s->n_tensors++;
    }
    SC_TRY(check_cover(sh->path, s->n_tensors > first ? s->tensors + first : NULL, s->n_tensors - first, data,
                       size));
cleanup:
    return status;
}

/* ---- shards ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The shards' file names of the index, sorted, each once. */
static sc_status list_shards(safetensors *s, const char *index_path, const json_t *weight_map)
{
    sc_status status;
    const char **files = NULL;
    char *folder = path_dir(index_path);
    size_t n = 0, capacity = json_object_size(weight_map);
    const char *name;
    json_t *file;
    SC_TRY(sc_alloc(&files, capacity + 1, sizeof *files));
    json_object_foreach((json_t *)weight_map, name, file)
    {
        const char *text = json_string_value(file);
        if (!text || !text_ends(text, ".safetensors") || strchr(text, '/') || strchr(text, '\\')) {
            status = sc_fail(SC_BAD_INPUT,
                             "%s: tensor %s is said to lie in '%s', which is no name of a .safetensors file "
                             "beside the index",
                             index_path, name, text ? text : "(none)");
            goto cleanup;
        }
        files[n++] = text;
    }
    if (n == 0) {
        status = sc_fail(SC_BAD_INPUT, "%s: the weight_map is empty", index_path);
        goto cleanup;
    }
    qsort(files, n, sizeof *files, by_text);
    SC_TRY(sc_alloc(&s->shards, n, sizeof *s->shards));
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && strcmp(files[i], files[i - 1]) == 0)
            continue;
        char *path = folder ? path_join(folder, files[i]) : NULL;
        if (!path) {
            status = sc_fail(SC_MEMORY, "%s: memory does not suffice", index_path);
            goto cleanup;
        }
        s->shards[s->n_shards++].path = path;
    }
cleanup:
    free(folder);
    free(files);
    return status;
}

/* Index and shards tell the same: each tensor lies in the file that the index names. */
static sc_status check_index(const safetensors *s, const char *index_path, const json_t *weight_map)
{
    for (size_t i = 0; i < s->n_tensors; i++) {
        const st_tensor *t = &s->tensors[i];
        const char *file = json_string_value(json_object_get(weight_map, t->name));
        if (!file || strcmp(file, path_base(s->shards[t->file].path)) != 0)
            return sc_fail(SC_BAD_INPUT, "%s: tensor %s lies in %s, which the index does not say", index_path,
                           t->name, path_base(s->shards[t->file].path));
    }
    const char *name;
    json_t *file;
    json_object_foreach((json_t *)weight_map, name, file)
    {
        if (!safetensors_find(s, name))
            return sc_fail(SC_BAD_INPUT, "%s: tensor %s is missing from %s", index_path, name,
                           json_string_value(file));
    }
    return SC_OK;
}

static sc_status sort_names(safetensors *s)
{
    if (s->n_tensors > 1)
        qsort(s->tensors, s->n_tensors, sizeof *s->tensors, by_name);
    for (size_t i = 1; i < s->n_tensors; i++) {
        if (strcmp(s->tensors[i].name, s->tensors[i - 1].name) == 0)
            return sc_fail(SC_BAD_INPUT, "%s: tensor %s is there twice, in %s and in %s", s->path,
                           s->tensors[i].name, path_base(s->shards[s->tensors[i - 1].file].path),
                           path_base(s->shards[s->tensors[i].file].path));
    }
    return SC_OK;
}

static sc_status open_index(safetensors *s, const char *index_path)
{
    sc_status status;
    json_t *index = NULL;
    SC_TRY(json_parse_file(index_path, &index));
    const json_t *weight_map = json_object_get(index, "weight_map");
    if (!json_is_object(weight_map)) {
        status = sc_fail(SC_BAD_INPUT, "%s: has no weight_map", index_path);
        goto cleanup;
    }
    SC_TRY(list_shards(s, index_path, weight_map));
    for (size_t i = 0; i < s->n_shards; i++)
        SC_TRY(open_shard(s, i));
    SC_TRY(sort_names(s));
    SC_TRY(check_index(s, index_path, weight_map));
cleanup:
    json_decref(index);
    return status;
}

sc_status safetensors_open(const char *path, safetensors **out)
{
    sc_status status;
    safetensors *s = NULL;
    char *file = NULL;
    *out = NULL;
    SC_TRY(sc_alloc(&s, 1, sizeof *s));
    SC_TRY(sc_strdup(&s->path, path));
    if (file_is_dir(path)) {
        file = path_join(path, "model.safetensors");
        if (file && !file_exists(file)) {
            free(file);
            file = path_join(path, "model" INDEX_SUFFIX);
        }
        if (file && !file_exists(file)) {
            status = sc_fail(SC_BAD_INPUT,
                             "%s: holds neither model.safetensors nor model" INDEX_SUFFIX
                             "; give a Hugging Face model folder",
                             path);
            goto cleanup;
        }
        if (!file) {
            status = sc_fail(SC_MEMORY, "%s: memory does not suffice", path);
            goto cleanup;
        }
    } else {
        SC_TRY(sc_strdup(&file, path));
    }
    if (text_ends(file, INDEX_SUFFIX)) {
        SC_TRY(open_index(s, file));
    } else {
        SC_TRY(sc_alloc(&s->shards, 1, sizeof *s->shards));
        s->n_shards = 1;
        s->shards[0].path = file;
        file = NULL;
        SC_TRY(open_shard(s, 0));
        SC_TRY(sort_names(s));
    }
    *out = s;
    s = NULL;
cleanup:
    free(file);
    safetensors_close(s);
    return status;
}

void safetensors_close(safetensors *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_shards; i++) {
        file_map_close(&s->shards[i].map);
        json_decref(s->shards[i].header);
        free(s->shards[i].path);
    }
    free(s->shards);
    free(s->tensors);
    free(s->path);
    free(s);
}

/* ---- what was found ---- */

size_t safetensors_count(const safetensors *s)
{
    return s->n_tensors;
}

const st_tensor *safetensors_at(const safetensors *s, size_t i)
{
    return &s->tensors[i];
}

const st_tensor *safetensors_find(const safetensors *s, const char *name)
{
    st_tensor wanted = {.name = name};
    return s->n_tensors ? bsearch(&wanted, s->tensors, s->n_tensors, sizeof *s->tensors, by_name) : NULL;
}

sc_status safetensors_need(const safetensors *s, const char *name, const st_tensor **out)
{
    *out = safetensors_find(s, name);
    if (*out)
        return SC_OK;
    const char **names = NULL;
    sc_status status = sc_alloc(&names, s->n_tensors + 1, sizeof *names);
    if (status != SC_OK)
        return status;
    for (size_t i = 0; i < s->n_tensors; i++)
        names[i] = s->tensors[i].name;
    const char *nearest = text_nearest(name, names);
    status = sc_fail(SC_BAD_INPUT,
                     nearest ? "%s: there is no tensor %s (the nearest is %s)" : "%s: there is no tensor %s",
                     s->path, name, nearest);
    free(names);
    return status;
}

size_t safetensors_n_files(const safetensors *s)
{
    return s->n_shards;
}

const char *safetensors_file_path(const safetensors *s, size_t i)
{
    return s->shards[i].path;
}

const file_map *safetensors_file_map(const safetensors *s, size_t i)
{
    return &s->shards[i].map;
}

const char *safetensors_metadata(const safetensors *s, const char *key)
{
    return json_string_value(json_object_get(json_object_get(s->shards[0].header, "__metadata__"), key));
}

/* ---- floats ---- */

float half_to_float(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
    uint32_t word;
    float value;
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24, exact in float */
        value = (float)fraction * 0x1p-24f;
        return sign ? -value : value;
    }
    word = sign | (exponent == 31 ? 0x7f800000 : (exponent + 112) << 23) | fraction << 13;
    memcpy(&value, &word, 4);
    return value;
}

float bfloat16_to_float(uint16_t bits)
{
    uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, 4);
    return value;
}

sc_status st_tensor_floats(const st_tensor *t, int64_t first, int64_t n, float *out)
{
    if (first < 0 || n < 0 || first > t->n_values || n > t->n_values - first)
        return sc_fail(SC_INTERNAL, "values %lld to %lld of tensor %s were asked for; it has %lld",
                       (long long)first, (long long)first + (long long)n, t->name, (long long)t->n_values);
    const uint8_t *from = (const uint8_t *)t->data + (size_t)first * types[t->type].size;
    switch (t->type) {
    case ST_F32:
        if (n > 0)
            memcpy(out, from, (size_t)n * 4);
        return SC_OK;
    case ST_F64:
        for (int64_t i = 0; i < n; i++) {
            double wide;
            memcpy(&wide, from + 8 * i, 8);
            out[i] = (float)wide;
        }
        return SC_OK;
    case ST_F16:
    case ST_BF16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t bits;
            memcpy(&bits, from + 2 * i, 2);
            out[i] = t->type == ST_F16 ? half_to_float(bits) : bfloat16_to_float(bits);
        }
        return SC_OK;
    default:
        return sc_fail(SC_BAD_INPUT, "tensor %s holds %s values; need F32, F16, BF16 or F64", t->name,
                       types[t->type].name);
    }
}
