/* What a selection would do, found without doing it. */
#include "select/preview.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "select/clustering.h"
#include "select/constraints.h"
#include "select/duplicates.h"
#include "select/estimate.h"
#include "select/rows.h"
#include "select/selector.h"
#include "select/views.h"

/* What is known before anything is chosen. */
typedef struct preview {
    const sc_select_options *o;
    const inputs *in;
    sc_selector_options selector;
    constraints kept;
    limits limits;
    int64_t *before;
    view_columns columns;
    selection_task task;
    estimate e;
    rows_plan rows;
    float *centres; /* given ones */
    float *probe_x; /* rows as wide as the joined view, for probes */
} preview;

static void preview_close(preview *p)
{
    constraints_free(&p->kept);
    limits_close(&p->limits);
    free(p->before);
    free(p->centres);
    free(p->probe_x);
}

/* What may be chosen, but for rows alike: these are only found by comparing all. */
static sc_status find_limits(preview *p)
{
    sc_status status = SC_OK;
    sc_select_options named = *p->o;
    SC_TRY(constraints_check(p->o));
    named.max_text_overlap = named.max_cosine = 0;
    SC_TRY(constraints_make(&named, p->in->data, p->in->device, p->in->x.x, p->in->x.dim, &p->kept,
                            &p->selector));
    p->selector.costs = p->in->costs.of;
    SC_TRY(selector_limits(&p->selector, p->in->x.n, &p->limits, &p->before));
cleanup:
    return status;
}

/* Rows for probes: where a view would be joined, the embeddings' columns over and over. */
static sc_status find_probe_rows(preview *p, selection_task *probe)
{
    enum { FEWEST = 4096, CELLS = 16 << 20 };
    sc_status status = SC_OK;
    const int64_t base = p->in->x.dim, dim = p->task.dim;
    *probe = p->task;
    if (dim == base)
        return SC_OK;
    const int64_t enough = CELLS / dim > FEWEST ? CELLS / dim : FEWEST;
    probe->n = p->task.n < enough ? p->task.n : enough;
    SC_TRY(sc_alloc(&p->probe_x, (size_t)(probe->n * dim), sizeof *p->probe_x));
    for (int64_t i = 0; i < probe->n; i++)
        for (int64_t d = 0; d < dim; d++)
            p->probe_x[i * dim + d] = p->in->x.x[i * base + d % base];
    probe->x = p->probe_x;
cleanup:
    return status;
}

static sc_status probe_centring(const selection_task *task, double *operations)
{
    centred rows = {0};
    const int64_t n = estimate_rows(task->n, task->n, 3.0 * (double)task->dim);
    const sc_status status = features_centre(task->x, n, task->dim, &rows);
    *operations = 3.0 * (double)n * (double)task->dim;
    centred_free(&rows);
    return status;
}

/* Of the rows that it looks at, some sixty iterations, and a look at all. */
static double map_operations(int64_t n, int64_t dim)
{
    const double rows = n < 20000 ? (double)n : 20000;
    return (60 * 8 * rows + 4 * (double)n) * (double)dim;
}

static sc_status probe_map(const selection_task *task, double *operations)
{
    enum { MOST = 2048 };
    sc_status status = SC_OK;
    centred rows = {0};
    float *map = NULL;
    const int64_t n = estimate_rows(task->n, MOST, map_operations(1, task->dim));
    SC_TRY(features_centre(task->x, n, task->dim, &rows));
    SC_TRY(sc_alloc(&map, 2 * (size_t)n, sizeof *map));
    SC_TRY(features_map(&rows, task->seed, map));
    *operations = map_operations(n, task->dim);
cleanup:
    centred_free(&rows);
    free(map);
    return status;
}

/* The model is not opened: it may be larger than all else. */
static sc_status check_model(const char *folder)
{
    char *config = path_join(folder, "config.json");
    if (!config)
        return sc_fail(SC_MEMORY, "memory does not suffice for a path");
    const bool found = file_exists(config);
    free(config);
    return found ? SC_OK : sc_fail(SC_BAD_INPUT, "%s has no config.json; give the folder of a model", folder);
}

