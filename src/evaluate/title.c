/* How titles are brought into one form before they are compared. */
#include "evaluate/title.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

bool title_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

void title_fold_spaces(strbuf *out, const char *text, size_t n)
{
    bool blank = false, any = false;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0xfffd;
        size_t used = utf8_decode(text + i, n - i, &cp);
        used = used > 0 ? used : 1;
        if (title_space(cp)) {
            blank = true;
        } else {
            if (blank && any)
                strbuf_putc(out, ' ');
            strbuf_append(out, text + i, used);
            blank = false;
            any = true;
        }
        i += used;
    }
}

void title_drop_parentheses(strbuf *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '(') {
            size_t end = i + 1;
            while (end < n && text[end] != '(' && text[end] != ')')
                end++;
            if (end < n && text[end] == ')') {
                i = end;
                continue;
            }
        }
        strbuf_putc(out, text[i]);
    }
}

void title_drop_trailing(size_t *n, const char *text)
{
    for (;;) {
        size_t end = *n;
        while (end > 0 && isspace((unsigned char)text[end - 1]))
            end--;
        if (end == 0 || text[end - 1] != ')')
            return;
        size_t start = end - 1;
        while (start > 0 && text[start] != '(')
            start--;
        while (start > 0 && isspace((unsigned char)text[start - 1]))
            start--;
        if (start == 0)
            return;
        *n = start;
    }
}

void title_he_entity(strbuf *out, const char *uri)
{
    strbuf spaced = {0}, bare = {0};
    const size_t n = strlen(uri);
    const char *name = uri;
    /* Only a URI is cut at slashes: names in a data set may hold one ("Face/Off"). */
    if (n > 0 && uri[0] == '<' && strrchr(uri, '/'))
        name = strrchr(uri, '/') + 1;
    for (const char *c = name; *c; c++)
        strbuf_putc(&spaced, name != uri && strchr("_->", *c) ? ' ' : *c);
    title_drop_parentheses(&bare, strbuf_text(&spaced), spaced.len);
    title_fold_spaces(out, strbuf_text(&bare), bare.len);
    if (spaced.failed || bare.failed)
        out->failed = true;
    strbuf_free(&spaced);
    strbuf_free(&bare);
}

/* "matrix, the" -> "the matrix" for the articles of the catalogues at hand. */
static void front_article(strbuf *out, const char *text, size_t n)
{
    static const char *const articles[] = {"the", "a",  "an",  "le",  "la",  "les",
                                           "il",  "el", "los", "das", "der", "die"};
    for (size_t a = 0; a < sizeof articles / sizeof *articles; a++) {
        const size_t width = strlen(articles[a]);
        if (n > width + 2 && memcmp(text + n - width, articles[a], width) == 0 &&
            memcmp(text + n - width - 2, ", ", 2) == 0) {
            strbuf_puts(out, articles[a]);
            strbuf_putc(out, ' ');
            strbuf_append(out, text, n - width - 2);
            return;
        }
    }
    strbuf_append(out, text, n);
}

void title_normalise(strbuf *out, const char *title)
{
    strbuf lower = {0}, ordered = {0}, bare = {0};
    size_t n = strlen(title);
    title_drop_trailing(&n, title);
    utf8proc_uint8_t *folded = NULL;
    const utf8proc_ssize_t length =
        utf8proc_map((const utf8proc_uint8_t *)title, (utf8proc_ssize_t)n, &folded,
                     UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE | UTF8PROC_STRIPMARK | UTF8PROC_IGNORE);
    if (length >= 0)
        utf8_lower(&lower, (const char *)folded, (size_t)length);
    else
        utf8_lower(&lower, title, n);
    free(folded);
    while (lower.len > 0 && lower.data[lower.len - 1] == ' ')
        lower.data[--lower.len] = 0;
    front_article(&ordered, strbuf_text(&lower), lower.len);
    const char *text = strbuf_text(&ordered);
    for (size_t i = 0; i < ordered.len;) {
        uint32_t cp = 0xfffd;
        size_t used = utf8_decode(text + i, ordered.len - i, &cp);
        used = used > 0 ? used : 1;
        const utf8proc_category_t kind = utf8proc_category((utf8proc_int32_t)cp);
        if (cp == '&')
            strbuf_puts(&bare, " and ");
        else if (cp == '\'' || cp == 0x2019 || cp == 0x2018 || cp == '.' || cp == 0x02bc)
            ; /* "schindler's" and "e.t." close up */
        else if (title_space(cp) || (kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO))
            strbuf_putc(&bare, ' ');
        else
            strbuf_append(&bare, text + i, used);
        i += used;
    }
    /* A title of nothing but punctuation is compared as it is. */
    const size_t before = out->len;
    title_fold_spaces(out, strbuf_text(&bare), bare.len);
    if (out->len == before)
        title_fold_spaces(out, text, ordered.len);
    if (lower.failed || ordered.failed || bare.failed)
        out->failed = true;
    strbuf_free(&lower);
    strbuf_free(&ordered);
    strbuf_free(&bare);
}

/* The number that a word stands for; -1 for none. */
static int64_t number_of(const char *word, size_t n)
{
    static const char *const roman[] = {"ii",  "iii",  "iv",  "v",  "vi",  "vii",  "viii",  "ix",  "x", "xi",
                                        "xii", "xiii", "xiv", "xv", "xvi", "xvii", "xviii", "xix", "xx"};
    static const char *const words[] = {"two",   "three", "four", "five", "six",
                                        "seven", "eight", "nine", "ten"};
    if (n == 0)
        return -1;
    if (isdigit((unsigned char)word[0])) {
        int64_t value = 0;
        for (size_t i = 0; i < n; i++) {
            if (!isdigit((unsigned char)word[i]))
                break;
            if (value < 1000000000)
                value = value * 10 + (word[i] - '0');
        }
        return value;
    }
    for (size_t r = 0; r < sizeof roman / sizeof *roman; r++)
        if (strlen(roman[r]) == n && memcmp(word, roman[r], n) == 0)
            return (int64_t)r + 2;
    for (size_t w = 0; w < sizeof words / sizeof *words; w++)
        if (strlen(words[w]) == n && memcmp(word, words[w], n) == 0)
            return (int64_t)w + 2;
    return -1;
}

static int64_t next_number(const char **text)
{
    while (**text) {
        while (**text == ' ')
            (*text)++;
        const size_t n = strcspn(*text, " ");
        const int64_t value = number_of(*text, n);
        *text += n;
        if (value >= 0)
            return value;
    }
    return -1;
}

bool title_same_numbers(const char *a, const char *b)
{
    for (;;) {
        const int64_t x = next_number(&a), y = next_number(&b);
        if (x != y)
            return false;
        if (x < 0)
            return true;
    }
}
