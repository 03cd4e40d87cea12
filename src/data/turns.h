/* A conversation gathered turn by turn: utterances of one speaker in a row make one turn, so that user
 * and recommender alternate; every turn of the recommender that names an item gives a sample. */
#ifndef SC_DATA_TURNS_H
#define SC_DATA_TURNS_H

#include "data/samples.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct turn {
    bool user;
    strbuf text;
    json_t *titles; /* plain names, each once */
} turn;

typedef struct turns {
    turn *rows;
    size_t n, capacity;
} turns;

/* Appends an utterance: `text` joined by a blank to the turn before it if that is the same speaker's. */
sc_status turns_add(turns *t, bool user, const char *text);
/* The last turn names an item; "Hustlers (2019)" is listed as "Hustlers". */
sc_status turns_title(turns *t, const char *title);
/* One sample for each turn of the recommender that has titles: the turns before it, those titles as
 * targets, all titles before as seen. */
sc_status turns_write(const turns *t, dialogue_import *in, const char *dialog, const char *format);
void turns_clear(turns *t); /* keeps nothing; {0} is fine */

#ifdef __cplusplus
}
#endif
#endif
