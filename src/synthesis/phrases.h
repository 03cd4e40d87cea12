/* What the reviews of one item say about it, in short clean pieces that fit into a request. */
#ifndef SC_SYNTHESIS_PHRASES_H
#define SC_SYNTHESIS_PHRASES_H

#include "data/dataset.h"

enum { PHRASES_MAX_QUOTE_WORDS = 10, PHRASES_MIN_QUOTE_WORDS = 4 };

typedef struct phrase_set {
    char **praise; /* "a gripping story", "great acting": with their article */
    size_t n_praise, praise_cap;
    char **quotes; /* clauses of 4 to 10 words, lower case at the start, no full stop */
    size_t n_quotes, quotes_cap;
    const char **moods; /* "dark", "funny"; borrowed from the lexicon; most frequent first */
    size_t n_moods;
    const char **themes; /* "revenge"; borrowed from the lexicon */
    size_t n_themes;
} phrase_set;

/* From these reviews (and, for themes, the item's description). Never a word of the item's title
 * (common ones aside), never the writer's own person, never a name. `stories`: look for what stories
 * are praised for; else for what goods are praised for too. */
sc_status phrases_collect(const item *subject, const review *const *reviews, size_t n_reviews, bool stories,
                          phrase_set *out);
void phrases_free(phrase_set *p);

/* Does `text` name `title` (folded, case aside; its article, or what stands before a colon, may be
 * missing)? A title of one common word ("It", "Up") counts only when capitalised inside a sentence. */
bool phrases_name_title(const char *text, const char *title);
/* The longest run of words that `text` shares with `source`, case and punctuation aside. */
size_t phrases_longest_run(const char *text, const char *source);

#endif
