/* random.cuh: the numbers of src/base/random.c, drawn by index: the twin of philox4x32 and of random_at. */
#ifndef SC_KERNELS_RANDOM_CUH
#define SC_KERNELS_RANDOM_CUH

#include "kernels.h"
#include "portable.cuh"

/* What a stream of numbers is keyed by, but for the row. */
struct random_key {
    uint64_t seed;
    random_stage stage;
    uint32_t step;
};

/* Numbers 4 block .. 4 block + 3 of a row's stream. */
__device__ __forceinline__ uint4 random_block(const random_key &key, uint64_t row, uint32_t block)
{
    unsigned c0 = block, c1 = key.step, c2 = (unsigned)row, c3 = (unsigned)(row >> 32);
    unsigned k0 = (unsigned)key.seed, k1 = (unsigned)(key.seed >> 32) ^ ((unsigned)key.stage << 24);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        const unsigned high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c2 = high0 ^ c3 ^ k1;
        c1 = low1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return make_uint4(c0, c1, c2, c3);
}

#endif
