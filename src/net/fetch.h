/* One file over HTTP(S), resumable: for models and data sets (the teacher's requests have an engine
 * of their own). */
#ifndef SC_NET_FETCH_H
#define SC_NET_FETCH_H

#include "base/text.h"

typedef struct fetch_options {
    const char *bearer; /* token, or NULL; never logged, never sent to another host after a redirect,
                           nor unencrypted to a host that is not this machine */
    const char *sha256; /* expected, 64 lower-case hex digits, or NULL */
    int64_t size;       /* expected bytes, -1: unknown */
    const char *label;  /* of the progress, NULL: the file's name */
    int64_t attempts;   /* connections in a row that bring nothing before it gives up; 0: 5 */
    int64_t pause_ms;   /* before the second such attempt, doubled each time; 0: 1000 */
} fetch_options;

/* Fetches `url` (http: or https:) to `path`. Bytes go to PATH.part, with the URL and the server's
 * validator in PATH.part.json; a broken download goes on from there (Range with If-Range), in this
 * call or in the next. A size or SHA-256 that differs is SC_BAD_INPUT and the bytes are thrown away.
 * 401 and 403 are SC_AUTH, 404 SC_BAD_INPUT, the rest SC_NETWORK. `sha256` (or NULL) gets the file's. */
sc_status fetch_file(const char *url, const char *path, const fetch_options *options, char sha256[65]);

/* A small answer (an API's JSON) into `out`; more than `limit` bytes is SC_BAD_INPUT. */
sc_status fetch_text(const char *url, const fetch_options *options, size_t limit, strbuf *out);

#endif
