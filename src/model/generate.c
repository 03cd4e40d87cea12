/* Free generation, greedy or sampled, with continuous batching: waiting prompts are prefilled together as soon
 * as there is room, every live row gives one token a step, and a finished row's place is taken at once.
 *
 * Every row reserves its longest possible length when it is admitted, so the cache never runs out on the way. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/generate.h"
#include "model/internal.h"

enum { MAX_LIVE = 64, PREFILL_TOKENS = 4096, SAMPLE_ROWS = 64 };
#define CACHE_BYTES (INT64_C(4) << 30)

typedef struct live_row {
    size_t index;         /* of the prompt */
    int32_t *rows;        /* cache rows, in order of position */
    int64_t n_rows, room; /* filled; reserved */
    int32_t last_id;
    size_t cap, cap_logprobs; /* of out[index] */
    int32_t *said;            /* distinct tokens of the prompt and behind it, where they are penalised */
    size_t n_said, cap_said;
    uint64_t *is_said; /* [vocab] bits */
} live_row;

typedef struct batch_state {
    model *m;
    const generate_options *options;
    const int32_t *prompt_ids;
    const int64_t *cu;
    const uint64_t *keys;
    size_t n_rows, next; /* next: the first prompt not yet admitted */
    int64_t max_live;
    kv_cache cache;
    int64_t reserved;
    live_row *live;
    int64_t n_live;
    generated *out;
    progress *p;
    /* scratch for one step */
    int32_t *ids, *positions, *new_rows, *kv_rows;
    size_t kv_cap;
    int64_t *kv_offsets;
    uint64_t *step_keys;
    float *logprobs;
} batch_state;

void generated_free(generated *rows, size_t n)
{
    for (size_t i = 0; rows != NULL && i < n; i++) {
        free(rows[i].ids);
        free(rows[i].logprobs);
        rows[i] = (generated){0};
    }
}

/* The cache rows that prompt i can come to fill: the last token generated is never fed back. */
static int64_t room_of(const batch_state *b, size_t i)
{
    const int64_t prompt = b->cu[i + 1] - b->cu[i];
    const int64_t most = b->m->config.max_positions;
    return b->options->max_tokens < most - prompt ? prompt + b->options->max_tokens : most;
}

static bool is_end(const batch_state *b, int32_t id)
{
    const model_config *c = &b->m->config;
    for (int32_t i = 0; i < c->n_eos; i++)
        if (c->eos_ids[i] == id)
            return true;
    for (size_t i = 0; i < b->options->n_stop_ids; i++)
        if (b->options->stop_ids[i] == id)
            return true;
    return false;
}

/* The number drawn depends on the row's key and on how far the row is, not on its neighbours: both are
 * mixed into one key (the finaliser of SplitMix64, Steele et al. 2014). */
static uint64_t step_key(uint64_t key, int64_t n)
{
    uint64_t x = key + UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)(n + 1);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void live_row_free(live_row *row)
{
    free(row->rows);
    free(row->said);
    free(row->is_said);
    row->rows = NULL;
    row->said = NULL;
    row->is_said = NULL;
}

static void finish(batch_state *b, int64_t i, bool stopped)
{
    live_row *row = &b->live[i];
    b->out[row->index].stopped = stopped;
    kv_cache_give(&b->cache, row->n_rows, row->rows);
    b->reserved -= row->room;
    live_row_free(row);
    progress_add(b->p, b->options->max_tokens - b->out[row->index].n);
}

/* --- penalties ----------------------------------------------------------------------------------------- */

static bool penalises(const batch_state *b)
{
    return b->options->penalty != 0 && b->options->penalty != 1;
}

static sc_status remember(const batch_state *b, live_row *row, const int32_t *ids, int64_t n)
{
    sc_status status = SC_OK;
    if (!penalises(b))
        return SC_OK;
    if (row->is_said == NULL)
        SC_TRY(sc_alloc(&row->is_said, (size_t)b->m->config.vocab_size / 64 + 1, sizeof *row->is_said));
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= b->m->config.vocab_size)
            continue; /* the prefill names it */
        uint64_t *word = &row->is_said[ids[i] / 64];
        const uint64_t bit = UINT64_C(1) << (ids[i] % 64);
        if (*word & bit)
            continue;
        *word |= bit;
        SC_TRY(sc_grow(&row->said, &row->cap_said, row->n_said + 1, sizeof *row->said));
        row->said[row->n_said++] = ids[i];
    }
cleanup:
    return status;
}

