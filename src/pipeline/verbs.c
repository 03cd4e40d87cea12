/* The table of verbs and their flags: names, defaults' owners, help. See settings.h. */
#include "pipeline/settings.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "pipeline/doctor.h"
#include "pipeline/summary.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
/* One line of a table: flag, member of `struct`, type, required, value, choices, help. */
#define ROW(s, flag, member, type, required, value, choices, help)                                           \
    {                                                                                                        \
        flag, SETTING_##type, offsetof(s, member), required, value, choices, help                            \
    }

/* The functions of one verb: the options struct, its default and its run function. */
#define DEFAULTS(s, id)                                                                                      \
    static void id##_defaults(void *o)                                                                       \
    {                                                                                                        \
        *(s *)o = sc_##id##_default();                                                                       \
    }

const setting common_settings[] = {
    ROW(sc_common, "device", device, STRING, false, "NAME", NULL, "auto, cpu, cuda or cuda:N"),
    ROW(sc_common, "dtype", dtype, STRING, false, "TYPE", "auto|fp32|bf16", "weights and activations"),
    ROW(sc_common, "threads", threads, INT, false, "N", NULL, "worker threads; 0: as many as cores"),
    ROW(sc_common, "seed", seed, INT, false, "N", NULL, "key of every random number"),
};
const size_t n_common_settings = COUNT(common_settings);

/* --- pull ------------------------------------------------------------------------------------- */
DEFAULTS(sc_pull_options, pull)
#define R(...) ROW(sc_pull_options, __VA_ARGS__)
static const setting pull_settings[] = {
    R("name", name, STRING, true, "NAME", NULL,
      "smollm2-135m-instruct, minilm-l6-v2, hf:OWNER/REPO[@REVISION] or an https address"),
    R("to", to, STRING, false, "DIR", NULL, "folder to put it in; default: the cache"),
};
#undef R
static sc_status pull_run(const void *o, json_t **result)
{
    char folder[4096];
    sc_status status = sc_pull(o, folder, sizeof(folder));
    if (status == SC_OK)
        *result = json_pack("{s:s}", "folder", folder);
    return status;
}

/* --- import ----------------------------------------------------------------------------------- */
static json_t *import_json(const sc_import_result *r)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f}", "reviews", (json_int_t)r->n_reviews, "items",
                     (json_int_t)r->n_items, "users", (json_int_t)r->n_users, "interactions",
                     (json_int_t)r->n_interactions, "dialogues", (json_int_t)r->n_dialogues, "read",
                     (json_int_t)r->n_read, "dropped", (json_int_t)r->n_dropped, "seconds", r->seconds);
}

DEFAULTS(sc_import_reviews_options, import_reviews)
#define R(...) ROW(sc_import_reviews_options, __VA_ARGS__)
static const setting import_reviews_settings[] = {
    R("reviews", reviews, LIST, true, "FILE...", NULL, "reviews, plain, .gz or .zst"),
    R("items", items, LIST, false, "FILE...", NULL, "item metadata"),
    R("out", out, STRING, true, "DIR", NULL, "dataset folder"),
    R("format", format, STRING, false, "NAME", "amazon23|amazon14|csv", "of the input"),
};
#undef R
static sc_status import_reviews_run(const void *o, json_t **result)
{
    sc_import_result r = {0};
    sc_status status = sc_import_reviews(o, &r);
    if (status == SC_OK)
        *result = import_json(&r);
    return status;
}

DEFAULTS(sc_import_ratings_options, import_ratings)
#define R(...) ROW(sc_import_ratings_options, __VA_ARGS__)
static const setting import_ratings_settings[] = {
    R("ratings", ratings, STRING, true, "FILE", NULL, "userId,movieId,rating,timestamp"),
    R("items", items, STRING, true, "FILE", NULL, "movieId,title,genres"),
    R("links", links, STRING, false, "FILE", NULL, "movieId,imdbId: item ids become IMDb ids"),
    R("join", join, STRING, false, "DIR", NULL, "dataset folder whose items are joined by id"),
    R("out", out, STRING, true, "DIR", NULL, "dataset folder"),
    R("format", format, STRING, false, "NAME", "movielens", "of the input"),
};
#undef R
static sc_status import_ratings_run(const void *o, json_t **result)
{
    sc_import_result r = {0};
    sc_status status = sc_import_ratings(o, &r);
    if (status == SC_OK)
        *result = import_json(&r);
    return status;
}

