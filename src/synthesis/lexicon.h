/* Word lists of the offline teacher: what people praise (aspects), in which words (opinions), what
 * stories are about (themes), and how a genre is said in a sentence. */
#ifndef SC_SYNTHESIS_LEXICON_H
#define SC_SYNTHESIS_LEXICON_H

#include <stdbool.h>
#include <stddef.h>

enum {
    LEXICON_PRAISE = 1, /* stands before an aspect: "superb acting" */
    LEXICON_MOOD = 2,   /* describes the whole: "something dark", "a dark movie" */
    LEXICON_GOODS = 4   /* belongs to things one buys and uses rather than to stories */
};
typedef struct lexicon_opinion {
    const char *word;
    int flags;
} lexicon_opinion;

enum { ASPECT_MASS, ASPECT_ONE, ASPECT_MANY };
typedef struct lexicon_aspect {
    const char *word;  /* as found in a review */
    const char *shown; /* as said in a request */
    int number;        /* decides the article */
    bool goods;
} lexicon_aspect;

typedef struct lexicon_theme {
    const char *keywords; /* separated by blanks; '_' stands for a blank inside one */
    const char *shown;    /* "about ..." */
} lexicon_theme;

typedef struct lexicon_genre {
    const char *name;     /* as it stands in the categories of an item, lower case */
    const char *modifier; /* "crime" movie */
    const char *noun;     /* "a western"; NULL: modifier + domain */
    const char *plural;   /* "westerns"; NULL: modifier + plural of domain */
} lexicon_genre;

/* NULL where the word (lower case) is not listed. */
const lexicon_opinion *lexicon_find_opinion(const char *word);
const lexicon_aspect *lexicon_find_aspect(const char *word);
const lexicon_genre *lexicon_find_genre(const char *name);
/* Words that may stand between opinion and aspect: "special" effects, "supporting" cast. */
bool lexicon_is_modifier(const char *word);
bool lexicon_is_negative(const char *word);  /* turns or spoils the praise around it */
bool lexicon_is_adverb(const char *word);    /* "truly" moving */
bool lexicon_is_verb(const char *word);      /* finite: makes a clause of a run of words */
bool lexicon_is_opening(const char *word);   /* a subject that opens a quotable clause */
bool lexicon_is_private(const char *word);   /* speaks of the writer or of the review itself */
bool lexicon_is_common(const char *word);    /* too common to give a title away */
bool lexicon_is_broad(const char *category); /* a shop's department that says nothing: "movies & tv" */

extern const lexicon_theme lexicon_themes[];
extern const size_t lexicon_n_themes;

/* "a" or "an" for what follows. */
const char *lexicon_article(const char *word);

#endif
