/* Source of the grammar: RFC 4180. A record is gathered into one buffer; fields are cut out of it by
 * offsets, since the buffer moves while it grows. */
#include "data/csv.h"

#include <stdlib.h>
#include <string.h>

struct csv_reader {
    csv_options options;
    line_reader *lines;
    char **names; /* [n_columns] the header */
    size_t n_columns;
    strbuf record;   /* the fields, each terminated by a zero */
    size_t *offsets; /* [n_fields] */
    size_t n_fields, capacity;
    const char **fields; /* [n_columns] */
    int64_t first_line;  /* of the record */
    strbuf where;
};

static sc_status csv_fail(const csv_reader *r, const char *what)
{
    return sc_fail(SC_BAD_INPUT, "%s:%lld: %s", line_reader_path(r->lines),
                   (long long)line_reader_line(r->lines), what);
}

/* The next line that belongs to the record; *line = NULL at the end of the file. */
static sc_status csv_line(csv_reader *r, const char **line, size_t *length)
{
    sc_status status = line_reader_next(r->lines, line, length);
    if (status != SC_OK || !*line)
        return status;
    if (line_reader_line(r->lines) == 1 && *length >= 3 && memcmp(*line, "\xEF\xBB\xBF", 3) == 0) {
        *line += 3; /* the byte order mark that spreadsheets write */
        *length -= 3;
    }
    if (memchr(*line, '\0', *length))
        return csv_fail(r, "the line holds a zero byte; the file is damaged or not text");
    if (r->record.len + *length > r->options.max_record)
        return sc_fail(SC_BAD_INPUT, "%s:%lld: the record is longer than %zu bytes; is a quote left open?",
                       line_reader_path(r->lines), (long long)r->first_line, r->options.max_record);
    return SC_OK;
}

static sc_status begin_field(csv_reader *r)
{
    sc_status status = sc_grow(&r->offsets, &r->capacity, r->n_fields + 1, sizeof *r->offsets);
    if (status == SC_OK)
        r->offsets[r->n_fields++] = r->record.len;
    return status;
}

/* One quoted field, *at behind its opening quote; moves to the character behind the closing one. It
 * may run over several lines. */
static sc_status quoted_field(csv_reader *r, const char **line, size_t *length, size_t *at)
{
    sc_status status = SC_OK;
    int64_t opened = line_reader_line(r->lines);
    for (;;) {
        const char *quote = memchr(*line + *at, '"', *length - *at);
        size_t stop = quote ? (size_t)(quote - *line) : *length;
        strbuf_append(&r->record, *line + *at, stop - *at);
        if (!quote) {
            SC_TRY(csv_line(r, line, length));
            if (!*line)
                return sc_fail(SC_BAD_INPUT, "%s:%lld: the quote that opens here is never closed",
                               line_reader_path(r->lines), (long long)opened);
            strbuf_putc(&r->record, '\n');
            *at = 0;
        } else if (stop + 1 < *length && (*line)[stop + 1] == '"') {
            strbuf_putc(&r->record, '"');
            *at = stop + 2;
        } else {
            *at = stop + 1;
            break;
        }
    }
cleanup:
    return status;
}

/* Gathers one record; r->n_fields = 0 at the end of the file. */
static sc_status read_record(csv_reader *r)
{
    sc_status status = SC_OK;
    const char *line = NULL;
    size_t length = 0, at = 0;
    r->n_fields = 0;
    strbuf_clear(&r->record);
    do {
        r->first_line = line_reader_line(r->lines) + 1;
        SC_TRY(csv_line(r, &line, &length));
    } while (line && length == 0);
    if (!line)
        goto cleanup;
    for (;;) {
        SC_TRY(begin_field(r));
        if (r->options.quoted && at < length && line[at] == '"') {
            at++;
            SC_TRY(quoted_field(r, &line, &length, &at));
            if (at < length && line[at] != r->options.delimiter) {
                status = csv_fail(r, "text follows a closing quote; a quote inside a field is written twice");
                goto cleanup;
            }
        } else {
            const char *end = memchr(line + at, r->options.delimiter, length - at);
            size_t stop = end ? (size_t)(end - line) : length;
            if (r->options.quoted && memchr(line + at, '"', stop - at)) {
                status = csv_fail(r, "a quote stands inside a field that does not begin with one");
                goto cleanup;
            }
            strbuf_append(&r->record, line + at, stop - at);
            at = stop;
        }
        strbuf_putc(&r->record, '\0');
        if (at >= length)
            break;
        at++; /* the delimiter */
    }
    SC_TRY(strbuf_status(&r->record));
cleanup:
    return status;
}

