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
    const char *strategy;   /* "js" (default), "fisher" ...: docs/selection.md */
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
    double objective; /* what the strategy reached: docs/selection.md says what that is */
    double seconds;
} sc_select_result;

SC_API sc_select_options sc_select_default(void);

/* --- on rows in memory ---------------------------------------------------------------------------------- */

typedef struct sc_selector_options {
    size_t struct_size;
    sc_common common;
    const char *strategy; /* as above; default "fisher" */
    int64_t budget;       /* how many rows */
    int64_t clusters;     /* 64 */
    double temperature;   /* 1 */
    double alpha;         /* 0.5 */
    const char *js_form;  /* "mix" (default) or "sum" */
    double lambda;        /* 1 */
    const float *centres; /* [n_centres][dim] given, or NULL: k-means */
    int64_t n_centres;
    const int32_t *items; /* [n] the item of each row, numbered from 0, for "popularity"; else NULL */
} sc_selector_options;

/* One pick; members that the strategy does not have are 0. */
typedef struct sc_pick {
    int64_t row;
    double score;               /* what the choice was made by */
    double gain;                /* what it added to the objective */
    double entropy, divergence; /* in nats */
    double objective;           /* after this pick: docs/selection.md */
    int64_t cluster;
} sc_pick;

SC_API sc_selector_options sc_selector_default(void);

/* picks [budget], in order of choice, of x [n][dim], which may be a mapped file: it is read, row-major, and not
 * copied by "fisher", "kcenter" and "random". Errors as below. */
SC_API sc_status sc_selector_fit(const sc_selector_options *options, const float *x, int64_t n, int64_t dim,
                                 sc_pick *picks);

/* --- on files ---------------------------------------------------------------------------------------------- */

/* SC_USAGE: an unknown strategy, a budget above the number of rows. SC_BAD_INPUT: NaN or
 * infinity in the embeddings (named by row), row counts that differ. */
SC_API sc_status sc_select(const sc_select_options *options, sc_select_result *result);

#ifdef __cplusplus
}
#endif
#endif
