/* import: raw reviews, ratings and dialogues -> a dataset folder or a dialogues file.
 *
 * Readers are strict: a line that cannot be used is either an error with file:line, or counted
 * under its reason in dataset.json. Inputs may be plain, .gz or .zst; memory stays constant. */
#ifndef SEEDCORN_IMPORT_H
#define SEEDCORN_IMPORT_H

#include "seedcorn/common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sc_import_reviews_options {
    size_t struct_size;
    sc_common common;
    const char *const *reviews; /* NULL-terminated list of files */
    const char *const *items;   /* NULL-terminated list of files, or NULL */
    const char *out;            /* dataset folder */
    const char *format;         /* "amazon23" (default), "amazon14", "csv" */
} sc_import_reviews_options;

typedef struct sc_import_ratings_options {
    size_t struct_size;
    sc_common common;
    const char *ratings; /* userId,movieId,rating,timestamp */
    const char *items;   /* movieId,title,genres */
    const char *links;   /* movieId,imdbId,tmdbId, or NULL */
    const char *join;    /* another dataset folder whose items are joined by IMDb id, or NULL */
    const char *out;     /* dataset folder */
    const char *format;  /* "movielens" (default) */
} sc_import_ratings_options;

typedef struct sc_import_dialogues_options {
    size_t struct_size;
    sc_common common;
    const char *input;
    const char *items;  /* item or entity list, or NULL */
    const char *out;    /* .jsonl of evaluation dialogues */
    const char *format; /* "he2023", "nbcrs", "redial", "inspired", "unicrs", "messages" */
    const char *domain; /* "movie" (default): the word in the prompt */
    const char *prompt; /* file with the prompt, {conversation} and {domain} inside, or NULL */
    int64_t limit;      /* 0: all; n: n rows drawn by the seed, in file order */
} sc_import_dialogues_options;

typedef struct sc_import_result {
    int64_t n_reviews, n_items, n_users, n_interactions, n_dialogues;
    int64_t n_read, n_dropped;
    double seconds;
} sc_import_result;

SC_API sc_import_reviews_options sc_import_reviews_default(void);
SC_API sc_import_ratings_options sc_import_ratings_default(void);
SC_API sc_import_dialogues_options sc_import_dialogues_default(void);

SC_API sc_status sc_import_reviews(const sc_import_reviews_options *options, sc_import_result *result);
SC_API sc_status sc_import_ratings(const sc_import_ratings_options *options, sc_import_result *result);
SC_API sc_status sc_import_dialogues(const sc_import_dialogues_options *options, sc_import_result *result);

#ifdef __cplusplus
}
#endif
#endif
