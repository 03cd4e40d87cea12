/* bias: what a linear layer adds to every row of its result. */
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

sc_status cpu_bias_forward(stream *s, void *y, const void *b, dtype type, int64_t n, int64_t dim)
{
    (void)s;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *dim, n))
    for (int64_t i = 0; i < n; i++)
        memcpy(at(y, type, i * dim), b, (size_t)dim * dtype_size(type));
    return SC_OK;
}

/* A task sums a few columns over all rows, in their order, whatever the number of threads. */
enum { COLUMNS = 64 };

sc_status cpu_bias_backward(stream *s, float *db, const void *dy, dtype type, int64_t n, int64_t dim)
{
    (void)s;
    const int64_t tasks = (dim + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *dim, tasks))
    for (int64_t t = 0; t < tasks; t++) {
        const int64_t from = t * COLUMNS, part = dim - from < COLUMNS ? dim - from : (int64_t)COLUMNS;
        float scratch[COLUMNS];
        double sums[COLUMNS] = {0};
        for (int64_t row = 0; row < n; row++) {
            const float *values = row_load(dy, type, row * dim + from, part, scratch);
            for (int64_t i = 0; i < part; i++)
                sums[i] += (double)values[i];
        }
        for (int64_t i = 0; i < part; i++)
            db[from + i] += (float)sums[i];
    }
    return SC_OK;
}
