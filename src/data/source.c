/* Reading the inputs of an import. */
#include "data/source.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

sc_status source_open(source *s, const char *path, clean_counts *counts)
{
    memset(s, 0, sizeof *s);
    s->counts = counts;
    sc_status status = line_reader_open(path, SOURCE_MAX_RECORD, &s->lines);
    if (status == SC_OK)
        s->progress = progress_begin(path_base(path), "bytes", (int64_t)line_reader_size(s->lines));
    return status;
}

sc_status source_next(source *s, json_t **out)
{
    sc_status status = SC_OK;
    const char *line = NULL;
    size_t length = 0, blanks = 0;
    *out = NULL;
    do {
        SC_TRY(line_reader_next(s->lines, &line, &length));
        blanks = line ? strspn(line, " \t") : 0;
    } while (line && blanks == length);
    if (!line) {
        progress_add(s->progress, (int64_t)(line_reader_size(s->lines) - s->told));
        s->told = line_reader_size(s->lines);
        goto cleanup;
    }
    strbuf_clear(&s->where);
    strbuf_printf(&s->where, "%s:%lld", line_reader_path(s->lines), (long long)line_reader_line(s->lines));
    SC_TRY(strbuf_status(&s->where));
    if ((line_reader_line(s->lines) & 1023) == 0) {
        uint64_t consumed = line_reader_consumed(s->lines);
        progress_add(s->progress, (int64_t)(consumed - s->told));
        s->told = consumed;
        SC_TRY(check_cancelled());
    }
    if (!utf8_valid(line, length)) {
        strbuf_clear(&s->repaired);
        s->counts->invalid_utf8 += (int64_t)utf8_sanitize(&s->repaired, line, length);
        SC_TRY(strbuf_status(&s->repaired));
        line = strbuf_text(&s->repaired);
        length = s->repaired.len;
    }
    SC_TRY(json_parse(line, length, s->where.data, out));
cleanup:
    return status;
}

sc_status source_next_object(source *s, json_t **out)
{
    sc_status status = source_next(s, out);
    if (status == SC_OK && *out && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        status = sc_fail(SC_BAD_INPUT, "%s: a JSON object is needed in every line", source_where(s));
    }
    return status;
}

const char *source_where(const source *s)
{
    return strbuf_text(&s->where);
}

void source_close(source *s)
{
    if (s->lines)
        progress_end(s->progress);
    line_reader_close(s->lines);
    strbuf_free(&s->repaired);
    strbuf_free(&s->where);
    memset(s, 0, sizeof *s);
}

sc_status source_describe(json_t *sources, const char *role, const char *path)
{
    sc_status status = SC_OK;
    char hex[65];
    uint64_t bytes = 0;
    SC_TRY(file_size(path, &bytes));
    SC_TRY(file_sha256(path, hex));
    json_t *entry = json_pack("{s:s, s:o, s:I, s:s}", "role", role, "name", json_text(path_base(path)),
                              "bytes", (json_int_t)bytes, "sha256", hex);
    if (!entry || json_array_append_new(sources, entry) != 0)
        return sc_fail(SC_MEMORY, "memory ran out while describing %s", path);
cleanup:
    return status;
}

sc_status count_reason(json_t *object, const char *reason, int64_t n)
{
    json_t *count = json_object_get(object, reason);
    int failed = count ? json_integer_set(count, json_integer_value(count) + n)
                       : json_object_set_new(object, reason, json_integer(n));
    return failed ? sc_fail(SC_MEMORY, "memory ran out while counting \"%s\"", reason) : SC_OK;
}

int64_t count_total(const json_t *object)
{
    int64_t total = 0;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        total += json_is_object(value) ? count_total(value) : json_integer_value(value);
    }
    return total;
}

sc_status check_id(const char *id, const char *what, const char *where)
{
    size_t length = strlen(id);
    if (length > 512)
        return sc_fail(SC_BAD_INPUT, "%s: the %s has %zu bytes; at most 512 are allowed", where, what,
                       length);
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)id[i] < 0x20 || id[i] == 0x7F)
            return sc_fail(SC_BAD_INPUT, "%s: the %s \"%.80s\" holds a control character", where, what, id);
    }
    if (!utf8_valid(id, length))
        return sc_fail(SC_BAD_INPUT, "%s: the %s is not valid UTF-8", where, what);
    return SC_OK;
}

bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '\0';
}

sc_status json_read_compressed(const char *path, json_t **out)
{
    sc_status status = SC_OK;
    line_reader *lines = NULL;
    strbuf text = {0};
    const char *line = NULL;
    size_t length = 0;
    *out = NULL;
    SC_TRY(line_reader_open(path, (size_t)1 << 30, &lines));
    for (;;) {
        SC_TRY(line_reader_next(lines, &line, &length));
        if (!line)
            break;
        strbuf_append(&text, line, length);
        strbuf_putc(&text, '\n');
        SC_TRY(strbuf_status(&text));
        if (text.len > (size_t)1 << 30) {
            status = sc_fail(SC_BAD_INPUT, "%s is larger than 1 GiB, too large for one JSON value", path);
            goto cleanup;
        }
    }
    SC_TRY(json_parse(strbuf_text(&text), text.len, path, out));
cleanup:
    line_reader_close(lines);
    strbuf_free(&text);
    return status;
}

bool parse_number(const char *text, double *out)
{
    char *end = NULL;
    while (*text == ' ')
        text++;
    /* strtod also takes "inf", "nan" and hexadecimal numbers, which no source writes. */
    if (text[0] == '\0' || strspn(text, "+-.0123456789eE ") != strlen(text))
        return false;
    *out = strtod(text, &end);
    return end != text && is_blank(end) && isfinite(*out);
}
