/* LoRA adapters (Hu et al. 2021, arXiv:2106.09685), rank-stabilised (Kalajdzievski 2023, arXiv:2312.03732) and with
 * magnitudes of their own (DoRA: Liu et al. 2024, arXiv:2402.09353): made, measured and merged. */
#include "model/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"

enum { MAX_RANK = 4096 };

void lora_module_name(const parameter *w, char *out, size_t size)
{
    snprintf(out, size, "%.*s", (int)(strlen(w->name) - strlen(".weight")), w->name);
}

void lora_tensor_name(const parameter *w, const char *part, char *out, size_t size)
{
    char module[96];
    lora_module_name(w, module, sizeof module);
    snprintf(out, size, "base_model.model.%s.%s", module, part);
}

void lora_discard(const model *m, lora *l)
{
    if (l == NULL || l == m->lora)
        return;
    ops_of(m)->release(l->values);
    ops_of(m)->release(l->grads);
    ops_of(m)->release(l->norms);
    free(l->layers);
    free(l);
}

void lora_destroy(model *m)
{
    lora *l = m->lora;
    m->lora = NULL;
    lora_discard(m, l);
}

static sc_status check_numbers(const char *where, int64_t rank, double alpha)
{
    if (rank < 1 || rank > MAX_RANK)
        return sc_fail(SC_USAGE, "%s: the rank is %lld, but it must lie between 1 and %d.", where,
                       (long long)rank, MAX_RANK);
    if (!(alpha > 0 && alpha < 1e6))
        return sc_fail(SC_USAGE, "%s: alpha is %g, but it must be a positive number.", where, alpha);
    return SC_OK;
}

static float scaling_of(const lora *l, int64_t rank, double alpha)
{
    return (float)(alpha / (l->rslora ? sqrt((double)rank) : (double)rank));
}

sc_status lora_new(const model *m, const lora_options *options, const char *where, lora **out)
{
    sc_status status = SC_OK;
    lora *l = NULL;
    SC_TRY(check_numbers(where, options->rank, options->alpha));
    if (!(options->dropout >= 0 && options->dropout < 1))
        return sc_fail(SC_USAGE, "%s: the dropout is %g, but it must lie between 0 and 1.", where,
                       options->dropout);
    if (options->dora && ops_of(m)->dora_norm == NULL)
        return sc_fail(SC_DEVICE,
                       "%s: the device \"%s\" lacks the operations of DoRA; use --device cpu, or plain LoRA.",
                       where, ops_of(m)->name);
    SC_TRY(sc_alloc(&l, 1, sizeof *l));
    SC_TRY(sc_alloc(&l->layers, (size_t)m->config.n_layers, sizeof *l->layers));
    l->rank = options->rank;
    l->alpha = (float)options->alpha;
    l->dropout = (float)options->dropout;
    l->rslora = options->rslora;
    l->dora = options->dora;
    l->scaling = scaling_of(l, options->rank, options->alpha);
    *out = l;
    l = NULL;
cleanup:
    lora_discard(m, l);
    return status;
}

sc_status lora_adapt(lora *l, int32_t layer, linear k, int64_t rank, double alpha, const char *where)
{
    sc_status status = check_numbers(where, rank, alpha);
    if (status != SC_OK)
        return status;
    l->layers[layer][k] =
        (lora_layer){.rank = (int32_t)rank, .alpha = (float)alpha, .scaling = scaling_of(l, rank, alpha)};
    l->targets[k] = true;
    l->max_rank = rank > l->max_rank ? (int32_t)rank : l->max_rank;
    return SC_OK;
}

/* PEFT's rule: a target is a module's full name or a tail of it that begins after a dot. */
static bool target_fits(const char *module, const char *target)
{
    const size_t n = strlen(module), k = strlen(target);
    return k > 0 && k <= n && strcmp(module + n - k, target) == 0 && (k == n || module[n - k - 1] == '.');
}

int64_t lora_adapt_named(const model *m, lora *l, const char *target)
{
    int64_t n = 0;
    char module[96];
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            lora_module_name(m->layers[i].linears[k], module, sizeof module);
            if (strcmp(target, "all-linear") != 0 && !target_fits(module, target))
                continue;
            if (lora_adapt(l, i, (linear)k, l->rank, (double)l->alpha, target) == SC_OK)
                n++;
        }
    return n;
}

/* --- memory ------------------------------------------------------------------------------------------------ */

