/* How much memory this process may still take. */
#ifndef SC_BASE_MEMORY_H
#define SC_BASE_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes: what the kernel has available, or less where a control group (a container's limit, v1 or v2), RLIMIT_AS or the
 * environment's SEEDCORN_MEMORY (bytes) leaves less. Pages of files count as free, for they are given back when they are
 * wanted. -1: not known. */
int64_t memory_available(void);

/* Bytes of memory that this process holds, mapped files included; 0: not known. */
int64_t memory_resident(void);

/* May so many bytes be spent on what only saves time? At most an eighth of what is available. */
bool memory_affords(int64_t bytes);

/* memory_available, of the files /proc/... and /sys/fs/cgroup/... under `root`, and without RLIMIT_AS; for tests. */
int64_t memory_available_in(const char *root);

#ifdef __cplusplus
}
#endif

#endif
