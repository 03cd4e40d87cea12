/* Beam search over a trie of titles. A prompt's keys and values are computed once and shared by its beams: a
 * beam is a chain of cache rows behind them, and moving it rewrites indices only.
 *
 * With B = max(beams, want) live beams at most, min(B, sequences not banned) are always found: every live beam
 * has a sequence below it, so in each step it gives a candidate. If no more than B go on, none is lost and
 * finished + live does not shrink; if more do, B stay. So a search that ends with less than B found lost none.
 *
 * Log-probabilities only fall along a path, so a live beam below the `want`-th best finished sequence can
 * be dropped, and a search ends, exactly, when none is left. Ties go to the lowest sequence index. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"
#include "model/trie.h"

enum { PREFILL_TOKENS = 4096, MAX_QUERIES = 512, LOGIT_ROWS = 256 };
#define CACHE_BYTES (INT64_C(3) << 30)

typedef struct link { /* one token of a beam, behind the prompt */
    int32_t parent;   /* into links, or TRIE_NONE */
    int32_t row;      /* of the cache */
} link;

typedef struct hypothesis {
    int32_t node; /* of the trie */
    int32_t link; /* its newest token, TRIE_NONE for the prompt itself */
    double logprob;
} hypothesis;

typedef struct candidate {
    double logprob;
    int32_t from; /* index of the live hypothesis */
    int32_t node; /* to go on at, or TRIE_NONE: ends */
    int32_t tie;  /* lowest sequence below, or the sequence that ends */
} candidate;

typedef struct search {
    size_t prompt;
    const uint8_t *banned;
    uint8_t *alive;       /* [trie nodes] */
    int32_t *prompt_rows; /* cache rows */
    int64_t n_prompt, room;
    link *links;
    size_t n_links, links_cap;
    hypothesis *live, *next; /* [beams] */
    int64_t n_live;
    int32_t depth;      /* tokens behind the prompt */
    beam_result *found; /* [want], best first: the caller's */
    int64_t n_found;
} search;

typedef struct beam_state {
    model *m;
    const trie *t;
    const int32_t *prompt_ids;
    const int64_t *cu;
    int32_t end_id;
    int64_t beams, want;
    kv_cache cache;
    int64_t reserved;
    search *active;
    size_t n_active, max_active;
    /* what is asked of the head's rows, in order */
    int32_t *rows, *ids;
    float *logprobs;
    size_t n_asked, rows_cap, ids_cap, logprobs_cap;
    candidate *candidates;
    size_t n_candidates, candidates_cap;
    /* one decode step */
    int32_t *step_ids, *positions, *new_rows, *kv_rows;
    int64_t *kv_offsets;
    size_t kv_cap;
} beam_state;

static void search_close(search *s)
{
    free(s->alive);
    free(s->prompt_rows);
    free(s->links);
    free(s->live);
    free(s->next);
    memset(s, 0, sizeof *s);
}

/* --- candidates ---------------------------------------------------------------------------------------- */

static int compare_candidates(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->logprob != y->logprob)
        return x->logprob > y->logprob ? -1 : 1;
    return x->tie < y->tie ? -1 : x->tie > y->tie;
}

static sc_status ask(beam_state *b, int32_t row, int32_t id)
{
    sc_status status = SC_OK;
    SC_TRY(sc_grow(&b->rows, &b->rows_cap, b->n_asked + 1, sizeof *b->rows));
    SC_TRY(sc_grow(&b->ids, &b->ids_cap, b->n_asked + 1, sizeof *b->ids));
    b->rows[b->n_asked] = row;
    b->ids[b->n_asked++] = id;
cleanup:
    return status;
}

/* The questions of one search, whose first live hypothesis is hidden row `row`: the end, then the children. */
static sc_status ask_all(beam_state *b, const search *s, int32_t row)
{
    sc_status status = SC_OK;
    for (int64_t i = 0; i < s->n_live; i++) {
        const int32_t node = s->live[i].node;
        if (trie_value(b->t, node, s->banned) != TRIE_NONE)
            SC_TRY(ask(b, row + (int32_t)i, b->end_id));
        for (int32_t c = b->t->nodes[node].first_child; c != TRIE_NONE; c = b->t->nodes[c].next_sibling)
            if (s->alive[c])
                SC_TRY(ask(b, row + (int32_t)i, b->t->nodes[c].token));
    }
cleanup:
    return status;
}

