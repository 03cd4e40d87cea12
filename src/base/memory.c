/* memory: what may still be taken, by the machine, its control groups and the process's own limit. */
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PATH_SIZE = 4096 };

/* The number behind `key` in a file of lines "key number", or the number that is all there is (key NULL); -1: none. */
static int64_t number_in(const char *path, const char *key)
{
    char line[256];
    int64_t found = -1;
    FILE *file = fopen(path, "re");
    const size_t length = key ? strlen(key) : 0;
    while (file && found < 0 && fgets(line, sizeof line, file)) {
        char *end;
        if (key && strncmp(line, key, length) != 0)
            continue;
        const unsigned long long number = strtoull(line + length, &end, 10);
        if (end != line + length) /* "max" is none */
            found = number < INT64_MAX ? (int64_t)number : INT64_MAX;
        else if (!key)
            break;
    }
    if (file)
        fclose(file);
    return found;
}

static int64_t lower(int64_t a, int64_t b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* The names of what is asked of a group, in each version. */
typedef struct group_files {
    const char *limit, *usage, *cached[2];
} group_files;

static const group_files V1 = {
    "memory.limit_in_bytes", "memory.usage_in_bytes", {"total_inactive_file ", "total_active_file "}};
static const group_files V2 = {"memory.max", "memory.current", {"inactive_file ", "active_file "}};

static int64_t group_number(const char *folder, const char *file, const char *key)
{
    char path[PATH_SIZE + 64];
    return snprintf(path, sizeof path, "%s/%s", folder, file) < (int)sizeof path ? number_in(path, key) : -1;
}

/* What is left to one group, -1: it has no limit. */
static int64_t left_in(const char *folder, const group_files *names)
{
    const int64_t limit = group_number(folder, names->limit, NULL);
    int64_t used = group_number(folder, names->usage, NULL);
    if (limit < 0 || used < 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        const int64_t cached = group_number(folder, "memory.stat", names->cached[i]);
        used -= cached > 0 ? cached : 0;
    }
    used = used > 0 ? used : 0;
    return limit > used ? limit - used : 0;
}

/* The group `path` under `mount` and all above it. In a container its own group may be the mount itself. */
static int64_t left_above(const char *mount, const char *path, const group_files *names)
{
    char folder[PATH_SIZE];
    const size_t top = strlen(mount);
    if (snprintf(folder, sizeof folder, "%s%s", mount, path) >= (int)sizeof folder)
        return -1;
    int64_t least = left_in(mount, names);
    for (char *slash; strlen(folder) > top; *slash = 0) {
        least = lower(least, left_in(folder, names));
        slash = strrchr(folder, '/');
    }
    return least;
}

/* Lines of /proc/self/cgroup: "0::/path" of version 2, "4:memory:/path" or "5:cpu,memory:/path" of version 1. */
static int64_t left_to_groups(const char *root)
{
    char path[PATH_SIZE], line[PATH_SIZE];
    int64_t least = -1;
    if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) >= (int)sizeof path)
        return -1;
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = 0;
        const bool second = controllers[1] == 0;
        if (!second && !strstr(controllers + 1, "memory"))
            continue;
        if (snprintf(path, sizeof path, "%s/sys/fs/cgroup%s", root, second ? "" : "/memory") <
            (int)sizeof path)
            least = lower(least, left_above(path, group, second ? &V2 : &V1));
    }
    if (file)
        fclose(file);
    return least;
}

int64_t memory_available_in(const char *root)
{
    char path[PATH_SIZE];
    if (snprintf(path, sizeof path, "%s/proc/meminfo", root) >= (int)sizeof path)
        return -1;
    const int64_t kilobytes = number_in(path, "MemAvailable:");
    return lower(kilobytes < 0 ? -1 : kilobytes * 1024, left_to_groups(root));
}

/* What the environment says, -1: nothing, or no number of bytes. */
static int64_t memory_told(void)
{
    const char *told = getenv("SEEDCORN_MEMORY");
    char *end;
    if (!told || *told < '0' || *told > '9')
        return -1;
    const int64_t bytes = strtoll(told, &end, 10);
    return *end == 0 ? bytes : -1;
}

int64_t memory_available(void)
{
    struct rlimit limit;
    int64_t left = memory_told();
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        const int64_t most = limit.rlim_cur < INT64_MAX ? (int64_t)limit.rlim_cur : INT64_MAX;
        const int64_t pages = number_in("/proc/self/statm", NULL), size = pages * sysconf(_SC_PAGESIZE);
        left = lower(left, pages < 0 ? -1 : most > size ? most - size : 0);
    }
    return lower(left, memory_available_in(""));
}

bool memory_affords(int64_t bytes)
{
    enum { SHARE = 8 };
    const int64_t left = memory_available();
    return left < 0 || bytes <= left / SHARE;
}

int64_t memory_resident(void)
{
    const int64_t kilobytes = number_in("/proc/self/status", "VmRSS:");
    return kilobytes < 0 ? 0 : kilobytes * 1024;
}
