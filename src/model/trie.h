/* The trie of generate.h from the inside: nodes in preorder, children as linked lists in order of token. */
#ifndef SC_MODEL_TRIE_H
#define SC_MODEL_TRIE_H

#include "model/generate.h"

enum { TRIE_NONE = -1, TRIE_ROOT = 0 };

typedef struct trie_node {
    int32_t token; /* that leads here */
    int32_t parent;
    int32_t first_child, next_sibling;
    int32_t value;  /* lowest sequence that ends here, or TRIE_NONE */
    int32_t lowest; /* lowest sequence at or below: breaks ties */
} trie_node;

struct trie {
    trie_node *nodes; /* [n_nodes], a parent before its children */
    int32_t n_nodes;
    int32_t *next_same; /* [n_sequences] the next sequence with the same tokens, or TRIE_NONE */
    size_t n_sequences;
    int32_t max_length, max_token;
};

/* The sequence offered where node n ends: the lowest that is not banned, or TRIE_NONE. */
int32_t trie_value(const trie *t, int32_t node, const uint8_t *banned);
/* alive[n] = 1 if a sequence that is not banned ends at node n or below. */
void trie_mark_alive(const trie *t, const uint8_t *banned, uint8_t *alive);

#endif
