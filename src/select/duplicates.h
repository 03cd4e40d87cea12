/* Rows that say again what an earlier row says. Rows are looked at in an order of the caller's; one that is as like
 * one kept before as the threshold, or more, is dropped. */
#ifndef SC_SELECT_DUPLICATES_H
#define SC_SELECT_DUPLICATES_H

#include "data/dataset.h"
#include "device/device.h"
#include "select/estimate.h"

/* By text: like is the share of runs of three words that two reviews have in common (Jaccard). MinHash finds the pairs
 * to compare (Broder 1997; 24 bands of 5), so a pair as like as 0.8 is missed once in ten thousand, one as like as
 * 0.7 once in eighty. dropped [n]: rows marked before are not looked at. O(words); 360 bytes a row. */
sc_status duplicates_by_text(const dataset *data, const int32_t *order, double threshold, uint8_t *dropped,
                             int64_t *n_dropped);

/* By embedding: like is the cosine; exact. A row of zeros is like none. O(n^2 dim) in one product by blocks. */
sc_status duplicates_by_cosine(device *dev, const float *x, int64_t n, int64_t dim, const int32_t *order,
                               double threshold, uint8_t *dropped, int64_t *n_dropped);

/* What each would take. */
void duplicates_text_plan(int64_t n, estimate *out);
void duplicates_cosine_plan(int64_t n, int64_t dim, estimate *out);

#endif
