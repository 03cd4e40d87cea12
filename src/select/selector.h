/* A strategy run on rows in memory: what sc_selector_fit and sc_select share. */
#ifndef SC_SELECT_SELECTOR_H
#define SC_SELECT_SELECTOR_H

#include "select/clustering.h"
#include "select/strategy.h"

/* Checks everything that does not depend on the rows. */
sc_status selector_check(const sc_selector_options *o, const strategy **found);
/* What may be chosen of n rows: all but those excluded, given, included (`before` [n_given + n_include] lists both), and
 * those that caps and the budget of costs close. `l` and *before ({0}, NULL before) are the caller's to free. */
sc_status selector_limits(const sc_selector_options *o, int64_t n, limits *l, int64_t **before);
/* How many picks may follow what is included. */
int64_t selector_budget(const sc_selector_options *o, const limits *l);
/* Up to budget picks of finite x [rows->n][rows->dim]; `rows` is its centred copy. `clusters` ({0} before) receives
 * what strategies over clusters looked at. */
sc_status selector_run(const sc_selector_options *o, const strategy *s, device *dev, const float *x,
                       const centred *rows, sc_pick *picks, int64_t *n_picks, clustering *clusters);

#endif
