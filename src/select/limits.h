/* Which rows may still be chosen: not those chosen already, not the excluded ones, and of a group that has a cap no
 * more than that. Every strategy asks here, and says here what it took. */
#ifndef SC_SELECT_LIMITS_H
#define SC_SELECT_LIMITS_H

#include <stdbool.h>

#include "base/status.h"
#include "seedcorn/select.h"

typedef struct limits {
    int64_t n, n_open;
    bool *closed; /* [n] */
    /* the groups of each row and the rows of each group, over all caps; NULL without caps */
    int64_t *group_offsets, *row_offsets; /* [n + 1], [n_groups + 1] */
    int32_t *groups, *rows;
    int64_t *left; /* [n_groups] */
    int64_t n_groups;
    /* what the last limits_take closed */
    int32_t *just_closed; /* [n] */
    int64_t n_just_closed;
} limits;

/* excluded: [n] or NULL. SC_BAD_INPUT: a group that is not one. */
sc_status limits_open(limits *l, int64_t n, const uint8_t *excluded, const sc_cap *caps, int64_t n_caps);
void limits_close(limits *l); /* {0} is fine */
/* How far into an order of all rows `budget` open ones may lie. */
int64_t limits_reach(const limits *l, int64_t budget);
/* Closes the row, and the rows of every group that is full now. */
void limits_take(limits *l, int64_t row);

#endif
