/* What a piece of a selection would take: bytes by array, work by kind. Every strategy says it of itself, beside the code
 * that it speaks of; `select --dry-run` shows it. */
#ifndef SC_SELECT_ESTIMATE_H
#define SC_SELECT_ESTIMATE_H

#include "select/strategy.h"

/* Runs a small part of some work on the task's first rows; how many operations that were. */
typedef sc_status (*estimate_probe)(const selection_task *task, double *operations);

typedef struct estimate_array {
    const char *name;
    int64_t bytes;
    int phase;            /* 0: held all the time; k: only during the k-th phase */
    int64_t device_bytes; /* on a device that is not the CPU */
} estimate_array;

typedef struct estimate_work {
    const char *name;
    double operations; /* additions and multiplications, or comparisons */
    double passes;     /* over all rows */
    estimate_probe probe;
    double seconds; /* estimate_measure's */
} estimate_work;

typedef struct estimate {
    estimate_array arrays[64];
    estimate_work work[16];
    int n_arrays, n_work, phase, n_phases;
    int64_t n_rows, dim; /* that pass through the device; 0: none do */
} estimate;

void estimate_array_add(estimate *e, const char *name, int64_t n, size_t size);
/* Kept on the device, too. */
void estimate_resident_add(estimate *e, const char *name, int64_t n, size_t size);
/* Kept on the host in full, and on the device only so many bytes of it at a time. */
void estimate_part_add(estimate *e, const char *name, int64_t n, size_t size, int64_t device_bytes);
/* Rows that select/rows.h brings to the device; how many at a time depends on what all else takes. */
void estimate_rows_pass(estimate *e, int64_t n, int64_t dim);
/* Rows about their mean: their copy, or the block that is moved at a time where there is none. */
void estimate_centred(estimate *e, int64_t n, int64_t dim);
/* What is added in between is given back at the end. Phases follow each other. */
void estimate_phase_begin(estimate *e);
void estimate_phase_end(estimate *e);
void estimate_work_add(estimate *e, const char *name, double operations, double passes, estimate_probe probe);

/* Bytes at the moment when they are most: on the host, and on a device that is not the CPU. */
int64_t estimate_bytes(const estimate *e);
int64_t estimate_device_bytes(const estimate *e);
/* The latter by a strategy's plan, without the rows: what to leave room for. */
size_t estimate_beside_rows(const selection_task *task, void (*plan)(const selection_task *, estimate *));

/* The time of every piece of work by the rate of its probe, which runs for a few hundredths of a second. */
sc_status estimate_measure(estimate *e, const selection_task *task);

/* For probes: runs a strategy on the first n rows for a budget, all of them open. */
sc_status estimate_run(const selection_task *task, int64_t n, int64_t budget,
                       sc_status (*run)(const selection_task *task, selection_pick *picks, int64_t *n_picks));
/* How many rows a probe should take where one is so many operations: enough to be timed, at most n and `most`. */
int64_t estimate_rows(int64_t n, int64_t most, double operations);

#endif
