/* Ranked lists against targets: rows, conditions and the four settings of He et al. 2023 (reference: 2.5, 2.6). */
#ifndef SC_EVALUATE_SCORE_H
#define SC_EVALUATE_SCORE_H

#include <stdbool.h>

#include "evaluate/metrics.h"
#include "base/status.h"

/* Names are numbers that are equal where the compared forms are. */
typedef struct scored_list {
    const int32_t *names; /* [n] in order; -1 is a title that equals nothing */
    const bool *known;    /* [n] within the catalogue */
    size_t n;
    const int32_t *targets; /* [n_targets] */
    size_t n_targets;
    const int32_t *seen; /* [n_seen] */
    size_t n_seen;
} scored_list;

typedef enum condition {
    CONDITION_REC = 0, /* the target was not mentioned before: the headline */
    CONDITION_DIS = 1, /* it was */
    CONDITION_ALL = 2
} condition;
extern const char *const condition_names[3]; /* "recommendation", "discussion", "all" */

/* positions [rows] of the targets of all lists, in order, after dropping what `filtered` (unknown
 * titles) and `exclude_seen` drop; mentioned [rows] tells the condition. rows = sum of n_targets. */
void score_positions(const scored_list *lists, size_t n, bool filtered, bool exclude_seen, int64_t *positions,
                     bool *mentioned);
/* The rows of one condition. `scratch` [rows]. */
void score_condition(const int64_t *positions, const bool *mentioned, size_t rows, condition c,
                     int64_t *scratch, metric_summary *out);

#endif
