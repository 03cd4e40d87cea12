/* The rows that are most like each row. */
#include "select/neighbours.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "select/cosine.h"
#include "select/resident.h"
#include "select/rows.h"

/* SPARE more than k are kept by their float products. Where that is not enough to be sure, a row is compared with all. */
enum { ROWS = 256, COLUMNS = 2048, SPARE = 32 };
enum {
    MANY_ROWS = 32 * ROWS
}; /* that look for their neighbours in one pass, where a pass uploads all rows */

typedef struct candidate {
    double like;
    int32_t row;
} candidate;

typedef struct search {
    const float *x;
    int64_t n, dim, k, most; /* most: candidates of a row */
    double *norms;           /* [n] */
    float *units;            /* [n][dim] on the CPU; another table gets them as they pass */
    float *asking;           /* [block][dim] unit rows that look for neighbours, where all are streamed */
    float *products;         /* [ROWS][COLUMNS] */
    device_rows d_units;
    resident d_asking, d_products;
    int64_t block, first, m; /* rows first .. first + m - 1 look for neighbours, block at most */
    candidate *found;        /* [block][most]: min-heaps while they are gathered */
    candidate *all;          /* [n] of one row that is compared with all */
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

static void fill_units(const void *context, int64_t first, int64_t n, void *to)
{
    const search *s = context;
#pragma omp parallel for schedule(static)
    for (int64_t i = first; i < first + n; i++)
        cosine_unit(s->x + i * s->dim, s->dim, s->norms[i], (float *)to + (i - first) * s->dim);
}

/* Products of the asking rows from `row` on, `m` of them, with rows at .. at + width - 1, kept in the heaps. */
static void keep(const search *s, int64_t row, int64_t m, int64_t at, int64_t width)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < m; i++) {
        candidate *heap = s->found + (row - s->first + i) * s->most;
        for (int64_t j = 0; j < width; j++) {
            const candidate c = {row + i == at + j ? 1 : (double)s->products[i * COLUMNS + j],
                                 (int32_t)(at + j)};
            if (at + j < s->most)
                heap_push(heap, at + j, c);
            else if (before(c, heap[0]))
                heap_replace_root(heap, s->most, c);
        }
    }
}

static sc_status visit_units(void *context, const float *units, int64_t first, int64_t n)
{
    sc_status status = SC_OK;
    search *s = context;
    const int64_t dim = s->dim;
    const float *asking = s->asking ? s->d_asking.device : s->d_units.all + s->first * dim;
    for (int64_t row = 0; row < s->m; row += ROWS) {
        const int64_t m = s->m - row < ROWS ? s->m - row : ROWS;
        for (int64_t at = 0; at < n; at += COLUMNS) {
            const int64_t width = n - at < COLUMNS ? n - at : COLUMNS;
            SC_TRY(s->d_units.ops->gemm(NULL, false, true, m, width, dim, 1, asking + row * dim, DTYPE_F32,
                                        dim, units + at * dim, DTYPE_F32, dim, 0, s->d_products.device,
                                        DTYPE_F32, COLUMNS));
            SC_TRY(resident_pull(&s->d_products));
            keep(s, s->first + row, m, first + at, width);
        }
    }
cleanup:
    return status;
}

/* The candidates of m rows from `first` on. */
static sc_status gather(search *s, int64_t first, int64_t m)
{
    sc_status status = SC_OK;
    s->first = first;
    s->m = m;
    if (s->asking) {
        fill_units(s, first, m, s->asking);
        SC_TRY(resident_push_part(&s->d_asking, 0, (size_t)(m * s->dim) * sizeof *s->asking));
    }
    SC_TRY(rows_pass(&s->d_units, visit_units, s));
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

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t neighbours_bytes(const ops *table, int64_t n, int64_t dim, int64_t k)
{
    const int64_t most = least(k + SPARE, n), block = least(MANY_ROWS, n);
    const int64_t units = table == cpu_ops() ? n * dim : block * dim;
    return n * (int64_t)(sizeof(double) + sizeof(candidate)) + units * (int64_t)sizeof(float) +
           ROWS * COLUMNS * (int64_t)sizeof(float) +
           (table == cpu_ops() ? ROWS : block) * most * (int64_t)sizeof(candidate);
}

int64_t neighbours_device_bytes(int64_t n, int64_t dim)
{
    return (least(MANY_ROWS, n) * dim + ROWS * COLUMNS) * (int64_t)sizeof(float);
}

static sc_status search_open(search *s, const ops *table)
{
    sc_status status = SC_OK;
    const size_t block = (size_t)ROWS * COLUMNS;
    const int64_t n = s->n, dim = s->dim;
    SC_TRY(sc_alloc(&s->norms, (size_t)n, sizeof *s->norms));
    SC_TRY(sc_alloc(&s->products, block, sizeof *s->products));
    SC_TRY(sc_alloc(&s->all, (size_t)n, sizeof *s->all));
    cosine_norms(s->x, n, dim, s->norms);
    if (table == cpu_ops()) {
        SC_TRY(sc_alloc(&s->units, (size_t)(n * dim), sizeof *s->units));
        fill_units(s, 0, n, s->units);
        SC_TRY(rows_open(table, s->units, n, dim, 0, &s->d_units));
    } else {
        const conveyor_source source = {fill_units, s, n};
        SC_TRY(rows_open_from(table, source, dim, (size_t)neighbours_device_bytes(n, dim), &s->d_units));
    }
    s->block = ROWS;
    if (rows_streamed(&s->d_units)) {
        s->block = least(MANY_ROWS, n);
        SC_TRY(sc_alloc(&s->asking, (size_t)(s->block * dim), sizeof *s->asking));
        SC_TRY(resident_open(table, s->asking, (size_t)(s->block * dim) * sizeof *s->asking, &s->d_asking));
    }
    SC_TRY(sc_alloc(&s->found, (size_t)(s->block * s->most), sizeof *s->found));
    SC_TRY(resident_open(table, s->products, block * sizeof *s->products, &s->d_products));
cleanup:
    return status;
}

static void search_close(search *s)
{
    rows_close(&s->d_units);
    resident_close(&s->d_asking);
    resident_close(&s->d_products);
    free(s->norms);
    free(s->units);
    free(s->asking);
    free(s->products);
    free(s->found);
    free(s->all);
}

sc_status neighbours_find(device *dev, const float *x, int64_t n, int64_t dim, int64_t k, int32_t *rows,
                          float *cosines)
{
    sc_status status = SC_OK;
    search s = {.x = x, .n = n, .dim = dim, .k = k, .most = least(k + SPARE, n)};
    bool sure[MANY_ROWS];
    progress *p = progress_begin("select: neighbours", "rows", n);
    SC_TRY(search_open(&s, dev->ops));
    for (int64_t first = 0; first < n; first += s.block) {
        const int64_t m = least(n - first, s.block);
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
    search_close(&s);
    return status;
}
