/* eval: ranked titles + targets -> metrics.json (means, standard errors, n), metrics.jsonl (ranks). */
#ifndef SEEDCORN_EVALUATE_H
#define SEEDCORN_EVALUATE_H

#include <stdbool.h>

#include "seedcorn/common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sc_eval_options {
    size_t struct_size;
    sc_common common;
    const char *replies;   /* replies.jsonl, or NULL with `baseline` */
    const char *dialogues; /* evaluation dialogues with `targets` and `seen` */
    const char *items;     /* items.jsonl, or an entity2id.json of He et al. */
    const char *out;       /* metrics.json */
    const char *mode;      /* "strict" (default) or "he2023": He et al. 2023 to the digit */
    bool filtered;         /* drop what matches nothing in the catalogue, before cutting at k */
    bool exclude_seen;     /* drop titles the conversation already mentions */
    const char *baseline;  /* NULL or "popularity": rank by interactions of `data` */
    const char *data;      /* dataset folder for the baseline */
} sc_eval_options;

typedef struct sc_eval_result {
    int64_t n;                                  /* rows scored */
    double recall[4], ndcg[4], mrr[4];          /* at 1, 5, 10, 20 */
    double recall_se[4], ndcg_se[4], mrr_se[4]; /* standard errors */
} sc_eval_result;

SC_API sc_eval_options sc_eval_default(void);
SC_API sc_status sc_eval(const sc_eval_options *options, sc_eval_result *result);

#ifdef __cplusplus
}
#endif
#endif
