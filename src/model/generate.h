/* Generation with a KV cache: free (greedy or sampled) in batches, and constrained by a trie. */
#ifndef SC_MODEL_GENERATE_H
#define SC_MODEL_GENERATE_H

#include "base/log.h"
#include "model/model.h"

typedef struct generated {
    int32_t *ids; /* without the end token */
    int64_t n;
    float *logprobs; /* [n] among all tokens, at temperature 1, after the penalty; NULL unless asked for */
    bool stopped;    /* true: an end token ("stop"); false: max_tokens ("length") */
} generated;
void generated_free(generated *rows, size_t n);

typedef struct generate_options {
    int64_t max_tokens;
    float temperature, top_p;
    uint64_t seed;
    const int32_t *stop_ids; /* besides the model's end tokens */
    size_t n_stop_ids;
    int64_t max_live; /* rows decoded at once; 0: 64 */
    int32_t top_k;    /* 0: all */
    float min_p;      /* 0: all */
    float penalty;    /* on tokens of the prompt and the row (penalise_rows); 0 or 1: none */
    bool logprobs;    /* fills them */
    /* Whether a row ends behind its newest token, or NULL. */
    bool (*ends)(void *context, size_t row, const generated *so_far);
    void *context;
} generate_options;

/* Row i goes on from prompt i (ids [cu[i] .. cu[i+1])). keys[i] keys its random numbers. A finished row gives
 * its place up; a row's greedy tokens do not depend on its neighbours in fp32. A row also ends ("length") where
 * the model's positions do. `p` (or NULL) advances by max_tokens a row, one for each token and
 * the rest when the row ends. */
sc_status generate(model *m, const int32_t *prompt_ids, const int64_t *cu, size_t n_rows,
                   const uint64_t *keys, const generate_options *options, generated *out, progress *p);

/* Log-probabilities of given tokens: of row i (ids [cu[i] .. cu[i+1])) those from its starts[i]-th on, one after the
 * other, rows in order. What rows that follow each other begin with alike is computed once. 1 <= starts[i]. `p` (or
 * NULL) advances by the tokens of a row. */
sc_status model_score(model *m, const int32_t *ids, const int64_t *cu, const int64_t *starts, size_t n_rows,
                      float *logprobs, progress *p);

/* A trie over token-id sequences; leaf value = the caller's index of the sequence. Of equal sequences the
 * lowest index that is not banned is offered. */
typedef struct trie trie;
sc_status trie_create(const int32_t *const *sequences, const int32_t *lengths, size_t n, trie **out);
void trie_free(trie *t);

typedef struct beam_result {
    int32_t value;  /* index of the sequence */
    double logprob; /* sum over its tokens and its end, in nats */
} beam_result;

/* Beam search over the trie for one prompt: the `want` best sequences by log-probability, in order,
 * all distinct; `banned` [n sequences] marks those not to be offered (NULL: none). A sequence ends
 * with `end_id` (the newline after a title). The prompt's keys are computed once and shared by all beams.
 * At least `want` are found if the trie holds them: a beam runs wider when its candidates run out. */
sc_status generate_beam(model *m, const int32_t *prompt, int64_t n_prompt, const trie *t,
                        const uint8_t *banned, int32_t end_id, int64_t beams, int64_t want, beam_result *out,
                        int64_t *n_out);
/* The same for several prompts at once (ids [cu[i] .. cu[i+1])), whose decode steps share their forwards:
 * out [n_prompts][want], n_out [n_prompts], banned [n_prompts] pointers, each possibly NULL, or NULL. */
sc_status generate_beam_batch(model *m, const int32_t *prompt_ids, const int64_t *cu, size_t n_prompts,
                              const trie *t, const uint8_t *const *banned, int32_t end_id, int64_t beams,
                              int64_t want, beam_result *out, int64_t *n_out, progress *p);

#endif
