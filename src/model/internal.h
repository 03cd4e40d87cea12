/* What the files of src/model share: device buffers that grow, the buffers of one block, and the pass of
 * a batch through all blocks. */
#ifndef SC_MODEL_INTERNAL_H
#define SC_MODEL_INTERNAL_H

#include "formats/safetensors.h"
#include "model/model.h"

/* Device memory that grows to the largest need and is then reused. Growing loses what it held. */
typedef struct buffer {
    void *data;
    size_t size;
} buffer;
sc_status buffer_need(const model *m, buffer *b, size_t bytes);
void buffer_release(const model *m, buffer *b);
/* The buffer holds a copy of n host bytes afterwards. */
sc_status buffer_upload(const model *m, buffer *b, const void *host, size_t bytes);
/* count * size in bytes; SC_MEMORY if that is more than memory could ever be. */
sc_status byte_count(int64_t rows, int64_t cols, size_t size, size_t *out);

/* What one block reads and writes, all [n_tokens][...] on the device. Inference lays all blocks over the
 * same memory (x == x_mid == out); training gives each block its own. */
typedef struct block_buffers {
    void *x;                /* [dim] the residual stream that enters */
    void *h;                /* [dim] after the input norm */
    void *q, *k, *v;        /* [n_heads*head_dim], [n_kv_heads*head_dim] twice; q and k after rope */
    void *q_raw, *k_raw;    /* q and k before their norm: q and k themselves in inference, or without one */
    void *attention;        /* [n_heads*head_dim] */
    void *x_mid;            /* [dim] after attention's residual */
    void *h_mid;            /* [dim] after the second norm */
    void *attention_out;    /* [dim] before its norm; NULL without, as mlp_out */
    void *gate, *up, *glu;  /* [ffn_dim] */
    void *mlp_out;          /* [dim] */
    void *out;              /* [dim] the residual stream that leaves */
    float *rstd, *rstd_mid; /* [1], NULL in inference */
    float *rstd_q, *rstd_k; /* [n_heads], [n_kv_heads] */
    float *rstd_attention_out, *rstd_mlp_out; /* [1] */
    float *lse;                               /* [n_heads][n_tokens], NULL in inference */
    float *xa[N_LINEARS]; /* [max_rank] LoRA's inner activations, NULL without an adapter */
    void *pre[N_LINEARS]; /* [out] a linear's output before DoRA's magnitudes, NULL without them */
} block_buffers;

/* Token-addressed keys and values: row r of every layer belongs to one token. */
typedef struct kv_cache {
    void *arena;
    void **k, **v; /* [n_layers] in the arena: [capacity][n_kv_heads*head_dim] */
    int64_t capacity;
    int32_t *free_rows; /* a stack: the lowest row is on top at the start */
    int64_t n_free;
} kv_cache;
sc_status kv_cache_create(const model *m, int64_t capacity, kv_cache *out);
void kv_cache_destroy(const model *m, kv_cache *c);
/* Bytes of one row over all layers. */
int64_t kv_cache_row_bytes(const model *m);
/* n rows off the free list. The caller has made sure that there are as many. */
void kv_cache_take(kv_cache *c, int64_t n, int32_t *rows);
void kv_cache_give(kv_cache *c, int64_t n, const int32_t *rows);

/* One batch on its way through the blocks. */
typedef struct pass {
    model *m;
    int64_t n;                            /* tokens */
    const int32_t *ids, *positions;       /* device [n] */
    const attention_shape *packed;        /* set: tokens see their own sequence in this batch */
    const attention_cached_shape *cached; /* set: query i sees the cache rows listed for it */
    kv_cache *cache;                      /* set: keys and values of the batch go to cache rows ... */
    const int32_t *cache_rows;            /* ... device [n] */
    const int32_t *shared_rows; /* and the first packed->n_shared tokens go to these as well: device */
    int64_t n_copies;           /* [n_copies][n_shared] */
    float dropout;              /* of the adapter's input; 0 outside training */
    uint64_t seed;
    const uint64_t *row_keys; /* device [n] or NULL */
    uint32_t step;
} pass;

/* The dropout masks of two layers must not be the same: the operation knows (seed, row, step) only, so the
 * layer's place goes into the seed (the odd multiplier of splitmix64 spreads it over all bits). */
static inline uint64_t dropout_seed(const pass *p, int32_t layer, linear l)
{
    return p->seed ^ ((uint64_t)layer * N_LINEARS + (uint64_t)l + 1) * 0x9e3779b97f4a7c15u;
}

/* Memory that a model keeps between calls. */
typedef struct workspace {
    buffer ids, positions, cu_seqlens, row_keys, cache_rows, shared_rows, kv_rows,
        kv_offsets;                                               /* of the batch */
    buffer activations;                                           /* the block buffers */
    buffer hidden;                                                /* model_forward's result */
    buffer scratch;                                               /* of the operations */
    buffer rows, gathered, logits, logits_model, ids_out, losses; /* of the head */
    buffer gradients;                                             /* of activations, in training */
} workspace;

