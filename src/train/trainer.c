/* sc_train: the loop. Everything a step does follows from (settings, seed, step), so a run that goes on from a
 * checkpoint ends with the same bytes as one that was never stopped. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/random.h"
#include "seedcorn/train.h"
#include "train/checkpoint.h"
#include "train/pack.h"
#include "train/schedule.h"

sc_train_options sc_train_default(void)
{
    return (sc_train_options){.struct_size = sizeof(sc_train_options),
                              .common = sc_common_default(),
                              .method = "lora",
                              .epochs = 3,
                              .batch_size = 32,
                              .max_tokens = 1024,
                              .schedule = "linear",
                              .warmup_steps = -1,
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .eps = 1e-8,
                              .clip_norm = 1,
                              .shuffle = true,
                              .rank = 16,
                              .alpha = 32,
                              .targets = "all-linear",
                              .resume = "auto"};
}

/* A micro-batch of --micro-batch 0 holds about this many tokens: enough for full speed, 1.2 GB for SmolLM2-135M. */
enum { AUTO_BATCH_TOKENS = 2048 };
/* The most epochs and dialogues a step, so that their products stay in range. */
enum { COUNT_LIMIT = 1000000000 };

typedef struct trainer {
    const sc_train_options *o;
    bool full;
    double lr;
    schedule_kind schedule;
    int64_t steps_per_epoch, n_steps, warmup_steps;
    device *device;
    model *model;
    tokenizer *tokenizer;
    dialogues dialogues;
    train_rows rows;
    train_weights weights;
    train_batch batch;
    float *losses; /* [supervised tokens of the largest micro-batch] */
    size_t cap_losses;
    int64_t *order;       /* rows of the present epoch */
    int64_t order_epoch;  /* -1: none yet */
    char init_sha256[65]; /* of the adapter that is gone on from, or "" */
    json_t *settings;     /* what the bits depend on */
    checkpoint_state state;
    int events; /* file descriptor of OUT/events.jsonl */
} trainer;

static sc_status check_options(const sc_train_options *o)
{
    if (strcmp(o->method, "lora") != 0 && strcmp(o->method, "full") != 0)
        return sc_fail(SC_USAGE, "method is lora or full, not '%s'", o->method);
    if (o->epochs < 1 || o->batch_size < 1 || o->epochs > COUNT_LIMIT || o->batch_size > COUNT_LIMIT)
        return sc_fail(SC_USAGE, "epochs and batch-size lie in 1..%d", COUNT_LIMIT);
    if (o->micro_batch < 0 || o->save_every < 0 || o->warmup_steps < -1)
        return sc_fail(SC_USAGE,
                       "micro-batch and save-every must not be negative, nor warmup-steps below -1");
    if (o->max_tokens < 8)
        return sc_fail(SC_USAGE, "max-tokens must be at least 8");
    if (!(o->lr >= 0) || !(o->weight_decay >= 0) || !(o->clip_norm >= 0) || isinf(o->lr))
        return sc_fail(SC_USAGE, "lr, weight-decay and clip-norm must not be negative");
    if (!isfinite(o->alpha))
        return sc_fail(SC_USAGE, "alpha must be a number");
    if (!(o->beta1 >= 0 && o->beta1 < 1) || !(o->beta2 >= 0 && o->beta2 < 1) || !(o->eps > 0))
        return sc_fail(SC_USAGE, "beta1 and beta2 lie in 0..1 (below 1), eps is above 0");
    if (o->rank < 1 || o->rank > 4096)
        return sc_fail(SC_USAGE, "rank lies in 1..4096");
    if (!(o->dropout >= 0 && o->dropout < 1))
        return sc_fail(SC_USAGE, "dropout lies in 0..1 (below 1)");
    if (strcmp(o->resume, "auto") != 0 && strcmp(o->resume, "never") != 0 && strcmp(o->resume, "always") != 0)
        return sc_fail(SC_USAGE, "resume is auto, never or always, not '%s'", o->resume);
    if (o->init_adapter != NULL && strcmp(o->method, "full") == 0)
        return sc_fail(SC_USAGE,
                       "init-adapter goes with method lora; merge the adapter first to train in full");
    return SC_OK;
}

