/* nearest_update: squared distances to the nearest of a growing list of centres, exactly.
 *
 * A product in float gives every distance within a bound; only centres that could be nearer than the nearest so
 * far are measured in double, from the rows as they are. The product works on rows and centres less their
 * common mean, whose squares would otherwise take the digits of the differences. */
#include "device/cpu/cpu.h"
#include "device/cpu/dots.h"

#include <math.h>

/* |x - c|^2 in double, summed in a fixed order. */
static double distance2(const float *x, const float *c, int64_t dim)
{
    double sums[8] = {0}, total = 0;
    int64_t d = 0;
    for (; d + 8 <= dim; d += 8)
        for (int v = 0; v < 8; v++) {
            const double diff = (double)x[d + v] - (double)c[d + v];
            sums[v] += diff * diff;
        }
    for (; d < dim; d++) {
        const double diff = (double)x[d] - (double)c[d];
        total += diff * diff;
    }
    return total +
           (((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7])));
}

typedef struct nearest_job {
    double *dist2;
    const nearest_rows *rows, *centres;
    const int32_t *from;
    double gamma;
    int64_t dim;
} nearest_job;

/* Rows first .. first+count-1 against centres at .. at+lines-1; both counts are constants where it is called. */
static inline __attribute__((always_inline)) void measure(const int count, const int lines,
                                                          const nearest_job *job, int64_t first, int64_t at)
{
    float found[WEIGHT_ROWS][TILE_ROWS];
    const nearest_rows *x = job->rows, *c = job->centres;
    const int64_t dim = job->dim;
    dots(count, lines, dim, x->centred + first * dim, DTYPE_F32, dim, c->centred + at * dim, DTYPE_F32, dim,
         found);
    for (int i = 0; i < count; i++)
        for (int r = 0; r < lines; r++) {
            const int64_t row = first + i, centre = at + r;
            if (centre < job->from[row])
                continue;
            const double nx = x->norms[row], nc = c->norms[centre];
            const double least = nx * nx + nc * nc - 2 * (double)found[r][i] -
                                 job->gamma * (nx * nc + nx * nx + nc * nc) - (double)dim * 0x1p-125;
            if (least >= job->dist2[row])
                continue;
            /* NaN, where a product left the range of float, comes here too. */
            const double d2 = distance2(x->x + row * dim, c->x + centre * dim, dim);
            if (d2 < job->dist2[row])
                job->dist2[row] = d2;
        }
}

static inline __attribute__((always_inline)) void measure_rows(const int count, const nearest_job *job,
                                                               int64_t first, int64_t to)
{
    int64_t at = to;
    for (int i = 0; i < count; i++)
        at = job->from[first + i] < at ? job->from[first + i] : at;
    for (; at + WEIGHT_ROWS <= to; at += WEIGHT_ROWS)
        measure(count, WEIGHT_ROWS, job, first, at);
    for (; at < to; at++)
        measure(count, 1, job, first, at);
}

sc_status cpu_nearest_update(stream *s, double *dist2, const nearest_rows *rows, int64_t n,
                             const nearest_rows *centres, const int32_t *from, int64_t to, int64_t dim)
{
    (void)s;
    if (n < 0 || to < 0 || dim <= 0)
        return sc_fail(SC_INTERNAL, "nearest_update: impossible shape: %lld rows of %lld, %lld centres",
                       (long long)n, (long long)dim, (long long)to);
    /* dots.h's chain, and one rounding of each side when the mean was taken off */
    const double chain = ((double)dim / 8 + 14) * 0x1p-24;
    const nearest_job job = {.dist2 = dist2,
                             .rows = rows,
                             .centres = centres,
                             .from = from,
                             .gamma = chain < 0.25 ? 2 * chain / (1 - 2 * chain) : INFINITY,
                             .dim = dim};
    const int64_t tasks = (n + TILE_ROWS - 1) / TILE_ROWS;
#pragma omp parallel for schedule(dynamic, 4) num_threads(cpu_team(n *dim, tasks))
    for (int64_t t = 0; t < tasks; t++) {
        const int64_t first = t * TILE_ROWS;
        if (n - first >= TILE_ROWS)
            measure_rows(TILE_ROWS, &job, first, to);
        else
            for (int64_t i = first; i < n; i++)
                measure_rows(1, &job, i, to);
    }
    return SC_OK;
}
