/* Open addressing with linear probing, at most half full; XXH3 as the hash. */
#include "data/ids.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t hash_bytes(const void *bytes, size_t n)
{
    return XXH3_64bits(bytes, n);
}

static size_t id_table_slot(const id_table *t, const char *id, size_t n)
{
    size_t at = (size_t)hash_bytes(id, n) & (t->n_slots - 1);
    while (t->slots[at] != 0 && strcmp(t->bytes.data + t->offsets[t->slots[at] - 1], id) != 0)
        at = (at + 1) & (t->n_slots - 1);
    return at;
}

static sc_status id_table_rehash(id_table *t)
{
    size_t n_slots = t->n_slots == 0 ? 64 : t->n_slots * 2;
    uint32_t *slots = NULL;
    sc_status status = sc_alloc(&slots, n_slots, sizeof *slots);
    if (status != SC_OK)
        return status;
    free(t->slots);
    t->slots = slots;
    t->n_slots = n_slots;
    for (size_t i = 0; i < t->n; i++) {
        const char *id = t->bytes.data + t->offsets[i];
        t->slots[id_table_slot(t, id, strlen(id))] = (uint32_t)i + 1;
    }
    return SC_OK;
}

sc_status id_table_put(id_table *t, const char *id, int32_t *index, bool *is_new)
{
    sc_status status = SC_OK;
    size_t length = strlen(id);
    if (2 * (t->n + 1) > t->n_slots)
        SC_TRY(id_table_rehash(t));
    size_t at = id_table_slot(t, id, length);
    bool fresh = t->slots[at] == 0;
    if (fresh) {
        if (t->n >= INT32_MAX)
            return sc_fail(SC_BAD_INPUT, "more than 2147483647 distinct ids: split the data set");
        SC_TRY(sc_grow(&t->offsets, &t->capacity, t->n + 1, sizeof *t->offsets));
        size_t start = t->bytes.len;
        strbuf_append(&t->bytes, id, length + 1);
        SC_TRY(strbuf_status(&t->bytes));
        t->offsets[t->n++] = start;
        t->slots[at] = (uint32_t)t->n;
    }
    *index = (int32_t)(t->slots[at] - 1);
    if (is_new)
        *is_new = fresh;
cleanup:
    return status;
}

int32_t id_table_find(const id_table *t, const char *id)
{
    if (t->n_slots == 0)
        return -1;
    return (int32_t)t->slots[id_table_slot(t, id, strlen(id))] - 1;
}

const char *id_table_get(const id_table *t, int32_t index)
{
    return t->bytes.data + t->offsets[index];
}

void id_table_free(id_table *t)
{
    strbuf_free(&t->bytes);
    free(t->offsets);
    free(t->slots);
    memset(t, 0, sizeof *t);
}

static bool hash_set_put(uint64_t *slots, size_t n_slots, uint64_t hash)
{
    size_t at = (size_t)hash & (n_slots - 1);
    while (slots[at] != 0 && slots[at] != hash)
        at = (at + 1) & (n_slots - 1);
    bool fresh = slots[at] == 0;
    slots[at] = hash;
    return fresh;
}

sc_status hash_set_add(hash_set *s, uint64_t hash, bool *is_new)
{
    if (hash == 0) { /* 0 marks a free slot */
        *is_new = !s->has_zero;
        s->has_zero = true;
        return SC_OK;
    }
    if (2 * (s->n + 1) > s->n_slots) {
        size_t n_slots = s->n_slots == 0 ? 64 : s->n_slots * 2;
        uint64_t *slots = NULL;
        sc_status status = sc_alloc(&slots, n_slots, sizeof *slots);
        if (status != SC_OK)
            return status;
        for (size_t i = 0; i < s->n_slots; i++) {
            if (s->slots[i] != 0)
                hash_set_put(slots, n_slots, s->slots[i]);
        }
        free(s->slots);
        s->slots = slots;
        s->n_slots = n_slots;
    }
    *is_new = hash_set_put(s->slots, s->n_slots, hash);
    s->n += *is_new;
    return SC_OK;
}

void hash_set_free(hash_set *s)
{
    free(s->slots);
    memset(s, 0, sizeof *s);
}

sc_status unique_id(hash_set *seen, strbuf *text)
{
    sc_status status = SC_OK;
    size_t base = text->len;
    for (int64_t repeat = 2;; repeat++) {
        bool is_new = false;
        SC_TRY(strbuf_status(text));
        SC_TRY(hash_set_add(seen, hash_bytes(text->data, text->len), &is_new));
        if (is_new)
            break;
        text->len = base;
        strbuf_printf(text, "-%lld", (long long)repeat);
    }
cleanup:
    return status;
}
