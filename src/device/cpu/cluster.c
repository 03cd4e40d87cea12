/* cluster: sums per cluster and the softmax over distances, on the CPU; the nearest centres are cluster_assign.c. */
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef float float4 __attribute__((vector_size(16), aligned(4)));
typedef double double4 __attribute__((vector_size(32), aligned(8)));

enum { PANEL = 16, COLUMNS = 64, SUM_COLUMNS = 192, SUM_ROWS = 4, AHEAD = 8, LINE = 16 };

static int64_t padded(int64_t k)
{
    return (k + PANEL - 1) / PANEL * PANEL;
}

static bool shape_ok(int64_t n, int64_t k, int64_t dim)
{
    return n >= 0 && n <= INT64_MAX / 8 && k > 0 && k <= INT32_MAX - PANEL && dim > 0 && dim <= (1 << 24);
}

/* Each thread owns some columns and walks the rows in order: no sum depends on the threads. */
sc_status cpu_cluster_update(stream *s, double *sums, int64_t *counts, const float *x, const int32_t *labels,
                             int64_t n, int64_t k, int64_t dim)
{
    (void)s;
    if (!shape_ok(n, k, dim))
        return sc_fail(SC_INTERNAL, "cluster_update: impossible shape: %lld rows, %lld centres, width %lld",
                       (long long)n, (long long)k, (long long)dim);
    for (int64_t i = 0; i < n; i++) {
        if (labels[i] < 0 || labels[i] >= k)
            return sc_fail(SC_INTERNAL, "cluster_update: row %lld has the label %d, outside of 0..%lld",
                           (long long)i, (int)labels[i], (long long)k - 1);
        counts[labels[i]]++;
    }
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t c = 0; c < dim; c += COLUMNS) {
        const int64_t width = dim - c < COLUMNS ? dim - c : COLUMNS;
        for (int64_t i = 0; i < n; i++) {
            double *sum = sums + labels[i] * dim + c;
            const float *row = x + i * dim + c;
            for (int64_t d = 0; d < width; d++)
                sum[d] += (double)row[d];
        }
    }
    return SC_OK;
}

/* sum [width] += rows 0 .. count-1, one after the other; `count` is a constant where it is called. */
static inline __attribute__((always_inline)) void add_rows(const int count, double *sum,
                                                           const float *const *rows, int64_t width)
{
    int64_t d = 0;
    for (; d + 4 <= width; d += 4) {
        double4 total = *(const double4 *)(sum + d);
        for (int r = 0; r < count; r++)
            total += __builtin_convertvector(*(const float4 *)(rows[r] + d), double4);
        *(double4 *)(sum + d) = total;
    }
    for (; d < width; d++)
        for (int r = 0; r < count; r++)
            sum[d] += (double)rows[r][d];
}

/* A task is one cluster, or, so that few large ones keep all threads busy, too, a part of its columns. */
sc_status cpu_cluster_sums(stream *s, double *sums, const float *x, const int32_t *members,
                           const int64_t *offsets, const uint8_t *wanted, int64_t k, int64_t dim)
{
    (void)s;
    if (!shape_ok(offsets[k], k, dim))
        return sc_fail(SC_INTERNAL, "cluster_sums: impossible shape: %lld centres, width %lld", (long long)k,
                       (long long)dim);
    const int64_t columns = k >= 32 || dim < SUM_COLUMNS ? dim : SUM_COLUMNS;
    const int64_t parts = (dim + columns - 1) / columns, tasks = k * parts;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(offsets[k] * dim, tasks))
    for (int64_t task = 0; task < tasks; task++) {
        const int64_t j = task / parts, c = task % parts * columns;
        const int64_t width = dim - c < columns ? dim - c : columns;
        double *sum = sums + j * dim + c;
        if (!wanted[j])
            continue;
        memset(sum, 0, (size_t)width * sizeof *sum);
        for (int64_t m = offsets[j]; m < offsets[j + 1]; m += SUM_ROWS) {
            const float *rows[SUM_ROWS];
            const int64_t count = offsets[j + 1] - m < SUM_ROWS ? offsets[j + 1] - m : SUM_ROWS;
            for (int64_t r = 0; r < count; r++)
                rows[r] = x + (int64_t)members[m + r] * dim + c;
            for (int64_t r = m + AHEAD; r < m + AHEAD + SUM_ROWS && r < offsets[j + 1]; r++)
                for (int64_t d = 0; d < width; d += LINE)
                    __builtin_prefetch(x + (int64_t)members[r] * dim + c + d, 0, 2);
            if (count == SUM_ROWS)
                add_rows(SUM_ROWS, sum, rows, width);
            else
                for (int64_t r = 0; r < count; r++)
                    add_rows(1, sum, rows + r, width);
        }
    }
    return SC_OK;
}

