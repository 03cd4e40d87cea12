/* The engine's loop: start what may start, let libcurl work, sort what came back. Retries wait in the
 * same list as everything else, so one slow request never holds the others up. */
#include "net/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/log.h"
#include "net/limiter.h"
#include "net/retry.h"

/* A server that asks for a longer pause than this is told apart from one that is busy. */
static const double LONGEST_WAIT = 600.0;

typedef struct job {
    char *url, *body;
    size_t n;
    uint64_t number;
    void *user;
    int attempts;
    double not_before;
    CURL *easy; /* while it is on its way */
    strbuf answer;
    bool too_long;
    size_t max_body;
    char error[CURL_ERROR_SIZE];
} job;

struct http_engine {
    http_options options;
    http_callbacks callbacks;
    CURLM *multi;
    struct curl_slist *headers;
    char *key;
    limiter limits;
    job **jobs; /* in order of submission */
    size_t n_jobs, cap_jobs;
    bool succeeded; /* any request, ever */
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static void start_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

http_options http_options_default(void)
{
    return (http_options){.in_flight = 16,
                          .max_retries = 8,
                          .timeout = 120.0,
                          .connect_timeout = 10.0,
                          .backoff_first = 0.5,
                          .backoff_cap = 8.0,
                          .max_body = 16u << 20};
}

/* The parts of an address that matter here; false if it is not one. */
static bool url_parts(const char *url, bool *plain, bool *loopback)
{
    CURLU *u = curl_url();
    char *scheme = NULL, *host = NULL;
    bool ok = u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
              (strcasecmp(scheme, "http") == 0 || strcasecmp(scheme, "https") == 0);
    if (ok) {
        unsigned a, b, c, d;
        char rest;
        *plain = strcasecmp(scheme, "http") == 0;
        *loopback = strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
                    strcmp(host, "::1") == 0 ||
                    (sscanf(host, "%u.%u.%u.%u%c", &a, &b, &c, &d, &rest) == 4 && a == 127);
    }
    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(u);
    return ok;
}

bool http_is_loopback(const char *url)
{
    bool plain = false, loopback = false;
    return url_parts(url, &plain, &loopback) && loopback;
}

/* Takes the key out of a text from outside: error bodies repeat what was sent. */
static void scrub(const http_engine *e, strbuf *out, const char *text, size_t n)
{
    size_t key = e->key != NULL ? strlen(e->key) : 0;
    strbuf clean = {0};
    utf8_sanitize(&clean, text, n);
    const char *p = strbuf_text(&clean);
    while (*p != '\0') {
        if (key > 0 && strncmp(p, e->key, key) == 0) {
            strbuf_puts(out, "[key]");
            p += key;
        } else {
            strbuf_putc(out, (unsigned char)*p < 0x20 ? ' ' : *p);
            p++;
        }
    }
    strbuf_free(&clean);
}

sc_status http_engine_create(const http_options *options, const http_callbacks *callbacks, http_engine **out)
{
    sc_status status = SC_OK;
    http_engine *e = NULL;
    strbuf header = {0};
    *out = NULL;
    pthread_once(&curl_once, start_curl);
    SC_TRY(sc_alloc(&e, 1, sizeof *e));
    e->options = *options;
    e->callbacks = *callbacks;
    e->limits.cap = options->in_flight;
    e->options.key = NULL;
    if (options->key != NULL) {
        for (const char *p = options->key; *p != '\0'; p++)
            if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f) {
                status = sc_fail(
                    SC_USAGE, "the key holds a blank or a character that no header can carry; set it again");
                goto cleanup;
            }
        SC_TRY(sc_strdup(&e->key, options->key));
        strbuf_printf(&header, "Authorization: Bearer %s", options->key);
        SC_TRY(strbuf_status(&header));
        e->headers = curl_slist_append(e->headers, strbuf_text(&header));
    }
    e->headers = curl_slist_append(e->headers, "Content-Type: application/json");
    e->headers = curl_slist_append(e->headers, "Accept: application/json");
    e->headers = curl_slist_append(e->headers, "Expect:"); /* no round trip before a large body */
    e->multi = curl_multi_init();
    if (e->multi == NULL || e->headers == NULL) {
        status = sc_fail(SC_MEMORY, "libcurl could not be started: memory does not suffice");
        goto cleanup;
    }
    curl_multi_setopt(e->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)options->in_flight);
    *out = e;
    e = NULL;
