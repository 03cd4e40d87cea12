/* What a tokenizer is made of: filled by tokenizer_json.c, used by tokenizer.c and added_tokens.c. */
#ifndef SC_TEXT_TOKENIZER_PARTS_H
#define SC_TEXT_TOKENIZER_PARTS_H

#include <jansson.h>
#include <pthread.h>

#include "text/bpe.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One id. Offsets point into tokenizer.bytes. */
typedef struct vocab_token {
    size_t text;          /* as the file spells it, terminated */
    size_t raw;           /* the bytes it stands for */
    uint32_t text_length; /* 0: no token has this id */
    uint32_t raw_length;
    bool in_model; /* in the BPE vocabulary, so that merges may make it */
    bool special;
} vocab_token;

typedef struct added_token {
    char *content;
    char *match; /* what is looked for: the content, normalised if `normalized` */
    size_t match_length;
    int32_t id;
    bool special, lstrip, rstrip, normalized;
} added_token;

/* The added tokens of one pass, by first byte, the longest first. */
typedef struct added_index {
    const added_token **tokens;
    size_t n;
    size_t first[257]; /* tokens[first[b] .. first[b + 1]) start with byte b */
} added_index;

typedef struct encoder encoder; /* one thread's memory */

struct tokenizer {
    char *path;
    strbuf bytes;
    vocab_token *vocab; /* [n_ids] */
    size_t n_ids;
    uint32_t *by_text; /* open addressing: id + 1, 0 free */
    size_t by_text_mask;
    int32_t byte_id[256]; /* the token of a single byte; -1: there is none */
    bpe_merges merges;
    int32_t (*merge_list)[2]; /* [n_merges] in order of rank */
    size_t n_merges;
    int32_t unk_id; /* for a byte without a token; -1: it is left out, as `tokenizers` does */
    bool fuse_unk, ignore_merges, nfc;
    pretokenizer *pre;
    added_token *added;
    size_t n_added;
    added_index raw_index, normalized_index; /* looked for before and after normalising */
    json_t *parts; /* normalizer, pre_tokenizer, post_processor, decoder as they were read */

    pthread_mutex_t pool_lock;
    encoder *pool; /* free encoders */
};

/* Builds one from a parsed tokenizer.json; `where` opens every error. */
sc_status tokenizer_from_json(json_t *doc, const char *where, tokenizer **out);

/* The id of a spelling, -1 if there is none. */
int32_t tokenizer_find(const tokenizer *t, const char *text, size_t n);
/* Appends the UTF-8 of the byte-level alphabet's letter for each byte (GPT-2's bytes_to_unicode). */
void byte_level_spell(strbuf *out, const char *bytes, size_t n);
/* The reverse; false (with nothing appended) if a letter is not of the alphabet. */
bool byte_level_bytes(strbuf *out, const char *text, size_t n);
/* NFC of valid UTF-8. */
sc_status normalize_nfc(strbuf *out, const char *text, size_t n);

/* Fills t->raw_index and t->normalized_index from t->added. */
sc_status added_tokens_index(tokenizer *t);
void added_tokens_free(tokenizer *t);
/* Cuts text at the index's tokens: part() for the text between them, token() for each of them. */
typedef struct added_sink {
    sc_status (*part)(void *user, const char *text, size_t n);
    sc_status (*token)(void *user, int32_t id);
    void *user;
} added_sink;
sc_status added_tokens_split(const added_index *index, const char *text, size_t n, bool parse_special,
                             const added_sink *sink);

/* Frees the encoders in the pool. */
void encoder_pool_free(encoder *first);

#ifdef __cplusplus
}
#endif
#endif
