/* Levenshtein distance, bit-parallel. */
#include "evaluate/distance.h"

#include <stdlib.h>
#include <string.h>

sc_status distance_query_open(distance_query *q, const int32_t *symbols, int32_t length, int32_t n_symbols)
{
    sc_status status = SC_OK;
    *q = (distance_query){.length = length, .n_words = (length + 63) / 64, .n_symbols = n_symbols};
    const size_t words = (size_t)(q->n_words > 0 ? q->n_words : 1);
    SC_TRY(sc_alloc(&q->positions, words * (size_t)n_symbols + 1, sizeof *q->positions));
    SC_TRY(sc_alloc(&q->plus, words, sizeof *q->plus));
    SC_TRY(sc_alloc(&q->minus, words, sizeof *q->minus));
    for (int32_t i = 0; i < length; i++)
        if (symbols[i] >= 0)
            q->positions[(size_t)symbols[i] * words + (size_t)(i / 64)] |= (uint64_t)1 << (i % 64);
cleanup:
    if (status != SC_OK)
        distance_query_close(q);
    return status;
}

int32_t distance_to(distance_query *q, const uint16_t *name, int32_t length)
{
    if (q->length == 0)
        return length;
    const int32_t words = q->n_words;
    const uint64_t last = (uint64_t)1 << ((q->length - 1) % 64);
    int32_t distance = q->length;
    for (int32_t b = 0; b < words; b++) {
        q->plus[b] = ~(uint64_t)0;
        q->minus[b] = 0;
    }
    for (int32_t j = 0; j < length; j++) {
        const uint64_t *equal = q->positions + (size_t)name[j] * (size_t)words;
        int carry = 1; /* the top row of the table counts up */
        for (int32_t b = 0; b < words; b++) {
            const uint64_t plus = q->plus[b], minus = q->minus[b];
            const uint64_t high = b == words - 1 ? last : (uint64_t)1 << 63;
            uint64_t eq = equal[b];
            const uint64_t vertical = eq | minus;
            eq |= (uint64_t)(carry < 0);
            const uint64_t horizontal = (((eq & plus) + plus) ^ plus) | eq;
            uint64_t up = minus | ~(horizontal | plus), down = plus & horizontal;
            const int out = (up & high ? 1 : 0) - (down & high ? 1 : 0);
            up = up << 1 | (uint64_t)(carry > 0);
            down = down << 1 | (uint64_t)(carry < 0);
            q->plus[b] = down | ~(vertical | up);
            q->minus[b] = up & vertical;
            carry = out;
        }
        distance += carry;
    }
    return distance;
}

void distance_query_close(distance_query *q)
{
    free(q->positions);
    free(q->plus);
    free(q->minus);
    *q = (distance_query){0};
}