cleanup:
    if (header.data != NULL)
        explicit_bzero(header.data, header.len);
    strbuf_free(&header);
    http_engine_free(e);
    return status;
}

static void job_free(http_engine *e, job *j)
{
    if (j->easy != NULL) {
        curl_multi_remove_handle(e->multi, j->easy);
        curl_easy_cleanup(j->easy);
    }
    free(j->url);
    free(j->body);
    strbuf_free(&j->answer);
    free(j);
}

void http_engine_free(http_engine *e)
{
    if (e == NULL)
        return;
    for (size_t i = 0; i < e->n_jobs; i++)
        job_free(e, e->jobs[i]);
    free(e->jobs);
    if (e->multi != NULL)
        curl_multi_cleanup(e->multi);
    for (struct curl_slist *h = e->headers; h != NULL; h = h->next)
        explicit_bzero(h->data, strlen(h->data));
    curl_slist_free_all(e->headers);
    if (e->key != NULL)
        explicit_bzero(e->key, strlen(e->key));
    free(e->key);
    free(e);
}

sc_status http_submit(http_engine *e, const char *url, const char *body, size_t n, uint64_t number,
                      void *user)
{
    sc_status status = SC_OK;
    job *j = NULL;
    bool plain = false, loopback = false;
    if (!url_parts(url, &plain, &loopback)) {
        status = sc_fail(SC_USAGE, "%.200s is not an http or https address; check --base-url", url);
        goto cleanup;
    }
    if (plain && !loopback && e->key != NULL) {
        status = sc_fail(SC_USAGE,
                         "the key is not sent over plain http to another machine; use https in --base-url");
        goto cleanup;
    }
    SC_TRY(sc_grow(&e->jobs, &e->cap_jobs, e->n_jobs + 1, sizeof *e->jobs));
    SC_TRY(sc_alloc(&j, 1, sizeof *j));
    SC_TRY(sc_strdup(&j->url, url));
    SC_TRY(sc_alloc(&j->body, n + 1, 1));
    memcpy(j->body, body, n);
    j->n = n;
    j->number = number;
    j->user = user;
    j->max_body = e->options.max_body;
    e->jobs[e->n_jobs++] = j;
    j = NULL;
cleanup:
    if (j != NULL)
        job_free(e, j);
    return status;
}

int64_t http_pending(const http_engine *e)
{
    return (int64_t)e->n_jobs;
}

static size_t receive(char *bytes, size_t size, size_t n, void *user)
{
    job *j = user;
    if (j->answer.len + size * n > j->max_body) {
        j->too_long = true;
        return 0;
    }
    strbuf_append(&j->answer, bytes, size * n);
    return j->answer.failed ? 0 : size * n;
}

static sc_status start(http_engine *e, job *j)
{
    bool plain = false, loopback = false;
    url_parts(j->url, &plain, &loopback);
    CURL *c = curl_easy_init();
    if (c == NULL)
        return sc_fail(SC_MEMORY, "libcurl could not be started: memory does not suffice");
    strbuf_clear(&j->answer);
    j->too_long = false;
    j->error[0] = '\0';
    curl_easy_setopt(c, CURLOPT_URL, j->url);
    curl_easy_setopt(c, CURLOPT_POST, 1L);
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)j->n);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, j->body);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, e->headers);
    curl_easy_setopt(c, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE); /* a proxy never sees the key */
    curl_easy_setopt(c, CURLOPT_USERAGENT, "seedcorn/" SC_VERSION);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, j);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, j->error);
    curl_easy_setopt(c, CURLOPT_PRIVATE, j);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(c, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)(e->options.connect_timeout * 1000.0));
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)(e->options.timeout * 1000.0));
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
    if (plain)
        curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    if (loopback)
        curl_easy_setopt(c, CURLOPT_PROXY, "");
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(c, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    if (curl_multi_add_handle(e->multi, c) != CURLM_OK) {
        curl_easy_cleanup(c);
        return sc_fail(SC_INTERNAL, "libcurl refused a request");
    }
    j->easy = c;
    j->attempts++;
    limiter_started(&e->limits);
    return SC_OK;
}