/* Log-probabilities of everything asked, LOGIT_ROWS rows of logits at a time. */
static sc_status answer(beam_state *b, const void *hidden, int64_t n_rows)
{
    model *m = b->m;
    workspace *ws = &storage_of(m)->ws;
    const size_t row_bytes = (size_t)m->config.dim * dtype_size(m->dtype);
    sc_status status = SC_OK;
    size_t first = 0;
    SC_TRY(sc_grow(&b->logprobs, &b->logprobs_cap, b->n_asked, sizeof *b->logprobs));
    for (int64_t r = 0; r < n_rows; r += LOGIT_ROWS) {
        const int64_t k = n_rows - r < LOGIT_ROWS ? n_rows - r : LOGIT_ROWS;
        size_t end = first;
        float *logits = NULL;
        for (; end < b->n_asked && b->rows[end] < r + k; end++)
            b->rows[end] -= (int32_t)r;
        const size_t n = end - first;
        if (n == 0)
            continue;
        SC_TRY(buffer_upload(m, &ws->rows, b->rows + first, n * sizeof(int32_t)));
        SC_TRY(buffer_upload(m, &ws->ids_out, b->ids + first, n * sizeof(int32_t)));
        SC_TRY(buffer_need(m, &ws->losses, n * sizeof(float)));
        SC_TRY(head_logits(m, (const char *)hidden + (size_t)r * row_bytes, k, &logits));
        SC_TRY(ops_of(m)->gather_logprobs(NULL, ws->losses.data, logits, DTYPE_F32, k, m->config.vocab_size,
                                          ws->rows.data, ws->ids_out.data, (int64_t)n));
        SC_TRY(ops_of(m)->download(NULL, b->logprobs + first, ws->losses.data, n * sizeof(float)));
        SC_TRY(ops_of(m)->synchronise(NULL));
        first = end;
    }
    for (size_t i = 0; i < b->n_asked; i++)
        if (isnan(b->logprobs[i]))
            SC_TRY(sc_fail(SC_BAD_INPUT,
                           "The model %s gives no finite logits; its weights or the adapter are damaged.",
                           m->folder));
cleanup:
    return status;
}

/* Keeps the `want` best, best first. */
static void found(search *s, const candidate *c, int64_t want)
{
    int64_t at = s->n_found;
    while (at > 0 && (s->found[at - 1].logprob < c->logprob ||
                      (s->found[at - 1].logprob == c->logprob && s->found[at - 1].value > c->tie)))
        at--;
    if (at == want)
        return;
    if (s->n_found < want)
        s->n_found++;
    memmove(&s->found[at + 1], &s->found[at], (size_t)(s->n_found - 1 - at) * sizeof *s->found);
    s->found[at] = (beam_result){.value = c->tie, .logprob = c->logprob};
}

static sc_status propose(beam_state *b, candidate c)
{
    sc_status status =
        sc_grow(&b->candidates, &b->candidates_cap, b->n_candidates + 1, sizeof *b->candidates);
    if (status == SC_OK)
        b->candidates[b->n_candidates++] = c;
    return status;
}

/* Turns the answers from *at on into the search's next live hypotheses, in the order of ask_all. */
static sc_status advance(beam_state *b, search *s, size_t *at)
{
    sc_status status = SC_OK;
    b->n_candidates = 0;
    for (int64_t i = 0; i < s->n_live; i++) {
        const hypothesis *h = &s->live[i];
        const int32_t value = trie_value(b->t, h->node, s->banned);
        if (value != TRIE_NONE) {
            const candidate c = {h->logprob + (double)b->logprobs[(*at)++], (int32_t)i, TRIE_NONE, value};
            found(s, &c, b->want);
        }
        for (int32_t n = b->t->nodes[h->node].first_child; n != TRIE_NONE; n = b->t->nodes[n].next_sibling)
            if (s->alive[n]) {
                const candidate c = {h->logprob + (double)b->logprobs[(*at)++], (int32_t)i, n,
                                     b->t->nodes[n].lowest};
                SC_TRY(propose(b, c));
            }
    }
    if (b->n_candidates > 0)
        qsort(b->candidates, b->n_candidates, sizeof *b->candidates, compare_candidates);
    int64_t n = 0;
    for (size_t i = 0; i < b->n_candidates && n < b->beams; i++, n++) {
        const candidate *c = &b->candidates[i];
        if (s->n_found == b->want && c->logprob < s->found[b->want - 1].logprob)
            break;
        s->next[n] = (hypothesis){.node = c->node, .link = s->live[c->from].link, .logprob = c->logprob};
    }
    hypothesis *old = s->live;
    s->live = s->next;
    s->next = old;
    s->n_live = n;
cleanup:
    return status;
}