/* Everything that sc_select holds and does, part by part. */
static sc_status add_parts(preview *p)
{
    sc_status status = SC_OK;
    const sc_select_options *o = p->o;
    const inputs *in = p->in;
    estimate *e = &p->e;
    const int64_t n = in->x.n;
    SC_TRY(view_plan(o, in->parts, in->data, &in->x, in->device->ops, &p->columns, e));
    const int64_t dim = p->columns.semantic + p->columns.metadata + p->columns.user;
    p->task = (selection_task){.device = in->device,
                               .x = in->x.x,
                               .n = n,
                               .dim = dim,
                               .budget = selector_budget(&p->selector, &p->limits),
                               .seed = (uint64_t)o->common.seed,
                               .k = o->clusters < n ? o->clusters : n,
                               .n_items = (int64_t)in->data->n_items,
                               .alpha = o->alpha,
                               .js_sum = strcmp(o->js_form, "sum") == 0,
                               .lambda = o->lambda,
                               .neighbours = o->neighbours,
                               .limits = &p->limits,
                               .given = p->before,
                               .n_given = o->given || o->include ? p->kept.n_given + p->kept.n_include : 0};
    estimate_array_add(e, "data set: reviews, items, users", dataset_bytes(in->data), 1);
    estimate_array_add(e, "costs", in->costs.of ? n : 0, sizeof(double));
    estimate_array_add(e, "what may be chosen", limits_bytes(&p->limits), 1);
    estimate_array_add(e, "picks", p->task.budget + p->kept.n_include, sizeof(sc_pick));
    if (o->max_text_overlap > 0)
        duplicates_text_plan(n, e);
    if (o->max_cosine > 0)
        duplicates_cosine_plan(n, in->x.dim, e);
    estimate_centred(e, n, dim);
    estimate_work_add(e, "centring", 3.0 * (double)n * (double)dim, 2, probe_centring);
    estimate_work_add(e, "the map", map_operations(n, dim), 0, probe_map);
    if (o->centres && in->strategy->needs & NEEDS_CLUSTERS)
        SC_TRY(inputs_read_centres(o->centres, dim, &p->centres, &p->task.k));
    if (in->strategy->needs & NEEDS_CLUSTERS)
        clustering_plan(n, dim, p->task.k, o->centres != NULL, in->device->ops, e);
    if (in->strategy->needs & NEEDS_SURPRISE) {
        SC_TRY(check_model(o->model));
        estimate_array_add(e, "surprise of every row", n, sizeof(double));
        estimate_work_add(e, "the model's pass over the texts", 0, 0, NULL);
    }
    if (in->strategy->needs & NEEDS_ITEMS)
        estimate_array_add(e, "items of the rows", n, sizeof(int32_t));
    if (p->columns.user > 0)
        estimate_work_add(e, "factors of users and items", 0, 0, NULL);
    in->strategy->plan(&p->task, e);
    estimate_phase_begin(e);
    estimate_array_add(e, "map", 2 * n, sizeof(float));
    estimate_phase_end(e);
    SC_TRY(rows_plan_make(in->device->ops, e->n_rows, e->dim, (size_t)estimate_device_bytes(e), &p->rows));
    estimate_array_add(e, "pinned for the device", (int64_t)p->rows.pinned_bytes, 1);
cleanup:
    return status;
}

/* --- as JSON ----------------------------------------------------------------------------------------------- */

static json_t *view_json(const preview *p)
{
    json_t *parts = json_object(), *root = json_object();
    json_object_set_new(parts, "semantic", json_integer(p->columns.semantic));
    if (p->columns.metadata > 0)
        json_object_set_new(parts, "metadata", json_integer(p->columns.metadata));
    if (p->columns.user > 0)
        json_object_set_new(parts, "user", json_integer(p->columns.user));
    json_object_set_new(root, "name", json_string(p->o->view));
    json_object_set_new(root, "columns", parts);
    return root;
}

