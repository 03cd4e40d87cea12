/* From a reply's text to ranked titles. */
#include "evaluate/parse.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "evaluate/title.h"

void title_list_free(title_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->titles[i]);
    free(l->titles);
    *l = (title_list){0};
}

typedef struct line {
    const char *text;
    size_t n;
} line;

typedef struct line_list {
    line *lines;
    size_t n, cap;
} line_list;

static sc_status add_line(line_list *l, const char *text, size_t n)
{
    sc_status status = sc_grow(&l->lines, &l->cap, l->n + 1, sizeof *l->lines);
    if (status == SC_OK)
        l->lines[l->n++] = (line){text, n};
    return status;
}

static sc_status split_lines(const char *text, line_list *out)
{
    for (;;) {
        const char *end = strchr(text, '\n');
        sc_status status = add_line(out, text, end ? (size_t)(end - text) : strlen(text));
        if (status != SC_OK || !end)
            return status;
        text = end + 1;
    }
}

static sc_status add_title(title_list *l, const char *text, size_t n)
{
    char *title = malloc(n + 1);
    char **grown = title ? realloc(l->titles, (l->n + 1) * sizeof *grown) : NULL;
    if (!grown) {
        free(title);
        return sc_fail(SC_MEMORY, "no memory for a list of %zu titles", l->n + 1);
    }
    memcpy(title, text, n);
    title[n] = 0;
    l->titles = grown;
    l->titles[l->n++] = title;
    return SC_OK;
}

/* --- he2023 (He et al. 2023, data/extract_prediction.py; reference: 2.3) ------------------------ */

/* Bytes of the code point at text, and whether Python's \s or \d matches it. */
static size_t code_point(const char *text, size_t n, uint32_t *cp)
{
    const size_t used = n > 0 ? utf8_decode(text, n, cp) : 0;
    if (used == 0)
        *cp = 0xfffd;
    return used > 0 ? used : n > 0;
}

static bool is_decimal(uint32_t cp)
{
    return (cp >= '0' && cp <= '9') ||
           (cp > 127 && utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_ND);
}

/* How much of text the numbering rule ^(?:\d+[\.\)、]?\s*[\-—–]?\s*)? eats. */
static size_t numbering(const char *text, size_t n)
{
    uint32_t cp;
    size_t at = 0, used;
    while ((used = code_point(text + at, n - at, &cp)) > 0 && is_decimal(cp))
        at += used;
    if (at == 0)
        return 0;
    if (used > 0 && (cp == '.' || cp == ')' || cp == 0x3001))
        at += used;
    while ((used = code_point(text + at, n - at, &cp)) > 0 && title_space(cp))
        at += used;
    if (used > 0 && (cp == '-' || cp == 0x2014 || cp == 0x2013)) {
        at += used;
        while ((used = code_point(text + at, n - at, &cp)) > 0 && title_space(cp))
            at += used;
    }
    return at;
}

static sc_status parse_he2023(const char *text, title_list *out)
{
    sc_status status = SC_OK;
    strbuf all = {0}, bare = {0}, folded = {0};
    line_list lines = {0};
    const char *one = strstr(text, "1.");
    strbuf_puts(&all, one ? one + 2 : text);
    SC_TRY(strbuf_status(&all));
    if (!one)
        for (size_t i = 0; i < all.len; i++)
            if (all.data[i] == ',')
                all.data[i] = '\n';
    SC_TRY(split_lines(strbuf_text(&all), &lines));
    for (size_t i = 0; i < lines.n; i++) {
        strbuf_clear(&bare);
        strbuf_clear(&folded);
        title_drop_parentheses(&bare, lines.lines[i].text, lines.lines[i].n);
        title_fold_spaces(&folded, strbuf_text(&bare), bare.len);
        SC_TRY(strbuf_status(&bare));
        SC_TRY(strbuf_status(&folded));
        const size_t skip = numbering(strbuf_text(&folded), folded.len);
        SC_TRY(add_title(out, strbuf_text(&folded) + skip, folded.len - skip));
    }
cleanup:
    strbuf_free(&all);
    strbuf_free(&bare);
    strbuf_free(&folded);
    free(lines.lines);
    return status;
}

/* --- strict -------------------------------------------------------------------------------------- */

enum { LONGEST_TITLE = 200 /* bytes: beyond it a line is prose */, LONGEST_NAME_AFTER_DASH = 5 /* words */ };

