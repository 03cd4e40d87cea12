/* The verbs that change a model and ask it: train, merge, recommend, generate, eval. */
#include "pipeline/verbs.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"

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

DEFAULTS(sc_generate_options, generate)
#define R(...) ROW(sc_generate_options, __VA_ARGS__)
static const setting generate_settings[] = {
    R("model", model, STRING, true, "DIR", NULL, "model folder"),
    R("adapter", adapter, STRING, false, "DIR", NULL, "PEFT adapter"),
    R("dialogues", dialogues, STRING, true, "FILE.jsonl", NULL, "conversations to go on with"),
    R("out", out, STRING, true, "FILE.jsonl", NULL, "replies"),
    R("score", score, BOOL, false, "", NULL, "log-probabilities of the assistant's last messages instead"),
    R("max-tokens", max_tokens, INT, false, "N", NULL, "new tokens at most"),
    R("temperature", temperature, REAL, false, "T", NULL, "0: greedy"),
    R("top-k", top_k, INT, false, "K", NULL, "of the K most probable tokens; 0: all"),
    R("top-p", top_p, REAL, false, "P", NULL, "of the fewest that have this share; 1: all"),
    R("min-p", min_p, REAL, false, "P", NULL, "of those so many times as probable as the first; 0: all"),
    R("repetition-penalty", repetition_penalty, REAL, false, "X", NULL, "on tokens seen before; 1: none"),
    R("stop", stop, LIST, false, "TEXT...", NULL, "texts that end a reply"),
    R("batch", batch, INT, false, "N", NULL, "rows decoded at once; 0: 64"),
};
#undef R
static sc_status generate_run(const void *o, json_t **result)
{
    const sc_generate_options *given = o;
    sc_generate_result r = {0};
    sc_status status = sc_generate(given, &r);
    if (status == SC_OK)
        *result = json_pack("{s:I,s:I,s:I,s:I,s:f,s:f,s:s}", "rows", (json_int_t)r.n_rows, "resumed",
                            (json_int_t)r.n_resumed, "prompt_tokens", (json_int_t)r.prompt_tokens,
                            given->score ? "scored_tokens" : "new_tokens", (json_int_t)r.new_tokens,
                            "logprob_a_token", r.logprob, "seconds", r.seconds, "out", given->out);
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

const verb train_verb =
    VERB(train, "train", NULL, "fine-tune a model on dialogues", "model folder, dialogues.jsonl",
         "PEFT adapter or model folder", sc_train_options);

const verb merge_verb = VERB(merge, "merge", NULL, "put an adapter into its base model",
                             "model folder, PEFT adapter", "model folder", sc_merge_options);

const verb recommend_verb = VERB(recommend, "recommend", NULL, "rank titles for conversations",
                                 "model folder, dialogues", "replies.jsonl", sc_recommend_options);

const verb generate_verb =
    VERB(generate, "generate", NULL, "go on with conversations, or say how likely given replies are",
         "model folder, dialogues", "replies .jsonl", sc_generate_options);

const verb eval_verb = VERB(eval, "eval", NULL, "score ranked titles", "replies.jsonl, dialogues, items",
                            "metrics.json, metrics.jsonl", sc_eval_options);
