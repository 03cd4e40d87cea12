/* Log-probabilities of given tokens. Rows that begin alike, as the candidates for one prompt do, are put into one packed
 * batch whose first sequence brings the common tokens along for all. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/generate.h"
#include "model/internal.h"

enum { BATCH_TOKENS = 4096, SHARED_LEAST = 16 };

typedef struct score_batch {
    int32_t *ids, *positions, *cu; /* as the pass takes them */
    int32_t *rows, *targets;       /* [n_asked] whose next token is asked for, and which it is */
    int64_t n_tokens, n_asked;
    size_t n_seqs;
    int64_t n_shared;
} score_batch;

static void score_batch_free(score_batch *b)
{
    free(b->ids);
    free(b->positions);
    free(b->cu);
    free(b->rows);
    free(b->targets);
}

typedef struct score_task {
    model *m;
    const int32_t *ids;
    const int64_t *cu, *starts;
    size_t n_rows;
    float *losses; /* [BATCH_TOKENS or the longest row] */
} score_task;

/* How many tokens row i begins with as row `first` does, before either is asked for. */
static int64_t same_tokens(const score_task *t, size_t first, size_t i)
{
    const int64_t most = t->starts[first] < t->starts[i] ? t->starts[first] : t->starts[i];
    int64_t same = 0;
    while (same < most && t->ids[t->cu[first] + same] == t->ids[t->cu[i] + same])
        same++;
    return same >= SHARED_LEAST ? same : 0;
}

/* The rows from `first` on that share a batch: as long as they fit, and what is computed once does not become less. */
static size_t take_rows(const score_task *t, size_t first, int64_t *n_shared)
{
    int64_t n_tokens = t->cu[first + 1] - t->cu[first], shared = t->starts[first];
    size_t n = 1;
    while (first + n < t->n_rows) {
        const int64_t same = same_tokens(t, first, first + n), both = same < shared ? same : shared;
        const int64_t length = t->cu[first + n + 1] - t->cu[first + n];
        const int64_t saved = n > 1 ? shared * ((int64_t)n - 1) : 0;
        n_tokens += length;
        if (both * (int64_t)n < saved || n_tokens - both * (int64_t)n > BATCH_TOKENS)
            break;
        shared = both;
        n++;
    }
    *n_shared = n > 1 ? shared : 0;
    return n;
}

static sc_status batch_make(const score_task *t, size_t first, score_batch *b)
{
    sc_status status = SC_OK;
    int32_t n = 0;
    b->n_seqs = take_rows(t, first, &b->n_shared);
    const size_t most = (size_t)(t->cu[first + b->n_seqs] - t->cu[first]);
    SC_TRY(sc_alloc(&b->ids, most, sizeof(int32_t)));
    SC_TRY(sc_alloc(&b->positions, most, sizeof(int32_t)));
    SC_TRY(sc_alloc(&b->cu, b->n_seqs + 1, sizeof(int32_t)));
    SC_TRY(sc_alloc(&b->rows, most, sizeof(int32_t)));
    SC_TRY(sc_alloc(&b->targets, most, sizeof(int32_t)));
    for (size_t s = 0; s < b->n_seqs; s++) {
        const int32_t *ids = t->ids + t->cu[first + s];
        const int64_t length = t->cu[first + s + 1] - t->cu[first + s], skipped = s > 0 ? b->n_shared : 0;
        for (int64_t at = t->starts[first + s]; at < length; at++) {
            const int64_t before = at - 1;
            b->rows[b->n_asked] = (int32_t)(before < skipped ? before : n + before - skipped);
            b->targets[b->n_asked++] = ids[at];
        }
        for (int64_t at = skipped; at < length; at++) {
            b->ids[n] = ids[at];
            b->positions[n++] = (int32_t)at;
        }
        b->cu[s + 1] = n;
    }
    b->n_tokens = n;
cleanup:
    return status;
}

