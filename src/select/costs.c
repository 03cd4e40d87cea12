/* What each review costs. */
#include "select/costs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "formats/npy.h"
#include "text/tokenizer.h"

enum { GROUP = 1024, BYTES_A_TOKEN = 4 };

static double number_at(const npy_file *file, int64_t i)
{
    switch (file->type) {
    case NPY_F4:
        return (double)((const float *)file->data)[i];
    case NPY_F8:
        return ((const double *)file->data)[i];
    case NPY_I4:
        return ((const int32_t *)file->data)[i];
    case NPY_I8:
        return (double)((const int64_t *)file->data)[i];
    }
    return NAN;
}

static sc_status read_file(const char *path, int64_t n, double *out)
{
    sc_status status = SC_OK;
    npy_file file = {0};
    SC_TRY(npy_open(path, &file));
    if (file.n_dims != 1 || file.shape[0] != n) {
        status =
            sc_fail(SC_BAD_INPUT,
                    "%s holds %lld costs in %d dimensions, but it must hold one for each of the %lld reviews",
                    path, (long long)file.n_values, file.n_dims, (long long)n);
        goto cleanup;
    }
    for (int64_t i = 0; i < n; i++) {
        out[i] = number_at(&file, i);
        if (!(out[i] > 0) || !isfinite(out[i])) {
            status =
                sc_fail(SC_BAD_INPUT,
                        "%s: the cost of row %lld (counted from 0) is %g; every row's must be above 0 and "
                        "finite",
                        path, (long long)i, out[i]);
            goto cleanup;
        }
    }
cleanup:
    npy_close(&file);
    return status;
}

/* The quotations of n reviews from the first on, as a prompt has them. Each has a few bytes at least. */
static sc_status quote(const dataset *data, size_t first, size_t n, strbuf *quotes)
{
    sc_status status = SC_OK;
    for (size_t i = 0; i < n; i++) {
        strbuf_clear(&quotes[i]);
        dataset_review_quote(&data->reviews[first + i], 1, &quotes[i]);
        SC_TRY(strbuf_status(&quotes[i]));
    }
cleanup:
    return status;
}

/* Tokens by the model's tokenizer, or by the length where there is none: bytes / 4, rounded up. */
static sc_status count_tokens(const char *model, const dataset *data, double *out)
{
    sc_status status = SC_OK;
    tokenizer *words = NULL;
    strbuf *quotes = NULL;
    token_ids *ids = NULL;
    const char *texts[GROUP];
    progress *p = progress_begin("select: costs", "reviews", (int64_t)data->n_reviews);
    SC_TRY(sc_alloc(&quotes, GROUP, sizeof *quotes));
    SC_TRY(sc_alloc(&ids, GROUP, sizeof *ids));
    if (model)
        SC_TRY(tokenizer_open(model, &words));
    for (size_t first = 0; first < data->n_reviews; first += GROUP) {
        const size_t n = data->n_reviews - first < GROUP ? data->n_reviews - first : GROUP;
        SC_TRY(check_cancelled());
        SC_TRY(quote(data, first, n, quotes));
        for (size_t i = 0; i < n; i++) {
            texts[i] = strbuf_text(&quotes[i]);
            ids[i].n = 0;
        }
        if (words)
            SC_TRY(tokenizer_encode_batch(words, texts, n, false, ids));
        for (size_t i = 0; i < n; i++)
            out[first + i] = (double)(words ? ids[i].n : (quotes[i].len + BYTES_A_TOKEN - 1) / BYTES_A_TOKEN);
        progress_add(p, (int64_t)n);
    }
cleanup:
    progress_end(p);
    for (size_t i = 0; quotes && i < GROUP; i++)
        strbuf_free(&quotes[i]);
    for (size_t i = 0; ids && i < GROUP; i++)
        token_ids_free(&ids[i]);
    free(quotes);
    free(ids);
    tokenizer_close(words);
    return status;
}

sc_status costs_make(const sc_select_options *o, const dataset *data, costs *out)
{
    sc_status status = SC_OK;
    const bool tokens = !o->costs || strcmp(o->costs, "tokens") == 0;
    *out = (costs){.source = !tokens ? "file" : o->model ? "tokenizer" : "bytes"};
    if (o->budget_tokens == 0 && !o->costs)
        return SC_OK;
    SC_TRY(sc_alloc(&out->of, data->n_reviews, sizeof *out->of));
    if (tokens)
        SC_TRY(count_tokens(o->model, data, out->of));
    else
        SC_TRY(read_file(o->costs, (int64_t)data->n_reviews, out->of));
cleanup:
    if (status != SC_OK)
        costs_free(out);
    return status;
}

void costs_free(costs *c)
{
    free(c->of);
    *c = (costs){0};
}

int64_t costs_room(const costs *c, int64_t n, double budget)
{
    double least = INFINITY;
    for (int64_t i = 0; i < n; i++)
        least = c->of[i] < least ? c->of[i] : least;
    const double room = ceil(budget / least) + 1; /* one more than rounding could allow */
    return room < (double)n ? (int64_t)room : n;
}
