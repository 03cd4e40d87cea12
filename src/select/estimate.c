/* What a piece of a selection would take. */
#include "select/estimate.h"

#include <stdlib.h>

#include "base/log.h"

static const double PROBE_OPERATIONS = 1e8, PROBE_SECONDS = 0.05;

/* Where there is no room for one more, the last one stands for all that follow. */
static void add(estimate *e, const char *name, int64_t bytes, int64_t device_bytes)
{
    enum { MOST = sizeof e->arrays / sizeof *e->arrays };
    if (bytes <= 0 && device_bytes <= 0)
        return;
    if (e->n_arrays < MOST)
        e->arrays[e->n_arrays++] = (estimate_array){name, bytes, e->phase, device_bytes};
    else
        e->arrays[MOST - 1] = (estimate_array){"and more", e->arrays[MOST - 1].bytes + bytes, 0,
                                               e->arrays[MOST - 1].device_bytes + device_bytes};
}

void estimate_array_add(estimate *e, const char *name, int64_t n, size_t size)
{
    add(e, name, n * (int64_t)size, 0);
}

void estimate_resident_add(estimate *e, const char *name, int64_t n, size_t size)
{
    add(e, name, n * (int64_t)size, n * (int64_t)size);
}

void estimate_part_add(estimate *e, const char *name, int64_t n, size_t size, int64_t device_bytes)
{
    add(e, name, n * (int64_t)size, device_bytes);
}

void estimate_rows_pass(estimate *e, int64_t n, int64_t dim)
{
    e->n_rows = n;
    e->dim = dim;
}

void estimate_centred(estimate *e, int64_t n, int64_t dim)
{
    if (features_copied(n, dim))
        estimate_array_add(e, "centred rows", n * dim, sizeof(float));
    else
        estimate_array_add(e, "a block of centred rows", rows_host_block(n, dim) * dim, sizeof(float));
}

void estimate_phase_begin(estimate *e)
{
    e->phase = ++e->n_phases;
}

void estimate_phase_end(estimate *e)
{
    e->phase = 0;
}

void estimate_work_add(estimate *e, const char *name, double operations, double passes, estimate_probe probe)
{
    enum { MOST = sizeof e->work / sizeof *e->work };
    if (e->n_work < MOST)
        e->work[e->n_work++] = (estimate_work){name, operations, passes, probe, 0};
    else
        e->work[MOST - 1] = (estimate_work){"and more, not timed", 0, 0, NULL, 0};
}

static int64_t most_bytes(const estimate *e, bool on_device)
{
    int64_t all_the_time = 0, most = 0;
    for (int phase = 0; phase <= e->n_phases; phase++) {
        int64_t bytes = 0;
        for (int i = 0; i < e->n_arrays; i++)
            if (e->arrays[i].phase == phase)
                bytes += on_device ? e->arrays[i].device_bytes : e->arrays[i].bytes;
        if (phase == 0)
            all_the_time = bytes;
        else
            most = bytes > most ? bytes : most;
    }
    return all_the_time + most;
}

int64_t estimate_bytes(const estimate *e)
{
    return most_bytes(e, false);
}

int64_t estimate_device_bytes(const estimate *e)
{
    return most_bytes(e, true);
}

size_t estimate_beside_rows(const selection_task *task, void (*plan)(const selection_task *, estimate *))
{
    estimate e = {0};
    plan(task, &e);
    return (size_t)estimate_device_bytes(&e);
}

/* The first run warms up, and says how many of them it takes to be timed well. */
static sc_status measure(estimate_work *w, const selection_task *task)
{
    sc_status status = SC_OK;
    double operations = 0, total = 0, seconds = 0;
    const double start = seconds_now();
    SC_TRY(w->probe(task, &operations));
    const double warm_up = seconds_now() - start;
    const int repeats = warm_up >= PROBE_SECONDS ? 1 : warm_up * 20 < PROBE_SECONDS ? 20 : 3;
    for (int i = 0; i < repeats && seconds < PROBE_SECONDS; i++) {
        const double again = seconds_now();
        SC_TRY(w->probe(task, &operations));
        seconds += seconds_now() - again;
        total += operations;
    }
    w->seconds = total > 0 ? w->operations * seconds / total : 0;
cleanup:
    return status;
}

sc_status estimate_measure(estimate *e, const selection_task *task)
{
    sc_status status = SC_OK;
    for (int i = 0; i < e->n_work; i++)
        if (e->work[i].probe)
            SC_TRY(measure(&e->work[i], task));
cleanup:
    return status;
}

sc_status estimate_run(const selection_task *task, int64_t n, int64_t budget,
                       sc_status (*run)(const selection_task *task, selection_pick *picks, int64_t *n_picks))
{
    sc_status status = SC_OK;
    selection_task part = *task;
    limits open = {0};
    selection_pick *picks = NULL;
    int64_t n_picks = 0;
    SC_TRY(limits_open(&open, n, NULL, NULL, 0));
    SC_TRY(sc_alloc(&picks, (size_t)budget, sizeof *picks));
    part.n = n;
    part.budget = budget;
    part.limits = &open;
    part.given = NULL;
    part.n_given = 0;
    SC_TRY(run(&part, picks, &n_picks));
cleanup:
    limits_close(&open);
    free(picks);
    return status;
}

int64_t estimate_rows(int64_t n, int64_t most, double operations)
{
    const double rows = PROBE_OPERATIONS / operations;
    const int64_t enough = rows < 1 ? 1 : rows > (double)most ? most : (int64_t)rows;
    return enough < n ? enough : n;
}