static sc_status batch_run(const score_task *t, const score_batch *b)
{
    model *m = t->m;
    workspace *ws = &storage_of(m)->ws;
    const size_t row_bytes = (size_t)m->config.dim * dtype_size(m->dtype), asked = (size_t)b->n_asked;
    sc_status status = SC_OK;
    attention_shape shape;
    void *hidden = NULL;
    pass p;
    const packed_batch batch = {.ids = b->ids,
                                .positions = b->positions,
                                .cu_seqlens = b->cu,
                                .n_seqs = (int64_t)b->n_seqs,
                                .n_tokens = b->n_tokens};
    SC_TRY(pass_begin(m, &batch, &p, &shape));
    shape.n_shared = b->n_shared;
    SC_TRY(buffer_upload(m, &ws->rows, b->rows, asked * sizeof(int32_t)));
    SC_TRY(buffer_upload(m, &ws->ids_out, b->targets, asked * sizeof(int32_t)));
    SC_TRY(buffer_need(m, &ws->losses, asked * sizeof(float)));
    SC_TRY(pass_hidden(&p, ws->rows.data, b->n_asked, &hidden));
    for (int64_t i = 0; i < b->n_asked; i += LOSS_ROWS) {
        const int64_t n = b->n_asked - i < LOSS_ROWS ? b->n_asked - i : LOSS_ROWS;
        float *logits = NULL;
        SC_TRY(check_cancelled());
        SC_TRY(head_logits(m, (const char *)hidden + (size_t)i * row_bytes, n, &logits));
        SC_TRY(ops_of(m)->cross_entropy(NULL, (float *)ws->losses.data + i, logits, DTYPE_F32,
                                        (const int32_t *)ws->ids_out.data + i, n, m->config.vocab_size, 1, 0,
                                        false));
    }
    SC_TRY(ops_of(m)->download(NULL, t->losses, ws->losses.data, asked * sizeof(float)));
    SC_TRY(ops_of(m)->synchronise(NULL));
cleanup:
    return status;
}

static sc_status check_rows(const score_task *t)
{
    for (size_t i = 0; i < t->n_rows; i++) {
        const int64_t length = t->cu[i + 1] - t->cu[i];
        if (t->starts[i] < 1 || t->starts[i] >= length)
            return sc_fail(SC_BAD_INPUT, "Row %zu of %lld tokens is to be scored from token %lld on.", i + 1,
                           (long long)length, (long long)t->starts[i]);
        if (length > t->m->config.max_positions)
            return sc_fail(SC_BAD_INPUT, "Row %zu has %lld tokens, but the model %s has only %d positions.",
                           i + 1, (long long)length, t->m->folder, t->m->config.max_positions);
        for (int64_t at = t->cu[i] + t->starts[i]; at < t->cu[i + 1]; at++)
            if (t->ids[at] < 0 || t->ids[at] >= t->m->config.vocab_size)
                return sc_fail(SC_BAD_INPUT, "Token id %d is outside the vocabulary of %d of the model %s.",
                               t->ids[at], t->m->config.vocab_size, t->m->folder);
    }
    return SC_OK;
}

sc_status model_score(model *m, const int32_t *ids, const int64_t *cu, const int64_t *starts, size_t n_rows,
                      float *logprobs, progress *p)
{
    sc_status status = SC_OK;
    score_task t = {.m = m, .ids = ids, .cu = cu, .starts = starts, .n_rows = n_rows};
    score_batch b = {0};
    int64_t most = BATCH_TOKENS, done = 0;
    SC_TRY(check_rows(&t));
    for (size_t i = 0; i < n_rows; i++)
        most = cu[i + 1] - cu[i] > most ? cu[i + 1] - cu[i] : most;
    SC_TRY(sc_alloc(&t.losses, (size_t)most, sizeof *t.losses));
    for (size_t first = 0; first < n_rows; first += b.n_seqs) {
        score_batch_free(&b);
        b = (score_batch){0};
        SC_TRY(check_cancelled());
        SC_TRY(batch_make(&t, first, &b));
        SC_TRY(batch_run(&t, &b));
        for (int64_t i = 0; i < b.n_asked; i++) {
            if (!isfinite(t.losses[i]))
                SC_TRY(sc_fail(SC_BAD_INPUT,
                               "The model %s gives no finite logits; its weights or the adapter are damaged.",
                               m->folder));
            logprobs[done + i] = -t.losses[i];
        }
        done += b.n_asked;
        progress_add(p, cu[first + b.n_seqs] - cu[first]);
    }
cleanup:
    score_batch_free(&b);
    free(t.losses);
    return status;
}
