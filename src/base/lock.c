/* One process per folder: flock() on FOLDER/.lock. The kernel lets go of it however the process
 * ends, so a lock is never stale. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct file_lock {
    char *path;
    int fd;
};

static sc_status fail_busy(const char *folder, int fd)
{
    char text[32] = {0};
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    long holder = n > 0 ? strtol(text, NULL, 10) : 0;
    if (holder > 0)
        return sc_fail(SC_BUSY, "%s is in use by process %ld; wait until it ends or choose another folder",
                       folder, holder);
    return sc_fail(SC_BUSY, "%s is in use by another process; wait until it ends or choose another folder",
                   folder);
}

/* True if the file locked is still the one of that name: the holder before us removed his. */
static bool still_there(const file_lock *lock)
{
    struct stat locked, named;
    return fstat(lock->fd, &locked) == 0 && stat(lock->path, &named) == 0 && locked.st_dev == named.st_dev &&
           locked.st_ino == named.st_ino;
}

sc_status file_lock_take(const char *folder, file_lock **out)
{
    sc_status status = SC_OK;
    file_lock *lock = NULL;
    *out = NULL;
    SC_TRY(sc_alloc(&lock, 1, sizeof *lock));
    lock->fd = -1;
    lock->path = path_join(folder, ".lock");
    if (!lock->path)
        SC_TRY(sc_fail(SC_MEMORY, "Memory is out while %s is locked; free some memory", folder));
    for (;;) {
        lock->fd = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (lock->fd < 0)
            SC_TRY(sc_fail_errno(SC_IO, "Cannot write to the folder %s", folder));
        int locked;
        do {
            locked = flock(lock->fd, LOCK_EX | LOCK_NB);
        } while (locked != 0 && errno == EINTR);
        if (locked != 0 && errno == EWOULDBLOCK)
            SC_TRY(fail_busy(folder, lock->fd));
        if (locked != 0)
            SC_TRY(sc_fail_errno(SC_IO, "Cannot lock %s", lock->path));
        if (still_there(lock))
            break;
        close(lock->fd);
        lock->fd = -1;
    }
    char text[32];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(lock->fd, 0) != 0 || pwrite(lock->fd, text, (size_t)n, 0) != n)
        SC_TRY(sc_fail_errno(SC_IO, "Cannot write %s", lock->path));
    *out = lock;
    lock = NULL;
cleanup:
    if (lock) {
        if (lock->fd >= 0)
            close(lock->fd);
        free(lock->path);
        free(lock);
    }
    return status;
}

void file_lock_release(file_lock *lock)
{
    if (!lock)
        return;
    /* Removed while still held, so that nobody's lock but ours goes. */
    if (still_there(lock))
        unlink(lock->path);
    close(lock->fd);
    free(lock->path);
    free(lock);
}
