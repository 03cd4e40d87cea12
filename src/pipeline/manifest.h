/* manifest.json: what every stage of a run folder was made from, by SHA-256, so that finished work
 * is recognised and changed work is done again. */
#ifndef SC_PIPELINE_MANIFEST_H
#define SC_PIPELINE_MANIFEST_H

#include <stdbool.h>

#include "base/json.h"
#include "pipeline/plan.h"

typedef struct manifest {
    char *path; /* RUN_DIR/manifest.json */
    char *run_dir;
    json_t *root;   /* {"seedcorn", "stages": {key: {...}}} */
    json_t *hashes; /* cache of this process: path -> [size, mtime, sha256] */
} manifest;

/* A folder without a manifest gives an empty one. */
sc_status manifest_open(const char *run_dir, manifest *out);
void manifest_close(manifest *m);
sc_status manifest_save(const manifest *m);

/* SHA-256 of a file, or of a folder (names and hashes of the files at its top that are results: no
 * locks, journals, checkpoints, events or temporary files). */
sc_status manifest_hash(manifest *m, const char *path, char hex[65]);

/* The stage's fingerprint: verb, version, settings, and the content of every input. */
sc_status manifest_fingerprint(manifest *m, const stage *s, json_t **inputs, char hex[65]);

/* True if the stage is finished with this fingerprint and its outputs are unchanged. */
sc_status manifest_is_done(manifest *m, const stage *s, const char *fingerprint, bool *done);
/* What the finished stage told (borrowed), or NULL. */
const json_t *manifest_result(const manifest *m, const stage *s);
/* True if an unfinished attempt with another fingerprint (or a finished one) left results to clear. */
bool manifest_is_stale(const manifest *m, const stage *s, const char *fingerprint);
sc_status manifest_begin(manifest *m, const stage *s, const char *fingerprint);
/* Records outputs, result and seconds. */
sc_status manifest_finish(manifest *m, const stage *s, const char *fingerprint, json_t *inputs,
                          json_t *result, double seconds, const char *device, bool partial);

#endif
