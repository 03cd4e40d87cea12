/* What an optimizer step changes: the float master weights, their gradients and moments, as one list
 * for an adapter and for full fine-tuning. */
#ifndef SC_TRAIN_WEIGHTS_H
#define SC_TRAIN_WEIGHTS_H

#include "model/model.h"

typedef struct train_tensor {
    char name[112];
    float *master;      /* the weight itself where the model is float32 */
    void *weights_bf16; /* the model's rounded copy, or NULL */
    float *grad;
    float *m, *v; /* first and second moment */
    int64_t n;
} train_tensor;

typedef struct train_weights {
    train_tensor *tensors;
    size_t n;
    void *storage;    /* moments, and masters of a bf16 model: one device block */
    int64_t n_values; /* over all tensors */
} train_weights;

/* After model_lora_create/_load (full = false) or model_grads_create (full = true). Moments start at 0. */
sc_status train_weights_open(model *m, bool full, train_weights *out);
void train_weights_close(model *m, train_weights *w);

/* Euclidean norm of all gradients. */
sc_status train_weights_norm(const model *m, const train_weights *w, double *norm);
/* One step with the gradients times options->grad_scale. `coupled`: the decay is part of the gradient, weight_decay
 * times the weight, as in Adam with L2 (Kingma & Ba 2015); else it is apart from it (AdamW). */
sc_status train_weights_step(model *m, train_weights *w, const adamw_options *options, bool coupled);

#endif
