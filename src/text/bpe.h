/* Byte-pair encoding of one pre-token: the merges and the loop that applies them. */
#ifndef SC_TEXT_BPE_H
#define SC_TEXT_BPE_H

#include <stdbool.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* (left id, right id) -> (rank, merged id), open addressing. */
typedef struct bpe_merge {
    uint64_t pair; /* left << 32 | right; BPE_NO_PAIR: a free slot */
    uint32_t rank;
    int32_t merged;
} bpe_merge;

typedef struct bpe_merges {
    bpe_merge *slots;
    size_t mask;
} bpe_merges;

sc_status bpe_merges_create(bpe_merges *m, size_t n_merges);
/* A pair given twice keeps its last rank, as in the `tokenizers` library. */
void bpe_merges_put(bpe_merges *m, int32_t left, int32_t right, uint32_t rank, int32_t merged);
void bpe_merges_free(bpe_merges *m);

/* The memory of one thread's merging; it grows to the longest pre-token seen. */
typedef struct bpe_scratch {
    int32_t *ids;    /* [n] the symbols: in: one for each byte, out: the tokens */
    uint32_t *ranks; /* [n] rank of the pair (symbol, next symbol) */
    int32_t *merged; /* [n] what that pair becomes */
    uint32_t *next;  /* [n] */
    uint32_t *prev;  /* [n] */
    uint64_t *heap;  /* [2n] rank << 32 | position */
    size_t capacity;
    size_t heap_capacity;
} bpe_scratch;

/* Room for n symbols in s->ids. n is below 2^32 - 1. */
sc_status bpe_reserve(bpe_scratch *s, size_t n);
/* Merges s->ids[0..n) until no merge applies: always the pair of the lowest rank, the leftmost of
 * equal ones. *n_out is the number of tokens left in s->ids. */
sc_status bpe_apply(const bpe_merges *m, bpe_scratch *s, size_t n, size_t *n_out);
void bpe_scratch_free(bpe_scratch *s);

#ifdef __cplusplus
}
#endif
#endif
