/* The growing string, and what is done with words: distance, suggestion, white space, templates. */
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for n more bytes and the closing zero. */
static bool reserve(strbuf *s, size_t n)
{
    size_t needed;
    if (s->failed)
        return false;
    if (__builtin_add_overflow(s->len, n, &needed) || __builtin_add_overflow(needed, 1, &needed) ||
        needed > PTRDIFF_MAX) {
        s->failed = true;
        return false;
    }
    if (needed <= s->cap)
        return true;
    size_t wanted = s->cap < 32 ? 64 : s->cap * 2; /* cap <= PTRDIFF_MAX: no overflow */
    if (wanted < needed)
        wanted = needed;
    char *larger = realloc(s->data, wanted);
    if (!larger) {
        s->failed = true;
        return false;
    }
    s->data = larger;
    s->cap = wanted;
    return true;
}

void strbuf_append(strbuf *s, const char *bytes, size_t n)
{
    if (!reserve(s, n))
        return;
    if (n > 0)
        memcpy(s->data + s->len, bytes, n);
    s->len += n;
    s->data[s->len] = '\0';
}

void strbuf_puts(strbuf *s, const char *text)
{
    strbuf_append(s, text, strlen(text));
}

void strbuf_putc(strbuf *s, char c)
{
    strbuf_append(s, &c, 1);
}

void strbuf_vprintf(strbuf *s, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int n = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (n < 0) {
        s->failed = true;
    } else if (reserve(s, (size_t)n)) {
        (void)vsnprintf(s->data + s->len, (size_t)n + 1, format, arguments);
        s->len += (size_t)n;
    }
}

void strbuf_printf(strbuf *s, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    strbuf_vprintf(s, format, arguments);
    va_end(arguments);
}

void strbuf_clear(strbuf *s)
{
    s->len = 0;
    s->failed = false;
    if (s->data)
        s->data[0] = '\0';
}

void strbuf_free(strbuf *s)
{
    free(s->data);
    *s = (strbuf){0};
}

char *strbuf_take(strbuf *s)
{
    char *text = NULL;
    if (reserve(s, 0)) {
        s->data[s->len] = '\0';
        text = s->data;
        s->data = NULL;
    }
    strbuf_free(s);
    return text;
}

sc_status strbuf_status(const strbuf *s)
{
    if (s->failed)
        return sc_fail(SC_MEMORY,
                       "Memory for a text of more than %zu bytes is not to be had; free some memory", s->len);
    return SC_OK;
}

const char *strbuf_text(const strbuf *s)
{
    return s->data ? s->data : "";
}

bool text_starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool text_ends(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && memcmp(text + n - m, suffix, m) == 0;
}

/* The code points of a text; an invalid byte counts as one of its own (in the range of the
 * surrogates, which valid text does not use). At most strlen(text). */
