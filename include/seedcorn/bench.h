/* bench: throughput of one piece of the engine on this machine, beside its floor. */
#ifndef SEEDCORN_BENCH_H
#define SEEDCORN_BENCH_H

#include <stdbool.h>

#include "seedcorn/common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sc_bench_options {
    size_t struct_size;
    sc_common common;
    const char *what;  /* "embed", "train", "generate", "kmeans", "select" */
    const char *model; /* model folder, for embed, train and generate */
    /* or this config.json of a model, whose weights are made up, keyed by the seed */
    const char *random_weights;
    const char *method; /* train: "lora" (default) or "full" */
    int64_t rows;     /* sequences (embed, train), prompts (generate), rows (kmeans, select), 0: a default */
    int64_t tokens;   /* tokens a sequence (256), new tokens a prompt (64); 0: these */
    int64_t dim;      /* kmeans, select: columns, 576 */
    int64_t clusters; /* kmeans: 64 */
    int64_t budget;   /* select: picks, 200 */
    const char *strategy;   /* select: "fisher" (default), "js", "kcenter", "bait" or "facility" */
    const char *embeddings; /* kmeans, select: rows of a float32 .npy instead of rows made up; NULL: these */
    int64_t repeats;        /* 3: the best is reported, all are listed */
    bool warm_up;           /* true: one repeat before them, not counted */
    bool profile;           /* embed, train, generate on the CPU: where the time goes, family by family */
} sc_bench_options;

/* The operations of one kind in a repeat, their mean over all repeats. */
typedef struct sc_bench_family {
    const char *name; /* "gemm", "attention", "norm", ... (static string) */
    double calls, seconds;
    double gflops;    /* 1e9 operations, of matrix products and attention */
    double gigabytes; /* of operands, each read or written once */
    double floor; /* seconds; of each call the larger of its gflops at the peak, gigabytes at the bandwidth */
} sc_bench_family;

typedef struct sc_bench_result {
    double seconds;       /* of the best repeat */
    double units;         /* what was worked off in one repeat */
    const char *unit;     /* "tokens", "picks", "row-iterations" (static string) */
    double gflops;        /* achieved, 1e9 floating-point operations per second; 0: not counted */
    double peak_gflops;   /* of a plain matrix product in the same process and dtype; 0: not measured */
    int64_t peak_bytes;   /* resident memory, the most so far */
    int64_t device_bytes; /* embed, train, generate on a card: its memory, the most; 0: on the host */
    char device[128];     /* as doctor names it */
    double
        prepare_seconds; /* kmeans, select: rows opened and checked, and clustered for "js"; else the model opened */
    double passes; /* select: how often one repeat and its preparation read the rows; 0: not counted */
    sc_bench_family profile[16]; /* the most time first; last, "beside them": outside of operations */
    int64_t n_profile;
    double bandwidth; /* with profile: 1e9 bytes per second, measured as y += x over 64 MB arrays */
} sc_bench_result;

SC_API sc_bench_options sc_bench_default(void);
SC_API sc_status sc_bench(const sc_bench_options *options, sc_bench_result *result);

#ifdef __cplusplus
}
#endif
#endif
