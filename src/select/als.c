/* als: alternating least squares. With the items' factors Y fixed, a user's are
 *
 *     (Y'Y + sum over her items of c y y' + lambda I)^-1  sum over her items of (1 + c) y,
 *
 * so only her own interactions are visited (Hu, Koren and Volinsky 2008, section 4). */
#include "select/als.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"

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

/* gram [f][f] = Y'Y + lambda I, each entry summed over the rows in order */
static void gram_of(const float *y, int64_t n, int64_t f, double regularisation, double *gram)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < f; i++) {
        double *row = gram + i * f;
        memset(row, 0, (size_t)f * sizeof *row);
        for (int64_t k = 0; k < n; k++) {
            const double scale = (double)y[k * f + i];
            for (int64_t j = 0; j < f; j++)
                row[j] += scale * (double)y[k * f + j];
        }
        row[i] += regularisation;
    }
}

/* x = S^-1 b by Cholesky, in place of both; S is the lower triangle. */
static void solve(double *s, double *b, int64_t f)
{
    for (int64_t j = 0; j < f; j++) {
        double pivot = s[j * f + j];
        for (int64_t q = 0; q < j; q++)
            pivot -= s[j * f + q] * s[j * f + q];
        const double root = sqrt(pivot);
        s[j * f + j] = root;
        for (int64_t i = j + 1; i < f; i++) {
            double value = s[i * f + j];
            for (int64_t q = 0; q < j; q++)
                value -= s[i * f + q] * s[j * f + q];
            s[i * f + j] = value / root;
        }
    }
    for (int64_t i = 0; i < f; i++) {
        for (int64_t q = 0; q < i; q++)
            b[i] -= s[i * f + q] * b[q];
        b[i] /= s[i * f + i];
    }
    for (int64_t i = f; i-- > 0;) {
        for (int64_t q = i + 1; q < f; q++)
            b[i] -= s[q * f + i] * b[q];
        b[i] /= s[i * f + i];
    }
}

/* The factors x [f] of the one who met `others`. s [f][f] and b [f] are scratch. */
static void solve_one(const int32_t *others, int64_t n, const float *y, const double *gram, int64_t f,
                      double confidence, double *s, double *b, float *x)
{
    memcpy(s, gram, (size_t)(f * f) * sizeof *s);
    memset(b, 0, (size_t)f * sizeof *b);
    for (int64_t k = 0; k < n; k++) {
        const float *other = y + (int64_t)others[k] * f;
        for (int64_t p = 0; p < f; p++) {
            const double scale = confidence * (double)other[p];
            b[p] += (1 + confidence) * (double)other[p];
            for (int64_t q = 0; q <= p; q++)
                s[p * f + q] += scale * (double)other[q];
        }
    }
    solve(s, b, f);
    for (int64_t p = 0; p < f; p++)
        x[p] = (float)b[p];
}

/* One side's factors x [n][f] from the other's. */
static sc_status solve_side(const adjacency *a, int64_t n, const float *y, const double *gram, int64_t f,
                            double confidence, float *x)
{
    bool failed = false;
#pragma omp parallel
    {
        double *work = malloc((size_t)(f * f + f) * sizeof *work);
        if (!work) {
#pragma omp atomic write
            failed = true;
        }
#pragma omp for schedule(dynamic, 16)
        for (int64_t i = 0; i < n; i++)
            if (work && a->offsets[i] < a->offsets[i + 1])
                solve_one(a->others + a->offsets[i], a->offsets[i + 1] - a->offsets[i], y, gram, f,
                          confidence, work, work + f * f, x + i * f);
        free(work);
    }
    return failed ? sc_fail(SC_INTERNAL, "out of memory for factors of %lld", (long long)f) : SC_OK;
}

static sc_status check(const interaction *in, size_t n, int64_t n_users, int64_t n_items,
                       const als_options *o)
{
    if (o->factors < 1 || o->factors > 512)
        return sc_fail(SC_USAGE, "select: %lld factors; give --factors from 1 to 512", (long long)o->factors);
    for (size_t k = 0; k < n; k++)
        if (in[k].user < 0 || in[k].user >= n_users || in[k].item < 0 || in[k].item >= n_items)
            return sc_fail(
                SC_BAD_INPUT,
                "interaction %zu is of user %d and item %d, but there are %lld users and %lld items", k,
                in[k].user, in[k].item, (long long)n_users, (long long)n_items);
    return SC_OK;
}

sc_status als_fit(const interaction *interactions, size_t n, int64_t n_users, int64_t n_items,
                  const als_options *o, float *users, float *items, uint8_t *user_seen, uint8_t *item_seen)
{
    sc_status status = SC_OK;
    const int64_t f = o->factors;
    adjacency by_user = {0}, by_item = {0};
    double *gram = NULL;
    progress *p = progress_begin("factors of users and items", "rounds", o->iterations);
    SC_TRY(check(interactions, n, n_users, n_items, o));
    SC_TRY(adjacency_make(interactions, n, n_users, true, &by_user));
    SC_TRY(adjacency_make(interactions, n, n_items, false, &by_item));
    SC_TRY(sc_alloc(&gram, (size_t)(f * f), sizeof *gram));
    memset(users, 0, (size_t)(n_users * f) * sizeof *users);
    memset(items, 0, (size_t)(n_items * f) * sizeof *items);
    for (int64_t u = 0; u < n_users; u++)
        user_seen[u] = by_user.offsets[u] < by_user.offsets[u + 1];
    for (int64_t i = 0; i < n_items; i++) {
        random_stream random = random_at(o->seed, RANDOM_FACTORS, (uint64_t)i, 0);
        item_seen[i] = by_item.offsets[i] < by_item.offsets[i + 1];
        for (int64_t k = 0; item_seen[i] && k < f; k++)
            items[i * f + k] = (float)(0.1 * random_normal(&random));
    }
    for (int64_t round = 0; round < o->iterations; round++) {
        SC_TRY(check_cancelled());
        gram_of(items, n_items, f, o->regularisation, gram);
        SC_TRY(solve_side(&by_user, n_users, items, gram, f, o->confidence, users));
        gram_of(users, n_users, f, o->regularisation, gram);
        SC_TRY(solve_side(&by_item, n_items, users, gram, f, o->confidence, items));
        progress_add(p, 1);
    }
cleanup:
    progress_end(p);
    adjacency_free(&by_user);
    adjacency_free(&by_item);
    free(gram);
    return status;
}
