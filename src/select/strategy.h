/* The registry of strategies: what each is called, needs and gives. */
#ifndef SC_SELECT_STRATEGY_H
#define SC_SELECT_STRATEGY_H

#include "device/device.h"
#include "select/distributions.h"
#include "select/limits.h"

typedef sc_pick selection_pick;

/* Which members of a pick a strategy fills, besides row. */
enum { PICK_SCORE = 1, PICK_GAIN = 2, PICK_ENTROPY = 4, PICK_DIVERGENCE = 8, PICK_CLUSTER = 16 };

typedef struct selection_task {
    device *device;
    const float *x;         /* [n][dim] finite */
    int64_t n, dim, budget; /* budget >= 1 */
    uint64_t seed;
    /* What NEEDS_CLUSTERS asks for. */
    const double *p; /* [n][k] softmax over centres; NULL: `distributions` makes those that are asked for */
    distributions *distributions;
    const double *entropy; /* [n] of p, in nats */
    const int32_t *labels; /* [n] nearest centre */
    int64_t k;
    const int32_t *items; /* [n] the item of each row, numbered from 0 by first mention */
    int64_t n_items;
    double alpha;
    bool js_sum; /* alpha H + JS; else alpha H + (1 - alpha) JS */
    double lambda;
    int64_t neighbours;     /* facility: rows that may serve a row */
    const double *surprise; /* [n] what NEEDS_SURPRISE asks for: mean negative log-likelihood of a token */
    limits *limits;         /* what may be chosen; a strategy says there what it took */
    double *passes;         /* passes over x are counted there, or NULL */
    const int64_t *given;   /* [n_given] rows chosen before, closed in limits */
    int64_t n_given;
} selection_task;

typedef struct estimate estimate;

enum { NEEDS_CLUSTERS = 1, NEEDS_ITEMS = 2, NEEDS_SURPRISE = 4 };

typedef struct strategy {
    const char *name, *summary;
    unsigned needs, gives;
    /* *n_picks is below the budget only where no row is open any more. */
    sc_status (*run)(const selection_task *task, selection_pick *picks /* [budget] */, int64_t *n_picks);
    /* What `run` would take (estimate.h), beyond x and what it is handed. Of clusters and items it knows the numbers
     * alone, k and n_items. */
    void (*plan)(const selection_task *task, estimate *out);
} strategy;

/* All of them; *n how many. */
const strategy *strategy_list(int *n);
/* SC_USAGE with the nearest right name. */
sc_status strategy_find(const char *name, const strategy **out);

sc_status js_select(const selection_task *task, selection_pick *picks, int64_t *n_picks);
sc_status fisher_select(const selection_task *task, selection_pick *picks, int64_t *n_picks);
sc_status bait_select(const selection_task *task, selection_pick *picks, int64_t *n_picks);
sc_status facility_select(const selection_task *task, selection_pick *picks, int64_t *n_picks);
sc_status entropy_select(const selection_task *task, selection_pick *picks, int64_t *n_picks);
sc_status nll_select(const selection_task *task, selection_pick *picks, int64_t *n_picks);
sc_status kmeans_select(const selection_task *task, selection_pick *picks, int64_t *n_picks);
sc_status popularity_select(const selection_task *task, selection_pick *picks, int64_t *n_picks);
sc_status kcenter_select(const selection_task *task, selection_pick *picks, int64_t *n_picks);
sc_status random_select(const selection_task *task, selection_pick *picks, int64_t *n_picks);

void js_plan(const selection_task *task, estimate *out);
void fisher_plan(const selection_task *task, estimate *out);
void bait_plan(const selection_task *task, estimate *out);
void facility_plan(const selection_task *task, estimate *out);
void ranking_plan(const selection_task *task, estimate *out); /* entropy, nll */
void kmeans_plan(const selection_task *task, estimate *out);
void popularity_plan(const selection_task *task, estimate *out);
void kcenter_plan(const selection_task *task, estimate *out);
void random_plan(const selection_task *task, estimate *out);

#endif
