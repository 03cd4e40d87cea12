/* Encoding and decoding. The order of the steps is that of the `tokenizers` library: added tokens in
 * the text as it is, normalising, added tokens in the normalised text, pre-tokenizing, BPE. */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "text/tokenizer_parts.h"

/* Pre-tokens seen before, one per slot; longer ones are not kept. */
#define CACHE_SLOTS 8192
#define CACHE_TEXT 30
#define CACHE_IDS 6

typedef struct cache_slot {
    uint64_t hash;
    uint8_t length; /* 0: free */
    uint8_t n_ids;
    char text[CACHE_TEXT];
    int32_t ids[CACHE_IDS];
} cache_slot;

struct encoder {
    encoder *next;
    pretokenize_scratch *pre;
    bpe_scratch bpe;
    strbuf repaired, normalized, spelled;
    cache_slot *cache;
    /* the call at hand */
    const tokenizer *t;
    token_ids *out;
    bool parse_special;
};

void token_ids_free(token_ids *t)
{
    free(t->ids);
    *t = (token_ids){0};
}

static sc_status reserve_ids(token_ids *t, size_t more)
{
    return sc_grow(&t->ids, &t->cap, t->n + more, sizeof *t->ids);
}

sc_status token_ids_push(token_ids *t, int32_t id)
{
    if (t->n == t->cap) {
        sc_status status = reserve_ids(t, 1);
        if (status != SC_OK)
            return status;
    }
    t->ids[t->n++] = id;
    return SC_OK;
}

/* ---- encoders ---- */

static void encoder_close(encoder *e)
{
    if (!e)
        return;
    pretokenize_scratch_close(e->pre);
    bpe_scratch_free(&e->bpe);
    strbuf_free(&e->repaired);
    strbuf_free(&e->normalized);
    strbuf_free(&e->spelled);
    free(e->cache);
    free(e);
}

void encoder_pool_free(encoder *first)
{
    while (first) {
        encoder *next = first->next;
        encoder_close(first);
        first = next;
    }
}

/* The pool is the one part of a tokenizer that changes, under its lock. */
static sc_status encoder_take(const tokenizer *t, encoder **out)
{
    tokenizer *shared = (tokenizer *)t;
    pthread_mutex_lock(&shared->pool_lock);
    encoder *e = shared->pool;
    if (e)
        shared->pool = e->next;
    pthread_mutex_unlock(&shared->pool_lock);
    sc_status status = SC_OK;
    if (!e) {
        SC_TRY(sc_alloc(&e, 1, sizeof *e));
        SC_TRY(pretokenize_scratch_open(t->pre, &e->pre));
        SC_TRY(sc_alloc(&e->cache, CACHE_SLOTS, sizeof *e->cache));
        e->t = t;
    }
    *out = e;
    e = NULL;
cleanup:
    encoder_close(e);
    return status;
}

static void encoder_give(const tokenizer *t, encoder *e)
{
    tokenizer *shared = (tokenizer *)t;
    pthread_mutex_lock(&shared->pool_lock);
    e->next = shared->pool;
    shared->pool = e;
    pthread_mutex_unlock(&shared->pool_lock);
}

/* ---- one pre-token ---- */

static uint64_t hash_piece(const char *text, size_t n)
{
    uint64_t h = n * UINT64_C(0x9e3779b97f4a7c15);
    for (; n >= 8; text += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    uint64_t rest = 0;
    for (size_t i = 0; i < n; i++)
        rest |= (uint64_t)(unsigned char)text[i] << (8 * i);
    h = (h ^ rest) * UINT64_C(0xff51afd7ed558ccd);
    return h ^ h >> 29;
}

/* The tokens of a pre-token in e->bpe.ids. */
static sc_status encode_piece(encoder *e, const char *piece, size_t n, size_t *n_out)
{
    const tokenizer *t = e->t;
    if (n >= UINT32_MAX - 1)
        return sc_fail(SC_BAD_INPUT, "a word of %zu bytes is too long for the tokenizer; cut the text", n);
    sc_status status = bpe_reserve(&e->bpe, n);
    if (status != SC_OK)
        return status;
    if (t->ignore_merges) { /* a pre-token that is a token as a whole is not merged up */
        strbuf_clear(&e->spelled);
        byte_level_spell(&e->spelled, piece, n);
        status = strbuf_status(&e->spelled);
        if (status != SC_OK)
            return status;
        int32_t id = tokenizer_find(t, e->spelled.data, e->spelled.len);
        if (id >= 0 && t->vocab[id].in_model && !t->vocab[id].special) {
            e->bpe.ids[0] = id;
            *n_out = 1;
            return SC_OK;
        }
    }
    size_t symbols = 0;
    bool after_unk = false;
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)piece[i];
        int32_t id = t->byte_id[byte];
        if (id >= 0) {
            e->bpe.ids[symbols++] = id;
            after_unk = false;
            continue;
        }
        if (t->unk_id < 0)
            continue;
        if (!(after_unk && t->fuse_unk))
            e->bpe.ids[symbols++] = t->unk_id;
        after_unk = true;
    }
    return bpe_apply(&t->merges, &e->bpe, symbols, n_out);
}

