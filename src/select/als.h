/* Factors of users and items from implicit feedback (Hu, Koren and Volinsky 2008). */
#ifndef SC_SELECT_ALS_H
#define SC_SELECT_ALS_H

#include "data/dataset.h"
#include "device/device.h"
#include "select/estimate.h"

typedef struct als_options {
    int64_t factors;    /* 1 .. ALS_FACTORS */
    int64_t iterations; /* each solves for all users, then for all items */
    double confidence;  /* an interaction counts 1 + confidence, its absence 1 */
    double regularisation;
    uint64_t seed;
} als_options;

/* users [n_users][factors], items [n_items][factors]: users . items is near 1 where there was an interaction, near 0
 * elsewhere. One that has no interaction gets zeros, and *_seen [n] says so. The same bytes for any number of threads and
 * on any table. All four are of the host; the factors stay on the table's device for all rounds.
 * Cost: (interactions f^2 + (users + items) f^3 / 3) an iteration. */
sc_status als_fit(const ops *table, const interaction *interactions, size_t n, int64_t n_users,
                  int64_t n_items, const als_options *o, float *users, float *items, uint8_t *user_seen,
                  uint8_t *item_seen);

/* The memory of that, for n interactions and f factors. */
void als_plan(const ops *table, int64_t n, int64_t n_users, int64_t n_items, int64_t f, estimate *out);

#endif
