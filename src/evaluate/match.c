/* Titles matched to a catalogue: names by length, and a lower bound from the symbols they hold. */
#include "evaluate/match.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "evaluate/title_index.h"
#include "evaluate/distance.h"
#include "evaluate/title.h"

/* Edits needed at least to turn one set of symbols into the other: each edit brings in and takes out
 * at most one. */
static int32_t least_edits(uint64_t a, uint64_t b)
{
    const int32_t out = __builtin_popcountll(a & ~b), in = __builtin_popcountll(b & ~a);
    return out > in ? out : in;
}

static int32_t allowed(match_mode mode, int32_t a, int32_t b)
{
    if (mode == MATCH_HE2023)
        return INT32_MAX;
    const int32_t shorter = a < b ? a : b;
    return shorter <= 5 ? 0 : shorter <= 10 ? 1 : 2;
}

/* The nearest name among those of the lengths m, m-1, m+1, m-2, ...; equal distances go to the lowest index. */
static sc_status nearest(const title_index *c, const char *key, const int32_t *symbols, int32_t m,
                         title_match *out)
{
    distance_query q;
    sc_status status = distance_query_open(&q, symbols, m, c->n_symbols);
    if (status != SC_OK)
        return status;
    uint64_t signature = 0;
    for (int32_t i = 0; i < m; i++)
        if (symbols[i] >= 0)
            signature |= (uint64_t)1 << (symbols[i] % 64);
    int32_t best = c->mode == MATCH_STRICT ? 2 : INT32_MAX, best_name = INT32_MAX;
    for (int32_t apart = 0; apart <= best && (apart <= m || m + apart <= c->longest); apart++)
        for (int side = 0; side < (apart > 0 ? 2 : 1); side++) {
            const int32_t length = side == 0 ? m - apart : m + apart;
            if (length < 0 || length > c->longest)
                continue;
            const int32_t limit = allowed(c->mode, length, m);
            if (apart > limit)
                continue;
            for (int32_t at = c->by_length_start[length]; at < c->by_length_start[length + 1]; at++) {
                const int32_t i = c->by_length[at];
                const name_entry *name = &c->names[i];
                int32_t least = least_edits(signature, name->signature);
                least = least > apart ? least : apart;
                if (least > limit || least > best || (least == best && i > best_name))
                    continue;
                const int32_t distance = distance_to(&q, name->symbols, length);
                if (distance > limit || distance > best || (distance == best && i > best_name))
                    continue;
                if (c->mode == MATCH_STRICT && (!name->item || !title_same_numbers(key, name->key)))
                    continue;
                best = distance;
                best_name = i;
            }
        }
    if (best_name != INT32_MAX)
        *out = (title_match){best_name, best, c->mode == MATCH_STRICT || best <= MATCH_HE_LIMIT};
    distance_query_close(&q);
    return SC_OK;
}

static sc_status match_one(const title_index *c, const char *title, title_match *out)
{
    sc_status status = SC_OK;
    strbuf key = {0};
    int32_t *symbols = NULL;
    *out = (title_match){-1, -1, false};
    title_index_form(c, title, &key);
    SC_TRY(strbuf_status(&key));
    if (key.len > INT32_MAX / 8 || (c->mode == MATCH_STRICT && key.len == 0))
        goto cleanup;
    const int32_t exact = title_index_find_key(c, strbuf_text(&key));
    if (exact >= 0 && (c->mode == MATCH_HE2023 || c->names[exact].item)) {
        *out = (title_match){exact, 0, true};
        goto cleanup;
    }
    SC_TRY(sc_alloc(&symbols, key.len + 1, sizeof *symbols));
    const int32_t m = title_index_symbols(c, strbuf_text(&key), key.len, symbols);
    SC_TRY(nearest(c, strbuf_text(&key), symbols, m, out));
cleanup:
    strbuf_free(&key);
    free(symbols);
    return status;
}

static int by_text(const void *a, const void *b, void *titles)
{
    const char *const *all = titles;
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    const int order = strcmp(all[x], all[y]);
    return order != 0 ? order : (x > y) - (x < y);
}

sc_status title_index_match(const title_index *c, const char *const *titles, size_t n, title_match *out)
{
    sc_status status = SC_OK;
    size_t *order = NULL, *heads = NULL, n_heads = 0;
    progress *p = NULL;
    if (n == 0)
        return SC_OK;
    SC_TRY(sc_alloc(&order, n, sizeof *order));
    SC_TRY(sc_alloc(&heads, n + 1, sizeof *heads));
    for (size_t i = 0; i < n; i++)
        order[i] = i;
    qsort_r(order, n, sizeof *order, by_text, (void *)(uintptr_t)titles);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(titles[order[i]], titles[order[i - 1]]) != 0)
            heads[n_heads++] = i;
    heads[n_heads] = n;
    p = progress_begin("match", "titles", (int64_t)n_heads);
    enum { GROUP = 512 };
    for (size_t group = 0; group < n_heads; group += GROUP) {
        SC_TRY(check_cancelled());
        const size_t end = group + GROUP < n_heads ? group + GROUP : n_heads;
        sc_status worst = SC_OK;
#pragma omp parallel for schedule(dynamic, 8)
        for (size_t h = group; h < end; h++) {
            sc_status one = match_one(c, titles[order[heads[h]]], &out[order[heads[h]]]);
            if (one != SC_OK) {
#pragma omp critical
                worst = one;
            }
        }
        if (worst != SC_OK) {
            status = sc_fail(worst, "no memory to match %zu titles", n);
            goto cleanup;
        }
        progress_add(p, (int64_t)(end - group));
    }
    for (size_t h = 0; h < n_heads; h++)
        for (size_t i = heads[h] + 1; i < heads[h + 1]; i++)
            out[order[i]] = out[order[heads[h]]];
cleanup:
    progress_end(p);
    free(order);
    free(heads);
    return status;
}
