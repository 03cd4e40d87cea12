/* Decoder-only models of the Llama family and its relatives (Qwen2, Qwen3, Gemma-2, Gemma-3), written once against device/ops.h:
 * config.json is read into a few features of a block, and what computes follows the features, not the names of models.
 *
 * A model is opened from a Hugging Face folder (config.json, *.safetensors, tokenizer.json). Weights
 * are mapped from the file and used in place where the dtype is the file's own; else converted once.
 * All row counts are tokens of a packed batch (cu_seqlens), never padded.
 */
#ifndef SC_MODEL_MODEL_H
#define SC_MODEL_MODEL_H

#include "device/device.h"
#include "text/tokenizer.h"

enum { MODEL_LAYERS_MOST = 4096 };
typedef struct model_config {
    char architecture[64]; /* "LlamaForCausalLM" */
    int32_t n_layers, dim, ffn_dim, n_heads, n_kv_heads, head_dim, vocab_size, max_positions;
    float norm_eps;
    double rope_theta;
    double rope_theta_sliding; /* of layers that slide (Gemma-3); 0: as of the others */
    bool rope_llama3;          /* llama3 frequency scaling: factor, low, high, original length */
    double rope_factor, rope_low, rope_high, rope_original;
    bool tied; /* lm_head is the embedding */
    activation act;
    /* What some families have beside Llama's block. */
    bool qkv_bias;         /* q, k and v have biases (Qwen2) */
    bool qk_norm;          /* each head of q and k is normed before rope (Qwen3, Gemma-3) */
    bool branch_norms;     /* what attention and the MLP give is normed before the residual (Gemma) */
    float norm_shift;      /* norms multiply by this + w: 1 in Gemma, else 0 */
    bool scaled_embedding; /* embeddings times sqrt(dim), rounded to the weights' dtype (Gemma) */
    float attention_scale; /* of scores: head_dim^-0.5, in Gemma query_pre_attn_scalar^-0.5 */
    /* Soft caps, cap * tanh(x / cap), of scores and of logits (Gemma-2); 0: none. */
    float attention_cap, logit_cap;
    int32_t window; /* tokens that one sees in layers that slide, itself among them */
    bool slides[MODEL_LAYERS_MOST];
    int32_t bos_id; /* -1: none */
    int32_t pad_id; /* -1: none; transformers' padding_idx of the embedding */
    int32_t eos_ids[8];
    int32_t n_eos;
} model_config;
/* Reads config.json (transformers 4 and 5) and generation_config.json; names what is unsupported. */
sc_status model_config_read(const char *folder, model_config *out);
/* Of the config.json at `path` alone. */
sc_status model_config_read_file(const char *path, model_config *out);

/* The linear layers of a block, in this order everywhere. */
typedef enum linear {
    LINEAR_Q,
    LINEAR_K,
    LINEAR_V,
    LINEAR_O,
    LINEAR_GATE,
    LINEAR_UP,
    LINEAR_DOWN,
    N_LINEARS
} linear;
const char *linear_name(linear l); /* "q_proj" ... */
void linear_shape(const model_config *c, linear l, int64_t *out, int64_t *in);

/* One weight: value on the device, and in training its gradient (float, same shape). */
typedef struct parameter {
    char name[96];      /* Hugging Face name, "model.layers.0.self_attn.q_proj.weight" */
    void *value;        /* model->dtype; norms too */
    float *grad;        /* NULL unless trained */
    int64_t rows, cols; /* cols = 1 for vectors */
} parameter;
bool parameter_is_bias(const parameter *p); /* the other vectors are weights of norms */

/* One adapted linear layer: A [rank][in], B [out][rank]; with DoRA the outputs' magnitude [out] and the length of
 * the rows of W + scaling B A, all float. rank 0: not adapted. */
typedef struct lora_layer {
    int32_t rank;
    float alpha, scaling; /* scaling = alpha / rank, or alpha / sqrt(rank) */
    float *a, *b, *da, *db;
    float *magnitude, *dmagnitude, *norm; /* NULL without DoRA */
} lora_layer;

