/* als: the half-step of alternating least squares. With the others' factors Y fixed, one entity's are
 *
 *     x = (Y'Y + lambda I + sum over its own of c y y')^-1  sum over its own of (1 + c) y,
 *
 * where only its own rows are visited (Hu, Koren and Volinsky 2008, section 4).
 *
 * S = L L' is kept as U = L', the upper triangle of [f][pitch] doubles, and the right side as column f beside it: a
 * product of rows then runs along rows of memory, and the factorisation leaves L^-1 b where b was. Tiles of 4 x 8 are
 * read once for CHUNK products. Every entry is summed in ascending order, whatever the tiles and the threads. */
#include <math.h>
#include <stdlib.h>

#include "device/cpu/cpu.h"
#include "device/cpu/double.h"
#include "device/cpu/rows.h"

enum { DOWN = 4, ACROSS = 8, CHUNK = 16, BAND = 32, WIDEST = ALS_FACTORS + ACROSS };

static int64_t rows_of(int64_t f)
{
    return (f + DOWN - 1) / DOWN * DOWN;
}

/* f columns and the right side, made whole. */
static int64_t pitch_of(int64_t f)
{
    return (f + ACROSS) / ACROSS * ACROSS;
}

/* Only the upper triangle counts: the tile's first row and column of the first tile of these rows. */
static int64_t first_column(int64_t row)
{
    return row / ACROSS * ACROSS;
}

/* out [DOWN][ACROSS] += sign * sum over q < depth of down[q] across[q]', one after the other. */
static inline __attribute__((always_inline)) void
add_tile(double *out, int64_t pitch, const double *down, const double *across, int64_t depth, const int sign)
{
    double4 sums[DOWN][2];
#pragma GCC unroll 4
    for (int i = 0; i < DOWN; i++) {
        sums[i][0] = load4(out + i * pitch);
        sums[i][1] = load4(out + i * pitch + 4);
    }
    for (int64_t q = 0; q < depth; q++) {
        const double4 left = load4(across + q * pitch), right = load4(across + q * pitch + 4);
#pragma GCC unroll 4
        for (int i = 0; i < DOWN; i++) {
            const double scale = sign * down[q * pitch + i];
            sums[i][0] += scale * left;
            sums[i][1] += scale * right;
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < DOWN; i++) {
        *(double4_loose *)(out + i * pitch) = sums[i][0];
        *(double4_loose *)(out + i * pitch + 4) = sums[i][1];
    }
}

/* Rows first .. last - 1 of the upper triangle of out += down' across, both [depth][pitch]. */
static void add_products(double *out, int64_t pitch, int64_t first, int64_t last, int64_t columns,
                         const double *down, const double *across, int64_t depth)
{
    for (int64_t i = first; i < last; i += DOWN)
        for (int64_t j = first_column(i); j < columns; j += ACROSS)
            add_tile(out + i * pitch + j, pitch, down + i, across + j, depth, 1);
}

static sc_status check(const char *op, int64_t n, int64_t f)
{
    return n >= 0 && f >= 1 && f <= ALS_FACTORS
               ? SC_OK
               : sc_fail(SC_INTERNAL, "%s: impossible shape: %lld rows of %lld factors", op, (long long)n,
                         (long long)f);
}

/* --- als_gram ---------------------------------------------------------------------------------------------- */

size_t cpu_als_gram_workspace(int64_t n, int64_t f)
{
    return sizeof(double) * (size_t)(als_runs(n) * rows_of(f) * pitch_of(f));
}

/* Rows first .. last - 1 of the matrix of n rows of y. */
static void gram_band(double *out, const float *y, int64_t n, int64_t f, int64_t first, int64_t last)
{
    const int64_t pitch = pitch_of(f);
    double rows[CHUNK * WIDEST];
    memset(rows, 0, sizeof(double) * (size_t)(CHUNK * pitch));
    memset(out + first * pitch, 0, sizeof(double) * (size_t)((last - first) * pitch));
    for (int64_t at = 0; at < n; at += CHUNK) {
        const int64_t depth = n - at < CHUNK ? n - at : CHUNK;
        for (int64_t q = 0; q < depth; q++)
            for (int64_t d = first; d < f; d++)
                rows[q * pitch + d] = (double)y[(at + q) * f + d];
        add_products(out, pitch, first, last, f, rows, rows, depth);
    }
}

sc_status cpu_als_gram(stream *s, double *gram, const float *y, int64_t n, int64_t f, double lambda,
                       void *workspace)
{
    (void)s;
    sc_status status = check("als_gram", n, f);
    if (status != SC_OK)
        return status;
    double *sums = workspace;
    const int64_t rows = rows_of(f), pitch = pitch_of(f), each = rows * pitch;
    const int64_t run = als_run(n), runs = als_runs(n), bands = (rows + BAND - 1) / BAND;
    memset(gram, 0, sizeof *gram * (size_t)(f * f));
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(n *f *f, runs *bands))
    for (int64_t task = 0; task < runs * bands; task++) {
        const int64_t at = task / bands * run, band = task % bands * BAND;
        gram_band(sums + task / bands * each, y + at * f, n - at < run ? n - at : run, f, band,
                  rows - band < BAND ? rows : band + BAND);
    }
#pragma omp parallel for schedule(static) num_threads(cpu_team(runs *f *f, f))
    for (int64_t i = 0; i < f; i++)
        for (int64_t r = 0; r < runs; r++)
            for (int64_t j = i; j < f; j++)
                gram[i * f + j] += sums[r * each + i * pitch + j];
    for (int64_t i = 0; i < f; i++) {
        gram[i * f + i] += lambda;
        for (int64_t j = 0; j < i; j++)
            gram[i * f + j] = gram[j * f + i];
    }
    return SC_OK;
}

