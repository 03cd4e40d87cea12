/* A strategy run on rows in memory: what sc_selector_fit and sc_select share. */
#ifndef SC_SELECT_SELECTOR_H
#define SC_SELECT_SELECTOR_H

#include "select/clustering.h"
#include "select/strategy.h"

/* Checks everything that does not depend on the rows. */
sc_status selector_check(const sc_selector_options *o, const strategy **found);
/* Up to budget picks of finite x [rows->n][rows->dim]; `rows` is its centred copy. `clusters` ({0} before) receives
 * what strategies over clusters looked at. */
sc_status selector_run(const sc_selector_options *o, const strategy *s, device *dev, const float *x,
                       const centred *rows, sc_pick *picks, int64_t *n_picks, clustering *clusters);

#endif
