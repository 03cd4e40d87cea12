/* kcenter: the row that lies farthest from everything chosen (Gonzalez 1985), a cover whose radius is at most
 * twice the best one's. The first pick is the row nearest to the mean of all.
 *
 * A row's distance to the nearest pick never grows, so an old one is a bound. Each round brings the M rows with
 * the highest bounds up to date, with the picks made since each was last looked at, and picks among them as long
 * as the best surely beats every bound outside. Most rows are looked at a few times, not at every pick.
 *
 * A row looks only at centres that lie less than twice as far from its nearest one as it does itself: by the triangle
 * no other can be nearer (Elkan 2003). How far centres lie apart, at least, one product a round tells. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "select/conveyor.h"
#include "select/estimate.h"
#include "select/order.h"
#include "select/resident.h"
#include "select/strategy.h"

enum { POOL = 1024, APART = 64 /* centres whose distances are found at a time */ };
static const int64_t MOST_APART = 8192; /* centres: 134 MB of distances */

typedef struct cover {
    const selection_task *task;
    const ops *ops;
    double *mean;               /* [dim] */
    double *dist2;              /* [n] to the nearest of the first seen[i] centres; -infinity: closed */
    int32_t *seen;              /* [n] */
    int32_t *order;             /* [n] */
    int64_t n_picks, n_centres; /* centres: rows given, and picks */
    /* the centres, and the pool, as nearest_update wants them */
    float *c, *c_centred, *x, *x_centred; /* [given + budget][dim] twice, [POOL][dim] twice */
    double *c_norms, *x_norms, *pool_dist2;
    int32_t *from, *owner, *pool_owner; /* [POOL], [n] the nearest centre so far, [POOL] */
    /* distances between the first n_apart centres, at least; NULL where there are too many, or no operation for it */
    float *apart, *products; /* products [APART][given + budget] */
    int64_t n_apart, capacity;
    resident d_apart, d_products, d_owner;
    resident d_c, d_c_centred, d_c_norms, d_x, d_x_centred, d_x_norms, d_dist2, d_from;
} cover;

static double bound(const void *context, int64_t i)
{
    return ((const cover *)context)->dist2[i];
}

/* Row i at `place` of three arrays: as it is, less the mean, and its length then. */
static void put_row(const cover *k, int64_t i, float *x, float *moved, double *norms, int64_t place)
{
    const int64_t dim = k->task->dim;
    const float *row = k->task->x + i * dim;
    double sum = 0;
    for (int64_t d = 0; d < dim; d++) {
        const float v = (float)((double)row[d] - k->mean[d]);
        x[place * dim + d] = row[d];
        moved[place * dim + d] = v;
        sum += (double)v * (double)v;
    }
    norms[place] = sqrt(sum);
}

/* Distances count to this row, too, from now on. */
static sc_status add_centre(cover *k, int64_t row)
{
    sc_status status = SC_OK;
    const size_t bytes = (size_t)k->task->dim * sizeof(float), place = (size_t)k->n_centres;
    put_row(k, row, k->c, k->c_centred, k->c_norms, k->n_centres);
    k->n_centres++;
    SC_TRY(resident_push_part(&k->d_c, place * bytes, bytes));
    SC_TRY(resident_push_part(&k->d_c_centred, place * bytes, bytes));
    SC_TRY(resident_push_part(&k->d_c_norms, place * sizeof(double), sizeof(double)));
cleanup:
    return status;
}

static sc_status choose(cover *k, int64_t row, selection_pick *picks)
{
    const limits *l = k->task->limits;
    const double distance = k->n_centres > 0 ? sqrt(k->dist2[row]) : 0;
    picks[k->n_picks++] =
        (selection_pick){.row = row, .score = distance, .gain = distance, .objective = distance};
    limits_take(k->task->limits, row);
    for (int64_t i = 0; i < l->n_just_closed; i++)
        k->dist2[l->just_closed[i]] = -INFINITY;
    return add_centre(k, row);
}

/* How far the centres from n_apart on lie from those before them, at least. A product in float is off by gamma |a||b|,
 * each side by a rounding, from when the mean was taken off. */
