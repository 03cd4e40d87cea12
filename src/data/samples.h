/* The output of import dialogues: one evaluation dialogue a line, and what the readers of the formats
 * share. */
#ifndef SC_DATA_SAMPLES_H
#define SC_DATA_SAMPLES_H

#include "data/catalogue.h"
#include "data/source.h"
#include "seedcorn/import.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kept_line {
    uint64_t key; /* random: the `limit` smallest are kept */
    int64_t row;
    char *text;
} kept_line;

typedef struct dialogue_import {
    const sc_import_dialogues_options *options;
    char *pattern;   /* the prompt file's text, or NULL for the default */
    catalogue items; /* empty without --items */
    clean_counts cleaned;
    json_t *dropped; /* counts by reason */
    hash_set ids;
    file_writer *out;
    int64_t n_read;           /* records of the input */
    int64_t n_rows;           /* samples made of them */
    int64_t n_targets, n_new; /* (sample, target) pairs, and those not mentioned before */
    kept_line *kept;          /* a heap, the largest key first */
    size_t n_kept, kept_capacity;
} dialogue_import;

/* What a format's reader hands over; the JSON values stay its own. */
typedef struct sample {
    const char *id;           /* made unique with -2, -3 ... */
    const char *conversation; /* the request: what stands in the prompt */
    json_t *targets, *seen;   /* lists of names */
    json_t *messages;         /* NULL: one user message, the prompt around the conversation */
    json_t *source;           /* where it comes from */
} sample;

sc_status sample_write(dialogue_import *in, const sample *s);
/* Hands over every line of --input, a JSON object or array, and counts it behind that. */
sc_status samples_each_line(dialogue_import *in, json_type type,
                            sc_status (*take)(dialogue_import *in, const json_t *line, const char *where));
sc_status samples_finish(dialogue_import *in); /* with a limit: the rows drawn, in file order */

/* list += name, folded; blank names are left out. `once`: and names that it has already. */
sc_status name_append(json_t *list, const char *name, bool once);
/* The text of an integer or string value, in `buffer` for the former; an error for other types. */
sc_status id_text(const json_t *object, const char *key, const char *where, char buffer[32],
                  const char **out);

/* One reader per format. */
sc_status import_he2023(dialogue_import *in);
sc_status import_nbcrs(dialogue_import *in);
sc_status import_redial(dialogue_import *in);
sc_status import_inspired(dialogue_import *in);
sc_status import_unicrs(dialogue_import *in);
sc_status import_messages(dialogue_import *in);

#ifdef __cplusplus
}
#endif
#endif