static line trimmed(line l)
{
    while (l.n > 0 && isspace((unsigned char)l.text[0])) {
        l.text++;
        l.n--;
    }
    while (l.n > 0 && isspace((unsigned char)l.text[l.n - 1]))
        l.n--;
    return l;
}

/* Bytes of "12. ", "12) ", "12、", "(12) ", "#12 "; 0 if there is no list number. A number without
 * punctuation belongs to the title ("12 Angry Men"), and so does "2.5" or "10,000". */
static size_t list_number(const char *text, size_t n)
{
    size_t at = 0;
    const bool opened = n > 0 && text[0] == '(', hash = n > 0 && text[0] == '#';
    while (at < n && text[at] == '*')
        at++;
    const size_t stars = at;
    if (opened || hash)
        at++;
    const size_t first = at;
    while (at < n && at - first < 4 && isdigit((unsigned char)text[at]))
        at++;
    if (at == first || at - first > 3)
        return 0;
    if (n - at >= 3 && memcmp(text + at, "\xe3\x80\x81", 3) == 0)
        return at + 3;
    if (at < n && (text[at] == '.' || text[at] == ')') && (!opened || text[at] == ')')) {
        at++;
        if (at < n && (text[at] == '.' || text[at] == ','))
            return 0;
        if (at < n && isdigit((unsigned char)text[at]))
            return 0;
        while (stars > 0 && at < n && text[at] == '*')
            at++;
        return at;
    }
    return hash && at < n && (text[at] == ' ' || text[at] == ':') ? at + 1 : 0;
}

static size_t bullet(const char *text, size_t n)
{
    static const char *const marks[] = {
        "- ", "* ", "+ ", "\xe2\x80\xa2", "\xe2\x80\x93 ", "\xe2\x80\x94 ", "\xc2\xb7"};
    for (size_t m = 0; m < sizeof marks / sizeof *marks; m++)
        if (n >= strlen(marks[m]) && memcmp(text, marks[m], strlen(marks[m])) == 0)
            return strlen(marks[m]);
    return 0;
}

/* The first mark of `open` closes at `close`: what is between, if it opens the line. */
static bool enclosed(line *l, const char *open, const char *close)
{
    const size_t o = strlen(open), c = strlen(close);
    if (l->n < o + c || memcmp(l->text, open, o) != 0)
        return false;
    for (size_t i = o; i + c <= l->n; i++)
        if (memcmp(l->text + i, close, c) == 0) {
            if (i == o)
                return false;
            /* "'Tis": an apostrophe inside of a word closes nothing. */
            if (i + c < l->n && isalnum((unsigned char)l->text[i + c]))
                continue;
            *l = trimmed((line){l->text + o, i - o});
            return true;
        }
    return false;
}

static size_t count_words(const char *text, size_t n)
{
    size_t words = 0;
    for (size_t i = 0; i < n; i++)
        words += text[i] != ' ' && (i == 0 || text[i - 1] == ' ');
    return words;
}

/* "Title (1999) - why", "Title - a reason in many words", "Title: a reason ..." -> "Title". A dash before
 * few words may be part of the name ("Mission: Impossible - Fallout"). */
static line without_reason(line l)
{
    static const char *const dashes[] = {" - ", " \xe2\x80\x93 ", " \xe2\x80\x94 "};
    for (size_t i = 1; i < l.n; i++) {
        for (size_t d = 0; d < 3; d++) {
            const size_t width = strlen(dashes[d]);
            if (i + width >= l.n || memcmp(l.text + i, dashes[d], width) != 0)
                continue;
            const char *rest = l.text + i + width;
            const size_t n = l.n - i - width;
            if (l.text[i - 1] == ')' || islower((unsigned char)rest[0]) ||
                count_words(rest, n) > LONGEST_NAME_AFTER_DASH)
                return trimmed((line){l.text, i});
        }
        if (l.text[i] == ':' && l.text[i - 1] == ')')
            return trimmed((line){l.text, i});
    }
    return l;
}