DEFAULTS(sc_import_dialogues_options, import_dialogues)
#define R(...) ROW(sc_import_dialogues_options, __VA_ARGS__)
static const setting import_dialogues_settings[] = {
    R("input", input, STRING, true, "FILE", NULL, "dialogues, plain, .gz or .zst"),
    R("items", items, STRING, false, "FILE", NULL, "entity or item list of the data set"),
    R("out", out, STRING, true, "FILE.jsonl", NULL, "evaluation dialogues"),
    R("format", format, STRING, true, "NAME", "he2023|nbcrs|redial|inspired|unicrs|messages", "of the input"),
    R("domain", domain, STRING, false, "WORD", NULL, "the word in the prompt"),
    R("prompt", prompt, STRING, false, "FILE", NULL, "prompt with {domain} and {conversation}"),
    R("limit", limit, INT, false, "N", NULL, "draw N rows by the seed; 0: all"),
};
#undef R
static sc_status import_dialogues_run(const void *o, json_t **result)
{
    sc_import_result r = {0};
    sc_status status = sc_import_dialogues(o, &r);
    if (status == SC_OK)
        *result = import_json(&r);
    return status;
}

/* --- embed ------------------------------------------------------------------------------------ */
DEFAULTS(sc_embed_options, embed)
#define R(...) ROW(sc_embed_options, __VA_ARGS__)
static const setting embed_settings[] = {
    R("data", data, STRING, true, "DIR", NULL, "dataset folder"),
    R("model", model, STRING, true, "DIR", NULL, "model folder"),
    R("adapter", adapter, STRING, false, "DIR", NULL, "PEFT adapter"),
    R("out", out, STRING, true, "FILE.npy", NULL, "embeddings"),
    R("text", text, STRING, false, "WHAT", "review|item|both", "what is embedded"),
    R("pooling", pooling, STRING, false, "HOW", "mean|last|nll",
      "tokens to one vector, or how unlikely they are"),
    R("normalize", normalize, STRING, false, "HOW", "none|unit", "length of the vectors"),
    R("layer", layer, INT, false, "N", NULL, "-1: after the final norm; 0: embeddings; k: after block k"),
    R("max-tokens", max_tokens, INT, false, "N", NULL, "longer texts are cut"),
};
#undef R
static sc_status embed_run(const void *o, json_t **result)
{
    sc_embed_result r = {0};
    sc_status status = sc_embed(o, &r);
    if (status == SC_OK)
        *result = json_pack("{s:I,s:I,s:I,s:I,s:I,s:f}", "rows", (json_int_t)r.n_rows, "dim",
                            (json_int_t)r.dim, "tokens", (json_int_t)r.n_tokens, "cut", (json_int_t)r.n_cut,
                            "resumed", (json_int_t)r.n_resumed, "seconds", r.seconds);
    return status;
}

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

