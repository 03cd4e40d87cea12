/* attention_cached: new tokens over a cache whose rows are named by index lists. A task is one query and the
 * heads that share one key head, so every key and value row is read once for all of them: scores in tiles of 3
 * heads by 4 keys along the head, then values in tiles of 3 heads by two registers of its dimensions along the keys. */
#include <string.h>

#include "device/cpu/attention.h"

enum { GROUP = 8, HEADS = 3, CACHE_BLOCK = 64 };

typedef struct cached_block {
    const float *rows[CACHE_BLOCK + 3]; /* the last one is repeated, to whole tiles */
    float scratch[CACHE_BLOCK * HEAD_MOST];
    int64_t n;
} cached_block;

/* The keys or values of cache rows list[0 .. n-1], readable up to head_wide(dim), with zeros beyond dim. */
static void load_block(cached_block *b, const void *cache, dtype type, const int32_t *list, int64_t n,
                       int64_t stride, int64_t first, int64_t dim)
{
    const int64_t wide = head_wide(dim);
    int64_t pitch;
    b->n = n;
    for (int64_t j = 0; j < n; j++)
        b->rows[j] =
            load_rows(b->scratch + j * wide, cache, type, list[j] * stride + first, 0, 1, dim, &pitch);
    for (int64_t j = n; j < n + 3; j++)
        b->rows[j] = b->rows[n - 1];
}

/* scores[h][j] = q[h] . key j, up to three scores beyond the block's n */
static inline __attribute__((always_inline)) void scores_of(const int heads, const cached_block *b,
                                                            int64_t wide, float (*q)[HEAD_MOST],
                                                            float (*scores)[CACHE_BLOCK + 3])
{
    for (int64_t j = 0; j < b->n; j += 4) {
        floats sums[HEADS][4];
        const float *const *rows = b->rows + j;
#pragma GCC unroll 3
        for (int h = 0; h < heads; h++)
#pragma GCC unroll 4
            for (int r = 0; r < 4; r++)
                sums[h][r] = (floats){0};
        for (int64_t d = 0; d < wide; d += LANES) {
            floats qs[HEADS];
#pragma GCC unroll 3
            for (int h = 0; h < heads; h++)
                qs[h] = load_floats(q[h] + d);
#pragma GCC unroll 4
            for (int r = 0; r < 4; r++) {
                const floats key = load_floats(rows[r] + d);
#pragma GCC unroll 3
                for (int h = 0; h < heads; h++)
                    sums[h][r] += key * qs[h];
            }
        }
#pragma GCC unroll 3
        for (int h = 0; h < heads; h++)
            sums4(sums[h], scores[h] + j);
    }
}

/* sums[h] += scores[h][j] * value j */
static inline __attribute__((always_inline)) void values_of(const int heads, const cached_block *b, int64_t d,
                                                            const int vectors,
                                                            float (*scores)[CACHE_BLOCK + 3],
                                                            float (*sums)[HEAD_MOST])
{
    floats total[HEADS][2];
#pragma GCC unroll 3
    for (int h = 0; h < heads; h++)
#pragma GCC unroll 2
        for (int i = 0; i < vectors; i++)
            total[h][i] = load_floats(sums[h] + d + LANES * i);
    for (int64_t j = 0; j < b->n; j++) {
        floats value[2];
#pragma GCC unroll 2
        for (int i = 0; i < vectors; i++)
            value[i] = load_floats(b->rows[j] + d + LANES * i);
#pragma GCC unroll 3
        for (int h = 0; h < heads; h++)
#pragma GCC unroll 2
            for (int i = 0; i < vectors; i++)
                total[h][i] += scores[h][j] * value[i];
    }
#pragma GCC unroll 3
    for (int h = 0; h < heads; h++)
#pragma GCC unroll 2
        for (int i = 0; i < vectors; i++)
            store_floats(sums[h] + d + LANES * i, total[h][i]);
}

static inline __attribute__((always_inline)) void all_values_of(const int heads, const cached_block *b,
                                                                int64_t wide,
                                                                float (*scores)[CACHE_BLOCK + 3],
                                                                float (*sums)[HEAD_MOST])
{
    int64_t d = 0;
    for (; d + 2 * LANES <= wide; d += 2 * LANES)
        values_of(heads, b, d, 2, scores, sums);
    if (d < wide)
        values_of(heads, b, d, 1, scores, sums);
}

/* Turns a block's scores into weights against the running maximum; returns what the old sums are to be scaled by. */
static float soften(float *scores, int64_t n, float *most, float *total)
{
    float top = max_of(scores, n), added = 0;
    top = top > *most ? top : *most;
    const float shrink = fast_exp(*most - top);
#pragma omp simd reduction(+ : added)
    for (int64_t j = 0; j < n; j++) {
        scores[j] = fast_exp(scores[j] - top);
        added += scores[j];
    }
    *most = top;
    *total = *total * shrink + added;
    return shrink;
}

/* Where the rows that a query sees begin. */
static int64_t first_seen(const attention_cached_shape *shape, int64_t query)
{
    const int64_t first = shape->kv_offsets[query], last = shape->kv_offsets[query + 1];
    return shape->window > 0 && last - first > shape->window ? last - shape->window : first;
}

