/* Chat templates: messages -> token ids and the mask of what the assistant says. Exact, family by
 * family: the ids are those of transformers' apply_chat_template, except that special tokens inside a
 * content stay plain text, and that an assistant's content is encoded apart from its header, so that
 * a row to train on starts with the very ids of its prompt (chat.c says where that differs). */
#ifndef SC_TEXT_CHAT_H
#define SC_TEXT_CHAT_H

#include "text/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
} chat_message;

typedef enum chat_family { CHAT_CHATML_SMOLLM2 = 0, CHAT_CHATML = 1 } chat_family;

typedef struct chat_rendered {
    token_ids ids;
    uint8_t *mask;       /* [ids.n] 1: supervised (the assistant's content and its end token) */
    size_t *message_end; /* [n_messages] ids up to and including message i and the line end behind it */
} chat_rendered;
void chat_rendered_free(chat_rendered *r);

/* The family of a model folder, from its chat template (tokenizer_config.json or
 * chat_template.jinja); SC_BAD_INPUT with a sentence for a template we do not know. */
sc_status chat_family_of(const char *model_folder, chat_family *out);
/* add_generation_prompt: ends with the header of an assistant's turn. SmolLM2's family puts its
 * default system message first when the messages start with none. Roles are system, user and assistant;
 * anything else, or no message at all, is SC_BAD_INPUT. Invalid UTF-8 is replaced by U+FFFD. */
sc_status chat_render(const tokenizer *t, chat_family family, const chat_message *messages, size_t n_messages,
                      bool add_generation_prompt, chat_rendered *out);
/* The same as text (what transformers' apply_chat_template(tokenize=False) gives). */
sc_status chat_render_text(chat_family family, const chat_message *messages, size_t n_messages,
                           bool add_generation_prompt, strbuf *out);
/* The token that ends an assistant's turn ("<|im_end|>"). */
int32_t chat_end_token(const tokenizer *t, chat_family family);

#ifdef __cplusplus
}
#endif
#endif
