/* Writing tokenizer.json, and making a tokenizer from the metadata of a GGUF file. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "text/pattern.h"
#include "text/tokenizer_parts.h"

static sc_status no_memory(const char *where)
{
    return sc_fail(SC_MEMORY, "%s: memory does not suffice for the tokenizer", where);
}

/* ---- writing ---- */

static json_t *vocabulary_json(const tokenizer *t)
{
    json_t *vocab = json_object();
    for (size_t id = 0; vocab && id < t->n_ids; id++) {
        const vocab_token *token = &t->vocab[id];
        if (token->text_length && token->in_model &&
            json_object_set_new(vocab, t->bytes.data + token->text, json_integer((json_int_t)id)) != 0) {
            json_decref(vocab);
            return NULL;
        }
    }
    return vocab;
}

/* "left right", which every version of the library reads, or pairs if a token holds a blank. */
static json_t *merges_json(const tokenizer *t)
{
    bool blanks = false;
    for (size_t i = 0; i < t->n_merges; i++)
        for (int side = 0; side < 2; side++)
            blanks = blanks || strchr(t->bytes.data + t->vocab[t->merge_list[i][side]].text, ' ');
    json_t *merges = json_array();
    for (size_t i = 0; merges && i < t->n_merges; i++) {
        const char *left = t->bytes.data + t->vocab[t->merge_list[i][0]].text;
        const char *right = t->bytes.data + t->vocab[t->merge_list[i][1]].text;
        if (json_array_append_new(merges, blanks ? json_pack("[ss]", left, right)
                                                 : json_sprintf("%s %s", left, right)) != 0) {
            json_decref(merges);
            return NULL;
        }
    }
    return merges;
}

