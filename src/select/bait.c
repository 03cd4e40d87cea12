/* bait: the rows that leave the least variance where the data is (Ash et al. 2021, "Gone Fishing").
 *
 * With A = (lambda I + sum of x x' over the chosen)^-1 and F the mean of x x' over all rows, tr(F A) is the mean
 * variance of a prediction for a row (V-optimal design). The next pick takes the most from it:
 *
 *     tr(F A) falls by  x' A F A x / (1 + x' A x).
 *
 * Both forms of every row follow from those before by one pass over the rows: with u = A x, v = A F A x of the
 * pick, g = x.u and gamma = x.v,
 *     A <- A - u u' / (1 + g),   B = A F A <- B - (u v' + v u') / (1 + g) + gamma u u' / (1 + g)^2.
 * The fall is not submodular, so no old value is a bound, and every pick does read all rows: 4 n d operations a pick
 * instead of the 4 n d^2 of computing the forms anew. They are computed anew now and then, for rounding's sake.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "select/estimate.h"
#include "select/resident.h"
#include "select/rows.h"
#include "select/strategy.h"

enum { CHUNK = 256, REBUILD = 256 };
static const double DRIFT = 1e-12; /* relative: what a form may have lost before all are computed anew */

typedef struct bait {
    const selection_task *task;
    const ops *ops;
    double *forms_a, *forms_b; /* [n] x' A x and x' B x */
    double *s, *f, *a, *b;     /* [dim][dim] */
    double *u, *v, *rows;      /* [dim] twice, [CHUNK][dim] */
    device_rows d_x;
    resident d_forms_a, d_forms_b, d_s, d_f, d_a, d_b, d_l, d_u, d_v, d_rows, d_inverse_work, d_sandwich_work;
    int64_t t, t_built;
    double variance; /* tr(F A) */
} bait;

/* matrix += scale * sum of x x' over rows first .. first + n - 1 of x */
static sc_status add_squares(bait *k, resident *matrix, const float *x, int64_t n, double scale)
{
    sc_status status = SC_OK;
    const int64_t dim = k->task->dim;
    for (int64_t at = 0; at < n; at += CHUNK) {
        const int64_t m = n - at < CHUNK ? n - at : CHUNK;
        for (int64_t i = 0; i < m * dim; i++)
            k->rows[i] = (double)x[at * dim + i];
        SC_TRY(resident_push(&k->d_rows));
        SC_TRY(k->ops->rank_update(NULL, matrix->device, k->d_rows.device, dim, m, scale));
    }
cleanup:
    return status;
}

static sc_status visit_forms(void *context, const float *x, int64_t first, int64_t n)
{
    sc_status status = SC_OK;
    const bait *k = context;
    const int64_t dim = k->task->dim;
    double *forms_a = k->d_forms_a.device, *forms_b = k->d_forms_b.device;
    SC_TRY(k->ops->quadratic_forms(NULL, forms_a + first, x, k->d_a.device, n, dim));
    SC_TRY(k->ops->quadratic_forms(NULL, forms_b + first, x, k->d_b.device, n, dim));
cleanup:
    return status;
}

/* A, B and both forms of every row from S. */
static sc_status build(bait *k)
{
    sc_status status = SC_OK;
    const int64_t dim = k->task->dim;
    bool definite = false;
    SC_TRY(check_cancelled());
    SC_TRY(k->ops->cholesky(NULL, k->d_l.device, k->d_s.device, dim, &definite));
    if (!definite)
        return sc_fail(SC_BAD_INPUT,
                       "bait: the rows are too large beside lambda %g for double precision; scale them "
                       "(embed --normalize unit) or raise lambda",
                       k->task->lambda);
    SC_TRY(k->ops->cholesky_inverse(NULL, k->d_a.device, k->d_l.device, dim, k->d_inverse_work.device));
    SC_TRY(
        k->ops->sandwich(NULL, k->d_b.device, k->d_a.device, k->d_f.device, dim, k->d_sandwich_work.device));
    SC_TRY(rows_pass(&k->d_x, visit_forms, k));
    SC_TRY(resident_pull(&k->d_a));
    SC_TRY(resident_pull(&k->d_b));
    SC_TRY(resident_pull(&k->d_f));
    SC_TRY(resident_pull(&k->d_forms_a));
    SC_TRY(resident_pull(&k->d_forms_b));
    k->variance = 0;
    for (int64_t i = 0; i < dim * dim; i++)
        k->variance += k->f[i] * k->a[i];
    k->t_built = k->t;
cleanup:
    return status;
}

