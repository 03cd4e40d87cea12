/* als: alternating least squares. With the items' factors fixed, the users' are a half-step of the device (als_gram and
 * als_solve of device/ops.h), and the other way round. Both sides stay on the device for all rounds. */
#include "select/als.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "select/resident.h"

/* Interactions by one side: entities offsets[i] .. offsets[i + 1] - 1 of `others`. */
typedef struct adjacency {
    int64_t *offsets;
    int32_t *others;
} adjacency;

static void adjacency_free(adjacency *a)
{
    free(a->offsets);
    free(a->others);
}

static sc_status adjacency_make(const interaction *in, size_t n, int64_t n_entities, bool by_user,
                                adjacency *a)
{
    sc_status status = SC_OK;
    int64_t *next = NULL;
    SC_TRY(sc_alloc(&a->offsets, (size_t)n_entities + 1, sizeof *a->offsets));
    SC_TRY(sc_alloc(&a->others, n, sizeof *a->others));
    SC_TRY(sc_alloc(&next, (size_t)n_entities + 1, sizeof *next));
    for (size_t k = 0; k < n; k++)
        a->offsets[(by_user ? in[k].user : in[k].item) + 1]++;
    for (int64_t i = 0; i < n_entities; i++)
        a->offsets[i + 1] += a->offsets[i];
    memcpy(next, a->offsets, ((size_t)n_entities + 1) * sizeof *next);
    for (size_t k = 0; k < n; k++)
        a->others[next[by_user ? in[k].user : in[k].item]++] = by_user ? in[k].item : in[k].user;
cleanup:
    free(next);
    return status;
}

static sc_status check(const interaction *in, size_t n, int64_t n_users, int64_t n_items,
                       const als_options *o)
{
    if (o->factors < 1 || o->factors > ALS_FACTORS)
        return sc_fail(SC_USAGE, "select: %lld factors; give --factors from 1 to %d", (long long)o->factors,
                       (int)ALS_FACTORS);
    for (size_t k = 0; k < n; k++)
        if (in[k].user < 0 || in[k].user >= n_users || in[k].item < 0 || in[k].item >= n_items)
            return sc_fail(
                SC_BAD_INPUT,
                "interaction %zu is of user %d and item %d, but there are %lld users and %lld items", k,
                in[k].user, in[k].item, (long long)n_users, (long long)n_items);
    return SC_OK;
}

/* What is known of one side: its factors [n][f], whom it met, and what its half-step needs. */
typedef struct side {
    adjacency met;
    int64_t n;
    resident factors, offsets, others;
} side;

static void side_close(side *s)
{
    resident_close(&s->factors);
    resident_close(&s->offsets);
    resident_close(&s->others);
    adjacency_free(&s->met);
}

static sc_status side_open(const ops *table, float *factors, int64_t f, size_t n_interactions, side *s)
{
    sc_status status = SC_OK;
    SC_TRY(resident_open(table, factors, (size_t)(s->n * f) * sizeof *factors, &s->factors));
    SC_TRY(resident_open(table, s->met.offsets, ((size_t)s->n + 1) * sizeof(int64_t), &s->offsets));
    SC_TRY(resident_open(table, s->met.others, n_interactions * sizeof(int32_t), &s->others));
cleanup:
    return status;
}

/* The larger of what the two operations work with, on either side. */
static size_t workspace_of(const ops *table, int64_t n_users, int64_t n_items, int64_t f)
{
    const size_t all[] = {table->als_gram_workspace(n_users, f), table->als_gram_workspace(n_items, f),
                          table->als_solve_workspace(n_users, f), table->als_solve_workspace(n_items, f)};
    size_t most = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        most = all[i] > most ? all[i] : most;
    return most;
}

/* One side's factors from the other's. */
static sc_status half_step(const ops *table, const als_options *o, const side *from, const side *to,
                           double *gram, void *workspace)
{
    sc_status status = SC_OK;
    SC_TRY(
        table->als_gram(NULL, gram, from->factors.device, from->n, o->factors, o->regularisation, workspace));
    SC_TRY(table->als_solve(NULL, to->factors.device, from->factors.device, gram, to->offsets.device,
                            to->others.device, to->n, o->factors, o->confidence, workspace));
cleanup:
    return status;
}

