/* How much memory this process may still take. */
#ifndef SC_BASE_MEMORY_H
#define SC_BASE_MEMORY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes: what the kernel has available, or less where a control group (a container's limit, v1 or v2) or RLIMIT_AS leaves
 * less. Pages of files count as free, for they are given back when they are wanted. -1: not known. */
int64_t memory_available(void);

/* The same, of the files /proc/... and /sys/fs/cgroup/... under `root`, and without RLIMIT_AS; for tests. */
int64_t memory_available_in(const char *root);

#ifdef __cplusplus
}
#endif

#endif
