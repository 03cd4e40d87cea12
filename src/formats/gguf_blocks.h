/* The block types of ggml: sizes, names, and decoding to float. For formats/gguf.c. */
#ifndef SC_FORMATS_GGUF_BLOCKS_H
#define SC_FORMATS_GGUF_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

typedef struct gguf_block {
    const char *name;
    size_t values, bytes; /* of one block; 0 where the type is known by name only */
    void (*decode)(const uint8_t *blocks, size_t n_blocks, float *out);
} gguf_block;

/* NULL for a number that ggml does not use. */
const gguf_block *gguf_block_of(uint32_t type);

#endif
