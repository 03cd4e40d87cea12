/* recommend: model + dialogues -> replies.jsonl, one ranked list of titles a line. */
#ifndef SEEDCORN_RECOMMEND_H
#define SEEDCORN_RECOMMEND_H

#include <stdbool.h>

#include "seedcorn/common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sc_recommend_options {
    size_t struct_size;
    sc_common common;
    const char *model;     /* model folder */
    const char *adapter;   /* PEFT folder, or NULL */
    const char *dialogues; /* evaluation dialogues (no assistant message at the end) */
    const char *out;       /* replies.jsonl */
    const char *items;     /* items.jsonl or an entity list: the catalogue; needed by constrained */
    bool constrained;      /* beam search over a trie of the catalogue's titles: every list is 20
                                 distinct, existing, unseen titles */
    int64_t beams;         /* 25 */
    int64_t max_tokens;    /* 512 new tokens at most (free) */
    double temperature;    /* 0: greedy */
    double top_p;          /* 1 */
    int64_t batch;         /* rows decoded at once; 0: auto */
    const char *request;   /* one typed sentence instead of `dialogues`, or NULL */
    const char *domain;    /* "movie": the word in the prompt around `request` */
} sc_recommend_options;

typedef struct sc_recommend_result {
    int64_t n_rows, n_resumed;
    int64_t prompt_tokens, new_tokens;
    double seconds;
} sc_recommend_result;

SC_API sc_recommend_options sc_recommend_default(void);

/* Rows are worked off in groups of 64 that are journaled whole, so a restart repeats none of them. */
SC_API sc_status sc_recommend(const sc_recommend_options *options, sc_recommend_result *result);

#ifdef __cplusplus
}
#endif
#endif
