/* Reading tokenizer.json. What the file asks for and we do not do is named in the error: a tokenizer
 * that is nearly right gives ids that are quietly wrong. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "text/tokenizer_parts.h"

#define MAX_ID (1 << 24) /* ids above are no vocabulary but a hostile file */
#define NO_TOKEN 0u

/* ---- the table of spellings ---- */

static uint64_t hash_text(const char *text, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return h ^ h >> 32;
}

static size_t text_slot(const tokenizer *t, const char *text, size_t n)
{
    size_t slot = (size_t)hash_text(text, n) & t->by_text_mask;
    for (; t->by_text[slot] != NO_TOKEN; slot = (slot + 1) & t->by_text_mask) {
        const vocab_token *token = &t->vocab[t->by_text[slot] - 1];
        if (token->text_length == n && memcmp(t->bytes.data + token->text, text, n) == 0)
            break;
    }
    return slot;
}

int32_t tokenizer_find(const tokenizer *t, const char *text, size_t n)
{
    return (int32_t)t->by_text[text_slot(t, text, n)] - 1;
}

/* Gives `id` its spelling; the caller has checked that both are free. */
static sc_status place(tokenizer *t, int32_t id, const char *text, size_t n, bool in_model)
{
    if (n == 0 || n > UINT32_MAX / 2)
        return sc_fail(SC_BAD_INPUT, "%s: the token of id %d is %s", t->path, (int)id,
                       n ? "too long" : "empty");
    size_t slot = text_slot(t, text, n);
    vocab_token *token = &t->vocab[id];
    token->text = t->bytes.len;
    token->text_length = (uint32_t)n;
    token->in_model = in_model;
    strbuf_append(&t->bytes, text, n);
    strbuf_putc(&t->bytes, '\0');
    token->raw = t->bytes.len;
    if (!in_model ||
        !byte_level_bytes(&t->bytes, text, n)) { /* a token outside the alphabet is its spelling */
        token->raw = token->text;
        token->raw_length = (uint32_t)n;
    } else {
        token->raw_length = (uint32_t)(t->bytes.len - token->raw);
    }
    t->by_text[slot] = (uint32_t)id + 1;
    return strbuf_status(&t->bytes);
}

/* ---- the model ---- */

static sc_status check_id(const tokenizer *t, const json_t *value, const char *token, int32_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) >= MAX_ID)
        return sc_fail(SC_BAD_INPUT, "%s: the id of the token \"%s\" must be an integer from 0 to %d",
                       t->path, token, MAX_ID - 1);
    *out = (int32_t)json_integer_value(value);
    return SC_OK;
}

/* Memory for every id of the vocabulary and of the added tokens. */
static sc_status size_vocabulary(tokenizer *t, json_t *vocab, json_t *added)
{
    int32_t id = 0, highest = -1;
    size_t n_texts = json_object_size(vocab) + json_array_size(added), capacity = 16, i;
    const char *key;
    json_t *value;
    sc_status status = SC_OK;
    if (json_object_size(vocab) == 0)
        return sc_fail(SC_BAD_INPUT, "%s: the model has no \"vocab\", or an empty one", t->path);
    json_object_foreach(vocab, key, value)
    {
        SC_TRY(check_id(t, value, key, &id));
        highest = id > highest ? id : highest;
    }
    json_array_foreach(added, i, value)
    {
        const char *content = json_string_value(json_object_get(value, "content"));
        if (!content || !*content) {
            status = sc_fail(SC_BAD_INPUT, "%s: added token %zu has no \"content\"", t->path, i);
            goto cleanup;
        }
        SC_TRY(check_id(t, json_object_get(value, "id"), content, &id));
        highest = id > highest ? id : highest;
    }
    t->n_ids = (size_t)highest + 1;
    while (capacity / 2 < n_texts)
        capacity *= 2;
    t->by_text_mask = capacity - 1;
    SC_TRY(sc_alloc(&t->vocab, t->n_ids, sizeof *t->vocab));
    SC_TRY(sc_alloc(&t->by_text, capacity, sizeof *t->by_text));
cleanup:
    return status;
}