/* out [2][PANEL] = |x - c|^2 of two rows and one panel [dim][PANEL] of centres in double; summed
 * over d in ascending order. */
static void panel_distances(double *out, const float *x0, const float *x1, const double *panel, int64_t dim)
{
    enum { V = PANEL / 4 };
    double4 sum[2][V];
    memset(sum, 0, sizeof sum);
    for (int64_t d = 0; d < dim; d++) {
        const double v0 = x0[d], v1 = x1[d];
        for (int v = 0; v < V; v++) {
            const double4 c = *(const double4 *)(panel + d * PANEL + 4 * v);
            const double4 d0 = v0 - c, d1 = v1 - c;
            sum[0][v] += d0 * d0;
            sum[1][v] += d1 * d1;
        }
    }
    memcpy(out, sum, sizeof sum);
}

/* p [k] holds squared distances and becomes the softmax of -distance / temperature, shifted by the
 * smallest distance; the entropy is log Z + sum p (distance - smallest) / temperature. */
static double softmax_row(double *p, int64_t k, double temperature)
{
    double smallest = INFINITY, z = 0, mean = 0;
    for (int64_t j = 0; j < k; j++) {
        p[j] = sqrt(p[j]);
        if (p[j] < smallest)
            smallest = p[j];
    }
    for (int64_t j = 0; j < k; j++) {
        const double energy = (p[j] - smallest) / temperature;
        const double weight = exp(-energy);
        z += weight;
        mean += weight > 0 ? weight * energy : 0;
        p[j] = weight;
    }
    for (int64_t j = 0; j < k; j++)
        p[j] /= z;
    return log(z) + mean / z;
}

size_t cpu_cluster_softmax_workspace(int64_t n, int64_t k, int64_t dim)
{
    return shape_ok(n, k, dim) ? (size_t)padded(k) * (size_t)dim * sizeof(double) : 0;
}

sc_status cpu_cluster_softmax(stream *s, double *p, double *entropy, const float *x, const float *centres,
                              int64_t n, int64_t k, int64_t dim, double temperature, void *workspace)
{
    (void)s;
    if (!shape_ok(n, k, dim) || !workspace || !(temperature > 0))
        return sc_fail(
            SC_INTERNAL,
            "cluster_softmax: impossible shape: %lld rows, %lld centres, width %lld, temperature %g",
            (long long)n, (long long)k, (long long)dim, temperature);
    const int64_t kp = padded(k);
    double *panels = workspace;
    for (int64_t j = 0; j < kp; j++)
        for (int64_t d = 0; d < dim; d++)
            panels[(j / PANEL) * PANEL * dim + d * PANEL + j % PANEL] = j < k ? centres[j * dim + d] : 0;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i += 2) {
        const int64_t other = i + 1 < n ? i + 1 : i;
        for (int64_t j = 0; j < kp; j += PANEL) {
            double out[2 * PANEL];
            panel_distances(out, x + i * dim, x + other * dim, panels + j * dim, dim);
            const size_t bytes = (size_t)(k - j < PANEL ? k - j : PANEL) * sizeof(double);
            memcpy(p + i * k + j, out, bytes);
            if (other != i)
                memcpy(p + other * k + j, out + PANEL, bytes);
        }
        entropy[i] = softmax_row(p + i * k, k, temperature);
        if (other != i)
            entropy[other] = softmax_row(p + other * k, k, temperature);
    }
    return SC_OK;
}
