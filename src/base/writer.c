/* The atomic writer: a file appears whole, or not at all. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER = 1 << 18 };

struct file_writer {
    char *path;      /* where the file is to appear; a symbolic link is followed */
    char *temporary; /* NULL: written straight, as there is nothing to rename */
    char *buffer;
    size_t used;
    uint64_t offset; /* of the buffer's first byte */
    int fd;
    bool straight, failed;
};

static void writer_free(file_writer *w)
{
    if (w->fd >= 0)
        close(w->fd);
    free(w->path);
    free(w->temporary);
    free(w->buffer);
    free(w);
}

void file_writer_discard(file_writer **w)
{
    if (!*w)
        return;
    if ((*w)->temporary)
        unlink((*w)->temporary);
    writer_free(*w);
    *w = NULL;
}

/* Opens PATH.tmp-XXXXXX under a name that nobody has. mkstemp would do, but for its mode 0600: the
 * results are to be as readable as the user's umask says. */
static sc_status open_temporary(file_writer *w)
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuv";
    size_t n = strlen(w->path) + sizeof ".tmp-XXXXXX";
    sc_status status = SC_OK;
    SC_TRY(sc_alloc(&w->temporary, n, 1));
    for (int attempt = 0; attempt < 100; attempt++) {
        unsigned char bytes[6];
        char name[7] = {0};
        if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
            continue;
        for (int i = 0; i < 6; i++)
            name[i] = letters[bytes[i] & 31];
        (void)snprintf(w->temporary, n, "%s.tmp-%s", w->path, name);
        w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->fd >= 0)
            return SC_OK;
        if (errno != EEXIST && errno != EINTR)
            break;
    }
    int reason = errno;
    /* Nothing was made: nothing is to be removed. */
    free(w->temporary);
    w->temporary = NULL;
    if (reason == ENOENT || reason == ENOTDIR)
        return sc_fail(SC_IO, "Cannot write %s: its folder does not exist; make it first or choose another",
                       w->path);
    errno = reason;
    return sc_fail_errno(SC_IO, "Cannot write %s", w->path);
cleanup:
    return status;
}

sc_status file_writer_open(const char *path, file_writer **out)
{
    sc_status status = SC_OK;
    struct stat info, link_info;
    file_writer *w = NULL;
    *out = NULL;
    SC_TRY(sc_alloc(&w, 1, sizeof *w));
    w->fd = -1;
    SC_TRY(sc_alloc(&w->buffer, BUFFER, 1));
    bool exists = stat(path, &info) == 0;
    if (path_base(path)[0] == '\0' || (exists && S_ISDIR(info.st_mode)))
        SC_TRY(sc_fail(SC_IO, "Cannot write \"%s\": it names a folder; name a file", path));
    /* rename() would replace the link, and leave alone the file it leads to. */
    if (exists && lstat(path, &link_info) == 0 && S_ISLNK(link_info.st_mode))
        w->path = realpath(path, NULL);
    if (!w->path)
        SC_TRY(sc_strdup(&w->path, path));
    if (exists && !S_ISREG(info.st_mode)) {
        w->straight = true;
        w->fd = open(path, O_WRONLY | O_CLOEXEC);
        if (w->fd < 0)
            SC_TRY(sc_fail_errno(SC_IO, "Cannot write %s", path));
    } else {
        SC_TRY(open_temporary(w));
        /* A file that is replaced keeps its mode; where that is refused, the umask's will do. */
        if (exists && fchmod(w->fd, info.st_mode & 07777) != 0)
            errno = 0;
    }
    *out = w;
    w = NULL;
cleanup:
    file_writer_discard(&w);
    return status;
}

static sc_status write_fully(file_writer *w, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t written = w->straight ? write(w->fd, bytes, n) : pwrite(w->fd, bytes, n, (off_t)w->offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            w->failed = true;
            return sc_fail_errno(SC_IO, "Cannot write %s", w->path);
        }
        bytes += written;
        n -= (size_t)written;
        w->offset += (uint64_t)written;
    }
    return SC_OK;
}