/* --- train, merge ----------------------------------------------------------------------------- */
DEFAULTS(sc_train_options, train)
#define R(...) ROW(sc_train_options, __VA_ARGS__)
static const setting train_settings[] = {
    R("model", model, STRING, true, "DIR", NULL, "base model folder"),
    R("dialogues", dialogues, STRING, true, "FILE.jsonl", NULL,
      "chats; the loss is on the assistant's words"),
    R("out", out, STRING, true, "DIR", NULL, "adapter (lora) or model folder (full)"),
    R("method", method, STRING, false, "NAME", "lora|full", "what is trained"),
    R("epochs", epochs, INT, false, "N", NULL, "passes over the dialogues"),
    R("batch-size", batch_size, INT, false, "N", NULL, "dialogues an optimizer step"),
    R("micro-batch", micro_batch, INT, false, "N", NULL, "dialogues a forward pass; 0: auto"),
    R("max-tokens", max_tokens, INT, false, "N", NULL, "longer dialogues are cut at a message boundary"),
    R("lr", lr, REAL, false, "RATE", NULL, "learning rate; 0: 2e-4 for lora, 5e-5 for full"),
    R("schedule", schedule, STRING, false, "NAME", "constant|linear|cosine", "after the warm-up"),
    R("warmup-steps", warmup_steps, INT, false, "N", NULL, "-1: a tenth of the steps"),
    R("optimizer", optimizer, STRING, false, "NAME", "adamw|adam",
      "weight decay apart from the gradient, or in it"),
    R("weight-decay", weight_decay, REAL, false, "W", NULL, "of every trained value"),
    R("beta1", beta1, REAL, false, "B", NULL, "of the first moment"),
    R("beta2", beta2, REAL, false, "B", NULL, "of the second moment"),
    R("eps", eps, REAL, false, "E", NULL, "beside the second moment's root"),
    R("clip-norm", clip_norm, REAL, false, "C", NULL, "gradient norm; 0: none"),
    R("shuffle", shuffle, BOOL, false, "", NULL, "new order every epoch, by the seed"),
    R("recompute", recompute, BOOL, false, "", NULL, "less memory for a forward pass more; the same bits"),
    R("rank", rank, INT, false, "R", NULL, "lora"),
    R("alpha", alpha, REAL, false, "A", NULL, "lora: scaling = alpha / rank, or its root with --rslora"),
    R("rslora", rslora, BOOL, false, "", NULL, "lora: scaling = alpha / sqrt(rank)"),
    R("dora", dora, BOOL, false, "", NULL, "lora: a magnitude for each output"),
    R("targets", targets, STRING, false, "LIST", NULL, "lora: all-linear, or q_proj,v_proj,..."),
    R("dropout", dropout, REAL, false, "P", NULL, "lora: on the adapter's input"),
    R("init-adapter", init_adapter, STRING, false, "DIR", NULL, "lora: PEFT adapter to go on from"),
    R("validation", validation, STRING, false, "FILE.jsonl", NULL, "chats that are not trained on"),
    R("validation-share", validation_share, REAL, false, "S", NULL,
      "hold this share of the chats back instead"),
    R("validate-every", validate_every, INT, false, "STEPS", NULL, "0: at the end of every epoch"),
    R("patience", patience, INT, false, "N", NULL, "stop after N validations without a new best; 0: never"),
    R("save-every", save_every, INT, false, "STEPS", NULL, "between checkpoints; 0: about a minute of work"),
    R("keep-checkpoints", keep_checkpoints, INT, false, "N", NULL,
      "the last N and the best stay; 0: none after the end"),
    R("resume", resume, STRING, false, "WHEN", "auto|never|always", "go on from a checkpoint"),
    R("shard-bytes", shard_bytes, INT, false, "N", NULL, "full: the most a model file holds; 0: 5 GB"),
    R("dry-run", dry_run, BOOL, false, "", NULL, "only say what it would do and take"),
};
#undef R
static sc_status train_run(const void *o, json_t **result)
{
    const sc_train_options *given = o;
    sc_train_result r = {0};
    char *plan = NULL;
    if (given->dry_run) {
        sc_status planned = sc_train_plan(given, &plan);
        if (planned == SC_OK)
            planned = json_parse(plan, strlen(plan), "the plan", result);
        free(plan);
        return planned;
    }
    sc_status status = sc_train(o, &r);
    if (status == SC_OK)
        *result =
            json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:f}", "steps", (json_int_t)r.n_steps, "examples",
                      (json_int_t)r.n_examples, "cut", (json_int_t)r.n_cut, "tokens", (json_int_t)r.n_tokens,
                      "supervised", (json_int_t)r.n_supervised, "first_step", (json_int_t)r.first_step,
                      "first_loss", r.first_loss, "last_loss", r.last_loss, "seconds", r.seconds);
    if (status == SC_OK && r.n_validation > 0) {
        json_object_set_new(*result, "held_back", json_integer((json_int_t)r.n_validation));
        json_object_set_new(*result, "best_step", json_integer((json_int_t)r.best_step));
        json_object_set_new(*result, "best_loss", json_real(r.best_loss));
        json_object_set_new(*result, "stopped_early", json_boolean(r.stopped_early));
    }
    return status;
}

DEFAULTS(sc_merge_options, merge)
#define R(...) ROW(sc_merge_options, __VA_ARGS__)
static const setting merge_settings[] = {
    R("model", model, STRING, true, "DIR", NULL, "base model folder"),
    R("adapter", adapter, STRING, true, "DIR", NULL, "PEFT adapter"),
    R("out", out, STRING, true, "DIR", NULL, "model folder"),
    R("shard-bytes", shard_bytes, INT, false, "N", NULL, "the most a model file holds; 0: 5 GB"),
};
#undef R
static sc_status merge_run(const void *o, json_t **result)
{
    sc_merge_result r = {0};
    sc_status status = sc_merge(o, &r);
    if (status == SC_OK)
        *result = json_pack("{s:s}", "folder", ((const sc_merge_options *)o)->out);
    if (status == SC_OK && r.rounded) {
        json_object_set_new(*result, "compared_tokens", json_integer((json_int_t)r.n_compared));
        json_object_set_new(*result, "largest_logit_change", json_real(r.largest_logit_change));
        json_object_set_new(*result, "largest_logit", json_real(r.largest_logit));
        json_object_set_new(*result, "first_words_differ", json_integer((json_int_t)r.n_first_words_differ));
    }
    return status;
}

