/* What the files of the table of verbs share: how a line of it is written, and the verbs of each. */
#ifndef SC_PIPELINE_VERBS_H
#define SC_PIPELINE_VERBS_H

#include <stddef.h>

#include "pipeline/settings.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
/* One line of a table: flag, member of `struct`, type, required, value, choices, help. */
#define ROW(s, flag, member, type, required, value, choices, help)                                           \
    {                                                                                                        \
        flag, SETTING_##type, offsetof(s, member), required, value, choices, help                            \
    }

/* The functions of one verb: the options struct, its default and its run function. */
#define DEFAULTS(s, id)                                                                                      \
    static void id##_defaults(void *o)                                                                       \
    {                                                                                                        \
        *(s *)o = sc_##id##_default();                                                                       \
    }

#define CHECKED(id, name, positional, summary, reads, writes, s, check)                                      \
    {                                                                                                        \
        name, summary, reads, writes, positional, id##_settings, COUNT(id##_settings), sizeof(s),            \
            id##_defaults, id##_run, check                                                                   \
    }
#define VERB(...) CHECKED(__VA_ARGS__, NULL)

/* verbs_data.c */
extern const verb pull_verb, import_reviews_verb, import_ratings_verb, import_dialogues_verb, embed_verb;
/* verbs_select.c */
extern const verb select_verb, synth_verb;
/* verbs_models.c */
extern const verb train_verb, merge_verb, recommend_verb, generate_verb, eval_verb;

#endif