/* Of k live rows from `first` on. The attention's lists are not needed any more in this step. */
static sc_status penalise(batch_state *b, int64_t first, int64_t k, float *logits)
{
    model *m = b->m;
    workspace *ws = &storage_of(m)->ws;
    sc_status status = SC_OK;
    size_t n = 0;
    if (!penalises(b))
        return SC_OK;
    b->kv_offsets[0] = 0;
    for (int64_t i = 0; i < k; i++)
        b->kv_offsets[i + 1] = b->kv_offsets[i] + (int64_t)b->live[first + i].n_said;
    SC_TRY(sc_grow(&b->kv_rows, &b->kv_cap, (size_t)b->kv_offsets[k], sizeof *b->kv_rows));
    for (int64_t i = 0; i < k; i++) {
        const live_row *row = &b->live[first + i];
        memcpy(b->kv_rows + n, row->said, row->n_said * sizeof *row->said);
        n += row->n_said;
    }
    SC_TRY(buffer_upload(m, &ws->kv_rows, b->kv_rows, n * sizeof *b->kv_rows));
    SC_TRY(buffer_upload(m, &ws->kv_offsets, b->kv_offsets, (size_t)(k + 1) * sizeof *b->kv_offsets));
    SC_TRY(ops_of(m)->penalise_rows(NULL, logits, k, m->config.vocab_size, b->options->penalty,
                                    ws->kv_rows.data, ws->kv_offsets.data));
cleanup:
    return status;
}

/* --- steps --------------------------------------------------------------------------------------------- */

/* Draws the next token of live rows first .. first+n-1 from their hidden states into ids and logprobs. */
static sc_status draw(batch_state *b, const void *hidden, int64_t first, int64_t n)
{
    model *m = b->m;
    workspace *ws = &storage_of(m)->ws;
    const size_t row_bytes = (size_t)m->config.dim * dtype_size(m->dtype);
    const sample_options options = {.temperature = b->options->temperature,
                                    .top_p = b->options->top_p,
                                    .seed = b->options->seed,
                                    .top_k = b->options->top_k,
                                    .min_p = b->options->min_p};
    sc_status status = SC_OK;
    float *logprobs = NULL;
    for (int64_t i = 0; i < n; i += SAMPLE_ROWS) {
        const int64_t k = n - i < SAMPLE_ROWS ? n - i : SAMPLE_ROWS;
        float *logits = NULL;
        for (int64_t j = 0; j < k; j++) {
            const live_row *row = &b->live[first + i + j];
            b->step_keys[j] =
                step_key(b->keys != NULL ? b->keys[row->index] : row->index, b->out[row->index].n);
        }
        SC_TRY(buffer_upload(m, &ws->row_keys, b->step_keys, (size_t)k * sizeof(uint64_t)));
        SC_TRY(buffer_need(m, &ws->ids_out, (size_t)k * sizeof(int32_t)));
        if (b->options->logprobs) {
            SC_TRY(buffer_need(m, &ws->losses, (size_t)k * sizeof(float)));
            logprobs = ws->losses.data;
        }
        SC_TRY(head_logits(m, (const char *)hidden + (size_t)i * row_bytes, k, &logits));
        SC_TRY(penalise(b, first + i, k, logits));
        SC_TRY(ops_of(m)->sample_rows(NULL, ws->ids_out.data, logprobs, logits, DTYPE_F32, k,
                                      m->config.vocab_size, &options, ws->row_keys.data));
        SC_TRY(ops_of(m)->download(NULL, b->ids + i, ws->ids_out.data, (size_t)k * sizeof(int32_t)));
        if (logprobs != NULL)
            SC_TRY(ops_of(m)->download(NULL, b->logprobs + i, logprobs, (size_t)k * sizeof(float)));
    }
    SC_TRY(ops_of(m)->synchronise(NULL));
cleanup:
    return status;
}