static int64_t best_row(const bait *k)
{
    int64_t best = -1;
    double most = -INFINITY;
    for (int64_t i = 0; i < k->task->n; i++) {
        const double fall = k->forms_b[i] / (1 + k->forms_a[i]);
        if (!k->task->limits->closed[i] && (best < 0 || fall > most)) {
            best = i;
            most = fall;
        }
    }
    return best;
}

/* u = A x, v = B x */
static void multiply(bait *k, const float *x, double *g, double *gamma)
{
    const int64_t dim = k->task->dim;
    *g = *gamma = 0;
    for (int64_t i = 0; i < dim; i++) {
        double u = 0, v = 0;
        for (int64_t j = 0; j < dim; j++) {
            u += k->a[i * dim + j] * (double)x[j];
            v += k->b[i * dim + j] * (double)x[j];
        }
        k->u[i] = u;
        k->v[i] = v;
        *g += u * (double)x[i];
        *gamma += v * (double)x[i];
    }
}

static void update_matrices(bait *k, double scale, double gamma)
{
    const int64_t dim = k->task->dim;
    for (int64_t i = 0; i < dim; i++) {
        const double u = k->u[i] / scale, v = k->v[i] / scale;
        for (int64_t j = 0; j < dim; j++) {
            k->a[i * dim + j] -= u * k->u[j];
            k->b[i * dim + j] += u * (gamma / scale * k->u[j] - k->v[j]) - v * k->u[j];
        }
    }
}

/* The best row, by forms that have not drifted; its u, v and forms. */
static sc_status choose(bait *k, int64_t *row, double *g, double *gamma)
{
    sc_status status = SC_OK;
    if (k->t - k->t_built >= REBUILD)
        SC_TRY(build(k));
    for (;;) {
        *row = best_row(k);
        multiply(k, k->task->x + *row * k->task->dim, g, gamma);
        const bool drifted = fabs(*g - k->forms_a[*row]) > DRIFT * (1 + fabs(*g)) ||
                             fabs(*gamma - k->forms_b[*row]) > DRIFT * fabs(*gamma);
        if (!drifted || k->t == k->t_built)
            break;
        SC_TRY(build(k));
    }
cleanup:
    return status;
}

typedef struct pick_made {
    const bait *k;
    double scale, gamma;
} pick_made;

static sc_status visit_pick(void *context, const float *x, int64_t first, int64_t n)
{
    const pick_made *p = context;
    const bait *k = p->k;
    double *forms_a = k->d_forms_a.device, *forms_b = k->d_forms_b.device;
    return k->ops->design_bait(NULL, forms_a + first, forms_b + first, x, k->d_u.device, k->d_v.device, n,
                               k->task->dim, p->scale, p->gamma);
}

