/* Lines of a plain, gzip or zstd file in constant memory. The format is told by its first bytes:
 * RFC 1952 (gzip, section 2.3.1), RFC 8878 (zstd, section 3.1.1). */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>
#include <zstd.h>

enum { INPUT = 1 << 17, OUTPUT = 1 << 17 };

typedef enum line_format { FORMAT_PLAIN, FORMAT_GZIP, FORMAT_ZSTD } line_format;

struct line_reader {
    char *path;
    int fd;
    line_format format;
    size_t max_line;
    uint64_t size, consumed;
    int64_t line_number;

    unsigned char *input; /* [INPUT] bytes of the file; input_used of input_size are worked off */
    size_t input_size, input_used;
    bool input_ended;

    unsigned char *output; /* [OUTPUT] decompressed bytes; a plain file needs none */
    const unsigned char *chunk;
    size_t chunk_size, chunk_used;

    z_stream gzip;
    bool gzip_open, gzip_between; /* between two members */
    ZSTD_DStream *zstd;
    bool zstd_inside; /* inside a frame */

    strbuf line;
    sc_status failed;
};

/* What cannot be read, but is easily taken for lines. */
static const struct {
    const char *magic;
    size_t n;
    const char *sentence;
} foreign[] = {
    {"BZh", 3, "is a bzip2 archive; unpack it, or recompress it with gzip or zstd"},
    {"\xFD"
     "7zXZ",
     5, "is an xz archive; unpack it, or recompress it with gzip or zstd"},
    {"PK\x03\x04", 4, "is a zip archive; unpack it"},
    {"PAR1", 4, "is a Parquet file; export it as JSON lines or CSV"},
    {"\xFF\xFE", 2, "is UTF-16 text; save it as UTF-8"},
    {"\xFE\xFF", 2, "is UTF-16 text; save it as UTF-8"},
};

/* Appends what the file has to input[input_size..). */
static sc_status read_some(line_reader *r)
{
    while (!r->input_ended) {
        ssize_t n = read(r->fd, r->input + r->input_size, INPUT - r->input_size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sc_fail_errno(SC_BAD_INPUT, "Cannot read %s", r->path);
        r->input_ended = n == 0;
        r->input_size += (size_t)n;
        r->consumed += (uint64_t)n;
        break;
    }
    return SC_OK;
}

static sc_status refill(line_reader *r)
{
    r->input_used = r->input_size = 0;
    return read_some(r);
}

static bool starts_with(const line_reader *r, const char *magic, size_t n)
{
    return r->input_size - r->input_used >= n && memcmp(r->input + r->input_used, magic, n) == 0;
}

/* A frame, or a skippable frame (0x184D2A50 .. 0x184D2A5F), with which pzstd begins. */
static bool is_zstd(const line_reader *r)
{
    return starts_with(r, "\x28\xB5\x2F\xFD", 4) || (r->input_size >= 4 && (r->input[0] & 0xF0) == 0x50 &&
                                                     memcmp(r->input + 1, "\x2A\x4D\x18", 3) == 0);
}

static sc_status find_format(line_reader *r)
{
    sc_status status = SC_OK;
    /* A pipe may give one byte at a time. */
    while (!r->input_ended && r->input_size < 8)
        SC_TRY(read_some(r));
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        if (starts_with(r, foreign[i].magic, foreign[i].n))
            SC_TRY(sc_fail(SC_BAD_INPUT, "%s %s", r->path, foreign[i].sentence));
    }
    if (starts_with(r, "\x1F\x8B", 2)) {
        r->format = FORMAT_GZIP;
        /* 15: the largest window; + 16: with gzip's header and check sum. */
        if (inflateInit2(&r->gzip, 15 + 16) != Z_OK)
            SC_TRY(sc_fail(SC_MEMORY, "Memory is out for reading %s; free some memory", r->path));
        r->gzip_open = true;
    } else if (is_zstd(r)) {
        r->format = FORMAT_ZSTD;
        r->zstd = ZSTD_createDStream();
        if (!r->zstd || ZSTD_isError(ZSTD_initDStream(r->zstd)))
            SC_TRY(sc_fail(SC_MEMORY, "Memory is out for reading %s; free some memory", r->path));
    }
    if (r->format != FORMAT_PLAIN)
        SC_TRY(sc_alloc(&r->output, OUTPUT, 1));
cleanup:
    return status;
}