static sc_status read_vocabulary(tokenizer *t, json_t *vocab)
{
    sc_status status = SC_OK;
    const char *key;
    json_t *value;
    json_object_foreach(vocab, key, value)
    {
        int32_t id = (int32_t)json_integer_value(value);
        if (t->vocab[id].text_length) {
            status = sc_fail(SC_BAD_INPUT, "%s: the tokens \"%s\" and \"%s\" have the same id %d", t->path,
                             t->bytes.data + t->vocab[id].text, key, (int)id);
            goto cleanup;
        }
        SC_TRY(place(t, id, key, strlen(key), true));
    }
    for (int byte = 0; byte < 256; byte++) {
        strbuf letter = {0};
        char raw = (char)byte;
        byte_level_spell(&letter, &raw, 1);
        status = strbuf_status(&letter);
        if (status == SC_OK)
            t->byte_id[byte] = tokenizer_find(t, letter.data, letter.len);
        strbuf_free(&letter);
        if (status != SC_OK)
            goto cleanup;
    }
cleanup:
    return status;
}

/* "left right", or ["left", "right"]. */
static bool merge_sides(const json_t *merge, const char **left, size_t *n_left, const char **right)
{
    if (json_is_array(merge) && json_array_size(merge) == 2) {
        *left = json_string_value(json_array_get(merge, 0));
        *right = json_string_value(json_array_get(merge, 1));
        *n_left = *left ? strlen(*left) : 0;
        return *left && *right;
    }
    *left = json_string_value(merge);
    const char *blank = *left ? strchr(*left, ' ') : NULL;
    if (!blank || strchr(blank + 1, ' '))
        return false;
    *n_left = (size_t)(blank - *left);
    *right = blank + 1;
    return true;
}

static sc_status read_merges(tokenizer *t, const json_t *merges)
{
    sc_status status = SC_OK;
    strbuf joined = {0};
    if (!json_is_array(merges) || json_array_size(merges) >= UINT32_MAX)
        return sc_fail(SC_BAD_INPUT, "%s: the model has no list of \"merges\"", t->path);
    size_t n = json_array_size(merges);
    SC_TRY(bpe_merges_create(&t->merges, n));
    SC_TRY(sc_alloc(&t->merge_list, n ? n : 1, sizeof *t->merge_list));
    t->n_merges = n;
    for (size_t i = 0; i < n; i++) {
        const char *left, *right;
        size_t n_left;
        if (!merge_sides(json_array_get(merges, i), &left, &n_left, &right)) {
            status =
                sc_fail(SC_BAD_INPUT, "%s: merge %zu must be \"left right\" or [left, right]", t->path, i);
            goto cleanup;
        }
        strbuf_clear(&joined);
        strbuf_append(&joined, left, n_left);
        strbuf_puts(&joined, right);
        SC_TRY(strbuf_status(&joined));
        int32_t a = tokenizer_find(t, left, n_left), b = tokenizer_find(t, right, strlen(right));
        int32_t ab = tokenizer_find(t, joined.data, joined.len);
        if (a < 0 || b < 0 || ab < 0) {
            status = sc_fail(SC_BAD_INPUT,
                             "%s: merge %zu (\"%.*s\" + \"%s\") names a token that is not in the "
                             "vocabulary",
                             t->path, i, (int)n_left, left, right);
            goto cleanup;
        }
        t->merge_list[i][0] = a;
        t->merge_list[i][1] = b;
        bpe_merges_put(&t->merges, a, b, (uint32_t)i, ab);
    }
cleanup:
    strbuf_free(&joined);
    return status;
}

