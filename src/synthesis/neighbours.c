/* Item-item similarity. For items i and j with n_i and n_j users who liked them and c who liked both,
 *
 *     cos(i, j) = (c - 1) / sqrt(n_i n_j)                              (Sarwar et al. 2001, on likes)
 *     sim(i, j) = ((c - 1) cos + K content(i, j)) / (c - 1 + K)  (shrinkage, Bell & Koren 2007; towards
 *                                                                 the content instead of towards zero)
 *
 * so that two items nobody rated together are as similar as their metadata says, and with many
 * co-ratings the metadata no longer matters. The cosine divides by the root of j's popularity; a
 * further factor (n_max / n_j)^DAMPING keeps the same well-known titles out of every list. */
#include "synthesis/neighbours.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "synthesis/lexicon.h"

static const double SHRINKAGE = 8.0;      /* co-ratings worth as much as the metadata */
static const double CONTENT_SCALE = 0.35; /* a perfect match of metadata is worth this cosine */
static const double DAMPING = 0.15;       /* exponent on popularity beyond the cosine's own */
static const double ASKED_BONUS = 0.12;   /* has the genre, person or decade asked for */

typedef struct id_list {
    int32_t *at;
    size_t n;
} id_list;

struct neighbours {
    const dataset *data;
    const float *embeddings;
    double *norms; /* [n_items] */
    size_t dim;
    char **titles;       /* [n_items] plain, NULL: takes no part */
    char **keys;         /* [n_items] lower case plain title */
    int32_t *stands_for; /* [n_items] the item that shows this title; -1 */
    int32_t *by_key;     /* items with titles, sorted by key, then index */
    size_t n_keyed;
    /* Likes in both directions (compressed rows). */
    int64_t *user_start, *item_start;
    int32_t *user_items, *item_users;
    double *damping; /* [n_items] */
    /* Interned genres and people. */
    char **genre_names, **person_names;
    size_t n_genres, n_people;
    id_list *genres, *people; /* [n_items] sorted ids */
    double *genre_weight, *person_weight;
};

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorts the names of all items, drops repeats, and counts in how many items each stands. */
static sc_status intern(const dataset *d, bool people, char ***names, size_t *n_names, id_list **lists,
                        double **weights)
{
    sc_status status = SC_OK;
    char **all = NULL;
    size_t total = 0;
    for (size_t i = 0; i < d->n_items; i++)
        total += people ? d->items[i].n_people : d->items[i].n_categories;
    SC_TRY(sc_alloc(&all, total + 1, sizeof *all));
    size_t n = 0;
    for (size_t i = 0; i < d->n_items; i++) {
        char **from = people ? d->items[i].people : d->items[i].categories;
        size_t m = people ? d->items[i].n_people : d->items[i].n_categories;
        for (size_t k = 0; k < m; k++)
            if (people || !lexicon_is_broad(from[k]))
                all[n++] = from[k];
    }
    qsort(all, n, sizeof *all, compare_text);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || strcmp(all[kept - 1], all[i]) != 0)
            all[kept++] = all[i];
    *names = all;
    *n_names = kept;
    SC_TRY(sc_alloc(lists, d->n_items + 1, sizeof **lists));
    SC_TRY(sc_alloc(weights, kept + 1, sizeof **weights));
    for (size_t i = 0; i < d->n_items; i++) {
        char **from = people ? d->items[i].people : d->items[i].categories;
        size_t m = people ? d->items[i].n_people : d->items[i].n_categories;
        id_list *list = &(*lists)[i];
        SC_TRY(sc_alloc(&list->at, m + 1, sizeof *list->at));
        for (size_t k = 0; k < m; k++) {
            char **found = bsearch(&from[k], all, kept, sizeof *all, compare_text);
            if (found == NULL)
                continue;
            int32_t id = (int32_t)(found - all);
            bool repeat = false;
            for (size_t r = 0; r < list->n; r++)
                repeat |= list->at[r] == id;
            if (!repeat) {
                list->at[list->n++] = id;
                (*weights)[id] += 1.0;
            }
        }
    }
    /* Inverse document frequency: sharing "Western" says more than sharing "Drama". */
    for (size_t i = 0; i < kept; i++)
        (*weights)[i] = log((double)(d->n_items + 1) / ((*weights)[i] + 0.5)) + 0.1;
cleanup:
    return status;
}

