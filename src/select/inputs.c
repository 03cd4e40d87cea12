/* What a selection reads before it chooses. */
#include "select/inputs.h"

#include <string.h>

#include "select/selector.h"
#include "select/views.h"

sc_selector_options inputs_selector(const sc_select_options *o)
{
    return (sc_selector_options){.struct_size = sizeof(sc_selector_options),
                                 .common = o->common,
                                 .strategy = o->strategy,
                                 .budget = o->budget,
                                 .budget_cost = o->budget_tokens,
                                 .clusters = o->clusters,
                                 .temperature = o->temperature,
                                 .alpha = o->alpha,
                                 .js_form = o->js_form,
                                 .lambda = o->lambda,
                                 .neighbours = o->neighbours};
}

static sc_status check_options(const sc_select_options *o, inputs *in)
{
    sc_status status = SC_OK;
    if (o->struct_size != sizeof *o)
        return sc_fail(SC_USAGE,
                       "select: the options are not those of this library; start from sc_select_default()");
    if (!o->data || !o->embeddings || !o->out || !o->strategy || !o->view || !o->js_form)
        return sc_fail(SC_USAGE, "select needs data, embeddings, out, strategy, view and js_form");
    SC_TRY(view_parse(o->view, &in->parts));
    const sc_selector_options selector = inputs_selector(o);
    SC_TRY(selector_check(&selector, &in->strategy));
    if (in->strategy->needs & NEEDS_SURPRISE && !o->model)
        return sc_fail(SC_USAGE, "the strategy \"%s\" needs --model DIR, the student before training",
                       in->strategy->name);
cleanup:
    return status;
}

sc_status inputs_open(const sc_select_options *o, inputs *out)
{
    sc_status status = SC_OK;
    *out = (inputs){0};
    SC_TRY(check_options(o, out));
    SC_TRY(device_open(&o->common, &out->device));
    SC_TRY(dataset_open(o->data, DATASET_REVIEWS | (out->parts & VIEW_USER ? DATASET_INTERACTIONS : 0),
                        &out->data));
    SC_TRY(features_open(o->embeddings, (int64_t)out->data->n_reviews, "reviews", &out->x));
    if (o->budget > out->x.n) {
        status = sc_fail(SC_USAGE,
                         "the budget is %lld, but there are only %lld reviews; give --budget %lld or less",
                         (long long)o->budget, (long long)out->x.n, (long long)out->x.n);
        goto cleanup;
    }
    SC_TRY(costs_make(o, out->data, &out->costs));
cleanup:
    if (status != SC_OK)
        inputs_close(out);
    return status;
}

void inputs_close(inputs *in)
{
    costs_free(&in->costs);
    features_close(&in->x);
    dataset_close(in->data);
    device_close(in->device);
    *in = (inputs){0};
}

sc_status inputs_read_centres(const char *path, int64_t dim, float **out, int64_t *k)
{
    sc_status status = SC_OK;
    npy_file file = {0};
    SC_TRY(npy_open_as(path, NPY_F4, 2, &file));
    *k = file.shape[0];
    if (*k < 1 || *k > 1000000 || file.shape[1] != dim) {
        status =
            sc_fail(SC_BAD_INPUT, "%s holds %lld centres of width %lld, but the embeddings are %lld wide",
                    path, (long long)*k, (long long)file.shape[1], (long long)dim);
        goto cleanup;
    }
    SC_TRY(sc_alloc(out, (size_t)*k * (size_t)dim, sizeof **out));
    memcpy(*out, file.data, (size_t)*k * (size_t)dim * sizeof **out);
cleanup:
    npy_close(&file);
    return status;
}

sc_status inputs_sibling(const char *path, const char *ending, strbuf *out)
{
    const size_t n = strlen(path);
    strbuf_append(out, path, text_ends(path, ".jsonl") ? n - 6 : n);
    strbuf_puts(out, ending);
    return strbuf_status(out);
}