/* The settings of the model: what changes ids and is not done is refused. */
static sc_status read_model(tokenizer *t, const json_t *model)
{
    static const char *const known[] = {"type",
                                        "dropout",
                                        "unk_token",
                                        "continuing_subword_prefix",
                                        "end_of_word_suffix",
                                        "fuse_unk",
                                        "byte_fallback",
                                        "ignore_merges",
                                        "vocab",
                                        "merges",
                                        NULL};
    sc_status status = SC_OK;
    const char *key, *affix;
    json_t *value;
    bool byte_fallback;
    json_object_foreach((json_t *)model, key, value)
    {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i]) {
            status = sc_fail(SC_BAD_INPUT, "%s: the model's \"%s\" is not supported", t->path, key);
            goto cleanup;
        }
    }
    value = json_object_get(model, "dropout");
    if (value && !json_is_null(value) && json_number_value(value) != 0) {
        status = sc_fail(SC_BAD_INPUT, "%s: BPE with \"dropout\" is not supported", t->path);
        goto cleanup;
    }
    for (int i = 3; i <= 4; i++) {
        SC_TRY(json_get_string(model, known[i], t->path, "", &affix));
        if (*affix) {
            status = sc_fail(SC_BAD_INPUT, "%s: BPE with \"%s\" is not supported", t->path, known[i]);
            goto cleanup;
        }
    }
    SC_TRY(json_get_bool(model, "byte_fallback", t->path, false, &byte_fallback));
    if (byte_fallback) {
        status = sc_fail(
            SC_BAD_INPUT,
            "%s: BPE with \"byte_fallback\" (SentencePiece's, as Gemma has it) is not supported, only "
            "byte-level BPE; choose a Llama, SmolLM2 or Qwen model",
            t->path);
        goto cleanup;
    }
    SC_TRY(json_get_bool(model, "fuse_unk", t->path, false, &t->fuse_unk));
    SC_TRY(json_get_bool(model, "ignore_merges", t->path, false, &t->ignore_merges));
    SC_TRY(json_get_string(model, "unk_token", t->path, NULL, &affix));
    t->unk_id = -1;
    if (affix) {
        t->unk_id = tokenizer_find(t, affix, strlen(affix));
        if (t->unk_id < 0)
            status =
                sc_fail(SC_BAD_INPUT, "%s: the unk_token \"%s\" is not in the vocabulary", t->path, affix);
    }
cleanup:
    return status;
}

/* ---- what stands around it ---- */

static sc_status read_added(tokenizer *t, const json_t *list)
{
    sc_status status = SC_OK;
    strbuf match = {0};
    SC_TRY(sc_alloc(&t->added, json_array_size(list) + 1, sizeof *t->added));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *content = json_string_value(json_object_get(entry, "content"));
        added_token *token = &t->added[t->n_added++];
        bool single_word;
        token->id = (int32_t)json_integer_value(json_object_get(entry, "id"));
        SC_TRY(json_get_bool(entry, "special", t->path, false, &token->special));
        SC_TRY(json_get_bool(entry, "lstrip", t->path, false, &token->lstrip));
        SC_TRY(json_get_bool(entry, "rstrip", t->path, false, &token->rstrip));
        SC_TRY(json_get_bool(entry, "normalized", t->path, !token->special, &token->normalized));
        SC_TRY(json_get_bool(entry, "single_word", t->path, false, &single_word));
        if (single_word) {
            status = sc_fail(SC_BAD_INPUT,
                             "%s: the added token \"%s\" has \"single_word\", which is not supported",
                             t->path, content);
            goto cleanup;
        }
        int32_t same = tokenizer_find(t, content, strlen(content));
        if (same >= 0 ? same != token->id : t->vocab[token->id].text_length != 0) {
            status = sc_fail(SC_BAD_INPUT,
                             "%s: the added token \"%s\" has the id %d, which does not fit the "
                             "vocabulary",
                             t->path, content, (int)token->id);
            goto cleanup;
        }
        if (same < 0)
            SC_TRY(place(t, token->id, content, strlen(content), false));
        t->vocab[token->id].special = t->vocab[token->id].special || token->special;
        SC_TRY(sc_strdup(&token->content, content));
        strbuf_clear(&match);
        if (token->normalized && t->nfc)
            SC_TRY(normalize_nfc(&match, content, strlen(content)));
        else
            strbuf_puts(&match, content);
        SC_TRY(strbuf_status(&match));
        token->match_length = match.len;
        SC_TRY(sc_strdup(&token->match, match.data));
    }
    SC_TRY(added_tokens_index(t));
cleanup:
    strbuf_free(&match);
    return status;
}

static sc_status read_normalizer(tokenizer *t, const json_t *node)
{
    if (!node || json_is_null(node))
        return SC_OK;
    const char *type = json_string_value(json_object_get(node, "type"));
    if (type && strcmp(type, "NFC") == 0) {
        t->nfc = true;
        return SC_OK;
    }
    if (type && strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(node, "normalizers");
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *inner = json_array_get(list, i);
            const char *name = json_string_value(json_object_get(inner, "type"));
            if (!name || strcmp(name, "NFC") != 0) /* no Sequence in a Sequence: nothing to recurse into */
                return sc_fail(SC_BAD_INPUT, "%s: the normalizer \"%s\" is not supported, only NFC", t->path,
                               name ? name : "without a type");
            t->nfc = true;
        }
        return SC_OK;
    }
    return sc_fail(SC_BAD_INPUT, "%s: the normalizer \"%s\" is not supported, only NFC", t->path,
                   type ? type : "without a type");
}

