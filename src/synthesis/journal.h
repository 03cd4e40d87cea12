/* What a run has finished, by key: appended as it happens, read back at the next start. A key names
 * its content (a hash of everything the value depends on), so a journal never gives an answer to
 * another question, and settings may change between two starts. */
#ifndef SC_SYNTHESIS_JOURNAL_H
#define SC_SYNTHESIS_JOURNAL_H

#include "base/text.h"

typedef struct journal journal;

/* Created if absent; a torn tail is cut off. The caller holds the folder's lock. */
sc_status journal_open(const char *path, journal **out);
/* NULL if the key is not there; valid until journal_close. */
const char *journal_find(const journal *j, const char *key, size_t *n);
/* On the disk when it returns. An equal key again replaces the value. */
sc_status journal_put(journal *j, const char *key, const char *text, size_t n);
/* Every entry, in no particular order; stops at the first failure. */
sc_status journal_each(const journal *j,
                       sc_status (*each)(const char *key, const char *text, size_t n, void *user),
                       void *user);
size_t journal_count(const journal *j);
void journal_close(journal *j);

#endif