static sc_status read_titles(neighbours *n)
{
    sc_status status = SC_OK;
    strbuf plain = {0}, key = {0};
    const dataset *d = n->data;
    SC_TRY(sc_alloc(&n->titles, d->n_items + 1, sizeof *n->titles));
    SC_TRY(sc_alloc(&n->keys, d->n_items + 1, sizeof *n->keys));
    SC_TRY(sc_alloc(&n->stands_for, d->n_items + 1, sizeof *n->stands_for));
    for (size_t i = 0; i < d->n_items; i++) {
        n->stands_for[i] = -1;
        if (d->items[i].title == NULL)
            continue;
        strbuf_clear(&plain);
        strbuf_clear(&key);
        SC_TRY(dataset_plain_title(d->items[i].title, &plain));
        utf8_lower(&key, strbuf_text(&plain), plain.len);
        SC_TRY(strbuf_status(&key));
        if (plain.len == 0)
            continue;
        SC_TRY(sc_strdup(&n->titles[i], strbuf_text(&plain)));
        SC_TRY(sc_strdup(&n->keys[i], strbuf_text(&key)));
    }
cleanup:
    strbuf_free(&plain);
    strbuf_free(&key);
    return status;
}

/* qsort_r would do, but its argument order differs between C libraries: sort pairs instead. */
typedef struct keyed {
    const char *key;
    int32_t index;
} keyed;

static int compare_keyed(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    int c = strcmp(x->key, y->key);
    return c != 0 ? c : x->index < y->index ? -1 : x->index > y->index;
}

static sc_status index_titles(neighbours *n)
{
    sc_status status = SC_OK;
    keyed *pairs = NULL;
    size_t n_items = n->data->n_items;
    SC_TRY(sc_alloc(&pairs, n_items + 1, sizeof *pairs));
    SC_TRY(sc_alloc(&n->by_key, n_items + 1, sizeof *n->by_key));
    for (size_t i = 0; i < n_items; i++)
        if (n->keys[i] != NULL)
            pairs[n->n_keyed++] = (keyed){n->keys[i], (int32_t)i};
    qsort(pairs, n->n_keyed, sizeof *pairs, compare_keyed);
    for (size_t i = 0; i < n->n_keyed;) {
        size_t end = i;
        int32_t best = pairs[i].index;
        while (end < n->n_keyed && strcmp(pairs[end].key, pairs[i].key) == 0) {
            if (neighbours_likes(n, pairs[end].index) > neighbours_likes(n, best))
                best = pairs[end].index;
            end++;
        }
        for (; i < end; i++) {
            n->by_key[i] = pairs[i].index;
            n->stands_for[pairs[i].index] = best;
        }
    }
cleanup:
    free(pairs);
    return status;
}

/* A like is a rating of at least 70 % of the scale, or at least the user's own mean. */
static sc_status read_likes(neighbours *n)
{
    sc_status status = SC_OK;
    const dataset *d = n->data;
    double *sum = NULL;
    int64_t *count = NULL, *fill = NULL;
    float most = 0;
    SC_TRY(sc_alloc(&sum, d->n_users + 1, sizeof *sum));
    SC_TRY(sc_alloc(&count, d->n_users + 1, sizeof *count));
    SC_TRY(sc_alloc(&n->user_start, d->n_users + 2, sizeof *n->user_start));
    SC_TRY(sc_alloc(&n->item_start, d->n_items + 2, sizeof *n->item_start));
    SC_TRY(sc_alloc(&n->user_items, d->n_interactions + 1, sizeof *n->user_items));
    SC_TRY(sc_alloc(&n->item_users, d->n_interactions + 1, sizeof *n->item_users));
    SC_TRY(sc_alloc(&fill, d->n_items + 1, sizeof *fill));
    for (size_t i = 0; i < d->n_interactions; i++) {
        const interaction *x = &d->interactions[i];
        if (x->user < 0 || (size_t)x->user >= d->n_users || x->item < 0 || (size_t)x->item >= d->n_items) {
            status = sc_fail(SC_BAD_INPUT,
                             "interaction %zu of %s points outside its users and items; import it again", i,
                             d->path);
            goto cleanup;
        }
        sum[x->user] += (double)x->rating;
        count[x->user]++;
        most = x->rating > most ? x->rating : most;
    }
    double scale = most <= 5.0f ? 5.0 : most <= 10.0f ? 10.0 : (double)most;
    int64_t kept = 0;
    int32_t user = -1;
    for (size_t i = 0; i < d->n_interactions; i++) { /* sorted by user, then item */
        const interaction *x = &d->interactions[i];
        for (; user < x->user; user++)
            n->user_start[user + 1] = kept;
        double mean = sum[x->user] / (double)count[x->user];
        bool again = kept > n->user_start[x->user] && n->user_items[kept - 1] == x->item;
        if (again || ((double)x->rating < 0.7 * scale &&
                      ((double)x->rating < mean || (double)x->rating < 0.5 * scale)))
            continue;
        n->user_items[kept++] = x->item;
        n->item_start[x->item + 1]++;
    }
    for (; user < (int32_t)d->n_users; user++)
        n->user_start[user + 1] = kept;
    n->user_start[d->n_users] = kept;
    for (size_t i = 0; i < d->n_items; i++)
        n->item_start[i + 1] += n->item_start[i];
    memcpy(fill, n->item_start, d->n_items * sizeof *fill);
    for (size_t u = 0; u < d->n_users; u++)
        for (int64_t k = n->user_start[u]; k < n->user_start[u + 1]; k++)
            n->item_users[fill[n->user_items[k]]++] = (int32_t)u;
    int64_t top = 1;
    for (size_t i = 0; i < d->n_items; i++)
        top = neighbours_likes(n, (int32_t)i) > top ? neighbours_likes(n, (int32_t)i) : top;
    SC_TRY(sc_alloc(&n->damping, d->n_items + 1, sizeof *n->damping));
    for (size_t i = 0; i < d->n_items; i++)
        n->damping[i] = pow((double)(neighbours_likes(n, (int32_t)i) + 5) / (double)(top + 5), -DAMPING);
cleanup:
    free(sum);
    free(count);
    free(fill);
    return status;
}