static json_t *strategy_json(const preview *p)
{
    const sc_select_options *o = p->o;
    const strategy *s = p->in->strategy;
    json_t *root = json_pack("{s:s,s:s,s:I}", "name", s->name, "summary", s->summary, "seed",
                             (json_int_t)o->common.seed);
    if (s->needs & NEEDS_CLUSTERS) {
        json_object_set_new(root, "clusters", json_integer(o->clusters));
        json_object_set_new(root, "centres", o->centres ? json_text(o->centres) : json_null());
        json_object_set_new(root, "temperature", json_real(o->temperature));
    }
    if (s->run == js_select) {
        json_object_set_new(root, "alpha", json_real(o->alpha));
        json_object_set_new(root, "js_form", json_string(o->js_form));
    }
    if (s->run == fisher_select || s->run == bait_select)
        json_object_set_new(root, "lambda", json_real(o->lambda));
    if (s->run == facility_select)
        json_object_set_new(root, "neighbours", json_integer(o->neighbours));
    if (s->run == nll_select)
        json_object_set_new(root, "model", json_text(o->model));
    return root;
}

static json_t *budget_json(const preview *p)
{
    const costs *c = &p->in->costs;
    const int64_t n = p->in->x.n, likely = limits_likely(&p->limits, p->task.budget);
    json_t *root = json_object();
    if (p->o->budget > 0)
        json_object_set_new(root, "rows", json_integer(p->o->budget));
    if (c->of) {
        double total = 0, least = c->of[0], most = c->of[0];
        for (int64_t i = 0; i < n; i++) {
            total += c->of[i];
            least = c->of[i] < least ? c->of[i] : least;
            most = c->of[i] > most ? c->of[i] : most;
        }
        if (p->o->budget_tokens > 0)
            json_object_set_new(root, "cost", json_real(p->o->budget_tokens));
        json_object_set_new(root, "costs_by", json_string(c->source));
        json_object_set_new(root, "cost_of_all", json_real(total));
        json_object_set_new(root, "cheapest", json_real(least));
        json_object_set_new(root, "dearest", json_real(most));
    }
    json_object_set_new(root, "rows_expected", json_integer(likely + p->kept.n_include));
    return root;
}

static json_t *closed_json(const preview *p)
{
    const sc_select_options *o = p->o;
    const int64_t most[] = {o->max_per_item, o->max_per_user, o->max_per_category};
    static const char *const of[] = {"item", "user", "category"};
    json_t *root = json_object(), *caps = json_array();
    int64_t excluded = 0;
    for (int64_t i = 0; p->kept.exclude && i < p->in->x.n; i++)
        excluded += p->kept.exclude[i] != 0;
    for (int c = 0, made = 0; c < 3; c++)
        if (most[c] > 0)
            json_array_append_new(caps, json_pack("{s:s,s:I,s:I}", "of", of[c], "most", (json_int_t)most[c],
                                                  "groups", (json_int_t)p->kept.caps[made++].n_groups));
    json_object_set_new(root, "open", json_integer(p->limits.n_open));
    json_object_set_new(root, "given", json_integer(p->kept.n_given));
    json_object_set_new(root, "included", json_integer(p->kept.n_include));
    json_object_set_new(root, "excluded", json_integer(excluded));
    json_object_set_new(root, "too_dear", json_integer(p->limits.n_dear));
    json_object_set_new(root, "caps", caps);
    json_object_set_new(root, "max_text_overlap", json_real(o->max_text_overlap));
    json_object_set_new(root, "max_cosine", json_real(o->max_cosine));
    return root;
}

/* What a device with memory of its own would hold, and whether all rows at once. */
static json_t *device_json(const preview *p)
{
    const rows_plan *rows = &p->rows;
    const json_int_t bytes = estimate_device_bytes(&p->e) + (int64_t)rows->device_bytes;
    json_t *root = json_pack("{s:I,s:I}", "device_bytes", bytes, "device_free_bytes", (json_int_t)rows->left);
    if (p->e.n_rows > 0) {
        json_object_set_new(root, "rows_on_device",
                            json_string(rows->rows < p->e.n_rows ? "streamed" : "all"));
        json_object_set_new(root, "rows_at_a_time", json_integer(rows->rows));
        json_object_set_new(root, "pinned_bytes", json_integer((json_int_t)rows->pinned_bytes));
    }
    return root;
}

