/* The record log: framing, checking, repairing. What a kill can leave behind is an incomplete last
 * record; anything else that does not check is damage, and is reported rather than cut off. */
#include "formats/records.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xxhash.h>

#define MAGIC "SCRECS1\n"
#define MAGIC_BYTES 8
#define FRAME_BYTES 12
/* Bytes hashed in the search for whole records behind a fault; more than any kill leaves behind. */
#define SEARCH_BUDGET (UINT64_C(1) << 30)

struct record_log {
    char *path;
    int fd;
    uint64_t count, size;
};

struct record_reader {
    char *path;
    file_map map;
    size_t at;
    uint64_t torn;
};

static uint64_t checksum(const uint8_t *payload, uint32_t n)
{
    return XXH64(payload, n, n);
}

/* The record at `at`: its size on file, or 0 if it is not whole and right. */
static size_t record_at(const file_map *map, size_t at, const uint8_t **payload, uint32_t *n)
{
    uint64_t sum;
    if (map->size - at < FRAME_BYTES)
        return 0;
    memcpy(n, map->data + at, 4);
    memcpy(&sum, map->data + at + 4, 8);
    *payload = map->data + at + FRAME_BYTES;
    if (*n > RECORDS_MAX_PAYLOAD || *n > map->size - at - FRAME_BYTES || checksum(*payload, *n) != sum)
        return 0;
    return FRAME_BYTES + (size_t)*n;
}

/* SC_OK if the bytes from `at` on are a torn tail: no whole record begins anywhere behind. */
static sc_status check_torn(const char *path, const file_map *map, size_t at)
{
    uint64_t hashed = 0;
    for (size_t i = at + 1; map->size - i >= FRAME_BYTES && i < map->size; i++) {
        uint32_t n;
        const uint8_t *payload;
        memcpy(&n, map->data + i, 4);
        if (n > RECORDS_MAX_PAYLOAD || n > map->size - i - FRAME_BYTES)
            continue;
        hashed += n + 16;
        if (hashed > SEARCH_BUDGET || record_at(map, i, &payload, &n) > 0)
            return sc_fail(SC_BAD_INPUT,
                           "%s: the record at byte %zu is damaged and others follow it; restore the file "
                           "from a copy, or remove it to start afresh",
                           path, at);
    }
    return SC_OK;
}

/* Whether the file begins as a log does; *torn: it is shorter than the magic, but begins like it. */
static sc_status check_magic(const char *path, const file_map *map, bool *torn)
{
    *torn = map->size < MAGIC_BYTES;
    if (memcmp(map->data, MAGIC, *torn ? map->size : MAGIC_BYTES) != 0)
        return sc_fail(SC_BAD_INPUT, "%s: not a record log of Seedcorn", path);
    return SC_OK;
}

/* ---- reading ---- */

sc_status record_reader_open(const char *path, record_reader **out)
{
    sc_status status;
    record_reader *r = NULL;
    bool torn;
    *out = NULL;
    SC_TRY(sc_alloc(&r, 1, sizeof *r));
    SC_TRY(sc_strdup(&r->path, path));
    SC_TRY(file_map_open(path, &r->map));
    SC_TRY(check_magic(path, &r->map, &torn));
    r->at = torn ? r->map.size : MAGIC_BYTES;
    r->torn = torn ? r->map.size : 0;
    *out = r;
    r = NULL;
cleanup:
    record_reader_close(r);
    return status;
}

sc_status record_reader_next(record_reader *r, const uint8_t **payload, size_t *n, uint64_t *offset)
{
    uint32_t length = 0;
    size_t start = r->at;
    const uint8_t *bytes = NULL;
    *payload = NULL;
    *n = 0;
    if (start == r->map.size)
        return SC_OK;
    size_t size = record_at(&r->map, start, &bytes, &length);
    if (size == 0) {
        sc_status status = check_torn(r->path, &r->map, start);
        if (status == SC_OK) {
            r->torn = r->map.size - start;
            r->at = r->map.size;
        }
        return status;
    }
    r->at += size;
    *payload = bytes;
    *n = length;
    if (offset)
        *offset = start;
    return SC_OK;
}

uint64_t record_reader_torn(const record_reader *r)
{
    return r->torn;
}

void record_reader_close(record_reader *r)
{
    if (!r)
        return;
    file_map_close(&r->map);
    free(r->path);
    free(r);
}

/* ---- appending ---- */

/* Counts the whole records of an existing log and tells where they end. */
static sc_status measure(const char *path, uint64_t *count, uint64_t *end)
{
    record_reader *r = NULL;
    sc_status status;
    const uint8_t *payload;
    size_t n;
    *count = 0;
    SC_TRY(record_reader_open(path, &r));
    for (;;) {
        SC_TRY(record_reader_next(r, &payload, &n, NULL));
        if (!payload)
            break;
        ++*count;
    }
    *end = r->map.size - r->torn;
cleanup:
    record_reader_close(r);
    return status;
}