/* A token more for live rows first .. first+n-1; `done` marks the finished. */
static sc_status sample(batch_state *b, const void *hidden, int64_t first, int64_t n, bool *done)
{
    const model *m = b->m;
    sc_status status = SC_OK;
    SC_TRY(draw(b, hidden, first, n));
    for (int64_t i = 0; i < n; i++) {
        live_row *row = &b->live[first + i];
        generated *out = &b->out[row->index];
        const int32_t id = b->ids[i];
        done[first + i] = false;
        if (id < 0 || id >= m->config.vocab_size)
            SC_TRY(sc_fail(SC_BAD_INPUT,
                           "The model %s gives no finite logits; its weights or the adapter are damaged.",
                           m->folder));
        if (is_end(b, id)) {
            finish(b, first + i, true);
            done[first + i] = true;
            continue;
        }
        SC_TRY(sc_grow(&out->ids, &row->cap, (size_t)out->n + 1, sizeof(int32_t)));
        if (b->options->logprobs) {
            SC_TRY(sc_grow(&out->logprobs, &row->cap_logprobs, (size_t)out->n + 1, sizeof(float)));
            out->logprobs[out->n] = b->logprobs[i];
        }
        out->ids[out->n++] = row->last_id = id;
        SC_TRY(remember(b, row, &id, 1));
        progress_add(b->p, 1);
        const bool ended = b->options->ends != NULL && b->options->ends(b->options->context, row->index, out);
        if (ended || out->n == b->options->max_tokens || row->n_rows == m->config.max_positions) {
            finish(b, first + i, ended);
            done[first + i] = true;
        }
    }
cleanup:
    return status;
}

/* Closes the gaps that finished rows leave. */
static void compact(batch_state *b, const bool *done)
{
    int64_t n = 0;
    for (int64_t i = 0; i < b->n_live; i++)
        if (!done[i])
            b->live[n++] = b->live[i];
    b->n_live = n;
}

/* Prefills as many waiting prompts as there is room for, and draws their first tokens. */
static sc_status admit(batch_state *b, bool *done)
{
    const int64_t first = b->n_live;
    sc_status status = SC_OK;
    int32_t *ids = NULL, *cu = NULL, *rows = NULL;
    int64_t n = 0, n_tokens = 0;
    void *hidden = NULL;
    while (b->next + (size_t)n < b->n_rows && first + n < b->max_live) {
        const size_t i = b->next + (size_t)n;
        const int64_t length = b->cu[i + 1] - b->cu[i];
        if (b->reserved + room_of(b, i) > b->cache.capacity || (n > 0 && n_tokens + length > PREFILL_TOKENS))
            break;
        b->reserved += room_of(b, i);
        n_tokens += length;
        n++;
    }
    if (n == 0)
        return SC_OK;
    SC_TRY(sc_alloc(&ids, (size_t)n_tokens, sizeof *ids));
    SC_TRY(sc_alloc(&rows, (size_t)n_tokens, sizeof *rows));
    SC_TRY(sc_alloc(&cu, (size_t)n + 1, sizeof *cu));
    for (int64_t k = 0; k < n; k++) {
        const size_t i = b->next + (size_t)k;
        const int64_t length = b->cu[i + 1] - b->cu[i];
        live_row *row = &b->live[first + k];
        *row = (live_row){.index = i, .n_rows = length, .room = room_of(b, i)};
        b->n_live++;
        SC_TRY(sc_alloc(&row->rows, (size_t)row->room, sizeof(int32_t)));
        SC_TRY(remember(b, row, b->prompt_ids + b->cu[i], length));
        kv_cache_take(&b->cache, length, row->rows);
        memcpy(ids + cu[k], b->prompt_ids + b->cu[i], (size_t)length * sizeof *ids);
        memcpy(rows + cu[k], row->rows, (size_t)length * sizeof *rows);
        cu[k + 1] = cu[k] + (int32_t)length;
    }
    b->next += (size_t)n;
    SC_TRY(cached_prefill(b->m, &b->cache, ids, cu, n, rows, &hidden));
    memset(done, 0, (size_t)b->n_live * sizeof *done);
    SC_TRY(sample(b, hidden, first, n, done));
    compact(b, done);
cleanup:
    free(ids);
    free(rows);
    free(cu);
    return status;
}

/* One token more for every live row. */
static sc_status step(batch_state *b, bool *done)
{
    sc_status status = SC_OK;
    int64_t n_kv = 0;
    void *hidden = NULL;
    for (int64_t i = 0; i < b->n_live; i++)
        n_kv += b->live[i].n_rows + 1;
    SC_TRY(sc_grow(&b->kv_rows, &b->kv_cap, (size_t)n_kv, sizeof(int32_t)));
    b->kv_offsets[0] = 0;
    for (int64_t i = 0; i < b->n_live; i++) {
        live_row *row = &b->live[i];
        kv_cache_take(&b->cache, 1, &row->rows[row->n_rows]);
        b->ids[i] = row->last_id;
        b->positions[i] = (int32_t)row->n_rows;
        b->new_rows[i] = row->rows[row->n_rows++];
        memcpy(b->kv_rows + b->kv_offsets[i], row->rows, (size_t)row->n_rows * sizeof(int32_t));
        b->kv_offsets[i + 1] = b->kv_offsets[i] + row->n_rows;
    }
    const cached_step s = {.ids = b->ids,
                           .positions = b->positions,
                           .new_rows = b->new_rows,
                           .kv_rows = b->kv_rows,
                           .kv_offsets = b->kv_offsets,
                           .n = b->n_live};
    SC_TRY(cached_decode(b->m, &b->cache, &s, &hidden));
    SC_TRY(sample(b, hidden, 0, b->n_live, done));
    compact(b, done);
cleanup:
    return status;
}

