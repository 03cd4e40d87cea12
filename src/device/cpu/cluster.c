/* cluster: nearest centres, sums per cluster and the softmax over distances, on the CPU.
 *
 * Labels are those of float64 arithmetic. A product in float finds for every row the centres that
 * the rounding error of that product cannot rule out; only when more than one is left are they
 * compared in double. So the labels depend neither on the number of threads nor on how another
 * table orders its products. Vectors have a fixed width (GCC's vector extension): the same bits
 * come out of SSE2 and AVX2 code.
 */
#include "device/cpu/cpu.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef float float8 __attribute__((vector_size(32), aligned(4)));
typedef float float4 __attribute__((vector_size(16), aligned(4)));
typedef double double4 __attribute__((vector_size(32), aligned(8)));

enum { PANEL = 16, ROWS = 4 }; /* one panel of centres against a few rows fills the registers */

#if defined(__x86_64__) && defined(__GNUC__)
#define AVX2 __attribute__((target("avx2")))
#define HAS_AVX2() __builtin_cpu_supports("avx2")
#else
#define AVX2
#define HAS_AVX2() 0
#endif
#define INLINE static inline __attribute__((always_inline))

static int64_t padded(int64_t k)
{
    return (k + PANEL - 1) / PANEL * PANEL;
}

static bool shape_ok(int64_t n, int64_t k, int64_t dim)
{
    return n >= 0 && n <= INT64_MAX / 8 && k > 0 && k <= INT32_MAX - PANEL && dim > 0 && dim <= (1 << 24);
}

/* |x - c|^2 in double (c = NULL: |x|^2): sixteen partial sums, added in a fixed order. */
INLINE double pair_distance(const float *x, const float *c, int64_t dim)
{
    double4 sum[4];
    memset(sum, 0, sizeof sum);
    int64_t d = 0;
    for (; d + 16 <= dim; d += 16)
        for (int v = 0; v < 4; v++) {
            const float4 xs = *(const float4 *)(x + d + 4 * v);
            double4 diff = __builtin_convertvector(xs, double4);
            if (c)
                diff -= __builtin_convertvector(*(const float4 *)(c + d + 4 * v), double4);
            sum[v] += diff * diff;
        }
    for (int l = 0; d < dim; d++, l++) {
        const double diff = (double)x[d] - (c ? (double)c[d] : 0);
        sum[l / 4][l % 4] += diff * diff;
    }
    const double4 all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    return (all[0] + all[1]) + (all[2] + all[3]);
}

/* dots [ROWS][PANEL] of ROWS rows of x and one panel [dim][PANEL] of transposed centres. */
INLINE void panel_dots(float *dots, const float *const x[ROWS], const float *panel, int64_t dim)
{
    float8 sum[ROWS][2];
    memset(sum, 0, sizeof sum);
    for (int64_t d = 0; d < dim; d++) {
        const float8 c0 = *(const float8 *)(panel + d * PANEL), c1 = *(const float8 *)(panel + d * PANEL + 8);
        for (int r = 0; r < ROWS; r++) {
            const float v = x[r][d];
            sum[r][0] += v * c0;
            sum[r][1] += v * c1;
        }
    }
    memcpy(dots, sum, sizeof sum);
}

typedef struct assign_task {
    int32_t *labels;
    float *dist2;
    const float *x, *centres, *panels;
    const double *norms2; /* |c|^2 */
    double largest_norm;
    int64_t n, k, dim;
} assign_task;