typedef struct lora {
    int32_t rank;                  /* where no pattern says otherwise; so alpha and scaling */
    int32_t max_rank;              /* of all layers */
    float alpha, scaling, dropout; /* scaling as of a layer with this rank and alpha */
    bool rslora, dora;
    bool targets[N_LINEARS];
    lora_layer (*layers)[N_LINEARS]; /* [n_layers] */
    float *values,
        *grads; /* one block each: n_values floats, tensors in (layer, linear, A, B, magnitude) order */
    int64_t n_values;
    float *norms; /* one block with all norms, or NULL */
    int64_t n_norms;
} lora;

typedef struct model {
    model_config config;
    struct device *device;
    enum dtype dtype;
    char *folder;
    char sha256[65]; /* of the weight files' bytes: the model's identity in manifests */
    parameter
        *parameters; /* embedding, per layer: input norm, q,k,v,o, mid norm, gate,up,down; final norm; head */
    int64_t n_parameters; /* a tied head is not repeated */
    parameter *embedding, *final_norm, *head;
    struct model_layer {
        parameter *input_norm, *mid_norm, *linears[N_LINEARS]; /* mid_norm: before the MLP */
        parameter *biases[N_LINEARS];                          /* NULL where a linear layer has none */
        parameter *q_norm, *k_norm;                            /* of a head; NULL without */
        parameter *attention_out_norm, *mlp_out_norm;          /* of branches; NULL without */
    } * layers;
    struct lora *lora; /* the adapter in use, or NULL */
    bool recompute;    /* training keeps the blocks' inputs alone and forms the rest again on the way back */
    float *inv_freq;   /* [head_dim/2], and again of layers that slide where they have their own */
    void *storage;     /* mapping and converted copies */
} model;

sc_status model_open(const char *folder, device *d, model **out);
/* A model of the shapes in a config.json, whose weights are made here: normal with a standard deviation of 0.02, a function
 * of the seed alone; norms multiply by 1, biases are 0. No token ends a reply. For benchmarks, where the files are not at hand. */
sc_status model_open_random(const char *config_path, device *d, uint64_t seed, model **out);
void model_close(model *m);
/* SC_BAD_INPUT if the tokenizer knows ids for which the model has no rows. */
sc_status model_check_tokenizer(const model *m, const tokenizer *t);
/* BF16 if every tensor of the model's files is, else F32: what a merged model is written as. */
dtype model_file_dtype(const model *m);

/* Adapters. */
typedef struct lora_options {
    int32_t rank;
    double alpha, dropout;
    const char *targets; /* "all-linear" or "q_proj,v_proj,..." */
    uint64_t seed;       /* A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0, as PEFT */
    bool rslora;         /* scaling alpha / sqrt(rank) (Kalajdzievski 2023) */
    bool dora;           /* magnitudes beside A and B; they start as the lengths of W's rows */
} lora_options;
sc_status model_lora_create(model *m, const lora_options *options);
sc_status model_lora_load(model *m, const char *adapter_folder); /* PEFT files in */
/* An adapter's identity: of its tensors and of its configuration, which says how they are scaled. */
sc_status model_lora_sha256(const char *adapter_folder, char hex[65]);
sc_status model_lora_save(const model *m, const char *adapter_folder); /* PEFT files out, atomic per file */
/* To be called when A or B have changed: finds DoRA's lengths anew. Nothing to do for plain LoRA. */
sc_status model_lora_refresh(model *m);
/* Adds scaling B A to the weights in float32, and scales their rows by magnitude / length with DoRA; the adapter is
 * then gone. */
sc_status model_lora_merge(model *m);
/* Writes a Hugging Face folder: config, tokenizer files copied, weights as `file_type`, in several files where they
 * take more than shard_bytes (0: 5 GB, as transformers). */
