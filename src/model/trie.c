/* A trie over token-id sequences: sorted once, then laid out in preorder. */
#include <stdlib.h>
#include <string.h>

#include "model/trie.h"

typedef struct sequence {
    const int32_t *ids;
    int32_t length, index;
} sequence;

static int compare_sequences(const void *a, const void *b)
{
    const sequence *x = a, *y = b;
    for (int32_t i = 0; i < x->length && i < y->length; i++)
        if (x->ids[i] != y->ids[i])
            return x->ids[i] < y->ids[i] ? -1 : 1;
    if (x->length != y->length)
        return x->length < y->length ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static int32_t common_prefix(const sequence *a, const sequence *b)
{
    int32_t n = 0;
    while (n < a->length && n < b->length && a->ids[n] == b->ids[n])
        n++;
    return n;
}

static sc_status check_sequences(const int32_t *const *sequences, const int32_t *lengths, size_t n, trie *t,
                                 uint64_t *n_tokens)
{
    *n_tokens = 0;
    if (n == 0 || n > INT32_MAX)
        return sc_fail(SC_BAD_INPUT, "A catalogue of %zu titles cannot be searched.", n);
    for (size_t i = 0; i < n; i++) {
        if (lengths[i] < 1)
            return sc_fail(SC_BAD_INPUT, "Title %zu of the catalogue has no tokens.", i + 1);
        for (int32_t j = 0; j < lengths[i]; j++) {
            if (sequences[i][j] < 0)
                return sc_fail(SC_BAD_INPUT, "Title %zu of the catalogue holds the token id %d.", i + 1,
                               sequences[i][j]);
            if (sequences[i][j] > t->max_token)
                t->max_token = sequences[i][j];
        }
        if (lengths[i] > t->max_length)
            t->max_length = lengths[i];
        *n_tokens += (uint64_t)lengths[i];
    }
    if (*n_tokens >= INT32_MAX)
        return sc_fail(SC_BAD_INPUT, "The catalogue's titles have too many tokens to be searched.");
    return SC_OK;
}

/* Adds the nodes of s below its common prefix with the sequence before it; path[d] is the node at depth d
 * and last_child[n] the newest child of node n. */
static void add_sequence(trie *t, const sequence *s, int32_t shared, int32_t *path, int32_t *last_child)
{
    for (int32_t d = shared; d < s->length; d++) {
        const int32_t parent = path[d], node = t->n_nodes++;
        t->nodes[node] = (trie_node){.token = s->ids[d],
                                     .parent = parent,
                                     .first_child = TRIE_NONE,
                                     .next_sibling = TRIE_NONE,
                                     .value = TRIE_NONE,
                                     .lowest = s->index};
        if (last_child[parent] == TRIE_NONE)
            t->nodes[parent].first_child = node;
        else
            t->nodes[last_child[parent]].next_sibling = node;
        last_child[parent] = node;
        last_child[node] = TRIE_NONE;
        path[d + 1] = node;
    }
}

sc_status trie_create(const int32_t *const *sequences, const int32_t *lengths, size_t n, trie **out)
{
    sc_status status = SC_OK;
    sequence *sorted = NULL;
    int32_t *path = NULL, *last_child = NULL;
    uint64_t n_tokens = 0;
    trie *t = NULL;
    *out = NULL;
    SC_TRY(sc_alloc(&t, 1, sizeof *t));
    SC_TRY(check_sequences(sequences, lengths, n, t, &n_tokens));
    SC_TRY(sc_alloc(&sorted, n, sizeof *sorted));
    SC_TRY(sc_alloc(&t->nodes, (size_t)n_tokens + 1, sizeof *t->nodes));
    SC_TRY(sc_alloc(&t->next_same, n, sizeof *t->next_same));
    SC_TRY(sc_alloc(&path, (size_t)t->max_length + 1, sizeof *path));
    SC_TRY(sc_alloc(&last_child, (size_t)n_tokens + 1, sizeof *last_child));
    t->n_sequences = n;
    for (size_t i = 0; i < n; i++)
        sorted[i] = (sequence){sequences[i], lengths[i], (int32_t)i};
    qsort(sorted, n, sizeof *sorted, compare_sequences);

    t->nodes[TRIE_ROOT] = (trie_node){TRIE_NONE, TRIE_NONE, TRIE_NONE, TRIE_NONE, TRIE_NONE, INT32_MAX};
    t->n_nodes = 1;
    last_child[TRIE_ROOT] = TRIE_NONE;
    path[0] = TRIE_ROOT;
    for (size_t i = 0; i < n; i++) {
        const sequence *s = &sorted[i];
        const int32_t shared = i > 0 ? common_prefix(s, s - 1) : 0;
        t->next_same[s->index] = TRIE_NONE;
        if (i > 0 && shared == s->length && s[-1].length == s->length) {
            t->next_same[s[-1].index] = s->index; /* equal sequences lie side by side, in order of index */
            continue;
        }
        add_sequence(t, s, shared, path, last_child);
        t->nodes[path[s->length]].value = s->index;
    }
    for (int32_t i = t->n_nodes - 1; i > 0; i--) {
        trie_node *node = &t->nodes[i], *parent = &t->nodes[node->parent];
        if (node->value != TRIE_NONE && node->value < node->lowest)
            node->lowest = node->value;
        if (node->lowest < parent->lowest)
            parent->lowest = node->lowest;
    }
    *out = t;
    t = NULL;
cleanup:
    trie_free(t);
    free(sorted);
    free(path);
    free(last_child);
    return status;
}

void trie_free(trie *t)
{
    if (t == NULL)
        return;
    free(t->nodes);
    free(t->next_same);
    free(t);
}

int32_t trie_value(const trie *t, int32_t node, const uint8_t *banned)
{
    int32_t value = t->nodes[node].value;
    while (banned != NULL && value != TRIE_NONE && banned[value])
        value = t->next_same[value];
    return value;
}

void trie_mark_alive(const trie *t, const uint8_t *banned, uint8_t *alive)
{
    memset(alive, 0, (size_t)t->n_nodes);
    for (int32_t i = t->n_nodes - 1; i >= 0; i--) {
        if (trie_value(t, i, banned) != TRIE_NONE)
            alive[i] = 1;
        if (alive[i] && t->nodes[i].parent != TRIE_NONE)
            alive[t->nodes[i].parent] = 1;
    }
}