/* Counts the values, or gives every tensor its place in them. */
static void lay_out(const model *m, lora *l, bool places)
{
    int64_t n = 0, norms = 0;
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            lora_layer *x = &l->layers[i][k];
            int64_t out = 0, in = 0;
            linear_shape(&m->config, (linear)k, &out, &in);
            if (x->rank == 0)
                continue;
            const int64_t b = n + x->rank * in, magnitude = b + x->rank * out;
            if (places) {
                x->a = l->values + n;
                x->b = l->values + b;
                x->da = l->grads + n;
                x->db = l->grads + b;
            }
            if (places && l->dora) {
                x->magnitude = l->values + magnitude;
                x->dmagnitude = l->grads + magnitude;
                x->norm = l->norms + norms;
            }
            n = magnitude + (l->dora ? out : 0);
            norms += l->dora ? out : 0;
        }
    l->n_values = n;
    l->n_norms = norms;
}

sc_status lora_attach(model *m, lora *l)
{
    const ops *o = ops_of(m);
    sc_status status = SC_OK;
    size_t bytes = 0;
    lay_out(m, l, false);
    bytes = (size_t)l->n_values * sizeof(float);
    SC_TRY(o->alloc((void **)&l->values, bytes));
    SC_TRY(o->alloc((void **)&l->grads, bytes));
    SC_TRY(o->fill_zero(NULL, l->values, bytes));
    SC_TRY(o->fill_zero(NULL, l->grads, bytes));
    if (l->dora)
        SC_TRY(o->alloc((void **)&l->norms, (size_t)l->n_norms * sizeof(float)));
    lay_out(m, l, true);
    lora_destroy(m);
    m->lora = l;
cleanup:
    return status;
}

sc_status model_lora_refresh(model *m)
{
    const ops *o = ops_of(m);
    sc_status status = SC_OK;
    buffer *scratch = &storage_of(m)->ws.scratch;
    if (m->lora == NULL || !m->lora->dora)
        return SC_OK;
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            const lora_layer *x = &m->lora->layers[i][k];
            const parameter *w = m->layers[i].linears[k];
            if (x->rank == 0)
                continue;
            SC_TRY(buffer_need(m, scratch, o->dora_norm_workspace(w->cols, w->rows)));
            SC_TRY(o->dora_norm(NULL, x->norm, w->value, m->dtype, x->a, x->b, w->cols, w->rows, x->rank,
                                x->scaling, scratch->data));
        }
    SC_TRY(o->synchronise(NULL));
cleanup:
    return status;
}

/* --- a fresh adapter ------------------------------------------------------------------------------------ */

/* A at random, B = 0, and the magnitudes of the weights as they are: the adapter changes nothing yet. */
static sc_status init_values(model *m, uint64_t seed)
{
    const ops *o = ops_of(m);
    sc_status status = SC_OK;
    float *host = NULL;
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            const lora_layer *x = &m->lora->layers[i][k];
            int64_t out = 0, in = 0;
            linear_shape(&m->config, (linear)k, &out, &in);
            if (x->rank == 0)
                continue;
            const int64_t n = x->rank * in;
            const double bound = 1 / sqrt((double)in);
            random_stream r = random_at(seed, RANDOM_LORA_INIT, (uint64_t)i * N_LINEARS + (uint64_t)k, 0);
            SC_TRY(sc_alloc(&host, (size_t)n, sizeof *host));
            for (int64_t j = 0; j < n; j++)
                host[j] = (float)(bound * (2 * random_uniform(&r) - 1));
            SC_TRY(o->upload(NULL, x->a, host, (size_t)n * sizeof *host));
            SC_TRY(o->synchronise(NULL));
            free(host);
            host = NULL;
        }
    SC_TRY(model_lora_refresh(m));
    for (int32_t i = 0; i < m->config.n_layers && m->lora->dora; i++)
        for (int k = 0; k < N_LINEARS; k++)
            if (m->lora->layers[i][k].rank > 0)
                SC_TRY(o->cast(NULL, m->lora->layers[i][k].magnitude, DTYPE_F32, m->lora->layers[i][k].norm,
                               DTYPE_F32, m->layers[i].linears[k]->rows));
    SC_TRY(o->synchronise(NULL));
cleanup:
    free(host);
    return status;
}

