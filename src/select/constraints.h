/* What a selection must keep to, from files and a data set to the numbers that the selector takes. */
#ifndef SC_SELECT_CONSTRAINTS_H
#define SC_SELECT_CONSTRAINTS_H

#include "data/dataset.h"
#include "device/device.h"
#include "seedcorn/select.h"

typedef struct constraints {
    int64_t *given, *include;
    int64_t n_given, n_include;
    uint8_t *exclude;
    int32_t *items, *users, *categories; /* the groups of every row */
    int64_t *category_offsets;
    sc_cap caps[3];
    int64_t n_caps;
    int64_t n_alike_in_words, n_alike_in_meaning; /* excluded for it */
} constraints;

/* Reads what `o` names, looks for rows alike in the text and in x [n_reviews][dim], and points the selector's options
 * at it all; `c` ({0} before) keeps it. */
sc_status constraints_make(const sc_select_options *o, const dataset *data, device *dev, const float *x,
                           int64_t dim, constraints *c, sc_selector_options *selector);
/* SC_USAGE: a threshold out of its range. */
sc_status constraints_check(const sc_select_options *o);
void constraints_free(constraints *c);
/* The item of every review, numbered by first mention. */
sc_status constraints_number_items(const dataset *data, int32_t **out, int64_t *n_items);

#endif
