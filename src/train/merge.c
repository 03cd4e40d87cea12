/* sc_merge: base model + adapter to a model folder, and what rounding the result changed. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "model/model.h"
#include "seedcorn/train.h"

sc_merge_options sc_merge_default(void)
{
    return (sc_merge_options){.struct_size = sizeof(sc_merge_options), .common = sc_common_default()};
}

/* Tokens that are compared at most. */
enum { COMPARED = 64 };

typedef struct probe {
    int32_t ids[COMPARED];
    int64_t n;
    float *logits; /* [n][vocab] */
} probe;

/* A request like those that such models are for. */
static sc_status encode_request(const model *m, const char *tokenizer_json, probe *p)
{
    static const char request[] =
        "I loved slow, thoughtful science fiction about lonely people far from home, and a noir with rain in "
        "it. What should I watch next? 1. Solaris (1972)\n2. Moon (2009)\n3. Blade Runner (1982)\n4. Stalker "
        "(1979)\n";
    sc_status status = SC_OK;
    tokenizer *t = NULL;
    token_ids ids = {0};
    SC_TRY(tokenizer_open(tokenizer_json, &t));
    SC_TRY(model_check_tokenizer(m, t));
    SC_TRY(tokenizer_encode(t, request, strlen(request), false, &ids));
    p->n = ids.n < COMPARED ? (int64_t)ids.n : COMPARED;
    memcpy(p->ids, ids.ids, (size_t)p->n * sizeof *p->ids);
cleanup:
    token_ids_free(&ids);
    tokenizer_close(t);
    return status;
}

/* Without a tokenizer, or with one that we do not read, which merging does not need: ids spread over the vocabulary. */
static sc_status choose_ids(const model *m, probe *p)
{
    sc_status status = SC_OK;
    char *path = path_join(m->folder, "tokenizer.json");
    if (path == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice"));
    p->n = COMPARED;
    for (int64_t i = 0; i < COMPARED; i++)
        p->ids[i] = (int32_t)(i * m->config.vocab_size / COMPARED);
    if (file_exists(path))
        status = encode_request(m, path, p);
    if (status == SC_BAD_INPUT) {
        log_warn("merge: rounding is measured on tokens spread over the vocabulary: %s", sc_last_error());
        status = SC_OK;
    }
    p->n = p->n < m->config.max_positions ? p->n : m->config.max_positions;
cleanup:
    free(path);
    return status;
}

static sc_status probe_logits(model *m, probe *p)
{
    sc_status status = SC_OK;
    const int32_t ends[2] = {0, (int32_t)p->n};
    const packed_batch batch = {.ids = p->ids, .cu_seqlens = ends, .n_seqs = 1, .n_tokens = p->n};
    int32_t rows[COMPARED];
    void *hidden = NULL;
    float *logits = NULL;
    const size_t n = (size_t)p->n * (size_t)m->config.vocab_size;
    for (int32_t i = 0; i < p->n; i++)
        rows[i] = i;
    SC_TRY(sc_alloc(&p->logits, n, sizeof *p->logits));
    SC_TRY(model_forward(m, &batch, -1, &hidden));
    SC_TRY(model_logits(m, hidden, rows, p->n, &logits));
    SC_TRY(m->device->ops->download(NULL, p->logits, logits, n * sizeof *logits));
    SC_TRY(m->device->ops->synchronise(NULL));
cleanup:
    return status;
}

static int64_t likeliest(const float *logits, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

static void compare(const probe *exact, const probe *rounded, int64_t vocab, sc_merge_result *r)
{
    r->rounded = true;
    r->n_compared = exact->n;
    for (int64_t i = 0; i < exact->n; i++) {
        const float *a = exact->logits + i * vocab, *b = rounded->logits + i * vocab;
        for (int64_t k = 0; k < vocab; k++) {
            r->largest_logit_change = fmax(r->largest_logit_change, fabs((double)a[k] - (double)b[k]));
            r->largest_logit = fmax(r->largest_logit, fabs((double)a[k]));
        }
        r->n_first_words_differ += likeliest(a, vocab) != likeliest(b, vocab);
    }
}

sc_status sc_merge(const sc_merge_options *o, sc_merge_result *result)
{
    sc_status status = SC_OK;
    device *d = NULL;
    model *m = NULL;
    probe exact = {0}, rounded = {0};
    sc_common common = o->common;

    memset(result, 0, sizeof *result);
    if (o->shard_bytes < 0)
        return sc_fail(SC_USAGE, "shard-bytes must not be negative");
    common.dtype = "fp32"; /* the sum is formed in float32 and rounded once, when it is written */
    SC_TRY(device_open(&common, &d));
    SC_TRY(model_open(o->model, d, &m));
    SC_TRY(model_lora_load(m, o->adapter));
    SC_TRY(model_lora_merge(m));
    SC_TRY(file_make_dirs(o->out));
    const dtype type = model_file_dtype(m);
    SC_TRY(model_save(m, o->out, type, o->shard_bytes));
    if (type != DTYPE_BF16)
        goto cleanup;
    SC_TRY(choose_ids(m, &exact));
    rounded = exact;
    SC_TRY(probe_logits(m, &exact));
    model_close(m);
    m = NULL;
    SC_TRY(model_open(o->out, d, &m)); /* what was written, read back */
    SC_TRY(probe_logits(m, &rounded));
    compare(&exact, &rounded, m->config.vocab_size, result);
cleanup:
    free(exact.logits);
    free(rounded.logits);
    model_close(m);
    device_close(d);
    return status;
}
