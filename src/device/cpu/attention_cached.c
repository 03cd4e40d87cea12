/* attention_cached: new tokens over a cache whose rows are named by index lists. A task is one query and the
 * heads that share one key head, so every key and value row is read once for all of them. */
#include "device/cpu/attention.h"

enum { GROUP = 8, CACHE_BLOCK = 64 };

/* Up to GROUP heads of one query, from `head` on. */
static void cached_heads(void *out, const void *q, const void *k_cache, const void *v_cache, dtype type,
                         const attention_cached_shape *shape, int64_t query, int64_t kv_head, int64_t head,
                         int64_t heads)
{
    float queries[GROUP][HEAD_MOST], sums[GROUP][HEAD_MOST], scores[GROUP][CACHE_BLOCK], scratch[HEAD_MOST];
    float most[GROUP], total[GROUP];
    const int64_t dim = shape->head_dim, first = shape->kv_offsets[query],
                  last = shape->kv_offsets[query + 1];
    for (int64_t h = 0; h < heads; h++) {
        const float *from = row_load(q, type, query * shape->q_stride + (head + h) * dim, dim, queries[h]);
        for (int64_t d = 0; d < dim; d++) {
            queries[h][d] = shape->scale * from[d];
            sums[h][d] = 0;
        }
        most[h] = -INFINITY;
        total[h] = 0;
    }
    for (int64_t from = first; from < last; from += CACHE_BLOCK) {
        int64_t n = last - from < CACHE_BLOCK ? last - from : CACHE_BLOCK;
        for (int64_t j = 0; j < n; j++) {
            int64_t offset = shape->kv_rows[from + j] * shape->cache_stride + kv_head * dim;
            const float *key = row_load(k_cache, type, offset, dim, scratch);
            for (int64_t h = 0; h < heads; h++) {
                float dot = 0;
#pragma omp simd reduction(+ : dot)
                for (int64_t d = 0; d < dim; d++)
                    dot += queries[h][d] * key[d];
                scores[h][j] = dot;
            }
        }
        for (int64_t h = 0; h < heads; h++) {
            float top = max_of(scores[h], n);
            top = top > most[h] ? top : most[h];
            float shrink = fast_exp(most[h] - top), added = 0;
#pragma omp simd reduction(+ : added)
            for (int64_t j = 0; j < n; j++) {
                scores[h][j] = fast_exp(scores[h][j] - top);
                added += scores[h][j];
            }
            most[h] = top;
            total[h] = total[h] * shrink + added;
            for (int64_t d = 0; d < dim; d++)
                sums[h][d] *= shrink;
        }
        for (int64_t j = 0; j < n; j++) {
            int64_t offset = shape->kv_rows[from + j] * shape->cache_stride + kv_head * dim;
            const float *value = row_load(v_cache, type, offset, dim, scratch);
            for (int64_t h = 0; h < heads; h++) {
                float p = scores[h][j];
                for (int64_t d = 0; d < dim; d++)
                    sums[h][d] += p * value[d];
            }
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
