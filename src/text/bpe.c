/* Byte-pair encoding (Sennrich et al. 2016). Short pre-tokens, nearly all there are, are merged in a
 * plain array; long ones in a linked list with a heap, so that a word of n letters costs O(n log n). */
#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

#define BPE_NO_PAIR UINT64_MAX
#define BPE_NO_RANK UINT32_MAX
#define BPE_END UINT32_MAX
#define BPE_SHORT 48 /* up to here scanning the array beats the heap */

static size_t slot_of(const bpe_merges *m, uint64_t pair)
{
    uint64_t h = pair * UINT64_C(0x9e3779b97f4a7c15);
    size_t slot = (size_t)(h ^ (h >> 32)) & m->mask;
    while (m->slots[slot].pair != BPE_NO_PAIR && m->slots[slot].pair != pair)
        slot = (slot + 1) & m->mask;
    return slot;
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

sc_status bpe_merges_create(bpe_merges *m, size_t n_merges)
{
    size_t capacity = 16;
    while (capacity / 2 < n_merges)
        capacity *= 2;
    sc_status status = sc_alloc(&m->slots, capacity, sizeof *m->slots);
    if (status != SC_OK)
        return status;
    for (size_t i = 0; i < capacity; i++)
        m->slots[i].pair = BPE_NO_PAIR;
    m->mask = capacity - 1;
    return SC_OK;
}

void bpe_merges_put(bpe_merges *m, int32_t left, int32_t right, uint32_t rank, int32_t merged)
{
    bpe_merge *slot = &m->slots[slot_of(m, pair_of(left, right))];
    slot->pair = pair_of(left, right);
    slot->rank = rank;
    slot->merged = merged;
}

void bpe_merges_free(bpe_merges *m)
{
    free(m->slots);
    m->slots = NULL;
}

static uint32_t find(const bpe_merges *m, int32_t left, int32_t right, int32_t *merged)
{
    const bpe_merge *slot = &m->slots[slot_of(m, pair_of(left, right))];
    if (slot->pair == BPE_NO_PAIR)
        return BPE_NO_RANK;
    *merged = slot->merged;
    return slot->rank;
}

sc_status bpe_reserve(bpe_scratch *s, size_t n)
{
    if (n <= s->capacity)
        return SC_OK;
    sc_status status = SC_OK;
    size_t capacity = s->capacity ? s->capacity : 64;
    while (capacity < n)
        capacity *= 2;
    bpe_scratch_free(s);
    SC_TRY(sc_alloc(&s->ids, capacity, sizeof *s->ids));
    SC_TRY(sc_alloc(&s->ranks, capacity, sizeof *s->ranks));
    SC_TRY(sc_alloc(&s->merged, capacity, sizeof *s->merged));
    s->capacity = capacity;
cleanup:
    return status;
}

static size_t apply_short(const bpe_merges *m, bpe_scratch *s, size_t n)
{
    int32_t *ids = s->ids, *merged = s->merged;
    uint32_t *ranks = s->ranks;
    for (size_t i = 0; i + 1 < n; i++)
        ranks[i] = find(m, ids[i], ids[i + 1], &merged[i]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best])
                best = i;
        if (ranks[best] == BPE_NO_RANK)
            break;
        ids[best] = merged[best];
        size_t tail = n - best - 2; /* symbols after the pair */
        memmove(&ids[best + 1], &ids[best + 2], tail * sizeof *ids);
        if (tail > 0) { /* the pairs that start after the merged one move along */
            memmove(&ranks[best + 1], &ranks[best + 2], (tail - 1) * sizeof *ranks);
            memmove(&merged[best + 1], &merged[best + 2], (tail - 1) * sizeof *merged);
            ranks[best] = find(m, ids[best], ids[best + 1], &merged[best]);
        }
        n--;
        if (best > 0)
            ranks[best - 1] = find(m, ids[best - 1], ids[best], &merged[best - 1]);
    }
    return n;
}

static void heap_push(uint64_t *heap, size_t *n, uint64_t value)
{
    size_t i = (*n)++;
    while (i > 0 && heap[(i - 1) / 2] > value) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = value;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n)
{
    uint64_t top = heap[0], last = heap[--*n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= *n)
            break;
        if (child + 1 < *n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

/* The rank of the pair that starts at `position`, noted and put on the heap. */
static void queue_pair(const bpe_merges *m, bpe_scratch *s, size_t *heap_n, uint32_t position)
{
    uint32_t next = s->next[position];
    s->ranks[position] =
        next == BPE_END ? BPE_NO_RANK : find(m, s->ids[position], s->ids[next], &s->merged[position]);
    if (s->ranks[position] != BPE_NO_RANK)
        heap_push(s->heap, heap_n, (uint64_t)s->ranks[position] << 32 | position);
}

static sc_status apply_long(const bpe_merges *m, bpe_scratch *s, size_t n, size_t *n_out)
{
    sc_status status = SC_OK;
    if (s->heap_capacity < s->capacity) {
        free(s->next);
        free(s->prev);
        free(s->heap);
        s->next = s->prev = NULL;
        s->heap = NULL;
        s->heap_capacity = 0;
        SC_TRY(sc_alloc(&s->next, s->capacity, sizeof *s->next));
        SC_TRY(sc_alloc(&s->prev, s->capacity, sizeof *s->prev));
        /* n - 1 pairs at first; a merge pops one and pushes at most two, and there are at most
         * n - 1 merges: never more than 2n entries at once. */
        SC_TRY(sc_alloc(&s->heap, s->capacity, 2 * sizeof *s->heap));
        s->heap_capacity = s->capacity;
    }
    for (size_t i = 0; i < n; i++) {
        s->prev[i] = i == 0 ? BPE_END : (uint32_t)(i - 1);
        s->next[i] = i + 1 == n ? BPE_END : (uint32_t)(i + 1);
    }
    size_t heap_n = 0;
    for (size_t i = 0; i < n; i++)
        queue_pair(m, s, &heap_n, (uint32_t)i);
    while (heap_n > 0) {
        uint64_t top = heap_pop(s->heap, &heap_n);
        uint32_t position = (uint32_t)top;
        if (s->ranks[position] != (uint32_t)(top >> 32))
            continue; /* an older pair at this place, merged or changed since */
        uint32_t right = s->next[position], after = s->next[right];
        s->ids[position] = s->merged[position];
        s->ranks[right] = BPE_NO_RANK;
        s->next[position] = after;
        if (after != BPE_END)
            s->prev[after] = position;
        queue_pair(m, s, &heap_n, position);
        if (s->prev[position] != BPE_END)
            queue_pair(m, s, &heap_n, s->prev[position]);
    }
    size_t left = 0;
    for (uint32_t i = 0; i != BPE_END; i = s->next[i])
        s->ids[left++] = s->ids[i];
    *n_out = left;
cleanup:
    return status;
}

sc_status bpe_apply(const bpe_merges *m, bpe_scratch *s, size_t n, size_t *n_out)
{
    if (n > BPE_SHORT)
        return apply_long(m, s, n, n_out);
    *n_out = n > 1 ? apply_short(m, s, n) : n;
    return SC_OK;
}

void bpe_scratch_free(bpe_scratch *s)
{
    free(s->ids);
    free(s->ranks);
    free(s->merged);
    free(s->next);
    free(s->prev);
    free(s->heap);
    *s = (bpe_scratch){0};
}