/* Memory that is free for programs, in bytes; -1: not known. */
static int64_t available_memory(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    long long kilobytes = -1;
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (strncmp(line, "MemAvailable:", 13) == 0)
            kilobytes = strtoll(line + 13, NULL, 10);
    if (file != NULL)
        fclose(file);
    return kilobytes < 0 ? -1 : kilobytes * 1024;
}

static sc_status check_memory(const trainer *t, int64_t batch_tokens)
{
    model_memory need;
    model_memory_plan(&t->model->config, t->model->dtype, t->full, (int32_t)t->o->rank, batch_tokens, &need);
    double total = (double)(need.weights + need.gradients + need.optimizer + need.activations);
    int64_t free_bytes = available_memory();
    log_info(
        "memory: %.2f GB (weights %.2f, gradients %.2f, optimizer %.2f, activations %.2f for %lld tokens)",
        total * 1e-9, (double)need.weights * 1e-9, (double)need.gradients * 1e-9,
        (double)need.optimizer * 1e-9, (double)need.activations * 1e-9, (long long)batch_tokens);
    if (free_bytes >= 0 && total - (double)need.weights > (double)free_bytes)
        return sc_fail(
            SC_MEMORY,
            "training needs %.1f GB (gradients %.1f, optimizer %.1f, activations %.1f) and %.1f GB are free: "
            "lower --micro-batch, or train with --method lora",
            total * 1e-9, (double)need.gradients * 1e-9, (double)need.optimizer * 1e-9,
            (double)need.activations * 1e-9, (double)free_bytes * 1e-9);
    return SC_OK;
}

/* The rows of an epoch in their order. */
static void order_rows(trainer *t, int64_t epoch)
{
    if (t->order_epoch == epoch)
        return;
    for (int64_t i = 0; i < t->rows.n; i++)
        t->order[i] = i;
    if (t->o->shuffle) {
        random_stream r = random_at((uint64_t)t->o->common.seed, RANDOM_SHUFFLE, (uint64_t)epoch, 0);
        random_shuffle(&r, t->order, (size_t)t->rows.n);
    }
    t->order_epoch = epoch;
}

static size_t fit(const trainer *t, const int64_t *rows, size_t n)
{
    if (t->o->micro_batch > 0)
        return (size_t)t->o->micro_batch < n ? (size_t)t->o->micro_batch : n;
    return train_batch_fit(&t->rows, rows, n, AUTO_BATCH_TOKENS, n);
}

/* The most tokens and supervised tokens that one forward pass can meet. */
static void largest_batch(const trainer *t, int64_t *tokens, int64_t *supervised)
{
    int64_t longest = 0, most = 0;
    for (int64_t i = 0; i < t->rows.n; i++) {
        int64_t n = t->rows.offsets[i + 1] - t->rows.offsets[i];
        longest = n > longest ? n : longest;
        most = t->rows.supervised[i] > most ? t->rows.supervised[i] : most;
    }
    int64_t rows = t->o->micro_batch > 0 ? t->o->micro_batch : t->o->batch_size;
    rows = rows < t->rows.n ? rows : t->rows.n;
    int64_t limit = t->o->micro_batch > 0 || longest > AUTO_BATCH_TOKENS ? rows * longest : AUTO_BATCH_TOKENS;
    if (t->o->micro_batch == 0 && longest > AUTO_BATCH_TOKENS)
        limit = longest;
    *tokens = rows * longest < limit ? rows * longest : limit;
    *supervised = rows * most < *tokens ? rows * most : *tokens;
}

