/* UTF-8: decoding by table 3-7 of the Unicode Standard (well-formed byte sequences), repair by its
 * "maximal subpart" practice (section 3.9), lower case by utf8proc. */
#include <string.h>
#include <utf8proc.h>

#include "base/text.h"

/* Walks over one well-formed sequence, or over the maximal subpart of an ill-formed one. Returns
 * its bytes; *code_point is -1 if it is ill-formed. n > 0. */
static size_t step(const unsigned char *s, size_t n, int32_t *code_point)
{
    *code_point = -1;
    unsigned char lead = s[0];
    if (lead < 0x80) {
        *code_point = lead;
        return 1;
    }
    size_t length;
    unsigned char low = 0x80, high = 0xBF; /* the range of the second byte */
    uint32_t value;
    if (lead >= 0xC2 && lead <= 0xDF) {
        length = 2;
        value = lead & 0x1F;
    } else if ((lead & 0xF0) == 0xE0) {
        length = 3;
        value = lead & 0x0F;
        if (lead == 0xE0)
            low = 0xA0; /* below: overlong */
        if (lead == 0xED)
            high = 0x9F; /* above: surrogates */
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        length = 4;
        value = lead & 0x07;
        if (lead == 0xF0)
            low = 0x90; /* below: overlong */
        if (lead == 0xF4)
            high = 0x8F; /* above: beyond U+10FFFF */
    } else {
        return 1;
    }
    for (size_t i = 1; i < length; i++) {
        if (i == n || s[i] < low || s[i] > high)
            return i;
        value = value << 6 | (s[i] & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    *code_point = (int32_t)value;
    return length;
}

size_t utf8_decode(const char *text, size_t n, uint32_t *code_point)
{
    if (n == 0)
        return 0;
    int32_t value;
    size_t length = step((const unsigned char *)text, n, &value);
    if (value < 0)
        return 0;
    *code_point = (uint32_t)value;
    return length;
}

size_t utf8_encode(uint32_t code_point, char out[4])
{
    if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF))
        code_point = 0xFFFD;
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        out[0] = (char)(0xC0 | code_point >> 6);
        out[1] = (char)(0x80 | (code_point & 0x3F));
        return 2;
    }
    if (code_point < 0x10000) {
        out[0] = (char)(0xE0 | code_point >> 12);
        out[1] = (char)(0x80 | (code_point >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code_point & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code_point >> 18);
    out[1] = (char)(0x80 | (code_point >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code_point >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code_point & 0x3F));
    return 4;
}

bool utf8_valid(const char *text, size_t n)
{
    uint32_t code_point;
    for (size_t i = 0; i < n;) {
        size_t length = utf8_decode(text + i, n - i, &code_point);
        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

size_t utf8_sanitize(strbuf *out, const char *text, size_t n)
{
    size_t replaced = 0, start = 0;
    for (size_t i = 0; i < n;) {
        int32_t value;
        size_t length = step((const unsigned char *)text + i, n - i, &value);
        if (value < 0) {
            strbuf_append(out, text + start, i - start);
            strbuf_append(out, "\xEF\xBF\xBD", 3);
            start = i + length;
            replaced++;
        }
        i += length;
    }
    strbuf_append(out, text + start, n - start);
    return replaced;
}

void utf8_sanitize_string(strbuf *out, const char *text, size_t n)
{
    for (size_t at = 0; at < n;) {
        const char *zero = memchr(text + at, 0, n - at);
        const size_t part = zero ? (size_t)(zero - text) - at : n - at;
        utf8_sanitize(out, text + at, part);
        if (zero)
            strbuf_append(out, "\xEF\xBF\xBD", 3);
        at += part + (zero != NULL);
    }
}

void utf8_lower(strbuf *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        int32_t value;
        char encoded[4];
        i += step((const unsigned char *)text + i, n - i, &value);
        size_t length = utf8_encode(value < 0 ? 0xFFFD : (uint32_t)utf8proc_tolower(value), encoded);
        strbuf_append(out, encoded, length);
    }
}

/* C0 and C1 controls, and the marks that break a line or turn the writing direction around, with
 * which a title could disguise what an error message says. */
static bool is_unsafe(int32_t c)
{
    return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0x061C || c == 0x200E || c == 0x200F ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

void text_visible(strbuf *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        int32_t value;
        size_t length = step((const unsigned char *)text + i, n - i, &value);
        if (value < 0) {
            for (size_t k = 0; k < length; k++)
                strbuf_printf(out, "\\x%02X", (unsigned char)text[i + k]);
        } else if (value == '\n') {
            strbuf_puts(out, "\\n");
        } else if (value == '\r') {
            strbuf_puts(out, "\\r");
        } else if (value == '\t') {
            strbuf_puts(out, "\\t");
        } else if (value < 0x80 && is_unsafe(value)) {
            strbuf_printf(out, "\\x%02X", (unsigned)value);
        } else if (is_unsafe(value)) {
            strbuf_printf(out, "\\u{%X}", (unsigned)value);
        } else {
            strbuf_append(out, text + i, length);
        }
        i += length;
    }
}