static size_t code_points(const char *text, size_t n, uint32_t *out)
{
    size_t count = 0;
    for (size_t i = 0; i < n; count++) {
        size_t length = utf8_decode(text + i, n - i, &out[count]);
        if (length == 0) {
            out[count] = 0xDC00u + (unsigned char)text[i];
            length = 1;
        }
        i += length;
    }
    return count;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Wagner-Fischer with one row, inside the band |i - j| <= limit (Ukkonen 1985): what leaves the
 * band costs more than the limit. m <= n, and row has m + 1 places. */
static size_t banded_distance(const uint32_t *a, size_t n, const uint32_t *b, size_t m, size_t limit,
                              size_t *row)
{
    const size_t beyond = limit + 1;
    for (size_t j = 0; j <= m; j++)
        row[j] = least(j, beyond);
    for (size_t i = 1; i <= n; i++) {
        size_t from = i > limit ? i - limit : 1;
        size_t to = i < m && limit < m - i ? i + limit : m;
        if (from > m)
            return beyond;
        size_t diagonal = row[from - 1];
        row[from - 1] = from == 1 ? least(i, beyond) : beyond;
        size_t best = row[from - 1];
        for (size_t j = from; j <= to; j++) {
            size_t above = row[j];
            size_t cost = diagonal + (a[i - 1] != b[j - 1]);
            cost = least(cost, least(above, row[j - 1]) + 1);
            row[j] = least(cost, beyond);
            best = least(best, row[j]);
            diagonal = above;
        }
        if (best == beyond)
            return beyond;
    }
    return row[m];
}

int64_t text_distance(const char *a, const char *b, int64_t limit)
{
    enum { SMALL = 256 };
    uint32_t small_points[2 * SMALL];
    size_t small_row[SMALL + 1];
    uint32_t *points = small_points;
    size_t *row = small_row;
    size_t a_bytes = strlen(a), b_bytes = strlen(b);
    size_t longest = a_bytes > b_bytes ? a_bytes : b_bytes;
    if (longest > SMALL) {
        points = calloc(longest, 2 * sizeof *points);
        row = calloc(longest + 1, sizeof *row);
    }
    size_t distance = longest;
    size_t bound = limit < 0 || (uint64_t)limit > longest ? longest : (size_t)limit;
    if (points && row) {
        uint32_t *x = points, *y = points + longest;
        size_t n = code_points(a, a_bytes, x), m = code_points(b, b_bytes, y);
        if (n < m) {
            uint32_t *swapped = x;
            x = y;
            y = swapped;
            size_t count = n;
            n = m;
            m = count;
        }
        /* What both begin and end with costs nothing. */
        for (; m > 0 && x[0] == y[0]; n--, m--) {
            x++;
            y++;
        }
        for (; m > 0 && x[n - 1] == y[m - 1]; n--)
            m--;
        distance = n - m > bound ? bound + 1 : m == 0 ? n : banded_distance(x, n, y, m, bound, row);
    }
    if (points != small_points)
        free(points);
    if (row != small_row)
        free(row);
    if (limit >= 0 && distance > (uint64_t)limit)
        return limit + 1;
    return (int64_t)distance;
}

const char *text_nearest(const char *word, const char *const *candidates)
{
    size_t n = strlen(word);
    int64_t allowed = n < 5 ? 1 : (int64_t)((n + 1) / 3);
    const char *nearest = NULL, *begun = NULL;
    int64_t smallest = allowed + 1;
    size_t n_begun = 0;
    for (; *candidates; candidates++) {
        int64_t distance = text_distance(word, *candidates, allowed);
        if (distance < smallest) {
            smallest = distance;
            nearest = *candidates;
        }
        if (n >= 2 && text_starts(*candidates, word)) {
            begun = *candidates;
            n_begun++;
        }
    }
    if (nearest)
        return nearest;
    return n_begun == 1 ? begun : NULL;
}

/* The property White_Space of Unicode 15 (PropList.txt). */
static bool is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

void text_fold_spaces(strbuf *out, const char *text, size_t n)
{
    bool any = false, pending = false;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        size_t length = utf8_decode(text + i, n - i, &c);
        if (length > 0 && is_space(c)) {
            pending = any;
        } else {
            length = length > 0 ? length : 1; /* an invalid byte is none of our business */
            if (pending)
                strbuf_putc(out, ' ');
            strbuf_append(out, text + i, length);
            any = true;
            pending = false;
        }
        i += length;
    }
}

static int line_of(const char *text, const char *place)
{
    int line = 1;
    for (; text < place; text++)
        line += *text == '\n';
    return line;
}

/* Expands the {name} at p; *p moves behind it. */
static sc_status expand_name(strbuf *out, const char *pattern, const char **p, const char *where,
                             const char *const *names, const char *const *values)
{
    const char *name = *p + 1;
    size_t n = strcspn(name, "{}\n");
    if (name[n] != '}')
        return sc_fail(SC_BAD_INPUT, "%s:%d: a { has no closing }; write {{ for a brace", where,
                       line_of(pattern, *p));
    for (size_t i = 0; names[i]; i++) {
        if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0) {
            if (values[i])
                strbuf_puts(out, values[i]);
            *p = name + n + 1;
            return SC_OK;
        }
    }
    sc_status status;
    char *unknown = strndup(name, n);
    const char *meant = unknown ? text_nearest(unknown, names) : NULL;
    strbuf known = {0};
    for (size_t i = 0; names[i]; i++)
        strbuf_printf(&known, "%s{%s}", i > 0 ? ", " : "", names[i]);
    if (meant)
        status = sc_fail(SC_BAD_INPUT, "%s:%d: {%.*s} is not known; did you mean {%s}?", where,
                         line_of(pattern, *p), (int)least(n, 80), name, meant);
    else
        status = sc_fail(SC_BAD_INPUT, "%s:%d: {%.*s} is not known; known are: %s (write {{ for a brace)",
                         where, line_of(pattern, *p), (int)least(n, 80), name, strbuf_text(&known));
    strbuf_free(&known);
    free(unknown);
    return status;
}

sc_status text_expand(strbuf *out, const char *pattern, const char *where, const char *const *names,
                      const char *const *values)
{
    sc_status status = SC_OK;
    size_t length_before = out->len;
    const char *p = pattern;
    while (*p) {
        size_t plain = strcspn(p, "{}");
        strbuf_append(out, p, plain);
        p += plain;
        if (*p == '\0')
            break;
        if (p[0] == p[1]) {
            strbuf_putc(out, *p);
            p += 2;
        } else if (*p == '{') {
            SC_TRY(expand_name(out, pattern, &p, where, names, values));
        } else {
            SC_TRY(sc_fail(SC_BAD_INPUT, "%s:%d: a } has no opening {; write }} for a brace", where,
                           line_of(pattern, p)));
        }
    }
    SC_TRY(strbuf_status(out));
cleanup:
    if (status != SC_OK && out->data) {
        out->len = length_before;
        out->data[length_before] = '\0';
    }
    return status;
}
