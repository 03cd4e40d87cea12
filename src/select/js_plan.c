/* What js would take (js.c). */
#include <stdlib.h>

#include "select/estimate.h"
#include "select/js.h"
#include "select/resident.h"

/* A block of evaluations, on distributions that are as uneven as any. */
static sc_status probe_scores(const selection_task *task, double *operations)
{
    sc_status status = SC_OK;
    const ops *table = task->device->ops;
    const int64_t k = task->k, n = estimate_rows(task->n, JS_BATCH, (double)k);
    double *p = NULL, *js = NULL;
    resident d_p = {0}, d_js = {0};
    if (!table->js_to_mean)
        return sc_fail(SC_DEVICE, "the device \"%s\" lacks the operation js_to_mean; use --device cpu",
                       table->name);
    SC_TRY(sc_alloc(&p, (size_t)(n * k), sizeof *p));
    SC_TRY(sc_alloc(&js, (size_t)n, sizeof *js));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < k; j++)
            p[i * k + j] = 2.0 * (double)((i + j) % k + 1) / ((double)k * (double)(k + 1));
    SC_TRY(resident_open(table, p, (size_t)(n * k) * sizeof *p, &d_p));
    SC_TRY(resident_open(table, js, (size_t)n * sizeof *js, &d_js));
    SC_TRY(table->js_to_mean(NULL, d_js.device, d_p.device, d_p.device, n, k));
    SC_TRY(resident_pull(&d_js));
    *operations = (double)n * (double)k;
cleanup:
    resident_close(&d_p);
    resident_close(&d_js);
    free(p);
    free(js);
    return status;
}

void js_plan(const selection_task *task, estimate *out)
{
    const int64_t n = task->n, k = task->k, pool = n < JS_POOL ? n : JS_POOL;
    const double picks = (double)limits_likely(task->limits, task->budget);
    estimate_array_add(out, "bounds, divergences and offsets", 3 * n, sizeof(double));
    estimate_array_add(out, "when rows were evaluated, and their order", 2 * n, sizeof(int32_t));
    /* It grows where its picks are few. */
    estimate_array_add(out, "pool, at most: tangents", n * k, sizeof(float));
    estimate_array_add(out, "pool, at most: bounds", 6 * n, sizeof(double));
    estimate_resident_add(out, "batch of distributions", JS_BATCH * (k + 1) + 2 * k, sizeof(double));
    /* All rows once; then some of the pool, and a look at all of it, a pick. */
    estimate_work_add(out, "divergences and bounds of rows",
                      ((double)n + picks * 24) * (double)k + picks * (double)pool, 1 + picks / 500,
                      probe_scores);
}
