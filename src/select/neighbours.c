/* The rows that are most like each row. */
#include "select/neighbours.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "select/cosine.h"
#include "select/resident.h"

/* SPARE more than k are kept by their float products. Where that is not enough to be sure, a row is compared with all. */
enum { ROWS = 256, COLUMNS = 2048, SPARE = 32 };

typedef struct candidate {
    double like;
    int32_t row;
} candidate;

typedef struct search {
    const float *x;
    int64_t n, dim, k, most; /* most: candidates of a row */
    double *norms;           /* [n] */
    float *units, *products; /* [n][dim], [ROWS][COLUMNS] */
    resident d_units, d_products;
    candidate *found; /* [ROWS][most]: min-heaps while they are gathered */
    candidate *all;   /* [n] of one row that is compared with all */
} search;

/* More like, then the lower row. */
static bool before(candidate a, candidate b)
{
    return a.like > b.like || (a.like == b.like && a.row < b.row);
}

static int by_likeness(const void *a, const void *b)
{
    const candidate x = *(const candidate *)a, y = *(const candidate *)b;
    return before(x, y) ? -1 : before(y, x);
}

/* heap [n] keeps the best; its root is the worst of them. */
static void heap_replace_root(candidate *heap, int64_t n, candidate c)
{
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && before(heap[child], heap[child + 1]))
            child++;
        if (!before(c, heap[child]))
            break;
        heap[at] = heap[child];
    }
    heap[at] = c;
}

static void heap_push(candidate *heap, int64_t n, candidate c)
{
    int64_t at = n;
    for (; at > 0 && before(heap[(at - 1) / 2], c); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = c;
}

static double like(const search *s, int64_t a, int64_t b)
{
    if (a == b)
        return 1;
    const double cosine =
        cosine_exact(s->x + a * s->dim, s->norms[a], s->x + b * s->dim, s->norms[b], s->dim);
    return cosine < 1 ? cosine : 1; /* equal rows are as like as a row and itself */
}

/* Products of rows first .. first + m - 1 with all, kept in the heaps. */
static sc_status gather(search *s, int64_t first, int64_t m)
{
    sc_status status = SC_OK;
    float *units = s->d_units.device;
    for (int64_t at = 0; at < s->n; at += COLUMNS) {
        const int64_t width = s->n - at < COLUMNS ? s->n - at : COLUMNS;
        SC_TRY(s->d_units.ops->gemm(NULL, false, true, m, width, s->dim, 1, units + first * s->dim, DTYPE_F32,
                                    s->dim, units + at * s->dim, DTYPE_F32, s->dim, 0, s->d_products.device,
                                    DTYPE_F32, COLUMNS));
        SC_TRY(resident_pull(&s->d_products));
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < m; i++) {
            candidate *heap = s->found + i * s->most;
            for (int64_t j = 0; j < width; j++) {
                const candidate c = {first + i == at + j ? 1 : (double)s->products[i * COLUMNS + j],
                                     (int32_t)(at + j)};
                if (at + j < s->most)
                    heap_push(heap, at + j, c);
                else if (before(c, heap[0]))
                    heap_replace_root(heap, s->most, c);
            }
        }
    }
cleanup:
    return status;
}

/* The candidates [most] of a row by their cosines; false if one that was not kept could be among the best k. */
static bool settle(const search *s, int64_t row, candidate *found)
{
    const double floor = found[0].like; /* of what was not kept, by its product */
    for (int64_t q = 0; q < s->most; q++)
        found[q].like = like(s, row, found[q].row);
    qsort(found, (size_t)s->most, sizeof *found, by_likeness);
    return s->most == s->n || found[s->k - 1].like > floor + cosine_error(s->dim);
}

static void compare_with_all(const search *s, int64_t row, candidate *found)
{
    for (int64_t j = 0; j < s->n; j++)
        s->all[j] = (candidate){like(s, row, j), (int32_t)j};
    qsort(s->all, (size_t)s->n, sizeof *s->all, by_likeness);
    for (int64_t q = 0; q < s->k; q++)
        found[q] = s->all[q];
}

int64_t neighbours_bytes(int64_t n, int64_t dim, int64_t k)
{
    const int64_t most = k + SPARE < n ? k + SPARE : n;
    return n * (int64_t)(sizeof(double) + sizeof(candidate)) + n * dim * (int64_t)sizeof(float) +
           ROWS * (COLUMNS * (int64_t)sizeof(float) + most * (int64_t)sizeof(candidate));
}

sc_status neighbours_find(device *dev, const float *x, int64_t n, int64_t dim, int64_t k, int32_t *rows,
                          float *cosines)
{
    sc_status status = SC_OK;
    const size_t cells = (size_t)n * (size_t)dim, block = (size_t)ROWS * COLUMNS;
    search s = {.x = x, .n = n, .dim = dim, .k = k, .most = k + SPARE < n ? k + SPARE : n};
    bool sure[ROWS];
    progress *p = progress_begin("select: neighbours", "rows", n);
    SC_TRY(sc_alloc(&s.norms, (size_t)n, sizeof *s.norms));
    SC_TRY(sc_alloc(&s.units, cells, sizeof *s.units));
    SC_TRY(sc_alloc(&s.products, block, sizeof *s.products));
    SC_TRY(sc_alloc(&s.found, ROWS * (size_t)s.most, sizeof *s.found));
    SC_TRY(sc_alloc(&s.all, (size_t)n, sizeof *s.all));
    cosine_norms(x, n, dim, s.norms);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        cosine_unit(x + i * dim, dim, s.norms[i], s.units + i * dim);
    SC_TRY(resident_open(dev->ops, s.units, cells * sizeof *s.units, &s.d_units));
    SC_TRY(resident_open(dev->ops, s.products, block * sizeof *s.products, &s.d_products));
    for (int64_t first = 0; first < n; first += ROWS) {
        const int64_t m = n - first < ROWS ? n - first : ROWS;
        SC_TRY(check_cancelled());
        SC_TRY(gather(&s, first, m));
#pragma omp parallel for schedule(dynamic, 8)
        for (int64_t i = 0; i < m; i++)
            sure[i] = settle(&s, first + i, s.found + i * s.most);
        for (int64_t i = 0; i < m; i++) {
            candidate *found = s.found + i * s.most;
            if (!sure[i])
                compare_with_all(&s, first + i, found);
            for (int64_t q = 0; q < k; q++) {
                rows[(first + i) * k + q] = found[q].row;
                cosines[(first + i) * k + q] = (float)found[q].like;
            }
        }
        progress_add(p, m);
    }
cleanup:
    progress_end(p);
    resident_close(&s.d_units);
    resident_close(&s.d_products);
    free(s.norms);
    free(s.units);
    free(s.products);
    free(s.found);
    free(s.all);
    return status;
}
