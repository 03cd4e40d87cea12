/* cluster: the softmax over distances to centres, on the CPU; the nearest centres are cluster_assign.c. */
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef double double4 __attribute__((vector_size(32), aligned(8)));

enum { PANEL = 16 };

static int64_t padded(int64_t k)
{
    return (k + PANEL - 1) / PANEL * PANEL;
}

static bool shape_ok(int64_t n, int64_t k, int64_t dim)
{
    return n >= 0 && n <= INT64_MAX / 8 && k > 0 && k <= INT32_MAX - PANEL && dim > 0 && dim <= (1 << 24);
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