static sc_status read_decoder(const tokenizer *t, const json_t *node)
{
    const char *type = json_string_value(json_object_get(node, "type"));
    if (!node || json_is_null(node) || (type && strcmp(type, "ByteLevel") == 0))
        return SC_OK;
    return sc_fail(SC_BAD_INPUT, "%s: the decoder \"%s\" is not supported, only ByteLevel", t->path,
                   type ? type : "without a type");
}

/* Keeps the parts that tokenizer_save() writes as they were read. */
static sc_status keep_parts(tokenizer *t, json_t *doc)
{
    static const char *const names[] = {"normalizer", "pre_tokenizer", "post_processor", "decoder"};
    t->parts = json_object();
    for (size_t i = 0; t->parts && i < sizeof names / sizeof names[0]; i++) {
        json_t *part = json_object_get(doc, names[i]);
        if (json_object_set_new(t->parts, names[i], part ? json_incref(part) : json_null()) != 0)
            return sc_fail(SC_MEMORY, "%s: memory does not suffice for the tokenizer", t->path);
    }
    return t->parts ? SC_OK : sc_fail(SC_MEMORY, "%s: memory does not suffice for the tokenizer", t->path);
}

sc_status tokenizer_from_json(json_t *doc, const char *where, tokenizer **out)
{
    sc_status status = SC_OK;
    tokenizer *t = NULL;
    SC_TRY(sc_alloc(&t, 1, sizeof *t));
    pthread_mutex_init(&t->pool_lock, NULL);
    SC_TRY(sc_strdup(&t->path, where));
    json_t *model = json_object_get(doc, "model"), *added = json_object_get(doc, "added_tokens");
    const char *type = json_string_value(json_object_get(model, "type"));
    if (!json_is_object(model) || (json_object_get(model, "type") && (!type || strcmp(type, "BPE") != 0))) {
        status = sc_fail(SC_BAD_INPUT, "%s: the tokenizer's model \"%s\" is not supported, only BPE", where,
                         type ? type : "without a type");
        goto cleanup;
    }
    if (added && !json_is_null(added) && !json_is_array(added)) {
        status = sc_fail(SC_BAD_INPUT, "%s: \"added_tokens\" must be a list", where);
        goto cleanup;
    }
    json_t *vocab = json_object_get(model, "vocab");
    SC_TRY(size_vocabulary(t, vocab, added));
    SC_TRY(read_vocabulary(t, vocab));
    SC_TRY(read_model(t, model));
    SC_TRY(read_merges(t, json_object_get(model, "merges")));
    SC_TRY(read_normalizer(t, json_object_get(doc, "normalizer")));
    SC_TRY(read_added(t, added));
    SC_TRY(pretokenizer_open(json_object_get(doc, "pre_tokenizer"), where, &t->pre));
    SC_TRY(read_decoder(t, json_object_get(doc, "decoder")));
    SC_TRY(keep_parts(t, doc));
    *out = t;
    t = NULL;
cleanup:
    tokenizer_close(t);
    return status;
}

sc_status tokenizer_open(const char *path, tokenizer **out)
{
    sc_status status = SC_OK;
    json_t *doc = NULL;
    char *file = NULL;
    *out = NULL;
    if (file_is_dir(path)) {
        file = path_join(path, "tokenizer.json");
        if (!file)
            return sc_fail(SC_MEMORY, "memory does not suffice for a path");
        if (!file_exists(file)) {
            status = sc_fail(SC_BAD_INPUT, "%s has no tokenizer.json; give the folder of a model", path);
            goto cleanup;
        }
    } else {
        SC_TRY(sc_strdup(&file, path));
    }
    SC_TRY(json_parse_file(file, &doc));
    SC_TRY(tokenizer_from_json(doc, file, out));
cleanup:
    json_decref(doc);
    free(file);
    return status;
}

void tokenizer_close(tokenizer *t)
{
    if (!t)
        return;
    encoder_pool_free(t->pool);
    pthread_mutex_destroy(&t->pool_lock);
    added_tokens_free(t);
    pretokenizer_close(t->pre);
    bpe_merges_free(&t->merges);
    json_decref(t->parts);
    free(t->merge_list);
    free(t->by_text);
    free(t->vocab);
    strbuf_free(&t->bytes);
    free(t->path);
    free(t);
}
