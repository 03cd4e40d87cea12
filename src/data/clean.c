/* One pass over the bytes: tags, entities, control characters; invalid UTF-8 is repaired first. */
#include "data/clean.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Elements that end a line in a rendered page, and the others that occur in reviews. A name that is
 * in neither list is text. */
static const char *const breaking[] = {"address", "article", "blockquote", "br", "center", "dd",  "div",
                                       "dl",      "dt",      "h1",         "h2", "h3",     "h4",  "h5",
                                       "h6",      "hr",      "li",         "ol", "p",      "pre", "section",
                                       "table",   "tr",      "ul",         NULL};
static const char *const inlined[] = {
    "a",      "abbr",   "acronym", "audio",  "b",      "big",   "body",     "button", "caption",
    "cite",   "code",   "col",     "del",    "em",     "embed", "font",     "footer", "form",
    "head",   "header", "html",    "i",      "iframe", "img",   "input",    "ins",    "kbd",
    "label",  "link",   "main",    "mark",   "meta",   "nav",   "noscript", "object", "option",
    "param",  "q",      "s",       "script", "select", "small", "source",   "span",   "strike",
    "strong", "style",  "sub",     "sup",    "tbody",  "td",    "textarea", "tfoot",  "th",
    "thead",  "title",  "tt",      "u",      "var",    "video", "wbr",      NULL};

/* An unclosed "<b" must not swallow the rest of a review. */
enum { MAX_TAG = 2000 };

static bool listed(const char *const *names, const char *name, size_t n)
{
    for (; *names; names++) {
        if (strlen(*names) == n && strncasecmp(*names, name, n) == 0)
            return true;
    }
    return false;
}

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The length of the tag at text ('<'), 0 if it is none. */
static size_t tag_length(const char *text, size_t n, bool *breaks)
{
    *breaks = false;
    if (n >= 4 && memcmp(text, "<!--", 4) == 0) {
        const char *end = memmem(text + 4, n - 4, "-->", 3);
        return end && end - text <= MAX_TAG ? (size_t)(end - text) + 3 : 0;
    }
    size_t at = 1;
    if (at < n && text[at] == '/')
        at++;
    size_t name = at;
    while (at < n && is_alnum(text[at]))
        at++;
    size_t name_length = at - name;
    bool breaking_name = listed(breaking, text + name, name_length);
    if (!breaking_name && !listed(inlined, text + name, name_length))
        return 0;
    if (at < n && text[at] != '>' && text[at] != '/' && text[at] != ' ' && text[at] != '\t' &&
        text[at] != '\n')
        return 0;
    char quote = '\0';
    for (; at < n && at < MAX_TAG; at++) {
        if (quote) {
            quote = text[at] == quote ? '\0' : quote;
        } else if (text[at] == '"' || text[at] == '\'') {
            quote = text[at];
        } else if (text[at] == '>') {
            *breaks = breaking_name;
            return at + 1;
        } else if (text[at] == '<') {
            return 0;
        }
    }
    return 0;
}

/* What browsers show for &#128; to &#159;: the bytes of Windows-1252
 * (https://html.spec.whatwg.org/#numeric-character-reference-end-state). */
static const uint16_t windows_1252[32] = {0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                          0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8D,   0x017D, 0x8F,
                                          0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                          0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178};

/* The length of the entity at text ('&'), 0 if it is none. */
static size_t entity_length(const char *text, size_t n, uint32_t *code_point)
{
    size_t at = 1;
    uint64_t value = 0;
    if (at < n && text[at] == '#') {
        at++;
        bool hex = at < n && (text[at] == 'x' || text[at] == 'X');
        at += hex;
        size_t digits = at;
        for (; at < n && at - digits < 8; at++) {
            char c = text[at];
            int digit = c >= '0' && c <= '9'          ? c - '0'
                        : hex && c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : hex && c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                      : -1;
            if (digit < 0)
                break;
            value = value * (hex ? 16 : 10) + (uint64_t)digit;
        }
        if (at == digits || at >= n || text[at] != ';')
            return 0;
        if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF) || value == 0)
            value = 0xFFFD;
        *code_point = (uint32_t)value;
        return at + 1;
    }
    while (at < n && at < 12 && is_alnum(text[at]))
        at++;
    if (at == 1 || at >= n || text[at] != ';')
        return 0;
    *code_point = clean_entity(text + 1, at - 1);
    return *code_point ? at + 1 : 0;
}