sc_status line_reader_open(const char *path, size_t max_line, line_reader **out)
{
    sc_status status = SC_OK;
    struct stat info;
    line_reader *r = NULL;
    *out = NULL;
    SC_TRY(sc_alloc(&r, 1, sizeof *r));
    r->fd = -1;
    r->max_line = max_line < PTRDIFF_MAX ? max_line : PTRDIFF_MAX; /* one more must not overflow */
    SC_TRY(sc_strdup(&r->path, path));
    SC_TRY(sc_alloc(&r->input, INPUT, 1));
    r->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0 || fstat(r->fd, &info) != 0)
        SC_TRY(sc_fail_errno(SC_BAD_INPUT, "Cannot open %s", path));
    if (S_ISDIR(info.st_mode))
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s is a folder; name a file", path));
    r->size = S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
    SC_TRY(find_format(r));
    *out = r;
    r = NULL;
cleanup:
    line_reader_close(r);
    return status;
}

void line_reader_close(line_reader *r)
{
    if (!r)
        return;
    if (r->gzip_open)
        inflateEnd(&r->gzip);
    ZSTD_freeDStream(r->zstd);
    if (r->fd >= 0)
        close(r->fd);
    strbuf_free(&r->line);
    free(r->output);
    free(r->input);
    free(r->path);
    free(r);
}

static sc_status fail_truncated(const line_reader *r, const char *format)
{
    return sc_fail(SC_BAD_INPUT,
                   "%s is truncated: its %s data ends too early, after line %lld; get the file again",
                   r->path, format, (long long)r->line_number);
}

static sc_status fail_damaged(const line_reader *r, const char *format, const char *reason)
{
    return sc_fail(SC_BAD_INPUT,
                   "%s is damaged: its %s data is wrong after line %lld (%s); get the file again", r->path,
                   format, (long long)r->line_number, reason);
}

/* After a gzip member comes another one, or the end; zero bytes up to the end are the padding of
 * tapes, which gzip ignores as well. */
static sc_status next_member(line_reader *r, bool *ended)
{
    sc_status status = SC_OK;
    bool padding = false;
    *ended = false;
    for (;;) {
        /* Two bytes must lie together. */
        if (r->input_size - r->input_used < 2 && !r->input_ended) {
            r->input_size -= r->input_used;
            memmove(r->input, r->input + r->input_used, r->input_size);
            r->input_used = 0;
            SC_TRY(read_some(r));
            continue;
        }
        if (r->input_used == r->input_size) {
            *ended = true;
            return SC_OK;
        }
        if (r->input[r->input_used] != 0)
            break;
        padding = true;
        r->input_used++;
    }
    if (padding || !starts_with(r, "\x1F\x8B", 2))
        return sc_fail(SC_BAD_INPUT,
                       "%s: something else follows the gzip data after line %lld; get the file again",
                       r->path, (long long)r->line_number);
    if (inflateReset(&r->gzip) != Z_OK)
        return sc_fail(SC_INTERNAL, "zlib failed to go on in %s; report this", r->path);
    r->gzip_between = false;
cleanup:
    return status;
}

static sc_status next_gzip(line_reader *r)
{
    sc_status status = SC_OK;
    while (r->chunk_size == 0) {
        if (r->gzip_between) {
            bool ended;
            SC_TRY(next_member(r, &ended));
            if (ended)
                return SC_OK;
        }
        if (r->input_used == r->input_size && !r->input_ended)
            SC_TRY(refill(r));
        r->gzip.next_in = r->input + r->input_used;
        r->gzip.avail_in = (uInt)(r->input_size - r->input_used);
        r->gzip.next_out = r->output;
        r->gzip.avail_out = OUTPUT;
        int result = inflate(&r->gzip, Z_NO_FLUSH);
        r->input_used = r->input_size - r->gzip.avail_in;
        r->chunk_size = OUTPUT - r->gzip.avail_out;
        if (result == Z_STREAM_END)
            r->gzip_between = true;
        else if (result == Z_BUF_ERROR && r->input_ended && r->chunk_size == 0)
            return fail_truncated(r, "gzip");
        else if (result == Z_MEM_ERROR)
            return sc_fail(SC_MEMORY, "Memory is out for reading %s; free some memory", r->path);
        else if (result != Z_OK && result != Z_BUF_ERROR)
            return fail_damaged(r, "gzip", r->gzip.msg ? r->gzip.msg : "a preset dictionary");
    }
    r->chunk = r->output;
cleanup:
    return status;
}

