/* Checkpoints of a training run: OUT/checkpoints/step-N/{state.safetensors, state.json}.
 *
 * A checkpoint is written into a folder of another name and renamed, so it is whole or absent; older ones are
 * removed only afterwards: the last `keep` stay, and the one that validation found best. state.json holds the
 * settings that the bits depend on. */
#ifndef SC_TRAIN_CHECKPOINT_H
#define SC_TRAIN_CHECKPOINT_H

#include <jansson.h>

#include "train/weights.h"

typedef struct checkpoint_state {
    int64_t step; /* steps done */
    double first_loss, last_loss;
    int64_t n_tokens, n_supervised;
    int64_t best_step; /* of the lowest validation loss; 0: none yet */
    double best_loss;
    int64_t n_worse;        /* validations since then */
    int64_t validated_step; /* of the last validation */
} checkpoint_state;

sc_status checkpoint_save(const char *out, const model *m, const train_weights *w,
                          const checkpoint_state *state, const json_t *settings, int64_t keep);

/* The newest whole checkpoint: *found = false if there is none. SC_CONFLICT with the differing keys if it was
 * made with other settings. */
sc_status checkpoint_load(const char *out, model *m, train_weights *w, const json_t *settings,
                          checkpoint_state *state, bool *found);

/* The weights of one step's checkpoint, without its settings and counts. */
sc_status checkpoint_load_weights(const char *out, int64_t step, model *m, train_weights *w);

/* Removes OUT/checkpoints. */
sc_status checkpoint_remove_all(const char *out);

#endif