sc_status neighbours_create(const dataset *catalogue, const float *embeddings, size_t dim, neighbours **out)
{
    sc_status status = SC_OK;
    neighbours *n = NULL;
    *out = NULL;
    SC_TRY(sc_alloc(&n, 1, sizeof *n));
    n->data = catalogue;
    n->embeddings = embeddings;
    n->dim = dim;
    SC_TRY(read_titles(n));
    SC_TRY(read_likes(n));
    SC_TRY(index_titles(n));
    if (n->n_keyed == 0) {
        status = sc_fail(SC_BAD_INPUT,
                         "the catalogue %s has no item with a title; give one that has (--catalogue)",
                         catalogue->path);
        goto cleanup;
    }
    SC_TRY(intern(catalogue, false, &n->genre_names, &n->n_genres, &n->genres, &n->genre_weight));
    SC_TRY(intern(catalogue, true, &n->person_names, &n->n_people, &n->people, &n->person_weight));
    if (embeddings != NULL) {
        SC_TRY(sc_alloc(&n->norms, catalogue->n_items + 1, sizeof *n->norms));
        for (size_t i = 0; i < catalogue->n_items; i++) {
            double s = 0;
            for (size_t k = 0; k < dim; k++)
                s += (double)embeddings[i * dim + k] * (double)embeddings[i * dim + k];
            n->norms[i] = sqrt(s);
        }
    }
    *out = n;
    n = NULL;
cleanup:
    neighbours_free(n);
    return status;
}

void neighbours_free(neighbours *n)
{
    if (n == NULL)
        return;
    for (size_t i = 0; i < n->data->n_items; i++) {
        if (n->titles != NULL)
            free(n->titles[i]);
        if (n->keys != NULL)
            free(n->keys[i]);
        if (n->genres != NULL)
            free(n->genres[i].at);
        if (n->people != NULL)
            free(n->people[i].at);
    }
    free(n->titles);
    free(n->keys);
    free(n->stands_for);
    free(n->by_key);
    free(n->user_start);
    free(n->item_start);
    free(n->user_items);
    free(n->item_users);
    free(n->damping);
    free(n->norms);
    free(n->genre_names);
    free(n->person_names);
    free(n->genres);
    free(n->people);
    free(n->genre_weight);
    free(n->person_weight);
    free(n);
}

const char *neighbours_title(const neighbours *n, int32_t index)
{
    return n->titles[index];
}

int64_t neighbours_likes(const neighbours *n, int32_t index)
{
    return n->item_start[index + 1] - n->item_start[index];
}

