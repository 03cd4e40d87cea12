/* JSON through jansson, with errors that name file:line and key. */
#ifndef SC_BASE_JSON_H
#define SC_BASE_JSON_H

#include <jansson.h>

#include "base/file.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Parses one value; duplicate keys are refused. `where` ("reviews.jsonl:12") opens the sentence. */
sc_status json_parse(const char *text, size_t n, const char *where, json_t **out);
sc_status json_parse_file(const char *path, json_t **out);
/* The next line of a JSONL file as an object; *out = NULL at the end. Blank lines are skipped. Who
 * wants to go on after a malformed line takes line_reader_next() and json_parse() apart. */
sc_status json_next_line(line_reader *r, json_t **out);

/* Typed access. A missing key, or null, is an error in need_*, and the given default in get_*;
 * a wrong type is an error in both. Strings are borrowed from `object`. */
sc_status json_need_string(const json_t *object, const char *key, const char *where, const char **out);
sc_status json_get_string(const json_t *object, const char *key, const char *where, const char *fallback,
                          const char **out);
sc_status json_need_int(const json_t *object, const char *key, const char *where, int64_t *out);
sc_status json_get_int(const json_t *object, const char *key, const char *where, int64_t fallback,
                       int64_t *out);
sc_status json_need_number(const json_t *object, const char *key, const char *where, double *out);
sc_status json_get_number(const json_t *object, const char *key, const char *where, double fallback,
                          double *out);
sc_status json_get_bool(const json_t *object, const char *key, const char *where, bool fallback, bool *out);
sc_status json_need_array(const json_t *object, const char *key, const char *where, json_t **out);

/* Canonical text (sorted keys, no blanks, 17 digits), for hashes; and a compact line in insertion
 * order, for files. Takes no ownership. */
sc_status json_canonical(const json_t *value, strbuf *out);
sc_status json_write_line(file_writer *w, const json_t *value);
sc_status json_write_file(const char *path, const json_t *value); /* indented by 2, atomic */
/* Appends the keys of `now` whose value was another in `then` (an object, or NULL): "lr (0.1, now 0.2), seed (absent, now
 * 1)"; appends nothing where there are none. */
void json_differences(const json_t *then, const json_t *now, strbuf *out);
/* A string value from bytes that may not be UTF-8 (repaired). */
json_t *json_text(const char *text);

#ifdef __cplusplus
}
#endif
#endif
