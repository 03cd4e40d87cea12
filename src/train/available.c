/* How much memory there is: what the machine has free, less what a control group or a limit of the process leaves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "train/trainer.h"

/* The number behind `key` in a file of lines, or the file's first number for ""; -1: there is none. */
static int64_t number_in(const char *path, const char *key)
{
    FILE *file = fopen(path, "re");
    char line[256];
    int64_t found = -1;
    while (file != NULL && found < 0 && fgets(line, sizeof(line), file) != NULL)
        if (strncmp(line, key, strlen(key)) == 0) {
            char *end, *start = line + strlen(key);
            const long long number = strtoll(start, &end, 10);
            found = end != start && number >= 0 ? number : -1;
        }
    if (file != NULL)
        fclose(file);
    return found;
}

static int64_t smaller(int64_t a, int64_t b) /* -1: no limit */
{
    return a < 0 ? b : b < 0 || a < b ? a : b;
}

static int64_t less(int64_t limit, int64_t used)
{
    return limit < 0 || used < 0 ? -1 : limit > used ? limit - used : 0;
}

/* File pages that a group can drop are free to it, as they are in MemAvailable. */
static int64_t group_available(const char *limit, const char *used, const char *stat)
{
    int64_t held = number_in(used, ""), pages = number_in(stat, "inactive_file ");
    if (held >= 0 && pages > 0)
        held = held > pages ? held - pages : 0;
    return less(number_in(limit, ""), held);
}

int64_t memory_available(void)
{
    const int64_t kilobytes = number_in("/proc/meminfo", "MemAvailable:");
    int64_t found = kilobytes < 0 ? -1 : kilobytes * 1024;
    found = smaller(found, group_available("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current",
                                           "/sys/fs/cgroup/memory.stat"));
    found = smaller(found, group_available("/sys/fs/cgroup/memory/memory.limit_in_bytes",
                                           "/sys/fs/cgroup/memory/memory.usage_in_bytes",
                                           "/sys/fs/cgroup/memory/memory.stat"));
    struct rlimit limit;
    const int64_t pages = number_in("/proc/self/statm", "");
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && pages >= 0)
        found = smaller(found, less((int64_t)limit.rlim_cur, pages * (int64_t)sysconf(_SC_PAGESIZE)));
    return found;
}

int64_t memory_resident(void)
{
    const int64_t kilobytes = number_in("/proc/self/status", "VmRSS:");
    return kilobytes < 0 ? 0 : kilobytes * 1024;
}
