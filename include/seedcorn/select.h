/* select: embeddings -> selection.jsonl, the rows most worth asking a teacher about, in order. */
#ifndef SEEDCORN_SELECT_H
#define SEEDCORN_SELECT_H

#include "seedcorn/common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sc_select_options {
    size_t struct_size;
    sc_common common;
    const char *data;       /* dataset folder */
    const char *embeddings; /* embeddings.npy, row i = line i of reviews.jsonl */
    const char *out;        /* selection.jsonl */
    const char *strategy;   /* "js" (default), "fisher", "random" */
    const char *view;       /* "semantic" */
    int64_t budget;         /* how many rows */
    /* js: score = alpha H(p) + (1 - alpha) JS(p || mean of the chosen), or alpha H + JS ("sum") */
    int64_t clusters;    /* 64 */
    double temperature;  /* 1: p = softmax(-distance / temperature) */
    double alpha;        /* 0.5 */
    const char *js_form; /* "mix" (default) or "sum" */
    const char *centres; /* .npy of given centres, or NULL: k-means++ and Lloyd */
    /* fisher: greedy D-optimal, Sigma_0 = lambda I, gain = log(1 + x' Sigma^-1 x) */
    double lambda; /* 1 */
} sc_select_options;

typedef struct sc_select_result {
    int64_t n_rows, n_selected, dim;
    double objective; /* js: mean score of the picks; fisher: log det gain; random: 0 */
    double seconds;
} sc_select_result;

SC_API sc_select_options sc_select_default(void);

/* SC_USAGE: an unknown strategy, a budget above the number of rows. SC_BAD_INPUT: NaN or
 * infinity in the embeddings (named by row), row counts that differ. */
SC_API sc_status sc_select(const sc_select_options *options, sc_select_result *result);

#ifdef __cplusplus
}
#endif
#endif
