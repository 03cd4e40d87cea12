/* Reading a whole file, by mmap or into memory. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

sc_status file_map_open(const char *path, file_map *out)
{
    sc_status status = SC_OK;
    struct stat info;
    *out = (file_map){0};
    /* O_NONBLOCK: a pipe by this name must not make us wait for its writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &info) != 0) {
        status = sc_fail_errno(SC_BAD_INPUT, "Cannot open %s", path);
    } else if (!S_ISREG(info.st_mode)) {
        status = sc_fail(SC_BAD_INPUT, "%s is %s; name a file", path,
                         S_ISDIR(info.st_mode) ? "a folder" : "no regular file");
    } else if ((uint64_t)info.st_size > SIZE_MAX) {
        status = sc_fail(SC_MEMORY, "%s is too large for the addresses of this machine", path);
    } else if (info.st_size == 0) {
        out->data = (const uint8_t *)"";
    } else {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            status = sc_fail_errno(SC_BAD_INPUT, "Cannot map %s into memory", path);
        } else {
            out->data = data;
            out->size = (size_t)info.st_size;
        }
    }
    if (fd >= 0)
        close(fd);
    return status;
}

void file_map_close(file_map *map)
{
    if (map->size > 0)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (file_map){0};
}

sc_status file_read_all(const char *path, strbuf *out)
{
    enum { CHUNK = 1 << 16 };
    sc_status status = SC_OK;
    char *chunk = NULL;
    strbuf_clear(out);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        SC_TRY(sc_fail_errno(SC_BAD_INPUT, "Cannot open %s", path));
    SC_TRY(sc_alloc(&chunk, CHUNK, 1));
    for (;;) {
        ssize_t n = read(fd, chunk, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            SC_TRY(sc_fail_errno(SC_BAD_INPUT, "Cannot read %s", path));
        if (n == 0)
            break;
        strbuf_append(out, chunk, (size_t)n);
        SC_TRY(strbuf_status(out));
    }
    /* An empty file is an empty string, too. */
    strbuf_append(out, "", 0);
    SC_TRY(strbuf_status(out));
cleanup:
    if (status != SC_OK)
        strbuf_clear(out);
    if (fd >= 0)
        close(fd);
    free(chunk);
    return status;
}
