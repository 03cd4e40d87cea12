/* The registry of strategies. */
#include "select/strategy.h"

#include <string.h>

#include "base/text.h"

static const strategy strategies[] = {
    {"js", "entropy and Jensen-Shannon divergence over cluster distributions", NEEDS_CLUSTERS,
     PICK_SCORE | PICK_GAIN | PICK_ENTROPY | PICK_DIVERGENCE | PICK_CLUSTER, js_select, js_plan},
    {"fisher", "greedy D-optimal design over the embeddings", 0, PICK_SCORE | PICK_GAIN, fisher_select,
     fisher_plan},
    {"bait", "the least variance left where the data is (V-optimal design)", 0, PICK_SCORE | PICK_GAIN,
     bait_select, bait_plan},
    {"facility", "the rows that best stand for all others (facility location)", 0, PICK_SCORE | PICK_GAIN,
     facility_select, facility_plan},
    {"kcenter", "the row farthest from everything chosen", 0, PICK_SCORE | PICK_GAIN, kcenter_select,
     kcenter_plan},
    {"kmeans", "the row nearest to each of as many centres, large clusters first", 0,
     PICK_SCORE | PICK_GAIN | PICK_CLUSTER, kmeans_select, kmeans_plan},
    {"entropy", "the highest entropy over cluster distributions", NEEDS_CLUSTERS,
     PICK_SCORE | PICK_GAIN | PICK_ENTROPY | PICK_CLUSTER, entropy_select, ranking_plan},
    {"nll", "the highest surprise of the model that is to be trained", NEEDS_SURPRISE, PICK_SCORE | PICK_GAIN,
     nll_select, ranking_plan},
    {"popularity", "reviews of the items with the most reviews, one of each in turn", NEEDS_ITEMS,
     PICK_SCORE | PICK_GAIN, popularity_select, popularity_plan},
    {"random", "rows drawn by the seed", 0, 0, random_select, random_plan},
};
enum { N_STRATEGIES = sizeof strategies / sizeof *strategies };

const strategy *strategy_list(int *n)
{
    *n = N_STRATEGIES;
    return strategies;
}

sc_status strategy_find(const char *name, const strategy **out)
{
    const char *names[N_STRATEGIES + 1] = {0};
    strbuf known = {0};
    for (int i = 0; i < N_STRATEGIES; i++) {
        if (strcmp(name, strategies[i].name) == 0) {
            *out = &strategies[i];
            strbuf_free(&known);
            return SC_OK;
        }
        names[i] = strategies[i].name;
        strbuf_printf(&known, "%s%s", i ? ", " : "", names[i]);
    }
    const char *nearest = text_nearest(name, names);
    sc_status status =
        nearest ? sc_fail(SC_USAGE, "unknown strategy \"%s\"; did you mean \"%s\"? There are: %s", name,
                          nearest, strbuf_text(&known))
                : sc_fail(SC_USAGE, "unknown strategy \"%s\"; there are: %s", name, strbuf_text(&known));
    strbuf_free(&known);
    return status;
}
