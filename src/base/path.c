/* Paths, folders, and what stands at a path. */
#include "base/file.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *path_join(const char *folder, const char *name)
{
    if (folder[0] == '\0' || name[0] == '/')
        return strdup(name);
    strbuf path = {0};
    strbuf_puts(&path, folder);
    if (!text_ends(folder, "/"))
        strbuf_putc(&path, '/');
    strbuf_puts(&path, name);
    return strbuf_take(&path);
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *path_dir(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return strdup(".");
    while (slash > path && slash[-1] == '/')
        slash--;
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

bool file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool file_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool file_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

sc_status file_size(const char *path, uint64_t *out)
{
    struct stat info;
    *out = 0;
    if (stat(path, &info) != 0)
        return sc_fail_errno(SC_BAD_INPUT, "Cannot look at %s", path);
    if (S_ISDIR(info.st_mode))
        return sc_fail(SC_BAD_INPUT, "%s is a folder; name a file", path);
    *out = (uint64_t)info.st_size;
    return SC_OK;
}

sc_status file_make_dirs(const char *path)
{
    sc_status status = SC_OK;
    char *partial = NULL;
    SC_TRY(sc_strdup(&partial, path));
    for (char *p = partial; *p; p++) {
        /* The end of a part: the last character, or one before a slash. */
        if (*p == '/' || (p[1] != '/' && p[1] != '\0'))
            continue;
        char kept = p[1];
        p[1] = '\0';
        if (mkdir(partial, 0777) != 0 && !file_is_dir(partial)) {
            if (errno == EEXIST || errno == ENOTDIR)
                status = sc_fail(
                    SC_IO, "Cannot make the folder %s: %s is in the way and no folder; choose another name",
                    path, partial);
            else
                status = sc_fail_errno(SC_IO, "Cannot make the folder %s", partial);
            goto cleanup;
        }
        p[1] = kept;
    }
    if (!file_is_dir(path))
        status = sc_fail(SC_IO, "Cannot make the folder \"%s\"; choose another name", path);
cleanup:
    free(partial);
    return status;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

sc_status file_remove_tree(const char *path)
{
    enum { OPEN_FOLDERS = 16 };
    const char *name = path_base(path);
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return sc_fail(SC_USAGE, "\"%s\" is not removed; name a folder by its own name", path);
    /* FTW_PHYS: a symbolic link is removed, not followed. */
    if (nftw(path, remove_entry, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        return sc_fail_errno(SC_IO, "Cannot remove %s", path);
    return SC_OK;
}
