/* The rates of a plain matrix product and of memory in this process: what achieved rates are held against. */
#include "base/log.h"
#include "device/device.h"

sc_status device_measure_peak(const device *d, int64_t rows, int rounds, int products, double *gflops)
{
    enum { N = 1536, K = 576 };
    sc_status status = SC_OK;
    void *a = NULL, *b = NULL, *c = NULL;
    const size_t size = dtype_size(d->dtype);
    const ops *t = d->ops;

    *gflops = 0;
    SC_TRY(t->alloc(&a, (size_t)rows * K * size));
    SC_TRY(t->alloc(&b, (size_t)N * K * size));
    SC_TRY(t->alloc(&c, (size_t)rows * N * size));
    SC_TRY(t->fill_zero(NULL, a, (size_t)rows * K * size));
    SC_TRY(t->fill_zero(NULL, b, (size_t)N * K * size));
    for (int round = 0; round <= rounds; round++) {
        double start = seconds_now();
        for (int i = 0; i < products; i++)
            SC_TRY(
                t->gemm(NULL, false, true, rows, N, K, 1, a, d->dtype, K, b, d->dtype, K, 0, c, d->dtype, N));
        SC_TRY(t->synchronise(NULL));
        double rate = products * 2.0 * (double)rows * N * K / (seconds_now() - start) * 1e-9;
        *gflops = rate > *gflops && round > 0 ? rate : *gflops;
    }
cleanup:
    t->release(a);
    t->release(b);
    t->release(c);
    return status;
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
