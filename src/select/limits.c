/* Which rows may still be chosen. */
#include "select/limits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "select/order.h"

/* The groups of row i in one cap: listed by offsets, or one a row, or none (-1). */
static int64_t groups_of(const sc_cap *cap, int64_t i, const int32_t **groups)
{
    *groups = cap->groups + (cap->offsets ? cap->offsets[i] : i);
    if (cap->offsets)
        return cap->offsets[i + 1] - cap->offsets[i];
    return cap->groups[i] >= 0;
}

static sc_status check_cap(const sc_cap *cap, int64_t n, int64_t which)
{
    if (cap->most < 1 || cap->n_groups < 0 || !cap->groups)
        return sc_fail(SC_USAGE, "select: cap %lld allows %lld rows of a group; it must be at least 1",
                       (long long)which + 1, (long long)cap->most);
    for (int64_t i = 0; i < n; i++) {
        const int32_t *groups;
        if (cap->offsets && (cap->offsets[0] != 0 || cap->offsets[i + 1] < cap->offsets[i]))
            return sc_fail(SC_BAD_INPUT, "select: cap %lld: the offsets of row %lld do not ascend from 0",
                           (long long)which + 1, (long long)i);
        const int64_t n_groups = groups_of(cap, i, &groups);
        for (int64_t g = 0; g < n_groups; g++)
            if (groups[g] < 0 || groups[g] >= cap->n_groups)
                return sc_fail(SC_BAD_INPUT,
                               "select: cap %lld: row %lld is in group %d; groups are 0 to %lld",
                               (long long)which + 1, (long long)i, groups[g], (long long)cap->n_groups - 1);
    }
    return SC_OK;
}

/* Both directions of "row i is in group g", groups of one cap after those of the other. */
static sc_status list_groups(limits *l, const sc_cap *caps, int64_t n_caps)
{
    sc_status status = SC_OK;
    int64_t *next = NULL, total = 0;
    const int32_t *groups;
    for (int64_t c = 0; c < n_caps; c++)
        l->n_groups += caps[c].n_groups;
    if (l->n_groups > INT32_MAX)
        return sc_fail(SC_BAD_INPUT, "select: the caps have %lld groups; at most 2147483647 are possible",
                       (long long)l->n_groups);
    SC_TRY(sc_alloc(&l->group_offsets, (size_t)l->n + 1, sizeof *l->group_offsets));
    SC_TRY(sc_alloc(&l->row_offsets, (size_t)l->n_groups + 1, sizeof *l->row_offsets));
    SC_TRY(sc_alloc(&l->left, (size_t)l->n_groups, sizeof *l->left));
    SC_TRY(sc_alloc(&next, (size_t)l->n_groups, sizeof *next));
    for (int64_t i = 0; i < l->n; i++) {
        for (int64_t c = 0; c < n_caps; c++)
            total += groups_of(&caps[c], i, &groups);
        l->group_offsets[i + 1] = total;
    }
    SC_TRY(sc_alloc(&l->groups, (size_t)total, sizeof *l->groups));
    SC_TRY(sc_alloc(&l->rows, (size_t)total, sizeof *l->rows));
    for (int64_t i = 0; i < l->n; i++) {
        int64_t base = 0, at = l->group_offsets[i];
        for (int64_t c = 0; c < n_caps; base += caps[c++].n_groups) {
            const int64_t n = groups_of(&caps[c], i, &groups);
            for (int64_t g = 0; g < n; g++) {
                l->groups[at++] = (int32_t)(base + groups[g]);
                l->row_offsets[base + groups[g] + 1]++;
            }
        }
    }
    for (int64_t g = 0; g < l->n_groups; g++) {
        l->row_offsets[g + 1] += l->row_offsets[g];
        next[g] = l->row_offsets[g];
    }
    for (int64_t i = 0; i < l->n; i++)
        for (int64_t at = l->group_offsets[i]; at < l->group_offsets[i + 1]; at++)
            l->rows[next[l->groups[at]]++] = (int32_t)i;
    for (int64_t c = 0, g = 0; c < n_caps; c++)
        for (int64_t k = 0; k < caps[c].n_groups; k++)
            l->left[g++] = caps[c].most;
cleanup:
    free(next);
    return status;
}

