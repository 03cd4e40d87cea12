/* One line of dialogues.jsonl, and of evaluation dialogues (the same without the assistant's last
 * message). Schema: docs/formats.md. */
#ifndef SC_DATA_DIALOGUE_H
#define SC_DATA_DIALOGUE_H

#include "base/json.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dialogue_message {
    char *role, *content;
} dialogue_message;

typedef struct dialogue {
    char *id;
    dialogue_message *messages;
    size_t n_messages;
    char **targets; /* titles: the truth, or the teacher's list */
    size_t n_targets;
    char **seen; /* titles already mentioned in the conversation */
    size_t n_seen;
    char *request; /* the bare request or conversation inside the prompt, or NULL */
    json_t *extra; /* every other key of the line, kept as it was */
} dialogue;

typedef struct dialogues {
    dialogue *rows;
    size_t n;
    char sha256[65]; /* of the file */
} dialogues;

/* Strict: unique ids, known roles, valid UTF-8; file:line in every error. An empty file is an error. */
sc_status dialogues_read(const char *path, dialogues *out);
void dialogues_free(dialogues *d);

/* He et al.'s prompt (reference: evaluation protocol, 2.2) around a conversation text. */
extern const char *const dialogue_default_prompt; /* has {domain} and {conversation} */
/* "\nUser: ...\nSystem: ...\nSystem: ": turn i is the user's if (i % 2) == start; empty turns are skipped. */
sc_status dialogue_conversation_text(const char *const *turns, size_t n, int start, strbuf *out);
/* The whole user message: prompt with the conversation inside. `pattern` NULL: the default. */
sc_status dialogue_prompt(const char *pattern, const char *where, const char *domain,
                          const char *conversation, strbuf *out);

/* He et al.'s name of an entity, appended (reference: evaluation protocol, 2.4): behind the last '/', with
 * '_' '-' '>' as blanks, parentheses removed, blanks folded: "<http://.../Hoffa_(film)>" -> "Hoffa". */
sc_status dialogue_entity_name(const char *entity, strbuf *out);

#ifdef __cplusplus
}
#endif
#endif
