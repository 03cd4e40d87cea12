/* What a run folder tells: its stages and metrics, read back from manifest.json and the files. */
#ifndef SC_PIPELINE_SUMMARY_H
#define SC_PIPELINE_SUMMARY_H

#include "base/json.h"

typedef struct run_summary {
    char *folder;
    json_t *manifest;
    json_t *metrics; /* [{"name", "n", "recall": {"1": {"value", "se"}...}, ...}] in the order of the run */
} run_summary;

/* SC_BAD_INPUT if the folder is no run. */
sc_status run_summary_open(const char *folder, run_summary *out);
void run_summary_close(run_summary *s);
/* The path of a file inside a stage's folder ("train/lora", "events.jsonl"); malloc'd, NULL if it is absent. */
char *run_summary_file(const run_summary *s, const char *stage_key, const char *name);

#endif
