/* design_pool: picks inside a pool of rows, the greedy D-optimal recursion in double.
 *
 * With A = S^-1 when the block begins, u = A x - sum over the block's picks of (w.x) w and
 * w = u / sqrt(1 + x.u), every gain falls by (w.x_q)^2 (Sherman and Morrison 1950). A gain that came from the
 * flush is known within its slack only, so a row is chosen once A x has been computed for it and for every
 * row that could beat it; these are few, and are computed several at a time, for A is what has to be read. */
#include "device/cpu/cpu.h"
#include "device/cpu/double.h"
#include "device/cpu/rows.h"

#include <float.h>
#include <stdlib.h>

enum { FIRST_EVALUATED = 32, EVALUATED = 8, CHUNK = 32 };

/* A pick is right if its gain is within 1e-10 of the best, and the lowest row of equals. Half of that is left to
 * rounding, half to bounds from outside: equal rows must not keep each other from being chosen. */
static const double TRUSTED = 5e-11;

static double dot_mixed(const float *x, const double *w, int64_t dim)
{
    double4 sums[4];
    memset(sums, 0, sizeof sums);
    int64_t d = 0;
    for (; d + 16 <= dim; d += 16)
        for (int v = 0; v < 4; v++) {
            const float *from = x + d + 4 * v;
            sums[v] += (double4){from[0], from[1], from[2], from[3]} * load4(w + d + 4 * v);
        }
    double total = sum4((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; d < dim; d++)
        total += (double)x[d] * w[d];
    return total;
}

/* What the caller's workspace holds. */
typedef struct pool_work {
    design_pool *p;
    double *u;          /* [m][dim] A x of the rows evaluated */
    double *x64, *u64;  /* [FIRST_EVALUATED][dim] those being evaluated */
    double *y;          /* [most][m] w.x of every pick and row */
    double *start;      /* [m] gains when the block began */
    uint8_t *evaluated; /* [m] */
} pool_work;

static double bound(const design_pool *p, int64_t place)
{
    return p->gains[place] + p->slack[place];
}

/* The place with the highest bound, the lowest row of several. Rows ascend with places. */
static int64_t highest(const design_pool *p)
{
    int64_t best = 0;
    for (int64_t q = 1; q < p->m; q++)
        if (bound(p, q) > bound(p, best))
            best = q;
    return best;
}

/* The places with the highest bounds among those not yet evaluated, at most `most`. */
static int64_t contenders(const pool_work *k, int64_t most, int64_t *places)
{
    const design_pool *p = k->p;
    int64_t n = 0;
    for (int64_t q = 0; q < p->m; q++) {
        if (k->evaluated[q] || p->gains[q] == -INFINITY)
            continue;
        int64_t at = n;
        if (n == most && bound(p, q) <= bound(p, places[n - 1]))
            continue;
        if (n < most)
            n++;
        else
            at = n - 1;
        for (; at > 0 && bound(p, places[at - 1]) < bound(p, q); at--)
            places[at] = places[at - 1];
        places[at] = q;
    }
    return n;
}

/* u = A x of the places, and their gains: x.u less what the block's picks took. */
static void evaluate(pool_work *k, const int64_t *places, int64_t n)
{
    design_pool *p = k->p;
    const int64_t dim = p->dim;
    double *xs = k->x64, *us = k->u64;
    for (int64_t i = 0; i < n; i++)
        for (int64_t d = 0; d < dim; d++)
            xs[i * dim + d] = (double)p->x[places[i] * dim + d];
    const int64_t chunks = (dim + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *dim *dim, chunks))
    for (int64_t c = 0; c < chunks; c++) {
        const int64_t first = c * CHUNK, rows = dim - first < CHUNK ? dim - first : CHUNK;
        int64_t i = 0;
        for (; i + TILE_A <= n; i += TILE_A)
            dots64_rows(TILE_A, rows, dim, xs + i * dim, dim, p->a + first * dim, dim, us + i * dim + first,
                        dim);
        for (; i < n; i++)
            dots64_rows(1, rows, dim, xs + i * dim, dim, p->a + first * dim, dim, us + i * dim + first, dim);
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t q = places[i];
        memcpy(k->u + q * dim, us + i * dim, (size_t)dim * sizeof(double));
        k->start[q] = dot_mixed(p->x + q * dim, us + i * dim, dim);
        double gain = k->start[q];
        for (int64_t l = 0; l < p->n; l++)
            gain -= k->y[l * p->m + q] * k->y[l * p->m + q];
        p->gains[q] = gain;
        p->slack[q] = 0;
        k->evaluated[q] = 1;
    }
    p->n_evaluated += n;
}

