/* The two forwards of generation: prompts in one packed pass that fills the cache of keys and values, then one
 * token a row against it. */
#include <stdlib.h>

#include "model/internal.h"

/* Fewer shared tokens than this are not worth their own copies. */
enum { SHARED_LEAST = 16 };

/* What the batch becomes where all prompts begin alike: the first one whole, then the others' own ends. */
typedef struct prompt_batch {
    int32_t *ids, *positions, *cu, *cache_rows, *shared_rows, *last;
    int64_t n_shared;
} prompt_batch;

static void prompt_batch_free(prompt_batch *b)
{
    free(b->ids);
    free(b->positions);
    free(b->cu);
    free(b->cache_rows);
    free(b->shared_rows);
    free(b->last);
}

/* How many tokens all prompts begin with; every prompt keeps one of its own. */
static int64_t shared_tokens(const int32_t *ids, const int32_t *cu, int64_t n_seqs)
{
    int64_t n = cu[1] - 1;
    for (int64_t s = 1; s < n_seqs; s++) {
        int64_t same = 0;
        while (same < n && same < cu[s + 1] - cu[s] - 1 && ids[same] == ids[cu[s] + same])
            same++;
        n = same;
    }
    return n_seqs > 1 && n >= SHARED_LEAST ? n : 0;
}

static sc_status prompt_batch_make(const int32_t *ids, const int32_t *cu, int64_t n_seqs,
                                   const int32_t *cache_rows, prompt_batch *b)
{
    sc_status status = SC_OK;
    b->n_shared = shared_tokens(ids, cu, n_seqs);
    SC_TRY(sc_alloc(&b->ids, (size_t)cu[n_seqs], sizeof(int32_t)));
    SC_TRY(sc_alloc(&b->positions, (size_t)cu[n_seqs], sizeof(int32_t)));
    SC_TRY(sc_alloc(&b->cache_rows, (size_t)cu[n_seqs], sizeof(int32_t)));
    SC_TRY(sc_alloc(&b->cu, (size_t)n_seqs + 1, sizeof(int32_t)));
    SC_TRY(sc_alloc(&b->shared_rows, (size_t)(n_seqs * b->n_shared), sizeof(int32_t)));
    SC_TRY(sc_alloc(&b->last, (size_t)n_seqs, sizeof(int32_t)));
    int32_t n = 0;
    for (int64_t s = 0; s < n_seqs; s++) {
        const int32_t skipped = s > 0 ? (int32_t)b->n_shared : 0;
        for (int32_t i = cu[s] + skipped; i < cu[s + 1]; i++) {
            b->ids[n] = ids[i];
            b->positions[n] = i - cu[s];
            b->cache_rows[n++] = cache_rows[i];
        }
        for (int32_t i = 0; i < skipped; i++)
            b->shared_rows[(s - 1) * b->n_shared + i] = cache_rows[cu[s] + i];
        b->cu[s + 1] = n;
        b->last[s] = n - 1;
    }
cleanup:
    return status;
}

sc_status cached_prefill(model *m, kv_cache *cache, const int32_t *ids, const int32_t *cu, int64_t n_seqs,
                         const int32_t *cache_rows, void **hidden)
{
    workspace *ws = &storage_of(m)->ws;
    sc_status status = SC_OK;
    attention_shape shape;
    prompt_batch b = {0};
    pass p;
    SC_TRY(prompt_batch_make(ids, cu, n_seqs, cache_rows, &b));
    const packed_batch batch = {.ids = b.ids,
                                .positions = b.positions,
                                .cu_seqlens = b.cu,
                                .n_seqs = n_seqs,
                                .n_tokens = b.cu[n_seqs]};
    SC_TRY(pass_begin(m, &batch, &p, &shape));
    shape.n_shared = b.n_shared;
    SC_TRY(buffer_upload(m, &ws->cache_rows, b.cache_rows, (size_t)p.n * sizeof(int32_t)));
    p.cache = cache;
    p.cache_rows = ws->cache_rows.data;
    if (b.n_shared > 0) {
        p.n_copies = n_seqs - 1;
        SC_TRY(buffer_upload(m, &ws->shared_rows, b.shared_rows,
                             (size_t)(p.n_copies * b.n_shared) * sizeof(int32_t)));
        p.shared_rows = ws->shared_rows.data;
    }
    SC_TRY(buffer_upload(m, &ws->rows, b.last, (size_t)n_seqs * sizeof(int32_t)));
    SC_TRY(pass_hidden(&p, ws->rows.data, n_seqs, hidden));
cleanup:
    prompt_batch_free(&b);
    return status;
}

sc_status cached_decode(model *m, kv_cache *cache, const cached_step *step, void **hidden)
{
    workspace *ws = &storage_of(m)->ws;
    const model_config *c = &m->config;
    const int64_t n = step->n;
    const size_t bytes = (size_t)n * sizeof(int32_t);
    sc_status status = SC_OK;
    SC_TRY(buffer_upload(m, &ws->ids, step->ids, bytes));
    SC_TRY(buffer_upload(m, &ws->positions, step->positions, bytes));
    SC_TRY(buffer_upload(m, &ws->cache_rows, step->new_rows, bytes));
    SC_TRY(buffer_upload(m, &ws->kv_rows, step->kv_rows, (size_t)step->kv_offsets[n] * sizeof(int32_t)));
    SC_TRY(buffer_upload(m, &ws->kv_offsets, step->kv_offsets, (size_t)(n + 1) * sizeof(int64_t)));
    const attention_cached_shape shape = {
        .kv_rows = ws->kv_rows.data,
        .kv_offsets = ws->kv_offsets.data,
        .n_queries = n,
        .n_heads = c->n_heads,
        .n_kv_heads = c->n_kv_heads,
        .head_dim = c->head_dim,
        .q_stride = (int64_t)c->n_heads * c->head_dim,
        .cache_stride = (int64_t)c->n_kv_heads * c->head_dim,
        .scale = c->attention_scale,
        .soft_cap = c->attention_cap,
    };
    const pass p = {
        .m = m,
        .n = n,
        .ids = ws->ids.data,
        .positions = ws->positions.data,
        .cached = &shape,
        .cache = cache,
        .cache_rows = ws->cache_rows.data,
    };
    SC_TRY(pass_hidden(&p, NULL, 0, hidden));
cleanup:
    return status;
}
