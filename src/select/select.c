/* select: embeddings -> selection.jsonl, selection.json (settings, objective) and
 * selection_map.npy (every row on two principal components, for the report). */
#include "seedcorn/select.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/dataset.h"
#include "seedcorn/embed.h"
#include "select/constraints.h"
#include "select/selector.h"
#include "select/views.h"

sc_select_options sc_select_default(void)
{
    return (sc_select_options){.struct_size = sizeof(sc_select_options),
                               .common = sc_common_default(),
                               .strategy = "js",
                               .view = "semantic",
                               .clusters = 64,
                               .temperature = 1,
                               .alpha = 0.5,
                               .js_form = "mix",
                               .lambda = 1,
                               .neighbours = 64,
                               .metadata_weight = 1,
                               .user_weight = 1,
                               .factors = 64};
}

static sc_selector_options selector_options(const sc_select_options *o)
{
    return (sc_selector_options){.struct_size = sizeof(sc_selector_options),
                                 .common = o->common,
                                 .strategy = o->strategy,
                                 .budget = o->budget,
                                 .clusters = o->clusters,
                                 .temperature = o->temperature,
                                 .alpha = o->alpha,
                                 .js_form = o->js_form,
                                 .lambda = o->lambda,
                                 .neighbours = o->neighbours};
}

static sc_status check_options(const sc_select_options *o, const strategy **found, unsigned *parts)
{
    sc_status status = SC_OK;
    if (o->struct_size != sizeof *o)
        return sc_fail(SC_USAGE,
                       "select: the options are not those of this library; start from sc_select_default()");
    if (!o->data || !o->embeddings || !o->out || !o->strategy || !o->view || !o->js_form)
        return sc_fail(SC_USAGE, "select needs data, embeddings, out, strategy, view and js_form");
    SC_TRY(view_parse(o->view, parts));
    const sc_selector_options selector = selector_options(o);
    SC_TRY(selector_check(&selector, found));
cleanup:
    return status;
}

/* Centres of a file, as wide as the rows. */
static sc_status read_centres(const char *path, int64_t dim, float **out, int64_t *k)
{
    sc_status status = SC_OK;
    npy_file file = {0};
    SC_TRY(npy_open_as(path, NPY_F4, 2, &file));
    *k = file.shape[0];
    if (*k < 1 || *k > 1000000 || file.shape[1] != dim) {
        status =
            sc_fail(SC_BAD_INPUT, "%s holds %lld centres of width %lld, but the embeddings are %lld wide",
                    path, (long long)*k, (long long)file.shape[1], (long long)dim);
        goto cleanup;
    }
    SC_TRY(sc_alloc(out, (size_t)*k * (size_t)dim, sizeof **out));
    memcpy(*out, file.data, (size_t)*k * (size_t)dim * sizeof **out);
cleanup:
    npy_close(&file);
    return status;
}

static json_t *pick_json(const strategy *s, const dataset *data, const sc_pick *pick, int64_t rank)
{
    const review *r = &data->reviews[pick->row];
    json_t *line = json_object();
    json_object_set_new(line, "rank", json_integer(rank));
    json_object_set_new(line, "row", json_integer(pick->row));
    json_object_set_new(line, "review_id", json_text(r->id));
    json_object_set_new(line, "parent_asin", json_text(r->parent_asin));
    json_object_set_new(line, "user_id", r->user_id ? json_text(r->user_id) : json_null());
    if (s->gives & PICK_SCORE)
        json_object_set_new(line, "score", json_real(pick->score));
    if (s->gives & PICK_GAIN)
        json_object_set_new(line, "gain", json_real(pick->gain));
    if (s->gives & PICK_ENTROPY)
        json_object_set_new(line, "entropy", json_real(pick->entropy));
    if (s->gives & PICK_DIVERGENCE)
        json_object_set_new(line, "divergence", json_real(pick->divergence));
    if (s->gives & PICK_CLUSTER)
        json_object_set_new(line, "cluster", json_integer(pick->cluster));
    return line;
}

static sc_status write_selection(const char *path, const strategy *s, const dataset *data,
                                 const sc_pick *picks, int64_t n)
{
    sc_status status = SC_OK;
    file_writer *w = NULL;
    SC_TRY(file_writer_open(path, &w));
    for (int64_t t = 0; t < n; t++) {
        json_t *line = pick_json(s, data, &picks[t], t + 1);
        status = json_write_line(w, line);
        json_decref(line);
        if (status != SC_OK)
            goto cleanup;
    }
    SC_TRY(file_writer_commit(&w));
cleanup:
    file_writer_discard(&w);
    return status;
}

/* "a/selection.jsonl" and ".json" give "a/selection.json". */
static sc_status sibling(const char *path, const char *ending, strbuf *out)
{
    const size_t n = strlen(path);
    strbuf_append(out, path, text_ends(path, ".jsonl") ? n - 6 : n);
    strbuf_puts(out, ending);
    return strbuf_status(out);
}

