/* cluster_update: takes the rows that have changed sides from one cluster's sum to the other's, exactly (exact_sum.h), on the CPU.
 *
 * A row that moves is read twice, 8 dim bytes, one that is new once, and every element of it costs two sums and six additions to
 * part it, in doubles. */
#include "base/memory.h"
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

#include <stdlib.h>

typedef float float8 __attribute__((vector_size(32), aligned(4)));
typedef double double8 __attribute__((vector_size(64), aligned(8)));

enum { SUM_COLUMNS = 192, SUM_ROWS = 4, AHEAD = 8, LINE = 16 };

/* Rows that join or leave a cluster, each 2 i + 1 where it leaves: those of cluster j from offsets[j] on. */
typedef struct movers {
    uint32_t *rows;
    int64_t *offsets; /* [k + 1] */
} movers;

static void movers_free(movers *m)
{
    free(m->rows);
    free(m->offsets);
}

static sc_status list_movers(const int32_t *labels, const int32_t *summed, int64_t n, int64_t k, movers *m)
{
    sc_status status = SC_OK;
    SC_TRY(sc_alloc(&m->offsets, (size_t)k + 1, sizeof *m->offsets));
    for (int64_t i = 0; i < n; i++)
        if (labels[i] != summed[i]) {
            m->offsets[labels[i] + 1]++;
            if (summed[i] >= 0)
                m->offsets[summed[i] + 1]++;
        }
    for (int64_t j = 0; j < k; j++)
        m->offsets[j + 1] += m->offsets[j];
    SC_TRY(sc_alloc(&m->rows, (size_t)m->offsets[k] + 1, sizeof *m->rows));
    for (int64_t i = 0; i < n; i++)
        if (labels[i] != summed[i]) {
            m->rows[m->offsets[labels[i]]++] = 2 * (uint32_t)i;
            if (summed[i] >= 0)
                m->rows[m->offsets[summed[i]]++] = 2 * (uint32_t)i + 1;
        }
    for (int64_t j = k; j > 0; j--)
        m->offsets[j] = m->offsets[j - 1];
    m->offsets[0] = 0;
cleanup:
    return status;
}

/* coarse, fine [width] += the parts of `count` rows, each times its sign; `count` is a constant where it is called. */
static inline __attribute__((always_inline)) void add_rows(const int count, exact_grid grid, double *coarse,
                                                           double *fine, const float *const *rows,
                                                           const double *signs, int64_t width)
{
    int64_t d = 0;
    for (; d + 8 <= width; d += 8) {
        double8 first = *(const double8 *)(coarse + d), second = *(const double8 *)(fine + d);
        for (int r = 0; r < count; r++) {
            const double8 v = __builtin_convertvector(*(const float8 *)(rows[r] + d), double8);
            const double8 most = (v + grid.coarse) - grid.coarse;
            first += signs[r] * most;
            second += signs[r] * (((v - most) + grid.fine) - grid.fine);
        }
        *(double8 *)(coarse + d) = first;
        *(double8 *)(fine + d) = second;
    }
    for (; d < width; d++)
        for (int r = 0; r < count; r++) {
            const double most = exact_coarse(grid, (double)rows[r][d]);
            coarse[d] += signs[r] * most;
            fine[d] += signs[r] * exact_fine(grid, (double)rows[r][d], most);
        }
}

/* Some columns of one cluster: the movers m->rows[from .. to - 1]. */
static void move_rows(const movers *m, int64_t from, int64_t to, exact_grid grid, double *coarse,
                      double *fine, const float *x, int64_t width, int64_t dim)
{
    for (; from < to; from += SUM_ROWS) {
        const float *rows[SUM_ROWS];
        double signs[SUM_ROWS];
        const int64_t count = to - from < SUM_ROWS ? to - from : SUM_ROWS;
        for (int64_t r = 0; r < count; r++) {
            rows[r] = x + (int64_t)(m->rows[from + r] / 2) * dim;
            signs[r] = m->rows[from + r] % 2 ? -1 : 1;
        }
        for (int64_t r = from + AHEAD; r < from + AHEAD + SUM_ROWS && r < to; r++)
            for (int64_t d = 0; d < width; d += LINE)
                __builtin_prefetch(x + (int64_t)(m->rows[r] / 2) * dim + d, 0, 2);
        if (count == SUM_ROWS)
            add_rows(SUM_ROWS, grid, coarse, fine, rows, signs, width);
        else
            for (int64_t r = 0; r < count; r++)
                add_rows(1, grid, coarse, fine, rows + r, signs + r, width);
    }
}

/* A task is one cluster, or, so that few large ones keep all threads busy, too, a part of its columns. */
sc_status cpu_cluster_update(stream *s, double *sums, int64_t *counts, int32_t *summed, exact_grid grid,
                             const float *x, const int32_t *labels, int64_t n, int64_t k, int64_t dim)
{
    (void)s;
    sc_status status = SC_OK;
    movers m = {0};
    if (n < 0 || n > INT32_MAX || k <= 0 || k > INT32_MAX || dim <= 0 || dim > (1 << 24))
        return sc_fail(SC_INTERNAL, "cluster_update: impossible shape: %lld rows, %lld centres, width %lld",
                       (long long)n, (long long)k, (long long)dim);
    for (int64_t i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] >= k || summed[i] >= k)
            return sc_fail(SC_INTERNAL,
                           "cluster_update: row %lld has the label %d, before %d, outside of 0..%lld",
                           (long long)i, (int)labels[i], (int)summed[i], (long long)k - 1);
    SC_TRY(list_movers(labels, summed, n, k, &m));
    const int64_t columns = k >= 32 || dim < SUM_COLUMNS ? dim : SUM_COLUMNS;
    const int64_t parts = (dim + columns - 1) / columns, tasks = k * parts;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(m.offsets[k] * dim, tasks))
    for (int64_t task = 0; task < tasks; task++) {
        const int64_t j = task / parts, c = task % parts * columns;
        move_rows(&m, m.offsets[j], m.offsets[j + 1], grid, sums + j * dim + c, sums + (k + j) * dim + c,
                  x + c, dim - c < columns ? dim - c : columns, dim);
    }
    for (int64_t i = 0; i < n; i++)
        if (labels[i] != summed[i]) {
            counts[labels[i]]++;
            if (summed[i] >= 0)
                counts[summed[i]]--;
            summed[i] = labels[i];
        }
cleanup:
    movers_free(&m);
    return status;
}
