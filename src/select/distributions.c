/* Every row's softmax over the distances to centres. */
#include "select/distributions.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

bool distributions_kept(int64_t n, int64_t k)
{
    return memory_affords(n * k * (int64_t)sizeof(double));
}

int64_t distributions_part(const ops *table, int64_t n, int64_t k, bool kept)
{
    enum { PART_BYTES = 64 << 20 };
    const int64_t rows = PART_BYTES / (k * (int64_t)sizeof(double));
    return (table == cpu_ops() && kept) || n < rows ? n : rows > 0 ? rows : 1;
}

/* A pass over the rows: a device, and a host that keeps nothing, hold the distributions of a part at a time. */
typedef struct softmaxing {
    const distributions *d;
    int64_t dim, part;
    double *entropy;         /* [n] */
    resident d_p, d_entropy; /* [part][k], [part]; not where results can go where they belong */
    void *work;
} softmaxing;

static sc_status visit(void *context, const float *x, int64_t first, int64_t n)
{
    sc_status status = SC_OK;
    const softmaxing *s = context;
    const distributions *d = s->d;
    const ops *table = d->ops;
    for (int64_t at = 0; at < n; at += s->part) {
        const int64_t m = n - at < s->part ? n - at : s->part;
        double *p = s->d_p.device ? s->d_p.device : d->p + (first + at) * d->k;
        double *entropy = s->d_entropy.device ? s->d_entropy.device : s->entropy + first + at;
        SC_TRY(table->cluster_softmax(NULL, p, entropy, x + at * s->dim, d->centres.device, m, d->k, s->dim,
                                      d->temperature, s->work));
        if (table == cpu_ops())
            continue;
        if (d->p)
            SC_TRY(table->download(NULL, d->p + (first + at) * d->k, p, (size_t)(m * d->k) * sizeof *p));
        SC_TRY(table->download(NULL, s->entropy + first + at, entropy, (size_t)m * sizeof *entropy));
        SC_TRY(table->synchronise(NULL));
    }
cleanup:
    return status;
}

static sc_status pass(const distributions *d, device_rows *x, double *entropy)
{
    sc_status status = SC_OK;
    const ops *table = d->ops;
    const bool host = table == cpu_ops();
    softmaxing s = {.d = d,
                    .dim = x->dim,
                    .part = distributions_part(table, x->n, d->k, d->p != NULL),
                    .entropy = entropy};
    resident work = {0};
    SC_TRY(resident_scratch(table, table->cluster_softmax_workspace(s.part, d->k, x->dim), &work));
    s.work = work.device;
    if (!host || !d->p)
        SC_TRY(resident_scratch(table, (size_t)(s.part * d->k) * sizeof(double), &s.d_p));
    if (!host)
        SC_TRY(resident_scratch(table, (size_t)s.part * sizeof(double), &s.d_entropy));
    SC_TRY(rows_pass(x, visit, &s));
cleanup:
    resident_close(&s.d_p);
    resident_close(&s.d_entropy);
    resident_close(&work);
    return status;
}

sc_status distributions_make(const centred *rows, device_rows *x, const float *centres, int64_t k,
                             double temperature, distributions *out, double **entropy)
{
    sc_status status = SC_OK;
    const ops *table = x->ops;
    const int64_t dim = x->dim, n = x->n;
    *out = (distributions){.ops = table, .k = k, .temperature = temperature, .rows = rows};
    const size_t most = (size_t)(n < DISTRIBUTIONS_MOST ? n : DISTRIBUTIONS_MOST);
    SC_TRY(sc_alloc(entropy, (size_t)n, sizeof **entropy));
    SC_TRY(
        resident_open(table, (void *)(uintptr_t)centres, (size_t)(k * dim) * sizeof *centres, &out->centres));
    if (distributions_kept(n, k)) {
        SC_TRY(sc_alloc(&out->p, (size_t)(n * k), sizeof *out->p));
    } else {
        SC_TRY(sc_alloc(&out->x, most * (size_t)dim, sizeof *out->x));
        SC_TRY(sc_alloc(&out->made, most * (size_t)(k + 1), sizeof *out->made));
        SC_TRY(resident_open(table, out->x, most * (size_t)dim * sizeof *out->x, &out->d_x));
        SC_TRY(resident_open(table, out->made, most * (size_t)(k + 1) * sizeof *out->made, &out->d_made));
        SC_TRY(
            resident_scratch(table, table->cluster_softmax_workspace((int64_t)most, k, dim), &out->d_work));
    }
    SC_TRY(pass(out, x, *entropy));
cleanup:
    return status;
}

sc_status distributions_read(distributions *d, const int32_t *rows, int64_t n, double *p)
{
    sc_status status = SC_OK;
    const int64_t k = d->k;
    if (d->p) {
        for (int64_t i = 0; i < n; i++)
            memcpy(p + i * k, d->p + rows[i] * k, (size_t)k * sizeof *p);
        return SC_OK;
    }
    const int64_t dim = d->rows->dim;
    double *found = d->d_made.device;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        centred_fill(d->rows, rows[i], 1, d->x + i * dim);
    SC_TRY(resident_push_part(&d->d_x, 0, (size_t)(n * dim) * sizeof *d->x));
    SC_TRY(d->ops->cluster_softmax(NULL, found, found + n * k, d->d_x.device, d->centres.device, n, k, dim,
                                   d->temperature, d->d_work.device));
    SC_TRY(resident_pull(&d->d_made));
    memcpy(p, d->made, (size_t)(n * k) * sizeof *p);
cleanup:
    return status;
}

void distributions_close(distributions *d)
{
    resident_close(&d->centres);
    resident_close(&d->d_x);
    resident_close(&d->d_made);
    resident_close(&d->d_work);
    free(d->p);
    free(d->x);
    free(d->made);
    *d = (distributions){0};
}
