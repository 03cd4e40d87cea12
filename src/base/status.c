/* The sentence of the last failure, one per thread, and allocation that fails with a sentence. */
#include "base/status.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum { SENTENCE_MAX = 2048 };

/* A fixed buffer: a failure must be tellable when memory is out. */
static _Thread_local char last_error[SENTENCE_MAX];

const char *sc_last_error(void)
{
    return last_error;
}

const char *sc_version(void)
{
    return SC_VERSION;
}

const char *sc_status_name(sc_status status)
{
    switch (status) {
    case SC_OK:
        return "SC_OK";
    case SC_PARTIAL:
        return "SC_PARTIAL";
    case SC_USAGE:
        return "SC_USAGE";
    case SC_BAD_INPUT:
        return "SC_BAD_INPUT";
    case SC_CONFLICT:
        return "SC_CONFLICT";
    case SC_DEVICE:
        return "SC_DEVICE";
    case SC_NETWORK:
        return "SC_NETWORK";
    case SC_AUTH:
        return "SC_AUTH";
    case SC_BUDGET:
        return "SC_BUDGET";
    case SC_QUOTA:
        return "SC_QUOTA";
    case SC_IO:
        return "SC_IO";
    case SC_MEMORY:
        return "SC_MEMORY";
    case SC_BUSY:
        return "SC_BUSY";
    case SC_INTERNAL:
        return "SC_INTERNAL";
    case SC_INTERRUPTED:
        return "SC_INTERRUPTED";
    }
    return "SC_UNKNOWN";
}

/* The largest cut <= n that does not split a code point (a continuation byte is 10xxxxxx). */
static size_t whole_code_points(const char *text, size_t n)
{
    while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
        n--;
    return n;
}

static void keep_sentence(const char *raw)
{
    strbuf visible = {0};
    text_visible(&visible, raw, strlen(raw));
    /* Without memory the raw sentence has to do. */
    const char *text = visible.failed ? raw : strbuf_text(&visible);
    size_t n = strlen(text);
    if (n >= SENTENCE_MAX)
        n = whole_code_points(text, SENTENCE_MAX - 1);
    memmove(last_error, text, n);
    last_error[n] = '\0';
    strbuf_free(&visible);
}

sc_status(sc_fail)(sc_status status, const char *format, ...)
{
    /* Formatted aside first: an argument may be the sentence itself. */
    char raw[SENTENCE_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(raw, sizeof raw, format, arguments);
    va_end(arguments);
    keep_sentence(raw);
    return status;
}

typedef struct errno_advice {
    int number;
    sc_status status; /* SC_OK: the caller's */
    const char *advice;
} errno_advice;

static const errno_advice advices[] = {
    {ENOSPC, SC_IO, "free some space there or choose another place"},
    {EDQUOT, SC_IO, "your quota there is used up; free some space or choose another place"},
    {EFBIG, SC_IO, "the file size limit (ulimit -f) or the file system forbids a file this large"},
    {EROFS, SC_IO, "choose a place that can be written"},
    {EACCES, SC_IO, "change its permissions or choose another place"},
    {EPERM, SC_IO, "change its permissions or choose another place"},
    {ENOMEM, SC_MEMORY, "free some memory or use a larger machine"},
    {EMFILE, SC_OK, "raise the limit of open files (ulimit -n)"},
    {ENFILE, SC_OK, "the machine has too many open files"},
};

sc_status(sc_fail_errno)(sc_status status, const char *format, ...)
{
    int number = errno;
    char raw[SENTENCE_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(raw, sizeof raw - 256, format, arguments);
    va_end(arguments);

    char reason[128];
    const char *what = strerror_r(number, reason, sizeof reason); /* GNU's: returns the text */
    const char *advice = NULL;
    for (size_t i = 0; i < sizeof advices / sizeof advices[0]; i++) {
        if (advices[i].number == number) {
            advice = advices[i].advice;
            status = advices[i].status == SC_OK ? status : advices[i].status;
        }
    }
    size_t n = strlen(raw);
    (void)snprintf(raw + n, sizeof raw - n, ": %s%s%s", what, advice ? "; " : "", advice ? advice : "");
    keep_sentence(raw);
    return status;
}

static sc_status too_much(size_t count, size_t size)
{
    return sc_fail(SC_MEMORY,
                   "Memory for %zu items of %zu bytes is not to be had; free some memory or use less data",
                   count, size);
}

sc_status sc_alloc(void *out_pointer, size_t count, size_t size)
{
    size_t bytes = 0;
    void *memory = NULL;
    if (!__builtin_mul_overflow(count, size, &bytes) && bytes <= PTRDIFF_MAX)
        memory = calloc(bytes > 0 ? bytes : 1, 1);
    /* memcpy: the caller's pointer may have any type. */
    memcpy(out_pointer, &memory, sizeof memory);
    return memory ? SC_OK : too_much(count, size);
}

sc_status sc_grow(void *in_out_pointer, size_t *capacity, size_t needed, size_t size)
{
    if (needed <= *capacity)
        return SC_OK;
    size_t wanted = *capacity < 8 ? 16 : *capacity <= SIZE_MAX / 2 ? *capacity * 2 : needed;
    if (wanted < needed)
        wanted = needed;
    size_t bytes = 0;
    if (__builtin_mul_overflow(wanted, size, &bytes) || bytes > PTRDIFF_MAX)
        return too_much(wanted, size);
    void *memory;
    memcpy(&memory, in_out_pointer, sizeof memory);
    void *larger = realloc(memory, bytes > 0 ? bytes : 1);
    if (!larger)
        return too_much(wanted, size);
    memcpy(in_out_pointer, &larger, sizeof larger);
    *capacity = wanted;
    return SC_OK;
}

sc_status sc_strdup(char **out, const char *text)
{
    *out = strdup(text);
    return *out ? SC_OK : too_much(strlen(text) + 1, 1);
}
