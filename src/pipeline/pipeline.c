/* sc_run: the stages of a plan, one after the other, each only if it is not done and unchanged. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "device/device.h"
#include "pipeline/manifest.h"
#include "pipeline/plan.h"

sc_run_options sc_run_default(void)
{
    return (sc_run_options){.struct_size = sizeof(sc_run_options), .common = sc_common_default()};
}

/* One line of RUN_DIR/events.jsonl: what happened, for whoever watches or draws. */
static sc_status write_event(const char *run_dir, const char *event, const stage *s, double seconds)
{
    sc_status status = SC_OK;
    char *path = path_join(run_dir, "events.jsonl"), *text = NULL;
    json_t *line = json_pack("{s:I,s:s,s:s,s:f}", "time", (json_int_t)time(NULL), "event", event, "stage",
                             s->key, "seconds", seconds);
    int file = -1;

    text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    if (path == NULL || text == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice for %s/events.jsonl", run_dir));
    file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    size_t n = strlen(text);
    text[n] = '\n';
    if (file < 0 || write(file, text, n + 1) != (ssize_t)(n + 1))
        SC_TRY(sc_fail_errno(SC_IO, "cannot write %s", path));
cleanup:
    if (file >= 0)
        close(file);
    json_decref(line);
    free(text);
    free(path);
    return status;
}

static sc_status write_config(const plan *p, const char *run_dir)
{
    sc_status status = SC_OK;
    strbuf text = {0};
    char *path = path_join(run_dir, "config.yaml");
    if (path == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice for %s/config.yaml", run_dir));
    SC_TRY(plan_yaml(p, &text));
    SC_TRY(file_write_all(path, text.data, text.len));
cleanup:
    strbuf_free(&text);
    free(path);
    return status;
}

/* What pull printed is its product. */
static sc_status take_product(stage *s, const json_t *result)
{
    if (s->product != NULL)
        return SC_OK;
    const char *folder = json_string_value(json_object_get(result, "folder"));
    if (folder == NULL)
        return sc_fail(SC_INTERNAL, "'%s' did not tell where it put its result", s->key);
    return sc_strdup(&s->product, folder);
}

typedef struct run {
    plan plan;
    manifest manifest;
    file_lock *lock;
    char device[128];
    bool partial;
} run;

/* Removes what a killed process was writing: PATH.tmp-XXXXXX beside PATH. */
static void sweep_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        char *path = strstr(e->d_name, ".tmp-") != NULL ? path_join(folder, e->d_name) : NULL;
        if (path != NULL && file_remove_tree(path) != SC_OK)
            log_warn("an unfinished file stays behind: %s", sc_last_error());
        free(path);
    }
    closedir(dir);
}

static void sweep(const run *r)
{
    sweep_folder(r->manifest.run_dir);
    for (size_t i = 0; i < r->plan.n; i++) {
        if (r->plan.stages[i].folder == NULL)
            continue;
        char *parent = path_dir(r->plan.stages[i].folder);
        if (parent != NULL)
            sweep_folder(parent);
        sweep_folder(r->plan.stages[i].folder);
        free(parent);
    }
}

/* The stage's folder belongs to it alone, except that imports of dialogues share import/NAME too. */
static sc_status prepare_folder(run *r, const stage *s, const char *fingerprint)
{
    if (s->folder == NULL)
        return SC_OK;
    if (manifest_is_stale(&r->manifest, s, fingerprint)) {
        sc_status status = file_remove_tree(s->folder);
        if (status != SC_OK)
            return status;
    }
    if (strncmp(s->verb->name, "import r", 8) == 0) { /* reviews, ratings: they make their own folder */
        char *parent = path_dir(s->folder);
        sc_status status = parent ? file_make_dirs(parent) : sc_fail(SC_MEMORY, "memory does not suffice");
        free(parent);
        return status;
    }
    return file_make_dirs(s->folder);
}

static sc_status run_stage(run *r, size_t i, bool *skipped)
{
    sc_status status = SC_OK;
    stage *s = &r->plan.stages[i];
    json_t *inputs = NULL, *result = NULL;
    char fingerprint[65];
    bool done = false, partial = false;

    SC_TRY(check_cancelled());
    SC_TRY(plan_resolve(&r->plan, i));
    SC_TRY(manifest_fingerprint(&r->manifest, s, &inputs, fingerprint));
    SC_TRY(manifest_is_done(&r->manifest, s, fingerprint, &done));
    *skipped = done;
    if (done) {
        SC_TRY(take_product(s, manifest_result(&r->manifest, s)));
        log_info("%-24s done before", s->key);
        goto cleanup;
    }
    SC_TRY(prepare_folder(r, s, fingerprint));
    SC_TRY(manifest_begin(&r->manifest, s, fingerprint));
    SC_TRY(write_event(r->manifest.run_dir, "begin", s, 0));
    log_info("%-24s %s", s->key, s->verb->summary);
    double start = seconds_now();
    status = s->verb->run(s->options.values, &result);
    if (status == SC_PARTIAL) {
        log_warn("%s: %s", s->key, sc_last_error());
        partial = r->partial = true;
        status = SC_OK;
    }
    if (status != SC_OK)
        goto cleanup;
    double seconds = seconds_now() - start;
    SC_TRY(take_product(s, result));
    SC_TRY(manifest_finish(&r->manifest, s, fingerprint, inputs, result, seconds, r->device, partial));
    SC_TRY(write_event(r->manifest.run_dir, "end", s, seconds));
cleanup:
    json_decref(inputs);
    json_decref(result);
    return status;
}

