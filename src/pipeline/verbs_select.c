/* The verbs that choose reviews and grow conversations: select, synth. */
#include "pipeline/verbs.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"

/* --- select ----------------------------------------------------------------------------------- */
DEFAULTS(sc_select_options, select)
#define R(...) ROW(sc_select_options, __VA_ARGS__)
static const setting select_settings[] = {
    R("data", data, STRING, true, "DIR", NULL, "dataset folder"),
    R("embeddings", embeddings, STRING, true, "FILE.npy", NULL, "row i belongs to line i of reviews.jsonl"),
    R("out", out, STRING, true, "FILE.jsonl", NULL, "the selection, in order of choice"),
    R("strategy", strategy, STRING, false, "NAME",
      "js|fisher|bait|facility|kcenter|kmeans|entropy|nll|popularity|random", "how rows are chosen"),
    R("view", view, STRING, false, "NAME", NULL, "semantic, metadata, user; several joined by +"),
    R("item-embeddings", item_embeddings, STRING, false, "FILE.npy", NULL,
      "metadata: row i belongs to line i of items.jsonl"),
    R("metadata-weight", metadata_weight, REAL, false, "W", NULL,
      "metadata: how much it counts beside the text"),
    R("user-weight", user_weight, REAL, false, "W", NULL, "user: how much it counts beside the text"),
    R("factors", factors, INT, false, "F", NULL, "user: factors of users and of items"),
    R("budget", budget, INT, false, "N", NULL, "how many reviews; 0: no limit but --budget-tokens"),
    R("budget-tokens", budget_tokens, REAL, false, "N", NULL,
      "what the reviews may cost together; 0: no limit but --budget"),
    R("costs", costs, STRING, false, "tokens|FILE.npy", NULL,
      "of each review: its tokens in a teacher's prompt (of --model; else bytes / 4), or a file's numbers"),
    R("clusters", clusters, INT, false, "K", NULL, "js: clusters of the distribution"),
    R("temperature", temperature, REAL, false, "T", NULL, "js: softmax of -distance / T"),
    R("alpha", alpha, REAL, false, "A", NULL, "js: weight of the entropy"),
    R("js-form", js_form, STRING, false, "NAME", "mix|sum", "A H + (1-A) JS, or A H + JS"),
    R("centres", centres, STRING, false, "FILE.npy", NULL, "js: given centres instead of k-means"),
    R("lambda", lambda, REAL, false, "L", NULL, "fisher, bait: the start L I of the information matrix"),
    R("neighbours", neighbours, INT, false, "K", NULL, "facility: how many reviews may stand for one"),
    R("model", model, STRING, false, "DIR", NULL, "nll: model folder of the student; costs: whose tokens"),
    R("given", given, STRING, false, "FILE", NULL, "reviews chosen earlier: a selection, or an id a line"),
    R("include", include, STRING, false, "FILE", NULL, "reviews that come first, within the budget"),
    R("exclude", exclude, STRING, false, "FILE", NULL, "reviews never to be chosen"),
    R("max-per-item", max_per_item, INT, false, "N", NULL, "reviews of one item at most; 0: any number"),
    R("max-per-user", max_per_user, INT, false, "N", NULL, "reviews of one user at most; 0: any number"),
    R("max-per-category", max_per_category, INT, false, "N", NULL,
      "reviews of one category at most; 0: any number"),
    R("max-text-overlap", max_text_overlap, REAL, false, "J", NULL,
      "drop reviews that share this part of their words' runs; 0: none"),
    R("max-cosine", max_cosine, REAL, false, "C", NULL,
      "drop reviews whose embeddings are as alike as this; 0: none"),
    R("dry-run", dry_run, BOOL, false, "", NULL, "only say what it would do, take and write"),
};
#undef R
static sc_status select_check(const void *o)
{
    const sc_select_options *given = o;
    return given->budget != 0 || given->budget_tokens != 0
               ? SC_OK
               : sc_fail(SC_USAGE, "'select' needs --budget N (how many reviews), --budget-tokens N (what "
                                   "they may cost) or both");
}

