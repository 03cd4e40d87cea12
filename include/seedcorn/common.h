/* Options that every stage shares. Each stage's options struct begins with struct_size and
 * carries one of these as `common`. */
#ifndef SEEDCORN_COMMON_H
#define SEEDCORN_COMMON_H

#include "seedcorn/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sc_common {
    size_t struct_size; /* sizeof(sc_common); set by sc_common_default() */
    const char *device; /* "auto", "cpu", "cuda" or "cuda:N" */
    const char *dtype;  /* "auto", "fp32" or "bf16": weights and activations; auto is bf16
                             where the processor has bf16 instructions, else fp32 */
    int64_t threads;    /* worker threads; 0: as many as the machine has cores */
    int64_t seed;       /* the key of every random number, default 0 */
} sc_common;

SC_API sc_common sc_common_default(void);

#ifdef __cplusplus
}
#endif
#endif
