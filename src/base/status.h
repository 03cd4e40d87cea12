/* Failing with a sentence. Every fallible function returns sc_status; the one that finds the
 * fault writes the sentence with sc_fail(), the ones above it pass the code on with SC_TRY. */
#ifndef SC_BASE_STATUS_H
#define SC_BASE_STATUS_H

#include "seedcorn/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Stores the sentence for sc_last_error() and returns `status`. One sentence: what failed, where
 * (file:line of the input), and what to do about it. Control characters are made visible. */
sc_status sc_fail(sc_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for a failed system call: appends strerror(errno), and picks SC_IO for a full disk,
 * a read-only or forbidden place, SC_MEMORY for ENOMEM, else `status`. */
sc_status sc_fail_errno(sc_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#ifdef __clang_analyzer__
/* The analyzer does not see that a failure is never SC_OK, and would follow paths that do not exist. */
#define sc_fail(status, ...) ((sc_fail)((status), __VA_ARGS__), (status))
#define sc_fail_errno(status, ...) ((sc_fail_errno)((status), __VA_ARGS__), (status))
#endif

/* In a function with `sc_status status` and a `cleanup:` label. */
#define SC_TRY(expression)                                                                                   \
    do {                                                                                                     \
        status = (expression);                                                                               \
        if (status != SC_OK)                                                                                 \
            goto cleanup;                                                                                    \
    } while (0)

/* Allocation that fails with a sentence; `bytes` may come from input (checked for overflow). */
sc_status sc_alloc(void *out_pointer, size_t count, size_t size); /* zeroed; *(void **)out_pointer */
/* Doubles until `needed` items fit; the new ones are not zeroed. */
sc_status sc_grow(void *in_out_pointer, size_t *capacity, size_t needed, size_t size);
sc_status sc_strdup(char **out, const char *text);

#ifdef __cplusplus
}
#endif
#endif