static void put_code_point(strbuf *out, uint32_t c, clean_counts *counts)
{
    char bytes[4];
    if (c >= 0x80 && c < 0xA0) { /* Windows-1252 taken for Latin-1 somewhere on the way */
        counts->control_characters++;
        c = windows_1252[c - 0x80];
        if (c < 0xA0)
            return;
    }
    if (c == '\n') {
        strbuf_putc(out, '\n');
    } else if (c == '\t' || c == 0xA0) {
        strbuf_putc(out, ' ');
    } else if (c < 0x20 || c == 0x7F || c == 0xFEFF) {
        counts->control_characters++;
    } else {
        strbuf_append(out, bytes, utf8_encode(c, bytes));
    }
}

static void trim(strbuf *out, size_t start)
{
    size_t first = start;
    while (out->len > start && (out->data[out->len - 1] == ' ' || out->data[out->len - 1] == '\n'))
        out->len--;
    while (first < out->len && (out->data[first] == ' ' || out->data[first] == '\n'))
        first++;
    if (first > start)
        memmove(out->data + start, out->data + first, out->len - first);
    out->len -= first - start;
    if (out->data)
        out->data[out->len] = '\0';
}

sc_status clean_text(const char *text, size_t n, clean_counts *counts, strbuf *out)
{
    sc_status status = SC_OK;
    strbuf repaired = {0};
    size_t start = out->len;
    if (!utf8_valid(text, n)) {
        counts->invalid_utf8 += (int64_t)utf8_sanitize(&repaired, text, n);
        SC_TRY(strbuf_status(&repaired));
        text = strbuf_text(&repaired);
        n = repaired.len;
    }
    for (size_t at = 0; at < n;) {
        unsigned char c = (unsigned char)text[at];
        bool breaks = false;
        uint32_t code_point = 0;
        size_t length = 0;
        if (c == '<' && (length = tag_length(text + at, n - at, &breaks)) > 0) {
            /* "one<br />\ntwo" is one line end, not two. */
            if (breaks && at + length < n && text[at + length] == '\n')
                length++;
            if (breaks)
                strbuf_putc(out, '\n');
            counts->line_breaks += breaks;
            counts->tags += !breaks;
        } else if (c == '&' && (length = entity_length(text + at, n - at, &code_point)) > 0) {
            counts->entities++;
            put_code_point(out, code_point, counts);
        } else if (c == '\r') {
            length = at + 1 < n && text[at + 1] == '\n' ? 2 : 1;
            strbuf_putc(out, '\n');
        } else if (c >= 0x20 && c < 0x7F) {
            do {
                length++;
                c = at + length < n ? (unsigned char)text[at + length] : 0;
            } while (c >= 0x20 && c < 0x7F && c != '<' && c != '&');
            strbuf_append(out, text + at, length);
        } else {
            length = utf8_decode(text + at, n - at, &code_point);
            if (length == 0) {
                status = sc_fail(SC_INTERNAL, "text that was repaired is not valid UTF-8");
                goto cleanup;
            }
            put_code_point(out, code_point, counts);
        }
        at += length;
    }
    SC_TRY(strbuf_status(out));
    trim(out, start);
cleanup:
    strbuf_free(&repaired);
    return status;
}

sc_status clean_line(const char *text, size_t n, clean_counts *counts, strbuf *out)
{
    strbuf cleaned = {0};
    sc_status status = SC_OK;
    SC_TRY(clean_text(text, n, counts, &cleaned));
    text_fold_spaces(out, strbuf_text(&cleaned), cleaned.len);
    SC_TRY(strbuf_status(out));
cleanup:
    strbuf_free(&cleaned);
    return status;
}

json_t *clean_counts_json(const clean_counts *counts)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "invalid_utf8", (json_int_t)counts->invalid_utf8,
                     "entities", (json_int_t)counts->entities, "line_breaks", (json_int_t)counts->line_breaks,
                     "tags", (json_int_t)counts->tags, "control_characters",
                     (json_int_t)counts->control_characters);
}
