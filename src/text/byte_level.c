/* GPT-2's alphabet (bytes_to_unicode of its encoder.py): a visible letter for each byte; and NFC. */
#include <stdlib.h>

#include <utf8proc.h>

#include "text/tokenizer_parts.h"
#include "text/unicode_class.h"

/* Printable bytes of Latin-1 stand for themselves, the others for U+0100 and on, in order. */
static uint32_t letter_of(unsigned char byte)
{
    if (byte <= 32)
        return 256u + byte;
    if (byte < 127)
        return byte;
    if (byte <= 160)
        return 289u + (byte - 127u);
    return byte == 173 ? 323u : byte;
}

static int byte_of(uint32_t letter)
{
    if (letter < 256)
        return letter_of((unsigned char)letter) == letter ? (int)letter : -1;
    if (letter <= 288)
        return (int)letter - 256;
    if (letter <= 322)
        return (int)letter - 289 + 127;
    return letter == 323 ? 173 : -1;
}

void byte_level_spell(strbuf *out, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char utf8[4];
        size_t length = utf8_encode(letter_of((unsigned char)bytes[i]), utf8);
        strbuf_append(out, utf8, length);
    }
}

bool byte_level_bytes(strbuf *out, const char *text, size_t n)
{
    for (int pass = 0; pass < 2; pass++) /* looks first, appends then */
        for (size_t i = 0; i < n;) {
            uint32_t letter = 0;
            size_t length = utf8_decode(text + i, n - i, &letter);
            int byte = length ? byte_of(letter) : -1;
            if (byte < 0)
                return false;
            if (pass == 1)
                strbuf_putc(out, (char)byte);
            i += length;
        }
    return true;
}

static sc_status compose(strbuf *out, const char *text, size_t n)
{
    utf8proc_uint8_t *composed = NULL;
    if (n == 0)
        return SC_OK;
    if (n > PTRDIFF_MAX / 64)
        return sc_fail(SC_BAD_INPUT, "a text of %zu bytes is too long to be normalised; cut it", n);
    utf8proc_ssize_t length = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &composed,
                                           UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (length < 0)
        return sc_fail(length == UTF8PROC_ERROR_NOMEM ? SC_MEMORY : SC_BAD_INPUT,
                       "a text could not be normalised: %s", utf8proc_errmsg(length));
    strbuf_append(out, (const char *)composed, (size_t)length);
    free(composed);
    return strbuf_status(out);
}

/* Only what lies between marks that the library does not know is composed. */
sc_status normalize_nfc(strbuf *out, const char *text, size_t n)
{
    sc_status status = SC_OK;
    size_t done = 0, i = 0;
    while (i < n && (unsigned char)text[i] < 0x80)
        i++;
    if (i == n) {
        strbuf_append(out, text, n);
        return strbuf_status(out);
    }
    while (i < n) {
        uint32_t code_point = 0;
        size_t length = utf8_decode(text + i, n - i, &code_point);
        if (length == 0)
            return sc_fail(SC_INTERNAL, "normalize: the text is not UTF-8 at byte %zu", i);
        if (unicode_is_late_mark(code_point)) {
            SC_TRY(compose(out, text + done, i - done));
            strbuf_append(out, text + i, length);
            done = i + length;
        }
        i += length;
    }
    SC_TRY(compose(out, text + done, n - done));
    status = strbuf_status(out);
cleanup:
    return status;
}
