/* Files: read by mmap, written to a temporary name and renamed, read line by line through gzip or
 * zstd. Paths are UTF-8 and relative to the current folder. */
#ifndef SC_BASE_FILE_H
#define SC_BASE_FILE_H

#include <stdbool.h>

#include "base/status.h"
#include "base/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Read-only mapping of a whole file. An empty file has data = "" and size = 0. */
typedef struct file_map {
    const uint8_t *data;
    size_t size;
} file_map;
sc_status file_map_open(const char *path, file_map *out);
void file_map_close(file_map *map);

/* An atomic writer: bytes go to PATH.tmp-XXXXXX in the same folder; commit syncs, renames and syncs
 * the folder; discard leaves nothing behind. Buffered. A path that exists and is no regular file
 * (/dev/stdout, a pipe) cannot be replaced and is written straight. */
typedef struct file_writer file_writer;
sc_status file_writer_open(const char *path, file_writer **out);
sc_status file_writer_write(file_writer *w, const void *bytes, size_t n);
sc_status file_writer_puts(file_writer *w, const char *text);
sc_status file_writer_seek(file_writer *w, uint64_t offset); /* e.g. to fill in a header */
uint64_t file_writer_tell(const file_writer *w);
sc_status file_writer_sync(file_writer *w);    /* all bytes are on the disk, still without their name */
sc_status file_writer_commit(file_writer **w); /* closes in every case; *w becomes NULL */
void file_writer_discard(file_writer **w);     /* fine with NULL */
sc_status file_write_all(const char *path, const void *bytes, size_t n); /* atomic */
sc_status file_read_all(const char *path, strbuf *out);                  /* replaces what out held */

/* Lines of a plain, .gz (many members) or .zst file, chosen by content; a pipe will do. Constant
 * memory: a line longer than max_line is an error that names file:line. A byte order mark is
 * skipped. An error of the reader is final: the next calls give it again. */
typedef struct line_reader line_reader;
sc_status line_reader_open(const char *path, size_t max_line, line_reader **out);
/* The next line without its line end (\n or \r\n), terminated, valid until the next call;
 * *line = NULL at the end. A zero byte inside a line is kept (length tells). */
sc_status line_reader_next(line_reader *r, const char **line, size_t *length);
const char *line_reader_path(const line_reader *r);
int64_t line_reader_line(const line_reader *r);      /* 1-based number of the line given last */
uint64_t line_reader_consumed(const line_reader *r); /* compressed bytes read, for progress */
uint64_t line_reader_size(const line_reader *r);
void line_reader_close(line_reader *r); /* NULL is fine */

/* Looking at files and folders. */
bool file_exists(const char *path);
bool file_is_dir(const char *path);
bool file_same(const char *a, const char *b); /* both exist and are one, by whatever name */
sc_status file_size(const char *path, uint64_t *out);
sc_status file_make_dirs(const char *path);   /* like mkdir -p */
sc_status file_remove_tree(const char *path); /* absent is fine */
sc_status file_sha256(const char *path, char hex[65]);
void sha256_hex(const void *bytes, size_t n, char hex[65]); /* "" if memory is out */
char *path_join(const char *folder, const char *name);      /* malloc'd; NULL if memory is out */
const char *path_base(const char *path);                    /* after the last '/' */
char *path_dir(const char *path);                           /* malloc'd; "." if there is none */

/* One process per folder: flock on FOLDER/.lock. SC_BUSY, with the holder's process id, if held. */
typedef struct file_lock file_lock;
sc_status file_lock_take(const char *folder, file_lock **out);
void file_lock_release(file_lock *lock);

#ifdef __cplusplus
}
#endif
#endif
