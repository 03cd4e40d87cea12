/* A model without files: the shapes of a config.json, with weights made here.
 *
 * A weight is a function of the seed, its parameter and its place, so neither the number of threads nor the size of the
 * pieces in which the weights go to the device changes it; as bf16 it is the same number, rounded. */
#include <stdlib.h>

#include "base/log.h"
#include "base/random.h"
#include "model/internal.h"

enum { BLOCK = 4096, PIECE = 1 << 20 }; /* values of a stream of random numbers; values made at a time */
static const double DEVIATION = 0.02;   /* Llama's initializer_range */

/* Values first .. first + n - 1 of parameter i; `first` is a multiple of BLOCK. */
static void make_values(const model *m, uint64_t seed, int64_t i, int64_t first, int64_t n, float *values,
                        uint16_t *rounded)
{
    const parameter *p = &m->parameters[i];
    const float vector = parameter_is_bias(p) ? 0 : 1 - m->config.norm_shift;
#pragma omp parallel for schedule(static)
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        const int64_t end = begin + BLOCK < n ? begin + BLOCK : n;
        random_stream r = random_at(seed, RANDOM_WEIGHTS, (uint64_t)((first + begin) / BLOCK), (uint32_t)i);
        for (int64_t j = begin; j < end; j++) {
            values[j] = p->cols == 1 ? vector : (float)(DEVIATION * random_normal(&r));
            if (rounded != NULL)
                rounded[j] = f32_to_bf16(values[j]);
        }
    }
}

static sc_status make_weights(model *m, uint64_t seed)
{
    model_storage *s = storage_of(m);
    const ops *o = ops_of(m);
    const size_t size = dtype_size(m->dtype);
    sc_status status = SC_OK;
    float *values = NULL;
    uint16_t *rounded = NULL;
    size_t used = 0;
    s->file_type = m->dtype;
    s->writable = true;
    for (int64_t i = 0; i < m->n_parameters; i++)
        s->owned_bytes += (int64_t)weights_place_bytes(m, &m->parameters[i]);
    SC_TRY(o->alloc(&s->owned, (size_t)s->owned_bytes));
    SC_TRY(sc_alloc(&values, PIECE, sizeof *values));
    if (m->dtype == DTYPE_BF16)
        SC_TRY(sc_alloc(&rounded, PIECE, sizeof *rounded));
    for (int64_t i = 0; i < m->n_parameters; i++) {
        parameter *p = &m->parameters[i];
        const int64_t all = p->rows * p->cols;
        p->value = (char *)s->owned + used;
        used += weights_place_bytes(m, p);
        for (int64_t first = 0; first < all; first += PIECE) {
            const int64_t n = all - first < PIECE ? all - first : PIECE;
            SC_TRY(check_cancelled());
            make_values(m, seed, i, first, n, values, rounded);
            SC_TRY(o->upload(NULL, (char *)p->value + (size_t)first * size,
                             rounded != NULL ? (void *)rounded : values, (size_t)n * size));
            SC_TRY(o->synchronise(NULL));
        }
    }
cleanup:
    free(values);
    free(rounded);
    return status;
}

sc_status model_open_random(const char *config_path, device *d, uint64_t seed, model **out)
{
    sc_status status = SC_OK;
    model *m = NULL;
    *out = NULL;
    SC_TRY(weights_begin(config_path, d, &m));
    SC_TRY(model_config_read_file(config_path, &m->config));
    m->config.n_eos = 0;
    SC_TRY(weights_list(m));
    SC_TRY(make_weights(m, seed));
    SC_TRY(weights_inv_freq(m));
    *out = m;
    m = NULL;
cleanup:
    model_close(m);
    return status;
}
