/* The popularity baseline. */
#include "evaluate/popularity.h"

#include <stdlib.h>

#include "data/dataset.h"
#include "data/ids.h"

static int by_count(const void *a, const void *b, void *counts)
{
    const int64_t *n = counts;
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    if (n[x] != n[y])
        return n[x] > n[y] ? -1 : 1;
    return (x > y) - (x < y);
}

sc_status popularity_titles(const char *data, size_t limit, title_list *out)
{
    sc_status status = SC_OK;
    dataset *d = NULL;
    int64_t *counts = NULL;
    size_t *order = NULL;
    id_table seen = {0};
    strbuf title = {0};
    *out = (title_list){0};
    SC_TRY(dataset_open(data, DATASET_ITEMS | DATASET_INTERACTIONS, &d));
    SC_TRY(sc_alloc(&counts, d->n_items, sizeof *counts));
    SC_TRY(sc_alloc(&order, d->n_items, sizeof *order));
    SC_TRY(sc_alloc(&out->titles, limit < d->n_items ? limit : d->n_items, sizeof *out->titles));
    for (size_t i = 0; i < d->n_interactions; i++)
        if (d->interactions[i].item >= 0 && (size_t)d->interactions[i].item < d->n_items)
            counts[d->interactions[i].item]++;
    for (size_t i = 0; i < d->n_items; i++)
        order[i] = i;
    qsort_r(order, d->n_items, sizeof *order, by_count, counts);
    for (size_t i = 0; i < d->n_items && out->n < limit && counts[order[i]] > 0; i++) {
        int32_t index;
        bool is_new;
        if (!d->items[order[i]].title)
            continue;
        strbuf_clear(&title);
        SC_TRY(dataset_plain_title(d->items[order[i]].title, &title));
        if (title.len == 0)
            continue;
        SC_TRY(id_table_put(&seen, strbuf_text(&title), &index, &is_new));
        if (is_new) {
            SC_TRY(sc_strdup(&out->titles[out->n], strbuf_text(&title)));
            out->n++;
        }
    }
    if (out->n == 0)
        status = sc_fail(SC_BAD_INPUT,
                         "%s has no interactions with items that have a title: nothing is popular", data);
cleanup:
    if (status != SC_OK)
        title_list_free(out);
    dataset_close(d);
    free(counts);
    free(order);
    id_table_free(&seen);
    strbuf_free(&title);
    return status;
}