static void name_file(json_t *settings, const char *key, const char *path)
{
    json_object_set_new(settings, key, path ? json_text(path_base(path)) : json_null());
}

static sc_status write_summary(const char *path, const sc_select_options *o, const strategy *s,
                               const device *dev, const dataset *data, const view *v, const constraints *kept,
                               const clustering *c, const sc_pick *picks, const sc_select_result *result)
{
    json_t *settings = json_object(), *root = json_object(), *curve = json_array();
    json_object_set_new(settings, "strategy", json_string(s->name));
    json_object_set_new(settings, "view", json_string(o->view));
    if (v->joined) {
        name_file(settings, "item_embeddings", o->item_embeddings);
        json_object_set_new(settings, "metadata_weight", json_real(o->metadata_weight));
        json_object_set_new(settings, "user_weight", json_real(o->user_weight));
        json_object_set_new(settings, "factors", json_integer(o->factors));
        json_object_set_new(root, "rows_of_unknown_items", json_integer(v->n_unknown_items));
        json_object_set_new(root, "rows_of_unknown_users", json_integer(v->n_unknown_users));
    }
    json_object_set_new(settings, "budget", json_integer(o->budget));
    json_object_set_new(settings, "seed", json_integer(o->common.seed));
    if (s->needs & NEEDS_CLUSTERS) {
        json_object_set_new(settings, "clusters", json_integer(o->clusters));
        name_file(settings, "centres", o->centres);
        json_object_set_new(settings, "temperature", json_real(o->temperature));
        json_object_set_new(settings, "alpha", json_real(o->alpha));
        json_object_set_new(settings, "js_form", json_string(o->js_form));
        json_object_set_new(root, "kmeans",
                            json_pack("{s:I,s:I,s:b,s:I,s:f}", "clusters", (json_int_t)c->kmeans.k,
                                      "iterations", (json_int_t)c->kmeans.iterations, "converged",
                                      c->kmeans.converged, "repaired", (json_int_t)c->kmeans.repaired,
                                      "inertia", c->kmeans.inertia));
    }
    if (s->run == fisher_select || s->run == bait_select)
        json_object_set_new(settings, "lambda", json_real(o->lambda));
    if (s->run == facility_select)
        json_object_set_new(settings, "neighbours", json_integer(o->neighbours));
    if (s->run == nll_select)
        name_file(settings, "model", o->model);
    name_file(settings, "given", o->given);
    name_file(settings, "include", o->include);
    name_file(settings, "exclude", o->exclude);
    json_object_set_new(settings, "max_per_item", json_integer(o->max_per_item));
    json_object_set_new(settings, "max_per_user", json_integer(o->max_per_user));
    json_object_set_new(settings, "max_per_category", json_integer(o->max_per_category));
    json_object_set_new(settings, "max_text_overlap", json_real(o->max_text_overlap));
    json_object_set_new(settings, "max_cosine", json_real(o->max_cosine));
    json_object_set_new(root, "n_alike_in_words", json_integer(kept->n_alike_in_words));
    json_object_set_new(root, "n_alike_in_meaning", json_integer(kept->n_alike_in_meaning));
    json_object_set_new(root, "settings", settings);
    json_object_set_new(root, "n_rows", json_integer(result->n_rows));
    json_object_set_new(root, "n_selected", json_integer(result->n_selected));
    json_object_set_new(root, "dim", json_integer(result->dim));
    json_object_set_new(root, "reviews_sha256", json_string(data->reviews_sha256));
    json_object_set_new(root, "objective", json_real(result->objective));
    /* At most 101 points of the objective, for a plot. */
    const int64_t n = result->n_selected, step = (n + 99) / 100;
    for (int64_t t = 0; t < n && (s->gives & PICK_SCORE); t = t + step < n || t == n - 1 ? t + step : n - 1)
        json_array_append_new(curve, json_pack("[I,f]", (json_int_t)t + 1, picks[t].objective));
    json_object_set_new(root, "objective_curve", curve);
    json_object_set_new(root, "device", json_text(dev->name));
    json_object_set_new(root, "seconds", json_real(result->seconds));
    sc_status status = json_write_file(path, root);
    json_decref(root);
    return status;
}

static sc_status write_map(const char *path, const centred *rows, uint64_t seed)
{
    sc_status status = SC_OK;
    float *map = NULL;
    const int64_t shape[2] = {rows->n, 2};
    SC_TRY(sc_alloc(&map, 2 * (size_t)rows->n, sizeof *map));
    SC_TRY(features_map(rows, seed, map));
    SC_TRY(npy_write(path, NPY_F4, 2, shape, map));
cleanup:
    free(map);
    return status;
}