static sc_status read_header(csv_reader *r)
{
    sc_status status = SC_OK;
    SC_TRY(read_record(r));
    if (r->n_fields == 0)
        return sc_fail(SC_BAD_INPUT, "%s is empty; a header row that names the columns is needed",
                       line_reader_path(r->lines));
    SC_TRY(sc_alloc(&r->names, r->n_fields, sizeof *r->names));
    SC_TRY(sc_alloc(&r->fields, r->n_fields, sizeof *r->fields));
    for (size_t i = 0; i < r->n_fields; i++) {
        const char *name = r->record.data + r->offsets[i];
        for (size_t k = 0; name[0] != '\0' && k < i; k++) {
            if (strcmp(r->names[k], name) == 0)
                return sc_fail(SC_BAD_INPUT, "%s:1: two columns are named \"%s\"", line_reader_path(r->lines),
                               name);
        }
        SC_TRY(sc_strdup(&r->names[i], name));
        r->n_columns = i + 1;
    }
cleanup:
    return status;
}

sc_status csv_open(const char *path, csv_options options, csv_reader **out)
{
    sc_status status = SC_OK;
    csv_reader *r = NULL;
    *out = NULL;
    SC_TRY(sc_alloc(&r, 1, sizeof *r));
    r->options = options;
    SC_TRY(line_reader_open(path, options.max_record, &r->lines));
    SC_TRY(read_header(r));
    *out = r;
    r = NULL;
cleanup:
    csv_close(r);
    return status;
}

int csv_column(const csv_reader *r, const char *name)
{
    for (size_t i = 0; i < r->n_columns; i++) {
        if (strcmp(r->names[i], name) == 0)
            return (int)i;
    }
    return -1;
}

sc_status csv_need_column(const csv_reader *r, const char *name, int *column)
{
    *column = csv_column(r, name);
    if (*column >= 0)
        return SC_OK;
    strbuf names = {0};
    for (size_t i = 0; i < r->n_columns; i++)
        strbuf_printf(&names, "%s%s", i ? ", " : "", r->names[i]);
    sc_status status = sc_fail(SC_BAD_INPUT, "%s:1: the header row has no column \"%s\"; it names: %.400s",
                               line_reader_path(r->lines), name, strbuf_text(&names));
    strbuf_free(&names);
    return status;
}

sc_status csv_next(csv_reader *r, const char *const **fields)
{
    sc_status status = SC_OK;
    *fields = NULL;
    SC_TRY(read_record(r));
    if (r->n_fields == 0)
        goto cleanup;
    if (r->n_fields != r->n_columns) {
        status = sc_fail(SC_BAD_INPUT, "%s:%lld: %zu fields where the header row has %zu",
                         line_reader_path(r->lines), (long long)r->first_line, r->n_fields, r->n_columns);
        goto cleanup;
    }
    for (size_t i = 0; i < r->n_columns; i++)
        r->fields[i] = r->record.data + r->offsets[i];
    strbuf_clear(&r->where);
    strbuf_printf(&r->where, "%s:%lld", line_reader_path(r->lines), (long long)r->first_line);
    SC_TRY(strbuf_status(&r->where));
    *fields = r->fields;
cleanup:
    return status;
}

const char *csv_where(const csv_reader *r)
{
    return strbuf_text(&r->where);
}

uint64_t csv_consumed(const csv_reader *r)
{
    return line_reader_consumed(r->lines);
}

uint64_t csv_size(const csv_reader *r)
{
    return line_reader_size(r->lines);
}

void csv_close(csv_reader *r)
{
    if (!r)
        return;
    line_reader_close(r->lines);
    for (size_t i = 0; i < r->n_columns; i++)
        free(r->names[i]);
    free(r->names);
    free(r->fields);
    free(r->offsets);
    strbuf_free(&r->record);
    strbuf_free(&r->where);
    free(r);
}