static sc_status check_free(const char *run_dir)
{
    char *manifest_path = path_join(run_dir, "manifest.json");
    char *config_path = path_join(run_dir, "config.yaml");
    bool known = manifest_path && file_exists(manifest_path);
    bool foreign = !known && config_path && file_exists(config_path);
    free(manifest_path);
    free(config_path);
    if (foreign)
        return sc_fail(SC_USAGE, "%s holds a config.yaml that is no run's: take another --run-dir", run_dir);
    return SC_OK;
}

/* What is given to `run` itself holds for every stage, whatever the file says. */
static sc_status take_common(plan *p, const sc_common *given)
{
    sc_status status = SC_OK;
    const sc_common usual = sc_common_default();
    for (size_t i = 0; i < p->n; i++)
        for (size_t k = 0; k < n_common_settings; k++) {
            const setting *to = &common_settings[k];
            const char *a = (const char *)given + to->offset, *b = (const char *)&usual + to->offset;
            char number[32];
            if (to->type == SETTING_STRING) {
                const char *text = *(const char *const *)a;
                if (strcmp(text, *(const char *const *)b) != 0)
                    SC_TRY(options_set(&p->stages[i].options, to->name, text, "command line"));
            } else if (*(const int64_t *)a != *(const int64_t *)b) {
                snprintf(number, sizeof(number), "%lld", (long long)*(const int64_t *)a);
                SC_TRY(options_set(&p->stages[i].options, to->name, number, "command line"));
            }
        }
cleanup:
    return status;
}

/* True if the stage would be skipped; an input that is not there yet means that it would not. */
static bool is_up_to_date(run *r, size_t i, const bool *up_to_date)
{
    stage *s = &r->plan.stages[i];
    json_t *inputs = NULL;
    char fingerprint[65];
    bool done = false;

    for (size_t k = 0; k < s->n_links; k++)
        if (!up_to_date[s->links[k].producer])
            return false;
    if (plan_resolve(&r->plan, i) == SC_OK &&
        manifest_fingerprint(&r->manifest, s, &inputs, fingerprint) == SC_OK &&
        manifest_is_done(&r->manifest, s, fingerprint, &done) == SC_OK && done)
        done = take_product(s, manifest_result(&r->manifest, s)) == SC_OK;
    json_decref(inputs);
    return done;
}

static sc_status describe(run *r, int64_t *n_done)
{
    sc_status status = SC_OK;
    bool *up_to_date = NULL;
    SC_TRY(sc_alloc(&up_to_date, r->plan.n, sizeof(*up_to_date)));
    for (size_t i = 0; i < r->plan.n; i++) {
        const stage *s = &r->plan.stages[i];
        up_to_date[i] = is_up_to_date(r, i, up_to_date);
        *n_done += up_to_date[i];
        log_info("%-24s %s%s", s->key, s->verb->summary, up_to_date[i] ? " (done before)" : "");
    }
cleanup:
    free(up_to_date);
    return status;
}

sc_status sc_run(const sc_run_options *o, sc_run_result *result)
{
    sc_status status = SC_OK;
    run r = {0};
    device *d = NULL;
    char *report = NULL;
    double start = seconds_now();

    memset(result, 0, sizeof(*result));
    SC_TRY(plan_read(o->config, o->run_dir, &r.plan));
    SC_TRY(take_common(&r.plan, &o->common));
    result->n_stages = (int64_t)r.plan.n;
    if (!o->dry_run) {
        SC_TRY(file_make_dirs(o->run_dir));
        SC_TRY(file_lock_take(o->run_dir, &r.lock));
        SC_TRY(check_free(o->run_dir));
    }
    SC_TRY(manifest_open(o->run_dir, &r.manifest));
    if (o->dry_run) {
        SC_TRY(describe(&r, &result->n_skipped));
        goto cleanup;
    }
    SC_TRY(device_open(&o->common, &d));
    snprintf(r.device, sizeof(r.device), "%s", d->name);
    sweep(&r);
    SC_TRY(manifest_save(&r.manifest));
    for (size_t i = 0; i < r.plan.n; i++) {
        bool skipped = false;
        SC_TRY(run_stage(&r, i, &skipped));
        result->n_skipped += skipped;
    }
    SC_TRY(write_config(&r.plan, o->run_dir));
    report = path_join(o->run_dir, "report.html");
    const char *runs[2] = {o->run_dir, NULL};
    sc_report_options page = sc_report_default();
    page.runs = runs;
    page.out = report;
    SC_TRY(sc_report(&page));
    if (r.partial)
        status = sc_fail(SC_PARTIAL, "some rows failed; %s/manifest.json says in which stage", o->run_dir);
cleanup:
    result->seconds = seconds_now() - start;
    free(report);
    device_close(d);
    manifest_close(&r.manifest);
    plan_free(&r.plan);
    file_lock_release(r.lock);
    return status;
}
