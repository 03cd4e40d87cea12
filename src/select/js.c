/* js: entropy and Jensen-Shannon divergence, greedily.
 *
 * The first pick has the highest entropy; every next one the highest score
 *     alpha H(p_i) + (1 - alpha) JS(p_i || m)   or   alpha H(p_i) + JS(p_i || m),
 * m the mean of the chosen distributions; equal scores go to the lowest row.
 *
 * The choice is that of a full scan, but few rows are evaluated: the square root of JS is a metric
 * (Endres and Schindelin 2003), so sqrt JS(p_i, m now) is at most what it was when the row was last
 * evaluated plus the length of the path that m has gone since. Rows whose score cannot reach the
 * best so far are left alone.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "select/resident.h"
#include "select/strategy.h"

enum { BATCH = 64 };
static const double ROUNDING = 4e-15; /* of a computed JS, generously */

typedef struct scan {
    const selection_task *task;
    const ops *ops;
    double js_weight;
    double *root, *path_then; /* [n] sqrt JS at the last evaluation, and the path's length there */
    double *js;               /* [n] JS at the last evaluation */
    int64_t *evaluated;       /* [n] pick before which it was last evaluated */
    bool *chosen;             /* [n] */
    double path;
    double *mean, *sum;       /* [k] */
    double *rows_p, *rows_js; /* [BATCH][k], [BATCH] */
    resident d_mean, d_rows_p, d_rows_js;
    int64_t batch[BATCH];
    int n_batch;
    int64_t t, best;
    double best_score;
} scan;

static double score_of(const scan *s, int64_t i)
{
    return s->task->alpha * s->task->entropy[i] + s->js_weight * s->js[i];
}

static double bound_of(const scan *s, int64_t i)
{
    const double reach = s->root[i] + (s->path - s->path_then[i]);
    const double js = reach * reach < M_LN2 ? reach * reach : M_LN2;
    return s->task->alpha * s->task->entropy[i] + s->js_weight * js + ROUNDING;
}

/* Evaluates the rows of the batch against the present mean. */
static sc_status flush(scan *s)
{
    sc_status status = SC_OK;
    const int64_t k = s->task->k;
    if (s->n_batch == 0)
        return SC_OK;
    for (int b = 0; b < s->n_batch; b++)
        memcpy(s->rows_p + b * k, s->task->p + s->batch[b] * k, (size_t)k * sizeof(double));
    SC_TRY(resident_push(&s->d_rows_p));
    SC_TRY(
        s->ops->js_to_mean(NULL, s->d_rows_js.device, s->d_rows_p.device, s->d_mean.device, s->n_batch, k));
    SC_TRY(resident_pull(&s->d_rows_js));
    for (int b = 0; b < s->n_batch; b++) {
        const int64_t i = s->batch[b];
        s->js[i] = s->rows_js[b];
        s->root[i] = sqrt(s->js[i] + ROUNDING);
        s->path_then[i] = s->path;
        s->evaluated[i] = s->t;
        const double score = score_of(s, i);
        if (score > s->best_score || (score == s->best_score && i < s->best)) {
            s->best_score = score;
            s->best = i;
        }
    }
    s->n_batch = 0;
cleanup:
    return status;
}

static sc_status evaluate(scan *s, int64_t row)
{
    s->batch[s->n_batch++] = row;
    return s->n_batch == BATCH ? flush(s) : SC_OK;
}

/* The rows with the highest bounds, as a min-heap of at most BATCH: a good row early spares the rest. */
static int most_promising(const scan *s, int64_t *rows)
{
    double bounds[BATCH];
    int n = 0;
    for (int64_t i = 0; i < s->task->n; i++) {
        if (s->chosen[i])
            continue;
        const double bound = bound_of(s, i);
        int at;
        if (n < BATCH) {
            at = n++;
            for (; at > 0 && bounds[(at - 1) / 2] > bound; at = (at - 1) / 2) {
                bounds[at] = bounds[(at - 1) / 2];
                rows[at] = rows[(at - 1) / 2];
            }
        } else if (bound > bounds[0]) {
            at = 0;
            for (int child; (child = 2 * at + 1) < n; at = child) {
                if (child + 1 < n && bounds[child + 1] < bounds[child])
                    child++;
                if (bounds[child] >= bound)
                    break;
                bounds[at] = bounds[child];
                rows[at] = rows[child];
            }
        } else {
            continue;
        }
        bounds[at] = bound;
        rows[at] = i;
    }
    return n;
}

