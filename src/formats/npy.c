/* NumPy .npy files (numpy/lib/format.py): magic, version, header length, a Python dict literal padded
 * with blanks to a multiple of 64 bytes, the values. */
#include "formats/npy.h"

#include <stdlib.h>
#include <string.h>

#define MAGIC "\x93NUMPY"
#define MAX_HEADER 65536

size_t npy_type_size(npy_type type)
{
    return type == NPY_F8 || type == NPY_I8 ? 8 : 4;
}

const char *npy_type_name(npy_type type)
{
    static const char *const names[] = {"float32", "float64", "int32", "int64"};
    return names[type];
}

static const char *descr_of(npy_type type)
{
    static const char *const descrs[] = {"<f4", "<f8", "<i4", "<i8"};
    return descrs[type];
}

/* ---- reading ---- */

/* The header's dict literal, read left to right. */
typedef struct scanner {
    const char *p, *end;
} scanner;

static void skip_blanks(scanner *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static bool take(scanner *s, char c)
{
    skip_blanks(s);
    if (s->p == s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

static bool take_word(scanner *s, const char *word)
{
    size_t n = strlen(word);
    skip_blanks(s);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
        return false;
    s->p += n;
    return true;
}

/* A quoted string without escapes into out[size]. */
static bool take_string(scanner *s, char *out, size_t size)
{
    skip_blanks(s);
    if (s->p == s->end || (*s->p != '\'' && *s->p != '"'))
        return false;
    char quote = *s->p++;
    const char *close = memchr(s->p, quote, (size_t)(s->end - s->p));
    if (!close || (size_t)(close - s->p) >= size)
        return false;
    memcpy(out, s->p, (size_t)(close - s->p));
    out[close - s->p] = 0;
    s->p = close + 1;
    return true;
}

static bool take_size(scanner *s, int64_t *out)
{
    skip_blanks(s);
    if (s->p == s->end || *s->p < '0' || *s->p > '9')
        return false;
    int64_t value = 0;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *s->p - '0', &value))
            return false;
        s->p++;
    }
    if (s->p < s->end && *s->p == 'L') /* written by Python 2 */
        s->p++;
    *out = value;
    return true;
}

static sc_status parse_shape(scanner *s, const char *path, npy_file *out)
{
    if (!take(s, '('))
        return sc_fail(SC_BAD_INPUT,
                       "%s: the header's shape is not a tuple; write the file again with numpy.save", path);
    out->n_dims = 0;
    while (!take(s, ')')) {
        int64_t size;
        if (!take_size(s, &size))
            return sc_fail(SC_BAD_INPUT, "%s: the header's shape holds something that is no size", path);
        if (out->n_dims == NPY_MAX_DIMS)
            return sc_fail(SC_BAD_INPUT, "%s: the array has more than %d axes; reshape it", path,
                           NPY_MAX_DIMS);
        out->shape[out->n_dims++] = size;
        if (!take(s, ',')) {
            if (!take(s, ')'))
                return sc_fail(SC_BAD_INPUT, "%s: the header's shape is not closed", path);
            break;
        }
    }
    if (out->n_dims == 0)
        return sc_fail(SC_BAD_INPUT, "%s: the array is a scalar; it needs one to %d axes", path,
                       NPY_MAX_DIMS);
    for (int i = out->n_dims; i < NPY_MAX_DIMS; i++)
        out->shape[i] = 1;
    return SC_OK;
}

static sc_status parse_descr(scanner *s, const char *path, npy_file *out)
{
    char descr[32];
    if (!take_string(s, descr, sizeof descr))
        return sc_fail(SC_BAD_INPUT,
                       "%s: the array's type is structured or malformed; need float32, float64, "
                       "int32 or int64",
                       path);
    for (int t = NPY_F4; t <= NPY_I8; t++) {
        if (strcmp(descr, descr_of((npy_type)t)) == 0) {
            out->type = (npy_type)t;
            return SC_OK;
        }
    }
    return sc_fail(SC_BAD_INPUT,
                   "%s: the array's type is '%s'; need little-endian float32, float64, int32 or int64 "
                   "(numpy: a.astype('<f4'))",
                   path, descr);
}

