/* Status codes: what every fallible function of libseedcorn returns.
 *
 * A code is also the exit code of the command line tool, so a script reads the same
 * number in both places. The sentence that belongs to it comes from sc_last_error().
 */
#ifndef SEEDCORN_STATUS_H
#define SEEDCORN_STATUS_H

#include <stddef.h>
#include <stdint.h>

#ifndef SC_API
#if defined(__GNUC__) && defined(SC_BUILD)
#define SC_API __attribute__((visibility("default")))
#else
#define SC_API
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sc_status {
    SC_OK = 0,           /* done */
    SC_PARTIAL = 1,      /* done in part: some rows failed and are listed in a file */
    SC_USAGE = 2,        /* wrong flags, or an option out of its range */
    SC_BAD_INPUT = 3,    /* a file that is absent, truncated, malformed or does not fit */
    SC_CONFLICT = 4,     /* the settings differ from those of the run to be resumed */
    SC_DEVICE = 5,       /* the device is absent or failed */
    SC_NETWORK = 6,      /* network or endpoint */
    SC_AUTH = 7,         /* the endpoint refused the key */
    SC_BUDGET = 8,       /* the cap of requests, tokens or money was reached; all work is kept */
    SC_QUOTA = 9,        /* the endpoint's quota is exhausted */
    SC_IO = 10,          /* a file or folder could not be written: full, read-only, no permission */
    SC_MEMORY = 11,      /* memory does not suffice */
    SC_BUSY = 12,        /* another process holds the folder */
    SC_INTERNAL = 70,    /* a bug of ours */
    SC_INTERRUPTED = 130 /* stopped on request; everything finished so far is kept */
} sc_status;

/* The sentence that explains the last failure on this thread: what failed, where, and what
 * to do about it. "" after none. Valid until the next failing call on the same thread. */
SC_API const char *sc_last_error(void);

/* The name of a code, "SC_BAD_INPUT" for 3; "SC_UNKNOWN" for a number that is none. */
SC_API const char *sc_status_name(sc_status status);

/* "1.0.0": the library's version. */
SC_API const char *sc_version(void);

#ifdef __cplusplus
}
#endif
#endif