/* Rows first .. first+count-1, count <= ROWS. `scores` [ROWS][padded k] is scratch. */
INLINE void assign_rows(const assign_task *t, int64_t first, int count, float *scores)
{
    const int64_t k = t->k, dim = t->dim, kp = padded(k);
    const float *x[ROWS];
    for (int r = 0; r < ROWS; r++)
        x[r] = t->x + (first + (r < count ? r : 0)) * dim;
    float dots[ROWS * PANEL];
    if (k > 1)
        for (int64_t j = 0; j < kp; j += PANEL) {
            panel_dots(dots, x, t->panels + j * dim, dim);
            for (int r = 0; r < ROWS; r++)
                memcpy(scores + r * kp + j, dots + r * PANEL, PANEL * sizeof(float));
        }
    for (int r = 0; r < count; r++) {
        int64_t best = 0;
        double best_distance = -1;
        if (k > 1) {
            const double norm2 = pair_distance(x[r], NULL, dim);
            double lowest = INFINITY;
            const float *dot = scores + r * kp;
            bool finite = true;
            for (int64_t j = 0; j < k; j++) {
                const double s = t->norms2[j] - 2 * (double)dot[j];
                finite = finite && isfinite(s);
                if (s < lowest) {
                    lowest = s;
                    best = j;
                }
            }
            /* A dot product in float is off by at most gamma |x||c|, gamma = dim u / (1 - dim u)
             * (Higham 2002, 3.1), and each score by twice that; the tiny term covers underflow. */
            const double u = (double)dim * 0x1p-24;
            const double bound =
                u < 0.5 ? 2 * u / (1 - u) * sqrt(norm2) * t->largest_norm * 1.0000001 + (double)dim * 0x1p-125
                        : INFINITY;
            const double limit = finite ? lowest + 2 * bound : INFINITY;
            for (int64_t j = 0; j < k; j++) {
                if (finite && (j == best || t->norms2[j] - 2 * (double)dot[j] > limit))
                    continue;
                /* A rival within the error: from here on float64 decides. */
                if (best_distance < 0) {
                    if (!finite)
                        best = 0;
                    best_distance = pair_distance(x[r], t->centres + best * dim, dim);
                    if (j == best)
                        continue;
                }
                const double distance = pair_distance(x[r], t->centres + j * dim, dim);
                if (distance < best_distance || (distance == best_distance && j < best)) {
                    best_distance = distance;
                    best = j;
                }
            }
        }
        t->labels[first + r] = (int32_t)best;
        if (t->dist2) {
            if (best_distance < 0)
                best_distance = pair_distance(x[r], t->centres + best * dim, dim);
            t->dist2[first + r] = (float)best_distance;
        }
    }
}

static void assign_rows_plain(const assign_task *t, int64_t first, int count, float *scores)
{
    assign_rows(t, first, count, scores);
}

AVX2 static void assign_rows_avx2(const assign_task *t, int64_t first, int count, float *scores)
{
    assign_rows(t, first, count, scores);
}

/* Sizes that depend on the number of threads would make the caller's workspace wrong after a change
 * of it, so the scratch of at most MAX_TEAMS teams is asked for. */
enum { MAX_TEAMS = 64 };

size_t cpu_cluster_assign_workspace(int64_t n, int64_t k, int64_t dim)
{
    if (!shape_ok(n, k, dim))
        return 0;
    const size_t kp = (size_t)padded(k);
    return kp * (size_t)dim * sizeof(float) + (size_t)k * sizeof(double) +
           MAX_TEAMS * ROWS * kp * sizeof(float);
}

