/* sc_bench: how fast one piece runs here, on made-up input of a given size, beside the rate of a plain
 * matrix product in the same process. Quote ratios: machines differ and are shared. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "base/random.h"
#include "device/device.h"
#include "device/footprint.h"
#include "device/profile.h"
#include "model/generate.h"
#include "model/model.h"
#include "select/clustering.h"
#include "select/strategy.h"
#include "seedcorn/seedcorn.h"

sc_bench_options sc_bench_default(void)
{
    return (sc_bench_options){.struct_size = sizeof(sc_bench_options),
                              .common = sc_common_default(),
                              .method = "lora",
                              .dim = 576,
                              .clusters = 64,
                              .budget = 200,
                              .strategy = "fisher",
                              .repeats = 3,
                              .warm_up = true};
}

/* One piece of work: set up once, then repeated; `units` and `flops` are those of one repeat. */
typedef struct task {
    const sc_bench_options *o;
    device *device;
    model *model;
    int64_t rows, tokens;
    int32_t *ids, *cu, *targets;
    int64_t *offsets;
    /* kmeans and select */
    const strategy *strategy;
    features file;
    centred centred;
    const float *x; /* [rows][dim] of the file, or made up */
    float *made;
    int64_t dim;
    clustering clusters; /* that js chooses by; no part of what is timed */
    double units, flops;
    const char *unit;
    double passes; /* over the rows, by the last repeat of a selection */
} task;

/* Equal sequences of random ids; every token but the last of a sequence is supervised. */
static sc_status make_batch(task *t)
{
    sc_status status = SC_OK;
    int64_t n = t->rows * t->tokens;
    random_stream r = random_at((uint64_t)t->o->common.seed, RANDOM_TEST, 0, 0);

    SC_TRY(sc_alloc(&t->ids, (size_t)n, sizeof(*t->ids)));
    SC_TRY(sc_alloc(&t->targets, (size_t)n, sizeof(*t->targets)));
    SC_TRY(sc_alloc(&t->cu, (size_t)t->rows + 1, sizeof(*t->cu)));
    SC_TRY(sc_alloc(&t->offsets, (size_t)t->rows + 1, sizeof(*t->offsets)));
    for (int64_t i = 0; i < n; i++)
        t->ids[i] = (int32_t)random_below(&r, (uint64_t)t->model->config.vocab_size);
    for (int64_t i = 0; i < n; i++)
        t->targets[i] = (i + 1) % t->tokens == 0 ? -1 : t->ids[i + 1];
    for (int64_t s = 0; s <= t->rows; s++) {
        t->cu[s] = (int32_t)(s * t->tokens);
        t->offsets[s] = s * t->tokens;
    }
cleanup:
    return status;
}

static sc_status embed_once(task *t)
{
    packed_batch batch = {
        .ids = t->ids, .cu_seqlens = t->cu, .n_seqs = t->rows, .n_tokens = t->rows * t->tokens};
    void *hidden;
    return model_forward(t->model, &batch, -1, &hidden);
}

static sc_status train_once(task *t)
{
    packed_batch batch = {
        .ids = t->ids, .cu_seqlens = t->cu, .n_seqs = t->rows, .n_tokens = t->rows * t->tokens};
    double loss = 0;
    sc_status status = model_grads_zero(t->model);
    if (status != SC_OK)
        return status;
    return model_train_step(t->model, &batch, t->targets, 1.0f / (float)batch.n_tokens, &loss, NULL);
}

static sc_status generate_once(task *t)
{
    sc_status status = SC_OK;
    generated *out = NULL;
    uint64_t *keys = NULL;
    generate_options options = {.max_tokens = t->tokens, .temperature = 0, .top_p = 1};
    int64_t total = 0;

    SC_TRY(sc_alloc(&out, (size_t)t->rows, sizeof(*out)));
    SC_TRY(sc_alloc(&keys, (size_t)t->rows, sizeof(*keys)));
    SC_TRY(generate(t->model, t->ids, t->offsets, (size_t)t->rows, keys, &options, out, NULL));
    for (int64_t i = 0; i < t->rows; i++)
        total += out[i].n;
    t->units = (double)total;
cleanup:
    if (out != NULL)
        generated_free(out, (size_t)t->rows);
    free(out);
    free(keys);
    return status;
}

