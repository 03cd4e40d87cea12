/* Where a model's time goes: a table that forwards to the CPU's and measures every call. One at a time in a process. */
#ifndef SC_DEVICE_PROFILE_H
#define SC_DEVICE_PROFILE_H

#include "device/ops.h"

typedef enum profile_family {
    PROFILE_GEMM,
    PROFILE_ATTENTION,
    PROFILE_NORM,
    PROFILE_ROPE,
    PROFILE_GLU,
    PROFILE_LORA,
    PROFILE_LOSS,
    PROFILE_EMBEDDING,
    PROFILE_OPTIMIZER,
    PROFILE_SAMPLE,
    PROFILE_TENSOR, /* casts, copies, sums */
    N_PROFILE_FAMILIES
} profile_family;

typedef struct profile_entry {
    const char *name;
    int64_t calls;
    double seconds;
    double operations; /* additions and multiplications of matrix products and attention */
    double bytes;      /* of operands, each read or written once */
    double floor; /* seconds: of each call the larger of operations at the peak and bytes at the bandwidth */
} profile_entry;

/* A table of models' operations over the CPU's, and what has been measured since profile_clear: [N_PROFILE_FAMILIES].
 * The machine's peak is in 1e9 operations a second, its bandwidth in 1e9 bytes a second. */
const ops *profile_ops(double peak_gflops, double bandwidth);
void profile_clear(void);
const profile_entry *profile_entries(void);

#endif
