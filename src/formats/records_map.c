/* Payloads of the record log: flat msgpack maps (github.com/msgpack/msgpack spec.md). Input is walked
 * byte by byte before msgpack-c sees it, because a map that claims 2^32 pairs would have msgpack-c
 * allocate for them. */
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "formats/records.h"

/* ---- packing ---- */

void record_pack_begin(record_pack *p, size_t n_pairs)
{
    memset(p, 0, sizeof *p);
    p->planned = n_pairs;
    p->buffer = msgpack_sbuffer_new();
    p->failed = p->buffer == NULL || n_pairs > UINT32_MAX;
    if (!p->failed) {
        msgpack_packer pk;
        msgpack_packer_init(&pk, p->buffer, msgpack_sbuffer_write);
        p->failed = msgpack_pack_map(&pk, n_pairs) != 0;
    }
}

static bool pack_text(msgpack_packer *pk, const char *text, size_t n)
{
    return n <= UINT32_MAX && msgpack_pack_str(pk, n) == 0 && msgpack_pack_str_body(pk, text, n) == 0;
}

/* The packer, with the key written; false if something failed before. */
static bool begin_pair(record_pack *p, const char *key, msgpack_packer *pk)
{
    p->done++;
    if (p->failed)
        return false;
    msgpack_packer_init(pk, p->buffer, msgpack_sbuffer_write);
    p->failed = !pack_text(pk, key, strlen(key));
    return !p->failed;
}

void record_pack_text(record_pack *p, const char *key, const char *text, size_t n)
{
    msgpack_packer pk;
    if (begin_pair(p, key, &pk))
        p->failed = !pack_text(&pk, text, n);
}

void record_pack_string(record_pack *p, const char *key, const char *text)
{
    msgpack_packer pk;
    if (text)
        record_pack_text(p, key, text, strlen(text));
    else if (begin_pair(p, key, &pk))
        p->failed = msgpack_pack_nil(&pk) != 0;
}

void record_pack_int(record_pack *p, const char *key, int64_t value)
{
    msgpack_packer pk;
    if (begin_pair(p, key, &pk))
        p->failed = msgpack_pack_int64(&pk, value) != 0;
}

void record_pack_number(record_pack *p, const char *key, double value)
{
    msgpack_packer pk;
    if (begin_pair(p, key, &pk))
        p->failed = msgpack_pack_double(&pk, value) != 0;
}

void record_pack_bool(record_pack *p, const char *key, bool value)
{
    msgpack_packer pk;
    if (begin_pair(p, key, &pk))
        p->failed = (value ? msgpack_pack_true(&pk) : msgpack_pack_false(&pk)) != 0;
}

void record_pack_bytes(record_pack *p, const char *key, const void *bytes, size_t n)
{
    msgpack_packer pk;
    if (begin_pair(p, key, &pk))
        p->failed =
            n > UINT32_MAX || msgpack_pack_bin(&pk, n) != 0 || msgpack_pack_bin_body(&pk, bytes, n) != 0;
}

sc_status record_pack_end(record_pack *p, const void **bytes, size_t *n)
{
    const msgpack_sbuffer *buffer = p->buffer;
    if (p->failed)
        return sc_fail(SC_MEMORY, "memory does not suffice for a record");
    if (p->done != p->planned)
        return sc_fail(SC_INTERNAL, "a record was begun with %zu fields and got %zu", p->planned, p->done);
    *bytes = buffer->data;
    *n = buffer->size;
    return SC_OK;
}

void record_pack_free(record_pack *p)
{
    msgpack_sbuffer_free(p->buffer);
    memset(p, 0, sizeof *p);
}

/* ---- checking ---- */

typedef struct walker {
    const uint8_t *p;
    size_t left;
} walker;

static bool walk_number(walker *w, size_t bytes, uint64_t *out)
{
    if (w->left < bytes)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | w->p[i];
    w->p += bytes;
    w->left -= bytes;
    *out = value;
    return true;
}

static bool walk_skip(walker *w, uint64_t bytes)
{
    if (w->left < bytes)
        return false;
    w->p += bytes;
    w->left -= (size_t)bytes;
    return true;
}

