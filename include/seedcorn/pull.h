/* pull: a model or data set by name -> a folder in the local cache (or `to`). */
#ifndef SEEDCORN_PULL_H
#define SEEDCORN_PULL_H

#include "seedcorn/common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sc_pull_options {
    size_t struct_size;
    sc_common common;
    const char *name; /* "smollm2-135m-instruct", "minilm-l6-v2", "hf:OWNER/REPO[@REVISION]", "https://..." */
    const char *to;   /* folder, or NULL: $SEEDCORN_CACHE, $XDG_CACHE_HOME/seedcorn or ~/.cache/seedcorn */
} sc_pull_options;

SC_API sc_pull_options sc_pull_default(void);

/* Writes the folder's path to `folder` (size bytes). What is there and whole is not fetched again;
 * a broken download goes on where it stopped; every pinned file is checked by SHA-256. */
SC_API sc_status sc_pull(const sc_pull_options *options, char *folder, size_t size);

#ifdef __cplusplus
}
#endif
#endif
