/* What the files of a training run share. trainer.c is the loop; data.c what it reads, example.c what it shows
 * first, plan.c the memory before the start, validation.c what is held back, events.c the log. */
#ifndef SC_TRAIN_TRAINER_H
#define SC_TRAIN_TRAINER_H

#include "seedcorn/train.h"
#include "train/checkpoint.h"
#include "train/pack.h"
#include "train/schedule.h"

/* A micro-batch of --micro-batch 0 holds about this many tokens: enough for full speed, 2.9 GB for SmolLM2-135M
 * in float32. */
enum { AUTO_BATCH_TOKENS = 2048 };

/* Dialogues as rows; of a held-back share, too, which points into the same rows. */
typedef struct example_set {
    const train_rows *rows;
    const dialogues *dialogues;
    int64_t *list; /* [n] which rows */
    int64_t n;
} example_set;

typedef struct trainer {
    const sc_train_options *o;
    bool full;
    double lr;
    schedule_kind schedule;
    int64_t steps_per_epoch, n_steps, warmup_steps, validate_every;
    device *device;
    model *model; /* an outline until the plan is found to fit */
    tokenizer *tokenizer;
    dialogues dialogues, held_dialogues;
    train_rows rows, held_rows;
    example_set training, held;
    train_weights weights;
    train_batch batch;
    float *losses; /* [supervised tokens of the largest micro-batch] */
    size_t cap_losses;
    int64_t *order;              /* rows of the present epoch */
    int64_t order_epoch;         /* -1: none yet */
    int64_t *step_rows;          /* of a step, or all that are held back, as they are packed */
    size_t *ends;                /* as many: where the micro-batches end */
    char init_sha256[65];        /* of the adapter that is gone on from, or "" */
    char model_files_sha256[65]; /* beside the weights */
    json_t *settings;            /* what the bits depend on */
    checkpoint_state state;
    double peak_gflops; /* of a matrix product here; 0: not measured */
    int events;         /* file descriptor of OUT/events.jsonl */
} trainer;

sc_status train_check_options(const sc_train_options *o);

/* data.c: dialogues to rows and their split, steps and their order. t->model is an outline or open. */
sc_status train_data_open(trainer *t);
void train_data_close(trainer *t);
void train_order_rows(trainer *t, int64_t epoch);
/* t->step_rows[0..n) into micro-batches, t->ends[0..*n_batches); the rows may be rearranged. */
sc_status train_pack_rows(const trainer *t, const train_rows *rows, size_t n, size_t *n_batches);
/* The most that a micro-batch can hold, and one of validation. */
sc_status train_largest_batch(const trainer *t, memory_task *task);

/* split.c: which dialogues are held back. Those grown from one seed stay together, or validation would see what was
 * trained on. */
sc_status train_split(const dialogues *d, double share, uint64_t seed, example_set *training,
                      example_set *held);

/* example.c: the first example and what is learnt of it, as messages. */
sc_status train_show_example(const trainer *t);

/* plan.c: what the run will hold; SC_MEMORY with what would help where it does not fit. */
sc_status train_check_memory(trainer *t);
sc_status train_plan_json(trainer *t, json_t **plan);
lora_options train_adapter_options(const sc_train_options *o);

/* validation.c: nats per supervised token on what is held back. */
sc_status train_validate(trainer *t, double *loss);

/* events.c */
typedef struct step_report {
    double loss, norm, rate, seconds;
    double operations; /* of forward and backward passes, recomputation not counted */
    int64_t tokens, supervised;
} step_report;
sc_status train_events_open(trainer *t);
sc_status train_event_step(const trainer *t, int64_t step, const step_report *r);
sc_status train_event_validation(const trainer *t, int64_t step, double loss, double seconds);

#endif
