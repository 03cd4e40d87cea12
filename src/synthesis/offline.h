/* The offline teacher: a request written from an item's own reviews, an answer ranked by
 * collaborative filtering. No model, no network; the same inputs and seed give the same bytes. */
#ifndef SC_SYNTHESIS_OFFLINE_H
#define SC_SYNTHESIS_OFFLINE_H

#include "synthesis/material.h"

enum { OFFLINE_LIST = 20, OFFLINE_LONGEST_COPY = 12 /* words in a row from a review */ };

/* Hashes of the first eight words of the requests written so far, so that no two begin alike. */
typedef struct beginnings {
    uint64_t *at; /* open addressing, 0: free */
    size_t n, cap;
} beginnings;
bool beginnings_has(const beginnings *b, const char *request);
sc_status beginnings_add(beginnings *b, const char *request);
void beginnings_free(beginnings *b);

typedef struct offline_draft {
    char *request;      /* the bare words; for a conversation its text, turns and all */
    char *conversation; /* what goes into the prompt: "\nUser: ...\nSystem: " */
    const style_template *used;
    const style_template *drawn[MATERIAL_TEMPLATES];
    size_t n_drawn;
    size_t n_turns;
    const char *genre, *person; /* what the request asks for by name, or NULL */
    int32_t decade;
    int32_t liked[2]; /* catalogue items mentioned */
    size_t n_liked;
    neighbour answer[OFFLINE_LIST];
    size_t n_answer;
} offline_draft;

/* Writes the j-th request of a seed. Sequential: `before` decides which beginnings are taken. */
sc_status offline_write(const synthesis_context *c, const material *m, int64_t j, const beginnings *before,
                        offline_draft *out);
/* Ranks the answer. Safe to call from several threads. */
sc_status offline_answer(const synthesis_context *c, const material *m, offline_draft *draft);
/* The dialogue as a line of dialogues.jsonl. */
sc_status offline_line(const synthesis_context *c, const material *m, const offline_draft *draft,
                       const char *id, const char *request_sha256, json_t **out);
void offline_draft_free(offline_draft *d);

/* Parts that the endpoint teacher shares. */
/* The templates drawn for a seed, in order of use: those that can be said of the item. */
sc_status offline_draw(const synthesis_context *c, const material *m, const style_template **out, size_t *n);
/* A conversation in the form of the test prompts, from a request that may hold "User: " lines. */
sc_status offline_conversation(const char *const *turns, size_t n, bool user_first, strbuf *out);

#endif
