/* Zip archives through their central directory; zlib inflates. */
#include "formats/zip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/log.h"

#define END_BYTES 22
#define CENTRAL_BYTES 46
#define LOCAL_BYTES 30
#define CHUNK 262144

struct zip_archive {
    char *path;
    file_map map;
    zip_member *members;
    size_t n, cap;
};

static uint32_t u16_at(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32_at(const uint8_t *p)
{
    return u16_at(p) | u16_at(p + 2) << 16;
}

static sc_status damaged(const char *path, const char *what)
{
    return sc_fail(SC_BAD_INPUT, "%s: not a whole zip archive (%s); fetch it again", path, what);
}

/* The end record stands last, before a comment of up to 65535 bytes. */
static const uint8_t *find_end(const file_map *map)
{
    if (map->size < END_BYTES)
        return NULL;
    size_t lowest = map->size > END_BYTES + 65535 ? map->size - END_BYTES - 65535 : 0;
    for (size_t at = map->size - END_BYTES + 1; at-- > lowest;) {
        if (u32_at(map->data + at) == 0x06054b50 && u16_at(map->data + at + 20) == map->size - at - END_BYTES)
            return map->data + at;
    }
    return NULL;
}

static sc_status read_member(zip_archive *z, const uint8_t *p, size_t left, size_t *used)
{
    if (left < CENTRAL_BYTES || u32_at(p) != 0x02014b50)
        return damaged(z->path, "its directory is cut short");
    size_t name_bytes = u16_at(p + 28);
    *used = CENTRAL_BYTES + name_bytes + u16_at(p + 30) + u16_at(p + 32);
    if (*used > left)
        return damaged(z->path, "its directory is cut short");
    zip_member m = {.method = (uint16_t)u16_at(p + 10),
                    .crc = u32_at(p + 16),
                    .packed = u32_at(p + 20),
                    .size = u32_at(p + 24),
                    .header = u32_at(p + 42)};
    if (m.packed == UINT32_MAX || m.size == UINT32_MAX || m.header == UINT32_MAX || (u16_at(p + 8) & 1))
        return sc_fail(SC_BAD_INPUT, "%s: zip64 and encrypted archives are not read", z->path);
    if (memchr(p + CENTRAL_BYTES, 0, name_bytes))
        return damaged(z->path, "a name holds a zero byte");
    char *name;
    sc_status status = sc_alloc(&name, name_bytes + 1, 1);
    if (status != SC_OK)
        return status;
    memcpy(name, p + CENTRAL_BYTES, name_bytes);
    m.name = name;
    status = sc_grow(&z->members, &z->cap, z->n + 1, sizeof *z->members);
    if (status != SC_OK) {
        free(name);
        return status;
    }
    z->members[z->n++] = m;
    return SC_OK;
}

sc_status zip_open(const char *path, zip_archive **out)
{
    sc_status status;
    zip_archive *z = NULL;
    *out = NULL;
    SC_TRY(sc_alloc(&z, 1, sizeof *z));
    SC_TRY(sc_strdup(&z->path, path));
    SC_TRY(file_map_open(path, &z->map));
    const uint8_t *end = find_end(&z->map);
    if (!end) {
        status = damaged(path, "it has no directory");
        goto cleanup;
    }
    size_t n = u16_at(end + 10), size = u32_at(end + 12), start = u32_at(end + 16),
           end_at = (size_t)(end - z->map.data);
    if (start > end_at || size > end_at - start) {
        status = damaged(path, "its directory lies outside");
        goto cleanup;
    }
    for (size_t i = 0, at = 0, used; i < n; i++, at += used)
        SC_TRY(read_member(z, z->map.data + start + at, size - at, &used));
    *out = z;
    z = NULL;
cleanup:
    zip_close(z);
    return status;
}

void zip_close(zip_archive *z)
{
    if (!z)
        return;
    for (size_t i = 0; i < z->n; i++)
        free((char *)z->members[i].name);
    free(z->members);
    file_map_close(&z->map);
    free(z->path);
    free(z);
}

size_t zip_count(const zip_archive *z)
{
    return z->n;
}

const zip_member *zip_at(const zip_archive *z, size_t i)
{
    return &z->members[i];
}

const zip_member *zip_find(const zip_archive *z, const char *name)
{
    for (size_t i = 0; i < z->n; i++) {
        if (strcmp(z->members[i].name, name) == 0)
            return &z->members[i];
    }
    return NULL;
}

/* Where the member's packed bytes lie: behind its local header, whose lengths may differ. */
static sc_status find_bytes(const zip_archive *z, const zip_member *m, const uint8_t **out)
{
    if (m->header > z->map.size || z->map.size - m->header < LOCAL_BYTES ||
        u32_at(z->map.data + m->header) != 0x04034b50)
        return damaged(z->path, "a member lies outside");
    const uint8_t *p = z->map.data + m->header;
    size_t head = LOCAL_BYTES + u16_at(p + 26) + u16_at(p + 28), left = z->map.size - (size_t)m->header;
    if (head > left || m->packed > left - head)
        return damaged(z->path, "a member is cut short");
    *out = p + head;
    return SC_OK;
}

/* Inflates (or copies) to the writer; never more than the size that the directory states. */
static sc_status unpack(const zip_archive *z, const zip_member *m, const uint8_t *bytes, file_writer *w,
                        uint8_t *chunk)
{
    sc_status status = SC_OK;
    z_stream s = {0};
    uint64_t given = 0, made = 0;
    uLong crc = crc32(0, NULL, 0);
    int result = Z_OK;
    progress *p = progress_begin(path_base(m->name), "bytes", (int64_t)m->size);
    if (m->method == 8 && inflateInit2(&s, -15) != Z_OK) {
        status = sc_fail(SC_MEMORY, "%s: memory does not suffice", z->path);
        goto cleanup;
    }
    while (m->method == 8 ? result == Z_OK : given < m->packed) {
        size_t n;
        SC_TRY(check_cancelled());
        if (m->method == 8) {
            if (s.avail_in == 0) {
                uint64_t more = m->packed - given < CHUNK ? m->packed - given : CHUNK;
                s.next_in = (Bytef *)(bytes + given);
                s.avail_in = (uInt)more;
                given += more;
            }
            s.next_out = chunk;
            s.avail_out = CHUNK;
            result = inflate(&s, Z_NO_FLUSH);
            n = CHUNK - s.avail_out;
        } else {
            n = m->packed - given < CHUNK ? (size_t)(m->packed - given) : CHUNK;
            memcpy(chunk, bytes + given, n);
            given += n;
        }
        if (n > m->size - made) {
            status = damaged(z->path, "a member is longer than it says");
            goto cleanup;
        }
        crc = crc32(crc, chunk, (uInt)n);
        made += n;
        SC_TRY(file_writer_write(w, chunk, n));
        progress_add(p, (int64_t)n);
    }
    if ((m->method == 8 && result != Z_STREAM_END) || made != m->size || crc != m->crc)
        status = damaged(z->path, "a member fails its checksum");
cleanup:
    if (m->method == 8)
        inflateEnd(&s);
    progress_end(p);
    return status;
}

sc_status zip_extract(const zip_archive *z, const zip_member *m, const char *path)
{
    sc_status status;
    file_writer *w = NULL;
    uint8_t *chunk = NULL;
    const uint8_t *bytes;
    if (m->method != 0 && m->method != 8)
        return sc_fail(SC_BAD_INPUT,
                       "%s: member %s is packed by method %u; stored and deflated ones are read", z->path,
                       m->name, m->method);
    SC_TRY(find_bytes(z, m, &bytes));
    SC_TRY(sc_alloc(&chunk, CHUNK, 1));
    SC_TRY(file_writer_open(path, &w));
    SC_TRY(unpack(z, m, bytes, w, chunk));
    SC_TRY(file_writer_commit(&w));
cleanup:
    file_writer_discard(&w);
    free(chunk);
    return status;
}

/* A relative path without empty, "." or ".." parts. */
static bool stays_inside(const char *name)
{
    if (*name == 0 || strchr(name, '\\'))
        return false;
    for (const char *part = name;;) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        if (part[n] == 0 || part[n + 1] == 0)
            return true;
        part += n + 1;
    }
}

sc_status zip_extract_all(const zip_archive *z, const char *folder)
{
    sc_status status = SC_OK;
    char *path = NULL, *parent = NULL;
    for (size_t i = 0; i < z->n; i++) {
        const zip_member *m = &z->members[i];
        if (!stays_inside(m->name)) {
            status = sc_fail(SC_BAD_INPUT, "%s: refuses to extract '%s', which leaves the folder", z->path,
                             m->name);
            goto cleanup;
        }
    }
    for (size_t i = 0; i < z->n; i++) {
        const zip_member *m = &z->members[i];
        if (text_ends(m->name, "/"))
            continue;
        path = path_join(folder, m->name);
        parent = path ? path_dir(path) : NULL;
        if (!parent) {
            status = sc_fail(SC_MEMORY, "%s: memory does not suffice", z->path);
            goto cleanup;
        }
        SC_TRY(file_make_dirs(parent));
        SC_TRY(zip_extract(z, m, path));
        free(path);
        free(parent);
        path = parent = NULL;
    }
cleanup:
    free(path);
    free(parent);
    return status;
}
