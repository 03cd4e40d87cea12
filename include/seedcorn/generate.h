/* generate: model + conversations -> replies, and how likely given replies are. */
#ifndef SEEDCORN_GENERATE_H
#define SEEDCORN_GENERATE_H

#include <stdbool.h>
#include <stddef.h>

#include "seedcorn/common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sc_generate_options {
    size_t struct_size;
    sc_common common;
    const char *model;         /* folder (Hugging Face layout) */
    const char *adapter;       /* PEFT folder, or NULL */
    int64_t max_tokens;        /* 256 new tokens at most */
    double temperature;        /* 0 (default): greedy */
    int64_t top_k;             /* 0 (default): all; else of the k most probable tokens */
    double top_p;              /* 1: all; else of the fewest that have this share (Holtzman et al. 2020) */
    double min_p;              /* 0: all; else of those at least so many times as probable as the first */
    double repetition_penalty; /* 1: none (Keskar et al. 2019; as transformers, the prompt's tokens count) */
    const char *const *stop;   /* texts that end a reply and are no part of it; NULL-terminated, or NULL */
    int64_t batch;             /* rows decoded at once; 0: 64, which is the most in sc_generate */
    const char *dialogues; /* sc_generate: a line a conversation, {"id", "messages": [{"role", "content"}]} */
    const char *out;       /* sc_generate: a line a reply */
    bool score;            /* sc_generate: log-probabilities of the assistant's last messages instead */
} sc_generate_options;

SC_API sc_generate_options sc_generate_default(void);

/* --- in memory ------------------------------------------------------------------------------------ */

typedef struct sc_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
} sc_message;
typedef struct sc_conversation {
    const sc_message *messages;
    size_t n;
} sc_conversation;

typedef struct sc_reply {
    char *text;       /* UTF-8, terminated; without what ended it */
    int64_t n_prompt; /* tokens read */
    int64_t n_tokens; /* tokens said, those of a stop text among them */
    bool stopped;     /* by the model's end token or a stop text; false: max_tokens or no positions left */
    double logprob;   /* of these tokens, in nats, among all tokens at temperature 1 (after the penalty) */
} sc_reply;

/* A model that stays open. One call at a time. */
typedef struct sc_generator sc_generator;
SC_API sc_status sc_generator_open(const sc_generate_options *options, sc_generator **out);
/* replies[i] answers conversations[i], whose last message is not the assistant's. Row i of a call draws the same numbers
 * whatever the other rows are, and in every call: a conversation given several times in one call has several samples.
 * SC_BAD_INPUT: an unknown role, a conversation longer than the model's positions. */
SC_API sc_status sc_generator_reply(sc_generator *g, const sc_conversation *conversations, size_t n,
                                    sc_reply *replies);
SC_API void sc_replies_free(sc_reply *replies, size_t n);
/* The log-probability, in nats, of the assistant's last message and its end given all before it; n_tokens[i] (or NULL)
 * says of how many tokens. What conversations that follow each other begin with alike is computed once. */
SC_API sc_status sc_generator_score(sc_generator *g, const sc_conversation *conversations, size_t n,
                                    double *logprobs, int64_t *n_tokens);
SC_API void sc_generator_close(sc_generator *g); /* NULL is fine */

/* --- file to file --------------------------------------------------------------------------------- */

typedef struct sc_generate_result {
    int64_t n_rows, n_resumed;
    int64_t prompt_tokens, new_tokens; /* read; said, or scored */
    double logprob;                    /* of all replies, a token */
    double seconds;                    /* of this call, for the n_rows - n_resumed rows that were left */
} sc_generate_result;

/* dialogues -> out: {"id", "text", "finish_reason", "n_tokens", "logprob"}, or with score {"id", "n_tokens",
 * "logprob"}. Rows are worked off in groups of 64 that are journaled whole, so a restart repeats none of them. */
SC_API sc_status sc_generate(const sc_generate_options *options, sc_generate_result *result);

#ifdef __cplusplus
}
#endif
#endif
