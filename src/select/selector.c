/* A strategy run on rows in memory. */
#include "select/selector.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

sc_selector_options sc_selector_default(void)
{
    return (sc_selector_options){.struct_size = sizeof(sc_selector_options),
                                 .common = sc_common_default(),
                                 .strategy = "fisher",
                                 .clusters = 64,
                                 .temperature = 1,
                                 .alpha = 0.5,
                                 .js_form = "mix",
                                 .lambda = 1,
                                 .neighbours = 64};
}

sc_status selector_check(const sc_selector_options *o, const strategy **found)
{
    sc_status status = SC_OK;
    if (o->struct_size != sizeof *o)
        return sc_fail(SC_USAGE,
                       "select: the options are not those of this library; start from sc_selector_default()");
    if (!o->strategy || !o->js_form)
        return sc_fail(SC_USAGE, "select needs a strategy and a js_form");
    SC_TRY(strategy_find(o->strategy, found));
    if (o->budget < 0)
        return sc_fail(SC_USAGE, "select: the budget is %lld; give --budget N with N of at least 1",
                       (long long)o->budget);
    if (!(o->budget_cost >= 0) || !isfinite(o->budget_cost))
        return sc_fail(SC_USAGE, "select: the budget of costs is %g; it must be above 0, or 0 for none",
                       o->budget_cost);
    if (o->budget == 0 && o->budget_cost == 0)
        return sc_fail(SC_USAGE, "select: there is no budget; give --budget N, --budget-tokens N or both");
    if (o->clusters < 1 || o->clusters > 1000000)
        return sc_fail(SC_USAGE, "select: %lld clusters; give --clusters from 1 to 1000000",
                       (long long)o->clusters);
    if (!(o->temperature > 0) || !isfinite(o->temperature))
        return sc_fail(SC_USAGE, "select: the temperature is %g; it must be above 0", o->temperature);
    const bool sum = strcmp(o->js_form, "sum") == 0;
    if (!sum && strcmp(o->js_form, "mix") != 0)
        return sc_fail(SC_USAGE, "unknown js form \"%s\"; there are: mix, sum", o->js_form);
    if (!(o->alpha >= 0) || !isfinite(o->alpha) || (!sum && o->alpha > 1))
        return sc_fail(SC_USAGE, "select: alpha is %g; it must be %s", o->alpha,
                       sum ? "0 or more with the form \"sum\"" : "from 0 to 1 with the form \"mix\"");
    if (!(o->lambda > 0) || !isfinite(o->lambda))
        return sc_fail(SC_USAGE, "select: lambda is %g; it must be above 0", o->lambda);
    if (o->neighbours < 1 || o->neighbours > 10000)
        return sc_fail(SC_USAGE, "select: %lld neighbours; give --neighbours from 1 to 10000",
                       (long long)o->neighbours);
cleanup:
    return status;
}

/* Items as they are numbered become 0, 1, 2 ... ; only that they are not negative and fit is asked of them. */
static sc_status count_items(const int32_t *items, int64_t n, int64_t *n_items)
{
    *n_items = 0;
    for (int64_t i = 0; i < n; i++) {
        if (items[i] < 0 || items[i] == INT32_MAX)
            return sc_fail(SC_BAD_INPUT, "select: row %lld has the item %d; items are numbered from 0",
                           (long long)i, items[i]);
        *n_items = items[i] >= *n_items ? (int64_t)items[i] + 1 : *n_items;
    }
    return SC_OK;
}

/* Rows that count as chosen before the strategy begins. */
static sc_status check_rows(const char *what, const int64_t *rows, int64_t n_rows, const limits *l,
                            int64_t *out)
{
    for (int64_t g = 0; g < n_rows; g++) {
        if (rows[g] < 0 || rows[g] >= l->n)
            return sc_fail(SC_BAD_INPUT, "select: the %s rows name row %lld; rows are 0 to %lld", what,
                           (long long)rows[g], (long long)l->n - 1);
        out[g] = rows[g];
    }
    return SC_OK;
}

