/* select: embeddings -> selection.jsonl, selection.json (settings, objective) and
 * selection_map.npy (every row on two principal components, for the report). */
#include "seedcorn/select.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/dataset.h"
#include "data/ids.h"
#include "select/selector.h"

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
                               .lambda = 1};
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
                                 .lambda = o->lambda};
}

static sc_status check_options(const sc_select_options *o, const strategy **found)
{
    sc_status status = SC_OK;
    if (o->struct_size != sizeof *o)
        return sc_fail(SC_USAGE,
                       "select: the options are not those of this library; start from sc_select_default()");
    if (!o->data || !o->embeddings || !o->out || !o->strategy || !o->view || !o->js_form)
        return sc_fail(SC_USAGE, "select needs data, embeddings, out, strategy, view and js_form");
    if (strcmp(o->view, "semantic") != 0)
        return sc_fail(SC_USAGE, "unknown view \"%s\"; there is: semantic", o->view);
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
                                 const sc_pick *picks, int64_t budget)
{
    sc_status status = SC_OK;
    file_writer *w = NULL;
    SC_TRY(file_writer_open(path, &w));
    for (int64_t t = 0; t < budget; t++) {
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

static sc_status write_summary(const char *path, const sc_select_options *o, const strategy *s,
                               const device *dev, const dataset *data, const clustering *c,
                               const sc_pick *picks, const sc_select_result *result)
{
    json_t *settings = json_object(), *root = json_object(), *curve = json_array();
    json_object_set_new(settings, "strategy", json_string(s->name));
    json_object_set_new(settings, "view", json_string(o->view));
    json_object_set_new(settings, "budget", json_integer(o->budget));
    json_object_set_new(settings, "seed", json_integer(o->common.seed));
    if (s->needs & NEEDS_CLUSTERS) {
        json_object_set_new(settings, "clusters", json_integer(o->clusters));
        json_object_set_new(settings, "centres", o->centres ? json_text(path_base(o->centres)) : json_null());
        json_object_set_new(settings, "temperature", json_real(o->temperature));
        json_object_set_new(settings, "alpha", json_real(o->alpha));
        json_object_set_new(settings, "js_form", json_string(o->js_form));
        json_object_set_new(root, "kmeans",
                            json_pack("{s:I,s:I,s:b,s:I,s:f}", "clusters", (json_int_t)c->kmeans.k,
                                      "iterations", (json_int_t)c->kmeans.iterations, "converged",
                                      c->kmeans.converged, "repaired", (json_int_t)c->kmeans.repaired,
                                      "inertia", c->kmeans.inertia));
    }
    if (s->run == fisher_select)
        json_object_set_new(settings, "lambda", json_real(o->lambda));
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

/* The item of every review, numbered by first mention. */
static sc_status number_items(const dataset *data, int32_t **out)
{
    sc_status status = SC_OK;
    id_table known = {0};
    SC_TRY(sc_alloc(out, data->n_reviews, sizeof **out));
    for (size_t i = 0; i < data->n_reviews; i++)
        SC_TRY(id_table_put(&known, data->reviews[i].parent_asin, &(*out)[i], NULL));
cleanup:
    id_table_free(&known);
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
    centred rows = {0};
    clustering clusters = {0};
    sc_selector_options selector;
    sc_pick *picks = NULL;
    float *centres = NULL;
    int32_t *items = NULL;
    strbuf map_path = {0}, summary_path = {0};
    sc_select_result r = {0};

    SC_TRY(check_options(options, &chosen));
    SC_TRY(device_open(&options->common, &dev));
    SC_TRY(dataset_open(options->data, DATASET_REVIEWS, &data));
    SC_TRY(features_open(options->embeddings, (int64_t)data->n_reviews, &x));
    if (options->budget > x.n) {
        status = sc_fail(SC_USAGE,
                         "the budget is %lld, but there are only %lld reviews; give --budget %lld or less",
                         (long long)options->budget, (long long)x.n, (long long)x.n);
        goto cleanup;
    }
    selector = selector_options(options);
    if (options->centres && chosen->needs & NEEDS_CLUSTERS) {
        SC_TRY(read_centres(options->centres, x.dim, &centres, &selector.n_centres));
        selector.centres = centres;
    }
    if (chosen->needs & NEEDS_ITEMS) {
        SC_TRY(number_items(data, &items));
        selector.items = items;
    }
    SC_TRY(sc_alloc(&picks, (size_t)options->budget, sizeof *picks));
    SC_TRY(features_centre(x.x, x.n, x.dim, &rows));
    SC_TRY(selector_run(&selector, chosen, dev, x.x, &rows, picks, &clusters));
    r.n_rows = x.n;
    r.dim = x.dim;
    r.n_selected = options->budget;
    r.objective = picks[options->budget - 1].objective;

    SC_TRY(sibling(options->out, "_map.npy", &map_path));
    SC_TRY(sibling(options->out, ".json", &summary_path));
    SC_TRY(write_map(strbuf_text(&map_path), &rows, (uint64_t)options->common.seed));
    r.seconds = seconds_now() - start;
    SC_TRY(write_summary(strbuf_text(&summary_path), options, chosen, dev, data, &clusters, picks, &r));
    /* Last: where it stands, the two beside it do too. */
    SC_TRY(write_selection(options->out, chosen, data, picks, options->budget));
    if (result)
        *result = r;
cleanup:
    strbuf_free(&map_path);
    strbuf_free(&summary_path);
    free(picks);
    free(items);
    free(centres);
    clustering_free(&clusters);
    centred_free(&rows);
    features_close(&x);
    dataset_close(data);
    device_close(dev);
    return status;
}
