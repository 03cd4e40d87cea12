/* The layout of the structs that other languages fill in. */
#include "seedcorn/abi.h"

#include "seedcorn/kmeans.h"
#include "seedcorn/log.h"
#include "seedcorn/select.h"

#define WHOLE(type)                                                                                          \
    {                                                                                                        \
#type, "", 0, sizeof(type)                                                                           \
    }
#define MEMBER(type, member)                                                                                 \
    {                                                                                                        \
#type, #member, offsetof(type, member), sizeof(((type *)0)->member)                                  \
    }

static const sc_abi_member members[] = {
    WHOLE(sc_common),
    MEMBER(sc_common, struct_size),
    MEMBER(sc_common, device),
    MEMBER(sc_common, dtype),
    MEMBER(sc_common, threads),
    MEMBER(sc_common, seed),

    WHOLE(sc_progress),
    MEMBER(sc_progress, label),
    MEMBER(sc_progress, unit),
    MEMBER(sc_progress, done),
    MEMBER(sc_progress, total),
    MEMBER(sc_progress, seconds),
    MEMBER(sc_progress, rate),
    MEMBER(sc_progress, remaining),
    MEMBER(sc_progress, note),
    MEMBER(sc_progress, finished),

    WHOLE(sc_selector_options),
    MEMBER(sc_selector_options, struct_size),
    MEMBER(sc_selector_options, common),
    MEMBER(sc_selector_options, strategy),
    MEMBER(sc_selector_options, budget),
    MEMBER(sc_selector_options, clusters),
    MEMBER(sc_selector_options, temperature),
    MEMBER(sc_selector_options, alpha),
    MEMBER(sc_selector_options, js_form),
    MEMBER(sc_selector_options, lambda),
    MEMBER(sc_selector_options, neighbours),
    MEMBER(sc_selector_options, centres),
    MEMBER(sc_selector_options, n_centres),
    MEMBER(sc_selector_options, items),
    MEMBER(sc_selector_options, surprise),
    MEMBER(sc_selector_options, given),
    MEMBER(sc_selector_options, n_given),
    MEMBER(sc_selector_options, include),
    MEMBER(sc_selector_options, n_include),
    MEMBER(sc_selector_options, exclude),
    MEMBER(sc_selector_options, caps),
    MEMBER(sc_selector_options, n_caps),
    MEMBER(sc_selector_options, costs),
    MEMBER(sc_selector_options, budget_cost),

    WHOLE(sc_cap),
    MEMBER(sc_cap, offsets),
    MEMBER(sc_cap, groups),
    MEMBER(sc_cap, n_groups),
    MEMBER(sc_cap, most),

    WHOLE(sc_pick),
    MEMBER(sc_pick, row),
    MEMBER(sc_pick, score),
    MEMBER(sc_pick, gain),
    MEMBER(sc_pick, entropy),
    MEMBER(sc_pick, divergence),
    MEMBER(sc_pick, objective),
    MEMBER(sc_pick, cluster),

    WHOLE(sc_kmeans_options),
    MEMBER(sc_kmeans_options, struct_size),
    MEMBER(sc_kmeans_options, common),
    MEMBER(sc_kmeans_options, clusters),
    MEMBER(sc_kmeans_options, max_iterations),
    MEMBER(sc_kmeans_options, tolerance),
    MEMBER(sc_kmeans_options, centres),
    MEMBER(sc_kmeans_options, bf16_rows),

    WHOLE(sc_kmeans_result),
    MEMBER(sc_kmeans_result, clusters),
    MEMBER(sc_kmeans_result, inertia),
    MEMBER(sc_kmeans_result, iterations),
    MEMBER(sc_kmeans_result, repaired),
    MEMBER(sc_kmeans_result, converged),
};

const sc_abi_member *sc_abi_layout(size_t *n)
{
    *n = sizeof members / sizeof members[0];
    return members;
}