static sc_status flush(file_writer *w)
{
    if (w->failed)
        return sc_fail(SC_IO, "%s is not written: an earlier write to it failed", w->path);
    sc_status status = write_fully(w, w->buffer, w->used);
    w->used = 0;
    return status;
}

sc_status file_writer_write(file_writer *w, const void *bytes, size_t n)
{
    sc_status status = SC_OK;
    uint64_t end;
    if (__builtin_add_overflow(file_writer_tell(w), n, &end) || end > INT64_MAX) {
        w->failed = true;
        return sc_fail(SC_IO, "Cannot write %s: it would be larger than a file can be", w->path);
    }
    if (n > BUFFER - w->used) {
        SC_TRY(flush(w));
        if (n >= BUFFER)
            return write_fully(w, bytes, n);
    }
    if (n > 0)
        memcpy(w->buffer + w->used, bytes, n);
    w->used += n;
cleanup:
    return status;
}

sc_status file_writer_puts(file_writer *w, const char *text)
{
    return file_writer_write(w, text, strlen(text));
}

uint64_t file_writer_tell(const file_writer *w)
{
    return w->offset + w->used;
}

sc_status file_writer_seek(file_writer *w, uint64_t offset)
{
    sc_status status = SC_OK;
    SC_TRY(flush(w));
    if (w->straight && offset != w->offset) {
        w->failed = true;
        SC_TRY(sc_fail(SC_IO, "%s is no regular file, so this format cannot be written to it; name a file",
                       w->path));
    }
    if (offset > INT64_MAX) {
        w->failed = true;
        SC_TRY(sc_fail(SC_IO, "Cannot write %s: it would be larger than a file can be", w->path));
    }
    w->offset = offset;
cleanup:
    return status;
}

/* After this the name, too, survives a power cut. File systems that cannot sync a folder say EINVAL. */
static sc_status sync_folder(const char *path)
{
    sc_status status = SC_OK;
    int fd = -1;
    char *folder = path_dir(path);
    if (!folder)
        SC_TRY(sc_fail(SC_MEMORY, "Memory is out while %s is written; free some memory", path));
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* A folder that may be written but not listed cannot be opened: nothing to be done there. */
    if (fd < 0 && errno == EACCES)
        goto cleanup;
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP))
        SC_TRY(sc_fail_errno(SC_IO, "Cannot sync the folder of %s", path));
cleanup:
    if (fd >= 0)
        close(fd);
    free(folder);
    return status;
}

sc_status file_writer_sync(file_writer *w)
{
    sc_status status = SC_OK;
    SC_TRY(flush(w));
    if (!w->straight && fsync(w->fd) != 0) {
        w->failed = true;
        status = sc_fail_errno(SC_IO, "Cannot write %s to the disk", w->path);
    }
cleanup:
    return status;
}

sc_status file_writer_commit(file_writer **writer)
{
    sc_status status = SC_OK;
    file_writer *w = *writer;
    SC_TRY(file_writer_sync(w));
    /* Network file systems tell of a full disk only here. */
    int closed = close(w->fd);
    w->fd = -1;
    if (closed != 0 && errno != EINTR)
        SC_TRY(sc_fail_errno(SC_IO, "Cannot write %s", w->path));
    if (!w->straight) {
        if (rename(w->temporary, w->path) != 0)
            SC_TRY(sc_fail_errno(SC_IO, "Cannot give %s its name", w->path));
        free(w->temporary);
        w->temporary = NULL;
        SC_TRY(sync_folder(w->path));
    }
cleanup:
    file_writer_discard(writer);
    return status;
}

sc_status file_write_all(const char *path, const void *bytes, size_t n)
{
    sc_status status = SC_OK;
    file_writer *w = NULL;
    SC_TRY(file_writer_open(path, &w));
    SC_TRY(file_writer_write(w, bytes, n));
    SC_TRY(file_writer_commit(&w));
cleanup:
    file_writer_discard(&w);
    return status;
}