sc_status lora_outline(const model *m, const lora_options *options, lora **out)
{
    sc_status status = SC_OK;
    lora *l = NULL;
    char *list = NULL, *rest = NULL;
    bool any = false;
    SC_TRY(lora_new(m, options, "The adapter", &l));
    SC_TRY(sc_strdup(&list, options->targets != NULL ? options->targets : "all-linear"));
    for (char *word = strtok_r(list, ", ", &rest); word != NULL; word = strtok_r(NULL, ", ", &rest)) {
        if (lora_adapt_named(m, l, word) == 0)
            SC_TRY(sc_fail(
                SC_USAGE,
                "The adapter target \"%.60s\" is no layer of this model; give all-linear or some of q_proj, "
                "k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj.",
                word));
        any = true;
    }
    if (!any)
        SC_TRY(sc_fail(SC_USAGE,
                       "The adapter has no targets; give all-linear or a list such as q_proj,v_proj."));
    lay_out(m, l, false);
    *out = l;
    l = NULL;
cleanup:
    lora_discard(m, l);
    free(list);
    return status;
}

sc_status model_lora_create(model *m, const lora_options *options)
{
    sc_status status = SC_OK;
    lora *l = NULL;
    SC_TRY(lora_outline(m, options, &l));
    SC_TRY(lora_attach(m, l));
    l = NULL;
    SC_TRY(init_values(m, options->seed));
cleanup:
    lora_discard(m, l);
    return status;
}

/* --- merging ------------------------------------------------------------------------------------------------ */

/* Rows of the sum times magnitude / length. A merge happens once: the host does it. */
static sc_status scale_rows(const model *m, const lora_layer *x, float *sum, int64_t rows, int64_t cols)
{
    const ops *o = ops_of(m);
    sc_status status = SC_OK;
    const size_t bytes = (size_t)rows * sizeof(float);
    float *host = NULL, *gains = NULL, *norms = NULL;
    SC_TRY(sc_alloc(&host, (size_t)(rows * cols), sizeof *host));
    SC_TRY(sc_alloc(&gains, (size_t)rows, sizeof *gains));
    SC_TRY(sc_alloc(&norms, (size_t)rows, sizeof *norms));
    SC_TRY(o->download(NULL, host, sum, bytes * (size_t)cols));
    SC_TRY(o->download(NULL, gains, x->magnitude, bytes));
    SC_TRY(o->download(NULL, norms, x->norm, bytes));
    SC_TRY(o->synchronise(NULL));
    for (int64_t r = 0; r < rows; r++) {
        const float gain = norms[r] > 0 ? gains[r] / norms[r] : 0;
        for (int64_t c = 0; c < cols; c++)
            host[r * cols + c] *= gain;
    }
    SC_TRY(o->upload(NULL, sum, host, bytes * (size_t)cols));
    SC_TRY(o->synchronise(NULL));
cleanup:
    free(host);
    free(gains);
    free(norms);
    return status;
}

sc_status model_lora_merge(model *m)
{
    const ops *o = ops_of(m);
    sc_status status = SC_OK;
    buffer wide = {0};
    if (m->lora == NULL)
        return sc_fail(SC_INTERNAL, "The model %s has no adapter to merge.", m->folder);
    SC_TRY(weights_make_writable(m));
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int k = 0; k < N_LINEARS; k++) {
            const lora_layer *x = &m->lora->layers[i][k];
            parameter *w = m->layers[i].linears[k];
            const int64_t n = w->rows * w->cols;
            float *sum = w->value;
            if (x->rank == 0)
                continue;
            SC_TRY(check_cancelled());
            if (m->dtype != DTYPE_F32) {
                SC_TRY(buffer_need(m, &wide, (size_t)n * sizeof(float)));
                sum = wide.data;
                SC_TRY(o->cast(NULL, sum, DTYPE_F32, w->value, m->dtype, n));
            }
            SC_TRY(o->gemm(NULL, false, false, w->rows, w->cols, x->rank, x->scaling, x->b, DTYPE_F32,
                           x->rank, x->a, DTYPE_F32, w->cols, 1.0f, sum, DTYPE_F32, w->cols));
            if (m->lora->dora)
                SC_TRY(scale_rows(m, x, sum, w->rows, w->cols));
            if (m->dtype != DTYPE_F32)
                SC_TRY(o->cast(NULL, w->value, m->dtype, sum, DTYPE_F32, n));
        }
    SC_TRY(o->synchronise(NULL));
    lora_destroy(m);
cleanup:
    buffer_release(m, &wide);
    return status;
}