static sc_status push_piece(void *user, const char *piece, size_t n)
{
    encoder *e = user;
    sc_status status = SC_OK;
    cache_slot *slot = NULL;
    uint64_t hash = 0;
    if (n <= CACHE_TEXT) {
        hash = hash_piece(piece, n);
        slot = &e->cache[hash % CACHE_SLOTS];
        if (slot->length == n && slot->hash == hash && memcmp(slot->text, piece, n) == 0) {
            SC_TRY(reserve_ids(e->out, slot->n_ids));
            for (size_t i = 0; i < slot->n_ids; i++)
                e->out->ids[e->out->n++] = slot->ids[i];
            return SC_OK;
        }
    }
    size_t n_ids = 0;
    SC_TRY(encode_piece(e, piece, n, &n_ids));
    SC_TRY(reserve_ids(e->out, n_ids));
    for (size_t i = 0; i < n_ids; i++)
        e->out->ids[e->out->n++] = e->bpe.ids[i];
    if (slot && n_ids <= CACHE_IDS) {
        slot->hash = hash;
        slot->length = (uint8_t)n;
        slot->n_ids = (uint8_t)n_ids;
        memcpy(slot->text, piece, n);
        if (n_ids > 0)
            memcpy(slot->ids, e->bpe.ids, n_ids * sizeof *slot->ids);
    }
cleanup:
    return status;
}

/* ---- one text ---- */

static sc_status push_token(void *user, int32_t id)
{
    encoder *e = user;
    return token_ids_push(e->out, id);
}

static sc_status push_plain(void *user, const char *text, size_t n)
{
    encoder *e = user;
    return pretokenize(e->t->pre, e->pre, text, n, push_piece, e);
}

static sc_status push_normalized(void *user, const char *text, size_t n)
{
    encoder *e = user;
    const tokenizer *t = e->t;
    if (t->nfc) {
        strbuf_clear(&e->normalized);
        sc_status status = normalize_nfc(&e->normalized, text, n);
        if (status != SC_OK)
            return status;
        text = strbuf_text(&e->normalized);
        n = e->normalized.len;
    }
    added_sink sink = {push_plain, push_token, e};
    return added_tokens_split(&t->normalized_index, text, n, e->parse_special, &sink);
}

static sc_status encode_with(encoder *e, const char *text, size_t n, bool parse_special, token_ids *out)
{
    if (!utf8_valid(text, n)) {
        strbuf_clear(&e->repaired);
        utf8_sanitize(&e->repaired, text, n);
        sc_status status = strbuf_status(&e->repaired);
        if (status != SC_OK)
            return status;
        text = strbuf_text(&e->repaired);
        n = e->repaired.len;
    }
    e->out = out;
    e->parse_special = parse_special;
    added_sink sink = {push_normalized, push_token, e};
    return added_tokens_split(&e->t->raw_index, text, n, parse_special, &sink);
}

sc_status tokenizer_encode(const tokenizer *t, const char *text, size_t n, bool parse_special, token_ids *out)
{
    encoder *e = NULL;
    sc_status status = encoder_take(t, &e);
    if (status != SC_OK)
        return status;
    status = encode_with(e, text, n, parse_special, out);
    encoder_give(t, e);
    return status;
}

/* texts[0..n) over threads; the lowest index that failed is n_texts if none did. */
static void encode_chunk(const tokenizer *t, const char *const *texts, int64_t n, bool parse_special,
                         token_ids *out, int64_t *first_failed)
{
    int64_t failed = n;
#pragma omp parallel
    {
        encoder *e = NULL;
        sc_status taken = encoder_take(t, &e);
#pragma omp for schedule(dynamic, 16) reduction(min : failed)
        for (int64_t i = 0; i < n; i++) {
            if (taken != SC_OK || encode_with(e, texts[i], strlen(texts[i]), parse_special, &out[i]) != SC_OK)
                failed = i < failed ? i : failed;
        }
        if (taken == SC_OK)
            encoder_give(t, e);
    }
    *first_failed = failed;
}

sc_status tokenizer_encode_batch(const tokenizer *t, const char *const *texts, size_t n_texts,
                                 bool parse_special, token_ids *out)
{
    enum { CHUNK = 4096 }; /* texts between two looks at the user's wish to stop */
    sc_status status = SC_OK;
    for (size_t first = 0; first < n_texts; first += CHUNK) {
        size_t n = n_texts - first < CHUNK ? n_texts - first : CHUNK;
        SC_TRY(check_cancelled());
        int64_t failed = 0;
        encode_chunk(t, texts + first, (int64_t)n, parse_special, out + first, &failed);
        if (failed < (int64_t)n) { /* the sentence belongs to the other thread: fail again on this one */
            const char *text = texts[first + (size_t)failed];
            token_ids again = {0};
            status = tokenizer_encode(t, text, strlen(text), parse_special, &again);
            token_ids_free(&again);
            if (status == SC_OK)
                status = sc_fail(SC_MEMORY, "memory ran out while texts were tokenized; use fewer threads");
            goto cleanup;
        }
    }
cleanup:
    return status;
}

/* ---- ids to text ---- */

int32_t tokenizer_vocab_size(const tokenizer *t)
{
    return (int32_t)t->n_ids;
}

int32_t tokenizer_token_id(const tokenizer *t, const char *token)
{
    return tokenizer_find(t, token, strlen(token));
}

bool tokenizer_is_special(const tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->n_ids && t->vocab[id].special;
}

sc_status tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t n, bool keep_special, strbuf *out)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0)
            return sc_fail(SC_BAD_INPUT, "%d is not a token id", (int)ids[i]);
        /* Models have more rows than tokens; such an id stands for nothing. */
        if ((size_t)ids[i] >= t->n_ids || (t->vocab[ids[i]].special && !keep_special))
            continue;
        const vocab_token *token = &t->vocab[ids[i]];
        strbuf_append(out, t->bytes.data + token->raw, token->raw_length);
    }
    return strbuf_status(out);
}