static sc_status check_prompts(const batch_state *b)
{
    for (size_t i = 0; i < b->n_rows; i++) {
        const int64_t length = b->cu[i + 1] - b->cu[i];
        if (length < 1)
            return sc_fail(SC_BAD_INPUT, "Prompt %zu has no tokens.", i + 1);
        if (length >= b->m->config.max_positions)
            return sc_fail(SC_BAD_INPUT,
                           "Prompt %zu has %lld tokens, but the model %s has only %d positions.", i + 1,
                           (long long)length, b->m->folder, b->m->config.max_positions);
    }
    return SC_OK;
}

static sc_status make_cache(batch_state *b)
{
    const int64_t limit = CACHE_BYTES / kv_cache_row_bytes(b->m);
    int64_t total = 0, longest = 0;
    for (size_t i = 0; i < b->n_rows; i++) {
        const int64_t room = room_of(b, i);
        longest = room > longest ? room : longest;
        total += room;
    }
    if (longest * b->max_live < total)
        total = longest * b->max_live;
    if (total > limit)
        total = limit > longest ? limit : longest;
    return kv_cache_create(b->m, total, &b->cache);
}

sc_status generate(model *m, const int32_t *prompt_ids, const int64_t *cu, size_t n_rows,
                   const uint64_t *keys, const generate_options *options, generated *out, progress *p)
{
    sc_status status = SC_OK;
    bool *done = NULL;
    batch_state b = {.m = m,
                     .options = options,
                     .prompt_ids = prompt_ids,
                     .cu = cu,
                     .keys = keys,
                     .n_rows = n_rows,
                     .max_live = options->max_live > 0 ? options->max_live : MAX_LIVE,
                     .out = out,
                     .p = p};
    memset(out, 0, n_rows * sizeof *out);
    if (n_rows == 0)
        return SC_OK;
    if (options->penalty < 0 || !isfinite(options->penalty))
        return sc_fail(SC_USAGE, "The repetition penalty is %g, but it must be above 0 (1: none).",
                       (double)options->penalty);
    if (options->max_tokens < 1)
        return sc_fail(SC_USAGE, "The number of new tokens is %lld, but it must be at least 1.",
                       (long long)options->max_tokens);
    if ((uint64_t)b.max_live > n_rows)
        b.max_live = (int64_t)n_rows;
    SC_TRY(check_prompts(&b));
    SC_TRY(make_cache(&b));
    SC_TRY(sc_alloc(&b.live, (size_t)b.max_live, sizeof *b.live));
    SC_TRY(sc_alloc(&b.ids, (size_t)b.max_live, sizeof *b.ids));
    SC_TRY(sc_alloc(&b.positions, (size_t)b.max_live, sizeof *b.positions));
    SC_TRY(sc_alloc(&b.new_rows, (size_t)b.max_live, sizeof *b.new_rows));
    SC_TRY(sc_alloc(&b.kv_offsets, (size_t)b.max_live + 1, sizeof *b.kv_offsets));
    SC_TRY(sc_alloc(&b.step_keys, SAMPLE_ROWS, sizeof *b.step_keys));
    SC_TRY(sc_alloc(&b.logprobs, (size_t)b.max_live, sizeof *b.logprobs));
    SC_TRY(sc_alloc(&done, (size_t)b.max_live, sizeof *done));
    while (b.n_live > 0 || b.next < n_rows) {
        SC_TRY(check_cancelled());
        SC_TRY(admit(&b, done));
        if (b.n_live > 0)
            SC_TRY(step(&b, done));
    }
cleanup:
    for (int64_t i = 0; i < b.n_live; i++)
        live_row_free(&b.live[i]);
    kv_cache_destroy(m, &b.cache);
    free(b.live);
    free(b.ids);
    free(b.positions);
    free(b.new_rows);
    free(b.kv_rows);
    free(b.kv_offsets);
    free(b.step_keys);
    free(b.logprobs);
    free(done);
    if (status != SC_OK)
        generated_free(out, n_rows);
    return status;
}
