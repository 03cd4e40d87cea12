/* The verbs that bring data in: pull, import, embed. */
#include "pipeline/verbs.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"

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

const verb pull_verb = VERB(pull, "pull", "name", "fetch a model or data set into the local cache", "a name",
                            "a folder", sc_pull_options);

const verb import_reviews_verb =
    VERB(import_reviews, "import reviews", NULL, "raw reviews and items to a dataset folder",
         "JSONL or CSV, plain, .gz or .zst", "dataset folder", sc_import_reviews_options);

const verb import_ratings_verb = VERB(import_ratings, "import ratings", NULL, "ratings to a dataset folder",
                                      "CSV", "dataset folder", sc_import_ratings_options);

const verb import_dialogues_verb =
    VERB(import_dialogues, "import dialogues", NULL, "conversations to evaluation dialogues",
         "JSONL, CSV or TSV", "dialogues .jsonl", sc_import_dialogues_options);

const verb embed_verb = VERB(embed, "embed", NULL, "texts to vectors by a language model's hidden states",
                             "dataset and model folder", "embeddings.npy, embeddings.json", sc_embed_options);