static json_t *memory_json(const preview *p)
{
    const estimate *e = &p->e;
    json_t *arrays = json_array();
    for (int i = 0; i < e->n_arrays; i++)
        if (e->arrays[i].bytes > 0)
            json_array_append_new(arrays, json_pack("{s:s,s:I,s:b}", "name", e->arrays[i].name, "bytes",
                                                    (json_int_t)e->arrays[i].bytes, "for_a_while",
                                                    e->arrays[i].phase > 0));
    const int64_t mapped = (int64_t)p->in->x.file.map.size + p->columns.mapped;
    json_t *root =
        json_pack("{s:I,s:I}", "mapped_bytes", (json_int_t)mapped, "bytes", (json_int_t)estimate_bytes(e));
    if (p->in->device->ops != cpu_ops())
        json_object_update_new(root, device_json(p));
    json_object_set_new(root, "arrays", arrays);
    return root;
}

static json_t *work_json(const preview *p, double *seconds)
{
    const estimate *e = &p->e;
    json_t *work = json_array();
    *seconds = 0;
    for (int i = 0; i < e->n_work; i++) {
        const estimate_work *w = &e->work[i];
        *seconds += w->seconds;
        json_array_append_new(work, w->probe
                                        ? json_pack("{s:s,s:f,s:f,s:f}", "name", w->name, "operations",
                                                    w->operations, "passes", w->passes, "seconds", w->seconds)
                                        : json_pack("{s:s,s:n}", "name", w->name, "seconds"));
    }
    return work;
}

static sc_status writes_json(const preview *p, json_t **out)
{
    static const char *const endings[] = {".json", "_map.npy", "_nll.npy", "_nll.json"};
    sc_status status = SC_OK;
    strbuf path = {0};
    *out = json_array();
    json_array_append_new(*out, json_text(p->o->out));
    for (int i = 0; i < (p->in->strategy->needs & NEEDS_SURPRISE ? 4 : 2); i++) {
        strbuf_clear(&path);
        SC_TRY(inputs_sibling(p->o->out, endings[i], &path));
        json_array_append_new(*out, json_text(strbuf_text(&path)));
    }
cleanup:
    strbuf_free(&path);
    return status;
}

sc_status preview_make(const sc_select_options *o, const inputs *in, sc_select_result *result, json_t **out)
{
    sc_status status = SC_OK;
    preview p = {.o = o, .in = in, .selector = inputs_selector(o)};
    selection_task probe;
    json_t *writes = NULL, *work = NULL;
    double seconds = 0;
    SC_TRY(find_limits(&p));
    SC_TRY(add_parts(&p));
    SC_TRY(find_probe_rows(&p, &probe));
    SC_TRY(estimate_measure(&p.e, &probe));
    SC_TRY(writes_json(&p, &writes));
    work = work_json(&p, &seconds);
    *out = json_object();
    json_object_set_new(*out, "dry_run", json_true());
    json_object_set_new(*out, "rows", json_integer(in->x.n));
    json_object_set_new(*out, "dim", json_integer(p.task.dim));
    json_object_set_new(*out, "view", view_json(&p));
    json_object_set_new(*out, "strategy", strategy_json(&p));
    json_object_set_new(*out, "budget", budget_json(&p));
    json_object_set_new(*out, "may_be_chosen", closed_json(&p));
    json_object_set_new(*out, "memory", memory_json(&p));
    json_object_set(*out, "work", work);
    json_object_set_new(*out, "seconds", json_real(seconds));
    json_object_set_new(*out, "device", json_text(in->device->name));
    json_object_set(*out, "writes", writes);
    *result = (sc_select_result){.n_rows = in->x.n, .dim = p.task.dim, .seconds = seconds};
cleanup:
    json_decref(writes);
    json_decref(work);
    preview_close(&p);
    return status;
}

sc_status sc_select_plan(const sc_select_options *options, char **json)
{
    sc_status status = SC_OK;
    inputs in = {0};
    json_t *root = NULL;
    sc_select_result result;
    *json = NULL;
    SC_TRY(inputs_open(options, &in));
    SC_TRY(preview_make(options, &in, &result, &root));
    *json = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    if (!*json)
        status = sc_fail(SC_MEMORY, "memory does not suffice for the plan of a selection");
cleanup:
    json_decref(root);
    inputs_close(&in);
    return status;
}
