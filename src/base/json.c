/* JSON through jansson: strict parsing, typed access, canonical text. */
#include "base/json.h"

#include <math.h>
#include <string.h>

enum { WRITE_FLAGS = JSON_ENCODE_ANY | JSON_REAL_PRECISION(17) };

/* jansson's sentences, where they speak of its own interface rather than of the text. */
static const char *plain_reason(const json_error_t *error)
{
    switch (json_error_code(error)) {
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "a string holds the zero character \\u0000, which is not supported";
    case json_error_premature_end_of_input:
        return "it ends too early (cut off?)";
    case json_error_stack_overflow:
        return "it is nested too deeply";
    case json_error_numeric_overflow:
        return "a number is too large";
    default:
        return error->text;
    }
}

/* `where` may name the line already ("reviews.jsonl:12"): then the value's own line is not told. */
static sc_status parse(const char *text, size_t n, const char *where, bool has_lines, json_t **out)
{
    json_error_t error;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (*out)
        return SC_OK;
    if (json_error_code(&error) == json_error_out_of_memory)
        return sc_fail(SC_MEMORY, "%s: memory is out; free some memory", where);
    const char *reason = plain_reason(&error);
    if (has_lines || error.line > 1)
        return sc_fail(SC_BAD_INPUT, "%s:%d: not valid JSON at column %d: %s; correct it", where, error.line,
                       error.column, reason);
    return sc_fail(SC_BAD_INPUT, "%s: not valid JSON at column %d: %s; correct it", where, error.column,
                   reason);
}

sc_status json_parse(const char *text, size_t n, const char *where, json_t **out)
{
    return parse(text, n, where, false, out);
}

sc_status json_parse_file(const char *path, json_t **out)
{
    sc_status status = SC_OK;
    file_map map = {0};
    *out = NULL;
    SC_TRY(file_map_open(path, &map));
    const char *text = (const char *)map.data;
    size_t n = map.size;
    if (n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        text += 3;
        n -= 3;
    }
    SC_TRY(parse(text, n, path, true, out));
cleanup:
    file_map_close(&map);
    return status;
}

sc_status json_next_line(line_reader *r, json_t **out)
{
    sc_status status = SC_OK;
    strbuf where = {0};
    const char *line;
    size_t n;
    *out = NULL;
    do {
        SC_TRY(line_reader_next(r, &line, &n));
        if (!line)
            goto cleanup;
    } while (strspn(line, " \t\r") == n);
    strbuf_printf(&where, "%s:%lld", line_reader_path(r), (long long)line_reader_line(r));
    SC_TRY(strbuf_status(&where));
    SC_TRY(parse(line, n, where.data, false, out));
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s: a line must hold one JSON object {...}; correct it", where.data));
    }
cleanup:
    strbuf_free(&where);
    return status;
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        break;
    }
    return "null";
}

/* The value of a key, NULL if it is missing or null. */
static sc_status look_up(const json_t *object, const char *key, const char *where, const char *wanted,
                         bool needed, json_t **out)
{
    *out = NULL;
    if (!json_is_object(object))
        return sc_fail(SC_BAD_INPUT, "%s: an object with the key \"%s\" is expected, not %s", where, key,
                       object ? type_name(object) : "nothing");
    json_t *value = json_object_get(object, key);
    if (value && !json_is_null(value))
        *out = value;
    else if (needed)
        return sc_fail(SC_BAD_INPUT, "%s: the key \"%s\" is %s; give it %s", where, key,
                       value ? "null" : "missing", wanted);
    return SC_OK;
}

static sc_status fail_type(const json_t *value, const char *key, const char *where, const char *wanted)
{
    return sc_fail(SC_BAD_INPUT, "%s: the key \"%s\" must hold %s, not %s", where, key, wanted,
                   type_name(value));
}

static sc_status take_string(const json_t *object, const char *key, const char *where, bool needed,
                             const char **out)
{
    static const char wanted[] = "a string";
    json_t *value;
    sc_status status = look_up(object, key, where, wanted, needed, &value);
    if (status != SC_OK || !value)
        return status;
    if (!json_is_string(value))
        return fail_type(value, key, where, wanted);
    *out = json_string_value(value);
    return SC_OK;
}

sc_status json_need_string(const json_t *object, const char *key, const char *where, const char **out)
{
    *out = "";
    return take_string(object, key, where, true, out);
}

sc_status json_get_string(const json_t *object, const char *key, const char *where, const char *fallback,
                          const char **out)
{
    *out = fallback;
    return take_string(object, key, where, false, out);
}

static sc_status take_int(const json_t *object, const char *key, const char *where, bool needed, int64_t *out)
{
    static const char wanted[] = "an integer";
    static const double exact = 9007199254740992.0; /* 2^53: every integer up to it is a double */
    json_t *value;
    sc_status status = look_up(object, key, where, wanted, needed, &value);
    if (status != SC_OK || !value)
        return status;
    if (json_is_integer(value)) {
        *out = (int64_t)json_integer_value(value);
        return SC_OK;
    }
    /* 5.0 and 1.6e12 are integers, too: many programs write every number with a point. */
    double real = json_real_value(value);
    if (!json_is_real(value) || real != floor(real) || fabs(real) > exact)
        return fail_type(value, key, where, wanted);
    *out = (int64_t)real;
    return SC_OK;
}