static sc_status add_strict(title_list *out, line l)
{
    sc_status status = SC_OK;
    strbuf title = {0}, key = {0}, other = {0};
    l = trimmed(l);
    if (!enclosed(&l, "**", "**") && !enclosed(&l, "__", "__")) {
        l = without_reason(l);
        (void)enclosed(&l, "*", "*");
    }
    if (!enclosed(&l, "\"", "\"") && !enclosed(&l, "\xe2\x80\x9c", "\xe2\x80\x9d"))
        (void)enclosed(&l, "'", "'");
    l = without_reason(l);
    title_drop_trailing(&l.n, l.text);
    title_fold_spaces(&title, l.text, l.n);
    while (title.len > 0 && strchr(",;*", title.data[title.len - 1]))
        title.data[--title.len] = 0;
    SC_TRY(strbuf_status(&title));
    if (title.len == 0 || title.len > LONGEST_TITLE)
        goto cleanup;
    utf8_lower(&key, title.data, title.len);
    SC_TRY(strbuf_status(&key));
    for (size_t i = 0; i < out->n; i++) {
        strbuf_clear(&other);
        utf8_lower(&other, out->titles[i], strlen(out->titles[i]));
        SC_TRY(strbuf_status(&other));
        if (strcmp(strbuf_text(&other), strbuf_text(&key)) == 0)
            goto cleanup;
    }
    SC_TRY(add_title(out, title.data, title.len));
cleanup:
    strbuf_free(&title);
    strbuf_free(&key);
    strbuf_free(&other);
    return status;
}

/* "1. A 2. B 3. C" on one line: cuts at the numbers as they count up. */
static sc_status split_inline(line l, line_list *out)
{
    size_t start = list_number(l.text, l.n);
    for (int next = 2; start > 0; next++) {
        char mark[8];
        const int width = snprintf(mark, sizeof mark, " %d. ", next);
        const char *found = memmem(l.text + start, l.n - start, mark, (size_t)width);
        sc_status status =
            add_line(out, l.text + start, found ? (size_t)(found - l.text) - start : l.n - start);
        if (status != SC_OK || !found)
            return status;
        start = (size_t)(found - l.text) + (size_t)width;
    }
    return SC_OK;
}

static sc_status parse_strict(const char *text, title_list *out)
{
    sc_status status = SC_OK;
    line_list lines = {0}, parts = {0};
    size_t numbered = 0, bulleted = 0, filled = 0;
    SC_TRY(split_lines(text, &lines));
    for (size_t i = 0; i < lines.n; i++) {
        lines.lines[i] = trimmed(lines.lines[i]);
        const line l = lines.lines[i];
        numbered += list_number(l.text, l.n) > 0;
        bulleted += bullet(l.text, l.n) > 0;
        filled += l.n > 0;
    }
    for (size_t i = 0; i < lines.n; i++) {
        const line l = lines.lines[i];
        const size_t number = list_number(l.text, l.n), mark = bullet(l.text, l.n);
        if (l.n == 0)
            continue;
        if (numbered > 0) {
            /* What stands around a numbered list is talk. */
            if (numbered == 1 && number > 0)
                SC_TRY(split_inline(l, &parts));
            else if (number > 0)
                SC_TRY(add_line(&parts, l.text + number, l.n - number));
        } else if (bulleted > 0) {
            if (mark > 0)
                SC_TRY(add_line(&parts, l.text + mark, l.n - mark));
        } else if (filled == 1) {
            size_t start = 0;
            for (size_t c = 0; c <= l.n; c++)
                if (c == l.n || l.text[c] == ',' || l.text[c] == ';') {
                    SC_TRY(add_line(&parts, l.text + start, c - start));
                    start = c + 1;
                }
        } else if (l.text[l.n - 1] != ':') {
            SC_TRY(add_line(&parts, l.text, l.n));
        }
    }
    for (size_t i = 0; i < parts.n; i++)
        SC_TRY(add_strict(out, parts.lines[i]));
cleanup:
    free(lines.lines);
    free(parts.lines);
    return status;
}

sc_status parse_reply(const char *text, parse_mode mode, title_list *out)
{
    sc_status status = SC_OK;
    strbuf clean = {0};
    *out = (title_list){0};
    utf8_sanitize(&clean, text, strlen(text));
    SC_TRY(strbuf_status(&clean));
    SC_TRY(mode == PARSE_HE2023 ? parse_he2023(strbuf_text(&clean), out)
                                : parse_strict(strbuf_text(&clean), out));
cleanup:
    strbuf_free(&clean);
    if (status != SC_OK)
        title_list_free(out);
    return status;
}
