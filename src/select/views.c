/* What rows are compared by. */
#include "select/views.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "select/als.h"

enum { ALS_ITERATIONS = 15 };
static const double ALS_CONFIDENCE = 40, ALS_REGULARISATION = 1; /* the former is that of the paper */

/* One part: a table of rows that are looked up by item or user. */
typedef struct part {
    const float *table;   /* [n_table][dim] */
    const uint8_t *known; /* [n_table], or NULL: all */
    int64_t n_table, dim;
    const int32_t *index; /* [n] which row of the table, -1: unknown */
    double weight;
} part;

sc_status view_parse(const char *name, unsigned *parts)
{
    static const char *const names[] = {"semantic", "metadata", "user", NULL};
    *parts = 0;
    for (const char *at = name;; at++) {
        const size_t n = strcspn(at, "+");
        int which = 0;
        while (names[which] && (strlen(names[which]) != n || strncmp(names[which], at, n) != 0))
            which++;
        if (!names[which])
            return sc_fail(
                SC_USAGE, "unknown view \"%s\"; there are: semantic, metadata, user, and several joined by +",
                name);
        *parts |= which == 1 ? VIEW_METADATA : which == 2 ? VIEW_USER : 0;
        at += n;
        if (*at == 0)
            return SC_OK;
    }
}

/* The mean of the table's rows that rows refer to, each as often as they do, and the root mean square distance of
 * these from it. */
static double spread_of(const part *p, int64_t n, double *mean)
{
    int64_t n_known = 0;
    double squares = 0;
    memset(mean, 0, (size_t)p->dim * sizeof *mean);
    for (int64_t i = 0; i < n; i++) {
        const int32_t at = p->index ? p->index[i] : (int32_t)i;
        if (at < 0 || (p->known && !p->known[at]))
            continue;
        n_known++;
        for (int64_t d = 0; d < p->dim; d++)
            mean[d] += (double)p->table[at * p->dim + d];
    }
    for (int64_t d = 0; d < p->dim; d++)
        mean[d] /= n_known > 0 ? (double)n_known : 1;
    for (int64_t i = 0; i < n; i++) {
        const int32_t at = p->index ? p->index[i] : (int32_t)i;
        if (at < 0 || (p->known && !p->known[at]))
            continue;
        for (int64_t d = 0; d < p->dim; d++) {
            const double diff = (double)p->table[at * p->dim + d] - mean[d];
            squares += diff * diff;
        }
    }
    return n_known > 0 ? sqrt(squares / (double)n_known) : 0;
}

/* Writes the part into columns `first` on of the joined rows; *n_unknown rows got the mean. */
static sc_status join(const part *p, double spread, int64_t first, view *v, int64_t *n_unknown)
{
    double *mean = NULL;
    sc_status status = sc_alloc(&mean, (size_t)p->dim, sizeof *mean);
    if (status != SC_OK)
        return status;
    const double own = spread_of(p, v->n, mean), scale = own > 0 ? p->weight * spread / own : 0;
    *n_unknown = 0;
    for (int64_t i = 0; i < v->n; i++) {
        const int32_t at = p->index[i];
        const bool known = at >= 0 && (!p->known || p->known[at]);
        float *row = v->joined + i * v->dim + first;
        *n_unknown += !known;
        for (int64_t d = 0; d < p->dim; d++)
            row[d] = (float)(scale * (known ? (double)p->table[at * p->dim + d] : mean[d]));
    }
    free(mean);
    return SC_OK;
}

static sc_status check_weight(const char *flag, double weight)
{
    return weight > 0 && isfinite(weight)
               ? SC_OK
               : sc_fail(SC_USAGE, "select: %s is %g; it must be above 0", flag, weight);
}

static sc_status check(const sc_select_options *o, unsigned parts, const dataset *data)
{
    sc_status status = SC_OK;
    if (parts & VIEW_METADATA) {
        SC_TRY(check_weight("--metadata-weight", o->metadata_weight));
        if (!o->item_embeddings)
            return sc_fail(
                SC_USAGE, "the view \"%s\" needs --item-embeddings; `seedcorn embed --text item` writes them",
                o->view);
    }
    if (parts & VIEW_USER) {
        SC_TRY(check_weight("--user-weight", o->user_weight));
        if (data->n_interactions == 0)
            return sc_fail(SC_BAD_INPUT, "%s has no interactions for the view \"%s\"", data->path, o->view);
        if (o->factors < 1 || o->factors > ALS_FACTORS)
            return sc_fail(SC_USAGE, "select: %lld factors; give --factors from 1 to %d",
                           (long long)o->factors, (int)ALS_FACTORS);
    }
cleanup:
    return status;
}

/* What the parts are looked up in. */
typedef struct sources {
    features items;
    float *user_factors, *item_factors;
    uint8_t *user_seen, *item_seen;
    int32_t *item_of, *user_of; /* [n] */
} sources;

static void sources_free(sources *s)
{
    features_close(&s->items);
    free(s->user_factors);
    free(s->item_factors);
    free(s->user_seen);
    free(s->item_seen);
    free(s->item_of);
    free(s->user_of);
}