sc_status limits_open(limits *l, int64_t n, const uint8_t *excluded, const sc_cap *caps, int64_t n_caps)
{
    sc_status status = SC_OK;
    *l = (limits){.n = n, .n_open = n};
    SC_TRY(sc_alloc(&l->closed, (size_t)n, sizeof *l->closed));
    SC_TRY(sc_alloc(&l->just_closed, (size_t)n, sizeof *l->just_closed));
    for (int64_t i = 0; excluded && i < n; i++)
        if (excluded[i]) {
            l->closed[i] = true;
            l->n_open--;
        }
    for (int64_t c = 0; c < n_caps; c++)
        SC_TRY(check_cap(&caps[c], n, c));
    if (n_caps > 0)
        SC_TRY(list_groups(l, caps, n_caps));
cleanup:
    if (status != SC_OK)
        limits_close(l);
    return status;
}

void limits_close(limits *l)
{
    free(l->closed);
    free(l->group_offsets);
    free(l->row_offsets);
    free(l->groups);
    free(l->rows);
    free(l->left);
    free(l->just_closed);
    free(l->by_cost);
    *l = (limits){0};
}

static void close_row(limits *l, int32_t row)
{
    if (l->closed[row])
        return;
    l->closed[row] = true;
    l->just_closed[l->n_just_closed++] = row;
    l->n_open--;
}

/* Closes what costs more than is left. */
static void close_dear(limits *l)
{
    while (l->n_dear < l->n && l->costs[l->by_cost[l->n_dear]] > l->cost_left)
        close_row(l, l->by_cost[l->n_dear++]);
}

static double cost_of(const void *context, int64_t row)
{
    return ((const double *)context)[row];
}

sc_status limits_set_budget(limits *l, const double *costs, double budget)
{
    sc_status status = SC_OK;
    for (int64_t i = 0; i < l->n; i++)
        if (!(costs[i] > 0) || !isfinite(costs[i]))
            return sc_fail(SC_BAD_INPUT,
                           "select: the cost of row %lld (counted from 0) is %g; every row's must be above 0 "
                           "and finite",
                           (long long)i, costs[i]);
    SC_TRY(sc_alloc(&l->by_cost, (size_t)l->n, sizeof *l->by_cost));
    order_best(l->by_cost, l->n, l->n, cost_of, costs);
    l->costs = costs;
    l->cost_left = budget;
    l->n_just_closed = 0;
    close_dear(l);
cleanup:
    return status;
}

int64_t limits_room(const limits *l)
{
    double sum = 0;
    int64_t room = 0;
    if (!l->costs)
        return l->n_open;
    for (int64_t q = l->n; q-- > l->n_dear;) {
        if (l->closed[l->by_cost[q]])
            continue;
        sum += l->costs[l->by_cost[q]];
        if (sum * (1 - 1e-9) > l->cost_left) /* another order of summation may come to less */
            break;
        room++;
    }
    return room;
}

int64_t limits_likely(const limits *l, int64_t budget)
{
    double sum = 0;
    if (!l->costs || l->n_open == 0)
        return budget;
    for (int64_t i = 0; i < l->n; i++)
        sum += l->closed[i] ? 0 : l->costs[i];
    const double likely = l->cost_left / (sum / (double)l->n_open);
    return likely < 1 ? 1 : likely > (double)budget ? budget : (int64_t)likely;
}

void limits_take(limits *l, int64_t row)
{
    l->n_just_closed = 0;
    close_row(l, (int32_t)row);
    if (l->costs) {
        l->cost_left -= l->costs[row];
        close_dear(l);
    }
    if (!l->group_offsets)
        return;
    for (int64_t at = l->group_offsets[row]; at < l->group_offsets[row + 1]; at++) {
        const int32_t g = l->groups[at];
        if (--l->left[g] == 0)
            for (int64_t r = l->row_offsets[g]; r < l->row_offsets[g + 1]; r++)
                close_row(l, l->rows[r]);
    }
}

int64_t limits_reach(const limits *l, int64_t budget)
{
    const int64_t closed = l->n - l->n_open;
    return l->group_offsets || l->costs || budget > l->n - closed ? l->n : budget + closed;
}

int64_t limits_widest(const limits *l)
{
    int64_t widest = 0;
    for (int64_t i = 0; l->group_offsets && i < l->n; i++) {
        const int64_t wide = l->group_offsets[i + 1] - l->group_offsets[i];
        widest = wide > widest ? wide : widest;
    }
    return widest;
}

int64_t limits_bytes(const limits *l)
{
    int64_t bytes = l->n * (int64_t)(sizeof *l->closed + sizeof *l->just_closed);
    if (l->by_cost)
        bytes += l->n * (int64_t)sizeof *l->by_cost;
    if (l->group_offsets)
        bytes += (l->n + 1 + 2 * l->n_groups) * (int64_t)sizeof *l->group_offsets +
                 2 * l->group_offsets[l->n] * (int64_t)sizeof *l->groups;
    return bytes;
}