static sc_status next_pick(scan *s)
{
    sc_status status = SC_OK;
    const selection_task *task = s->task;
    s->best = -1;
    s->best_score = -INFINITY;
    if (s->t > 1) {
        int64_t first[BATCH];
        const int n = most_promising(s, first);
        for (int b = 0; b < n; b++)
            SC_TRY(evaluate(s, first[b]));
        SC_TRY(flush(s));
    }
    for (int64_t i = 0; i < task->n; i++)
        if (!s->chosen[i] && s->evaluated[i] != s->t && (s->t == 1 || bound_of(s, i) >= s->best_score))
            SC_TRY(evaluate(s, i));
    SC_TRY(flush(s));
cleanup:
    return status;
}

static sc_status scan_open(scan *s, const selection_task *task)
{
    sc_status status = SC_OK;
    const size_t n = (size_t)task->n, k = (size_t)task->k;
    *s = (scan){
        .task = task, .ops = task->device->ops, .js_weight = task->js_sum ? 1 : 1 - task->alpha, .best = -1};
    if (!s->ops->js_to_mean)
        return sc_fail(SC_DEVICE, "the device \"%s\" lacks the operation js_to_mean; use --device cpu",
                       s->ops->name);
    SC_TRY(sc_alloc(&s->root, n, sizeof *s->root));
    SC_TRY(sc_alloc(&s->path_then, n, sizeof *s->path_then));
    SC_TRY(sc_alloc(&s->js, n, sizeof *s->js));
    SC_TRY(sc_alloc(&s->evaluated, n, sizeof *s->evaluated));
    SC_TRY(sc_alloc(&s->chosen, n, sizeof *s->chosen));
    SC_TRY(sc_alloc(&s->mean, k, sizeof *s->mean));
    SC_TRY(sc_alloc(&s->sum, k, sizeof *s->sum));
    SC_TRY(sc_alloc(&s->rows_p, BATCH * k, sizeof *s->rows_p));
    SC_TRY(sc_alloc(&s->rows_js, BATCH, sizeof *s->rows_js));
    SC_TRY(resident_open(s->ops, s->mean, k * sizeof *s->mean, &s->d_mean));
    SC_TRY(resident_open(s->ops, s->rows_p, BATCH * k * sizeof *s->rows_p, &s->d_rows_p));
    SC_TRY(resident_open(s->ops, s->rows_js, BATCH * sizeof *s->rows_js, &s->d_rows_js));
cleanup:
    return status;
}

static void scan_close(scan *s)
{
    resident_close(&s->d_mean);
    resident_close(&s->d_rows_p);
    resident_close(&s->d_rows_js);
    free(s->root);
    free(s->path_then);
    free(s->js);
    free(s->evaluated);
    free(s->chosen);
    free(s->mean);
    free(s->sum);
    free(s->rows_p);
    free(s->rows_js);
}

/* Moves the mean to the chosen rows' and adds its step to the path. */
static sc_status take(scan *s, int64_t row)
{
    sc_status status = SC_OK;
    const int64_t k = s->task->k;
    s->chosen[row] = true;
    memcpy(s->rows_p, s->mean, (size_t)k * sizeof *s->mean);
    for (int64_t j = 0; j < k; j++) {
        s->sum[j] += s->task->p[row * k + j];
        s->mean[j] = s->sum[j] / (double)(s->t + 1);
    }
    SC_TRY(resident_push(&s->d_mean));
    if (s->t > 0) {
        SC_TRY(resident_push(&s->d_rows_p));
        SC_TRY(s->ops->js_to_mean(NULL, s->d_rows_js.device, s->d_rows_p.device, s->d_mean.device, 1, k));
        SC_TRY(resident_pull(&s->d_rows_js));
        s->path += sqrt(s->rows_js[0] + ROUNDING);
    }
cleanup:
    return status;
}

sc_status js_select(const selection_task *task, selection_pick *picks)
{
    sc_status status = SC_OK;
    scan s;
    progress *p = progress_begin("select js", "picks", task->budget);
    double total = 0;
    SC_TRY(scan_open(&s, task));
    for (s.t = 0; s.t < task->budget; s.t++) {
        SC_TRY(check_cancelled());
        if (s.t == 0) {
            s.best = 0;
            for (int64_t i = 1; i < task->n; i++)
                if (task->entropy[i] > task->entropy[s.best])
                    s.best = i;
            s.best_score = score_of(&s, s.best); /* nothing is chosen yet: JS counts as 0 */
        } else {
            SC_TRY(next_pick(&s));
        }
        total += s.best_score;
        picks[s.t] = (selection_pick){.row = s.best,
                                      .score = s.best_score,
                                      .gain = s.best_score,
                                      .entropy = task->entropy[s.best],
                                      .divergence = s.js[s.best],
                                      .cluster = task->labels[s.best],
                                      .objective = total / (double)(s.t + 1)};
        SC_TRY(take(&s, s.best));
        progress_add(p, 1);
    }
cleanup:
    scan_close(&s);
    progress_end(p);
    return status;
}
