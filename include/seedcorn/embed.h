/* embed: texts + model -> embeddings.npy (float32 [n_rows][dim], row i = line i of the input). */
#ifndef SEEDCORN_EMBED_H
#define SEEDCORN_EMBED_H

#include "seedcorn/common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sc_embed_options {
    size_t struct_size;
    sc_common common;
    const char *data;      /* dataset folder */
    const char *model;     /* model folder (Hugging Face layout) */
    const char *adapter;   /* PEFT adapter folder, or NULL */
    const char *out;       /* embeddings.npy; embeddings.json is written beside it */
    const char *text;      /* "review" (default), "item" (line i of items.jsonl), "both" */
    const char *pooling;   /* "mean" (default; padding never enters), "last", or "nll": one number
                              a text, the mean -log p of its tokens from the second on */
    const char *normalize; /* "none" (default) or "unit" */
    int64_t layer;         /* -1 (default): after the final norm; 0: the embeddings; k: after block k */
    int64_t max_tokens;    /* 256: longer texts are cut, and counted in embeddings.json */
} sc_embed_options;

typedef struct sc_embed_result {
    int64_t n_rows, dim;
    int64_t n_tokens;  /* tokens that went through the model */
    int64_t n_cut;     /* texts cut at max_tokens */
    int64_t n_resumed; /* rows that an earlier, interrupted call had finished */
    double seconds;
} sc_embed_result;

SC_API sc_embed_options sc_embed_default(void);

/* SC_BAD_INPUT: absent or malformed data or model, an empty data set, a NaN in the result.
 * SC_CONFLICT: a partial result of other settings is in the way. Resumes after an interruption. */
SC_API sc_status sc_embed(const sc_embed_options *options, sc_embed_result *result);

#ifdef __cplusplus
}
#endif
#endif