/* Asks, answers and advances for the searches first .. n_active-1, whose hypotheses are the rows of hidden. */
static sc_status expand(beam_state *b, size_t first, const void *hidden)
{
    sc_status status = SC_OK;
    int64_t n_rows = 0;
    size_t at = 0;
    b->n_asked = 0;
    for (size_t i = first; i < b->n_active; i++) {
        SC_TRY(ask_all(b, &b->active[i], (int32_t)n_rows));
        n_rows += b->active[i].n_live;
    }
    SC_TRY(answer(b, hidden, n_rows));
    for (size_t i = first; i < b->n_active; i++)
        SC_TRY(advance(b, &b->active[i], &at));
cleanup:
    return status;
}

/* --- prompts and steps ------------------------------------------------------------------------------------ */

static int64_t room_of(const beam_state *b, size_t prompt)
{
    return b->cu[prompt + 1] - b->cu[prompt] + b->beams * b->t->max_length;
}

static sc_status search_open(beam_state *b, search *s, size_t prompt, const uint8_t *banned, beam_result *out)
{
    sc_status status = SC_OK;
    *s = (search){.prompt = prompt,
                  .banned = banned,
                  .n_prompt = b->cu[prompt + 1] - b->cu[prompt],
                  .room = room_of(b, prompt),
                  .found = out};
    SC_TRY(sc_alloc(&s->alive, (size_t)b->t->n_nodes, 1));
    trie_mark_alive(b->t, banned, s->alive);
    SC_TRY(sc_alloc(&s->prompt_rows, (size_t)s->n_prompt, sizeof *s->prompt_rows));
    SC_TRY(sc_alloc(&s->live, (size_t)b->beams, sizeof *s->live));
    SC_TRY(sc_alloc(&s->next, (size_t)b->beams, sizeof *s->next));
    kv_cache_take(&b->cache, s->n_prompt, s->prompt_rows);
    s->live[0] = (hypothesis){.node = TRIE_ROOT, .link = TRIE_NONE};
    s->n_live = 1;
cleanup:
    return status;
}

/* Prefills the next prompts for which there is room and takes their first step. */
static sc_status admit(beam_state *b, size_t *next, size_t n_prompts, const uint8_t *const *banned,
                       beam_result *out)
{
    const size_t first = b->n_active;
    sc_status status = SC_OK;
    int32_t *ids = NULL, *cu = NULL, *rows = NULL;
    int64_t n_tokens = 0;
    void *hidden = NULL;
    SC_TRY(sc_alloc(&cu, b->max_active + 1, sizeof *cu));
    while (*next < n_prompts && b->n_active < b->max_active) {
        const int64_t length = b->cu[*next + 1] - b->cu[*next];
        if (b->reserved + room_of(b, *next) > b->cache.capacity ||
            (n_tokens > 0 && n_tokens + length > PREFILL_TOKENS))
            break;
        search *s = &b->active[b->n_active++];
        SC_TRY(
            search_open(b, s, *next, banned != NULL ? banned[*next] : NULL, out + *next * (size_t)b->want));
        b->reserved += s->room;
        n_tokens += length;
        cu[b->n_active - first] = (int32_t)n_tokens;
        ++*next;
    }
    if (b->n_active == first)
        goto cleanup;
    SC_TRY(sc_alloc(&ids, (size_t)n_tokens, sizeof *ids));
    SC_TRY(sc_alloc(&rows, (size_t)n_tokens, sizeof *rows));
    for (size_t i = first; i < b->n_active; i++) {
        const search *s = &b->active[i];
        memcpy(ids + cu[i - first], b->prompt_ids + b->cu[s->prompt], (size_t)s->n_prompt * sizeof *ids);
        memcpy(rows + cu[i - first], s->prompt_rows, (size_t)s->n_prompt * sizeof *rows);
    }
    SC_TRY(cached_prefill(b->m, &b->cache, ids, cu, (int64_t)(b->n_active - first), rows, &hidden));
    SC_TRY(expand(b, first, hidden));
cleanup:
    free(ids);
    free(cu);
    free(rows);
    return status;
}

