/* Downloads with libcurl's easy interface. The state of a broken one is the .part file's length and
 * the validator (ETag, else Last-Modified) beside it: RFC 9110, sections 8.8, 13.1.5 and 14. */
#include "net/fetch.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"

#define DEFAULT_ATTEMPTS 5
#define DEFAULT_PAUSE_MS 1000

typedef struct transfer {
    const char *url;
    const fetch_options *options;
    CURL *curl;
    /* to a file */
    char *part, *note;
    int fd;
    int64_t have; /* bytes in the .part file */
    strbuf validator;
    /* to memory */
    strbuf *text;
    size_t limit;
    /* of the answer under way */
    long code;
    bool begun;
    int64_t range_start, range_total; /* of Content-Range, -1: none */
    strbuf etag, modified;
    sc_status status; /* a fault found in a callback */
    progress *progress;
    int64_t shown;
} transfer;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void start_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* ---- the note beside a .part file ---- */

static sc_status write_note(const transfer *t)
{
    json_t *note = json_pack("{s:s, s:s}", "url", t->url, "validator", strbuf_text(&t->validator));
    sc_status status =
        note ? json_write_file(t->note, note) : sc_fail(SC_BAD_INPUT, "the URL is not UTF-8 text");
    json_decref(note);
    return status;
}

/* The validator of a .part file that belongs to this URL; a part without one starts anew. */
static void read_note(transfer *t)
{
    json_t *note = NULL;
    const char *url = NULL, *validator = NULL;
    if (file_exists(t->note) && json_parse_file(t->note, &note) == SC_OK) {
        url = json_string_value(json_object_get(note, "url"));
        validator = json_string_value(json_object_get(note, "validator"));
    }
    if (url && validator && strcmp(url, t->url) == 0)
        strbuf_puts(&t->validator, validator);
    json_decref(note);
}

static sc_status empty_part(transfer *t)
{
    strbuf_clear(&t->validator);
    t->have = 0;
    if (ftruncate(t->fd, 0) != 0 || lseek(t->fd, 0, SEEK_SET) != 0)
        return sc_fail_errno(SC_IO, "%s: cannot start the download afresh", t->part);
    return SC_OK;
}

static sc_status open_part(transfer *t)
{
    sc_status status = SC_OK;
    read_note(t);
    t->fd = open(t->part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    off_t end = t->fd < 0 ? -1 : lseek(t->fd, 0, SEEK_END);
    if (end < 0)
        return sc_fail_errno(SC_IO, "%s: cannot open the file for the download", t->part);
    t->have = end;
    bool trusted =
        (t->validator.len > 0 || t->options->sha256) && (t->options->size < 0 || end <= t->options->size);
    if (end > 0 && !trusted)
        status = empty_part(t);
    return status;
}

/* ---- what libcurl calls ---- */

static bool header_is(const char *line, size_t n, const char *name, strbuf *value)
{
    size_t length = strlen(name);
    if (n <= length || strncasecmp(line, name, length) != 0 || line[length] != ':')
        return false;
    strbuf_clear(value);
    for (line += length + 1, n -= length + 1; n > 0 && (*line == ' ' || *line == '\t'); n--)
        line++;
    while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' '))
        n--;
    strbuf_append(value, line, n);
    return true;
}

static size_t on_header(char *line, size_t size, size_t n, void *user)
{
    transfer *t = user;
    strbuf value = {0};
    n *= size;
    if (n > 5 && strncmp(line, "HTTP/", 5) == 0) { /* a new answer, after a redirect too */
        strbuf_clear(&t->etag);
        strbuf_clear(&t->modified);
        t->range_start = t->range_total = -1;
    } else if (header_is(line, n, "ETag", &value)) {
        strbuf_clear(&t->etag);
        if (!text_starts(value.data, "W/")) /* a weak one does not promise the same bytes */
            strbuf_append(&t->etag, value.data, value.len);
    } else if (header_is(line, n, "Last-Modified", &value)) {
        strbuf_clear(&t->modified);
        strbuf_append(&t->modified, value.data, value.len);
    } else if (header_is(line, n, "Content-Range", &value) && text_starts(value.data, "bytes ")) {
        char *end;
        t->range_start = value.data[6] == '*' ? -1 : strtoll(value.data + 6, NULL, 10);
        const char *slash = strchr(value.data, '/');
        t->range_total = slash ? strtoll(slash + 1, &end, 10) : -1;
    }
    strbuf_free(&value);
    return n;
}

