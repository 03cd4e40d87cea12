/* From a reply's text to ranked titles (He et al. 2023, 2.3). */
#ifndef SC_EVALUATE_PARSE_H
#define SC_EVALUATE_PARSE_H

#include "base/text.h"

typedef struct title_list {
    char **titles;
    size_t n;
} title_list;
void title_list_free(title_list *l);

typedef enum parse_mode { PARSE_STRICT = 0, PARSE_HE2023 = 1 } parse_mode;
/* he2023: line for line as the protocol does, quirks included. strict: numbered or bulleted lines,
 * bold and reasons stripped, "12 Angry Men" kept, empty lines and repeats dropped. */
sc_status parse_reply(const char *text, parse_mode mode, title_list *out);

#endif
