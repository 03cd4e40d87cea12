/* The two forwards of generation: prompts in one packed pass that fills the cache of keys and values, then one
 * token a row against it. */
#include <math.h>
#include <stdlib.h>

#include "model/internal.h"

sc_status cached_prefill(model *m, kv_cache *cache, const int32_t *ids, const int32_t *cu, int64_t n_seqs,
                         const int32_t *cache_rows, void **hidden)
{
    workspace *ws = &storage_of(m)->ws;
    const packed_batch batch = {.ids = ids, .cu_seqlens = cu, .n_seqs = n_seqs, .n_tokens = cu[n_seqs]};
    sc_status status = SC_OK;
    attention_shape shape;
    int32_t *last = NULL;
    pass p;
    SC_TRY(pass_begin(m, &batch, &p, &shape));
    SC_TRY(buffer_upload(m, &ws->cache_rows, cache_rows, (size_t)p.n * sizeof(int32_t)));
    p.cache = cache;
    p.cache_rows = ws->cache_rows.data;
    SC_TRY(sc_alloc(&last, (size_t)n_seqs, sizeof *last));
    for (int64_t s = 0; s < n_seqs; s++)
        last[s] = cu[s + 1] - 1;
    SC_TRY(buffer_upload(m, &ws->rows, last, (size_t)n_seqs * sizeof(int32_t)));
    SC_TRY(pass_hidden(&p, ws->rows.data, n_seqs, hidden));
cleanup:
    free(last);
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
        .scale = 1.0f / sqrtf((float)c->head_dim),
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