/* Users at zero, items at random: those that met nobody stay at zero. */
static void begin(const als_options *o, const side *users, const side *items, float *user_factors,
                  float *item_factors, uint8_t *user_seen, uint8_t *item_seen)
{
    const int64_t f = o->factors;
    memset(user_factors, 0, (size_t)(users->n * f) * sizeof *user_factors);
    memset(item_factors, 0, (size_t)(items->n * f) * sizeof *item_factors);
    for (int64_t u = 0; u < users->n; u++)
        user_seen[u] = users->met.offsets[u] < users->met.offsets[u + 1];
    for (int64_t i = 0; i < items->n; i++) {
        random_stream random = random_at(o->seed, RANDOM_FACTORS, (uint64_t)i, 0);
        item_seen[i] = items->met.offsets[i] < items->met.offsets[i + 1];
        for (int64_t k = 0; item_seen[i] && k < f; k++)
            item_factors[i * f + k] = (float)(0.1 * random_normal(&random));
    }
}

static sc_status check_table(const ops *table)
{
    return table->als_gram && table->als_gram_workspace && table->als_solve && table->als_solve_workspace
               ? SC_OK
               : sc_fail(SC_DEVICE,
                         "the device \"%s\" cannot find factors of users and items; use --device cpu",
                         table->name);
}

sc_status als_fit(const ops *table, const interaction *interactions, size_t n, int64_t n_users,
                  int64_t n_items, const als_options *o, float *users, float *items, uint8_t *user_seen,
                  uint8_t *item_seen)
{
    sc_status status = SC_OK;
    const int64_t f = o->factors;
    side by_user = {.n = n_users}, by_item = {.n = n_items};
    resident gram = {0}, workspace = {0};
    progress *p = progress_begin("factors of users and items", "rounds", o->iterations);
    SC_TRY(check(interactions, n, n_users, n_items, o));
    SC_TRY(check_table(table));
    SC_TRY(adjacency_make(interactions, n, n_users, true, &by_user.met));
    SC_TRY(adjacency_make(interactions, n, n_items, false, &by_item.met));
    begin(o, &by_user, &by_item, users, items, user_seen, item_seen);
    SC_TRY(side_open(table, users, f, n, &by_user));
    SC_TRY(side_open(table, items, f, n, &by_item));
    SC_TRY(resident_scratch(table, (size_t)(f * f) * sizeof(double), &gram));
    SC_TRY(resident_scratch(table, workspace_of(table, n_users, n_items, f), &workspace));
    for (int64_t round = 0; round < o->iterations; round++) {
        SC_TRY(check_cancelled());
        SC_TRY(half_step(table, o, &by_item, &by_user, gram.device, workspace.device));
        SC_TRY(half_step(table, o, &by_user, &by_item, gram.device, workspace.device));
        SC_TRY(table->synchronise(NULL));
        progress_add(p, 1);
    }
    SC_TRY(resident_pull(&by_user.factors));
    SC_TRY(resident_pull(&by_item.factors));
cleanup:
    progress_end(p);
    side_close(&by_user);
    side_close(&by_item);
    resident_close(&gram);
    resident_close(&workspace);
    return status;
}

void als_plan(const ops *table, int64_t n, int64_t n_users, int64_t n_items, int64_t f, estimate *out)
{
    const int64_t entities = n_users + n_items;
    estimate_resident_add(out, "factors of users and items", entities * f, sizeof(float));
    estimate_array_add(out, "who has factors", entities, 1);
    estimate_resident_add(out, "interactions by user and by item",
                          2 * n * (int64_t)sizeof(int32_t) + (entities + 2) * (int64_t)sizeof(int64_t), 1);
    if (table->als_gram && table->als_solve)
        estimate_resident_add(
            out, "factors: a matrix of sums and its scratch",
            f * f * (int64_t)sizeof(double) + (int64_t)workspace_of(table, n_users, n_items, f), 1);
}
