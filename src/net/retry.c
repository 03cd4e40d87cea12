/* Classes follow the public behaviour of the OpenAI API and its client: 408, 409, 429 and 5xx are
 * retried; the account's state under 429 is told by error.code. */
#include "net/retry.h"

#include <curl/curl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

static bool contains(const char *body, size_t n, const char *word)
{
    return body != NULL && memmem(body, n, word, strlen(word)) != NULL;
}

retry_class retry_classify(int curl_code, long http_status, const char *body, size_t n)
{
    switch (curl_code) {
    case CURLE_OK:
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
        return RETRY_TRANSIENT;
    default:
        return RETRY_FATAL;
    }
    if (http_status >= 200 && http_status < 300)
        return RETRY_NONE;
    if (http_status >= 300 && http_status < 400)
        return RETRY_REDIRECT;
    if (http_status == 401 || http_status == 403)
        return RETRY_AUTH;
    if (http_status == 402)
        return RETRY_QUOTA;
    if (http_status == 429)
        return contains(body, n, "insufficient_quota") || contains(body, n, "credit_balance_exhausted") ||
                       contains(body, n, "billing_hard_limit_reached")
                   ? RETRY_QUOTA
                   : RETRY_CAPACITY;
    if (http_status == 503 || http_status == 529)
        return RETRY_CAPACITY;
    if (http_status == 408 || http_status == 409 || http_status >= 500 || http_status < 200)
        return RETRY_TRANSIENT;
    return RETRY_REJECTED;
}

/* A number of at least 0, alone in its header; -1 if it is none. */
static double read_number(const char *text)
{
    char *end = NULL;
    if (text == NULL || (text[0] != '.' && (text[0] < '0' || text[0] > '9')) || strpbrk(text, "xX") != NULL)
        return -1;
    double value = strtod(text, &end);
    while (*end == ' ' || *end == '\t')
        end++;
    return *end == '\0' && isfinite(value) && value >= 0 ? value : -1;
}

double retry_after(const char *retry_after_ms, const char *retry_after_value, double now)
{
    double ms = read_number(retry_after_ms);
    if (ms >= 0)
        return ms / 1000.0;
    double seconds = read_number(retry_after_value);
    if (seconds >= 0)
        return seconds;
    if (retry_after_value == NULL)
        return -1;
    time_t at = curl_getdate(retry_after_value, NULL);
    if (at == (time_t)-1)
        return -1;
    double wait = (double)at - now;
    return wait > 0 ? wait : 0;
}

double retry_backoff(double first, double cap, uint64_t seed, uint64_t number, int attempt)
{
    random_stream r = random_at(seed, RANDOM_NET, number, (uint32_t)attempt);
    double wait = first * pow(2.0, attempt < 30 ? attempt : 30);
    return (wait < cap ? wait : cap) * (1.0 - 0.25 * random_uniform(&r));
}