/* The first bytes of a good answer: does it go on where we are, or start anew? */
static sc_status begin_body(transfer *t)
{
    t->begun = true;
    if (!t->part)
        return SC_OK;
    if (t->code == 206 && t->range_start != t->have)
        return sc_fail(SC_NETWORK, "%s: the server sent another part of the file than the one asked for",
                       t->url);
    if (t->code != 206 && t->have > 0) {
        sc_status status = empty_part(t);
        if (status != SC_OK)
            return status;
    }
    strbuf_clear(&t->validator);
    const strbuf *validator = t->etag.len > 0 ? &t->etag : &t->modified;
    strbuf_append(&t->validator, validator->data, validator->len);
    return write_note(t);
}

static size_t on_body(char *bytes, size_t size, size_t n, void *user)
{
    transfer *t = user;
    n *= size;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &t->code);
    if (t->code != 200 && t->code != 206)
        return n; /* the body of an error is not wanted */
    if (!t->begun)
        t->status = begin_body(t);
    if (t->status != SC_OK)
        return 0;
    if (t->text) {
        if (n > t->limit - t->text->len) {
            t->status = sc_fail(SC_BAD_INPUT, "%s: the answer is longer than %zu bytes", t->url, t->limit);
            return 0;
        }
        strbuf_append(t->text, bytes, n);
        return n;
    }
    if (t->options->size >= 0 && (int64_t)n > t->options->size - t->have) {
        t->status = sc_fail(SC_BAD_INPUT, "%s: the file is larger than the %lld bytes expected", t->url,
                            (long long)t->options->size);
        return 0;
    }
    for (size_t done = 0; done < n;) {
        ssize_t wrote = write(t->fd, bytes + done, n - done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0) {
            t->status = sc_fail_errno(SC_IO, "%s: cannot write the download", t->part);
            return 0;
        }
        done += (size_t)wrote;
        t->have += wrote;
    }
    return n;
}

static int on_progress(void *user, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now)
{
    transfer *t = user;
    (void)up_total, (void)up_now, (void)now;
    if (t->status == SC_OK)
        t->status = check_cancelled();
    if (t->part && t->begun && !t->progress) {
        int64_t whole = t->options->size >= 0 ? t->options->size
                        : t->code == 206      ? t->range_total
                                              : (int64_t)total;
        t->progress = progress_begin(t->options->label ? t->options->label : path_base(t->url), "bytes",
                                     whole > 0 ? whole : 0);
        t->shown = t->shown < t->have ? t->shown : t->have;
        progress_skip(t->progress, t->shown);
    }
    if (t->progress && t->have > t->shown) {
        progress_add(t->progress, t->have - t->shown);
        t->shown = t->have;
    }
    return t->status != SC_OK;
}

/* ---- one connection ---- */

/* A token goes over TLS, or to this machine itself. */
static bool may_send_token(const char *url)
{
    static const char *const local[] = {"http://127.0.0.1:",
                                        "http://127.0.0.1/",
                                        "http://localhost:",
                                        "http://localhost/",
                                        "http://[::1]:",
                                        "http://[::1]/",
                                        NULL};
    if (text_starts(url, "https://"))
        return true;
    for (size_t i = 0; local[i]; i++) {
        if (text_starts(url, local[i]))
            return true;
    }
    return false;
}