static sc_status take(bait *k, int64_t row, double g, double gamma, selection_pick *picks)
{
    sc_status status = SC_OK;
    const float *x = k->task->x + row * k->task->dim;
    pick_made made = {k, 1 + g, gamma};
    const double fall = gamma / (1 + g);
    SC_TRY(resident_push(&k->d_u));
    SC_TRY(resident_push(&k->d_v));
    SC_TRY(rows_pass(&k->d_x, visit_pick, &made));
    SC_TRY(resident_pull(&k->d_forms_a));
    SC_TRY(resident_pull(&k->d_forms_b));
    update_matrices(k, 1 + g, gamma);
    SC_TRY(add_squares(k, &k->d_s, x, 1, 1));
    k->variance -= fall;
    limits_take(k->task->limits, row);
    picks[k->t++] = (selection_pick){.row = row, .score = fall, .gain = fall, .objective = k->variance};
cleanup:
    return status;
}

static sc_status check_table(const ops *table)
{
    if (!table->design_bait || !table->quadratic_forms || !table->sandwich || !table->sandwich_workspace ||
        !table->cholesky || !table->cholesky_inverse || !table->cholesky_inverse_workspace ||
        !table->rank_update)
        return sc_fail(SC_DEVICE, "the device \"%s\" lacks the operation design_bait; use --device cpu",
                       table->name);
    return SC_OK;
}

static sc_status bait_open(bait *k, const selection_task *task)
{
    sc_status status = SC_OK;
    const ops *table = task->device->ops;
    const size_t n = (size_t)task->n, dim = (size_t)task->dim, square = dim * dim * sizeof(double);
    *k = (bait){.task = task, .ops = table, .t_built = -1};
    SC_TRY(check_table(table));
    SC_TRY(rows_open(table, task->x, task->n, task->dim, estimate_beside_rows(task, bait_plan), &k->d_x));
    k->d_x.count = task->passes;
    SC_TRY(sc_alloc(&k->forms_a, n, sizeof *k->forms_a));
    SC_TRY(sc_alloc(&k->forms_b, n, sizeof *k->forms_b));
    SC_TRY(sc_alloc(&k->s, dim * dim, sizeof *k->s));
    SC_TRY(sc_alloc(&k->f, dim * dim, sizeof *k->f));
    SC_TRY(sc_alloc(&k->a, dim * dim, sizeof *k->a));
    SC_TRY(sc_alloc(&k->b, dim * dim, sizeof *k->b));
    SC_TRY(sc_alloc(&k->u, dim, sizeof *k->u));
    SC_TRY(sc_alloc(&k->v, dim, sizeof *k->v));
    SC_TRY(sc_alloc(&k->rows, CHUNK * dim, sizeof *k->rows));
    for (size_t i = 0; i < dim; i++)
        k->s[i * dim + i] = task->lambda;
    SC_TRY(resident_open(table, k->forms_a, n * sizeof *k->forms_a, &k->d_forms_a));
    SC_TRY(resident_open(table, k->forms_b, n * sizeof *k->forms_b, &k->d_forms_b));
    SC_TRY(resident_open(table, k->s, square, &k->d_s));
    SC_TRY(resident_open(table, k->f, square, &k->d_f));
    SC_TRY(resident_open(table, k->a, square, &k->d_a));
    SC_TRY(resident_open(table, k->b, square, &k->d_b));
    SC_TRY(resident_scratch(table, square, &k->d_l));
    SC_TRY(resident_open(table, k->u, dim * sizeof *k->u, &k->d_u));
    SC_TRY(resident_open(table, k->v, dim * sizeof *k->v, &k->d_v));
    SC_TRY(resident_open(table, k->rows, CHUNK * dim * sizeof *k->rows, &k->d_rows));
    SC_TRY(resident_scratch(table, table->cholesky_inverse_workspace(task->dim), &k->d_inverse_work));
    SC_TRY(resident_scratch(table, table->sandwich_workspace(task->dim), &k->d_sandwich_work));
cleanup:
    return status;
}

static void bait_close(bait *k)
{
    resident *places[] = {&k->d_forms_a,
                          &k->d_forms_b,
                          &k->d_s,
                          &k->d_f,
                          &k->d_a,
                          &k->d_b,
                          &k->d_l,
                          &k->d_u,
                          &k->d_v,
                          &k->d_rows,
                          &k->d_inverse_work,
                          &k->d_sandwich_work};
    void *arrays[] = {k->forms_a, k->forms_b, k->s, k->f, k->a, k->b, k->u, k->v, k->rows};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        resident_close(places[i]);
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
    rows_close(&k->d_x);
}