/* --- recommend, eval -------------------------------------------------------------------------- */
DEFAULTS(sc_recommend_options, recommend)
#define R(...) ROW(sc_recommend_options, __VA_ARGS__)
static const setting recommend_settings[] = {
    R("model", model, STRING, true, "DIR", NULL, "model folder"),
    R("adapter", adapter, STRING, false, "DIR", NULL, "PEFT adapter"),
    R("dialogues", dialogues, STRING, false, "FILE.jsonl", NULL, "evaluation dialogues"),
    R("request", request, STRING, false, "TEXT", NULL, "one sentence instead of --dialogues"),
    R("out", out, STRING, false, "FILE.jsonl", NULL, "replies"),
    R("items", items, STRING, false, "FILE", NULL, "catalogue"),
    R("constrained", constrained, BOOL, false, "", NULL,
      "only distinct, existing, unseen titles of the catalogue"),
    R("beams", beams, INT, false, "N", NULL, "constrained: width of the search"),
    R("max-tokens", max_tokens, INT, false, "N", NULL, "new tokens at most"),
    R("temperature", temperature, REAL, false, "T", NULL, "0: greedy"),
    R("top-p", top_p, REAL, false, "P", NULL, "1: all"),
    R("batch", batch, INT, false, "N", NULL, "rows decoded at once; 0: auto"),
    R("domain", domain, STRING, false, "WORD", NULL, "the word in the prompt around --request"),
};
#undef R
/* A typed --request needs no file: its reply goes to a temporary folder and into the result. */
static sc_status recommend_request(const sc_recommend_options *given, sc_recommend_result *r, json_t **reply)
{
    sc_status status = SC_OK;
    sc_recommend_options o = *given;
    const char *base = getenv("TMPDIR");
    char folder[512], out[600];
    json_t *line = NULL;

    snprintf(folder, sizeof(folder), "%.400s/seedcorn-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(folder) == NULL)
        return sc_fail_errno(SC_IO, "cannot make a temporary folder in %s", base != NULL ? base : "/tmp");
    snprintf(out, sizeof(out), "%s/replies.jsonl", folder);
    if (o.out == NULL)
        o.out = out;
    SC_TRY(sc_recommend(&o, r));
    SC_TRY(json_parse_file(o.out, &line));
    *reply = json_incref(line);
cleanup:
    json_decref(line);
    if (file_remove_tree(folder) != SC_OK)
        log_warn("%s was left behind", folder);
    return status;
}

static sc_status recommend_run(const void *o, json_t **result)
{
    sc_recommend_result r = {0};
    const sc_recommend_options *given = o;
    json_t *reply = NULL;
    sc_status status;
    if (given->request != NULL)
        status = recommend_request(given, &r, &reply);
    else if (given->dialogues == NULL || given->out == NULL)
        status = sc_fail(SC_USAGE,
                         "'recommend' needs --dialogues FILE.jsonl and --out FILE.jsonl, or --request TEXT");
    else
        status = sc_recommend(given, &r);
    if (status == SC_OK)
        *result = json_pack("{s:I,s:I,s:I,s:I,s:f,s:o*}", "rows", (json_int_t)r.n_rows, "resumed",
                            (json_int_t)r.n_resumed, "prompt_tokens", (json_int_t)r.prompt_tokens,
                            "new_tokens", (json_int_t)r.new_tokens, "seconds", r.seconds, "reply", reply);
    return status;
}

DEFAULTS(sc_eval_options, eval)
#define R(...) ROW(sc_eval_options, __VA_ARGS__)
static const setting eval_settings[] = {
    R("replies", replies, STRING, false, "FILE.jsonl", NULL, "what recommend wrote"),
    R("dialogues", dialogues, STRING, true, "FILE.jsonl", NULL, "evaluation dialogues with their targets"),
    R("items", items, STRING, true, "FILE", NULL, "catalogue: items.jsonl or entity2id.json"),
    R("out", out, STRING, true, "FILE.json", NULL, "metrics"),
    R("mode", mode, STRING, false, "NAME", "strict|he2023", "how titles are parsed and matched"),
    R("filtered", filtered, BOOL, false, "", NULL, "drop what matches nothing before cutting at k"),
    R("exclude-seen", exclude_seen, BOOL, false, "", NULL, "drop titles the conversation mentions"),
    R("baseline", baseline, STRING, false, "NAME", "popularity", "score this instead of replies"),
    R("data", data, STRING, false, "DIR", NULL, "dataset folder of the baseline"),
};
#undef R
static sc_status eval_run(const void *o, json_t **result)
{
    static const char *const cut[4] = {"1", "5", "10", "20"};
    sc_eval_result r = {0};
    sc_status status = sc_eval(o, &r);
    if (status != SC_OK)
        return status;
    *result = json_pack("{s:I}", "n", (json_int_t)r.n);
    const struct {
        const char *name;
        const double *value, *se;
    } metrics[3] = {{"recall", r.recall, r.recall_se}, {"ndcg", r.ndcg, r.ndcg_se}, {"mrr", r.mrr, r.mrr_se}};
    for (int m = 0; m < 3; m++) {
        json_t *at = json_object();
        for (int k = 0; k < 4; k++)
            json_object_set_new(at, cut[k],
                                json_pack("{s:f,s:f}", "value", metrics[m].value[k], "se", metrics[m].se[k]));
        json_object_set_new(*result, metrics[m].name, at);
    }
    return SC_OK;
}

/* --- run, report, bench, doctor --------------------------------------------------------------- */
DEFAULTS(sc_run_options, run)
#define R(...) ROW(sc_run_options, __VA_ARGS__)
static const setting run_settings[] = {
    R("config", config, STRING, true, "CONFIG.yaml", NULL, "the plan"),
    R("run-dir", run_dir, STRING, true, "DIR", NULL, "holds all results"),
    R("dry-run", dry_run, BOOL, false, "", NULL, "say what would run"),
};
#undef R
/* What was measured, stage by stage: what a run is for. A dry run has measured nothing. */
static json_t *run_metrics(const sc_run_options *o)
{
    run_summary summary;
    json_t *rows = NULL;
    if (o->dry_run || run_summary_open(o->run_dir, &summary) != SC_OK)
        return json_array();
    rows = json_incref(summary.metrics);
    run_summary_close(&summary);
    return rows;
}

static sc_status run_run(const void *o, json_t **result)
{
    const sc_run_options *given = o;
    sc_run_result r = {0};
    sc_status status = sc_run(given, &r);
    if (status == SC_OK)
        *result = json_pack("{s:I,s:I,s:f,s:s,s:o}", "stages", (json_int_t)r.n_stages, "skipped",
                            (json_int_t)r.n_skipped, "seconds", r.seconds, "run_dir", given->run_dir,
                            "metrics", run_metrics(given));
    else if (status == SC_PARTIAL)
        *result = json_pack("{s:I,s:I,s:f,s:s}", "stages", (json_int_t)r.n_stages, "skipped",
                            (json_int_t)r.n_skipped, "seconds", r.seconds, "run_dir", given->run_dir);
    return status;
}

DEFAULTS(sc_report_options, report)
#define R(...) ROW(sc_report_options, __VA_ARGS__)
static const setting report_settings[] = {
    R("runs", runs, LIST, true, "RUN_DIR...", NULL, "run folders"),
    R("out", out, STRING, true, "FILE.html", NULL, "one self-contained page"),
};
#undef R
static sc_status report_run(const void *o, json_t **result)
{
    sc_status status = sc_report(o);
    if (status == SC_OK)
        *result = json_pack("{s:s}", "report", ((const sc_report_options *)o)->out);
    return status;
}

DEFAULTS(sc_bench_options, bench)
#define R(...) ROW(sc_bench_options, __VA_ARGS__)
static const setting bench_settings[] = {
    R("what", what, STRING, true, "WHAT", "embed|train|generate|kmeans|select", "which piece"),
    R("model", model, STRING, false, "DIR", NULL, "embed, train, generate: model folder"),
    R("method", method, STRING, false, "NAME", "lora|full", "train"),
    R("rows", rows, INT, false, "N", NULL, "sequences, prompts or rows; 0: a default"),
    R("tokens", tokens, INT, false, "N", NULL, "tokens a sequence, or new tokens a prompt"),
    R("dim", dim, INT, false, "D", NULL, "kmeans, select"),
    R("clusters", clusters, INT, false, "K", NULL, "kmeans"),
    R("budget", budget, INT, false, "N", NULL, "select: picks"),
    R("strategy", strategy, STRING, false, "NAME", "fisher|js|bait|facility|kcenter", "select"),
    R("embeddings", embeddings, STRING, false, "FILE.npy", NULL,
      "kmeans, select: rows to use instead of made-up ones"),
    R("repeats", repeats, INT, false, "N", NULL, "the best is reported"),
    R("warm-up", warm_up, BOOL, false, "", NULL, "one repeat before them, not counted"),
};
#undef R
static sc_status bench_run(const void *o, json_t **result)
{
    sc_bench_result r = {0};
    sc_status status = sc_bench(o, &r);
    if (status == SC_OK)
        *result = json_pack("{s:s,s:f,s:f,s:f,s:f,s:f,s:I,s:f,s:f}", "unit", r.unit, "units", r.units,
                            "seconds", r.seconds, "per_second", r.units / r.seconds, "gflops", r.gflops,
                            "peak_gflops", r.peak_gflops, "peak_bytes", (json_int_t)r.peak_bytes,
                            "prepare_seconds", r.prepare_seconds, "passes", r.passes);
    return status;
}

static void doctor_defaults(void *o)
{
    *(doctor_options *)o = doctor_default();
}
static sc_status doctor_run(const void *o, json_t **result)
{
    (void)o;
    return doctor_examine(result);
}

#define CHECKED(id, name, positional, summary, reads, writes, s, check)                                      \
    {                                                                                                        \
        name, summary, reads, writes, positional, id##_settings, COUNT(id##_settings), sizeof(s),            \
            id##_defaults, id##_run, check                                                                   \
    }
#define VERB(...) CHECKED(__VA_ARGS__, NULL)

const verb verbs[] = {
    VERB(pull, "pull", "name", "fetch a model or data set into the local cache", "a name", "a folder",
         sc_pull_options),
    VERB(import_reviews, "import reviews", NULL, "raw reviews and items to a dataset folder",
         "JSONL or CSV, plain, .gz or .zst", "dataset folder", sc_import_reviews_options),
    VERB(import_ratings, "import ratings", NULL, "ratings to a dataset folder", "CSV", "dataset folder",
         sc_import_ratings_options),
    VERB(import_dialogues, "import dialogues", NULL, "conversations to evaluation dialogues",
         "JSONL, CSV or TSV", "dialogues .jsonl", sc_import_dialogues_options),
    VERB(embed, "embed", NULL, "texts to vectors by a language model's hidden states",
         "dataset and model folder", "embeddings.npy, embeddings.json", sc_embed_options),
    CHECKED(select, "select", NULL, "choose the most informative reviews under a budget",
            "dataset folder, embeddings.npy", "selection.jsonl", sc_select_options, select_check),
    VERB(synth, "synth", NULL, "grow conversations from the selection with a teacher",
         "dataset folder, selection.jsonl", "dialogues.jsonl", sc_synth_options),
    VERB(train, "train", NULL, "fine-tune a model on dialogues", "model folder, dialogues.jsonl",
         "PEFT adapter or model folder", sc_train_options),
    VERB(merge, "merge", NULL, "put an adapter into its base model", "model folder, PEFT adapter",
         "model folder", sc_merge_options),
    VERB(recommend, "recommend", NULL, "rank titles for conversations", "model folder, dialogues",
         "replies.jsonl", sc_recommend_options),
    VERB(eval, "eval", NULL, "score ranked titles", "replies.jsonl, dialogues, items",
         "metrics.json, metrics.jsonl", sc_eval_options),
    VERB(run, "run", "config", "all of the above, from one YAML file", "CONFIG.yaml", "run folder",
         sc_run_options),
    VERB(report, "report", "runs", "run folders to one HTML page", "run folders", "report.html",
         sc_report_options),
    VERB(bench, "bench", "what", "throughput on this machine, beside its floor", "a model folder or nothing",
         "figures on stdout", sc_bench_options),
    {"doctor", "what this machine has and lacks", "the machine", "a list on stdout", NULL, NULL, 0,
     sizeof(doctor_options), doctor_defaults, doctor_run, NULL},
};
const size_t n_verbs = COUNT(verbs);