/* Rounding can move the gain by this much: of x.u and A, and of what was taken from the block's start. */
static double rounding(const pool_work *k, int64_t q)
{
    const design_pool *p = k->p;
    return p->a_error * p->norms[q] * p->norms[q] + 16 * DBL_EPSILON * k->start[q];
}

/* Takes place q out, and with it the places of every group that is full now. */
static void close_places(design_pool *p, int64_t q)
{
    p->gains[q] = -INFINITY;
    if (!p->group_offsets)
        return;
    for (int64_t at = p->group_offsets[q]; at < p->group_offsets[q + 1]; at++) {
        const int32_t group = p->groups[at];
        if (--p->left[group] > 0)
            continue;
        for (int64_t i = 0; i < p->m; i++)
            for (int64_t other = p->group_offsets[i]; other < p->group_offsets[i + 1]; other++)
                if (p->groups[other] == group)
                    p->gains[i] = -INFINITY;
    }
}

static void choose(pool_work *k, int64_t q)
{
    design_pool *p = k->p;
    const int64_t dim = p->dim, m = p->m, n = p->n;
    const double gain = p->gains[q];
    double *w = p->w + n * dim, *y = k->y + n * m;
    memcpy(w, k->u + q * dim, (size_t)dim * sizeof *w);
    for (int64_t d = 0; d < dim; d += 16)
        combine16(w + d, dim - d < 16 ? dim - d : 16, k->y + q, m, p->w + d, dim, n, -1);
    const double scale = 1 / sqrt(1 + gain);
    for (int64_t d = 0; d < dim; d++)
        w[d] *= scale;
    p->picks[n] = q;
    p->found[n] = gain;
#pragma omp parallel for schedule(static) num_threads(cpu_team(m *dim, m))
    for (int64_t i = 0; i < m; i++) {
        y[i] = dot_mixed(p->x + i * dim, w, dim);
        p->gains[i] -= y[i] * y[i];
    }
    close_places(p, q);
    p->n++;
}

static void pick_all(pool_work *k)
{
    design_pool *p = k->p;
    int64_t places[FIRST_EVALUATED];
    while (p->n < p->most) {
        const int64_t q = highest(p);
        if (p->gains[q] == -INFINITY) {
            p->stop = DESIGN_EMPTY;
            return;
        }
        if (!k->evaluated[q]) {
            evaluate(k, places, contenders(k, p->n_evaluated == 0 ? FIRST_EVALUATED : EVALUATED, places));
            continue;
        }
        if (!(rounding(k, q) <= TRUSTED * p->gains[q])) {
            p->stop = DESIGN_UNSURE;
            return;
        }
        if (!(p->gains[q] > p->tau || (p->gains[q] >= p->tau * (1 - TRUSTED) && p->rows[q] < p->tau_row))) {
            p->stop = DESIGN_BEATEN;
            return;
        }
        choose(k, q);
    }
    p->stop = DESIGN_FULL;
}

sc_status cpu_design_pool(stream *s, design_pool *p, void *workspace)
{
    (void)s;
    if (p->m <= 0 || p->dim <= 0 || p->most <= 0)
        return sc_fail(SC_INTERNAL, "design_pool: impossible shape: %lld rows of %lld, %lld picks",
                       (long long)p->m, (long long)p->dim, (long long)p->most);
    pool_work k = {.p = p, .u = workspace};
    k.x64 = k.u + p->m * p->dim;
    k.u64 = k.x64 + FIRST_EVALUATED * p->dim;
    k.y = k.u64 + FIRST_EVALUATED * p->dim;
    k.start = k.y + p->most * p->m;
    k.evaluated = (uint8_t *)(k.start + p->m);
    memset(k.evaluated, 0, (size_t)p->m);
    p->n = p->n_evaluated = 0;
    pick_all(&k);
    for (int64_t q = 0; q < p->m; q++)
        if (k.evaluated[q])
            p->slack[q] = rounding(&k, q);
    return SC_OK;
}

size_t cpu_design_pool_workspace(int64_t m, int64_t dim, int64_t most)
{
    return sizeof(double) * (size_t)((m + 2 * FIRST_EVALUATED) * dim + most * m + m) + (size_t)m;
}