static sc_status kmeans_once(task *t)
{
    device_rows x = {0};
    kmeans_result result = {0};
    kmeans_options options = {.k = t->o->clusters, .seed = (uint64_t)t->o->common.seed, .max_iterations = 10};
    sc_status status = kmeans_rows_open(t->device->ops, &t->centred, options.k, &x);
    if (status == SC_OK)
        status = kmeans(&x, &options, &result);
    t->units = (double)t->rows * (double)result.iterations;
    t->flops = 2.0 * t->units * (double)t->o->clusters * (double)t->dim;
    kmeans_free(&result);
    rows_close(&x);
    return status;
}

static sc_status select_once(task *t)
{
    sc_status status = SC_OK;
    selection_pick *picks = NULL;
    limits open = {0};
    int64_t n = 0;
    const selection_task work = {.device = t->device,
                                 .x = t->x,
                                 .n = t->rows,
                                 .dim = t->dim,
                                 .budget = t->o->budget,
                                 .seed = (uint64_t)t->o->common.seed,
                                 .p = t->clusters.distributions.p,
                                 .distributions = &t->clusters.distributions,
                                 .entropy = t->clusters.entropy,
                                 .labels = t->clusters.kmeans.labels,
                                 .k = t->clusters.kmeans.k,
                                 .alpha = 0.5,
                                 .lambda = 1,
                                 .neighbours = 64,
                                 .limits = &open,
                                 .passes = &t->passes};
    t->passes = 0;
    SC_TRY(limits_open(&open, t->rows, NULL, NULL, 0));
    SC_TRY(sc_alloc(&picks, (size_t)t->o->budget, sizeof(*picks)));
    SC_TRY(t->strategy->run(&work, picks, &n));
    t->units = (double)t->o->budget;
    /* one product with every row for each pick, where there are rows to multiply */
    t->flops = t->strategy->needs & NEEDS_CLUSTERS ? 0 : 2.0 * t->units * (double)t->rows * (double)t->dim;
    log_info("objective %.10g, last pick %lld", picks[t->o->budget - 1].objective,
             (long long)picks[t->o->budget - 1].row);
cleanup:
    limits_close(&open);
    free(picks);
    return status;
}

/* Clustered rows, which embeddings are like. */
static sc_status make_rows(task *t)
{
    const uint64_t seed = (uint64_t)t->o->common.seed;
    sc_status status = sc_alloc(&t->made, (size_t)t->rows * (size_t)t->dim, sizeof *t->made);
    if (status != SC_OK)
        return status;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < t->rows; i++) {
        random_stream own = random_at(seed, RANDOM_TEST, (uint64_t)i, 1);
        random_stream shared = random_at(seed, RANDOM_TEST, (uint64_t)(i % 64), 2);
        for (int64_t d = 0; d < t->dim; d++)
            t->made[i * t->dim + d] = (float)(random_normal(&shared) + 0.5 * random_normal(&own));
    }
    t->x = t->made;
    return SC_OK;
}

static sc_status prepare_rows(task *t)
{
    sc_status status = SC_OK;
    const sc_bench_options *o = t->o;
    const bool clusters = strcmp(o->what, "kmeans") == 0;
    t->rows = o->rows ? o->rows : 24000;
    t->dim = o->dim;
    if (o->embeddings) {
        SC_TRY(features_open(o->embeddings, -1, "rows", &t->file));
        t->rows = t->file.n;
        t->dim = t->file.dim;
        t->x = t->file.x;
    }
    if (t->rows < 1 || t->dim < 1 || o->clusters < 1 || o->budget < 1)
        return sc_fail(SC_USAGE, "--rows, --dim, --clusters and --budget must be at least 1");
    if (!clusters && o->budget > t->rows)
        return sc_fail(SC_USAGE, "--budget %lld is above the %lld rows", (long long)o->budget,
                       (long long)t->rows);
    if (!clusters)
        SC_TRY(strategy_find(o->strategy, &t->strategy));
    if (!o->embeddings)
        SC_TRY(make_rows(t));
    if (clusters || t->strategy->needs & NEEDS_CLUSTERS)
        SC_TRY(features_centre(t->x, t->rows, t->dim, &t->centred));
    if (!clusters && t->strategy->needs & NEEDS_CLUSTERS)
        SC_TRY(clustering_make(
            t->device, &t->centred,
            &(clustering_options){.k = o->clusters, .temperature = 1, .seed = (uint64_t)o->common.seed},
            &t->clusters));
    if (!clusters && t->strategy->needs & NEEDS_ITEMS)
        return sc_fail(SC_USAGE, "bench select has no items for the strategy \"%s\"", o->strategy);
cleanup:
    return status;
}

