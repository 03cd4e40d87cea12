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
#include "select/inputs.h"
#include "select/preview.h"
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

static json_t *cost_json(const costs *c, double cost)
{
    return strcmp(c->source, "file") == 0 ? json_real(cost) : json_integer((json_int_t)cost);
}

static json_t *pick_json(const inputs *in, const sc_pick *pick, int64_t rank)
{
    const strategy *s = in->strategy;
    const review *r = &in->data->reviews[pick->row];
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
    if (in->costs.of)
        json_object_set_new(line, "cost", cost_json(&in->costs, in->costs.of[pick->row]));
    return line;
}

static sc_status write_selection(const char *path, const inputs *in, const sc_pick *picks, int64_t n)
{
    sc_status status = SC_OK;
    file_writer *w = NULL;
    SC_TRY(file_writer_open(path, &w));
    for (int64_t t = 0; t < n; t++) {
        json_t *line = pick_json(in, &picks[t], t + 1);
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

static void name_file(json_t *settings, const char *key, const char *path)
{
    json_object_set_new(settings, key, path ? json_text(path_base(path)) : json_null());
}

static sc_status write_summary(const char *path, const sc_select_options *o, const inputs *in, const view *v,
                               const constraints *kept, const clustering *c, const sc_pick *picks,
                               const sc_select_result *result)
{
    const strategy *s = in->strategy;
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
    if (in->costs.of) {
        json_object_set_new(settings, "budget_tokens", json_real(o->budget_tokens));
        if (strcmp(in->costs.source, "file") == 0)
            name_file(settings, "costs", o->costs);
        else
            json_object_set_new(settings, "costs", json_string("tokens"));
        json_object_set_new(root, "costs_by", json_string(in->costs.source));
        json_object_set_new(root, "cost", cost_json(&in->costs, result->cost));
    }
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
    if (s->run == nll_select || (in->costs.of && strcmp(in->costs.source, "tokenizer") == 0))
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
    json_object_set_new(root, "reviews_sha256", json_string(in->data->reviews_sha256));
    json_object_set_new(root, "objective", json_real(result->objective));
    /* At most 101 points of the objective, for a plot. */
    const int64_t n = result->n_selected, step = (n + 99) / 100;
    for (int64_t t = 0; t < n && (s->gives & PICK_SCORE); t = t + step < n || t == n - 1 ? t + step : n - 1)
        json_array_append_new(curve, json_pack("[I,f]", (json_int_t)t + 1, picks[t].objective));
    json_object_set_new(root, "objective_curve", curve);
    json_object_set_new(root, "device", json_text(in->device->name));
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
    SC_TRY(inputs_sibling(o->out, "_nll.npy", &path));
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

/* What the chosen rows cost together, and what is to be said of it. */
static double add_costs(const sc_select_options *o, const inputs *in, const sc_pick *picks, int64_t n)
{
    double total = 0;
    if (!in->costs.of)
        return 0;
    for (int64_t t = 0; t < n; t++)
        total += in->costs.of[picks[t].row];
    if (o->budget_tokens > 0)
        log_info("select: %lld reviews, which cost %.15g of %.15g", (long long)n, total, o->budget_tokens);
    else
        log_info("select: %lld reviews, which cost %.15g", (long long)n, total);
    return total;
}

/* What the strategy needs beside the rows. */
typedef struct materials {
    float *centres;
    double *surprise;
    int32_t *items;
    constraints kept;
} materials;

static void materials_free(materials *m)
{
    free(m->centres);
    free(m->surprise);
    free(m->items);
    constraints_free(&m->kept);
}

static sc_status materials_make(const sc_select_options *o, const inputs *in, int64_t dim, materials *m,
                                sc_selector_options *selector)
{
    sc_status status = SC_OK;
    int64_t n_items = 0;
    if (o->centres && in->strategy->needs & NEEDS_CLUSTERS) {
        SC_TRY(inputs_read_centres(o->centres, dim, &m->centres, &selector->n_centres));
        selector->centres = m->centres;
    }
    if (in->strategy->needs & NEEDS_ITEMS) {
        SC_TRY(constraints_number_items(in->data, &m->items, &n_items));
        selector->items = m->items;
    }
    if (in->strategy->needs & NEEDS_SURPRISE) {
        SC_TRY(find_surprise(o, in->x.n, &m->surprise));
        selector->surprise = m->surprise;
    }
    SC_TRY(constraints_make(o, in->data, in->device, in->x.x, in->x.dim, &m->kept, selector));
    selector->costs = in->costs.of;
cleanup:
    return status;
}

static sc_status select_rows(const sc_select_options *options, const inputs *in, double start,
                             sc_select_result *r)
{
    sc_status status = SC_OK;
    view seen = {0};
    materials m = {0};
    centred rows = {0};
    clustering clusters = {0};
    sc_pick *picks = NULL;
    int64_t n_picks = 0;
    strbuf map_path = {0}, summary_path = {0};
    sc_selector_options selector = inputs_selector(options);
    const int64_t most =
        options->budget > 0 ? options->budget : costs_room(&in->costs, in->x.n, options->budget_tokens);

    SC_TRY(view_make(options, in->parts, in->data, &in->x, in->device->ops, &seen));
    SC_TRY(materials_make(options, in, seen.dim, &m, &selector));
    SC_TRY(sc_alloc(&picks, (size_t)most, sizeof *picks));
    SC_TRY(features_centre(seen.x, seen.n, seen.dim, &rows));
    SC_TRY(selector_run(&selector, in->strategy, in->device, seen.x, &rows, picks, &n_picks, &clusters));
    if (n_picks < options->budget && options->budget_tokens == 0)
        log_warn("select: the caps leave %lld reviews instead of %lld", (long long)n_picks,
                 (long long)options->budget);
    *r = (sc_select_result){.n_rows = in->x.n,
                            .n_selected = n_picks,
                            .dim = seen.dim,
                            .objective = n_picks > 0 ? picks[n_picks - 1].objective : 0,
                            .cost = add_costs(options, in, picks, n_picks)};
    SC_TRY(inputs_sibling(options->out, "_map.npy", &map_path));
    SC_TRY(inputs_sibling(options->out, ".json", &summary_path));
    SC_TRY(write_map(strbuf_text(&map_path), &rows, (uint64_t)options->common.seed));
    r->seconds = seconds_now() - start;
    SC_TRY(write_summary(strbuf_text(&summary_path), options, in, &seen, &m.kept, &clusters, picks, r));
    /* Last: where it stands, the two beside it do too. */
    SC_TRY(write_selection(options->out, in, picks, n_picks));
cleanup:
    strbuf_free(&map_path);
    strbuf_free(&summary_path);
    free(picks);
    materials_free(&m);
    clustering_free(&clusters);
    centred_free(&rows);
    view_free(&seen);
    return status;
}

sc_status sc_select(const sc_select_options *options, sc_select_result *result)
{
    sc_status status = SC_OK;
    const double start = seconds_now();
    inputs in = {0};
    json_t *preview = NULL;
    sc_select_result r = {0};
    SC_TRY(inputs_open(options, &in));
    if (options->dry_run)
        SC_TRY(preview_make(options, &in, &r, &preview));
    else
        SC_TRY(select_rows(options, &in, start, &r));
    if (result)
        *result = r;
cleanup:
    json_decref(preview);
    inputs_close(&in);
    return status;
}
