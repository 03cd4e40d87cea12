/* Strings: a growing buffer, UTF-8, and the nearest of several words. */
#ifndef SC_BASE_TEXT_H
#define SC_BASE_TEXT_H

#include <stdbool.h>
#include <stdarg.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A growing byte string, always terminated by a zero. {0} is empty. An allocation that fails is
 * remembered (`failed`), so that a row of appends is checked once by strbuf_status(). */
typedef struct strbuf {
    char *data;
    size_t len, cap;
    bool failed;
} strbuf;

void strbuf_append(strbuf *s, const char *bytes, size_t n);
void strbuf_puts(strbuf *s, const char *text);
void strbuf_putc(strbuf *s, char c);
void strbuf_printf(strbuf *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void strbuf_vprintf(strbuf *s, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));
void strbuf_clear(strbuf *s); /* keeps the memory */
void strbuf_free(strbuf *s);
char *strbuf_take(strbuf *s); /* the string, to be freed by the caller; s becomes empty */
sc_status strbuf_status(const strbuf *s);
const char *strbuf_text(const strbuf *s); /* never NULL */

/* Decodes one code point of text[0..n); returns its bytes, or 0 if the bytes are not valid UTF-8
 * (overlong, surrogate, above U+10FFFF, truncated). */
size_t utf8_decode(const char *text, size_t n, uint32_t *code_point);
size_t utf8_encode(uint32_t code_point, char out[4]);
bool utf8_valid(const char *text, size_t n);
/* Appends text with every maximal invalid part replaced by U+FFFD; counts the replacements. */
size_t utf8_sanitize(strbuf *out, const char *text, size_t n);
/* The same, and no zero byte: U+FFFD stands for it, so that nobody's strlen() cuts the text. */
void utf8_sanitize_string(strbuf *out, const char *text, size_t n);
/* Appends text with everything that could spoil a line or a terminal (control characters, line and
 * direction marks, invalid bytes) as \n, \t, \xNN or \u{N}. */
void text_visible(strbuf *out, const char *text, size_t n);
/* Unicode lower case, code point by code point (utf8proc's simple mapping), appended. */
void utf8_lower(strbuf *out, const char *text, size_t n);
/* Levenshtein distance over code points, unit costs. `limit`: results above it come back as
 * limit + 1; -1: no limit. */
int64_t text_distance(const char *a, const char *b, int64_t limit);
/* The candidate nearest to `word` (NULL-terminated list), NULL if none is near enough to suggest. */
const char *text_nearest(const char *word, const char *const *candidates);
bool text_starts(const char *text, const char *prefix);
bool text_ends(const char *text, const char *suffix);
/* Trims and folds every run of white space to one blank, appended. */
void text_fold_spaces(strbuf *out, const char *text, size_t n);
/* Replaces {name} by values[i] for names[i] (NULL-terminated list); an unknown {name} is an error
 * that names it and `where`. "{{" and "}}" give braces. */
sc_status text_expand(strbuf *out, const char *pattern, const char *where, const char *const *names,
                      const char *const *values);

#ifdef __cplusplus
}
#endif
#endif