/* Closes the rows that the budget of costs does not suffice for, which must not be all. */
static sc_status set_budget(const sc_selector_options *o, limits *l)
{
    sc_status status = SC_OK;
    double cheapest = INFINITY;
    if (!o->costs)
        return sc_fail(SC_USAGE, "select: a budget of costs needs the cost of every row");
    for (int64_t i = 0; i < l->n; i++)
        cheapest = !l->closed[i] && o->costs[i] < cheapest ? o->costs[i] : cheapest;
    SC_TRY(limits_set_budget(l, o->costs, o->budget_cost));
    if (l->n_open == 0)
        status = cheapest < INFINITY
                     ? sc_fail(SC_USAGE,
                               "the budget of costs is %.15g, but the cheapest row that may be chosen costs "
                               "%.15g; give that or more",
                               o->budget_cost, cheapest)
                     : sc_fail(SC_USAGE, "there is no row left that may be chosen");
cleanup:
    return status;
}

/* What the strategy goes on from: `before` is what was given and then what is included. */
static sc_status take_before(const sc_selector_options *o, limits *l, int64_t *before)
{
    sc_status status = SC_OK;
    const int64_t n = o->n_given + o->n_include;
    uint8_t *seen = NULL;
    SC_TRY(check_rows("given", o->given, o->n_given, l, before));
    SC_TRY(check_rows("included", o->include, o->n_include, l, before + o->n_given));
    SC_TRY(sc_alloc(&seen, (size_t)l->n, 1));
    for (int64_t g = 0; g < n; g++) {
        const int64_t row = before[g];
        if (seen[row]++) {
            status =
                sc_fail(SC_BAD_INPUT, "select: row %lld is given or to be included twice", (long long)row);
            goto cleanup;
        }
        if (g >= o->n_given && o->exclude && o->exclude[row]) {
            status =
                sc_fail(SC_BAD_INPUT, "select: row %lld is to be both included and excluded", (long long)row);
            goto cleanup;
        }
    }
    for (int64_t g = 0; g < o->n_given; g++)
        limits_take(l, before[g]);
    if (o->budget_cost > 0)
        SC_TRY(set_budget(o, l));
    for (int64_t g = o->n_given; g < n; g++)
        limits_take(l, before[g]);
    if (o->n_include > o->budget && o->budget > 0)
        status = sc_fail(SC_USAGE, "the budget is %lld, but %lld rows are to be included",
                         (long long)o->budget, (long long)o->n_include);
    else if (l->costs && l->cost_left < 0)
        status = sc_fail(SC_USAGE,
                         "the budget of costs is %.15g, but the rows to be included cost %.15g; give that or "
                         "more",
                         o->budget_cost, o->budget_cost - l->cost_left);
    else if (o->budget - o->n_include > l->n_open && !l->group_offsets && !l->costs)
        status = sc_fail(SC_USAGE, "the budget is %lld, but only %lld rows may be chosen; give %lld or less",
                         (long long)o->budget, (long long)(l->n_open + o->n_include),
                         (long long)(l->n_open + o->n_include));
cleanup:
    free(seen);
    return status;
}

sc_status selector_limits(const sc_selector_options *o, int64_t n, limits *l, int64_t **before)
{
    sc_status status = SC_OK;
    SC_TRY(limits_open(l, n, o->exclude, o->caps, o->n_caps));
    SC_TRY(sc_alloc(before, (size_t)(o->n_given + o->n_include), sizeof **before));
    SC_TRY(take_before(o, l, *before));
cleanup:
    return status;
}

int64_t selector_budget(const sc_selector_options *o, const limits *l)
{
    const int64_t room = limits_room(l), most = o->budget > 0 ? o->budget - o->n_include : room;
    return most < room ? most : room;
}

