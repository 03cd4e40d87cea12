/* Philox4x32-10: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel Random Numbers: As
 * Easy as 1, 2, 3", SC 2011, section 3.3; constants from its table 2. */
#include "base/random.h"

#include <math.h>

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)UINT32_C(0xD2511F53) * c0;
        uint64_t p1 = (uint64_t)UINT32_C(0xCD9E8D57) * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += UINT32_C(0x9E3779B9); /* the golden ratio */
        k1 += UINT32_C(0xBB67AE85); /* sqrt(3) - 1 */
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

random_stream random_at(uint64_t seed, random_stage stage, uint64_t row, uint32_t step)
{
    return (random_stream){
        .key = {(uint32_t)seed, (uint32_t)(seed >> 32) ^ ((uint32_t)stage << 24)},
        .counter = {0, step, (uint32_t)row, (uint32_t)(row >> 32)},
        .block = {0},
        .used = 4,
    };
}

uint32_t random_u32(random_stream *r)
{
    if (r->used == 4) {
        philox4x32(r->counter, r->key, r->block);
        r->counter[0]++;
        r->used = 0;
    }
    return r->block[r->used++];
}

uint64_t random_u64(random_stream *r)
{
    uint64_t high = random_u32(r);
    return high << 32 | random_u32(r);
}

/* D. Lemire, "Fast Random Integer Generation in an Interval", 2019: the high word of x * n, with
 * the few x redrawn that would favour some results. */
uint64_t random_below(random_stream *r, uint64_t n)
{
    if (n == 0)
        return 0;
    unsigned __int128 product = (unsigned __int128)random_u64(r) * n;
    if ((uint64_t)product < n) {
        uint64_t threshold = (0 - n) % n;
        while ((uint64_t)product < threshold)
            product = (unsigned __int128)random_u64(r) * n;
    }
    return (uint64_t)(product >> 64);
}

double random_uniform(random_stream *r)
{
    return (double)(random_u64(r) >> 11) * 0x1.0p-53;
}

/* G. E. P. Box, M. E. Muller, 1958. The sine's half is not kept, so that a number depends on its
 * place in the stream alone. */
double random_normal(random_stream *r)
{
    double u = 1.0 - random_uniform(r); /* in (0, 1]: the logarithm is finite */
    double v = random_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v);
}

void random_shuffle(random_stream *r, int64_t *values, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)random_below(r, i);
        int64_t kept = values[i - 1];
        values[i - 1] = values[j];
        values[j] = kept;
    }
}