static sc_status select_run(const void *o, json_t **result)
{
    const sc_select_options *given = o;
    sc_select_result r = {0};
    char *plan = NULL;
    if (given->dry_run) {
        sc_status planned = sc_select_plan(given, &plan);
        if (planned == SC_OK)
            planned = json_parse(plan, strlen(plan), "the plan", result);
        free(plan);
        return planned;
    }
    sc_status status = sc_select(given, &r);
    if (status == SC_OK)
        *result = json_pack("{s:I,s:I,s:I,s:f,s:f}", "rows", (json_int_t)r.n_rows, "selected",
                            (json_int_t)r.n_selected, "dim", (json_int_t)r.dim, "objective", r.objective,
                            "seconds", r.seconds);
    if (status == SC_OK && (given->budget_tokens > 0 || given->costs))
        json_object_set_new(*result, "cost",
                            r.cost < 1e15 && r.cost == (double)(json_int_t)r.cost
                                ? json_integer((json_int_t)r.cost)
                                : json_real(r.cost));
    return status;
}

/* --- synth ------------------------------------------------------------------------------------ */
DEFAULTS(sc_synth_options, synth)
#define R(...) ROW(sc_synth_options, __VA_ARGS__)
static const setting synth_settings[] = {
    R("data", data, STRING, true, "DIR", NULL, "dataset folder that the selection points into"),
    R("selection", selection, STRING, true, "FILE.jsonl", NULL, "what select wrote"),
    R("out", out, STRING, true, "DIR", NULL, "dialogues.jsonl and the journal"),
    R("teacher", teacher, STRING, false, "NAME", "offline|openai", "who answers"),
    R("catalogue", catalogue, STRING, false, "DIR", NULL,
      "dataset folder with a wider catalogue and co-ratings"),
    R("dialogues-per-seed", dialogues_per_seed, INT, false, "N", NULL, "dialogues a selected review"),
    R("domain", domain, STRING, false, "WORD", NULL, "the word in prompts and templates"),
    R("templates", templates, STRING, false, "FILE", NULL,
      "style templates (JSONL) instead of the built-in pool"),
    R("embeddings", embeddings, STRING, false, "FILE.npy", NULL,
      "item embeddings of the catalogue (embed --text item)"),
    R("base-url", base_url, STRING, false, "URL", NULL, "openai: the endpoint"),
    R("teacher-model", teacher_model, STRING, false, "NAME", NULL, "openai: the endpoint's model"),
    R("api-key-env", api_key_env, STRING, false, "NAME", NULL, "environment variable that holds the key"),
    R("temperature", temperature, REAL, false, "T", NULL, "openai: sampling temperature"),
    R("in-flight", in_flight, INT, false, "N", NULL, "openai: requests at once"),
    R("max-retries", max_retries, INT, false, "N", NULL, "openai: attempts after the first"),
    R("max-requests", max_requests, INT, false, "N", NULL, "openai: cap, 0: none"),
    R("max-total-tokens", max_total_tokens, INT, false, "N", NULL, "openai: cap on billed tokens, 0: none"),
    R("answer-tokens", answer_tokens, INT, false, "N", NULL, "openai: the most an answer may have"),
    R("timeout", timeout, REAL, false, "SECONDS", NULL, "openai: for one attempt"),
};
#undef R
static sc_status synth_run(const void *o, json_t **result)
{
    sc_synth_result r = {0};
    sc_status status = sc_synth(o, &r);
    if (status == SC_OK || status == SC_PARTIAL)
        *result = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:f}", "dialogues", (json_int_t)r.n_dialogues, "failed",
                            (json_int_t)r.n_failed, "requests", (json_int_t)r.n_requests, "reused",
                            (json_int_t)r.n_reused, "prompt_tokens", (json_int_t)r.prompt_tokens,
                            "completion_tokens", (json_int_t)r.completion_tokens, "seconds", r.seconds);
    return status;
}

const verb select_verb =
    CHECKED(select, "select", NULL, "choose the most informative reviews under a budget",
            "dataset folder, embeddings.npy", "selection.jsonl", sc_select_options, select_check);

const verb synth_verb = VERB(synth, "synth", NULL, "grow conversations from the selection with a teacher",
                             "dataset folder, selection.jsonl", "dialogues.jsonl", sc_synth_options);
