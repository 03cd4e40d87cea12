/* facility: the rows that best stand for all others (facility location; Cornuejols et al. 1977).
 *
 * Every row is served by the chosen one that is most like it, and the next pick raises the sum of these likenesses
 * most:  sum over i of max over chosen j of s_ij,  s the cosine, 0 where it is negative or where j is not among the K
 * rows most like i. The sum is monotone submodular: a gain never grows, so an old one is a bound, and only the rows at
 * the top of a heap are looked at anew (Minoux 1978). Sums run in ascending order of i, so an old gain is a bound as
 * computed, too. */
#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "select/estimate.h"
#include "select/neighbours.h"
#include "select/strategy.h"

typedef struct served {
    const selection_task *task;
    /* who would be served by row j: served[offsets[j] .. offsets[j + 1] - 1], ascending, and how well */
    int64_t *offsets;
    int32_t *served;
    float *likeness;
    float *best;   /* [n] by what is chosen */
    double *gains; /* [n] when last looked at */
    int64_t *seen; /* [n] how many were chosen then */
    int32_t *heap; /* rows by gain, then the lowest */
    int64_t n_heap, n_chosen;
    double total;
} served;

static sc_status find_served(served *f)
{
    sc_status status = SC_OK;
    const selection_task *task = f->task;
    const int64_t n = task->n, k = task->neighbours < n ? task->neighbours : n;
    int32_t *rows = NULL;
    float *cosines = NULL;
    int64_t *next = NULL;
    SC_TRY(sc_alloc(&rows, (size_t)(n * k), sizeof *rows));
    SC_TRY(sc_alloc(&cosines, (size_t)(n * k), sizeof *cosines));
    SC_TRY(sc_alloc(&next, (size_t)n, sizeof *next));
    SC_TRY(neighbours_find(task->device, task->x, n, task->dim, k, rows, cosines));
    for (int64_t e = 0; e < n * k; e++)
        f->offsets[rows[e] + 1] += cosines[e] > 0;
    for (int64_t j = 0; j < n; j++) {
        next[j] = f->offsets[j];
        f->offsets[j + 1] += f->offsets[j];
    }
    SC_TRY(sc_alloc(&f->served, (size_t)f->offsets[n], sizeof *f->served));
    SC_TRY(sc_alloc(&f->likeness, (size_t)f->offsets[n], sizeof *f->likeness));
    for (int64_t e = 0; e < n * k; e++)
        if (cosines[e] > 0) {
            const int64_t at = next[rows[e]]++;
            f->served[at] = (int32_t)(e / k);
            f->likeness[at] = cosines[e];
        }
cleanup:
    free(rows);
    free(cosines);
    free(next);
    return status;
}

static double gain_of(const served *f, int64_t j)
{
    double gain = 0;
    for (int64_t at = f->offsets[j]; at < f->offsets[j + 1]; at++) {
        const float more = f->likeness[at] - f->best[f->served[at]];
        gain += more > 0 ? (double)more : 0;
    }
    return gain;
}

static void serve(served *f, int64_t j)
{
    f->total += gain_of(f, j);
    for (int64_t at = f->offsets[j]; at < f->offsets[j + 1]; at++)
        if (f->likeness[at] > f->best[f->served[at]])
            f->best[f->served[at]] = f->likeness[at];
    f->n_chosen++;
}

static bool before(const served *f, int32_t a, int32_t b)
{
    return f->gains[a] > f->gains[b] || (f->gains[a] == f->gains[b] && a < b);
}

static void sift_down(served *f, int64_t at)
{
    const int32_t row = f->heap[at];
    for (int64_t child; (child = 2 * at + 1) < f->n_heap; at = child) {
        if (child + 1 < f->n_heap && before(f, f->heap[child + 1], f->heap[child]))
            child++;
        if (!before(f, f->heap[child], row))
            break;
        f->heap[at] = f->heap[child];
    }
    f->heap[at] = row;
}

/* The row with the highest gain; rows that have been closed since fall out. At least one is open. */
static int32_t next_pick(served *f)
{
    for (;;) {
        const int32_t row = f->heap[0];
        const bool closed = f->task->limits->closed[row];
        if (!closed && f->seen[row] == f->n_chosen)
            return row;
        if (closed) {
            f->heap[0] = f->heap[--f->n_heap];
        } else {
            f->gains[row] = gain_of(f, row);
            f->seen[row] = f->n_chosen;
        }
        sift_down(f, 0);
    }
}