/* What the student says of every review, by its mean negative log-likelihood; kept beside the selection. */
static sc_status find_surprise(const sc_select_options *o, int64_t n, double **out)
{
    sc_status status = SC_OK;
    sc_embed_options settings = sc_embed_default();
    features values = {0};
    strbuf path = {0};
    if (!o->model)
        return sc_fail(SC_USAGE, "the strategy \"nll\" needs --model DIR, the student before training");
    SC_TRY(sibling(o->out, "_nll.npy", &path));
    settings.common = o->common;
    settings.data = o->data;
    settings.model = o->model;
    settings.out = strbuf_text(&path);
    settings.pooling = "nll";
    SC_TRY(sc_embed(&settings, NULL));
    SC_TRY(features_open(strbuf_text(&path), n, "reviews", &values));
    SC_TRY(sc_alloc(out, (size_t)n, sizeof **out));
    for (int64_t i = 0; i < n; i++)
        (*out)[i] = (double)values.x[i];
cleanup:
    features_close(&values);
    strbuf_free(&path);
    return status;
}

sc_status sc_select(const sc_select_options *options, sc_select_result *result)
{
    sc_status status = SC_OK;
    const double start = seconds_now();
    const strategy *chosen = NULL;
    device *dev = NULL;
    dataset *data = NULL;
    features x = {0};
    view seen = {0};
    unsigned parts = 0;
    centred rows = {0};
    clustering clusters = {0};
    sc_selector_options selector;
    sc_pick *picks = NULL;
    float *centres = NULL;
    double *surprise = NULL;
    int32_t *items = NULL;
    int64_t n_items = 0, n_picks = 0;
    constraints kept = {0};
    strbuf map_path = {0}, summary_path = {0};
    sc_select_result r = {0};

    SC_TRY(check_options(options, &chosen, &parts));
    SC_TRY(device_open(&options->common, &dev));
    SC_TRY(
        dataset_open(options->data, DATASET_REVIEWS | (parts & VIEW_USER ? DATASET_INTERACTIONS : 0), &data));
    SC_TRY(features_open(options->embeddings, (int64_t)data->n_reviews, "reviews", &x));
    if (options->budget > x.n) {
        status = sc_fail(SC_USAGE,
                         "the budget is %lld, but there are only %lld reviews; give --budget %lld or less",
                         (long long)options->budget, (long long)x.n, (long long)x.n);
        goto cleanup;
    }
    SC_TRY(view_make(options, parts, data, &x, &seen));
    selector = selector_options(options);
    if (options->centres && chosen->needs & NEEDS_CLUSTERS) {
        SC_TRY(read_centres(options->centres, seen.dim, &centres, &selector.n_centres));
        selector.centres = centres;
    }
    if (chosen->needs & NEEDS_ITEMS) {
        SC_TRY(constraints_number_items(data, &items, &n_items));
        selector.items = items;
    }
    if (chosen->needs & NEEDS_SURPRISE) {
        SC_TRY(find_surprise(options, x.n, &surprise));
        selector.surprise = surprise;
    }
    SC_TRY(constraints_make(options, data, dev, x.x, x.dim, &kept, &selector));
    SC_TRY(sc_alloc(&picks, (size_t)options->budget, sizeof *picks));
    SC_TRY(features_centre(seen.x, seen.n, seen.dim, &rows));
    SC_TRY(selector_run(&selector, chosen, dev, seen.x, &rows, picks, &n_picks, &clusters));
    if (n_picks < options->budget)
        log_warn("select: the caps leave %lld reviews instead of %lld", (long long)n_picks,
                 (long long)options->budget);
    r.n_rows = x.n;
    r.dim = seen.dim;
    r.n_selected = n_picks;
    r.objective = n_picks > 0 ? picks[n_picks - 1].objective : 0;

    SC_TRY(sibling(options->out, "_map.npy", &map_path));
    SC_TRY(sibling(options->out, ".json", &summary_path));
    SC_TRY(write_map(strbuf_text(&map_path), &rows, (uint64_t)options->common.seed));
    r.seconds = seconds_now() - start;
    SC_TRY(write_summary(strbuf_text(&summary_path), options, chosen, dev, data, &seen, &kept, &clusters,
                         picks, &r));
    /* Last: where it stands, the two beside it do too. */
    SC_TRY(write_selection(options->out, chosen, data, picks, n_picks));
    if (result)
        *result = r;
cleanup:
    strbuf_free(&map_path);
    strbuf_free(&summary_path);
    free(picks);
    free(items);
    free(surprise);
    constraints_free(&kept);
    free(centres);
    clustering_free(&clusters);
    centred_free(&rows);
    view_free(&seen);
    features_close(&x);
    dataset_close(data);
    device_close(dev);
    return status;
}
