/* Which rows may still be chosen: not those chosen already, not the excluded ones, of a group that has a cap no more
 * than that, and none that costs more than what is left. Every strategy asks here, and says here what it took. Rows are
 * only ever closed, so a bound on the best open one stays a bound. */
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
    /* what rows cost, NULL without a budget for it */
    const double *costs; /* [n] the caller's */
    double cost_left;
    int32_t *by_cost; /* [n] the dearest first; */
    int64_t n_dear;   /* the first n_dear of them cost more than what is left, and are closed */
    /* what the last limits_take closed */
    int32_t *just_closed; /* [n] */
    int64_t n_just_closed;
} limits;

/* excluded: [n] or NULL. SC_BAD_INPUT: a group that is not one. */
sc_status limits_open(limits *l, int64_t n, const uint8_t *excluded, const sc_cap *caps, int64_t n_caps);
void limits_close(limits *l); /* {0} is fine */
/* How far into an order of all rows `budget` open ones may lie. */
int64_t limits_reach(const limits *l, int64_t budget);
/* From now on taken rows are paid from the budget, and those are closed that it does not suffice for. costs [n] is
 * borrowed. SC_BAD_INPUT: a cost that is not above 0 and finite. O(n log n). */
sc_status limits_set_budget(limits *l, const double *costs, double budget);
/* How many open rows may be taken at most: what is left pays for so many of the cheapest. */
int64_t limits_room(const limits *l);
/* How many open rows of `budget` are likely to be taken: what is left pays for so many of the mean cost; one at least. */
int64_t limits_likely(const limits *l, int64_t budget);
/* Closes the row, the rows of every group that is full now, and those that are too dear now. Amortised O(1) for the
 * latter. */
void limits_take(limits *l, int64_t row);
/* The most groups that one of the rows is in; 0 without caps. */
int64_t limits_widest(const limits *l);
/* Bytes that it holds. */
int64_t limits_bytes(const limits *l);

#endif