static sc_status served_open(served *f, const selection_task *task)
{
    sc_status status = SC_OK;
    const size_t n = (size_t)task->n;
    *f = (served){.task = task};
    SC_TRY(sc_alloc(&f->offsets, n + 1, sizeof *f->offsets));
    SC_TRY(sc_alloc(&f->best, n, sizeof *f->best));
    SC_TRY(sc_alloc(&f->gains, n, sizeof *f->gains));
    SC_TRY(sc_alloc(&f->seen, n, sizeof *f->seen));
    SC_TRY(sc_alloc(&f->heap, n, sizeof *f->heap));
    SC_TRY(find_served(f));
    for (int64_t g = 0; g < task->n_given; g++)
        serve(f, task->given[g]);
    f->total = 0;
    for (int32_t j = 0; j < task->n; j++)
        if (!task->limits->closed[j]) {
            f->gains[j] = gain_of(f, j);
            f->seen[j] = f->n_chosen;
            f->heap[f->n_heap++] = j;
        }
    for (int64_t i = 0; i < task->n; i++)
        f->total += (double)f->best[i];
    for (int64_t at = f->n_heap; at-- > 0;)
        sift_down(f, at);
cleanup:
    return status;
}

static void served_close(served *f)
{
    free(f->offsets);
    free(f->served);
    free(f->likeness);
    free(f->best);
    free(f->gains);
    free(f->seen);
    free(f->heap);
}

sc_status facility_select(const selection_task *task, selection_pick *picks, int64_t *n_picks)
{
    sc_status status = SC_OK;
    served f;
    int64_t t = 0;
    progress *p = progress_begin("select facility", "picks", limits_likely(task->limits, task->budget));
    SC_TRY(served_open(&f, task));
    while (t < task->budget && task->limits->n_open > 0) {
        if (t % 64 == 0)
            SC_TRY(check_cancelled());
        const int32_t row = next_pick(&f);
        const double gain = f.gains[row];
        limits_take(task->limits, row);
        serve(&f, row);
        picks[t++] =
            (selection_pick){.row = row, .score = gain, .gain = gain, .objective = f.total / (double)task->n};
        progress_add(p, 1);
    }
    *n_picks = t;
cleanup:
    served_close(&f);
    progress_end(p);
    return status;
}

/* --- what it would take ---------------------------------------------------------------------------- */

/* Products of all rows with all; and of each row the candidates, in heaps and then by their cosines in double, one of
 * which takes as long as some 32 products. */
static double search_operations(int64_t n, int64_t dim, int64_t k)
{
    return 2.0 * (double)dim * (double)n * ((double)n + 32 * (double)k);
}

static sc_status probe_neighbours(const selection_task *task, double *operations)
{
    const int64_t enough = (int64_t)sqrt(1e9 / (double)task->dim), n = enough < task->n ? enough : task->n;
    *operations = search_operations(n, task->dim, task->neighbours < n ? task->neighbours : n);
    return estimate_run(task, n, 1, facility_select);
}

void facility_plan(const selection_task *task, estimate *out)
{
    const int64_t n = task->n, k = task->neighbours < n ? task->neighbours : n;
    const int64_t search = neighbours_bytes(task->device->ops, n, task->dim, k);
    const int64_t lists = n * k * (int64_t)(sizeof(int32_t) + sizeof(float));
    estimate_array_add(out, "neighbours and cosines", n * k, sizeof(int32_t) + sizeof(float));
    estimate_rows_pass(out, n, task->dim);
    estimate_part_add(out, "unit rows and candidates, then who is served", search > lists ? search : lists, 1,
                      neighbours_device_bytes(n, task->dim));
    estimate_array_add(out, "likeness, gains, heap of rows", n,
                       sizeof(float) + 3 * sizeof(double) + sizeof(int32_t) + sizeof(int64_t));
    estimate_work_add(out, "products of all rows with all", search_operations(n, task->dim, k),
                      (double)n / 256, probe_neighbours);
}