static sc_status set_up(transfer *t, struct curl_slist **headers, char *error)
{
    CURL *c = t->curl;
    const char *protocols = text_starts(t->url, "https://") ? "https" : "http,https";
    curl_easy_reset(c);
    CURLcode fault = curl_easy_setopt(c, CURLOPT_URL, t->url);
#if LIBCURL_VERSION_NUM >= 0x075500
    fault |= curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    fault |= curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
#else
    long redirect = strcmp(protocols, "https") == 0 ? CURLPROTO_HTTPS : CURLPROTO_HTTP | CURLPROTO_HTTPS;
    fault |= curl_easy_setopt(c, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    fault |= curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS, redirect);
#endif
    fault |= curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    fault |= curl_easy_setopt(c, CURLOPT_MAXREDIRS, 10L);
    fault |= curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    fault |= curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 30L);
    fault |= curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    fault |= curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 60L);
    fault |= curl_easy_setopt(c, CURLOPT_USERAGENT, "seedcorn");
    fault |= curl_easy_setopt(c, CURLOPT_ERRORBUFFER, error);
    fault |= curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    fault |= curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    fault |= curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    fault |= curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    fault |= curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    fault |= curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    fault |= curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
    if (t->options->bearer && *t->options->bearer && may_send_token(t->url)) {
        fault |= curl_easy_setopt(c, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
        fault |= curl_easy_setopt(c, CURLOPT_XOAUTH2_BEARER, t->options->bearer);
    }
    if (t->part && t->have > 0) {
        /* Not CURLOPT_RESUME_FROM, which fails where the server sends the whole file instead. */
        char range[32];
        snprintf(range, sizeof range, "%lld-", (long long)t->have);
        fault |= curl_easy_setopt(c, CURLOPT_RANGE, range);
        if (t->validator.len > 0) {
            strbuf line = {0};
            strbuf_printf(&line, "If-Range: %s", t->validator.data);
            *headers = line.failed ? NULL : curl_slist_append(NULL, line.data);
            strbuf_free(&line);
            fault |= *headers ? curl_easy_setopt(c, CURLOPT_HTTPHEADER, *headers) : CURLE_OUT_OF_MEMORY;
        }
    }
    return fault == CURLE_OK ? SC_OK : sc_fail(SC_INTERNAL, "%s: libcurl cannot be set up for it", t->url);
}

static sc_status judge_code(const transfer *t)
{
    if (t->code == 401 || t->code == 403)
        return sc_fail(
            SC_AUTH,
            "%s: access was refused (HTTP %ld); check the name, accept the model's terms where it has some, "
            "and set HF_TOKEN if it lies on the Hugging Face hub",
            t->url, t->code);
    if (t->code == 404 || t->code == 410)
        return sc_fail(SC_BAD_INPUT, "%s: there is no such file (HTTP %ld); check the name", t->url, t->code);
    return sc_fail(SC_NETWORK, "%s: the server answered HTTP %ld", t->url, t->code);
}

/* One request. *again: what failed may go better next time. */
static sc_status attempt(transfer *t, bool *again)
{
    char error[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    *again = false;
    t->begun = false;
    t->code = 0;
    t->status = SC_OK;
    t->range_start = t->range_total = -1;
    sc_status status = set_up(t, &headers, error);
    if (status == SC_OK) {
        CURLcode result = curl_easy_perform(t->curl);
        curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &t->code);
        if (t->status != SC_OK) {
            status = t->status;
            *again = status == SC_NETWORK;
        } else if (t->part && t->have > 0 && t->code == 416) {
            /* The part is as long as the file or longer: whole, or of another file. */
            if (t->range_total != t->have)
                status = empty_part(t);
            *again = status == SC_OK && t->have == 0;
            if (*again)
                status = SC_NETWORK;
        } else if (result != CURLE_OK) {
            status = sc_fail(SC_NETWORK, "%s: %s", t->url, *error ? error : curl_easy_strerror(result));
            *again = result != CURLE_URL_MALFORMAT && result != CURLE_UNSUPPORTED_PROTOCOL &&
                     result != CURLE_PEER_FAILED_VERIFICATION && result != CURLE_TOO_MANY_REDIRECTS;
        } else if (t->code != 200 && t->code != 206) {
            status = judge_code(t);
            *again = t->code == 408 || t->code == 429 || t->code >= 500;
        } else if (!t->begun) { /* an empty file */
            status = begin_body(t);
        }
    }
    curl_slist_free_all(headers);
    return status;
}

static sc_status wait_ms(int64_t ms)
{
    for (sc_status status; ms > 0; ms -= 50) {
        if ((status = check_cancelled()) != SC_OK)
            return status;
        struct timespec nap = {0, (ms < 50 ? ms : 50) * 1000000};
        nanosleep(&nap, NULL);
    }
    return SC_OK;
}

