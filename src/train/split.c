/* Holding dialogues back by groups: what grew from reviews of the same item is of one group, since each dialogue quotes
 * several of them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "train/trainer.h"

typedef struct member {
    char *key; /* the seed's item, or else its rows, as JSON; NULL: a group of its own */
    int64_t row, group;
} member;

static int by_key(const void *a, const void *b)
{
    const member *x = a, *y = b;
    const int order =
        x->key != NULL && y->key != NULL ? strcmp(x->key, y->key) : (y->key == NULL) - (x->key == NULL);
    return order != 0 ? order : (x->row > y->row) - (x->row < y->row);
}

static int by_row(const void *a, const void *b)
{
    const member *x = a, *y = b;
    return (x->row > y->row) - (x->row < y->row);
}

/* The smallest row of a group is its number, so that numbers do not depend on the keys' order. */
static void number_groups(member *members, size_t n)
{
    qsort(members, n, sizeof *members, by_key);
    for (size_t i = 0; i < n; i++) {
        const bool same = i > 0 && members[i].key != NULL && members[i - 1].key != NULL &&
                          strcmp(members[i].key, members[i - 1].key) == 0;
        members[i].group = same ? members[i - 1].group : members[i].row;
    }
    qsort(members, n, sizeof *members, by_row);
}

static sc_status seed_key(const dialogue *d, char **key)
{
    const json_t *from = json_object_get(d->extra, "seed");
    const json_t *item = json_object_get(from, "parent_asin"), *rows = json_object_get(from, "rows");
    *key = NULL;
    if (!json_is_string(item) && json_array_size(rows) == 0)
        return SC_OK;
    *key = json_dumps(json_is_string(item) ? item : rows, JSON_COMPACT | JSON_ENCODE_ANY);
    return *key != NULL ? SC_OK : sc_fail(SC_MEMORY, "memory does not suffice for the validation split");
}

sc_status train_split(const dialogues *d, double share, uint64_t seed, example_set *training,
                      example_set *held)
{
    sc_status status = SC_OK;
    const int64_t n = (int64_t)d->n;
    int64_t wanted = (int64_t)llround(share * (double)n), taken = 0, n_groups = 0;
    member *members = NULL;
    int64_t *groups = NULL, *sizes = NULL; /* sizes [n] by group */
    bool *out = NULL;                      /* [n] by group */

    SC_TRY(sc_alloc(&members, d->n, sizeof *members));
    SC_TRY(sc_alloc(&groups, d->n, sizeof *groups));
    SC_TRY(sc_alloc(&sizes, d->n, sizeof *sizes));
    SC_TRY(sc_alloc(&out, d->n, sizeof *out));
    SC_TRY(sc_alloc(&training->list, d->n, sizeof *training->list));
    SC_TRY(sc_alloc(&held->list, d->n, sizeof *held->list));
    for (int64_t i = 0; i < n; i++) {
        members[i].row = i;
        SC_TRY(seed_key(&d->rows[i], &members[i].key));
    }
    number_groups(members, d->n);
    for (int64_t i = 0; i < n; i++) {
        sizes[members[i].group]++;
        if (members[i].group == i)
            groups[n_groups++] = i;
    }
    if (share > 0 && wanted < 1)
        wanted = 1;
    random_stream r = random_at(seed, RANDOM_VALIDATION, 0, 0);
    random_shuffle(&r, groups, (size_t)n_groups);
    for (int64_t g = 0; g < n_groups && taken < wanted; g++) {
        out[groups[g]] = true;
        taken += sizes[groups[g]];
    }
    if (taken == n)
        SC_TRY(sc_fail(SC_BAD_INPUT,
                       "a validation share of %g leaves none of %lld dialogues from %lld items to train on",
                       share, (long long)n, (long long)n_groups));
    for (int64_t i = 0; i < n; i++)
        if (out[members[i].group])
            held->list[held->n++] = i;
        else
            training->list[training->n++] = i;
cleanup:
    for (size_t i = 0; members != NULL && i < d->n; i++)
        free(members[i].key);
    free(members);
    free(groups);
    free(sizes);
    free(out);
    return status;
}