sc_status model_save(const model *m, const char *folder, dtype file_type, int64_t shard_bytes);
/* What a model folder says beside its weights: of config.json, the end tokens, the tokenizer and the template. */
sc_status model_files_sha256(const char *folder, char hex[65]);
/* Whether that takes several files and an index. */
bool model_saves_shards(const model *m, dtype file_type, int64_t shard_bytes);

/* A packed batch of token ids (host memory). */
typedef struct packed_batch {
    const int32_t *ids;        /* [n_tokens] */
    const int32_t *positions;  /* [n_tokens] restart at 0 in each sequence; NULL: derived */
    const int32_t *cu_seqlens; /* [n_seqs + 1] */
    int64_t n_seqs, n_tokens;
    const uint64_t *row_keys; /* [n_tokens] for dropout, or NULL */
    uint32_t step;            /* for dropout */
    uint64_t seed;
} packed_batch;

/* Forward only: hidden [n_tokens][dim] (device, model dtype) after block `layer` (0: embeddings, -1: after the
 * final norm). Activations live in a workspace that grows once and is reused. */
sc_status model_forward(model *m, const packed_batch *batch, int32_t layer, void **hidden);
/* logits [n_rows][vocab] (device, float) of the hidden rows `rows` (host), computed by the head. */
sc_status model_logits(model *m, const void *hidden, const int32_t *rows, int64_t n_rows, float **logits);

/* Training: forward, loss over the supervised tokens, backward; adds to the gradients of the adapter
 * (m->lora) or of every parameter with grad != NULL. Token t predicts token t+1 of its sequence:
 * targets[t] = the next id, or -1 where unsupervised. The head runs on supervised rows only, in chunks.
 * loss_scale multiplies the gradient (1 / supervised tokens of the whole optimizer step). */
sc_status model_train_step(model *m, const packed_batch *batch, const int32_t *targets, float loss_scale,
                           double *loss_sum, float *losses /* [n_supervised] host or NULL */);
/* The loss alone, by the same head: validation. */
sc_status model_loss(model *m, const packed_batch *batch, const int32_t *targets, double *loss_sum,
                     float *losses /* [n_supervised] host or NULL */);
/* Gives every parameter a cleared gradient (full fine-tuning); model_grads_zero clears either kind. */
sc_status model_grads_create(model *m);
sc_status model_grads_zero(model *m);

/* Multiply-adds times two of one token: of all blocks, with attention over `context` keys, and of the head. */
double model_block_operations(const model_config *c, double context);
double model_head_operations(const model_config *c);

/* A model without its weights: config, names, shapes, and what the weights will take. It can be planned with and
 * closed, nothing else. */
sc_status model_outline(const char *folder, device *d, model **out);

/* What a training run holds in memory. */
typedef struct memory_batch { /* the most that one holds */
    int64_t n_tokens, n_seqs;
    int64_t longest; /* sequence */
    int64_t n_supervised;
} memory_batch;
typedef struct memory_task {
    bool full;                         /* else an adapter: */
    const char *init_adapter;          /* the one in this folder, or NULL */
    lora_options adapter;              /* else a new one */
    memory_batch training, validation; /* the latter of model_loss alone, or of no tokens */
} memory_task;
typedef struct model_memory { /* bytes */
    int64_t mapped;  /* weights used where they lie in the file: the system may drop and read them again */
    int64_t weights; /* of the model's own, in its dtype */
    int64_t adapter;
    int64_t gradients, moments, masters; /* of what is trained */
    int64_t activations, activation_gradients;
    int64_t scratch; /* of operations */
    int64_t head;    /* the loss: rows, and the logits of LOSS_ROWS of them */
    int64_t batch;
    int64_t n_trained; /* values, not bytes */
} model_memory;
/* `m` is an outline; m->recompute counts. Exact: the same arrays are allocated later. */
sc_status model_memory_plan(model *m, const memory_task *task, model_memory *out);

#endif