/* All bytes or none: on a fault the file is cut back to the size it had. */
static sc_status write_whole(record_log *log, struct iovec *parts, int n_parts)
{
    uint64_t total = 0, done = 0;
    for (int i = 0; i < n_parts; i++)
        total += parts[i].iov_len;
    while (done < total) {
        ssize_t wrote = writev(log->fd, parts, n_parts);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0) {
            sc_status status = sc_fail_errno(SC_IO, "%s: cannot append a record", log->path);
            if (ftruncate(log->fd, (off_t)log->size) != 0)
                return sc_fail_errno(SC_IO, "%s: cannot append a record, nor take the begun one back",
                                     log->path);
            return status;
        }
        done += (uint64_t)wrote;
        size_t skip = (size_t)wrote;
        for (int i = 0; i < n_parts && skip > 0; i++) {
            size_t piece = skip < parts[i].iov_len ? skip : parts[i].iov_len;
            parts[i].iov_base = (char *)parts[i].iov_base + piece;
            parts[i].iov_len -= piece;
            skip -= piece;
        }
    }
    log->size += total;
    return SC_OK;
}

/* A new file's name must be on the disk as well. */
static sc_status sync_folder(const char *path)
{
    sc_status status = SC_OK;
    char *folder = path_dir(path);
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0 || fsync(fd) != 0)
        status = sc_fail_errno(SC_IO, "%s: cannot sync the folder", path);
    if (fd >= 0)
        close(fd);
    free(folder);
    return status;
}

/* The kernel lets go of it however the process ends. */
static sc_status lock(const record_log *log)
{
    if (flock(log->fd, LOCK_EX | LOCK_NB) == 0)
        return SC_OK;
    return errno == EWOULDBLOCK
               ? sc_fail(SC_BUSY, "%s: another process is writing it; wait for that one to end", log->path)
               : sc_fail_errno(SC_IO, "%s: cannot lock the log", log->path);
}

sc_status record_log_open(const char *path, uint64_t *dropped, record_log **out)
{
    sc_status status;
    record_log *log = NULL;
    uint64_t end = 0, size = 0;
    *out = NULL;
    if (dropped)
        *dropped = 0;
    SC_TRY(sc_alloc(&log, 1, sizeof *log));
    log->fd = -1;
    SC_TRY(sc_strdup(&log->path, path));
    bool exists = file_exists(path);
    log->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (log->fd < 0) {
        status = sc_fail_errno(SC_IO, "%s: cannot open the log for appending", path);
        goto cleanup;
    }
    SC_TRY(lock(log));
    SC_TRY(file_size(path, &size));
    if (size > 0)
        SC_TRY(measure(path, &log->count, &end));
    if (size > end && ftruncate(log->fd, (off_t)end) != 0) {
        status = sc_fail_errno(SC_IO, "%s: cannot cut off the incomplete last record", path);
        goto cleanup;
    }
    if (dropped)
        *dropped = size - end;
    log->size = end;
    if (end == 0) {
        struct iovec magic = {(void *)MAGIC, MAGIC_BYTES};
        SC_TRY(write_whole(log, &magic, 1));
    }
    if (end == 0 || size > end)
        SC_TRY(record_log_sync(log));
    if (!exists)
        SC_TRY(sync_folder(path));
    *out = log;
    log = NULL;
cleanup:
    record_log_close(log);
    return status;
}

sc_status record_log_append(record_log *log, const void *payload, size_t n, bool sync)
{
    if (n > RECORDS_MAX_PAYLOAD)
        return sc_fail(SC_BAD_INPUT, "%s: a record of %zu bytes is larger than the limit of %u", log->path, n,
                       RECORDS_MAX_PAYLOAD);
    uint8_t frame[FRAME_BYTES];
    uint32_t length = (uint32_t)n;
    uint64_t sum = checksum(payload, length);
    memcpy(frame, &length, 4);
    memcpy(frame + 4, &sum, 8);
    struct iovec parts[2] = {{frame, FRAME_BYTES}, {(void *)payload, n}};
    sc_status status = write_whole(log, parts, 2);
    if (status != SC_OK)
        return status;
    log->count++;
    return sync ? record_log_sync(log) : SC_OK;
}

sc_status record_log_sync(record_log *log)
{
    return fdatasync(log->fd) == 0 ? SC_OK
                                   : sc_fail_errno(SC_IO, "%s: cannot sync the log to the disk", log->path);
}

uint64_t record_log_count(const record_log *log)
{
    return log->count;
}

uint64_t record_log_size(const record_log *log)
{
    return log->size;
}

void record_log_close(record_log *log)
{
    if (!log)
        return;
    if (log->fd >= 0)
        close(log->fd);
    free(log->path);
    free(log);
}
