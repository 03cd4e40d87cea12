/* run: one YAML file -> every stage, in a run folder. report: run folders -> one HTML page. */
#ifndef SEEDCORN_PIPELINE_H
#define SEEDCORN_PIPELINE_H

#include <stdbool.h>

#include "seedcorn/common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sc_run_options {
    size_t struct_size;
    sc_common common;
    const char *config;  /* YAML: top-level keys are verbs, inner keys their flags */
    const char *run_dir; /* made when absent; holds all results and manifest.json */
    bool dry_run;        /* say what would run and what is done, and stop */
} sc_run_options;

typedef struct sc_report_options {
    size_t struct_size;
    sc_common common;
    const char *const *runs; /* NULL-terminated list of run folders */
    const char *out;         /* .html, self-contained */
} sc_report_options;

typedef struct sc_run_result {
    int64_t n_stages, n_skipped; /* stages of the plan; those found done and unchanged */
    double seconds;
} sc_run_result;

SC_API sc_run_options sc_run_default(void);
SC_API sc_report_options sc_report_default(void);
SC_API sc_status sc_run(const sc_run_options *options, sc_run_result *result);
SC_API sc_status sc_report(const sc_report_options *options);

#ifdef __cplusplus
}
#endif
#endif
