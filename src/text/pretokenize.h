/* The pre_tokenizer of a tokenizer.json: cuts a text into the pieces that BPE sees. */
#ifndef SC_TEXT_PRETOKENIZE_H
#define SC_TEXT_PRETOKENIZE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pretokenizer pretokenizer;

/* `node`: the value of "pre_tokenizer": ByteLevel, or a Sequence of Digits and Split that ends in
 * ByteLevel. Anything else is SC_BAD_INPUT, naming `where` and what is not supported. */
sc_status pretokenizer_open(const json_t *node, const char *where, pretokenizer **out);
void pretokenizer_close(pretokenizer *p);

/* One thread's memory. */
typedef struct pretokenize_scratch pretokenize_scratch;
sc_status pretokenize_scratch_open(const pretokenizer *p, pretokenize_scratch **out);
void pretokenize_scratch_close(pretokenize_scratch *s);

/* Calls piece() for each piece of the valid UTF-8 text[0..n), in order, until one fails. */
typedef sc_status (*pretokenize_piece)(void *user, const char *piece, size_t n);
sc_status pretokenize(const pretokenizer *p, pretokenize_scratch *s, const char *text, size_t n,
                      pretokenize_piece piece, void *user);

#ifdef __cplusplus
}
#endif
#endif