sc_status bait_select(const selection_task *task, selection_pick *picks, int64_t *n_picks)
{
    sc_status status = SC_OK;
    bait k;
    progress *p = progress_begin("select bait", "picks", limits_likely(task->limits, task->budget));
    SC_TRY(bait_open(&k, task));
    SC_TRY(add_squares(&k, &k.d_f, task->x, task->n, 1 / (double)task->n));
    for (int64_t g = 0; g < task->n_given; g++)
        SC_TRY(add_squares(&k, &k.d_s, task->x + task->given[g] * task->dim, 1, 1));
    SC_TRY(build(&k));
    while (k.t < task->budget && task->limits->n_open > 0) {
        int64_t row;
        double g, gamma;
        SC_TRY(check_cancelled());
        SC_TRY(choose(&k, &row, &g, &gamma));
        SC_TRY(take(&k, row, g, gamma, picks));
        progress_add(p, 1);
    }
    *n_picks = k.t;
cleanup:
    bait_close(&k);
    progress_end(p);
    return status;
}

/* --- what it would take ---------------------------------------------------------------------------- */

/* The first n rows, with all forms and matrices of nothing: as a pass takes them. */
static sc_status probe_pass(const selection_task *task, int64_t n, rows_visit *visit)
{
    sc_status status = SC_OK;
    selection_task part = *task;
    bait k = {0};
    part.n = n;
    part.budget = 1;
    SC_TRY(bait_open(&k, &part));
    pick_made made = {&k, 1, 1};
    SC_TRY(rows_pass(&k.d_x, visit, visit == visit_pick ? (void *)&made : (void *)&k));
    SC_TRY(resident_pull(&k.d_forms_a));
cleanup:
    bait_close(&k);
    return status;
}

static sc_status probe_picks(const selection_task *task, double *operations)
{
    const int64_t n = estimate_rows(task->n, task->n, 4.0 * (double)task->dim);
    *operations = 4.0 * (double)n * (double)task->dim;
    return probe_pass(task, n, visit_pick);
}

/* Both forms. */
static sc_status probe_forms(const selection_task *task, double *operations)
{
    const double each = 4.0 * (double)task->dim * (double)task->dim;
    const int64_t n = estimate_rows(task->n, task->n, each);
    *operations = (double)n * each;
    return probe_pass(task, n, visit_forms);
}

void bait_plan(const selection_task *task, estimate *out)
{
    const ops *table = task->device->ops;
    const int64_t n = task->n, dim = task->dim;
    const double picks = (double)limits_likely(task->limits, task->budget), cells = (double)n * (double)dim;
    const double builds = 1 + picks / REBUILD;
    estimate_rows_pass(out, n, dim);
    estimate_resident_add(out, "both forms of every row", 2 * n, sizeof(double));
    estimate_resident_add(out, "S, F, A, B and the Cholesky factor", 5 * dim * dim, sizeof(double));
    estimate_resident_add(
        out, "scratch",
        (int64_t)((table->cholesky_inverse_workspace ? table->cholesky_inverse_workspace(dim) : 0) +
                  (table->sandwich_workspace ? table->sandwich_workspace(dim) : 0)),
        1);
    estimate_resident_add(out, "chunk of rows, u and v", (CHUNK + 2) * dim, sizeof(double));
    /* F is half as much as the forms, which are two. */
    estimate_work_add(out, "forms from the ground", (4 * builds + 1) * cells * (double)dim, 2 * builds + 1,
                      probe_forms);
    estimate_work_add(out, "a pass a pick", 4 * cells * picks, picks, probe_picks);
}