static json_t *settings_of(const trainer *t)
{
    const sc_train_options *o = t->o;
    return json_pack(
        "{s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:f,s:s,s:I,s:f,s:f,s:f,s:f,s:f,s:b,s:I,s:f,s:s,s:f,s:s,s:I,s:I}",
        "model", t->model->sha256, "dialogues", t->dialogues.sha256, "method", o->method, "dtype",
        t->model->dtype == DTYPE_BF16 ? "bf16" : "fp32", "epochs", (json_int_t)o->epochs, "batch-size",
        (json_int_t)o->batch_size, "micro-batch", (json_int_t)o->micro_batch, "max-tokens",
        (json_int_t)o->max_tokens, "lr", t->lr, "schedule", o->schedule, "warmup-steps",
        (json_int_t)t->warmup_steps, "weight-decay", o->weight_decay, "beta1", o->beta1, "beta2", o->beta2,
        "eps", o->eps, "clip-norm", o->clip_norm, "shuffle", o->shuffle, "rank",
        (json_int_t)(t->full ? 0 : o->rank), "alpha", t->full ? 0.0 : o->alpha, "targets",
        t->full ? "" : o->targets, "dropout", t->full ? 0.0 : o->dropout, "init-adapter", t->init_sha256,
        "seed", (json_int_t)o->common.seed, "threads", (json_int_t)t->device->threads);
}

static sc_status hash_adapter(const char *folder, char hex[65])
{
    char *path = path_join(folder, "adapter_model.safetensors");
    sc_status status = path ? file_sha256(path, hex) : sc_fail(SC_MEMORY, "memory does not suffice");
    free(path);
    return status;
}

static sc_status open_model(trainer *t)
{
    sc_status status = SC_OK;
    const sc_train_options *o = t->o;

    SC_TRY(device_open(&o->common, &t->device));
    SC_TRY(model_open(o->model, t->device, &t->model));
    SC_TRY(tokenizer_open(o->model, &t->tokenizer));
    SC_TRY(model_check_tokenizer(t->model, t->tokenizer));
    if (t->full) {
        SC_TRY(model_grads_create(t->model));
    } else if (o->init_adapter != NULL) {
        SC_TRY(model_lora_load(t->model, o->init_adapter));
        t->model->lora->dropout = (float)o->dropout;
        SC_TRY(hash_adapter(o->init_adapter, t->init_sha256));
    } else {
        lora_options adapter = {.rank = (int32_t)o->rank,
                                .alpha = o->alpha,
                                .dropout = o->dropout,
                                .targets = o->targets,
                                .seed = (uint64_t)o->common.seed};
        SC_TRY(model_lora_create(t->model, &adapter));
    }
cleanup:
    return status;
}

/* The first example as the model sees it: what it reads, and what it learns to say. */
static void show_example(const trainer *t)
{
    strbuf given = {0}, learned = {0};
    for (int64_t i = 0; i < t->rows.offsets[1]; i++) {
        bool supervised = i > 0 && t->rows.targets[i - 1] >= 0;
        if (tokenizer_decode(t->tokenizer, &t->rows.ids[i], 1, true, supervised ? &learned : &given) != SC_OK)
            break;
    }
    log_debug("first example, read: %s", strbuf_text(&given));
    log_debug("first example, learned: %s", strbuf_text(&learned));
    strbuf_free(&given);
    strbuf_free(&learned);
}

static sc_status open_data(trainer *t)
{
    sc_status status = SC_OK;
    const sc_train_options *o = t->o;
    chat_family family;
    int64_t tokens, supervised;
    int64_t longest =
        o->max_tokens < t->model->config.max_positions ? o->max_tokens : t->model->config.max_positions;

    SC_TRY(dialogues_read(o->dialogues, &t->dialogues));
    SC_TRY(chat_family_of(o->model, &family));
    SC_TRY(train_rows_build(t->tokenizer, family, &t->dialogues, longest, &t->rows));
    if (t->rows.n_cut > 0)
        log_warn("%lld of %lld dialogues are cut at %lld tokens", (long long)t->rows.n_cut,
                 (long long)t->rows.n, (long long)longest);
    show_example(t);
    SC_TRY(sc_alloc(&t->order, (size_t)t->rows.n, sizeof(*t->order)));
    t->order_epoch = -1;
    t->steps_per_epoch = (t->rows.n + o->batch_size - 1) / o->batch_size;
    if (t->steps_per_epoch > (int64_t)UINT32_MAX / o->epochs)
        SC_TRY(sc_fail(SC_USAGE, "%lld epochs of %lld steps are too many: lower --epochs",
                       (long long)o->epochs, (long long)t->steps_per_epoch));
    t->n_steps = t->steps_per_epoch * o->epochs;
    t->warmup_steps = o->warmup_steps >= 0 ? o->warmup_steps : (t->n_steps + 9) / 10;
    SC_TRY(schedule_parse(o->schedule, &t->schedule));
    t->lr = o->lr > 0 ? o->lr : t->full ? 5e-5 : 2e-4;
    largest_batch(t, &tokens, &supervised);
    SC_TRY(check_memory(t, tokens));
    SC_TRY(sc_grow(&t->losses, &t->cap_losses, (size_t)supervised, sizeof(*t->losses)));
cleanup:
    return status;
}

