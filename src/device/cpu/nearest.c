/* nearest_update, nearest_update_apart: squared distances to the nearest of a growing list of centres, exactly.
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

/* One product: four sums side by side, for one alone waits for itself. Its chains are shorter than those of dots.h. */
static float one_dot(const float *x, const float *y, int64_t dim)
{
    floats sums[4] = {{0}, {0}, {0}, {0}};
    int64_t d = 0;
    for (; d + 4 * LANES <= dim; d += 4 * LANES)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            sums[v] += load_floats(x + d + LANES * v) * load_floats(y + d + LANES * v);
    for (; d + LANES <= dim; d += LANES)
        sums[0] += load_floats(x + d) * load_floats(y + d);
    float total = sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; d < dim; d++)
        total += x[d] * y[d];
    return total;
}

/* Four products with one row: centres that lie anywhere, so that memory brings four at a time. */
static void four_dots(const float *x, const float *const *c, int64_t dim, float *out)
{
    floats sums[4] = {{0}, {0}, {0}, {0}};
    int64_t d = 0;
    for (; d + LANES <= dim; d += LANES) {
        const floats here = load_floats(x + d);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            sums[v] += here * load_floats(c[v] + d);
    }
    sums4(sums, out);
    for (; d < dim; d++)
        for (int v = 0; v < 4; v++)
            out[v] += x[d] * c[v][d];
}

typedef struct nearest_job {
    double *dist2;
    const nearest_rows *rows, *centres;
    const int32_t *from;
    double gamma;
    int64_t dim;
    int32_t *owner; /* or NULL */
} nearest_job;

/* One product says how near the centre may be; if that is nearer than any so far, double says how near it is. */
static inline void compare(const nearest_job *job, int64_t row, int64_t centre, float product)
{
    const nearest_rows *x = job->rows, *c = job->centres;
    const int64_t dim = job->dim;
    const double nx = x->norms[row], nc = c->norms[centre];
    const double least = nx * nx + nc * nc - 2 * (double)product -
                         job->gamma * (nx * nc + nx * nx + nc * nc) - (double)dim * 0x1p-125;
    if (least >= job->dist2[row])
        return;
    /* NaN, where a product left the range of float, comes here too. */
    const double d2 = distance2(x->x + row * dim, c->x + centre * dim, dim);
    if (d2 < job->dist2[row]) {
        job->dist2[row] = d2;
        if (job->owner)
            job->owner[row] = (int32_t)centre;
    }
}

/* Rows first .. first+count-1 against centres at .. at+lines-1; both counts are constants where it is called. */
static inline __attribute__((always_inline)) void measure(const int count, const int lines,
                                                          const nearest_job *job, int64_t first, int64_t at)
{
    float found[WEIGHT_ROWS][TILE_ROWS];
    const nearest_rows *x = job->rows, *c = job->centres;
    const int64_t dim = job->dim;
    dots(count, lines, dim, x->centred + first * dim, DTYPE_F32, dim, c->centred + at * dim, DTYPE_F32, dim,
         false, 0, found);
    for (int i = 0; i < count; i++)
        for (int r = 0; r < lines; r++)
            if (at + r >= job->from[first + i])
                compare(job, first + i, at + r, found[r][i]);
}

static inline __attribute__((always_inline)) void measure_rows(const int count, const nearest_job *job,
                                                               int64_t first, int64_t least, int64_t to)
{
    int64_t at = to;
    for (int i = 0; i < count; i++)
        at = job->from[first + i] < at ? job->from[first + i] : at;
    at = at < least ? least : at;
    for (; at + WEIGHT_ROWS <= to; at += WEIGHT_ROWS)
        measure(count, WEIGHT_ROWS, job, first, at);
    for (; at < to; at++)
        for (int i = 0; i < count; i++)
            if (at >= job->from[first + i])
                compare(job, first + i, at,
                        one_dot(job->rows->centred + (first + i) * job->dim,
                                job->centres->centred + at * job->dim, job->dim));
}

/* Centres from[row] .. apart->n - 1, those left out that the row's nearest one rules out. Four are looked at together, by the
 * nearest one of then. */
static void measure_near(const nearest_job *job, const centres_apart *apart, int64_t row)
{
    const int64_t dim = job->dim;
    const float *x = job->rows->centred + row * dim, *centred = job->centres->centred;
    for (int64_t j = job->from[row]; j < apart->n;) {
        const int64_t a = job->owner[row];
        const int64_t at =
            a < 0 ? 0 : a * (2 * apart->capacity - a - 1) / 2 - a - 1; /* and j: of a and j > a */
        const double reach = 2.000002 * sqrt(job->dist2[row]);
        int64_t found[4];
        int n = 0;
        for (; j < apart->n && n < 4; j++)
            if (a < 0 || a >= j || (double)apart->apart[at + j] < reach)
                found[n++] = j;
        if (n == 4) {
            const float *const c[4] = {centred + found[0] * dim, centred + found[1] * dim,
                                       centred + found[2] * dim, centred + found[3] * dim};
            float products[4];
            four_dots(x, c, dim, products);
            for (int i = 0; i < 4; i++)
                compare(job, row, found[i], products[i]);
        } else {
            for (int i = 0; i < n; i++)
                compare(job, row, found[i], one_dot(x, centred + found[i] * dim, dim));
        }
    }
}

static sc_status run_job(const char *name, const nearest_job *given, const centres_apart *apart, int64_t n,
                         int64_t to)
{
    const int64_t dim = given->dim;
    if (n < 0 || to < 0 || dim <= 0)
        return sc_fail(SC_INTERNAL, "%s: impossible shape: %lld rows of %lld, %lld centres", name,
                       (long long)n, (long long)dim, (long long)to);
    /* dots.h's chain, and one rounding of each side when the mean was taken off */
    const double chain = (dots_chain(dim) + 2) * 0x1p-24;
    nearest_job job = *given;
    job.gamma = chain < 0.25 ? 2 * chain / (1 - 2 * chain) : INFINITY;
    const int64_t tasks = (n + TILE_ROWS - 1) / TILE_ROWS, known = apart ? apart->n : 0;
#pragma omp parallel for schedule(dynamic, 4) num_threads(cpu_team(n *dim, tasks))
    for (int64_t t = 0; t < tasks; t++) {
        const int64_t first = t * TILE_ROWS, end = n - first < TILE_ROWS ? n : first + TILE_ROWS;
        for (int64_t i = first; i < end && apart; i++)
            measure_near(&job, apart, i);
        if (end - first == TILE_ROWS)
            measure_rows(TILE_ROWS, &job, first, known, to);
        else
            for (int64_t i = first; i < end; i++)
                measure_rows(1, &job, i, known, to);
    }
    return SC_OK;
}

sc_status cpu_nearest_update(stream *s, double *dist2, const nearest_rows *rows, int64_t n,
                             const nearest_rows *centres, const int32_t *from, int64_t to, int64_t dim)
{
    (void)s;
    const nearest_job job = {.dist2 = dist2, .rows = rows, .centres = centres, .from = from, .dim = dim};
    return run_job("nearest_update", &job, NULL, n, to);
}

sc_status cpu_nearest_update_apart(stream *s, double *dist2, int32_t *owner, const nearest_rows *rows,
                                   int64_t n, const nearest_rows *centres, const centres_apart *apart,
                                   const int32_t *from, int64_t to, int64_t dim)
{
    (void)s;
    const nearest_job job = {
        .dist2 = dist2, .rows = rows, .centres = centres, .from = from, .dim = dim, .owner = owner};
    return run_job("nearest_update_apart", &job, apart, n, to);
}