static sc_status parse_header(const char *text, size_t n, const char *path, npy_file *out)
{
    scanner s = {text, text + n};
    bool seen[3] = {false, false, false};
    if (!take(&s, '{'))
        return sc_fail(SC_BAD_INPUT, "%s: the .npy header is not a dictionary", path);
    while (!take(&s, '}')) {
        char key[32];
        if (!take_string(&s, key, sizeof key) || !take(&s, ':'))
            return sc_fail(SC_BAD_INPUT, "%s: the .npy header is malformed", path);
        int which = strcmp(key, "descr") == 0           ? 0
                    : strcmp(key, "fortran_order") == 0 ? 1
                    : strcmp(key, "shape") == 0         ? 2
                                                        : -1;
        if (which < 0 || seen[which])
            return sc_fail(SC_BAD_INPUT, "%s: unexpected key '%s' in the .npy header", path, key);
        seen[which] = true;
        sc_status status = SC_OK;
        if (which == 0)
            status = parse_descr(&s, path, out);
        else if (which == 2)
            status = parse_shape(&s, path, out);
        else if (take_word(&s, "True"))
            status = sc_fail(SC_BAD_INPUT,
                             "%s: the array is in Fortran order; save numpy.ascontiguousarray(a)", path);
        else if (!take_word(&s, "False"))
            status =
                sc_fail(SC_BAD_INPUT, "%s: fortran_order is neither True nor False in the .npy header", path);
        if (status != SC_OK)
            return status;
        if (!take(&s, ',')) {
            if (!take(&s, '}'))
                return sc_fail(SC_BAD_INPUT, "%s: the .npy header is malformed", path);
            break;
        }
    }
    if (!seen[0] || !seen[1] || !seen[2])
        return sc_fail(SC_BAD_INPUT, "%s: the .npy header lacks descr, fortran_order or shape", path);
    skip_blanks(&s);
    if (s.p != s.end)
        return sc_fail(SC_BAD_INPUT, "%s: the .npy header goes on after its dictionary", path);
    return SC_OK;
}

/* Where header text and data lie, from the magic, the version and the header length. */
static sc_status find_header(const file_map *map, const char *path, size_t *start, size_t *length)
{
    if (map->size < 10 || memcmp(map->data, MAGIC, 6) != 0)
        return sc_fail(SC_BAD_INPUT, "%s: not a NumPy .npy file", path);
    int major = map->data[6];
    if (major < 1 || major > 3)
        return sc_fail(SC_BAD_INPUT, "%s: .npy format version %d is unknown; versions 1 to 3 are read", path,
                       major);
    *start = major == 1 ? 10 : 12;
    if (map->size < *start)
        return sc_fail(SC_BAD_INPUT, "%s: the .npy file is cut short inside its header", path);
    *length = (size_t)map->data[8] | (size_t)map->data[9] << 8;
    if (major > 1)
        *length |= (size_t)map->data[10] << 16 | (size_t)map->data[11] << 24;
    if (*length > MAX_HEADER)
        return sc_fail(SC_BAD_INPUT, "%s: the .npy header claims %zu bytes", path, *length);
    if (*length > map->size - *start)
        return sc_fail(SC_BAD_INPUT, "%s: the .npy file is cut short inside its header", path);
    return SC_OK;
}

sc_status npy_open(const char *path, npy_file *out)
{
    sc_status status;
    memset(out, 0, sizeof *out);
    SC_TRY(file_map_open(path, &out->map));
    size_t start, length;
    SC_TRY(find_header(&out->map, path, &start, &length));
    SC_TRY(parse_header((const char *)out->map.data + start, length, path, out));
    size_t bytes = npy_type_size(out->type), have = out->map.size - start - length;
    int64_t values = 1;
    for (int i = 0; i < out->n_dims; i++) {
        /* An empty axis must not hide an overflow of the others: numpy refuses such shapes too. */
        if (out->shape[i] != 0 && __builtin_mul_overflow(values, out->shape[i], &values)) {
            status = sc_fail(SC_BAD_INPUT, "%s: the array's shape overflows", path);
            goto cleanup;
        }
    }
    for (int i = 0; i < out->n_dims; i++)
        values = out->shape[i] == 0 ? 0 : values;
    size_t need;
    if (__builtin_mul_overflow((size_t)values, bytes, &need)) {
        status = sc_fail(SC_BAD_INPUT, "%s: the array's shape overflows", path);
        goto cleanup;
    }
    if (need != have) {
        status = sc_fail(SC_BAD_INPUT, "%s: the header promises %zu bytes of data, the file holds %zu%s",
                         path, need, have, have < need ? "; it was cut short" : "");
        goto cleanup;
    }
    out->n_values = values;
    out->data = out->map.data + start + length;
    if ((uintptr_t)out->data % bytes != 0) {
        SC_TRY(sc_alloc(&out->copy, (size_t)values + 1, bytes));
        memcpy(out->copy, out->data, need);
        out->data = out->copy;
    }
    status = SC_OK;
cleanup:
    if (status != SC_OK)
        npy_close(out);
    return status;
}

sc_status npy_open_as(const char *path, npy_type type, int n_dims, npy_file *out)
{
    sc_status status = npy_open(path, out);
    if (status != SC_OK)
        return status;
    if (out->type != type)
        status = sc_fail(SC_BAD_INPUT, "%s: holds %s values; need %s", path, npy_type_name(out->type),
                         npy_type_name(type));
    else if (out->n_dims != n_dims)
        status = sc_fail(SC_BAD_INPUT, "%s: the array has %d axes; need %d", path, out->n_dims, n_dims);
    if (status != SC_OK)
        npy_close(out);
    return status;
}

void npy_close(npy_file *file)
{
    if (!file)
        return;
    free(file->copy);
    file_map_close(&file->map);
    memset(file, 0, sizeof *file);
}

/* ---- writing ---- */

