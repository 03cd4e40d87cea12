/* sc_train: the loop. Everything a step does follows from (settings, seed, step), so a run that goes on from a
 * checkpoint ends with the same bytes as one that was never stopped. */
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"

static json_t *settings_of(const trainer *t)
{
    const sc_train_options *o = t->o;
    const bool full = t->full;
    json_t *s = json_pack(
        "{s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:f,s:s,s:I,s:s,s:f,s:f,s:f,s:f,s:f,s:b}", "model",
        t->model->sha256, "model-files", t->model_files_sha256, "dialogues", t->dialogues.sha256, "method",
        o->method, "dtype", t->model->dtype == DTYPE_BF16 ? "bf16" : "fp32", "epochs", (json_int_t)o->epochs,
        "batch-size", (json_int_t)o->batch_size, "micro-batch", (json_int_t)o->micro_batch, "max-tokens",
        (json_int_t)o->max_tokens, "lr", t->lr, "schedule", o->schedule, "warmup-steps",
        (json_int_t)t->warmup_steps, "optimizer", o->optimizer, "weight-decay", o->weight_decay, "beta1",
        o->beta1, "beta2", o->beta2, "eps", o->eps, "clip-norm", o->clip_norm, "shuffle", o->shuffle);
    json_t *more = json_pack("{s:I,s:f,s:b,s:b,s:s,s:f,s:s,s:s,s:f,s:I,s:I,s:I,s:I}", "rank",
                             (json_int_t)(full ? 0 : o->rank), "alpha", full ? 0.0 : o->alpha, "rslora",
                             o->rslora, "dora", o->dora, "targets", full ? "" : o->targets, "dropout",
                             full ? 0.0 : o->dropout, "init-adapter", t->init_sha256, "validation",
                             o->validation != NULL ? t->held_dialogues.sha256 : "", "validation-share",
                             o->validation_share, "validate-every", (json_int_t)t->validate_every, "patience",
                             (json_int_t)o->patience, "seed", (json_int_t)o->common.seed, "threads",
                             (json_int_t)t->device->threads);
    if (s == NULL || more == NULL || json_object_update(s, more) != 0) {
        json_decref(s);
        s = NULL;
    }
    json_decref(more);
    return s;
}

/* Everything that is known without the weights. */
static sc_status open_outline(trainer *t)
{
    sc_status status = SC_OK;
    SC_TRY(device_open(&t->o->common, &t->device));
    SC_TRY(model_outline(t->o->model, t->device, &t->model));
    SC_TRY(model_files_sha256(t->o->model, t->model_files_sha256));
    t->model->recompute = t->o->recompute;
    SC_TRY(tokenizer_open(t->o->model, &t->tokenizer));
    SC_TRY(model_check_tokenizer(t->model, t->tokenizer));
    SC_TRY(train_data_open(t));
    SC_TRY(train_show_example(t));
cleanup:
    return status;
}

static sc_status open_model(trainer *t)
{
    sc_status status = SC_OK;
    const sc_train_options *o = t->o;

    model_close(t->model);
    t->model = NULL;
    SC_TRY(model_open(o->model, t->device, &t->model));
    t->model->recompute = o->recompute;
    if (t->full) {
        SC_TRY(model_grads_create(t->model));
    } else if (o->init_adapter != NULL) {
        SC_TRY(model_lora_load(t->model, o->init_adapter));
        t->model->lora->dropout = (float)o->dropout;
        SC_TRY(model_lora_sha256(o->init_adapter, t->init_sha256));
    } else {
        const lora_options adapter = train_adapter_options(o);
        SC_TRY(model_lora_create(t->model, &adapter));
    }
cleanup:
    return status;
}

/* Which dialogue's loss is not finite, or which step's gradient. */
static sc_status fail_not_finite(const trainer *t, const int64_t *rows, size_t n, int64_t step, bool in_loss)
{
    int64_t at = 0;
    for (size_t i = 0; in_loss && i < n; i++)
        for (int64_t k = 0; k < t->training.rows->supervised[rows[i]]; k++)
            if (!isfinite(t->losses[at++]))
                return sc_fail(
                    SC_BAD_INPUT,
                    "the loss of dialogue '%s' is not a number at step %lld; the last checkpoint is kept: "
                    "lower --lr, and start again with --resume never",
                    t->training.dialogues->rows[rows[i]].id, (long long)step + 1);
    return sc_fail(
        SC_BAD_INPUT,
        "the gradient of dialogue '%s' and of %zu beside it is not a number at step %lld; the last "
        "checkpoint is kept: lower --lr, and start again with --resume never",
        t->training.dialogues->rows[rows[0]].id, n - 1, (long long)step + 1);
}

