/* What a selection must keep to, from files and a data set to the numbers that the selector takes. */
#include "select/constraints.h"

#include <stdlib.h>

#include "base/log.h"
#include "data/ids.h"
#include "select/duplicates.h"
#include "select/named_rows.h"

sc_status constraints_number_items(const dataset *data, int32_t **out, int64_t *n_items)
{
    sc_status status = SC_OK;
    id_table known = {0};
    SC_TRY(sc_alloc(out, data->n_reviews, sizeof **out));
    for (size_t i = 0; i < data->n_reviews; i++)
        SC_TRY(id_table_put(&known, data->reviews[i].parent_asin, &(*out)[i], NULL));
    *n_items = (int64_t)known.n;
cleanup:
    id_table_free(&known);
    return status;
}

/* The categories (genres) of every review's item, each once. */
static sc_status number_categories(const dataset *data, constraints *c, int64_t *n_categories)
{
    sc_status status = SC_OK;
    id_table known = {0};
    size_t capacity = 0;
    int64_t n = 0;
    SC_TRY(sc_alloc(&c->category_offsets, data->n_reviews + 1, sizeof *c->category_offsets));
    for (size_t i = 0; i < data->n_reviews; i++) {
        const int32_t index = data->reviews[i].item;
        const item *it = index >= 0 ? &data->items[index] : NULL;
        const int64_t first = n;
        for (size_t k = 0; it && k < it->n_categories; k++) {
            int32_t category;
            bool listed = false;
            SC_TRY(id_table_put(&known, it->categories[k], &category, NULL));
            for (int64_t at = first; at < n; at++)
                listed = listed || c->categories[at] == category;
            if (listed)
                continue;
            SC_TRY(sc_grow(&c->categories, &capacity, (size_t)n + 1, sizeof *c->categories));
            c->categories[n++] = category;
        }
        c->category_offsets[i + 1] = n;
    }
    if (n == 0)
        status = sc_fail(SC_BAD_INPUT, "%s has no categories to put a cap on; leave --max-per-category out",
                         data->path);
    *n_categories = (int64_t)known.n;
cleanup:
    id_table_free(&known);
    return status;
}

static sc_status make_caps(const sc_select_options *o, const dataset *data, constraints *c)
{
    sc_status status = SC_OK;
    if (o->max_per_item < 0 || o->max_per_user < 0 || o->max_per_category < 0)
        return sc_fail(SC_USAGE, "select: a cap is below 0; 0 means none");
    if (o->max_per_item > 0) {
        sc_cap *cap = &c->caps[c->n_caps++];
        SC_TRY(constraints_number_items(data, &c->items, &cap->n_groups));
        cap->groups = c->items;
        cap->most = o->max_per_item;
    }
    if (o->max_per_user > 0) {
        sc_cap *cap = &c->caps[c->n_caps++];
        SC_TRY(sc_alloc(&c->users, data->n_reviews, sizeof *c->users));
        for (size_t i = 0; i < data->n_reviews; i++)
            c->users[i] = data->reviews[i].user;
        cap->groups = c->users;
        cap->n_groups = (int64_t)data->n_users;
        cap->most = o->max_per_user;
    }
    if (o->max_per_category > 0) {
        sc_cap *cap = &c->caps[c->n_caps++];
        SC_TRY(number_categories(data, c, &cap->n_groups));
        cap->offsets = c->category_offsets;
        cap->groups = c->categories;
        cap->most = o->max_per_category;
    }
cleanup:
    return status;
}

static sc_status check_threshold(const char *flag, double threshold)
{
    return threshold >= 0 && threshold <= 1
               ? SC_OK
               : sc_fail(SC_USAGE, "select: %s is %g; it must be above 0 and at most 1, or 0 for none", flag,
                         threshold);
}

sc_status constraints_check(const sc_select_options *o)
{
    sc_status status = SC_OK;
    SC_TRY(check_threshold("--max-text-overlap", o->max_text_overlap));
    SC_TRY(check_threshold("--max-cosine", o->max_cosine));
cleanup:
    return status;
}

/* Rows that must be chosen, or are, are looked at first and stay. */
static sc_status drop_alike(const sc_select_options *o, const dataset *data, device *dev, const float *x,
                            int64_t dim, constraints *c)
{
    sc_status status = SC_OK;
    const int64_t n = (int64_t)data->n_reviews;
    int32_t *order = NULL;
    uint8_t *first = NULL;
    int64_t k = 0;
    SC_TRY(constraints_check(o));
    if (o->max_text_overlap == 0 && o->max_cosine == 0)
        return SC_OK;
    SC_TRY(sc_alloc(&order, (size_t)n, sizeof *order));
    SC_TRY(sc_alloc(&first, (size_t)n, 1));
    if (!c->exclude)
        SC_TRY(sc_alloc(&c->exclude, (size_t)n, 1));
    for (int64_t g = 0; g < c->n_given + c->n_include; g++) {
        const int64_t row = g < c->n_given ? c->given[g] : c->include[g - c->n_given];
        if (first[row])
            continue; /* named twice: the selector says so */
        first[row] = 1;
        order[k++] = (int32_t)row;
    }
    const int64_t n_first = k;
    for (int32_t i = 0; i < n; i++)
        if (!first[i])
            order[k++] = i;
    if (o->max_text_overlap > 0)
        SC_TRY(duplicates_by_text(data, order, o->max_text_overlap, c->exclude, &c->n_alike_in_words));
    if (o->max_cosine > 0)
        SC_TRY(
            duplicates_by_cosine(dev, x, n, dim, order, o->max_cosine, c->exclude, &c->n_alike_in_meaning));
    for (int64_t g = 0; g < n_first; g++)
        c->exclude[order[g]] = 0;
    log_info("select: %lld reviews are left out as alike in words, %lld as alike in meaning",
             (long long)c->n_alike_in_words, (long long)c->n_alike_in_meaning);
cleanup:
    free(order);
    free(first);
    return status;
}

sc_status constraints_make(const sc_select_options *o, const dataset *data, device *dev, const float *x,
                           int64_t dim, constraints *c, sc_selector_options *selector)
{
    sc_status status = SC_OK;
    id_table ids = {0};
    int64_t *excluded = NULL, n_excluded = 0;
    if (o->given || o->include || o->exclude)
        SC_TRY(named_rows_index(data, &ids));
    if (o->given)
        SC_TRY(named_rows_read(o->given, o->data, &ids, &c->given, &c->n_given));
    if (o->include)
        SC_TRY(named_rows_read(o->include, o->data, &ids, &c->include, &c->n_include));
    if (o->exclude) {
        SC_TRY(named_rows_read(o->exclude, o->data, &ids, &excluded, &n_excluded));
        SC_TRY(sc_alloc(&c->exclude, data->n_reviews, 1));
        for (int64_t i = 0; i < n_excluded; i++)
            c->exclude[excluded[i]] = 1;
    }
    SC_TRY(drop_alike(o, data, dev, x, dim, c));
    SC_TRY(make_caps(o, data, c));
    selector->given = c->given;
    selector->n_given = c->n_given;
    selector->include = c->include;
    selector->n_include = c->n_include;
    selector->exclude = c->exclude;
    selector->caps = c->caps;
    selector->n_caps = c->n_caps;
cleanup:
    id_table_free(&ids);
    free(excluded);
    return status;
}

void constraints_free(constraints *c)
{
    free(c->given);
    free(c->include);
    free(c->exclude);
    free(c->items);
    free(c->users);
    free(c->categories);
    free(c->category_offsets);
    *c = (constraints){0};
}