typedef sc_status (*repeat_fn)(task *t);

static bool on_model(const sc_bench_options *o)
{
    return strcmp(o->what, "embed") == 0 || strcmp(o->what, "train") == 0 || strcmp(o->what, "generate") == 0;
}

static sc_status open_model(task *t)
{
    const sc_bench_options *o = t->o;
    if (o->model != NULL && o->random_weights != NULL)
        return sc_fail(SC_USAGE, "bench %s takes --model or --random-weights, not both", o->what);
    if (o->random_weights != NULL)
        return model_open_random(o->random_weights, t->device, (uint64_t)o->common.seed, &t->model);
    if (o->model != NULL)
        return model_open(o->model, t->device, &t->model);
    return sc_fail(SC_USAGE,
                   "bench %s needs --model DIR ('seedcorn pull smollm2-135m-instruct' makes one) or "
                   "--random-weights CONFIG.json",
                   o->what);
}

static sc_status prepare(task *t, repeat_fn *repeat)
{
    sc_status status = SC_OK;
    const sc_bench_options *o = t->o;
    const char *what = o->what;

    if (!on_model(o)) {
        if (o->random_weights != NULL)
            return sc_fail(SC_USAGE, "--random-weights belongs to bench embed, train and generate");
        *repeat = strcmp(what, "kmeans") == 0 ? kmeans_once : select_once;
        t->unit = strcmp(what, "kmeans") == 0 ? "row-iterations" : "picks";
        return prepare_rows(t);
    }
    SC_TRY(open_model(t));
    const model_config *c = &t->model->config;
    t->rows = o->rows ? o->rows : strcmp(what, "generate") == 0 ? 32 : 8;
    t->tokens = o->tokens ? o->tokens : strcmp(what, "generate") == 0 ? 64 : 256;
    t->unit = "tokens";
    SC_TRY(make_batch(t));
    double tokens = (double)t->rows * (double)t->tokens;
    t->units = tokens;
    if (strcmp(what, "embed") == 0) {
        *repeat = embed_once;
        t->flops = tokens * model_block_operations(c, 0.5 * (double)t->tokens);
    } else if (strcmp(what, "generate") == 0) {
        *repeat = generate_once;
        t->flops = tokens * (model_block_operations(c, 0.5 * (double)t->tokens) +
                             model_block_operations(c, 1.5 * (double)t->tokens) + model_head_operations(c));
    } else {
        bool full = strcmp(o->method, "full") == 0;
        lora_options adapter = {
            .rank = 16, .alpha = 32, .targets = "all-linear", .seed = (uint64_t)o->common.seed};
        SC_TRY(full ? model_grads_create(t->model) : model_lora_create(t->model, &adapter));
        *repeat = train_once;
        /* forward, backward to activations, and in full backward to weights */
        t->flops = tokens * (full ? 3 : 2) *
                   (model_block_operations(c, 0.5 * (double)t->tokens) + model_head_operations(c));
    }
cleanup:
    return status;
}

/* --- where the time goes ------------------------------------------------------------------------------ */

static sc_status begin_profile(task *t, sc_bench_result *r)
{
    sc_status status = SC_OK;
    if (!on_model(t->o))
        return sc_fail(SC_USAGE,
                       "--profile measures the operations of models: bench embed, train or generate");
    if (t->device->ops != cpu_ops())
        return sc_fail(SC_USAGE, "--profile measures the CPU's operations: give --device cpu");
    SC_TRY(device_measure_peak(t->device, 1024, 5, 5, &r->peak_gflops));
    SC_TRY(device_measure_bandwidth(t->device, 5, &r->bandwidth));
    t->device->ops = profile_ops(r->peak_gflops, r->bandwidth);
cleanup:
    return status;
}

