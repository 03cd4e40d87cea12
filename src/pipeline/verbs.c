/* The table of verbs and their flags: names, defaults' owners, help. See settings.h. Here are those about whole runs and
 * the machine: run, report, bench, doctor. */
#include "pipeline/verbs.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "pipeline/doctor.h"
#include "pipeline/summary.h"

const setting common_settings[] = {
    ROW(sc_common, "device", device, STRING, false, "NAME", NULL, "auto, cpu, cuda or cuda:N"),
    ROW(sc_common, "dtype", dtype, STRING, false, "TYPE", "auto|fp32|bf16", "weights and activations"),
    ROW(sc_common, "threads", threads, INT, false, "N", NULL, "worker threads; 0: as many as cores"),
    ROW(sc_common, "seed", seed, INT, false, "N", NULL, "key of every random number"),
};
const size_t n_common_settings = COUNT(common_settings);

/* --- run, report, bench, doctor --------------------------------------------------------------- */
DEFAULTS(sc_run_options, run)
#define R(...) ROW(sc_run_options, __VA_ARGS__)
static const setting run_settings[] = {
    R("config", config, STRING, true, "CONFIG.yaml", NULL, "the plan"),
    R("run-dir", run_dir, STRING, true, "DIR", NULL, "holds all results"),
    R("dry-run", dry_run, BOOL, false, "", NULL, "say what would run"),
};
#undef R
/* What was measured, stage by stage: what a run is for. A dry run has measured nothing. */
static json_t *run_metrics(const sc_run_options *o)
{
    run_summary summary;
    json_t *rows = NULL;
    if (o->dry_run || run_summary_open(o->run_dir, &summary) != SC_OK)
        return json_array();
    rows = json_incref(summary.metrics);
    run_summary_close(&summary);
    return rows;
}

static sc_status run_run(const void *o, json_t **result)
{
    const sc_run_options *given = o;
    sc_run_result r = {0};
    sc_status status = sc_run(given, &r);
    if (status == SC_OK)
        *result = json_pack("{s:I,s:I,s:f,s:s,s:o}", "stages", (json_int_t)r.n_stages, "skipped",
                            (json_int_t)r.n_skipped, "seconds", r.seconds, "run_dir", given->run_dir,
                            "metrics", run_metrics(given));
    else if (status == SC_PARTIAL)
        *result = json_pack("{s:I,s:I,s:f,s:s}", "stages", (json_int_t)r.n_stages, "skipped",
                            (json_int_t)r.n_skipped, "seconds", r.seconds, "run_dir", given->run_dir);
    return status;
}

DEFAULTS(sc_report_options, report)
#define R(...) ROW(sc_report_options, __VA_ARGS__)
static const setting report_settings[] = {
    R("runs", runs, LIST, true, "RUN_DIR...", NULL, "run folders"),
    R("out", out, STRING, true, "FILE.html", NULL, "one self-contained page"),
};
#undef R
static sc_status report_run(const void *o, json_t **result)
{
    sc_status status = sc_report(o);
    if (status == SC_OK)
        *result = json_pack("{s:s}", "report", ((const sc_report_options *)o)->out);
    return status;
}

DEFAULTS(sc_bench_options, bench)
#define R(...) ROW(sc_bench_options, __VA_ARGS__)
static const setting bench_settings[] = {
    R("what", what, STRING, true, "WHAT", "embed|train|generate|kmeans|select", "which piece"),
    R("model", model, STRING, false, "DIR", NULL, "embed, train, generate: model folder"),
    R("random-weights", random_weights, STRING, false, "CONFIG.json", NULL,
      "or the config.json of a model, with weights made up in memory"),
    R("method", method, STRING, false, "NAME", "lora|full", "train"),
    R("rows", rows, INT, false, "N", NULL, "sequences, prompts or rows; 0: a default"),
    R("tokens", tokens, INT, false, "N", NULL, "tokens a sequence, or new tokens a prompt"),
    R("dim", dim, INT, false, "D", NULL, "kmeans, select"),
    R("clusters", clusters, INT, false, "K", NULL, "kmeans"),
    R("budget", budget, INT, false, "N", NULL, "select: picks"),
    R("strategy", strategy, STRING, false, "NAME", "fisher|js|bait|facility|kcenter", "select"),
    R("embeddings", embeddings, STRING, false, "FILE.npy", NULL,
      "kmeans, select: rows to use instead of made-up ones"),
    R("repeats", repeats, INT, false, "N", NULL, "the best is reported"),
    R("warm-up", warm_up, BOOL, false, "", NULL, "one repeat before them, not counted"),
    R("profile", profile, BOOL, false, "", NULL,
      "embed, train, generate: the time and floor of each kind of operation"),
};
#undef R
static json_t *profile_json(const sc_bench_result *r)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < r->n_profile; i++) {
        const sc_bench_family *f = &r->profile[i];
        json_array_append_new(list, json_pack("{s:s,s:f,s:f,s:f,s:f,s:f}", "family", f->name, "calls",
                                              f->calls, "seconds", f->seconds, "gflop", f->gflops,
                                              "gigabytes", f->gigabytes, "floor_seconds", f->floor));
    }
    return list;
}

static sc_status bench_run(const void *o, json_t **result)
{
    sc_bench_result r = {0};
    sc_status status = sc_bench(o, &r);
    if (status == SC_OK)
        *result = json_pack("{s:s,s:s,s:f,s:f,s:f,s:f,s:f,s:I,s:I,s:f,s:f}", "device", r.device, "unit",
                            r.unit, "units", r.units, "seconds", r.seconds, "per_second", r.units / r.seconds,
                            "gflops", r.gflops, "peak_gflops", r.peak_gflops, "peak_bytes",
                            (json_int_t)r.peak_bytes, "device_bytes", (json_int_t)r.device_bytes,
                            "prepare_seconds", r.prepare_seconds, "passes", r.passes);
    if (status == SC_OK && r.n_profile > 0) {
        json_object_set_new(*result, "bandwidth_gb_per_second", json_real(r.bandwidth));
        json_object_set_new(*result, "profile", profile_json(&r));
    }
    return status;
}

static void doctor_defaults(void *o)
{
    *(doctor_options *)o = doctor_default();
}
static sc_status doctor_run(const void *o, json_t **result)
{
    (void)o;
    return doctor_examine(result);
}

static const verb run_verb = VERB(run, "run", "config", "all of the above, from one YAML file", "CONFIG.yaml",
                                  "run folder", sc_run_options);

static const verb report_verb = VERB(report, "report", "runs", "run folders to one HTML page", "run folders",
                                     "report.html", sc_report_options);

static const verb bench_verb = VERB(bench, "bench", "what", "throughput on this machine, beside its floor",
                                    "a model folder or nothing", "figures on stdout", sc_bench_options);

static const verb doctor_verb = {"doctor",
                                 "what this machine has and lacks",
                                 "the machine",
                                 "a list on stdout",
                                 NULL,
                                 NULL,
                                 0,
                                 sizeof(doctor_options),
                                 doctor_defaults,
                                 doctor_run,
                                 NULL};

const verb *const verbs[] = {
    &pull_verb,  &import_reviews_verb, &import_ratings_verb, &import_dialogues_verb,
    &embed_verb, &select_verb,         &synth_verb,          &train_verb,
    &merge_verb, &recommend_verb,      &generate_verb,       &eval_verb,
    &run_verb,   &report_verb,         &bench_verb,          &doctor_verb,
};
const size_t n_verbs = COUNT(verbs);