/* Which dialogue's loss is not finite, or which step's gradient. */
static sc_status fail_not_finite(const trainer *t, const int64_t *rows, size_t n, int64_t step, bool in_loss)
{
    int64_t at = 0;
    for (size_t i = 0; in_loss && i < n; i++)
        for (int64_t k = 0; k < t->rows.supervised[rows[i]]; k++)
            if (!isfinite(t->losses[at++]))
                return sc_fail(
                    SC_BAD_INPUT,
                    "the loss of dialogue '%s' is not a number at step %lld; the last checkpoint is kept: "
                    "lower --lr, and start again with --resume never",
                    t->dialogues.rows[rows[i]].id, (long long)step + 1);
    return sc_fail(
        SC_BAD_INPUT,
        "the gradient of dialogue '%s' and of %zu beside it is not a number at step %lld; the last "
        "checkpoint is kept: lower --lr, and start again with --resume never",
        t->dialogues.rows[rows[0]].id, n - 1, (long long)step + 1);
}

typedef struct step_report {
    double loss, norm, rate, seconds;
    int64_t tokens, supervised;
} step_report;

static sc_status train_step(trainer *t, int64_t step, step_report *report, progress *p)
{
    sc_status status = SC_OK;
    int64_t epoch = step / t->steps_per_epoch;
    int64_t first = step % t->steps_per_epoch * t->o->batch_size;
    double start = seconds_now(), loss_sum = 0;

    order_rows(t, epoch);
    const int64_t *rows = t->order + first;
    size_t n = (size_t)(t->rows.n - first < t->o->batch_size ? t->rows.n - first : t->o->batch_size);
    memset(report, 0, sizeof(*report));
    for (size_t i = 0; i < n; i++)
        report->supervised += t->rows.supervised[rows[i]];
    SC_TRY(model_grads_zero(t->model));
    /* Every token of the step weighs the same, however the rows fall into micro-batches. */
    for (size_t at = 0; at < n;) {
        size_t taken = fit(t, rows + at, n - at);
        double part = 0;
        SC_TRY(check_cancelled());
        SC_TRY(train_batch_build(&t->rows, rows + at, taken, &t->batch));
        SC_TRY(sc_grow(&t->losses, &t->cap_losses, (size_t)t->batch.n_supervised, sizeof(*t->losses)));
        t->batch.batch.seed = (uint64_t)t->o->common.seed;
        t->batch.batch.step = (uint32_t)step;
        SC_TRY(model_train_step(t->model, &t->batch.batch, t->batch.targets,
                                (float)(1.0 / (double)report->supervised), &part, t->losses));
        if (!isfinite(part))
            SC_TRY(fail_not_finite(t, rows + at, taken, step, true));
        loss_sum += part;
        report->tokens += t->batch.batch.n_tokens;
        progress_add(p, t->batch.batch.n_tokens);
        at += taken;
    }
    SC_TRY(train_weights_norm(t->model, &t->weights, &report->norm));
    if (!isfinite(report->norm))
        SC_TRY(fail_not_finite(t, rows, n, step, false));
    report->rate = schedule_rate(t->schedule, t->lr, step, t->n_steps, t->warmup_steps);
    double clip = t->o->clip_norm > 0 && report->norm > t->o->clip_norm ? t->o->clip_norm / report->norm : 1;
    adamw_options update = {.lr = (float)report->rate,
                            .beta1 = (float)t->o->beta1,
                            .beta2 = (float)t->o->beta2,
                            .eps = (float)t->o->eps,
                            .weight_decay = (float)t->o->weight_decay,
                            .step = step + 1,
                            .grad_scale = (float)clip};
    SC_TRY(train_weights_step(t->model, &t->weights, &update));
    report->loss = loss_sum / (double)report->supervised;
    report->seconds = seconds_now() - start;
cleanup:
    return status;
}

