/* The defaults of a training run, and their limits. */
#include <math.h>
#include <string.h>

#include "train/trainer.h"

/* The most epochs and dialogues a step, so that their products stay in range. */
enum { COUNT_LIMIT = 1000000000 };

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
                              .optimizer = "adamw",
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

static sc_status check_validation(const sc_train_options *o)
{
    const bool held = o->validation != NULL || o->validation_share > 0;
    if (!(o->validation_share >= 0 && o->validation_share < 1))
        return sc_fail(SC_USAGE, "validation-share lies in 0..1 (below 1)");
    if (o->validation != NULL && o->validation_share > 0)
        return sc_fail(SC_USAGE, "give validation, a file, or validation-share, not both");
    if (o->validate_every < 0 || o->patience < 0)
        return sc_fail(SC_USAGE, "validate-every and patience must not be negative");
    if (!held && (o->validate_every > 0 || o->patience > 0))
        return sc_fail(SC_USAGE,
                       "validate-every and patience need --validation FILE or --validation-share S");
    if (o->keep_checkpoints < 0)
        return sc_fail(SC_USAGE, "keep-checkpoints must not be negative");
    return SC_OK;
}

static sc_status check_adapter(const sc_train_options *o)
{
    const bool full = strcmp(o->method, "full") == 0;
    if (!isfinite(o->alpha))
        return sc_fail(SC_USAGE, "alpha must be a number");
    if (o->rank < 1 || o->rank > 4096)
        return sc_fail(SC_USAGE, "rank lies in 1..4096");
    if (!(o->dropout >= 0 && o->dropout < 1))
        return sc_fail(SC_USAGE, "dropout lies in 0..1 (below 1)");
    if (full && (o->dora || o->rslora))
        return sc_fail(SC_USAGE, "dora and rslora go with method lora");
    if (full && o->init_adapter != NULL)
        return sc_fail(SC_USAGE,
                       "init-adapter goes with method lora; merge the adapter first to train in full");
    if (o->init_adapter != NULL && (o->dora || o->rslora))
        return sc_fail(SC_USAGE, "dora and rslora are those of the init-adapter; leave them away");
    return SC_OK;
}

sc_status train_check_options(const sc_train_options *o)
{
    schedule_kind schedule;
    sc_status status = SC_OK;
    if (strcmp(o->method, "lora") != 0 && strcmp(o->method, "full") != 0)
        return sc_fail(SC_USAGE, "method is lora or full, not '%s'", o->method);
    if (o->epochs < 1 || o->batch_size < 1 || o->epochs > COUNT_LIMIT || o->batch_size > COUNT_LIMIT)
        return sc_fail(SC_USAGE, "epochs and batch-size lie in 1..%d", COUNT_LIMIT);
    if (o->micro_batch < 0 || o->save_every < 0 || o->warmup_steps < -1 || o->shard_bytes < 0)
        return sc_fail(SC_USAGE, "micro-batch, save-every and shard-bytes must not be negative, nor "
                                 "warmup-steps below -1");
    if (o->max_tokens < 8)
        return sc_fail(SC_USAGE, "max-tokens must be at least 8");
    if (!(o->lr >= 0) || !(o->weight_decay >= 0) || !(o->clip_norm >= 0) || isinf(o->lr))
        return sc_fail(SC_USAGE, "lr, weight-decay and clip-norm must not be negative");
    if (strcmp(o->optimizer, "adamw") != 0 && strcmp(o->optimizer, "adam") != 0)
        return sc_fail(SC_USAGE, "optimizer is adamw or adam, not '%s'", o->optimizer);
    if (!(o->beta1 >= 0 && o->beta1 < 1) || !(o->beta2 >= 0 && o->beta2 < 1) || !(o->eps > 0))
        return sc_fail(SC_USAGE, "beta1 and beta2 lie in 0..1 (below 1), eps is above 0");
    if (strcmp(o->resume, "auto") != 0 && strcmp(o->resume, "never") != 0 && strcmp(o->resume, "always") != 0)
        return sc_fail(SC_USAGE, "resume is auto, never or always, not '%s'", o->resume);
    SC_TRY(schedule_parse(o->schedule, &schedule));
    SC_TRY(check_adapter(o));
    SC_TRY(check_validation(o));
cleanup:
    return status;
}
