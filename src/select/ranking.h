/* Choosing by a key that no choice changes. */
#ifndef SC_SELECT_RANKING_H
#define SC_SELECT_RANKING_H

#include "select/strategy.h"

/* Open rows by keys [n], the highest first; `score` and `gain` are the key, `objective` the mean so far.
 * O(n + budget log budget), O(n log n) under caps. */
sc_status ranking_select(const selection_task *task, const double *keys, selection_pick *picks,
                         int64_t *n_picks);

#endif