static sc_status write_event(const trainer *t, int64_t step, const step_report *r)
{
    json_t *line =
        json_pack("{s:I,s:I,s:f,s:f,s:f,s:I,s:I,s:f,s:f}", "step", (json_int_t)step + 1, "epoch",
                  (json_int_t)(step / t->steps_per_epoch), "loss", r->loss, "norm", r->norm, "lr", r->rate,
                  "tokens", (json_int_t)r->tokens, "supervised", (json_int_t)r->supervised, "seconds",
                  r->seconds, "tokens_per_second", (double)r->tokens / r->seconds);
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    sc_status status = SC_OK;
    if (text == NULL) {
        status = sc_fail(SC_MEMORY, "memory does not suffice for an event");
    } else {
        size_t n = strlen(text);
        text[n] = '\n';
        if (write(t->events, text, n + 1) != (ssize_t)(n + 1))
            status = sc_fail_errno(SC_IO, "cannot write %s/events.jsonl", t->o->out);
    }
    json_decref(line);
    free(text);
    return status;
}

static sc_status open_events(trainer *t)
{
    char *path = path_join(t->o->out, "events.jsonl");
    sc_status status = path ? SC_OK : sc_fail(SC_MEMORY, "memory does not suffice");
    if (status == SC_OK) {
        int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_APPEND | (t->state.step == 0 ? O_TRUNC : 0);
        t->events = open(path, flags, 0644);
        if (t->events < 0)
            status = sc_fail_errno(SC_IO, "cannot write %s", path);
    }
    free(path);
    return status;
}

static sc_status resume(trainer *t)
{
    sc_status status = SC_OK;
    bool found = false;

    if (strcmp(t->o->resume, "never") == 0)
        return checkpoint_remove_all(t->o->out);
    SC_TRY(checkpoint_load(t->o->out, t->model, &t->weights, t->settings, &t->state, &found));
    if (found && (t->state.step < 1 || t->state.step > t->n_steps))
        return sc_fail(SC_BAD_INPUT, "%s/checkpoints stands at step %lld of %lld; use --resume never",
                       t->o->out, (long long)t->state.step, (long long)t->n_steps);
    if (found)
        log_info("going on after step %lld of %lld", (long long)t->state.step, (long long)t->n_steps);
    else if (strcmp(t->o->resume, "always") == 0)
        return sc_fail(SC_BAD_INPUT, "%s/checkpoints holds no checkpoint to go on from", t->o->out);
cleanup:
    return status;
}

static int64_t tokens_of_epoch(const trainer *t)
{
    return t->rows.offsets[t->rows.n];
}

/* Stopped inside a step: the steps before it are kept. */
static sc_status save_interrupted(const trainer *t)
{
    sc_status status = checkpoint_save(t->o->out, t->model, &t->weights, &t->state, t->settings);
    return status == SC_OK ? SC_INTERRUPTED : status;
}

/* The steps from state.step to the end. A checkpoint is due after save_every steps, or after about a minute, but
 * never so often that saving takes more than a twentieth of the time. */