static const char *header_of(CURL *easy, const char *name)
{
#if LIBCURL_VERSION_NUM >= 0x075400
    struct curl_header *h = NULL;
    if (curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK)
        return h->value;
#else
    (void)easy;
    (void)name;
#endif
    return NULL;
}

static double asked_wait(CURL *easy)
{
    double wait =
        retry_after(header_of(easy, "retry-after-ms"), header_of(easy, "retry-after"), (double)time(NULL));
#if LIBCURL_VERSION_NUM < 0x075400
    curl_off_t seconds = 0;
    if (curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &seconds) == CURLE_OK && seconds > 0)
        wait = (double)seconds;
#endif
    return wait;
}

/* One sentence about what came back, without the key. */
static void describe(const http_engine *e, const job *j, CURLcode code, long http, strbuf *out)
{
    if (j->too_long) {
        strbuf_printf(out, "the answer is longer than %zu bytes", j->max_body);
    } else if (code != CURLE_OK) {
        scrub(e, out, j->error[0] != '\0' ? j->error : curl_easy_strerror(code),
              strlen(j->error[0] != '\0' ? j->error : curl_easy_strerror(code)));
    } else {
        strbuf_printf(out, "HTTP status %ld", http);
        if (http == 401 || http == 403 || j->answer.len == 0)
            return; /* such bodies repeat parts of the key */
        strbuf_puts(out, ": ");
        scrub(e, out, strbuf_text(&j->answer), j->answer.len < 300 ? j->answer.len : 300);
    }
}

/* An answer that repeats the key is rid of it before anyone sees or stores it. */
static void clean_answer(const http_engine *e, job *j)
{
    if (e->key == NULL || e->key[0] == '\0' || j->answer.len == 0 ||
        memmem(j->answer.data, j->answer.len, e->key, strlen(e->key)) == NULL)
        return;
    strbuf clean = {0};
    scrub(e, &clean, j->answer.data, j->answer.len);
    strbuf_free(&j->answer);
    j->answer = clean;
}

static void forget(http_engine *e, job *j)
{
    for (size_t i = 0; i < e->n_jobs; i++)
        if (e->jobs[i] == j) {
            memmove(e->jobs + i, e->jobs + i + 1, (e->n_jobs - i - 1) * sizeof *e->jobs);
            e->n_jobs--;
            break;
        }
    job_free(e, j);
}

static sc_status finish(http_engine *e, job *j, sc_status result, long http, const char *reason)
{
    http_answer answer = {.status = result,
                          .http_status = http,
                          .body = strbuf_text(&j->answer),
                          .n = j->answer.len,
                          .attempts = j->attempts,
                          .reason = reason};
    sc_status status = e->callbacks.done(e->callbacks.context, j->user, &answer);
    forget(e, j);
    return status;
}