/* Forward and backward passes of the micro-batch just built, as bench counts them, and the adapter's share. */
static double batch_operations(const trainer *t)
{
    const model_config *c = &t->model->config;
    const packed_batch *b = &t->batch.batch;
    double total = (double)t->batch.n_supervised * model_head_operations(c);
    for (int64_t s = 0; s < b->n_seqs; s++) {
        const double n = b->cu_seqlens[s + 1] - b->cu_seqlens[s];
        total += n * model_block_operations(c, 0.5 * n);
    }
    if (t->full)
        return 3 * total;
    return 2 * total + 6.0 * (double)t->model->lora->n_values * (double)b->n_tokens;
}

/* The gradient of a step. Every supervised token weighs the same, however the rows fall into micro-batches. */
static sc_status accumulate(trainer *t, int64_t step, size_t n, step_report *report, progress *p)
{
    sc_status status = SC_OK;
    size_t n_batches = 0, at = 0;
    double loss_sum = 0;
    for (size_t i = 0; i < n; i++)
        report->supervised += t->training.rows->supervised[t->step_rows[i]];
    SC_TRY(train_pack_rows(t, t->training.rows, n, &n_batches));
    SC_TRY(model_grads_zero(t->model));
    for (size_t b = 0; b < n_batches; b++) {
        const int64_t *rows = t->step_rows + at;
        const size_t taken = t->ends[b] - at;
        double part = 0;
        SC_TRY(check_cancelled());
        SC_TRY(train_batch_build(t->training.rows, rows, taken, &t->batch));
        SC_TRY(sc_grow(&t->losses, &t->cap_losses, (size_t)t->batch.n_supervised, sizeof(*t->losses)));
        t->batch.batch.seed = (uint64_t)t->o->common.seed;
        t->batch.batch.step = (uint32_t)step;
        SC_TRY(model_train_step(t->model, &t->batch.batch, t->batch.targets,
                                (float)(1.0 / (double)report->supervised), &part, t->losses));
        if (!isfinite(part))
            SC_TRY(fail_not_finite(t, rows, taken, step, true));
        loss_sum += part;
        report->tokens += t->batch.batch.n_tokens;
        report->operations += batch_operations(t);
        progress_add(p, t->batch.batch.n_tokens);
        at = t->ends[b];
    }
    report->loss = loss_sum / (double)report->supervised;
cleanup:
    return status;
}

