/* What the files of an adapter share: lora.c makes and merges it, lora_load.c and lora_save.c speak PEFT's files. */
#ifndef SC_MODEL_LORA_H
#define SC_MODEL_LORA_H

#include "model/internal.h"

enum { LORA_NAME_SIZE = 160 };

/* "model.layers.0.self_attn.q_proj": a parameter's name without ".weight". */
void lora_module_name(const parameter *w, char *out, size_t size);
/* PEFT's name of a tensor; part: "lora_A.weight", "lora_B.weight", "lora_magnitude_vector". */
void lora_tensor_name(const parameter *w, const char *part, char *out, size_t size);

/* An adapter without memory for its tensors and without layers; `where` opens the sentence of an error. */
sc_status lora_new(const model *m, const lora_options *options, const char *where, lora **out);
/* Adapts one linear layer; rank and alpha are its own. */
sc_status lora_adapt(lora *l, int32_t layer, linear k, int64_t rank, double alpha, const char *where);
/* Adapts every layer that `target` names as a module or as the end of one, or all for "all-linear"; how many. */
int64_t lora_adapt_named(const model *m, lora *l, const char *target);
/* Gives the adapter its memory and puts it in the place of the model's own. */
sc_status lora_attach(model *m, lora *l);
/* Frees an adapter that is not the model's own. */
void lora_discard(const model *m, lora *l);

/* The adapter that options, or the configuration in a folder, ask for, without memory for its tensors. */
sc_status lora_outline(const model *m, const lora_options *options, lora **out);
sc_status lora_outline_folder(const model *m, const char *folder, lora **out);

#endif