/* Appends one hypothesis to the decode step: its newest token gets a cache row and a link. */
static sc_status add_query(beam_state *b, search *s, hypothesis *h, int64_t q)
{
    sc_status status = SC_OK;
    int32_t row = 0;
    SC_TRY(sc_grow(&s->links, &s->links_cap, s->n_links + 1, sizeof *s->links));
    kv_cache_take(&b->cache, 1, &row);
    s->links[s->n_links] = (link){.parent = h->link, .row = row};
    h->link = (int32_t)s->n_links++;
    b->step_ids[q] = b->t->nodes[h->node].token;
    b->positions[q] = (int32_t)(s->n_prompt + s->depth);
    b->new_rows[q] = row;
    int32_t *kv = b->kv_rows + b->kv_offsets[q], *last = kv + s->n_prompt + s->depth;
    memcpy(kv, s->prompt_rows, (size_t)s->n_prompt * sizeof *kv);
    for (int32_t l = h->link; l != TRIE_NONE; l = s->links[l].parent)
        *last-- = s->links[l].row; /* a chain leads from the newest token to the oldest */
    b->kv_offsets[q + 1] = b->kv_offsets[q] + s->n_prompt + s->depth + 1;
cleanup:
    return status;
}

static sc_status step(beam_state *b)
{
    sc_status status = SC_OK;
    int64_t q = 0, n_kv = 0;
    void *hidden = NULL;
    for (size_t i = 0; i < b->n_active; i++)
        n_kv += b->active[i].n_live * (b->active[i].n_prompt + b->active[i].depth + 1);
    SC_TRY(sc_grow(&b->kv_rows, &b->kv_cap, (size_t)n_kv, sizeof *b->kv_rows));
    b->kv_offsets[0] = 0;
    for (size_t i = 0; i < b->n_active; i++) {
        search *s = &b->active[i];
        for (int64_t k = 0; k < s->n_live; k++)
            SC_TRY(add_query(b, s, &s->live[k], q++));
        s->depth++;
    }
    const cached_step c = {.ids = b->step_ids,
                           .positions = b->positions,
                           .new_rows = b->new_rows,
                           .kv_rows = b->kv_rows,
                           .kv_offsets = b->kv_offsets,
                           .n = q};
    SC_TRY(cached_decode(b->m, &b->cache, &c, &hidden));
    SC_TRY(expand(b, 0, hidden));
cleanup:
    return status;
}

/* Searches without a live hypothesis give their rows back. */
static void retire(beam_state *b, int64_t *n_out, progress *p)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n_active; i++) {
        search *s = &b->active[i];
        if (s->n_live > 0) {
            b->active[n++] = *s;
            continue;
        }
        n_out[s->prompt] = s->n_found;
        for (size_t k = s->n_links; k > 0; k--)
            kv_cache_give(&b->cache, 1, &s->links[k - 1].row);
        kv_cache_give(&b->cache, s->n_prompt, s->prompt_rows);
        b->reserved -= s->room;
        search_close(s);
        progress_add(p, 1);
    }
    b->n_active = n;
}