sc_status cpu_cluster_assign(stream *s, int32_t *labels, float *dist2, const float *x, const float *centres,
                             int64_t n, int64_t k, int64_t dim, void *workspace)
{
    (void)s;
    if (!shape_ok(n, k, dim) || !workspace)
        return sc_fail(SC_INTERNAL, "cluster_assign: impossible shape: %lld rows, %lld centres, width %lld",
                       (long long)n, (long long)k, (long long)dim);
    const int64_t kp = padded(k);
    double *norms2 = workspace;
    float *panels = (float *)(norms2 + k), *scratch = panels + kp * dim;
    assign_task task = {labels, dist2, x, centres, panels, norms2, 0, n, k, dim};
    for (int64_t j = 0; j < kp; j++) {
        double norm2 = 0;
        for (int64_t d = 0; d < dim; d++) {
            const float v = j < k ? centres[j * dim + d] : 0;
            panels[(j / PANEL) * PANEL * dim + d * PANEL + j % PANEL] = v;
            norm2 += (double)v * (double)v;
        }
        if (j < k)
            norms2[j] = norm2;
        if (norm2 > task.largest_norm)
            task.largest_norm = norm2;
    }
    task.largest_norm = sqrt(task.largest_norm);
    void (*const rows)(const assign_task *, int64_t, int, float *) =
        HAS_AVX2() ? assign_rows_avx2 : assign_rows_plain;
    /* Teams take turns over blocks of rows; who takes which does not touch the result. */
    const int64_t n_blocks = (n + ROWS - 1) / ROWS, per_team = (n_blocks + MAX_TEAMS - 1) / MAX_TEAMS;
#pragma omp parallel for schedule(dynamic, 1)
    for (int team = 0; team < MAX_TEAMS; team++) {
        const int64_t end = (team + 1) * per_team < n_blocks ? (team + 1) * per_team : n_blocks;
        for (int64_t b = team * per_team; b < end; b++) {
            const int64_t first = b * ROWS;
            rows(&task, first, n - first < ROWS ? (int)(n - first) : ROWS, scratch + team * ROWS * kp);
        }
    }
    return SC_OK;
}

/* Each thread owns some columns and walks the rows in order: no sum depends on the threads. */
sc_status cpu_cluster_update(stream *s, double *sums, int64_t *counts, const float *x, const int32_t *labels,
                             int64_t n, int64_t k, int64_t dim)
{
    (void)s;
    if (!shape_ok(n, k, dim))
        return sc_fail(SC_INTERNAL, "cluster_update: impossible shape: %lld rows, %lld centres, width %lld",
                       (long long)n, (long long)k, (long long)dim);
    for (int64_t j = 0; j < k; j++)
        counts[j] = 0;
    for (int64_t i = 0; i < n; i++) {
        if (labels[i] < 0 || labels[i] >= k)
            return sc_fail(SC_INTERNAL, "cluster_update: row %lld has the label %d, outside of 0..%lld",
                           (long long)i, (int)labels[i], (long long)k - 1);
        counts[labels[i]]++;
    }
    enum { COLUMNS = 64 };
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t c = 0; c < dim; c += COLUMNS) {
        const int64_t width = dim - c < COLUMNS ? dim - c : COLUMNS;
        for (int64_t j = 0; j < k; j++)
            memset(sums + j * dim + c, 0, (size_t)width * sizeof *sums);
        for (int64_t i = 0; i < n; i++) {
            double *sum = sums + labels[i] * dim + c;
            const float *row = x + i * dim + c;
            for (int64_t d = 0; d < width; d++)
                sum[d] += (double)row[d];
        }
    }
    return SC_OK;
}

/* out [2][PANEL] = |x - c|^2 of two rows and one panel [dim][PANEL] of centres in double; summed
 * over d in ascending order. */
INLINE void panel_distances(double *out, const float *x0, const float *x1, const double *panel, int64_t dim)
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

static void panel_distances_plain(double *out, const float *x0, const float *x1, const double *panel,
                                  int64_t dim)
{
    panel_distances(out, x0, x1, panel, dim);
}

AVX2 static void panel_distances_avx2(double *out, const float *x0, const float *x1, const double *panel,
                                      int64_t dim)
{
    panel_distances(out, x0, x1, panel, dim);
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
    void (*const distances)(double *, const float *, const float *, const double *, int64_t) =
        HAS_AVX2() ? panel_distances_avx2 : panel_distances_plain;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i += 2) {
        const int64_t other = i + 1 < n ? i + 1 : i;
        for (int64_t j = 0; j < kp; j += PANEL) {
            double out[2 * PANEL];
            distances(out, x + i * dim, x + other * dim, panels + j * dim, dim);
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