static sc_status measure_apart(cover *k)
{
    sc_status status = SC_OK;
    const int64_t dim = k->task->dim;
    const double gamma = ((double)dim + 32) * 0x1p-24;
    while (k->apart && k->n_apart < k->n_centres) {
        const int64_t first = k->n_apart, left = k->n_centres - first, m = left < APART ? left : APART;
        const float *rows = (const float *)k->d_c_centred.device;
        SC_TRY(k->ops->gemm(NULL, false, true, m, first + m, dim, 1, rows + first * dim, DTYPE_F32, dim, rows,
                            DTYPE_F32, dim, 0, k->d_products.device, DTYPE_F32, k->capacity));
        SC_TRY(resident_pull(&k->d_products));
        for (int64_t b = first; b < first + m; b++)
            for (int64_t a = 0; a < b; a++) {
                const double na = k->c_norms[a], nb = k->c_norms[b], both = na * na + nb * nb;
                const double product = (double)k->products[(b - first) * k->capacity + a];
                const double d2 = both - 2 * product - 2 * gamma * (na * nb + both);
                k->apart[a * (2 * k->capacity - a - 1) / 2 + b - a - 1] =
                    d2 > 0 && d2 < 1e30 ? (float)(sqrt(d2) * (1 - 1e-6)) : 0;
            }
        k->n_apart += m;
    }
    if (k->apart)
        SC_TRY(resident_push(&k->d_apart));
cleanup:
    return status;
}

/* Brings the pool's m rows, listed in order, up to date with all picks. */
static sc_status update(cover *k, int64_t m)
{
    sc_status status = SC_OK;
    for (int64_t q = 0; q < m; q++) {
        k->pool_dist2[q] = k->dist2[k->order[q]];
        k->pool_owner[q] = k->owner[k->order[q]];
        k->from[q] = k->seen[k->order[q]];
    }
    SC_TRY(resident_push(&k->d_dist2));
    SC_TRY(resident_push(&k->d_from));
    const nearest_rows rows = {k->d_x.device, k->d_x_centred.device, k->d_x_norms.device};
    const nearest_rows centres = {k->d_c.device, k->d_c_centred.device, k->d_c_norms.device};
    if (k->apart) {
        const centres_apart apart = {k->d_apart.device, k->capacity, k->n_apart};
        SC_TRY(resident_push(&k->d_owner));
        SC_TRY(k->ops->nearest_update_apart(NULL, k->d_dist2.device, k->d_owner.device, &rows, m, &centres,
                                            &apart, k->d_from.device, k->n_centres, k->task->dim));
        SC_TRY(resident_pull(&k->d_owner));
    } else {
        SC_TRY(k->ops->nearest_update(NULL, k->d_dist2.device, &rows, m, &centres, k->d_from.device,
                                      k->n_centres, k->task->dim));
    }
    SC_TRY(resident_pull(&k->d_dist2));
    for (int64_t q = 0; q < m; q++) {
        if (k->dist2[k->order[q]] != -INFINITY)
            k->dist2[k->order[q]] = k->pool_dist2[q];
        k->owner[k->order[q]] = k->pool_owner[q];
        k->seen[k->order[q]] = (int32_t)k->n_centres;
    }
cleanup:
    return status;
}

static sc_status load_pool(cover *k, int64_t m)
{
    sc_status status = SC_OK;
#pragma omp parallel for schedule(static)
    for (int64_t q = 0; q < m; q++)
        put_row(k, k->order[q], k->x, k->x_centred, k->x_norms, q);
    SC_TRY(resident_push(&k->d_x));
    SC_TRY(resident_push(&k->d_x_centred));
    SC_TRY(resident_push(&k->d_x_norms));
    SC_TRY(update(k, m));
cleanup:
    return status;
}

/* One round: a pool, and the picks that it is good for. */
static sc_status pick_round(cover *k, selection_pick *picks, progress *p)
{
    sc_status status = SC_OK;
    int64_t n = 0, outside = -1;
    for (int64_t i = 0; i < k->task->n; i++)
        if (k->dist2[i] != -INFINITY)
            k->order[n++] = (int32_t)i;
    const int64_t m = n < POOL ? n : POOL;
    order_split(k->order, n, m, bound, k);
    for (int64_t i = m; i < n; i++)
        if (outside < 0 || order_before(bound, k, k->order[i], (int32_t)outside))
            outside = k->order[i];
    order_ascending(k->order, m);
    SC_TRY(measure_apart(k));
    SC_TRY(load_pool(k, m));
    while (k->n_picks < k->task->budget && k->task->limits->n_open > 0) {
        int32_t best = -1;
        for (int64_t q = 0; q < m; q++)
            if (k->dist2[k->order[q]] != -INFINITY && (best < 0 || k->dist2[k->order[q]] > k->dist2[best]))
                best = k->order[q];
        if (best < 0 || (outside >= 0 && !order_before(bound, k, best, (int32_t)outside)))
            break;
        SC_TRY(choose(k, best, picks));
        progress_add(p, 1);
        SC_TRY(update(k, m));
    }
cleanup:
    return status;
}

