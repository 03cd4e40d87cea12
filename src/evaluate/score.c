/* Ranked lists against targets. */
#include "evaluate/score.h"

const char *const condition_names[3] = {"recommendation", "discussion", "all"};

static bool contains(const int32_t *names, size_t n, int32_t name)
{
    for (size_t i = 0; i < n; i++)
        if (names[i] == name)
            return true;
    return false;
}

static int64_t position_of(const scored_list *l, int32_t target, bool filtered, bool exclude_seen)
{
    int64_t position = 0;
    for (size_t i = 0; i < l->n; i++) {
        if (filtered && !l->known[i])
            continue;
        if (exclude_seen && l->names[i] >= 0 && contains(l->seen, l->n_seen, l->names[i]))
            continue;
        if (l->names[i] == target)
            return position;
        position++;
    }
    return -1;
}

void score_positions(const scored_list *lists, size_t n, bool filtered, bool exclude_seen, int64_t *positions,
                     bool *mentioned)
{
    size_t row = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t t = 0; t < lists[i].n_targets; t++, row++) {
            positions[row] = position_of(&lists[i], lists[i].targets[t], filtered, exclude_seen);
            mentioned[row] = contains(lists[i].seen, lists[i].n_seen, lists[i].targets[t]);
        }
}

void score_condition(const int64_t *positions, const bool *mentioned, size_t rows, condition c,
                     int64_t *scratch, metric_summary *out)
{
    int64_t n = 0;
    for (size_t r = 0; r < rows; r++)
        if (c == CONDITION_ALL || mentioned[r] == (c == CONDITION_DIS))
            scratch[n++] = positions[r];
    metrics_summarise(scratch, n, out);
}