/* One nil, bool, number, string or byte string; false for all else, or where it is cut short. */
static bool walk_value(walker *w, bool *is_string)
{
    uint64_t tag, n = 0;
    if (!walk_number(w, 1, &tag))
        return false;
    *is_string = (tag >= 0xa0 && tag <= 0xbf) || (tag >= 0xd9 && tag <= 0xdb);
    if (tag <= 0x7f || tag >= 0xe0 || tag == 0xc0 || tag == 0xc2 || tag == 0xc3)
        return true;
    if (tag >= 0xa0 && tag <= 0xbf)
        return walk_skip(w, tag & 31);
    if (tag >= 0xd9 && tag <= 0xdb) /* str 8, 16, 32 */
        return walk_number(w, (size_t)1 << (tag - 0xd9), &n) && walk_skip(w, n);
    if (tag >= 0xc4 && tag <= 0xc6) /* bin 8, 16, 32 */
        return walk_number(w, (size_t)1 << (tag - 0xc4), &n) && walk_skip(w, n);
    if (tag == 0xca || tag == 0xcb) /* float 32, 64 */
        return walk_skip(w, tag == 0xca ? 4 : 8);
    if (tag >= 0xcc && tag <= 0xcf) /* uint 8..64 */
        return walk_skip(w, UINT64_C(1) << (tag - 0xcc));
    if (tag >= 0xd0 && tag <= 0xd3) /* int 8..64 */
        return walk_skip(w, UINT64_C(1) << (tag - 0xd0));
    return false;
}

/* A flat map with string keys that takes exactly the n bytes. */
static bool walk_map(const uint8_t *payload, size_t n)
{
    walker w = {payload, n};
    uint64_t tag, pairs;
    if (!walk_number(&w, 1, &tag))
        return false;
    if (tag >= 0x80 && tag <= 0x8f)
        pairs = tag & 15;
    else if ((tag != 0xde && tag != 0xdf) || !walk_number(&w, tag == 0xde ? 2 : 4, &pairs))
        return false;
    for (uint64_t i = 0; i < pairs; i++) {
        bool is_string;
        if (!walk_value(&w, &is_string) || !is_string || !walk_value(&w, &is_string))
            return false;
    }
    return w.left == 0;
}

/* ---- unpacking ---- */

static const char *store(char **storage, const char *bytes, size_t n)
{
    char *start = *storage;
    if (n > 0)
        memcpy(start, bytes, n);
    start[n] = 0;
    *storage += n + 1;
    return start;
}

static sc_status take_field(const msgpack_object_kv *pair, const char *where, char **storage, record_field *f)
{
    const msgpack_object *v = &pair->val;
    f->key = store(storage, pair->key.via.str.ptr, pair->key.via.str.size);
    if (strlen(f->key) != pair->key.via.str.size || !utf8_valid(f->key, pair->key.via.str.size))
        return sc_fail(SC_BAD_INPUT, "%s: the record has a key that is no UTF-8 text", where);
    switch (v->type) {
    case MSGPACK_OBJECT_NIL:
        f->kind = RECORD_NIL;
        break;
    case MSGPACK_OBJECT_BOOLEAN:
        f->kind = RECORD_BOOL;
        f->i = v->via.boolean;
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        f->kind = RECORD_INT;
        if (v->type == MSGPACK_OBJECT_POSITIVE_INTEGER && v->via.u64 > INT64_MAX)
            return sc_fail(SC_BAD_INPUT, "%s: the record's %s is larger than 2^63 - 1", where, f->key);
        f->i = v->via.i64;
        f->number = (double)f->i;
        break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        f->kind = RECORD_NUMBER;
        f->number = v->via.f64;
        break;
    case MSGPACK_OBJECT_STR:
        f->kind = RECORD_STRING;
        f->n = v->via.str.size;
        f->bytes = store(storage, v->via.str.ptr, f->n);
        if (!utf8_valid(f->bytes, f->n))
            return sc_fail(SC_BAD_INPUT, "%s: the record's %s is no UTF-8 text", where, f->key);
        break;
    default: /* byte strings; walk_map let nothing else pass */
        f->kind = RECORD_BYTES;
        f->n = v->via.bin.size;
        f->bytes = store(storage, v->via.bin.ptr, f->n);
    }
    return SC_OK;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const record_field *)a)->key, ((const record_field *)b)->key);
}

sc_status record_unpack(const void *payload, size_t n, const char *where, record_map *out)
{
    sc_status status;
    msgpack_unpacked unpacked;
    size_t at = 0;
    memset(out, 0, sizeof *out);
    msgpack_unpacked_init(&unpacked);
    if (n > RECORDS_MAX_PAYLOAD || !walk_map(payload, n) ||
        msgpack_unpack_next(&unpacked, payload, n, &at) != MSGPACK_UNPACK_SUCCESS) {
        status = sc_fail(SC_BAD_INPUT, "%s: the record is not a flat map of named values", where);
        goto cleanup;
    }
    const msgpack_object_map *map = &unpacked.data.via.map;
    SC_TRY(sc_strdup(&out->where, where));
    SC_TRY(sc_alloc(&out->fields, (size_t)map->size + 1, sizeof *out->fields));
    SC_TRY(sc_alloc(&out->storage, n + 2 * (size_t)map->size + 1, 1)); /* each text needs a zero after it */
    char *storage = out->storage;
    for (uint32_t i = 0; i < map->size; i++) {
        SC_TRY(take_field(&map->ptr[i], where, &storage, &out->fields[i]));
        out->n_fields++;
    }
    if (out->n_fields > 1)
        qsort(out->fields, out->n_fields, sizeof *out->fields, by_key);
    for (size_t i = 1; i < out->n_fields; i++) {
        if (by_key(&out->fields[i - 1], &out->fields[i]) == 0) {
            status = sc_fail(SC_BAD_INPUT, "%s: the record has two fields %s", where, out->fields[i].key);
            goto cleanup;
        }
    }
cleanup:
    msgpack_unpacked_destroy(&unpacked);
    if (status != SC_OK)
        record_map_free(out);
    return status;
}

