/* What a selection reads before it chooses: options checked, files open. */
#ifndef SC_SELECT_INPUTS_H
#define SC_SELECT_INPUTS_H

#include "data/dataset.h"
#include "select/costs.h"
#include "select/features.h"
#include "select/strategy.h"

typedef struct inputs {
    const strategy *strategy;
    unsigned parts; /* of the view */
    device *device;
    dataset *data;
    features x;
    costs costs;
} inputs;

sc_status inputs_open(const sc_select_options *o, inputs *out);
void inputs_close(inputs *in); /* {0} is fine */
/* The settings that a selector takes as they are. */
sc_selector_options inputs_selector(const sc_select_options *o);
/* Centres of a file, as wide as the rows; the caller frees them. */
sc_status inputs_read_centres(const char *path, int64_t dim, float **out, int64_t *k);
/* "a/selection.jsonl" and ".json" give "a/selection.json". */
sc_status inputs_sibling(const char *path, const char *ending, strbuf *out);

#endif