/* --- the first look at all rows -------------------------------------------------------------------- */

/* What nearest_update wants of n rows, as one block: lengths, distances, rows, centred rows, and from which centre on. */
typedef struct row_block {
    double *norms, *dist2;
    float *x, *centred;
    int32_t *from;
} row_block;

static size_t block_row_bytes(int64_t dim)
{
    return 2 * sizeof(double) + 2 * (size_t)dim * sizeof(float) + sizeof(int32_t);
}

static row_block block_at(void *at, int64_t n, int64_t dim)
{
    double *norms = at;
    float *x = (float *)(norms + 2 * n);
    return (row_block){norms, norms + n, x, x + n * dim, (int32_t *)(x + 2 * n * dim)};
}

static void fill_block(const void *context, int64_t first, int64_t n, void *to)
{
    const cover *k = context;
    const row_block b = block_at(to, n, k->task->dim);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        put_row(k, first + i, b.x, b.centred, b.norms, i);
        b.dist2[i] = INFINITY;
        b.from[i] = 0;
    }
}

static sc_status visit_rows(void *context, void *block, int64_t first, int64_t n)
{
    sc_status status = SC_OK;
    cover *k = context;
    const row_block b = block_at(block, n, k->task->dim);
    const nearest_rows rows = {b.x, b.centred, b.norms};
    const nearest_rows centres = {k->d_c.device, k->d_c_centred.device, k->d_c_norms.device};
    SC_TRY(k->ops->nearest_update(NULL, b.dist2, &rows, n, &centres, b.from, k->n_centres, k->task->dim));
    SC_TRY(k->ops->download(NULL, k->dist2 + first, b.dist2, (size_t)n * sizeof *k->dist2));
    SC_TRY(k->ops->synchronise(NULL));
cleanup:
    return status;
}

/* As many rows a block as two blocks fit on the device. */
static sc_status block_rows(const ops *table, int64_t n, int64_t dim, int64_t *rows)
{
    size_t left, all;
    const sc_status status = table->memory_left(&left, &all);
    const int64_t fit = status == SC_OK ? (int64_t)((left - left / 8) / 2 / block_row_bytes(dim)) : 0;
    *rows = conveyor_rows(block_row_bytes(dim), n);
    *rows = *rows < fit ? *rows : fit > 0 ? fit : 1;
    return status;
}

/* On a device: all rows stream through it once. */
static sc_status look_on_device(cover *k)
{
    sc_status status = SC_OK;
    const int64_t n = k->task->n, dim = k->task->dim;
    const conveyor_source source = {fill_block, k, n};
    conveyor belt = {0};
    int64_t rows;
    SC_TRY(block_rows(k->ops, n, dim, &rows));
    SC_TRY(conveyor_open(k->ops, block_row_bytes(dim), rows, true, &belt));
    SC_TRY(conveyor_run(&belt, &source, visit_rows, k));
    for (int64_t i = 0; i < n; i++) {
        k->seen[i] = (int32_t)k->n_centres;
        if (k->task->limits->closed[i])
            k->dist2[i] = -INFINITY;
    }
cleanup:
    conveyor_close(&belt);
    return status;
}

/* On the CPU: a pool at a time, which stays in its cache. */
static sc_status look_at_pools(cover *k)
{
    sc_status status = SC_OK;
    const int64_t n = k->task->n;
    for (int64_t at = 0; at < n; at += POOL) {
        const int64_t m = n - at < POOL ? n - at : POOL;
        for (int64_t q = 0; q < m; q++)
            k->order[q] = (int32_t)(at + q);
        SC_TRY(load_pool(k, m));
    }
cleanup:
    return status;
}