void record_map_free(record_map *map)
{
    free(map->fields);
    free(map->storage);
    free(map->where);
    memset(map, 0, sizeof *map);
}

/* ---- access ---- */

const record_field *record_find(const record_map *map, const char *key)
{
    record_field wanted = {.key = key};
    return map->n_fields ? bsearch(&wanted, map->fields, map->n_fields, sizeof *map->fields, by_key) : NULL;
}

/* The field if it is there and not nil. */
static const record_field *present(const record_map *map, const char *key)
{
    const record_field *f = record_find(map, key);
    return f && f->kind != RECORD_NIL ? f : NULL;
}

static sc_status missing(const record_map *map, const char *key)
{
    return sc_fail(SC_BAD_INPUT, "%s: the record lacks %s", map->where, key);
}

static sc_status wrong_kind(const record_map *map, const char *key, const char *need)
{
    return sc_fail(SC_BAD_INPUT, "%s: the record's %s is not %s", map->where, key, need);
}

sc_status record_need_string(const record_map *map, const char *key, const char **out)
{
    const record_field *f = present(map, key);
    if (!f)
        return missing(map, key);
    if (f->kind != RECORD_STRING || strlen(f->bytes) != f->n)
        return wrong_kind(map, key, "a text");
    *out = f->bytes;
    return SC_OK;
}

sc_status record_get_string(const record_map *map, const char *key, const char *fallback, const char **out)
{
    *out = fallback;
    return present(map, key) ? record_need_string(map, key, out) : SC_OK;
}

sc_status record_need_int(const record_map *map, const char *key, int64_t *out)
{
    const record_field *f = present(map, key);
    if (!f)
        return missing(map, key);
    if (f->kind != RECORD_INT)
        return wrong_kind(map, key, "an integer");
    *out = f->i;
    return SC_OK;
}

sc_status record_get_int(const record_map *map, const char *key, int64_t fallback, int64_t *out)
{
    *out = fallback;
    return present(map, key) ? record_need_int(map, key, out) : SC_OK;
}

sc_status record_get_number(const record_map *map, const char *key, double fallback, double *out)
{
    const record_field *f = present(map, key);
    if (f && f->kind != RECORD_NUMBER && f->kind != RECORD_INT)
        return wrong_kind(map, key, "a number");
    *out = f ? f->number : fallback;
    return SC_OK;
}

sc_status record_get_bool(const record_map *map, const char *key, bool fallback, bool *out)
{
    const record_field *f = present(map, key);
    if (f && f->kind != RECORD_BOOL)
        return wrong_kind(map, key, "true or false");
    *out = f ? f->i != 0 : fallback;
    return SC_OK;
}

sc_status record_need_bytes(const record_map *map, const char *key, const void **out, size_t *n)
{
    const record_field *f = present(map, key);
    if (!f)
        return missing(map, key);
    if (f->kind != RECORD_BYTES)
        return wrong_kind(map, key, "a byte string");
    *out = f->bytes;
    *n = f->n;
    return SC_OK;
}

sc_status record_each(const char *path, sc_status (*take)(void *context, const record_map *map),
                      void *context)
{
    sc_status status = SC_OK;
    record_reader *reader = NULL;
    record_map map = {0};
    strbuf where = {0};
    SC_TRY(record_reader_open(path, &reader));
    for (;;) {
        const uint8_t *payload = NULL;
        size_t n = 0;
        uint64_t offset = 0;
        SC_TRY(record_reader_next(reader, &payload, &n, &offset));
        if (payload == NULL)
            break;
        strbuf_clear(&where);
        strbuf_printf(&where, "%s, record at byte %llu", path, (unsigned long long)offset);
        SC_TRY(strbuf_status(&where));
        SC_TRY(record_unpack(payload, n, strbuf_text(&where), &map));
        SC_TRY(take(context, &map));
        record_map_free(&map);
    }
cleanup:
    record_map_free(&map);
    record_reader_close(reader);
    strbuf_free(&where);
    return status;
}
