/* Translating tokenizer patterns: \p{L}, \p{N}, \s and \S become byte classes, the rest is copied if
 * it is plain. */
#include "text/pattern.h"

#include <ctype.h>
#include <string.h>

#define LETTERS "A-Za-z\\x81\\x82"
#define NUMBERS "0-9\\x83"
#define SPACES "\\x09-\\x0d\\x20\\x85"

static sc_status unsupported(const char *pattern, const char *where, const char *what, size_t n)
{
    return sc_fail(SC_BAD_INPUT, "%s: \"%.*s\" in the pattern \"%s\" is not supported", where, (int)n, what,
                   pattern);
}

/* An escape at p; *used is its length. */
static sc_status escape(const char *pattern, const char *where, const char *p, bool in_class, strbuf *out,
                        size_t *used)
{
    const char *members = NULL;
    *used = 2;
    if (text_starts(p, "\\p{L}")) {
        members = LETTERS;
        *used = 5;
    } else if (text_starts(p, "\\p{N}")) {
        members = NUMBERS;
        *used = 5;
    } else if (p[1] == 's') {
        members = SPACES;
    } else if (p[1] == 'S' && !in_class) {
        strbuf_puts(out, "[^" SPACES "]");
        return SC_OK;
    } else if (p[1] == 'r' || p[1] == 'n' || p[1] == 't' || ispunct((unsigned char)p[1])) {
        strbuf_append(out, p, 2);
        return SC_OK;
    } else {
        return unsupported(pattern, where, p,
                           text_starts(p, "\\p{") ? strcspn(p, "}") + 1
                           : strlen(p) < 2        ? 1
                                                  : 2);
    }
    strbuf_printf(out, in_class ? "%s" : "[%s]", members);
    return SC_OK;
}

/* A class that starts at p. */
static sc_status bracket(const char *pattern, const char *where, const char *p, strbuf *out, size_t *used)
{
    size_t i = 1;
    strbuf_putc(out, '[');
    if (p[i] == '^')
        strbuf_putc(out, p[i++]);
    size_t first = i;
    while (p[i] && p[i] != ']') {
        if (p[i] == '\\') {
            size_t length = 0;
            sc_status status = escape(pattern, where, p + i, true, out, &length);
            if (status != SC_OK)
                return status;
            i += length;
        } else if (p[i] == '[' || (p[i] == '&' && p[i + 1] == '&') || (unsigned char)p[i] >= 0x80) {
            return unsupported(pattern, where, p, i + 1); /* Oniguruma nests and intersects classes */
        } else {
            strbuf_putc(out, p[i++]);
        }
    }
    if (!p[i] || i == first)
        return unsupported(pattern, where, p, i);
    strbuf_putc(out, ']');
    *used = i + 1;
    return SC_OK;
}

/* A group's opening at p: (?:, (?!, (?= or ( */
static sc_status group(const char *pattern, const char *where, const char *p, strbuf *out, size_t *used)
{
    *used = 1;
    if (p[1] == '?') {
        if (p[2] != ':' && p[2] != '!' && p[2] != '=')
            return unsupported(pattern, where, p, strlen(p) < 4 ? strlen(p) : 4);
        *used = 3;
    }
    strbuf_append(out, p, *used);
    return SC_OK;
}

/* {m}, {m,} or {m,n} at p, without a + after it, which Oniguruma reads as a second repetition. */
static sc_status repeat(const char *pattern, const char *where, const char *p, strbuf *out, size_t *used)
{
    size_t i = 1, digits = strspn(p + 1, "0123456789");
    i += digits;
    if (p[i] == ',')
        i += 1 + strspn(p + i + 1, "0123456789");
    if (digits == 0 || p[i] != '}' || p[i + 1] == '+')
        return unsupported(pattern, where, p, strcspn(p, "}") + (strchr(p, '}') != NULL));
    strbuf_append(out, p, i + 1);
    *used = i + 1;
    return SC_OK;
}

sc_status pattern_translate(const char *pattern, const char *where, strbuf *out)
{
    sc_status status = SC_OK;
    for (const char *p = pattern; *p;) {
        size_t used = 1;
        if (text_starts(p, PATTERN_CONTRACTIONS)) { /* the one case-insensitive group there is */
            strbuf_puts(out, "'(?:[sS\\x82]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])");
            used = strlen(PATTERN_CONTRACTIONS);
        } else if (*p == '\\') {
            SC_TRY(escape(pattern, where, p, false, out, &used));
        } else if (*p == '[') {
            SC_TRY(bracket(pattern, where, p, out, &used));
        } else if (*p == '(') {
            SC_TRY(group(pattern, where, p, out, &used));
        } else if (*p == '{') {
            SC_TRY(repeat(pattern, where, p, out, &used));
        } else if (*p == '.' || *p == '^' || *p == '$' || (unsigned char)*p >= 0x80) {
            status = unsupported(pattern, where, p, (unsigned char)*p >= 0x80 ? strlen(p) : 1);
            goto cleanup;
        } else {
            strbuf_putc(out, *p);
        }
        p += used;
    }
    status = strbuf_status(out);
cleanup:
    return status;
}