static sc_status prepare(beam_state *b, size_t n_prompts)
{
    const int64_t limit = CACHE_BYTES / kv_cache_row_bytes(b->m);
    const int32_t vocab = b->m->config.vocab_size;
    sc_status status = SC_OK;
    int64_t total = 0, longest = 0;
    if (b->beams > MAX_QUERIES * 8)
        return sc_fail(SC_USAGE, "%lld beams are more than the %d that are possible.", (long long)b->beams,
                       MAX_QUERIES * 8);
    if (b->t->max_token >= vocab || b->end_id < 0 || b->end_id >= vocab)
        return sc_fail(SC_BAD_INPUT,
                       "The catalogue's token ids reach %d, but the model %s has a vocabulary of %d; the "
                       "tokenizer belongs to another model.",
                       b->t->max_token > b->end_id ? b->t->max_token : b->end_id, b->m->folder, vocab);
    b->max_active = (size_t)(MAX_QUERIES / b->beams > 1 ? MAX_QUERIES / b->beams : 1);
    for (size_t i = 0; i < n_prompts; i++) {
        const int64_t length = b->cu[i + 1] - b->cu[i], room = room_of(b, i);
        if (length < 1)
            return sc_fail(SC_BAD_INPUT, "Prompt %zu has no tokens.", i + 1);
        if (length + b->t->max_length > b->m->config.max_positions)
            return sc_fail(SC_BAD_INPUT,
                           "Prompt %zu has %lld tokens and the longest title %d, but the model %s has only "
                           "%d positions.",
                           i + 1, (long long)length, b->t->max_length, b->m->folder,
                           b->m->config.max_positions);
        longest = room > longest ? room : longest;
        total += room;
    }
    if (longest * (int64_t)b->max_active < total)
        total = longest * (int64_t)b->max_active;
    if (total > limit)
        total = limit > longest ? limit : longest;
    const size_t queries = b->max_active * (size_t)b->beams;
    SC_TRY(kv_cache_create(b->m, total, &b->cache));
    SC_TRY(sc_alloc(&b->active, b->max_active, sizeof *b->active));
    SC_TRY(sc_alloc(&b->step_ids, queries, sizeof *b->step_ids));
    SC_TRY(sc_alloc(&b->positions, queries, sizeof *b->positions));
    SC_TRY(sc_alloc(&b->new_rows, queries, sizeof *b->new_rows));
    SC_TRY(sc_alloc(&b->kv_offsets, queries + 1, sizeof *b->kv_offsets));
cleanup:
    return status;
}

sc_status generate_beam_batch(model *m, const int32_t *prompt_ids, const int64_t *cu, size_t n_prompts,
                              const trie *t, const uint8_t *const *banned, int32_t end_id, int64_t beams,
                              int64_t want, beam_result *out, int64_t *n_out, progress *p)
{
    sc_status status = SC_OK;
    size_t next = 0;
    if (beams < 1 || want < 1)
        return sc_fail(SC_USAGE, "%lld beams for %lld results were asked for; both must be at least 1.",
                       (long long)beams, (long long)want);
    beam_state b = {.m = m,
                    .t = t,
                    .prompt_ids = prompt_ids,
                    .cu = cu,
                    .end_id = end_id,
                    .beams = beams > want ? beams : want,
                    .want = want};
    memset(n_out, 0, n_prompts * sizeof *n_out);
    if (n_prompts == 0)
        return SC_OK;
    SC_TRY(prepare(&b, n_prompts));
    while (b.n_active > 0 || next < n_prompts) {
        SC_TRY(check_cancelled());
        SC_TRY(admit(&b, &next, n_prompts, banned, out));
        retire(&b, n_out, p);
        if (b.n_active > 0)
            SC_TRY(step(&b));
        retire(&b, n_out, p);
    }
cleanup:
    for (size_t i = 0; i < b.n_active; i++)
        search_close(&b.active[i]);
    kv_cache_destroy(m, &b.cache);
    free(b.active);
    free(b.rows);
    free(b.ids);
    free(b.logprobs);
    free(b.candidates);
    free(b.step_ids);
    free(b.positions);
    free(b.new_rows);
    free(b.kv_rows);
    free(b.kv_offsets);
    return status;
}

sc_status generate_beam(model *m, const int32_t *prompt, int64_t n_prompt, const trie *t,
                        const uint8_t *banned, int32_t end_id, int64_t beams, int64_t want, beam_result *out,
                        int64_t *n_out)
{
    const int64_t cu[2] = {0, n_prompt};
    return generate_beam_batch(m, prompt, cu, 1, t, &banned, end_id, beams, want, out, n_out, NULL);
}