static sc_status sources_make(const sc_select_options *o, unsigned parts, const dataset *data,
                              const ops *table, sources *s)
{
    sc_status status = SC_OK;
    const size_t n = data->n_reviews, f = (size_t)o->factors;
    SC_TRY(sc_alloc(&s->item_of, n, sizeof *s->item_of));
    SC_TRY(sc_alloc(&s->user_of, n, sizeof *s->user_of));
    for (size_t i = 0; i < n; i++) {
        s->item_of[i] = data->reviews[i].item;
        s->user_of[i] = data->reviews[i].user;
    }
    if (parts & VIEW_METADATA)
        SC_TRY(features_open(o->item_embeddings, (int64_t)data->n_items, "items", &s->items));
    if (parts & VIEW_USER) {
        const als_options settings = {.factors = o->factors,
                                      .iterations = ALS_ITERATIONS,
                                      .confidence = ALS_CONFIDENCE,
                                      .regularisation = ALS_REGULARISATION,
                                      .seed = (uint64_t)o->common.seed};
        SC_TRY(sc_alloc(&s->user_factors, data->n_users * f, sizeof *s->user_factors));
        SC_TRY(sc_alloc(&s->item_factors, data->n_items * f, sizeof *s->item_factors));
        SC_TRY(sc_alloc(&s->user_seen, data->n_users, 1));
        SC_TRY(sc_alloc(&s->item_seen, data->n_items, 1));
        SC_TRY(als_fit(table, data->interactions, data->n_interactions, (int64_t)data->n_users,
                       (int64_t)data->n_items, &settings, s->user_factors, s->item_factors, s->user_seen,
                       s->item_seen));
    }
cleanup:
    return status;
}

sc_status view_make(const sc_select_options *o, unsigned parts, const dataset *data, const features *base,
                    const ops *table, view *out)
{
    sc_status status = SC_OK;
    sources s = {0};
    double *mean = NULL;
    *out = (view){.x = base->x, .n = base->n, .dim = base->dim};
    if (parts == 0)
        return SC_OK;
    SC_TRY(check(o, parts, data));
    SC_TRY(sources_make(o, parts, data, table, &s));
    out->dim += (parts & VIEW_METADATA ? s.items.dim : 0) + (parts & VIEW_USER ? 2 * o->factors : 0);
    SC_TRY(sc_alloc(&out->joined, (size_t)out->n * (size_t)out->dim, sizeof *out->joined));
    SC_TRY(sc_alloc(&mean, (size_t)base->dim, sizeof *mean));
    const part semantic = {.table = base->x, .n_table = base->n, .dim = base->dim};
    const double spread = spread_of(&semantic, base->n, mean);
    for (int64_t i = 0; i < out->n; i++)
        memcpy(out->joined + i * out->dim, base->x + i * base->dim, (size_t)base->dim * sizeof(float));
    int64_t first = base->dim, unknown;
    if (parts & VIEW_METADATA) {
        const part items = {.table = s.items.x,
                            .n_table = s.items.n,
                            .dim = s.items.dim,
                            .index = s.item_of,
                            .weight = o->metadata_weight};
        SC_TRY(join(&items, spread, first, out, &out->n_unknown_items));
        first += s.items.dim;
    }
    if (parts & VIEW_USER) {
        /* two parts that count as one: each with its share of the weight */
        const double weight = o->user_weight * M_SQRT1_2;
        const part users = {s.user_factors, s.user_seen, (int64_t)data->n_users,
                            o->factors,     s.user_of,   weight};
        const part items = {s.item_factors, s.item_seen, (int64_t)data->n_items,
                            o->factors,     s.item_of,   weight};
        SC_TRY(join(&users, spread, first, out, &out->n_unknown_users));
        SC_TRY(join(&items, spread, first + o->factors, out, &unknown));
        out->n_unknown_items = unknown > out->n_unknown_items ? unknown : out->n_unknown_items;
    }
    if (out->n_unknown_items + out->n_unknown_users > 0)
        log_info(
            "select: nothing is known of the items of %lld rows and the users of %lld; they get the mean",
            (long long)out->n_unknown_items, (long long)out->n_unknown_users);
    out->x = out->joined;
    SC_TRY(features_check("the joined view", out->x, out->n, out->dim));
cleanup:
    sources_free(&s);
    free(mean);
    if (status != SC_OK)
        view_free(out);
    return status;
}

void view_free(view *v)
{
    free(v->joined);
    *v = (view){0};
}

sc_status view_plan(const sc_select_options *o, unsigned parts, const dataset *data, const features *base,
                    const ops *table, view_columns *columns, estimate *out)
{
    sc_status status = SC_OK;
    features items = {0};
    const int64_t n = base->n;
    *columns = (view_columns){.semantic = base->dim};
    if (parts == 0)
        return SC_OK;
    SC_TRY(check(o, parts, data));
    estimate_phase_begin(out);
    estimate_array_add(out, "items and users of the rows", 2 * n, sizeof(int32_t));
    if (parts & VIEW_METADATA) {
        SC_TRY(features_open(o->item_embeddings, (int64_t)data->n_items, "items", &items));
        columns->metadata = items.dim;
        columns->mapped = (int64_t)items.file.map.size;
    }
    if (parts & VIEW_USER) {
        columns->user = 2 * o->factors;
        als_plan(table, (int64_t)data->n_interactions, (int64_t)data->n_users, (int64_t)data->n_items,
                 o->factors, out);
    }
    estimate_phase_end(out);
    estimate_array_add(out, "joined rows", n * (columns->semantic + columns->metadata + columns->user),
                       sizeof(float));
cleanup:
    features_close(&items);
    return status;
}