/* The row nearest to the mean. */
static int64_t first_row(const cover *k)
{
    const int64_t dim = k->task->dim;
    const bool *closed = k->task->limits->closed;
    int64_t best = -1;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < k->task->n; i++) {
        double sum = 0;
        for (int64_t d = 0; d < dim; d++) {
            const double diff = (double)k->task->x[i * dim + d] - k->mean[d];
            sum += diff * diff;
        }
        k->dist2[i] = sum;
    }
    for (int64_t i = 0; i < k->task->n; i++)
        if (!closed[i] && (best < 0 || k->dist2[i] < k->dist2[best]))
            best = i;
    return best;
}

static void find_mean(const cover *k)
{
    enum { COLUMNS = 64 };
    const int64_t n = k->task->n, dim = k->task->dim;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t c = 0; c < dim; c += COLUMNS) {
        const int64_t end = c + COLUMNS < dim ? c + COLUMNS : dim;
        for (int64_t i = 0; i < n; i++)
            for (int64_t d = c; d < end; d++)
                k->mean[d] += (double)k->task->x[i * dim + d];
        for (int64_t d = c; d < end; d++)
            k->mean[d] /= (double)n;
    }
}

static sc_status cover_open(cover *k, const selection_task *task)
{
    sc_status status = SC_OK;
    const ops *table = task->device->ops;
    const size_t n = (size_t)task->n, dim = (size_t)task->dim, b = (size_t)(task->n_given + task->budget),
                 m = n < POOL ? n : POOL;
    *k = (cover){.task = task, .ops = table};
    if (!table->nearest_update)
        return sc_fail(SC_DEVICE, "the device \"%s\" lacks the operation nearest_update; use --device cpu",
                       table->name);
    SC_TRY(sc_alloc(&k->mean, dim, sizeof *k->mean));
    SC_TRY(sc_alloc(&k->dist2, n, sizeof *k->dist2));
    SC_TRY(sc_alloc(&k->seen, n, sizeof *k->seen));
    SC_TRY(sc_alloc(&k->order, n, sizeof *k->order));
    SC_TRY(sc_alloc(&k->c, b * dim, sizeof *k->c));
    SC_TRY(sc_alloc(&k->c_centred, b * dim, sizeof *k->c_centred));
    SC_TRY(sc_alloc(&k->c_norms, b, sizeof *k->c_norms));
    SC_TRY(sc_alloc(&k->x_norms, m, sizeof *k->x_norms));
    SC_TRY(sc_alloc(&k->pool_dist2, m, sizeof *k->pool_dist2));
    SC_TRY(sc_alloc(&k->from, m, sizeof *k->from));
    SC_TRY(sc_alloc(&k->owner, n, sizeof *k->owner));
    SC_TRY(sc_alloc(&k->pool_owner, m, sizeof *k->pool_owner));
    for (size_t i = 0; i < n; i++)
        k->owner[i] = -1;
    k->capacity = (int64_t)b;
    if (table->nearest_update_apart && k->capacity > 1 && k->capacity <= MOST_APART) {
        const size_t pairs = b * (b - 1) / 2;
        SC_TRY(sc_alloc(&k->apart, pairs, sizeof *k->apart));
        SC_TRY(sc_alloc(&k->products, APART * b, sizeof *k->products));
        SC_TRY(resident_open(table, k->apart, pairs * sizeof *k->apart, &k->d_apart));
        SC_TRY(resident_open(table, k->products, APART * b * sizeof *k->products, &k->d_products));
        SC_TRY(resident_open(table, k->pool_owner, m * sizeof *k->pool_owner, &k->d_owner));
    }
    SC_TRY(resident_open(table, k->c, b * dim * sizeof *k->c, &k->d_c));
    SC_TRY(resident_open(table, k->c_centred, b * dim * sizeof *k->c_centred, &k->d_c_centred));
    SC_TRY(resident_open(table, k->c_norms, b * sizeof *k->c_norms, &k->d_c_norms));
    SC_TRY(resident_make(table, m * dim, sizeof *k->x, &k->d_x));
    k->x = k->d_x.host;
    SC_TRY(resident_make(table, m * dim, sizeof *k->x_centred, &k->d_x_centred));
    k->x_centred = k->d_x_centred.host;
    SC_TRY(resident_open(table, k->x_norms, m * sizeof *k->x_norms, &k->d_x_norms));
    SC_TRY(resident_open(table, k->pool_dist2, m * sizeof *k->pool_dist2, &k->d_dist2));
    SC_TRY(resident_open(table, k->from, m * sizeof *k->from, &k->d_from));
cleanup:
    return status;
}

