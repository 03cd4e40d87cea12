/* factor: symmetric matrices in double: updates, Cholesky's factor, and the inverse out of it. Sums run in a
 * fixed order, whatever the number of threads; LAPACK's do not. */
#include "device/cpu/cpu.h"
#include "device/cpu/double.h"
#include "device/cpu/rows.h"

enum { COLUMNS = 16, PANEL = 32 };

static sc_status check_dim(const char *name, int64_t dim)
{
    return dim > 0
               ? SC_OK
               : sc_fail(SC_INTERNAL, "%s: impossible shape: a matrix of %lld rows", name, (long long)dim);
}

sc_status cpu_rank_update(stream *s, double *a, const double *w, int64_t dim, int64_t b, double sign)
{
    (void)s;
    sc_status status = check_dim("rank_update", dim);
    if (status != SC_OK)
        return status;
    /* Some columns of w stay in the first cache while some rows of a pass. */
    const int64_t blocks = (dim + PANEL - 1) / PANEL;
#pragma omp parallel for schedule(static) num_threads(cpu_team(dim *dim *b, blocks))
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t first = block * PANEL, end = dim - first < PANEL ? dim : first + PANEL;
        for (int64_t strip = 0; strip < dim; strip += PANEL)
            for (int64_t i = first; i < end; i++)
                for (int64_t j = strip; j < strip + PANEL && j < dim; j += COLUMNS)
                    combine16(a + i * dim + j, dim - j < COLUMNS ? dim - j : COLUMNS, w + i, dim, w + j, dim,
                              b, sign);
    }
    return SC_OK;
}

/* The diagonal block [PANEL] at `at`, of which everything to the left has been taken. */
static bool factor_diagonal(double *l, int64_t dim, int64_t at, int64_t width)
{
    for (int64_t j = at; j < at + width; j++) {
        double pivot = l[j * dim + j];
        for (int64_t q = at; q < j; q++)
            pivot -= l[j * dim + q] * l[j * dim + q];
        if (!(pivot > 0))
            return false;
        l[j * dim + j] = sqrt(pivot);
        for (int64_t i = j + 1; i < at + width; i++) {
            double value = l[i * dim + j];
            for (int64_t q = at; q < j; q++)
                value -= l[i * dim + q] * l[j * dim + q];
            l[i * dim + j] = value / l[j * dim + j];
        }
    }
    return true;
}

/* Left-looking by panels (Golub and Van Loan 2013, 4.2): L L' = A, L in the lower triangle, zeros above it. */
sc_status cpu_cholesky(stream *s, double *l, const double *a, int64_t dim, bool *definite)
{
    (void)s;
    sc_status status = check_dim("cholesky", dim);
    if (status != SC_OK)
        return status;
    *definite = true;
    for (int64_t i = 0; i < dim; i++)
        for (int64_t j = 0; j < dim; j++)
            l[i * dim + j] = j <= i ? a[i * dim + j] : 0;
    for (int64_t at = 0; at < dim && *definite; at += PANEL) {
        const int64_t width = dim - at < PANEL ? dim - at : PANEL;
#pragma omp parallel for schedule(static) num_threads(cpu_team((dim - at) * at * width, dim - at))
        for (int64_t i = at; i < dim; i++) {
            double taken[PANEL];
            dots64_rows(1, width, at, l + i * dim, dim, l + at * dim, dim, taken, PANEL);
            for (int64_t j = 0; j < width && at + j <= i; j++)
                l[i * dim + at + j] -= taken[j];
        }
        *definite = factor_diagonal(l, dim, at, width);
        if (!*definite)
            break;
#pragma omp parallel for schedule(static) num_threads(cpu_team((dim - at) * width * width, dim - at))
        for (int64_t i = at + width; i < dim; i++)
            for (int64_t j = at; j < at + width; j++) {
                double value = l[i * dim + j];
                for (int64_t q = at; q < j; q++)
                    value -= l[i * dim + q] * l[j * dim + q];
                l[i * dim + j] = value / l[j * dim + j];
            }
    }
    return SC_OK;
}

/* A^-1 = M' M with M = L^-1, whose rows follow one from the other; columns are independent. */
sc_status cpu_cholesky_inverse(stream *s, double *inverse, const double *l, int64_t dim, void *workspace)
{
    (void)s;
    double *m = workspace;
    sc_status status = check_dim("cholesky_inverse", dim);
    if (status != SC_OK)
        return status;
    const int64_t blocks = (dim + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(dim *dim *dim, blocks))
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t j = block * COLUMNS, width = dim - j < COLUMNS ? dim - j : COLUMNS;
        for (int64_t i = 0; i < dim; i++) {
            double *row = m + i * dim + j;
            memset(row, 0, (size_t)width * sizeof *row);
            if (i < j)
                continue;
            if (i < j + width)
                row[i - j] = 1;
            combine16(row, width, l + i * dim + j, 1, m + j * dim + j, dim, i - j, -1);
            for (int64_t c = 0; c < width; c++)
                row[c] /= l[i * dim + i];
        }
    }
    memset(inverse, 0, (size_t)(dim * dim) * sizeof *inverse);
#pragma omp parallel for schedule(dynamic, 8) num_threads(cpu_team(dim *dim *dim, dim))
    for (int64_t i = 0; i < dim; i++)
        for (int64_t j = 0; j < dim; j += COLUMNS) {
            /* rows before max(i, j) hold zeros in one of the two columns */
            const int64_t first = i > j ? i : j;
            combine16(inverse + i * dim + j, dim - j < COLUMNS ? dim - j : COLUMNS, m + first * dim + i, dim,
                      m + first * dim + j, dim, dim - first, 1);
        }
    return SC_OK;
}

size_t cpu_cholesky_inverse_workspace(int64_t dim)
{
    return sizeof(double) * (size_t)dim * (size_t)dim;
}