static sc_status train_step(trainer *t, int64_t step, step_report *report, progress *p)
{
    sc_status status = SC_OK;
    const sc_train_options *o = t->o;
    const int64_t first = step % t->steps_per_epoch * o->batch_size, left = t->training.n - first;
    const size_t n = (size_t)(left < o->batch_size ? left : o->batch_size);
    const double start = seconds_now();

    train_order_rows(t, step / t->steps_per_epoch);
    memcpy(t->step_rows, t->order + first, n * sizeof(*t->step_rows));
    memset(report, 0, sizeof(*report));
    SC_TRY(accumulate(t, step, n, report, p));
    SC_TRY(train_weights_norm(t->model, &t->weights, &report->norm));
    if (!isfinite(report->norm))
        SC_TRY(fail_not_finite(t, t->step_rows, n, step, false));
    report->rate = schedule_rate(t->schedule, t->lr, step, t->n_steps, t->warmup_steps);
    const double clip = o->clip_norm > 0 && report->norm > o->clip_norm ? o->clip_norm / report->norm : 1;
    const adamw_options update = {.lr = (float)report->rate,
                                  .beta1 = (float)o->beta1,
                                  .beta2 = (float)o->beta2,
                                  .eps = (float)o->eps,
                                  .weight_decay = (float)o->weight_decay,
                                  .step = step + 1,
                                  .grad_scale = (float)clip};
    SC_TRY(train_weights_step(t->model, &t->weights, &update, strcmp(o->optimizer, "adam") == 0));
    report->seconds = seconds_now() - start;
cleanup:
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

static sc_status save_checkpoint(const trainer *t)
{
    const int64_t keep = t->o->keep_checkpoints > 0 ? t->o->keep_checkpoints : 1;
    return checkpoint_save(t->o->out, t->model, &t->weights, &t->state, t->settings, keep);
}

/* Stopped inside a step or a validation: the steps before it are kept. */
static sc_status save_interrupted(const trainer *t)
{
    sc_status status = save_checkpoint(t);
    return status == SC_OK ? SC_INTERRUPTED : status;
}

static bool validation_due(const trainer *t)
{
    return t->held.n > 0 && (t->state.step % t->validate_every == 0 || t->state.step == t->n_steps);
}

/* *better: the weights as they are now are to be kept. Stopped inside, the steps done are kept, and a run that goes on
 * validates first. */
static sc_status validate(trainer *t, bool *better)
{
    sc_status status = SC_OK;
    double loss = 0;
    const double start = seconds_now();
    log_debug("step %lld: validation on %lld dialogues", (long long)t->state.step, (long long)t->held.n);
    SC_TRY(train_validate(t, &loss));
    t->state.validated_step = t->state.step;
    *better = t->state.step > 0 && (t->state.best_step == 0 || loss < t->state.best_loss);
    if (*better) {
        t->state.best_step = t->state.step;
        t->state.best_loss = loss;
        t->state.n_worse = 0;
    } else if (t->state.step > 0) {
        t->state.n_worse++;
    }
    SC_TRY(train_event_validation(t, t->state.step, loss, seconds_now() - start));
    log_info("step %lld: validation loss %.4f%s", (long long)t->state.step, loss,
             *better ? ", the best so far" : "");
cleanup:
    if (status == SC_INTERRUPTED && t->state.step > 0)
        status = save_interrupted(t);
    return status;
}

static bool patience_is_out(const trainer *t)
{
    return t->o->patience > 0 && t->state.n_worse >= t->o->patience;
}

static bool finished(const trainer *t)
{
    return t->state.step >= t->n_steps || patience_is_out(t);
}

static void count_step(trainer *t, const step_report *r)
{
    if (t->state.step == 0)
        t->state.first_loss = r->loss;
    t->state.last_loss = r->loss;
    t->state.n_tokens += r->tokens;
    t->state.n_supervised += r->supervised;
    t->state.step++;
}

/* The steps from state.step to the end. A checkpoint is due after save_every steps, or after about a minute, but
 * never so often that saving takes more than a twentieth of the time; and where validation found the best. */
static sc_status loop(trainer *t)
{
    sc_status status = SC_OK;
    char label[32];
    bool better = false;
    double last_save = seconds_now(), save_seconds = 0;
    int64_t tokens = 0;
    for (int64_t i = 0; i < t->training.n; i++)
        tokens += t->training.rows->offsets[t->training.list[i] + 1] -
                  t->training.rows->offsets[t->training.list[i]];
    snprintf(label, sizeof(label), "train %s", t->o->method);
    progress *p = progress_begin(label, "tokens", tokens * t->o->epochs);
    progress_skip(p, t->state.n_tokens);

    if (validation_due(t) && (t->state.step == 0 || t->state.validated_step < t->state.step))
        SC_TRY(validate(t, &better));
    while (!finished(t)) {
        step_report report;
        status = train_step(t, t->state.step, &report, p);
        if (status == SC_INTERRUPTED && t->state.step > 0)
            SC_TRY(save_interrupted(t));
        if (status != SC_OK)
            break;
        SC_TRY(train_event_step(t, t->state.step, &report));
        count_step(t, &report);
        progress_note(p, "step %lld/%lld, loss %.3f, norm %.2f", (long long)t->state.step,
                      (long long)t->n_steps, report.loss, report.norm);
        better = false;
        if (validation_due(t))
            SC_TRY(validate(t, &better));
        double since = seconds_now() - last_save;
        bool due = t->o->save_every > 0 ? t->state.step % t->o->save_every == 0
                                        : since > 60 && since > 20 * save_seconds;
        if (due || better || sc_cancelled()) {
            double start = seconds_now();
            SC_TRY(save_checkpoint(t));
            last_save = seconds_now();
            save_seconds = last_save - start;
        }
        SC_TRY(check_cancelled());
    }
cleanup:
    progress_end(p);
    return status;
}

static sc_status write_record(const trainer *t)
{
    sc_status status = SC_OK;
    char *path = path_join(t->o->out, "training.json");
    json_t *record = json_pack("{s:O,s:I,s:f,s:f,s:I,s:I,s:I,s:I}", "settings", t->settings, "steps",
                               (json_int_t)t->state.step, "first_loss", t->state.first_loss, "last_loss",
                               t->state.last_loss, "tokens", (json_int_t)t->state.n_tokens, "supervised",
                               (json_int_t)t->state.n_supervised, "examples", (json_int_t)t->training.n,
                               "cut", (json_int_t)t->rows.n_cut + (json_int_t)t->held_rows.n_cut);
    if (path == NULL || record == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice"));
    if (t->held.n > 0)
        json_object_set_new(record, "validation",
                            json_pack("{s:I,s:I,s:f,s:b}", "examples", (json_int_t)t->held.n, "best_step",
                                      (json_int_t)t->state.best_step, "best_loss", t->state.best_loss,
                                      "stopped_early", t->state.step < t->n_steps));
    SC_TRY(json_write_file(path, record));
cleanup:
    json_decref(record);
    free(path);
    return status;
}

/* The best weights, where something was held back to tell; else the last. Checkpoints go, unless they were asked
 * for: then the last step has one, too. */
static sc_status save_result(trainer *t)
{
    sc_status status = SC_OK;
    const checkpoint_state *s = &t->state;
    if (t->o->keep_checkpoints > 0)
        SC_TRY(save_checkpoint(t));
    if (s->best_step > 0 && s->best_step != s->step)
        SC_TRY(checkpoint_load_weights(t->o->out, s->best_step, t->model, &t->weights));
    SC_TRY(t->full ? model_save(t->model, t->o->out, model_file_dtype(t->model), t->o->shard_bytes)
                   : model_lora_save(t->model, t->o->out));
    SC_TRY(write_record(t));
    if (t->o->keep_checkpoints == 0)
        SC_TRY(checkpoint_remove_all(t->o->out));
cleanup:
    return status;
}

static void fill_result(const trainer *t, sc_train_result *r)
{
    r->n_steps = t->state.step;
    r->n_examples = t->training.n;
    r->n_cut = t->rows.n_cut + t->held_rows.n_cut;
    r->n_tokens = t->state.n_tokens;
    r->n_supervised = t->state.n_supervised;
    r->first_loss = t->state.first_loss;
    r->last_loss = t->state.last_loss;
    r->n_validation = t->held.n;
    r->best_step = t->held.n > 0 ? t->state.best_step : t->state.step;
    r->best_loss = t->state.best_loss;
    r->stopped_early = t->state.step < t->n_steps;
}

static void close_all(trainer *t)
{
    if (t->events >= 0)
        close(t->events);
    json_decref(t->settings);
    train_weights_close(t->model, &t->weights);
    train_data_close(t);
    tokenizer_close(t->tokenizer);
    model_close(t->model);
    device_close(t->device);
}

sc_status sc_train_plan(const sc_train_options *o, char **plan)
{
    sc_status status = SC_OK;
    trainer t = {.o = o, .events = -1};
    json_t *json = NULL;
    *plan = NULL;
    SC_TRY(train_check_options(o));
    t.full = strcmp(o->method, "full") == 0;
    SC_TRY(open_outline(&t));
    SC_TRY(train_plan_json(&t, &json));
    *plan = json_dumps(json, JSON_INDENT(2));
    if (*plan == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice for a plan"));
cleanup:
    json_decref(json);
    close_all(&t);
    return status;
}

sc_status sc_train(const sc_train_options *o, sc_train_result *result)
{
    sc_status status = SC_OK;
    trainer t = {.o = o, .events = -1};
    file_lock *lock = NULL;
    double start = seconds_now();

    memset(result, 0, sizeof(*result));
    SC_TRY(train_check_options(o));
    if (o->dry_run)
        return sc_fail(SC_USAGE, "dry-run: sc_train_plan says what a run would do");
    t.full = strcmp(o->method, "full") == 0;
    SC_TRY(file_make_dirs(o->out));
    SC_TRY(file_lock_take(o->out, &lock));
    SC_TRY(open_outline(&t));
    SC_TRY(train_check_memory(&t));
    SC_TRY(open_model(&t));
    SC_TRY(train_weights_open(t.model, t.full, &t.weights));
    t.settings = settings_of(&t);
    if (t.settings == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice"));
    SC_TRY(resume(&t));
    result->first_step = t.state.step;
    SC_TRY(train_events_open(&t));
    SC_TRY(device_measure_peak(t.device, 256, 5, 1, &t.peak_gflops));
    SC_TRY(loop(&t));
    SC_TRY(save_result(&t));
    fill_result(&t, result);
cleanup:
    result->seconds = seconds_now() - start;
    close_all(&t);
    file_lock_release(lock);
    return status;
}