static void cover_close(cover *k)
{
    resident *places[] = {&k->d_c,         &k->d_c_centred, &k->d_c_norms, &k->d_x,
                          &k->d_x_centred, &k->d_x_norms,   &k->d_dist2,   &k->d_from,
                          &k->d_apart,     &k->d_products,  &k->d_owner};
    void *arrays[] = {k->mean,    k->dist2,      k->seen, k->order, k->c,          k->c_centred, k->c_norms,
                      k->x_norms, k->pool_dist2, k->from, k->owner, k->pool_owner, k->apart,     k->products};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        resident_close(places[i]);
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

sc_status kcenter_select(const selection_task *task, selection_pick *picks, int64_t *n_picks)
{
    sc_status status = SC_OK;
    cover k;
    progress *p = progress_begin("select kcenter", "picks", limits_likely(task->limits, task->budget));
    SC_TRY(cover_open(&k, task));
    find_mean(&k);
    const int64_t first = task->n_given == 0 && task->limits->n_open > 0 ? first_row(&k) : -1;
    for (int64_t i = 0; i < task->n; i++)
        k.dist2[i] = task->limits->closed[i] ? -INFINITY : INFINITY;
    for (int64_t g = 0; g < task->n_given; g++)
        SC_TRY(add_centre(&k, task->given[g]));
    SC_TRY(measure_apart(&k));
    if (first >= 0) {
        SC_TRY(choose(&k, first, picks));
        progress_add(p, 1);
    }
    if (k.n_centres > 0)
        SC_TRY(k.ops->memory_left && !k.apart ? look_on_device(&k) : look_at_pools(&k));
    while (k.n_picks < task->budget && task->limits->n_open > 0) {
        SC_TRY(check_cancelled());
        SC_TRY(pick_round(&k, picks, p));
    }
    *n_picks = k.n_picks;
cleanup:
    cover_close(&k);
    progress_end(p);
    return status;
}

/* --- what it would take ---------------------------------------------------------------------------- */

static sc_status probe_picks(const selection_task *task, double *operations)
{
    enum { PICKS = 32 };
    const int64_t m = task->n < POOL ? task->n : POOL;
    const int64_t picks = estimate_rows(m, PICKS, 2.0 * (double)m * (double)task->dim);
    *operations = 2.0 * (double)m * (double)task->dim * (double)(picks + 2);
    return estimate_run(task, m, picks, kcenter_select);
}

void kcenter_plan(const selection_task *task, estimate *out)
{
    const int64_t n = task->n, dim = task->dim, m = n < POOL ? n : POOL, b = task->n_given + task->budget;
    const double picks = (double)limits_likely(task->limits, task->budget), passes = 10;
    estimate_array_add(out, "distances, when they were taken, to which centre, rows in order", n,
                       sizeof(double) + 3 * sizeof(int32_t));
    if (task->device->ops->nearest_update_apart && b > 1 && b <= MOST_APART)
        estimate_resident_add(out, "how far centres are apart", b * (b - 1) / 2 + APART * b,
                              sizeof *((cover *)NULL)->apart);
    estimate_resident_add(out, "centres: rows, centred rows, norms",
                          b * (2 * dim * (int64_t)sizeof(float) + (int64_t)sizeof(double)), 1);
    estimate_resident_add(
        out, "pool: rows, centred rows, norms, distances",
        m * (2 * dim * (int64_t)sizeof(float) + 2 * (int64_t)sizeof(double) + 2 * (int64_t)sizeof(int32_t)),
        1);
    estimate_array_add(out, "mean", dim, sizeof(double));
    if (task->device->ops->alloc_pinned) {
        const int64_t two = 2 * conveyor_rows(block_row_bytes(dim), n) * (int64_t)block_row_bytes(dim);
        estimate_phase_begin(out);
        estimate_resident_add(out, "two blocks of rows, pinned", two, 1);
        estimate_phase_end(out);
    }
    /* Every row is looked at some ten times, the pool's at every pick. */
    estimate_work_add(out, "distances of rows to picks",
                      2.0 * (double)dim * (passes * (double)n + picks * (double)m), passes, probe_picks);
}