static json_t *added_json(const tokenizer *t)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < t->n_added; i++) {
        const added_token *a = &t->added[i];
        if (json_array_append_new(list, json_pack("{si ss sb sb sb sb sb}", "id", (int)a->id, "content",
                                                  a->content, "single_word", 0, "lstrip", (int)a->lstrip,
                                                  "rstrip", (int)a->rstrip, "normalized", (int)a->normalized,
                                                  "special", (int)a->special)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

sc_status tokenizer_save(const tokenizer *t, const char *path)
{
    sc_status status = SC_OK;
    const char *unk = t->unk_id < 0 ? NULL : t->bytes.data + t->vocab[t->unk_id].text;
    json_t *doc = json_pack(
        "{ss sn sn so sO sO sO sO s{ss sn ss? sn sn sb sb sb so so}}", "version", "1.0", "truncation",
        "padding", "added_tokens", added_json(t), "normalizer", json_object_get(t->parts, "normalizer"),
        "pre_tokenizer", json_object_get(t->parts, "pre_tokenizer"), "post_processor",
        json_object_get(t->parts, "post_processor"), "decoder", json_object_get(t->parts, "decoder"), "model",
        "type", "BPE", "dropout", "unk_token", unk, "continuing_subword_prefix", "end_of_word_suffix",
        "fuse_unk", (int)t->fuse_unk, "byte_fallback", 0, "ignore_merges", (int)t->ignore_merges, "vocab",
        vocabulary_json(t), "merges", merges_json(t));
    if (!doc)
        return no_memory(path);
    status = json_write_file(path, doc);
    json_decref(doc);
    return status;
}

/* ---- from a GGUF file ---- */

enum { GGUF_TOKEN_CONTROL = 3, GGUF_TOKEN_USER_DEFINED = 4 };

/* The pre-tokenizers that llama.cpp knows by name (llama-vocab.cpp), as tokenizer.json spells them. */
static json_t *gguf_pre_tokenizer(const char *pre)
{
    if (strcmp(pre, "smollm") == 0)
        return json_pack("{ss s[{ss sb} {ss sb sb sb}]}", "type", "Sequence", "pretokenizers", "type",
                         "Digits", "individual_digits", 1, "type", "ByteLevel", "add_prefix_space", 0,
                         "trim_offsets", 1, "use_regex", 1);
    if (strcmp(pre, "gpt-2") == 0)
        return json_pack("{ss sb sb sb}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                         "use_regex", 1);
    const char *pattern = strcmp(pre, "llama-bpe") == 0 ? PATTERN_LLAMA3
                          : strcmp(pre, "qwen2") == 0   ? PATTERN_QWEN2
                                                        : NULL;
    if (!pattern)
        return NULL;
    return json_pack("{ss s[{ss s{ss} ss sb} {ss sb sb sb}]}", "type", "Sequence", "pretokenizers", "type",
                     "Split", "pattern", "Regex", pattern, "behavior", "Isolated", "invert", 0, "type",
                     "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 0);
}

static sc_status gguf_vocabulary(const char *const *tokens, const int32_t *types, size_t n_tokens,
                                 json_t *vocab, json_t *added)
{
    for (size_t i = 0; i < n_tokens; i++) {
        if (!utf8_valid(tokens[i], strlen(tokens[i])) || json_object_get(vocab, tokens[i]))
            return sc_fail(SC_BAD_INPUT, "GGUF tokenizer: token %zu is %s", i,
                           json_object_get(vocab, tokens[i]) ? "there twice" : "not UTF-8");
        if (json_object_set_new(vocab, tokens[i], json_integer((json_int_t)i)) != 0)
            return no_memory("GGUF tokenizer");
        int32_t type = types ? types[i] : 1;
        if (type != GGUF_TOKEN_CONTROL && type != GGUF_TOKEN_USER_DEFINED)
            continue;
        json_t *entry = json_pack("{sI ss sb sb}", "id", (json_int_t)i, "content", tokens[i], "normalized", 0,
                                  "special", type == GGUF_TOKEN_CONTROL);
        if (json_array_append_new(added, entry) != 0)
            return no_memory("GGUF tokenizer");
    }
    return SC_OK;
}

sc_status tokenizer_from_gguf(const char *const *tokens, const int32_t *types, size_t n_tokens,
                              const char *const *merges, size_t n_merges, const char *pre, tokenizer **out)
{
    sc_status status = SC_OK;
    json_t *doc = NULL, *vocab = json_object(), *added = json_array(), *list = json_array();
    json_t *pre_tokenizer = gguf_pre_tokenizer(pre);
    *out = NULL;
    if (!pre_tokenizer) {
        status = sc_fail(SC_BAD_INPUT,
                         "GGUF tokenizer: the pre-tokenizer \"%s\" is not supported (smollm, gpt-2, "
                         "llama-bpe and qwen2 are)",
                         pre);
        goto cleanup;
    }
    if (!vocab || !added || !list) {
        status = no_memory("GGUF tokenizer");
        goto cleanup;
    }
    SC_TRY(gguf_vocabulary(tokens, types, n_tokens, vocab, added));
    for (size_t i = 0; i < n_merges; i++) {
        json_t *merge = json_string(merges[i]);
        if (!merge) {
            status = sc_fail(SC_BAD_INPUT, "GGUF tokenizer: merge %zu is not UTF-8", i);
            goto cleanup;
        }
        if (json_array_append_new(list, merge) != 0) {
            status = no_memory("GGUF tokenizer");
            goto cleanup;
        }
    }
    json_t *normalizer = strcmp(pre, "qwen2") == 0 ? json_pack("{ss}", "type", "NFC") : json_null();
    doc = json_pack("{sO so sO s{ss sb sb sb} s{ss sb sO sO}}", "added_tokens", added, "normalizer",
                    normalizer, "pre_tokenizer", pre_tokenizer, "decoder", "type", "ByteLevel",
                    "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1, "model", "type", "BPE",
                    "ignore_merges", strcmp(pre, "llama-bpe") == 0, "vocab", vocab, "merges", list);
    if (!doc) {
        status = no_memory("GGUF tokenizer");
        goto cleanup;
    }
    SC_TRY(tokenizer_from_json(doc, "GGUF tokenizer", out));
cleanup:
    json_decref(doc);
    json_decref(pre_tokenizer);
    json_decref(vocab);
    json_decref(added);
    json_decref(list);
    return status;
}
