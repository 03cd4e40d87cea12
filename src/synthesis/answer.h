/* A chat completion: read from an endpoint's body, and kept in the journal. */
#ifndef SC_SYNTHESIS_ANSWER_H
#define SC_SYNTHESIS_ANSWER_H

#include "base/json.h"

typedef struct chat_answer {
    char *content;
    char *model;                              /* as the endpoint names it, "" if it does not */
    int64_t prompt_tokens, completion_tokens; /* -1: not told */
} chat_answer;

/* SC_BAD_INPUT, with the reason, for what is no usable answer: not JSON, cut short, an error under
 * status 200, no choice, no content, a refusal, or a finish_reason other than "stop". `*again`: a
 * repetition may help (the sampling differs, or the server stumbled). */
sc_status chat_answer_read(const char *body, size_t n, chat_answer *out, bool *again);
/* The journal's form of it. */
sc_status chat_answer_pack(const chat_answer *a, strbuf *out);
sc_status chat_answer_unpack(const char *text, size_t n, chat_answer *out);
void chat_answer_free(chat_answer *a);

#endif