typedef struct model_storage {
    safetensors *files; /* mappings, while weights lie in them; else NULL */
    void *owned;        /* one device block with the weights that do not */
    float *grads;       /* one block with every parameter's gradient */
    int64_t n_grads;
    dtype file_type;                   /* BF16 if every tensor of the files is, else F32 */
    bool writable;                     /* no weight lies in a read-only mapping */
    int64_t mapped_bytes, owned_bytes; /* of the weights, as they are opened */
    workspace ws;
} model_storage;

static inline model_storage *storage_of(const model *m)
{
    return (model_storage *)m->storage;
}
static inline const ops *ops_of(const model *m)
{
    return m->device->ops;
}

/* Checks a batch of host ids (range, cu_seqlens) and puts ids, positions and cu_seqlens on the device. */
sc_status pass_begin(model *m, const packed_batch *batch, pass *p, attention_shape *shape);
/* Bytes of the block buffers, and their places inside one allocation. */
sc_status block_layout(const model *m, int64_t n, bool training, size_t *bytes);
void block_place(const model *m, int64_t n, bool training, void *memory, block_buffers *out);
/* Scratch for every operation of a pass, forward or (training) both ways. */
size_t pass_scratch_bytes(const pass *p, bool training);
sc_status pass_scratch(const pass *p, bool training);
sc_status pass_embed(const pass *p, void *x);
/* What embeddings are multiplied by: 1, or sqrt(dim) as the weights' type has it. */
float embedding_scale(const model *m);
/* Sets of rotary frequencies, and a layer's own. */
static inline int32_t rope_sets(const model_config *c)
{
    return c->rope_theta_sliding > 0 ? 2 : 1;
}
static inline const float *layer_inv_freq(const model *m, int32_t layer)
{
    const bool own = m->config.slides[layer] && rope_sets(&m->config) > 1;
    return m->inv_freq + (own ? m->config.head_dim / 2 : 0);
}
/* Tokens that a token sees in a layer, itself among them; 0: all before it. */
static inline int64_t layer_window(const model_config *c, int32_t layer)
{
    return c->slides[layer] ? c->window : 0;
}
sc_status block_forward(const pass *p, int32_t layer, const block_buffers *b);
/* Forward through all blocks in inference buffers, then the final norm of the rows listed (device; NULL:
 * all): *hidden [n_rows or n][dim]. */
sc_status pass_hidden(const pass *p, const int32_t *rows, int64_t n_rows, void **hidden);
/* logits [n][vocab] float of n hidden rows that lie one after the other. */
sc_status head_logits(model *m, const void *hidden, int64_t n, float **logits);

/* Training: rows of a batch that are supervised, and their targets. */
typedef struct supervised {
    int32_t *rows, *targets; /* host [n] */
    int64_t n;
} supervised;
enum { LOSS_ROWS = 256 }; /* that have logits at a time */
sc_status supervised_find(const model *m, const packed_batch *batch, const int32_t *targets, supervised *s);
void supervised_free(supervised *s);
/* Losses of the supervised rows of x, the last block's output; dx becomes the gradient of the scaled sum. */
sc_status head_backward(const pass *p, const void *x, void *dx, const supervised *s, float scale,
                        double *loss_sum, float *losses);
/* Bytes of a training pass: of one block's activations, of one array [n][dim], of all that is kept; and of the
 * gradients of activations. */
sc_status activation_bytes(const model *m, int64_t n, size_t *block, size_t *residual, size_t *total);
sc_status gradient_bytes(const model *m, int64_t n, size_t *total);
int64_t widest_output(const model_config *c); /* of a block's linear layers */

/* Generation's two forwards. Prompts, packed: keys and values go to cache_rows (host [cu[n_seqs]]), *hidden [n_seqs][dim]
 * are the last tokens' states after the final norm. Tokens that all prompts begin with are computed once. */
sc_status cached_prefill(model *m, kv_cache *cache, const int32_t *ids, const int32_t *cu, int64_t n_seqs,
                         const int32_t *cache_rows, void **hidden);
/* One new token a query (host arrays): token i goes to cache row new_rows[i] and sees the rows kv_rows
 * [kv_offsets[i] .. kv_offsets[i+1]), in order of position, its own last; *hidden [n][dim] after the final norm. */
typedef struct cached_step {
    const int32_t *ids, *positions, *new_rows, *kv_rows;
    const int64_t *kv_offsets;
    int64_t n;
} cached_step;
sc_status cached_decode(model *m, kv_cache *cache, const cached_step *step, void **hidden);

/* identity.c: finds the SHA-256 of the weight files (model.h) in a thread; `files` stay open until identity_end, which waits for
 * it. The latter takes a NULL in either place. */
typedef struct identity identity;
sc_status identity_begin(const safetensors *files, identity **out);
sc_status identity_end(identity **which, char sha256[65]);

/* A model on a device that has no config and no weights yet; `from` is what messages call it. */
sc_status weights_begin(const char *from, device *d, model **out);
/* The list of parameters, by the config: names and shapes, no values yet. */
sc_status weights_list(model *m);
/* Bytes of a parameter's place in a block of all. */
size_t weights_place_bytes(const model *m, const parameter *p);
sc_status weights_inv_freq(model *m);
/* Puts all weights into memory of the model's own, so that they can be changed. */
sc_status weights_make_writable(model *m);
void lora_destroy(model *m);

#endif
