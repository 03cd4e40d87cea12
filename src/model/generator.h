/* A model that answers conversations: what sc_generator_* and sc_generate share. */
#ifndef SC_MODEL_GENERATOR_H
#define SC_MODEL_GENERATOR_H

#include "model/generate.h"
#include "seedcorn/generate.h"
#include "text/chat.h"

struct sc_generator {
    device *device;
    model *model;
    tokenizer *tokenizer;
    chat_family family;
    generate_options settings;
    char **stops;
    size_t n_stops;
};

sc_status generate_check_options(const sc_generate_options *o);
/* What recommend has, too; `verb` begins the sentence. */
sc_status generate_check_sampling(const char *verb, int64_t max_tokens, double temperature, double top_p);

/* SC_BAD_INPUT with the name of the first conversation that could not be answered, or scored. */
sc_status generator_check(const sc_generator *g, const sc_conversation *conversations,
                          const char *const *names, size_t n, bool scored);

/* As the public functions. Row i draws the numbers of row first + i; names[i] is what errors call a conversation, names
 * may be NULL; `p` (or NULL) counts tokens. */
sc_status generator_reply(sc_generator *g, const sc_conversation *conversations, const char *const *names,
                          size_t n, uint64_t first, sc_reply *replies, progress *p);
sc_status generator_score(sc_generator *g, const sc_conversation *conversations, const char *const *names,
                          size_t n, double *logprobs, int64_t *n_prompt, int64_t *n_tokens, progress *p);

#endif