/* Connections until the file is there; one that brought bytes does not count as vain. */
static sc_status persist(transfer *t)
{
    int64_t limit = t->options->attempts > 0 ? t->options->attempts : DEFAULT_ATTEMPTS;
    int64_t pause = t->options->pause_ms > 0 ? t->options->pause_ms : DEFAULT_PAUSE_MS;
    for (int64_t vain = 0;;) {
        int64_t before = t->have;
        bool again;
        sc_status status = attempt(t, &again);
        if (status == SC_OK || !again)
            return status;
        vain = t->have > before ? 1 : vain + 1;
        if (vain >= limit)
            return status;
        log_info("%s; trying again", sc_last_error());
        if (t->text)
            strbuf_clear(t->text);
        status = wait_ms(pause << (vain - 1 < 6 ? vain - 1 : 6));
        if (status != SC_OK)
            return status;
    }
}

static sc_status open_transfer(transfer *t, const char *url, const fetch_options *options)
{
    *t = (transfer){.url = url, .options = options, .fd = -1};
    if (!text_starts(url, "https://") && !text_starts(url, "http://"))
        return sc_fail(SC_USAGE, "%s: not an http: or https: address", url);
    pthread_once(&once, start_curl);
    t->curl = curl_easy_init();
    return t->curl ? SC_OK : sc_fail(SC_MEMORY, "%s: libcurl cannot be started", url);
}

static void close_transfer(transfer *t)
{
    if (t->fd >= 0)
        close(t->fd);
    if (t->curl)
        curl_easy_cleanup(t->curl);
    progress_end(t->progress);
    strbuf_free(&t->validator);
    strbuf_free(&t->etag);
    strbuf_free(&t->modified);
    free(t->part);
    free(t->note);
}

static char *with_suffix(const char *path, const char *suffix)
{
    strbuf s = {0};
    strbuf_puts(&s, path);
    strbuf_puts(&s, suffix);
    if (s.failed)
        strbuf_free(&s);
    return s.data ? strbuf_take(&s) : NULL;
}

static sc_status check_whole(transfer *t, char hex[65])
{
    if (fsync(t->fd) != 0)
        return sc_fail_errno(SC_IO, "%s: cannot sync the download to the disk", t->part);
    if (t->options->size >= 0 && t->have != t->options->size)
        return sc_fail(SC_BAD_INPUT, "%s: the file has %lld bytes where %lld were expected", t->url,
                       (long long)t->have, (long long)t->options->size);
    sc_status status = file_sha256(t->part, hex);
    if (status == SC_OK && t->options->sha256 && strcmp(hex, t->options->sha256) != 0)
        return sc_fail(
            SC_BAD_INPUT,
            "%s: the SHA-256 is %s where %s was expected; the download was thrown away: try again, or "
            "distrust the source",
            t->url, hex, t->options->sha256);
    return status;
}

sc_status fetch_file(const char *url, const char *path, const fetch_options *options, char sha256[65])
{
    transfer t;
    char hex[65];
    sc_status status = open_transfer(&t, url, options);
    if (status != SC_OK)
        goto cleanup;
    t.part = with_suffix(path, ".part");
    t.note = with_suffix(path, ".part.json");
    if (!t.part || !t.note) {
        status = sc_fail(SC_MEMORY, "%s: memory does not suffice", url);
        goto cleanup;
    }
    SC_TRY(open_part(&t));
    bool resumed, refused;
    do {
        resumed = t.have > 0;
        t.shown = t.have;
        status = persist(&t);
        if (status == SC_OK)
            status = check_whole(&t, hex);
        refused = status == SC_BAD_INPUT && (t.code == 200 || t.code == 206 || t.code == 416);
        if (refused && empty_part(&t) != SC_OK)
            break;
    } while (refused && resumed); /* the earlier part may be what was wrong */
    if (status == SC_OK && rename(t.part, path) != 0)
        status = sc_fail_errno(SC_IO, "%s: cannot rename the finished download", path);
    else if (refused || (status != SC_OK && t.have == 0))
        unlink(t.part);
    if (status == SC_OK || refused || t.have == 0)
        unlink(t.note);
    if (status == SC_OK && sha256)
        memcpy(sha256, hex, sizeof hex);
cleanup:
    close_transfer(&t);
    return status;
}

sc_status fetch_text(const char *url, const fetch_options *options, size_t limit, strbuf *out)
{
    transfer t;
    sc_status status = open_transfer(&t, url, options);
    t.text = out;
    t.limit = limit;
    strbuf_clear(out);
    if (status == SC_OK)
        status = persist(&t);
    if (status == SC_OK)
        status = strbuf_status(out);
    close_transfer(&t);
    return status;
}
