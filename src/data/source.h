/* One input of an import: JSON lines with repaired UTF-8, file:line, progress; and the entries that
 * every import leaves behind about its sources and about what it dropped. */
#ifndef SC_DATA_SOURCE_H
#define SC_DATA_SOURCE_H

#include "base/json.h"
#include "base/log.h"
#include "data/clean.h"

#ifdef __cplusplus
extern "C" {
#endif

/* No record of a review data set comes near this; it bounds what a damaged file can take. */
#define SOURCE_MAX_RECORD ((size_t)64 << 20)

typedef struct source {
    line_reader *lines;
    clean_counts *counts;
    strbuf repaired, where;
    progress *progress;
    uint64_t told; /* bytes reported as progress */
} source;

/* `counts` counts repaired UTF-8 and must live as long as the source. */
sc_status source_open(source *s, const char *path, clean_counts *counts);
/* The next line's JSON value (a new reference); *out = NULL at the end. Blank lines are skipped. */
sc_status source_next(source *s, json_t **out);
/* The same, and anything but an object is an error. */
sc_status source_next_object(source *s, json_t **out);
const char *source_where(const source *s); /* "reviews.jsonl.gz:12" */
void source_close(source *s);              /* {0} is fine */

/* Appends {"role", "name", "bytes", "sha256"} of a file; the name without its folder, so that the same
 * input gives the same bytes wherever it lies. */
sc_status source_describe(json_t *sources, const char *role, const char *path);
/* object[reason] += n. */
sc_status count_reason(json_t *object, const char *reason, int64_t n);
int64_t count_total(const json_t *object);

/* SC_OK if `id` can stand in a line of its own: not longer than 512 bytes, no control characters. */
sc_status check_id(const char *id, const char *what, const char *where);
bool is_blank(const char *text);
/* A whole file (plain, .gz or .zst) as one JSON value. */
sc_status json_read_compressed(const char *path, json_t **out);
/* The whole text as a finite number. */
bool parse_number(const char *text, double *out);

#ifdef __cplusplus
}
#endif
#endif