struct npy_writer {
    file_writer *file;
    npy_type type;
    int n_dims;
    int64_t shape[NPY_MAX_DIMS]; /* [0] = -1: counted */
    int64_t n_rows;
    size_t row_bytes, header_bytes;
    char *path;
};

/* The header text for n_rows rows, padded to header_bytes - 10; its natural length if header_bytes is 0. */
static void make_header(const npy_writer *w, int64_t n_rows, strbuf *out)
{
    strbuf_printf(out, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr_of(w->type));
    for (int i = 0; i < w->n_dims; i++)
        strbuf_printf(out, i ? ", %lld" : "%lld", (long long)(i ? w->shape[i] : n_rows));
    strbuf_puts(out, w->n_dims == 1 ? ",), }" : "), }");
    if (w->header_bytes == 0)
        return;
    while (!out->failed && out->len < w->header_bytes - 11)
        strbuf_putc(out, ' ');
    strbuf_putc(out, '\n');
}

static sc_status write_header(npy_writer *w, int64_t n_rows)
{
    strbuf text = {0};
    make_header(w, n_rows, &text);
    sc_status status;
    SC_TRY(strbuf_status(&text));
    uint8_t start[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
    start[8] = (uint8_t)(text.len & 255);
    start[9] = (uint8_t)(text.len >> 8);
    SC_TRY(file_writer_seek(w->file, 0));
    SC_TRY(file_writer_write(w->file, start, sizeof start));
    SC_TRY(file_writer_write(w->file, text.data, text.len));
cleanup:
    strbuf_free(&text);
    return status;
}

sc_status npy_writer_open(const char *path, npy_type type, int n_dims, const int64_t *shape, npy_writer **out)
{
    sc_status status;
    npy_writer *w = NULL;
    strbuf longest = {0};
    *out = NULL;
    if (n_dims < 1 || n_dims > NPY_MAX_DIMS)
        return sc_fail(SC_INTERNAL, "%s: cannot write an array of %d axes", path, n_dims);
    SC_TRY(sc_alloc(&w, 1, sizeof *w));
    w->type = type;
    w->n_dims = n_dims;
    w->row_bytes = npy_type_size(type);
    for (int i = 0; i < n_dims; i++) {
        w->shape[i] = shape[i];
        bool bad = shape[i] < (i ? 0 : -1);
        if (i)
            bad = bad || __builtin_mul_overflow(w->row_bytes, (size_t)shape[i], &w->row_bytes);
        if (bad) {
            status = sc_fail(SC_INTERNAL, "%s: cannot write an array whose axis %d has size %lld", path, i,
                             (long long)shape[i]);
            goto cleanup;
        }
    }
    SC_TRY(sc_strdup(&w->path, path));
    /* Room for any number of rows, so that the header can be filled in at the end. */
    make_header(w, INT64_MAX, &longest);
    SC_TRY(strbuf_status(&longest));
    w->header_bytes = (10 + longest.len + 1 + 63) / 64 * 64;
    SC_TRY(file_writer_open(path, &w->file));
    SC_TRY(write_header(w, shape[0] < 0 ? 0 : shape[0]));
    *out = w;
    w = NULL;
cleanup:
    strbuf_free(&longest);
    npy_writer_discard(&w);
    return status;
}

sc_status npy_writer_rows(npy_writer *w, const void *rows, int64_t n_rows)
{
    size_t bytes;
    if (n_rows < 0 || __builtin_mul_overflow((size_t)n_rows, w->row_bytes, &bytes))
        return sc_fail(SC_INTERNAL, "%s: cannot write %lld rows at once", w->path, (long long)n_rows);
    sc_status status = file_writer_write(w->file, rows, bytes);
    if (status == SC_OK)
        w->n_rows += n_rows;
    return status;
}

sc_status npy_writer_commit(npy_writer **pointer)
{
    npy_writer *w = *pointer;
    sc_status status;
    if (w->shape[0] >= 0 && w->n_rows != w->shape[0]) {
        status = sc_fail(SC_INTERNAL, "%s: %lld rows were planned and %lld written", w->path,
                         (long long)w->shape[0], (long long)w->n_rows);
        goto cleanup;
    }
    if (w->shape[0] < 0)
        SC_TRY(write_header(w, w->n_rows));
    SC_TRY(file_writer_commit(&w->file));
cleanup:
    npy_writer_discard(pointer);
    return status;
}

void npy_writer_discard(npy_writer **pointer)
{
    npy_writer *w = *pointer;
    if (!w)
        return;
    file_writer_discard(&w->file);
    free(w->path);
    free(w);
    *pointer = NULL;
}

sc_status npy_write(const char *path, npy_type type, int n_dims, const int64_t *shape, const void *data)
{
    npy_writer *w = NULL;
    sc_status status;
    SC_TRY(npy_writer_open(path, type, n_dims, shape, &w));
    SC_TRY(npy_writer_rows(w, data, shape[0]));
    SC_TRY(npy_writer_commit(&w));
cleanup:
    npy_writer_discard(&w);
    return status;
}