sc_status json_need_int(const json_t *object, const char *key, const char *where, int64_t *out)
{
    *out = 0;
    return take_int(object, key, where, true, out);
}

sc_status json_get_int(const json_t *object, const char *key, const char *where, int64_t fallback,
                       int64_t *out)
{
    *out = fallback;
    return take_int(object, key, where, false, out);
}

static sc_status take_number(const json_t *object, const char *key, const char *where, bool needed,
                             double *out)
{
    static const char wanted[] = "a number";
    json_t *value;
    sc_status status = look_up(object, key, where, wanted, needed, &value);
    if (status != SC_OK || !value)
        return status;
    if (!json_is_number(value))
        return fail_type(value, key, where, wanted);
    *out = json_number_value(value);
    return SC_OK;
}

sc_status json_need_number(const json_t *object, const char *key, const char *where, double *out)
{
    *out = 0.0;
    return take_number(object, key, where, true, out);
}

sc_status json_get_number(const json_t *object, const char *key, const char *where, double fallback,
                          double *out)
{
    *out = fallback;
    return take_number(object, key, where, false, out);
}

sc_status json_get_bool(const json_t *object, const char *key, const char *where, bool fallback, bool *out)
{
    static const char wanted[] = "true or false";
    json_t *value;
    *out = fallback;
    sc_status status = look_up(object, key, where, wanted, false, &value);
    if (status != SC_OK || !value)
        return status;
    if (!json_is_boolean(value))
        return fail_type(value, key, where, wanted);
    *out = json_is_true(value);
    return SC_OK;
}

sc_status json_need_array(const json_t *object, const char *key, const char *where, json_t **out)
{
    static const char wanted[] = "an array";
    json_t *value;
    *out = NULL;
    sc_status status = look_up(object, key, where, wanted, true, &value);
    if (status != SC_OK)
        return status;
    if (!json_is_array(value))
        return fail_type(value, key, where, wanted);
    *out = value;
    return SC_OK;
}

static int append_to_strbuf(const char *bytes, size_t n, void *out)
{
    strbuf_append(out, bytes, n);
    return ((strbuf *)out)->failed ? -1 : 0;
}

sc_status json_canonical(const json_t *value, strbuf *out)
{
    size_t before = out->len;
    if (json_dump_callback(value, append_to_strbuf, out, WRITE_FLAGS | JSON_COMPACT | JSON_SORT_KEYS) == 0)
        return SC_OK;
    sc_status status = strbuf_status(out);
    if (out->data) {
        out->len = before;
        out->data[before] = '\0';
    }
    return status != SC_OK ? status : sc_fail(SC_INTERNAL, "A JSON value cannot be written; report this");
}

/* jansson passes on only that a write failed: the writer's own status is kept here. */
typedef struct dump_target {
    file_writer *writer;
    sc_status status;
} dump_target;

static int append_to_file(const char *bytes, size_t n, void *target)
{
    dump_target *t = target;
    t->status = file_writer_write(t->writer, bytes, n);
    return t->status == SC_OK ? 0 : -1;
}

static sc_status dump(file_writer *w, const json_t *value, size_t flags)
{
    dump_target target = {w, SC_OK};
    if (json_dump_callback(value, append_to_file, &target, WRITE_FLAGS | flags) != 0)
        return target.status != SC_OK ? target.status
                                      : sc_fail(SC_INTERNAL, "A JSON value cannot be written; report this");
    return file_writer_puts(w, "\n");
}

sc_status json_write_line(file_writer *w, const json_t *value)
{
    return dump(w, value, JSON_COMPACT);
}

sc_status json_write_file(const char *path, const json_t *value)
{
    sc_status status = SC_OK;
    file_writer *w = NULL;
    SC_TRY(file_writer_open(path, &w));
    SC_TRY(dump(w, value, JSON_INDENT(2)));
    SC_TRY(file_writer_commit(&w));
cleanup:
    file_writer_discard(&w);
    return status;
}

void json_differences(const json_t *then, const json_t *now, strbuf *out)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)now, key, value)
    {
        const json_t *old = json_object_get(then, key);
        if (old != NULL && json_equal(old, value))
            continue;
        char *a = old ? json_dumps(old, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6)) : NULL;
        char *b = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        strbuf_printf(out, "%s%s (%.80s, now %.80s)", out->len ? ", " : "", key, a ? a : "absent",
                      b ? b : "?");
        free(a);
        free(b);
    }
}

json_t *json_text(const char *text)
{
    size_t n = strlen(text);
    if (utf8_valid(text, n))
        return json_stringn(text, n);
    strbuf repaired = {0};
    (void)utf8_sanitize(&repaired, text, n);
    json_t *value = repaired.failed ? NULL : json_stringn(strbuf_text(&repaired), repaired.len);
    strbuf_free(&repaired);
    return value;
}