/* Sorts one finished attempt: done, again, or the end of everything. */
static sc_status sort_out(http_engine *e, job *j, CURLcode code)
{
    sc_status status = SC_OK;
    long http = 0;
    strbuf reason = {0};
    curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &http);
    double wait = asked_wait(j->easy), now = seconds_now();
    curl_multi_remove_handle(e->multi, j->easy);
    curl_easy_cleanup(j->easy);
    j->easy = NULL;
    limiter_ended(&e->limits);
    clean_answer(e, j);
    retry_class class = j->too_long ? RETRY_REJECTED
                                    : retry_classify((int)code, http, strbuf_text(&j->answer), j->answer.len);
    if (class == RETRY_NONE) {
        http_verdict verdict = e->callbacks.judge(e->callbacks.context, j->user, strbuf_text(&j->answer),
                                                  j->answer.len, &reason);
        if (verdict == HTTP_ACCEPT) {
            e->succeeded = true;
            status = finish(e, j, SC_OK, http, "");
            goto cleanup;
        }
        strbuf clean = {0};
        scrub(e, &clean, strbuf_text(&reason), reason.len);
        strbuf_free(&reason);
        reason = clean;
        class = verdict == HTTP_RETRY ? RETRY_TRANSIENT : RETRY_REJECTED;
        e->succeeded = true; /* the endpoint is there, whatever it says */
    } else {
        describe(e, j, code, http, &reason);
    }
    SC_TRY(strbuf_status(&reason));
    const char *why = strbuf_text(&reason);
    switch (class) {
    case RETRY_AUTH:
        status = sc_fail(SC_AUTH, "the endpoint refused the key (%s); check the key and its rights", why);
        goto cleanup;
    case RETRY_QUOTA:
        status =
            sc_fail(SC_QUOTA,
                    "the endpoint's quota is used up (%s); what is finished is kept, start again later", why);
        goto cleanup;
    case RETRY_REDIRECT:
        status = sc_fail(
            SC_NETWORK,
            "the endpoint answers with a redirect (%s), which is not followed as the key would travel; "
            "give the final address in --base-url",
            why);
        goto cleanup;
    case RETRY_FATAL:
        status = sc_fail(SC_NETWORK, "the endpoint cannot be used: %s; check --base-url", why);
        goto cleanup;
    case RETRY_REJECTED:
        status = finish(e, j, SC_BAD_INPUT, http, why);
        goto cleanup;
    default:
        break;
    }
    if (wait > LONGEST_WAIT) {
        status = sc_fail(
            SC_NETWORK,
            "the endpoint asks to wait %.0f seconds (%s); what is finished is kept, start again later", wait,
            why);
        goto cleanup;
    }
    if (j->attempts > e->options.max_retries) {
        if (!e->succeeded) {
            status = sc_fail(SC_NETWORK, "the endpoint gave no answer in %d attempts; the last: %s",
                             j->attempts, why);
            goto cleanup;
        }
        status = finish(e, j, SC_NETWORK, http, why);
        goto cleanup;
    }
    if (e->callbacks.abandoned != NULL)
        e->callbacks.abandoned(e->callbacks.context, j->user, class != RETRY_CAPACITY);
    if (wait < 0)
        wait = retry_backoff(e->options.backoff_first, e->options.backoff_cap, e->options.seed, j->number,
                             j->attempts - 1);
    if (class == RETRY_CAPACITY)
        limiter_hold(&e->limits, now, wait);
    j->not_before = now + wait;
    log_debug("request %llu, attempt %d: %s; again in %.2f s", (unsigned long long)j->number, j->attempts,
              why, wait);
cleanup:
    strbuf_free(&reason);
    return status;
}

sc_status http_work(http_engine *e, int64_t below)
{
    sc_status status = SC_OK;
    while ((int64_t)e->n_jobs >= below && e->n_jobs > 0) {
        SC_TRY(check_cancelled());
        double now = seconds_now(), next = now + 0.25;
        for (size_t i = 0; i < e->n_jobs; i++) {
            job *j = e->jobs[i];
            if (j->easy != NULL)
                continue;
            if (!limiter_may_start(&e->limits, now))
                break;
            if (j->not_before > now) {
                next = j->not_before < next ? j->not_before : next;
                continue;
            }
            sc_status allowed = e->callbacks.before_send != NULL
                                    ? e->callbacks.before_send(e->callbacks.context, j->user)
                                    : SC_OK;
            if (allowed == SC_BUDGET) { /* this one stays undone; those on their way are paid for */
                SC_TRY(finish(e, j, SC_BUDGET, 0, sc_last_error()));
                i--;
                continue;
            }
            SC_TRY(allowed);
            SC_TRY(start(e, j));
        }
        if (e->limits.hold_until > now && e->limits.hold_until < next)
            next = e->limits.hold_until;
        int running = 0, left = 0;
        if (curl_multi_perform(e->multi, &running) != CURLM_OK) {
            status = sc_fail(SC_INTERNAL, "libcurl stopped working");
            goto cleanup;
        }
        CURLMsg *message;
        bool any = false;
        while ((message = curl_multi_info_read(e->multi, &left)) != NULL) {
            if (message->msg != CURLMSG_DONE)
                continue;
            void *owner = NULL;
            CURLcode code = message->data.result;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&owner);
            any = true;
            SC_TRY(sort_out(e, owner, code));
        }
        if (!any) {
            int ms = (int)((next - now) * 1000.0) + 1;
            curl_multi_poll(e->multi, NULL, 0, ms > 250 ? 250 : ms, NULL);
        }
    }
cleanup:
    return status;
}
