/* Rows of a data set that a file names. */
#include "select/named_rows.h"

#include <stdlib.h>
#include <string.h>

#define LONGEST_LINE ((size_t)1 << 20)

sc_status named_rows_index(const dataset *data, id_table *ids)
{
    for (size_t i = 0; i < data->n_reviews; i++) {
        int32_t row;
        bool is_new;
        const sc_status status = id_table_put(ids, data->reviews[i].id, &row, &is_new);
        if (status != SC_OK)
            return status;
        if (!is_new)
            return sc_fail(SC_BAD_INPUT,
                           "%s/reviews.jsonl: row %zu has the review_id \"%s\" of an earlier row; import the "
                           "reviews anew",
                           data->path, i, data->reviews[i].id);
    }
    return SC_OK;
}

/* The id that stands in a line; *object keeps it alive. */
static sc_status id_of(const char *line, size_t length, const char *where, json_t **object, const char **id)
{
    sc_status status = SC_OK;
    *id = line;
    if (line[strspn(line, " \t")] != '{')
        return SC_OK;
    SC_TRY(json_parse(line, length, where, object));
    SC_TRY(json_need_string(*object, "review_id", where, id));
cleanup:
    return status;
}

sc_status named_rows_read(const char *path, const char *data, const id_table *ids, int64_t **rows, int64_t *n)
{
    sc_status status = SC_OK;
    line_reader *lines = NULL;
    json_t *object = NULL;
    uint8_t *seen = NULL;
    strbuf where = {0};
    size_t capacity = 0;
    *n = 0;
    SC_TRY(sc_alloc(&seen, ids->n, 1));
    SC_TRY(line_reader_open(path, LONGEST_LINE, &lines));
    for (;;) {
        const char *line;
        size_t length;
        const char *id;
        SC_TRY(line_reader_next(lines, &line, &length));
        if (!line)
            break;
        if (length == 0)
            continue;
        strbuf_clear(&where);
        strbuf_printf(&where, "%s:%lld", path, (long long)line_reader_line(lines));
        SC_TRY(strbuf_status(&where));
        json_decref(object);
        object = NULL;
        SC_TRY(id_of(line, length, strbuf_text(&where), &object, &id));
        const int32_t row = id_table_find(ids, id);
        if (row < 0 || seen[row]) {
            status = row < 0 ? sc_fail(SC_BAD_INPUT,
                                       "%s: %s has no review \"%s\"; is the file of another data set?",
                                       strbuf_text(&where), data, id)
                             : sc_fail(SC_BAD_INPUT, "%s: the review \"%s\" stands there a second time",
                                       strbuf_text(&where), id);
            goto cleanup;
        }
        seen[row] = 1;
        SC_TRY(sc_grow(rows, &capacity, (size_t)*n + 1, sizeof **rows));
        (*rows)[(*n)++] = row;
    }
cleanup:
    json_decref(object);
    line_reader_close(lines);
    strbuf_free(&where);
    free(seen);
    return status;
}
