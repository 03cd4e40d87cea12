/* The texts of embed as tokens, a group at a time: those of the next group are made by a thread while the model works on
 * the present one. */
#ifndef SC_MODEL_EMBED_TEXTS_H
#define SC_MODEL_EMBED_TEXTS_H

#include <pthread.h>

#include "data/dataset.h"
#include "text/tokenizer.h"

enum { EMBED_GROUP = 64 };

typedef enum embed_text { TEXT_REVIEW, TEXT_ITEM, TEXT_BOTH } embed_text;

typedef struct text_group {
    token_ids ids[EMBED_GROUP];
    strbuf text;
    int64_t first, n;        /* rows */
    int64_t n_tokens, n_cut; /* cut: texts longer than max_tokens */
    sc_status status;
    char sentence[1024]; /* of a failure */
} text_group;

typedef struct embed_texts {
    const dataset *data;
    const tokenizer *tokenizer;
    embed_text kind;
    int64_t n_rows, max_tokens;
    int32_t empty_id; /* an empty text still needs a vector: this token's */
    int64_t next;     /* the row that the next group begins with */
    /* the rest is this file's */
    text_group groups[2];
    int present;
    pthread_t thread;
    bool ahead; /* the other group is in the making */
} embed_texts;

/* The next group, valid until the next call. */
sc_status embed_texts_take(embed_texts *t, const text_group **out);
void embed_texts_close(embed_texts *t);

#endif
