/* The rates of a plain matrix product and of memory in this process: what achieved rates are held against. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "device/device.h"

/* The same few numbers over and over. */
static sc_status fill(const device *d, void *to, int64_t n)
{
    enum { PIECE = 1 << 16 };
    sc_status status = SC_OK;
    float *values = NULL;
    uint16_t *rounded = NULL;
    random_stream r = random_at(0, RANDOM_TEST, 0, 0);
    const size_t size = dtype_size(d->dtype);
    SC_TRY(sc_alloc(&values, PIECE, sizeof *values));
    SC_TRY(sc_alloc(&rounded, PIECE, sizeof *rounded));
    for (int i = 0; i < PIECE; i++) {
        values[i] = (float)random_normal(&r);
        rounded[i] = f32_to_bf16(values[i]);
    }
    for (int64_t first = 0; first < n; first += PIECE)
        SC_TRY(d->ops->upload(NULL, (char *)to + (size_t)first * size,
                              d->dtype == DTYPE_BF16 ? (void *)rounded : values,
                              (size_t)(n - first < PIECE ? n - first : PIECE) * size));
    SC_TRY(d->ops->synchronise(NULL));
cleanup:
    free(values);
    free(rounded);
    return status;
}

static sc_status measure(const device *d, int64_t rows, int64_t cols, int64_t inner, int rounds, int products,
                         double *gflops)
{
    sc_status status = SC_OK;
    void *a = NULL, *b = NULL, *c = NULL;
    const size_t size = dtype_size(d->dtype);
    const ops *t = d->ops;

    *gflops = 0;
    SC_TRY(t->alloc(&a, (size_t)(rows * inner) * size));
    SC_TRY(t->alloc(&b, (size_t)(cols * inner) * size));
    SC_TRY(t->alloc(&c, (size_t)(rows * cols) * size));
    SC_TRY(fill(d, a, rows * inner));
    SC_TRY(fill(d, b, cols * inner));
    for (int round = 0; round <= rounds; round++) {
        double start = seconds_now();
        for (int i = 0; i < products; i++)
            SC_TRY(t->gemm(NULL, false, true, rows, cols, inner, 1, a, d->dtype, inner, b, d->dtype, inner, 0,
                           c, d->dtype, cols));
        SC_TRY(t->synchronise(NULL));
        double rate =
            products * 2.0 * (double)rows * (double)cols * (double)inner / (seconds_now() - start) * 1e-9;
        *gflops = rate > *gflops && round > 0 ? rate : *gflops;
    }
cleanup:
    t->release(a);
    t->release(b);
    t->release(c);
    return status;
}

sc_status device_measure_peak(const device *d, int64_t rows, int rounds, int products, double *gflops)
{
    enum { SIDE = 8192 }; /* a card comes to its rate with large products only */
    *gflops = 0;
    if (device_on_host(d))
        return measure(d, rows, 1536, 576, rounds, products, gflops);
    if (strcmp(d->ops->name, "emu") == 0)
        return SC_OK;
    const sc_status status = measure(d, SIDE, SIDE, SIDE, rounds, products, gflops);
    return status == SC_MEMORY ? SC_OK : status; /* a model may have left no room for it */
}

sc_status device_measure_bandwidth(const device *d, int rounds, double *gigabytes)
{
    enum { N = 16 << 20 };
    sc_status status = SC_OK;
    void *x = NULL, *y = NULL;
    const size_t bytes = (size_t)N * sizeof(float);
    const ops *t = d->ops;

    *gigabytes = 0;
    SC_TRY(t->alloc(&x, bytes));
    SC_TRY(t->alloc(&y, bytes));
    SC_TRY(t->fill_zero(NULL, x, bytes));
    SC_TRY(t->fill_zero(NULL, y, bytes));
    for (int round = 0; round <= rounds; round++) {
        const double start = seconds_now();
        SC_TRY(t->add(NULL, y, DTYPE_F32, x, DTYPE_F32, 1, N));
        SC_TRY(t->synchronise(NULL));
        const double rate = 3.0 * (double)bytes / (seconds_now() - start) * 1e-9;
        *gigabytes = rate > *gigabytes && round > 0 ? rate : *gigabytes;
    }
cleanup:
    t->release(x);
    t->release(y);
    return status;
}
