/* What a selection would do, found without doing it: `select --dry-run`. */
#ifndef SC_SELECT_PREVIEW_H
#define SC_SELECT_PREVIEW_H

#include "select/inputs.h"

/* *out is a new reference; `result` gets what it has to say of rows, width and time. Writes nothing. */
sc_status preview_make(const sc_select_options *o, const inputs *in, sc_select_result *result, json_t **out);

#endif