static int by_seconds(const void *a, const void *b)
{
    const sc_bench_family *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

/* `seconds`: of all repeats. */
static void take_profile(const task *t, double seconds, sc_bench_result *r)
{
    const profile_entry *entries = profile_entries();
    const double n = (double)t->o->repeats;
    double inside = 0;
    for (int f = 0; f < N_PROFILE_FAMILIES; f++) {
        const profile_entry *e = &entries[f];
        if (e->calls == 0)
            continue;
        r->profile[r->n_profile++] = (sc_bench_family){.name = e->name,
                                                       .calls = (double)e->calls / n,
                                                       .seconds = e->seconds / n,
                                                       .gflops = e->operations / n * 1e-9,
                                                       .gigabytes = e->bytes / n * 1e-9,
                                                       .floor = e->floor / n};
        inside += e->seconds / n;
    }
    qsort(r->profile, (size_t)r->n_profile, sizeof *r->profile, by_seconds);
    r->profile[r->n_profile++] = (sc_bench_family){.name = "beside them", .seconds = seconds / n - inside};
}

/* --- on a card ---------------------------------------------------------------------------------------- */

/* Operations of a card may still be at work when they return. */
static sc_status timed(task *t, repeat_fn repeat, double *seconds)
{
    const ops *table = t->device->ops;
    sc_status status = table->synchronise(NULL);
    const double start = seconds_now();
    if (status == SC_OK)
        status = repeat(t);
    if (status == SC_OK)
        status = table->synchronise(NULL);
    *seconds = seconds_now() - start;
    return status;
}

/* --- the whole ---------------------------------------------------------------------------------------- */

sc_status sc_bench(const sc_bench_options *o, sc_bench_result *result)
{
    sc_status status = SC_OK;
    task t = {.o = o};
    repeat_fn repeat = NULL;
    struct rusage usage;
    double all_seconds = 0;

    memset(result, 0, sizeof(*result));
    if (o->repeats < 1)
        return sc_fail(SC_USAGE, "--repeats must be at least 1");
    SC_TRY(device_open(&o->common, &t.device));
    snprintf(result->device, sizeof result->device, "%s", t.device->name);
    if (o->profile)
        SC_TRY(begin_profile(&t, result));
    const bool counted = on_model(o) && !device_on_host(t.device);
    if (counted)
        t.device->ops = footprint_ops(t.device->ops);
    const double opened = seconds_now();
    SC_TRY(prepare(&t, &repeat));
    result->prepare_seconds = seconds_now() - opened;
    for (int64_t i = o->warm_up ? 0 : 1; i <= o->repeats; i++) {
        SC_TRY(check_cancelled());
        if (i == 1)
            profile_clear();
        double seconds = 0;
        SC_TRY(timed(&t, repeat, &seconds));
        all_seconds += i > 0 ? seconds : 0;
        log_info("%s %s: %.3f s, %.1f %s/s%s", o->what, i == 0 ? "warm-up" : "repeat", seconds,
                 t.units / seconds, t.unit, i == 0 ? " (not counted)" : "");
        if (i > 0 && (result->seconds == 0 || seconds < result->seconds))
            result->seconds = seconds;
    }
    if (counted)
        result->device_bytes = (int64_t)footprint_most();
    if (o->profile)
        take_profile(&t, all_seconds, result);
    else
        SC_TRY(device_measure_peak(t.device, 1024, 5, 5, &result->peak_gflops));
    result->units = t.units;
    result->passes = t.passes + t.clusters.passes;
    result->unit = t.unit;
    result->gflops = t.flops / result->seconds * 1e-9;
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        result->peak_bytes = (int64_t)usage.ru_maxrss * 1024;
cleanup:
    free(t.ids);
    free(t.cu);
    free(t.targets);
    free(t.offsets);
    free(t.made);
    clustering_free(&t.clusters);
    centred_free(&t.centred);
    features_close(&t.file);
    model_close(t.model);
    device_close(t.device);
    return status;
}