sc_status selector_run(const sc_selector_options *o, const strategy *s, device *dev, const float *x,
                       const centred *rows, sc_pick *picks, int64_t *n_picks, clustering *clusters)
{
    sc_status status = SC_OK;
    limits l = {0};
    int64_t *before = NULL, n_items = 0, n = 0;
    SC_TRY(selector_limits(o, rows->n, &l, &before));
    if (s->needs & NEEDS_ITEMS) {
        if (!o->items) {
            status = sc_fail(SC_USAGE, "select: the strategy \"%s\" needs the item of every row", s->name);
            goto cleanup;
        }
        SC_TRY(count_items(o->items, rows->n, &n_items));
    }
    if (s->needs & NEEDS_SURPRISE) {
        if (!o->surprise) {
            status =
                sc_fail(SC_USAGE, "select: the strategy \"%s\" needs the surprise of every row", s->name);
            goto cleanup;
        }
        for (int64_t i = 0; i < rows->n; i++)
            if (!isfinite(o->surprise[i])) {
                status =
                    sc_fail(SC_BAD_INPUT, "select: the surprise of row %lld is not finite", (long long)i);
                goto cleanup;
            }
    }
    if (s->needs & NEEDS_CLUSTERS) {
        const clustering_options settings = {.k = o->centres ? o->n_centres : o->clusters,
                                             .temperature = o->temperature,
                                             .seed = (uint64_t)o->common.seed,
                                             .centres = o->centres};
        SC_TRY(clustering_make(dev, rows, &settings, clusters));
    }
    const selection_task task = {.device = dev,
                                 .x = x,
                                 .n = rows->n,
                                 .dim = rows->dim,
                                 .budget = selector_budget(o, &l),
                                 .seed = (uint64_t)o->common.seed,
                                 .p = clusters->distributions.p,
                                 .distributions = &clusters->distributions,
                                 .entropy = clusters->entropy,
                                 .labels = clusters->kmeans.labels,
                                 .k = clusters->kmeans.k,
                                 .items = o->items,
                                 .n_items = n_items,
                                 .alpha = o->alpha,
                                 .js_sum = strcmp(o->js_form, "sum") == 0,
                                 .lambda = o->lambda,
                                 .neighbours = o->neighbours,
                                 .surprise = o->surprise,
                                 .limits = &l,
                                 .given = before,
                                 .n_given = o->n_given + o->n_include};
    for (int64_t g = 0; g < o->n_include; g++)
        picks[g] = (sc_pick){.row = o->include[g]};
    if (task.budget > 0 && l.n_open > 0)
        SC_TRY(s->run(&task, picks + o->n_include, &n));
    *n_picks = n + o->n_include;
cleanup:
    limits_close(&l);
    free(before);
    return status;
}

sc_status sc_selector_fit(const sc_selector_options *o, const float *x, int64_t n, int64_t dim,
                          sc_pick *picks, int64_t *n_picks)
{
    sc_status status = SC_OK;
    const strategy *chosen = NULL;
    device *dev = NULL;
    centred rows = {0};
    clustering clusters = {0};
    int64_t found = 0;
    SC_TRY(selector_check(o, &chosen));
    SC_TRY(features_check("the rows", x, n, dim));
    if (o->centres && (o->n_centres < 1 || o->n_centres > 1000000))
        return sc_fail(SC_USAGE, "select: %lld centres are given; there must be 1 to 1000000",
                       (long long)o->n_centres);
    SC_TRY(device_open(&o->common, &dev));
    if (chosen->needs & NEEDS_CLUSTERS)
        SC_TRY(features_centre(x, n, dim, &rows));
    rows.n = n;
    rows.dim = dim;
    SC_TRY(selector_run(o, chosen, dev, x, &rows, picks, &found, &clusters));
    if (n_picks)
        *n_picks = found;
cleanup:
    clustering_free(&clusters);
    centred_free(&rows);
    device_close(dev);
    return status;
}