/* Up to GROUP heads of one query, from `head` on. */
static void cached_heads(void *out, const void *q, const void *k_cache, const void *v_cache, dtype type,
                         const attention_cached_shape *shape, int64_t query, int64_t kv_head, int64_t head,
                         int64_t heads)
{
    float queries[GROUP][HEAD_MOST], sums[GROUP][HEAD_MOST], scores[GROUP][CACHE_BLOCK + 3] = {{0}};
    float most[GROUP], total[GROUP];
    cached_block block;
    const int64_t dim = shape->head_dim, wide = head_wide(dim), last = shape->kv_offsets[query + 1],
                  first = first_seen(shape, query);
    memset(sums, 0, (size_t)heads * sizeof *sums);
    for (int64_t h = 0; h < heads; h++) {
        const float *from = row_load(q, type, query * shape->q_stride + (head + h) * dim, dim, queries[h]);
        for (int64_t d = 0; d < wide; d++)
            queries[h][d] = d < dim ? shape->scale * from[d] : 0;
        most[h] = -INFINITY;
        total[h] = 0;
    }
    for (int64_t from = first; from < last; from += CACHE_BLOCK) {
        const int64_t n = last - from < CACHE_BLOCK ? last - from : CACHE_BLOCK;
        const int32_t *list = shape->kv_rows + from;
        load_block(&block, k_cache, type, list, n, shape->cache_stride, kv_head * dim, dim);
        for (int64_t h = 0; h < heads; h += HEADS) {
            if (heads - h >= 3)
                scores_of(3, &block, wide, queries + h, scores + h);
            else if (heads - h == 2)
                scores_of(2, &block, wide, queries + h, scores + h);
            else
                scores_of(1, &block, wide, queries + h, scores + h);
        }
        for (int64_t h = 0; h < heads; h++) {
            if (shape->soft_cap > 0)
                cap_values(scores[h], n, shape->soft_cap);
            const float shrink = soften(scores[h], n, &most[h], &total[h]);
            for (int64_t d = 0; from > first && d < wide; d++)
                sums[h][d] *= shrink;
        }
        load_block(&block, v_cache, type, list, n, shape->cache_stride, kv_head * dim, dim);
        for (int64_t h = 0; h < heads; h += HEADS) {
            if (heads - h >= 3)
                all_values_of(3, &block, wide, scores + h, sums + h);
            else if (heads - h == 2)
                all_values_of(2, &block, wide, scores + h, sums + h);
            else
                all_values_of(1, &block, wide, scores + h, sums + h);
        }
    }
    for (int64_t h = 0; h < heads; h++) {
        float inverse = total[h] > 0 ? 1.0f / total[h] : 0.0f; /* a query that sees nothing gives zeros */
        for (int64_t d = 0; d < dim; d++)
            sums[h][d] *= inverse;
        store_row(out, type, query * shape->q_stride + (head + h) * dim, dim, sums[h]);
    }
}

sc_status cpu_attention_cached(stream *s, void *out, const void *q, const void *k_cache, const void *v_cache,
                               dtype type, const attention_cached_shape *shape, void *workspace)
{
    (void)s;
    (void)workspace;
    if (shape->head_dim < 1 || shape->head_dim > HEAD_MOST)
        return sc_fail(SC_DEVICE,
                       "attention_cached: head_dim %d is outside 1..%d, which the CPU table offers",
                       (int)shape->head_dim, HEAD_MOST);
    if (shape->n_kv_heads < 1 || shape->n_heads % shape->n_kv_heads)
        return sc_fail(SC_INTERNAL, "attention_cached: %d heads do not divide into %d key heads",
                       (int)shape->n_heads, (int)shape->n_kv_heads);
    if (!(shape->soft_cap >= 0) || shape->window < 0)
        return sc_fail(SC_INTERNAL,
                       "attention_cached: a soft cap of %g and a window of %lld must not be negative",
                       (double)shape->soft_cap, (long long)shape->window);
    const int64_t group = shape->n_heads / shape->n_kv_heads, pieces = (group + GROUP - 1) / GROUP;
    const int64_t tasks = shape->n_queries * shape->n_kv_heads * pieces;
    const int64_t work =
        shape->n_queries > 0 ? shape->kv_offsets[shape->n_queries] * shape->n_kv_heads * shape->head_dim : 0;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(work, tasks))
    for (int64_t t = 0; t < tasks; t++) {
        int64_t query = t / (shape->n_kv_heads * pieces), rest = t % (shape->n_kv_heads * pieces);
        int64_t kv_head = rest / pieces, skip = rest % pieces * GROUP;
        int64_t heads = group - skip < GROUP ? group - skip : GROUP;
        cached_heads(out, q, k_cache, v_cache, type, shape, query, kv_head, kv_head * group + skip, heads);
    }
    return SC_OK;
}

size_t cpu_attention_cached_workspace(const attention_cached_shape *shape)
{
    (void)shape;
    return 0;
}
