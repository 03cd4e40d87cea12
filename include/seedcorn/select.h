/* select: embeddings -> selection.jsonl, the rows most worth asking a teacher about, in order. */
#ifndef SEEDCORN_SELECT_H
#define SEEDCORN_SELECT_H

#include <stdbool.h>

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
    const char *view;       /* "semantic" (default), "metadata", "user", several joined by "+" */
    /* How much is chosen: of these two, one at least; with both, what is reached first ends it. */
    int64_t budget;       /* how many rows; 0: no limit */
    double budget_tokens; /* what the chosen rows may cost together; 0: no limit */
    const char *costs;    /* "tokens" (NULL with budget_tokens), or FILE.npy [n]: docs/selection.md */
    /* js: score = alpha H(p) + (1 - alpha) JS(p || mean of the chosen), or alpha H + JS ("sum") */
    int64_t clusters;    /* 64 */
    double temperature;  /* 1: p = softmax(-distance / temperature) */
    double alpha;        /* 0.5 */
    const char *js_form; /* "mix" (default) or "sum" */
    const char *centres; /* .npy of given centres, or NULL: k-means++ and Lloyd */
    /* fisher, bait: greedy D-optimal, Sigma_0 = lambda I, gain = log(1 + x' Sigma^-1 x) */
    double lambda;      /* 1 */
    int64_t neighbours; /* 64; facility: how many rows may stand for one */
    const char *model;  /* nll: model folder of the student. What it says of each row is kept beside `out`.
                           costs: the tokenizer of this folder counts; NULL: UTF-8 bytes / 4, rounded up */
    /* view: what is joined to a review's embedding, and how much it counts beside it */
    const char *item_embeddings; /* metadata: .npy, row i = line i of items.jsonl */
    double metadata_weight;      /* 1 */
    double user_weight;          /* 1 */
    int64_t factors;             /* user: 64 factors of users and as many of items */
    /* Files of review ids, one a line, or selections; NULL: none. */
    const char *given;        /* chosen earlier: not chosen again, and the choice goes on from them */
    const char *include;      /* come first, whatever their score, within the budget */
    const char *exclude;      /* never chosen */
    int64_t max_per_item;     /* 0: no cap; given and included reviews count */
    int64_t max_per_user;     /* 0 */
    int64_t max_per_category; /* 0: of a category or genre of the item */
    /* 0: off. Of reviews as alike as this, or more, only the first may be chosen; given and included ones go first. */
    double max_text_overlap; /* share of common runs of three words (Jaccard), above 0 to 1 */
    double max_cosine;       /* of the embeddings, above 0 to 1 */
    bool dry_run;            /* check everything, choose and write nothing; sc_select_plan says more */
} sc_select_options;

typedef struct sc_select_result {
    int64_t n_rows, n_selected, dim;
    double objective; /* what the strategy reached: docs/selection.md says what that is */
    double cost;      /* of the selected rows together; 0 where costs were not asked for */
    double seconds;
} sc_select_result;

SC_API sc_select_options sc_select_default(void);

/* --- on rows in memory ---------------------------------------------------------------------------------- */

/* At most so many rows of one group: of an item, a user, a genre. */
typedef struct sc_cap {
    /* Row i is in groups[offsets[i] .. offsets[i + 1] - 1], each once; without offsets in groups[i] alone, -1: none. */
    const int64_t *offsets; /* [n + 1], or NULL */
    const int32_t *groups;  /* numbered from 0 */
    int64_t n_groups, most;
} sc_cap;

typedef struct sc_selector_options {
    size_t struct_size;
    sc_common common;
    const char *strategy; /* as above; default "fisher" */
    int64_t budget;       /* how many rows; 0: no limit but budget_cost */
    int64_t clusters;     /* 64 */
    double temperature;   /* 1 */
    double alpha;         /* 0.5 */
    const char *js_form;  /* "mix" (default) or "sum" */
    double lambda;        /* 1 */
    int64_t neighbours;   /* 64 */
    const float *centres; /* [n_centres][dim] given, or NULL: k-means */
    int64_t n_centres;
    const int32_t *items;   /* [n] the item of each row, numbered from 0, for "popularity"; else NULL */
    const double *surprise; /* [n] finite, for "nll": what is highest is chosen first; else NULL */
    /* Any of these may be NULL. Rows chosen before and included ones count for caps, and the choice goes on from them. */
    const int64_t *given; /* [n_given] rows chosen before: not chosen again */
    int64_t n_given;
    const int64_t *include; /* [n_include] rows that come first whatever their score, within the budget */
    int64_t n_include;
    const uint8_t *exclude; /* [n] not 0: never to be chosen */
    const sc_cap *caps;     /* [n_caps] */
    int64_t n_caps;
    /* Rows are taken in the strategy's order; one that costs more than what is left is passed over, and the strategy
     * goes on with those that fit. What is included counts, what is given does not. */
    const double *costs; /* [n] above 0, finite; or NULL */
    double budget_cost;  /* what the chosen rows may cost together; 0: no limit */
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

/* picks [budget], or [n] without one, in order of choice, of x [n][dim], which may be a mapped file: it is read,
 * row-major, and not copied by "fisher", "bait", "kcenter" and "random". *n_picks (or NULL) is below the budget where
 * caps or costs leave no more. Errors as below. */
SC_API sc_status sc_selector_fit(const sc_selector_options *options, const float *x, int64_t n, int64_t dim,
                                 sc_pick *picks, int64_t *n_picks);

/* --- on files ---------------------------------------------------------------------------------------------- */

/* SC_USAGE: an unknown strategy, no budget, one above the number of rows or below the cheapest row's cost.
 * SC_BAD_INPUT: NaN or infinity in the embeddings, a cost that is not above 0 (named by row), row counts that differ. */
SC_API sc_status sc_select(const sc_select_options *options, sc_select_result *result);

/* What sc_select would do with these options, as JSON text: rows, settings, what is closed, bytes by array, operations,
 * the time they would take here, and where the outputs would go; docs/selection.md. Reads and checks the inputs, writes
 * nothing. *json is to be freed by free(). Errors as above. */
SC_API sc_status sc_select_plan(const sc_select_options *options, char **json);

#ifdef __cplusplus
}
#endif
#endif