/* First position in by_key whose key is not below `key`. */
static size_t find_key(const neighbours *n, const char *key)
{
    size_t low = 0, high = n->n_keyed;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(n->keys[n->by_key[mid]], key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int32_t neighbours_locate(const neighbours *n, const item *subject)
{
    int32_t found = n->data->item_ids != NULL ? dataset_find_item(n->data, subject->id) : -1;
    if (found >= 0 || subject->title == NULL)
        return found;
    strbuf plain = {0}, key = {0};
    if (dataset_plain_title(subject->title, &plain) == SC_OK) {
        utf8_lower(&key, strbuf_text(&plain), plain.len);
        for (size_t i = find_key(n, strbuf_text(&key));
             i < n->n_keyed && strcmp(n->keys[n->by_key[i]], strbuf_text(&key)) == 0; i++) {
            int32_t year = n->data->items[n->by_key[i]].year;
            if (year == 0 || subject->year == 0 || abs(year - subject->year) <= 1) {
                found = n->by_key[i];
                break;
            }
        }
    }
    strbuf_free(&plain);
    strbuf_free(&key);
    return found;
}

/* Weighted overlap of two sets: shared weight / sqrt(weight a x weight b). */
static double overlap(const id_list *a, const id_list *b, const double *weight)
{
    double shared = 0, wa = 0, wb = 0;
    for (size_t i = 0; i < a->n; i++) {
        wa += weight[a->at[i]] * weight[a->at[i]];
        for (size_t k = 0; k < b->n; k++)
            if (a->at[i] == b->at[k])
                shared += weight[a->at[i]] * weight[a->at[i]];
    }
    for (size_t k = 0; k < b->n; k++)
        wb += weight[b->at[k]] * weight[b->at[k]];
    return shared > 0 ? shared / sqrt(wa * wb) : 0.0;
}

static double content(const neighbours *n, const id_list *genres, const id_list *people, int32_t year,
                      int32_t self, int32_t j)
{
    const item *other = &n->data->items[j];
    double g = overlap(genres, &n->genres[j], n->genre_weight);
    double p = overlap(people, &n->people[j], n->person_weight);
    double y = year > 0 && other->year > 0 ? exp(-fabs((double)(year - other->year)) / 12.0) : 0.0;
    double metadata = 0.55 * g + 0.30 * (p > 0 ? sqrt(p) : 0.0) + 0.15 * y;
    if (n->embeddings == NULL || self < 0 || n->norms[self] <= 0 || n->norms[j] <= 0)
        return CONTENT_SCALE * metadata;
    double dot = 0;
    const float *a = n->embeddings + (size_t)self * n->dim, *b = n->embeddings + (size_t)j * n->dim;
    for (size_t k = 0; k < n->dim; k++)
        dot += (double)a[k] * (double)b[k];
    double cosine = dot / (n->norms[self] * n->norms[j]);
    return CONTENT_SCALE * (0.6 * metadata + 0.4 * (cosine > 0 ? cosine : 0.0));
}

/* Adds the similarity of every item to one anchor; marks what rests on co-ratings. */
static sc_status add_anchor(const neighbours *n, const item *subject, int32_t self, double *scores,
                            int32_t *shared, unsigned char *rests_on_likes)
{
    sc_status status = SC_OK;
    size_t n_items = n->data->n_items;
    id_list genres = {0}, people = {0};
    if (self >= 0) {
        genres = n->genres[self];
        people = n->people[self];
    }
    /* The subject's own metadata may be richer than the catalogue's. */
    bool own = subject != NULL && (self < 0 || (genres.n == 0 && people.n == 0));
    if (own) {
        genres = people = (id_list){0};
        SC_TRY(sc_alloc(&genres.at, subject->n_categories + 1, sizeof *genres.at));
        SC_TRY(sc_alloc(&people.at, subject->n_people + 1, sizeof *people.at));
        for (size_t i = 0; i < subject->n_categories; i++) {
            char **f = bsearch(&subject->categories[i], n->genre_names, n->n_genres, sizeof *n->genre_names,
                               compare_text);
            if (f != NULL)
                genres.at[genres.n++] = (int32_t)(f - n->genre_names);
        }
        for (size_t i = 0; i < subject->n_people; i++) {
            char **f = bsearch(&subject->people[i], n->person_names, n->n_people, sizeof *n->person_names,
                               compare_text);
            if (f != NULL)
                people.at[people.n++] = (int32_t)(f - n->person_names);
        }
    }
    memset(shared, 0, n_items * sizeof *shared);
    if (self >= 0)
        for (int64_t k = n->item_start[self]; k < n->item_start[self + 1]; k++) {
            int32_t user = n->item_users[k];
            for (int64_t m = n->user_start[user]; m < n->user_start[user + 1]; m++)
                shared[n->user_items[m]]++;
        }
    int32_t year = subject != NULL && subject->year > 0 ? subject->year
                   : self >= 0                          ? n->data->items[self].year
                                                        : 0;
    double likes = self >= 0 ? (double)neighbours_likes(n, self) : 0.0;
    for (size_t j = 0; j < n_items; j++) {
        if (n->titles[j] == NULL)
            continue;
        if ((int32_t)j == self) {
            scores[j] += 1.0;
            continue;
        }
        double c = shared[j] > 1 ? (double)(shared[j] - 1) : 0.0; /* one person alone is no evidence */
        double prior = content(n, &genres, &people, year, self, (int32_t)j);
        double cosine =
            c > 0 ? c / sqrt(likes * (double)neighbours_likes(n, (int32_t)j)) * n->damping[j] : 0.0;
        scores[j] += (c * cosine + SHRINKAGE * prior) / (c + SHRINKAGE);
        if (c * cosine > SHRINKAGE * prior)
            rests_on_likes[j] = 1;
    }
cleanup:
    if (own) {
        free(genres.at);
        free(people.at);
    }
    return status;
}

static bool has_name(char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(names[i], name) == 0)
            return true;
    return false;
}

/* Is a before b? */
static bool before(const neighbours *n, const neighbour *a, const neighbour *b)
{
    if (a->score != b->score)
        return a->score > b->score;
    int64_t x = neighbours_likes(n, a->item), y = neighbours_likes(n, b->item);
    return x != y ? x > y : a->item < b->item;
}

sc_status neighbours_rank(const neighbours *n, const neighbour_query *query, size_t k, neighbour *out,
                          size_t *n_out)
{
    sc_status status = SC_OK;
    size_t n_items = n->data->n_items, kept = 0;
    double *scores = NULL;
    int32_t *shared = NULL;
    unsigned char *rests = NULL, *barred = NULL;
    strbuf key = {0}, plain = {0};
    int32_t self = neighbours_locate(n, query->subject);
    SC_TRY(sc_alloc(&scores, n_items + 1, sizeof *scores));
    SC_TRY(sc_alloc(&shared, n_items + 1, sizeof *shared));
    SC_TRY(sc_alloc(&rests, n_items + 1, sizeof *rests));
    SC_TRY(sc_alloc(&barred, n_items + 1, sizeof *barred));
    SC_TRY(add_anchor(n, query->subject, self, scores, shared, rests));
    for (size_t i = 0; i < query->n_liked; i++)
        SC_TRY(add_anchor(n, NULL, query->liked[i], scores, shared, rests));
    for (size_t i = 0; i < query->n_exclude; i++) {
        strbuf_clear(&key);
        strbuf_clear(&plain);
        SC_TRY(dataset_plain_title(query->exclude[i], &plain));
        utf8_lower(&key, strbuf_text(&plain), plain.len);
        SC_TRY(strbuf_status(&key));
        for (size_t p = find_key(n, strbuf_text(&key));
             p < n->n_keyed && strcmp(n->keys[n->by_key[p]], strbuf_text(&key)) == 0; p++)
            barred[n->by_key[p]] = 1;
    }
    double anchors = 1.0 + (double)query->n_liked;
    for (size_t j = 0; j < n_items; j++) {
        if (n->titles[j] == NULL || barred[j])
            continue;
        /* One item per title, but the item asked about always stands for its own. */
        bool same_as_self = self >= 0 && n->stands_for[j] == n->stands_for[self];
        if (same_as_self ? (int32_t)j != self : n->stands_for[j] != (int32_t)j)
            continue;
        const item *x = &n->data->items[j];
        neighbour c = {.item = (int32_t)j,
                       .score = scores[j] / anchors,
                       .source = (int32_t)j == self ? NEIGHBOUR_SEED
                                 : rests[j]         ? NEIGHBOUR_CO_RATED
                                                    : NEIGHBOUR_CONTENT};
        if (query->genre != NULL && has_name(x->categories, x->n_categories, query->genre))
            c.score += ASKED_BONUS;
        if (query->person != NULL && has_name(x->people, x->n_people, query->person))
            c.score += 2.0 * ASKED_BONUS;
        if (query->decade > 0 && x->year / 10 * 10 == query->decade)
            c.score += ASKED_BONUS;
        /* Insertion into the k best: k is 20. */
        size_t at = kept;
        while (at > 0 && before(n, &c, &out[at - 1]))
            at--;
        if (at >= k)
            continue;
        kept += kept < k;
        memmove(out + at + 1, out + at, (kept - at - 1) * sizeof *out);
        out[at] = c;
    }
    *n_out = kept;
cleanup:
    free(scores);
    free(shared);
    free(rests);
    free(barred);
    strbuf_free(&key);
    strbuf_free(&plain);
    return status;
}
