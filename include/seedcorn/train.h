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
    const char *model;        /* base model folder */
    const char *dialogues;    /* dialogues.jsonl (messages); the loss is on the assistant's words */
    const char *out;          /* adapter or model folder; checkpoints in out/checkpoints/ */
    const char *method;       /* "lora" (default) or "full" */
    int64_t epochs;           /* 3 */
    int64_t batch_size;       /* 32 dialogues an optimizer step */
    int64_t micro_batch;      /* dialogues packed into one forward pass; 0: auto */
    int64_t max_tokens;       /* 1024 a dialogue; longer ones are cut at a message boundary, counted */
    double lr;                /* 0: auto, 2e-4 for lora and 5e-5 for full */
    const char *schedule;     /* after the warm-up: "constant", "linear" (default), "cosine" */
    int64_t warmup_steps;     /* -1: auto, a tenth of the steps */
    double weight_decay;      /* 0 */
    double beta1, beta2, eps; /* 0.9, 0.999, 1e-8 */
    double clip_norm;         /* 1; 0: none */
    bool shuffle;             /* true; --no-shuffle */
    int64_t rank;             /* 16 */
    double alpha;             /* 32: scaling = alpha / rank */
    const char *targets;      /* "all-linear", or a list "q_proj,v_proj" */
    double dropout;           /* 0: on the adapter's input, keyed by (seed, row, step) */
    const char *init_adapter; /* PEFT folder to go on from, or NULL */
    int64_t save_every;       /* steps between checkpoints; 0: auto, about every minute of work */
    const char *resume;       /* "auto" (default), "never", "always" */
} sc_train_options;

typedef struct sc_train_result {
    int64_t n_steps, n_examples, n_cut, n_tokens, n_supervised;
    int64_t first_step;           /* the step this call began with: >0 after a resume */
    double first_loss, last_loss; /* nats per supervised token, mean of a step */
    double seconds;
} sc_train_result;

typedef struct sc_merge_options {
    size_t struct_size;
    sc_common common;
    const char *model;
    const char *adapter;
    const char *out;
} sc_merge_options;

SC_API sc_train_options sc_train_default(void);
SC_API sc_merge_options sc_merge_default(void);

/* SC_BAD_INPUT: no supervised token in a dialogue (named), a loss that is not finite (step and
 * row named; the last checkpoint is kept). SC_CONFLICT: a checkpoint of other settings, with the
 * keys that differ. A resumed run ends with the same bytes as an uninterrupted one. */
SC_API sc_status sc_train(const sc_train_options *options, sc_train_result *result);

/* W + scaling B A in float32, rounded once to the dtype of the base model's file. */
SC_API sc_status sc_merge(const sc_merge_options *options);

#ifdef __cplusplus
}
#endif
#endif
