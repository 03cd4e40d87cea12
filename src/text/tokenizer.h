/* Byte-level BPE tokenizers from Hugging Face tokenizer.json (the GGUF metadata is turned into one
 * by model/convert). Ids are identical to the `tokenizers` library. */
#ifndef SC_TEXT_TOKENIZER_H
#define SC_TEXT_TOKENIZER_H

#include <stdbool.h>

#include "base/status.h"
#include "base/text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tokenizer tokenizer;

typedef struct token_ids {
    int32_t *ids;
    size_t n, cap;
} token_ids;
void token_ids_free(token_ids *t);
sc_status token_ids_push(token_ids *t, int32_t id);

/* `path` is a tokenizer.json, or a folder that holds one. What the file asks for and we do not do (another
 * model than BPE, no ByteLevel, a normalizer that is not NFC ...) is SC_BAD_INPUT, naming it. */
sc_status tokenizer_open(const char *path, tokenizer **out);
/* From parsed parts, as a GGUF holds them: tokens[i] in the byte-level alphabet, merges "a b",
 * types (llama.cpp: 1 normal, 3 control), pre: "smollm" | "gpt-2" | "llama-bpe" | "qwen2". */
sc_status tokenizer_from_gguf(const char *const *tokens, const int32_t *types, size_t n_tokens,
                              const char *const *merges, size_t n_merges, const char *pre, tokenizer **out);
/* Writes a tokenizer.json that the `tokenizers` library reads back to the same ids. */
sc_status tokenizer_save(const tokenizer *t, const char *path);
void tokenizer_close(tokenizer *t);

int32_t tokenizer_vocab_size(const tokenizer *t); /* highest id + 1 */
/* -1 if there is none. */
int32_t tokenizer_token_id(const tokenizer *t, const char *token);
bool tokenizer_is_special(const tokenizer *t, int32_t id);

/* Appends the ids of text[0..n). Special tokens in the text become their ids if parse_special
 * (Hugging Face's behaviour), else they are encoded as the plain text they are: contents of chat
 * messages are encoded that way, so that a review cannot close the user's turn. Invalid UTF-8 is
 * replaced by U+FFFD first. No BOS or EOS is added. Thread-safe. */
sc_status tokenizer_encode(const tokenizer *t, const char *text, size_t n, bool parse_special,
                           token_ids *out);
/* Many texts over threads; out[i] as by tokenizer_encode. */
sc_status tokenizer_encode_batch(const tokenizer *t, const char *const *texts, size_t n_texts,
                                 bool parse_special, token_ids *out);
/* Appends the bytes of ids; special tokens are left out unless keep_special. The result may end
 * inside a UTF-8 sequence. Ids above the vocabulary (models have more rows than tokens) give nothing;
 * a negative one is SC_BAD_INPUT. */
sc_status tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t n, bool keep_special, strbuf *out);

#ifdef __cplusplus
}
#endif
#endif
