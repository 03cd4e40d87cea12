/* train: dialogues + base model -> a PEFT adapter (lora) or a Hugging Face model folder (full).
 * merge: base model + adapter -> a Hugging Face model folder. */
#ifndef SEEDCORN_TRAIN_H
#define SEEDCORN_TRAIN_H

#include <stdbool.h>

#include "seedcorn/common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sc_train_options {
    size_t struct_size;
    sc_common common;
    const char *model;     /* base model folder */
    const char *dialogues; /* dialogues.jsonl (messages); the loss is on the assistant's words */
    const char *out;       /* adapter or model folder; checkpoints in out/checkpoints/ */
    const char *method;    /* "lora" (default) or "full" */
    int64_t epochs;        /* 3 */
    int64_t batch_size;    /* 32 dialogues an optimizer step */
    int64_t micro_batch;   /* dialogues packed into one forward pass; 0: auto */
    int64_t max_tokens;    /* 1024 a dialogue; longer ones are cut at a message boundary, counted */
    double lr;             /* 0: auto, 2e-4 for lora and 5e-5 for full */
    const char *schedule;  /* after the warm-up: "constant", "linear" (default), "cosine" */
    int64_t warmup_steps;  /* -1: auto, a tenth of the steps */
    const char *optimizer; /* "adamw" (default): decay apart from the gradient; "adam": in it, as the paper */
    double weight_decay;   /* 0 */
    double beta1, beta2, eps; /* 0.9, 0.999, 1e-8 */
    double clip_norm;         /* 1; 0: none */
    bool shuffle;             /* true; --no-shuffle */
    bool recompute;           /* false; true: less memory, a forward pass more; the same bits */
    int64_t rank;             /* 16 */
    double alpha;             /* 32: scaling = alpha / rank, or alpha / sqrt(rank) with rslora */
    bool rslora;              /* scaling = alpha / sqrt(rank) */
    bool dora;                /* a magnitude for each output of an adapted layer */
    const char *targets;      /* "all-linear", or a list "q_proj,v_proj" */
    double dropout;           /* 0: on the adapter's input, keyed by (seed, row, step) */
    const char *init_adapter; /* PEFT folder to go on from, with its own rank, alpha and targets, or NULL */
    const char *validation;   /* dialogues.jsonl that are not trained on, or NULL */
    double validation_share;  /* 0: none; this share of the dialogues is held back instead */
    int64_t validate_every;   /* steps; 0: at the end of every epoch */
    int64_t patience;         /* stop after so many validations without a new best; 0: never */
    int64_t save_every;       /* steps between checkpoints; 0: auto, about every minute of work */
    int64_t keep_checkpoints; /* 0: one and the best, while the run lasts; N: the last N and the best stay */
    const char *resume;       /* "auto" (default), "never", "always" */
    int64_t shard_bytes;      /* 0: model files of at most 5 GB */
    bool dry_run;             /* for the command line: sc_train_plan instead of sc_train */
} sc_train_options;

typedef struct sc_train_result {
    int64_t n_steps, n_examples, n_tokens, n_supervised;
    int64_t n_cut;                /* dialogues cut at max_tokens, held back ones among them */
    int64_t first_step;           /* the step this call began with: >0 after a resume */
    double first_loss, last_loss; /* nats per supervised token, mean of a step */
    int64_t n_validation;         /* dialogues held back */
    int64_t best_step;            /* whose weights were written; the last one without validation */
    double best_loss;             /* on what was held back; 0 without validation */
    bool stopped_early;           /* patience ran out; n_steps are those done */
    double seconds;
} sc_train_result;

typedef struct sc_merge_options {
    size_t struct_size;
    sc_common common;
    const char *model;
    const char *adapter;
    const char *out;
    int64_t shard_bytes; /* 0: model files of at most 5 GB */
} sc_merge_options;

typedef struct sc_merge_result {
    bool rounded;                 /* to bf16, as the base model's file is; else the rest is 0 */
    int64_t n_compared;           /* tokens of a fixed text */
    double largest_logit_change;  /* that rounding made, over all words */
    double largest_logit;         /* in size, beside it */
    int64_t n_first_words_differ; /* tokens whose likeliest next word is another one */
} sc_merge_result;

SC_API sc_train_options sc_train_default(void);
SC_API sc_merge_options sc_merge_default(void);

/* SC_BAD_INPUT: no supervised token in a dialogue (named), a loss that is not finite (step and
 * row named; the last checkpoint is kept). SC_CONFLICT: a checkpoint of other settings, with the
 * keys that differ. SC_MEMORY, before anything is allocated: the plan does not fit, with settings that would.
 * A resumed run ends with the same bytes as an uninterrupted one. */
SC_API sc_status sc_train(const sc_train_options *options, sc_train_result *result);

/* What sc_train would do and hold in memory, as JSON (docs/training.md), to be freed with free(). Nothing is
 * written. */
SC_API sc_status sc_train_plan(const sc_train_options *options, char **plan);

/* W + scaling B A in float32, its rows scaled by the magnitudes of DoRA, rounded once to the dtype of the base
 * model's file. */
SC_API sc_status sc_merge(const sc_merge_options *options, sc_merge_result *result);

#ifdef __cplusplus
}
#endif
#endif
