/* One call of sc_synth: what both teachers work with, and where their dialogues go. */
#ifndef SC_SYNTHESIS_RUN_H
#define SC_SYNTHESIS_RUN_H

#include "base/log.h"
#include "seedcorn/synth.h"
#include "synthesis/journal.h"
#include "synthesis/material.h"

typedef struct synthesis_run {
    const sc_synth_options *options;
    sc_synth_result *result;
    synthesis_context context;
    int64_t *rows; /* the selected rows, in order of choice */
    size_t n_rows;
    char fingerprint[65]; /* of all that the offline teacher's output depends on */
    journal *journal;
    file_writer *dialogues, *failed;
    progress *progress;
    char last_reason[512]; /* why the last failed dialogue failed */
} synthesis_run;

/* "000012-3": the id of the j-th dialogue of the seed of this rank. */
void run_dialogue_id(int64_t rank, int64_t j, char id[40]);
/* One dialogue is done: `line` is an object, without a newline if text. */
sc_status run_emit_text(synthesis_run *run, const char *line, size_t n);
/* One dialogue could not be made. */
sc_status run_fail(synthesis_run *run, const char *id, int64_t row, const char *reason);

sc_status offline_run(synthesis_run *run);
sc_status openai_run(synthesis_run *run);

#endif