/* --- als_solve --------------------------------------------------------------------------------------------- */

/* What one thread works with. */
typedef struct scratch {
    double *u;               /* [rows_of(f)][pitch] */
    double *plain, *weighed; /* [CHUNK][pitch] rows of y, and c y with 1 + c in column f */
} scratch;

typedef struct equations {
    const float *y;
    const double *gram;
    int64_t f, pitch;
    double confidence;
} equations;

/* u = G + sum of c y y', column f the sum of (1 + c) y */
static void assemble(const equations *t, const scratch *w, const int32_t *others, int64_t n)
{
    const int64_t f = t->f, pitch = t->pitch;
    memset(w->u, 0, sizeof(double) * (size_t)(rows_of(f) * pitch));
    for (int64_t i = 0; i < f; i++)
        memcpy(w->u + i * pitch + i, t->gram + i * f + i, sizeof(double) * (size_t)(f - i));
    for (int64_t at = 0; at < n; at += CHUNK) {
        const int64_t depth = n - at < CHUNK ? n - at : CHUNK;
        for (int64_t q = 0; q < depth; q++) {
            const float *y = t->y + (int64_t)others[at + q] * f;
            for (int64_t d = 0; d < f; d++) {
                w->plain[q * pitch + d] = (double)y[d];
                w->weighed[q * pitch + d] = t->confidence * (double)y[d];
            }
        }
        add_products(w->u, pitch, 0, f, f + 1, w->plain, w->weighed, depth);
    }
}

/* U' U = S in place, and column f becomes U'^-1 b: DOWN rows at a time, which first give what the rows above take. */
static void factorise(double *u, int64_t f, int64_t pitch)
{
    for (int64_t at = 0; at < f; at += DOWN) {
        for (int64_t j = first_column(at); j <= f; j += ACROSS)
            add_tile(u + at * pitch + j, pitch, u + at, u + j, at, -1);
        for (int64_t i = at; i < f && i < at + DOWN; i++) {
            double *row = u + i * pitch;
            for (int64_t q = at; q < i; q++) {
                const double *above = u + q * pitch, scale = above[i];
#pragma omp simd
                for (int64_t j = i; j <= f; j++)
                    row[j] -= scale * above[j];
            }
            const double root = sqrt(row[i]);
            row[i] = root;
#pragma omp simd
            for (int64_t j = i + 1; j <= f; j++)
                row[j] /= root;
        }
    }
}

/* x = U^-1 of column f, the last unknown first. */
static void substitute(const double *u, int64_t f, int64_t pitch, float *x)
{
    double b[ALS_FACTORS];
    for (int64_t i = 0; i < f; i++)
        b[i] = u[i * pitch + f];
    for (int64_t q = f; q-- > 0;) {
        const double value = b[q] / u[q * pitch + q];
        x[q] = (float)value;
        for (int64_t i = 0; i < q; i++)
            b[i] -= u[i * pitch + q] * value;
    }
}

size_t cpu_als_solve_workspace(int64_t n, int64_t f)
{
    (void)n, (void)f;
    return 0;
}

sc_status cpu_als_solve(stream *s, float *x, const float *y, const double *gram, const int64_t *offsets,
                        const int32_t *others, int64_t n, int64_t f, double confidence, void *workspace)
{
    (void)s, (void)workspace;
    sc_status status = check("als_solve", n, f);
    if (status != SC_OK)
        return status;
    const equations all = {y, gram, f, pitch_of(f), confidence};
    const int64_t pitch = all.pitch, rows = rows_of(f);
    bool failed = false;
#pragma omp parallel num_threads(cpu_team(n *f *f *f, n))
    {
        double *memory = calloc((size_t)((rows + 2 * CHUNK) * pitch), sizeof *memory);
        const scratch own = {memory, memory + rows * pitch, memory + (rows + CHUNK) * pitch};
        if (!memory) {
#pragma omp atomic write
            failed = true;
        }
        for (int64_t q = 0; memory && q < CHUNK; q++)
            own.weighed[q * pitch + f] = 1 + confidence;
#pragma omp for schedule(dynamic, 16)
        for (int64_t i = 0; i < n; i++)
            if (memory && offsets[i] < offsets[i + 1]) {
                assemble(&all, &own, others + offsets[i], offsets[i + 1] - offsets[i]);
                factorise(own.u, f, pitch);
                substitute(own.u, f, pitch, x + i * f);
            }
        free(memory);
    }
    return failed ? sc_fail(SC_MEMORY, "out of memory for factors of %lld", (long long)f) : SC_OK;
}
