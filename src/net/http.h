/* An HTTP engine for an endpoint that many small requests go to: one libcurl multi handle, a cap on
 * requests in flight, retries with back-off, no redirects, TLS always verified.
 *
 * The key travels in a header that the engine makes itself; it never goes over plain http except to
 * this machine, and is cut out of every text that the engine gives back. */
#ifndef SC_NET_HTTP_H
#define SC_NET_HTTP_H

#include "base/text.h"

typedef struct http_options {
    const char *key;        /* sent as "Authorization: Bearer KEY", or NULL */
    int64_t in_flight;      /* 16 */
    int64_t max_retries;    /* 8: attempts after the first */
    double timeout;         /* 120 s of wall clock for one attempt */
    double connect_timeout; /* 10 s */
    double backoff_first;   /* 0.5 s */
    double backoff_cap;     /* 8 s */
    size_t max_body;        /* 16 MiB: a longer answer is a failure */
    uint64_t seed;          /* of the jitter */
} http_options;
http_options http_options_default(void);

/* The caller's judgement of a 2xx body. */
typedef enum http_verdict { HTTP_ACCEPT, HTTP_RETRY, HTTP_REJECT } http_verdict;
typedef struct http_answer {
    sc_status status; /* SC_OK: accepted; else why not: SC_NETWORK, SC_BAD_INPUT, SC_BUDGET */
    long http_status; /* 0: none came */
    const char *body; /* NUL-terminated, n bytes; "" */
    size_t n;
    int attempts;
    const char *reason; /* "" if accepted; free of the key */
} http_answer;
typedef struct http_callbacks {
    http_verdict (*judge)(void *context, void *user, const char *body, size_t n, strbuf *reason);
    /* Once per attempt, before it is sent. SC_BUDGET ends this request alone; anything else but SC_OK
     * stops the engine with that status. */
    sc_status (*before_send)(void *context, void *user);
    /* An attempt came to nothing and will be retried; it may have been billed all the same. */
    void (*abandoned)(void *context, void *user, bool maybe_billed);
    /* Once per request, when it is done. Anything but SC_OK stops the engine with that status. */
    sc_status (*done)(void *context, void *user, const http_answer *answer);
    void *context;
} http_callbacks;

typedef struct http_engine http_engine;
sc_status http_engine_create(const http_options *options, const http_callbacks *callbacks, http_engine **out);
/* POST of a JSON body (copied). `number` names the request for its jitter. */
sc_status http_submit(http_engine *e, const char *url, const char *body, size_t n, uint64_t number,
                      void *user);
/* Requests not yet done. */
int64_t http_pending(const http_engine *e);
/* Lets the engine work until fewer than `below` requests are pending. Returns the first failure of a
 * callback, SC_INTERRUPTED, or what no request can get past: SC_AUTH, SC_QUOTA, SC_NETWORK. */
sc_status http_work(http_engine *e, int64_t below);
void http_engine_free(http_engine *e); /* aborts what is on its way; NULL is fine */

/* Is this http(s) address of this very machine? */
bool http_is_loopback(const char *url);

#endif