static sc_status next_zstd(line_reader *r)
{
    sc_status status = SC_OK;
    while (r->chunk_size == 0) {
        if (r->input_used == r->input_size && !r->input_ended)
            SC_TRY(refill(r));
        if (r->input_used == r->input_size && r->input_ended && !r->zstd_inside)
            return SC_OK;
        ZSTD_inBuffer in = {r->input, r->input_size, r->input_used};
        ZSTD_outBuffer out = {r->output, OUTPUT, 0};
        /* 0: a frame has ended; more: there is more of it to come, or to be flushed. */
        size_t result = ZSTD_decompressStream(r->zstd, &out, &in);
        if (ZSTD_isError(result))
            return fail_damaged(r, "zstd", ZSTD_getErrorName(result));
        bool stuck = in.pos == r->input_used && out.pos == 0;
        r->input_used = in.pos;
        r->chunk_size = out.pos;
        r->zstd_inside = result != 0;
        if (stuck && r->input_ended && r->input_used == r->input_size)
            return fail_truncated(r, "zstd");
    }
    r->chunk = r->output;
cleanup:
    return status;
}

/* The next bytes, decompressed; chunk_size = 0 at the end. */
static sc_status next_chunk(line_reader *r)
{
    sc_status status = SC_OK;
    r->chunk_size = r->chunk_used = 0;
    switch (r->format) {
    case FORMAT_GZIP:
        return next_gzip(r);
    case FORMAT_ZSTD:
        return next_zstd(r);
    case FORMAT_PLAIN:
        break;
    }
    if (r->input_used == r->input_size)
        SC_TRY(refill(r));
    r->chunk = r->input + r->input_used;
    r->chunk_size = r->input_size - r->input_used;
    r->input_used = r->input_size;
cleanup:
    return status;
}

static sc_status fail_too_long(const line_reader *r)
{
    return sc_fail(SC_BAD_INPUT, "%s:%lld: the line is longer than %zu bytes; is this a file of lines?",
                   r->path, (long long)r->line_number + 1, r->max_line);
}

static sc_status read_line(line_reader *r, const char **line, size_t *length)
{
    sc_status status = SC_OK;
    bool any = false, whole = false;
    strbuf_clear(&r->line);
    while (!whole) {
        if (r->chunk_used == r->chunk_size) {
            SC_TRY(next_chunk(r));
            if (r->chunk_size == 0)
                break;
        }
        const unsigned char *start = r->chunk + r->chunk_used;
        size_t left = r->chunk_size - r->chunk_used;
        const unsigned char *newline = memchr(start, '\n', left);
        size_t n = newline ? (size_t)(newline - start) : left;
        /* One more than max_line: it may be the \r of the line's end. */
        if (n > r->max_line + 1 || r->line.len > r->max_line + 1 - n)
            SC_TRY(fail_too_long(r));
        strbuf_append(&r->line, (const char *)start, n);
        SC_TRY(strbuf_status(&r->line));
        r->chunk_used += n + (newline != NULL);
        any = true;
        whole = newline != NULL;
    }
    if (!any)
        goto cleanup;
    if (whole && r->line.len > 0 && r->line.data[r->line.len - 1] == '\r')
        r->line.data[--r->line.len] = '\0';
    if (r->line.len > r->max_line)
        SC_TRY(fail_too_long(r));
    r->line_number++;
    *line = strbuf_text(&r->line);
    *length = r->line.len;
    if (r->line_number == 1 && r->line.len >= 3 && memcmp(*line, "\xEF\xBB\xBF", 3) == 0) {
        *line += 3;
        *length -= 3;
    }
cleanup:
    return status;
}

sc_status line_reader_next(line_reader *r, const char **line, size_t *length)
{
    *line = NULL;
    *length = 0;
    if (r->failed != SC_OK)
        return sc_fail(r->failed, "%s cannot be read on after line %lld: an earlier read of it failed",
                       r->path, (long long)r->line_number);
    r->failed = read_line(r, line, length);
    return r->failed;
}

const char *line_reader_path(const line_reader *r)
{
    return r->path;
}

int64_t line_reader_line(const line_reader *r)
{
    return r->line_number;
}

uint64_t line_reader_consumed(const line_reader *r)
{
    return r->consumed;
}

uint64_t line_reader_size(const line_reader *r)
{
    return r->size;
}
