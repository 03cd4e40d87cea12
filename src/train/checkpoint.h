/* Checkpoints of a training run: OUT/checkpoints/step-N/{state.safetensors, state.json}.
 *
 * A checkpoint is written into a folder of another name and renamed, so it is whole or absent; the
 * one before it is removed only afterwards. state.json holds the settings that the bits depend on. */
#ifndef SC_TRAIN_CHECKPOINT_H
#define SC_TRAIN_CHECKPOINT_H

#include <jansson.h>

#include "train/weights.h"

typedef struct checkpoint_state {
    int64_t step; /* steps done */
    double first_loss, last_loss;
    int64_t n_tokens, n_supervised;
} checkpoint_state;

sc_status checkpoint_save(const char *out, const model *m, const train_weights *w,
                          const checkpoint_state *state, const json_t *settings);

/* The newest whole checkpoint: *found = false if there is none. SC_CONFLICT with the differing keys if it was
 * made with other settings. */
sc_status checkpoint_load(const char *out, const model *m, train_weights *w, const json_t *settings,
                          checkpoint_state *state, bool *found);

/* Removes OUT/checkpoints. */
sc_status checkpoint_remove_all(const char *out);

#endif
