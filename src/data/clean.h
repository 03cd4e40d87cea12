/* Cleaning of text from the web: HTML, bad UTF-8, control characters. Every change is counted. */
#ifndef SC_DATA_CLEAN_H
#define SC_DATA_CLEAN_H

#include "base/json.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct clean_counts {
    int64_t invalid_utf8;       /* maximal invalid parts replaced by U+FFFD */
    int64_t entities;           /* &amp; &#39; &#x27; decoded */
    int64_t line_breaks;        /* <br />, <p>, <li> ... turned into a line end */
    int64_t tags;               /* other HTML tags and comments removed */
    int64_t control_characters; /* removed; U+0080 to U+009F read as Windows-1252 */
} clean_counts;

/* Appends the cleaned text. Entities are decoded once and after the tags, so that "&lt;b&gt;"
 * becomes the text "<b>". Only the elements of HTML are tags: "I <3 it" and "<spoiler>" stay.
 * Blanks at both ends go; \r\n and \r become \n; tabs and no-break spaces become blanks. */
sc_status clean_text(const char *text, size_t n, clean_counts *counts, strbuf *out);
/* The same on one line, runs of blanks folded: titles, names. */
sc_status clean_line(const char *text, size_t n, clean_counts *counts, strbuf *out);
/* {"invalid_utf8": n, ...} */
json_t *clean_counts_json(const clean_counts *counts);

/* The code point of a named entity ("eacute" without & and ;), 0 if there is none of that name. */
uint32_t clean_entity(const char *name, size_t n);

#ifdef __cplusplus
}
#endif
#endif
