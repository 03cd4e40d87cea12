/* What an HTTP outcome means for a request to a language model's endpoint, and how long to wait. */
#ifndef SC_NET_RETRY_H
#define SC_NET_RETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum retry_class {
    RETRY_NONE,      /* an answer (2xx) */
    RETRY_TRANSIENT, /* a broken connection, 408, 409, 5xx: again after a pause */
    RETRY_CAPACITY,  /* 429, 503, 529: the same, and nothing else is sent meanwhile */
    RETRY_REJECTED,  /* any other 4xx: this request will never succeed */
    RETRY_AUTH,      /* 401, 403: no request will */
    RETRY_QUOTA,     /* the account is out of money or quota */
    RETRY_REDIRECT,  /* 3xx: never followed, as the key would travel */
    RETRY_FATAL      /* the address or the certificate is wrong */
} retry_class;

/* `curl_code`: a CURLcode. The body (may be NULL) tells quota from rate limit under 429. */
retry_class retry_classify(int curl_code, long http_status, const char *body, size_t n);

/* Seconds asked for by retry-after-ms (milliseconds) or Retry-After (seconds or an HTTP date), the
 * former first; either may be NULL. -1: none, or not readable. `now`: seconds since 1970. */
double retry_after(const char *retry_after_ms, const char *retry_after_value, double now);

/* Exponential with jitter: first * 2^attempt, at most `cap`, times 1 - u/4 with u drawn by
 * (seed, RANDOM_NET, number, attempt). */
double retry_backoff(double first, double cap, uint64_t seed, uint64_t number, int attempt);

#endif
