/* The one table of flags. Every verb's options struct is described here once; the command line, the
 * YAML of `run`, --help and the documentation read it, so a flag has one name and one default. */
#ifndef SC_PIPELINE_SETTINGS_H
#define SC_PIPELINE_SETTINGS_H

#include <stdbool.h>

#include <jansson.h>

#include "base/status.h"
#include "seedcorn/seedcorn.h"

typedef enum setting_type {
    SETTING_STRING,
    SETTING_LIST, /* one flag with several values: const char *const *, NULL-terminated */
    SETTING_INT,
    SETTING_REAL,
    SETTING_BOOL /* --name sets it, --no-name clears it */
} setting_type;

typedef struct setting {
    const char *name; /* "max-tokens": the flag; in YAML "max_tokens" */
    setting_type type;
    size_t offset; /* in the verb's options struct */
    bool required;
    const char *value;   /* what stands behind the flag in the help: "DIR"; "word|FILE": the word or a path */
    const char *choices; /* "mean|last", or NULL */
    const char *help;
} setting;

typedef struct verb {
    const char *name; /* "embed", "import reviews" */
    const char *summary;
    const char *reads, *writes;
    const char *positional; /* name of the setting that may be given without its flag, or NULL */
    const setting *settings;
    size_t n_settings;
    size_t options_size;
    void (*defaults)(void *options);
    /* Runs the verb; `result` receives what it has to tell as a JSON object (a new reference). */
    sc_status (*run)(const void *options, json_t **result);
    /* What must hold of several settings together, or NULL. SC_USAGE. */
    sc_status (*check)(const void *options);
} verb;

extern const verb *const verbs[];
extern const size_t n_verbs;
extern const setting common_settings[]; /* offsets in sc_common */
extern const size_t n_common_settings;

const verb *verb_find(const char *name);

/* The options of one verb with the memory that its strings live in. */
typedef struct options {
    const verb *verb;
    void *values;   /* the options struct */
    char **strings; /* everything that was allocated */
    size_t n_strings, cap_strings;
    bool *given; /* [n_settings] set by the user, not by default */
} options;

sc_status options_create(const verb *v, options *out);
void options_free(options *o);
/* Sets one value from text. `name` is a flag or a YAML key (- and _ are the same); an unknown one is
 * SC_USAGE and names the nearest. `where` opens the sentence ("config.yaml:12", "--budget"). A list
 * setting appends. */
sc_status options_set(options *o, const char *name, const char *text, const char *where);
/* The setting of that name, or NULL. Common settings are found too (*in_common tells). */
const setting *options_find(const options *o, const char *name, bool *in_common);
bool options_is_given(const options *o, const char *name);
/* The present value of a string setting; NULL if unset. */
const char *options_string(const options *o, const char *name);
/* The present value of a whole number; 0 for another kind of setting. */
int64_t options_int(const options *o, const char *name);
/* True for settings that name a file or folder. */
bool setting_is_path(const setting *s);
/* True if `text` is the word of a setting "word|FILE". */
bool setting_is_word(const setting *s, const char *text);
/* SC_USAGE naming the first required setting that is missing, or what the verb's check says. */
sc_status options_check(const options *o);
/* All values as a JSON object in the table's order (new reference), for manifests and --help. */
json_t *options_json(const options *o);

#endif
