/* Counter-based random numbers (Philox4x32-10, Salmon et al. 2011): a number is a function of
 * (seed, stage, row, step), so threads, batches and restarts do not change it. */
#ifndef SC_BASE_RANDOM_H
#define SC_BASE_RANDOM_H

#include <stdint.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the number is for. Extend at the end: the values are part of the reproducible output. */
typedef enum random_stage {
    RANDOM_IMPORT = 1,
    RANDOM_KMEANS,
    RANDOM_SELECT,
    RANDOM_SYNTH,
    RANDOM_LORA_INIT,
    RANDOM_SHUFFLE,
    RANDOM_DROPOUT,
    RANDOM_SAMPLE,
    RANDOM_NET,
    RANDOM_FACTORS,
    RANDOM_TEST,
    RANDOM_VALIDATION,
    RANDOM_WEIGHTS
} random_stage;

/* A stream of numbers for one (seed, stage, row, step). The layout, for kernels that draw by index:
 * key = {low(seed), high(seed) ^ stage << 24}, counter = {block, step, low(row), high(row)}; block
 * b holds the 32-bit numbers 4b .. 4b + 3 of the stream. random_u64 is first << 32 | second. */
typedef struct random_stream {
    uint32_t key[2];
    uint32_t counter[4];
    uint32_t block[4];
    int used;
} random_stream;

random_stream random_at(uint64_t seed, random_stage stage, uint64_t row, uint32_t step);
uint32_t random_u32(random_stream *r);
uint64_t random_u64(random_stream *r);
uint64_t random_below(random_stream *r, uint64_t n);              /* 0 <= x < n without bias; n > 0 */
double random_uniform(random_stream *r);                          /* 0 <= x < 1, 53 bits */
double random_normal(random_stream *r);                           /* Box-Muller */
void random_shuffle(random_stream *r, int64_t *values, size_t n); /* Fisher-Yates */
/* The raw block function, for kernels that draw by index: out[0..3] of counter c under key k. */
void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#ifdef __cplusplus
}
#endif
#endif
