/* synth: selection + teacher -> dialogues.jsonl, one chat a line, the last message the list. */
#ifndef SEEDCORN_SYNTH_H
#define SEEDCORN_SYNTH_H

#include "seedcorn/common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sc_synth_options {
    size_t struct_size;
    sc_common common;
    const char *data;           /* dataset folder the selection points into */
    const char *selection;      /* selection.jsonl */
    const char *out;            /* folder: dialogues.jsonl, journal.log, failed.jsonl */
    const char *teacher;        /* "offline" (default), "openai" */
    const char *catalogue;      /* dataset folder with a wider catalogue and co-ratings, or NULL: data */
    int64_t dialogues_per_seed; /* 5 */
    const char *domain;         /* "movie": the word in every prompt and template */
    const char *templates;      /* file of style templates (JSONL), or NULL: the built-in pool */
    const char *embeddings;     /* item embeddings .npy for the offline teacher's similarity, or NULL */
    /* the endpoint teacher */
    const char *base_url;      /* "https://api.openai.com/v1" */
    const char *teacher_model; /* the endpoint's name of the model */
    const char *api_key_env;   /* name of the environment variable with the key: "OPENAI_API_KEY" */
    double temperature;        /* 0.8 as in the paper */
    int64_t in_flight;         /* 16 requests at once */
    int64_t max_retries;       /* 8 */
    int64_t max_requests;      /* cap, 0: none */
    int64_t max_total_tokens;  /* cap on tokens billed, 0: none */
    int64_t answer_tokens;     /* 512: the most an answer may have */
    double timeout;            /* 120 s for one attempt */
} sc_synth_options;

typedef struct sc_synth_result {
    int64_t n_dialogues, n_failed;
    int64_t n_requests, n_reused; /* sent now; found in the journal */
    int64_t prompt_tokens, completion_tokens;
    double seconds;
} sc_synth_result;

SC_API sc_synth_options sc_synth_default(void);

/* SC_PARTIAL: some rows failed (failed.jsonl). SC_BUDGET: a cap was reached; start again with a
 * higher one and the journal is used. SC_AUTH, SC_QUOTA, SC_NETWORK: the endpoint. */
SC_API sc_status sc_synth(const sc_synth_options *options, sc_synth_result *result);

#ifdef __cplusplus
}
#endif
#endif