static sc_status loop(trainer *t)
{
    sc_status status = SC_OK;
    char label[32];
    double last_save = seconds_now(), save_seconds = 0;
    snprintf(label, sizeof(label), "train %s", t->o->method);
    progress *p = progress_begin(label, "tokens", tokens_of_epoch(t) * t->o->epochs);
    progress_skip(p, t->state.n_tokens);

    while (t->state.step < t->n_steps) {
        step_report report;
        status = train_step(t, t->state.step, &report, p);
        if (status == SC_INTERRUPTED && t->state.step > 0)
            SC_TRY(save_interrupted(t));
        if (status != SC_OK)
            break;
        SC_TRY(write_event(t, t->state.step, &report));
        if (t->state.step == 0)
            t->state.first_loss = report.loss;
        t->state.last_loss = report.loss;
        t->state.n_tokens += report.tokens;
        t->state.n_supervised += report.supervised;
        t->state.step++;
        progress_note(p, "step %lld/%lld, loss %.3f, norm %.2f", (long long)t->state.step,
                      (long long)t->n_steps, report.loss, report.norm);
        double since = seconds_now() - last_save;
        bool due = t->o->save_every > 0 ? t->state.step % t->o->save_every == 0
                                        : since > 60 && since > 20 * save_seconds;
        if (due || sc_cancelled()) {
            double start = seconds_now();
            SC_TRY(checkpoint_save(t->o->out, t->model, &t->weights, &t->state, t->settings));
            last_save = seconds_now();
            save_seconds = last_save - start;
        }
        SC_TRY(check_cancelled());
    }
cleanup:
    progress_end(p);
    return status;
}

static sc_status save_result(trainer *t)
{
    sc_status status = SC_OK;
    json_t *record = NULL;
    char *path = path_join(t->o->out, "training.json");

    if (path == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice"));
    SC_TRY(t->full ? model_save(t->model, t->o->out, model_file_dtype(t->model))
                   : model_lora_save(t->model, t->o->out));
    record =
        json_pack("{s:O,s:I,s:f,s:f,s:I,s:I,s:I,s:I}", "settings", t->settings, "steps",
                  (json_int_t)t->n_steps, "first_loss", t->state.first_loss, "last_loss", t->state.last_loss,
                  "tokens", (json_int_t)t->state.n_tokens, "supervised", (json_int_t)t->state.n_supervised,
                  "examples", (json_int_t)t->rows.n, "cut", (json_int_t)t->rows.n_cut);
    SC_TRY(json_write_file(path, record));
    SC_TRY(checkpoint_remove_all(t->o->out));
cleanup:
    json_decref(record);
    free(path);
    return status;
}

sc_status sc_train(const sc_train_options *o, sc_train_result *result)
{
    sc_status status = SC_OK;
    trainer t = {.o = o, .events = -1};
    file_lock *lock = NULL;
    double start = seconds_now();

    memset(result, 0, sizeof(*result));
    SC_TRY(check_options(o));
    t.full = strcmp(o->method, "full") == 0;
    SC_TRY(file_make_dirs(o->out));
    SC_TRY(file_lock_take(o->out, &lock));
    SC_TRY(open_model(&t));
    SC_TRY(open_data(&t));
    SC_TRY(train_weights_open(t.model, t.full, &t.weights));
    t.settings = settings_of(&t);
    if (t.settings == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice"));
    SC_TRY(resume(&t));
    result->first_step = t.state.step;
    SC_TRY(open_events(&t));
    SC_TRY(loop(&t));
    SC_TRY(save_result(&t));
    result->n_steps = t.n_steps;
    result->n_examples = t.rows.n;
    result->n_cut = t.rows.n_cut;
    result->n_tokens = t.state.n_tokens;
    result->n_supervised = t.state.n_supervised;
    result->first_loss = t.state.first_loss;
    result->last_loss = t.state.last_loss;
cleanup:
    result->seconds = seconds_now() - start;
    if (t.events >= 0)
        close(t.events);
    json_decref(t.settings);
    train_batch_free(&t.batch);
    train_weights_close(t.model, &t.weights);
    train_rows_free(&t.rows);
    dialogues_free(&t.dialogues);
    tokenizer_close(t.tokenizer);
    model_close(t.model);
    device_close(t.device);
    free(t.losses);
    free(t.order);
    file_lock_release(lock);
    return status;
}
