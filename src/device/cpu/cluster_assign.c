/* cluster_assign, cluster_reassign: nearest centres on the CPU.
 *
 * Labels are those of float64 arithmetic, ties going to the lowest centre. A product in float finds for every row
 * the centres that its rounding cannot rule out (cluster_scores.h); only where more than one is left are they
 * compared in double. So the labels depend neither on the number of threads nor on how another table orders its
 * products.
 *
 * reassign leaves out the rows that cannot have changed sides since the centres moved (Hamerly 2010, "Making k-means
 * even faster"): those whose bound on the distance to their own centre is below the one on all others, or below half
 * the way from their centre to the next. Bounds are kept on the safe side of every rounding, so labels are those of a
 * full pass, ties and near-ties included. */
#include "device/cpu/cluster_scores.h"
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

#include <math.h>
#include <string.h>

typedef float float4 __attribute__((vector_size(16), aligned(4)));
typedef double double4 __attribute__((vector_size(32), aligned(8)));

enum { CHUNK = 256 /* rows a thread takes at a time: they stay in its second cache */, MAX_TEAM = 64 };
enum { ROUNDED_ROWS = 2 * SCORE_WIDE /* SCORE_ROWS in whole blocks */ };

/* |x - c|^2 in double: sixteen partial sums, added in a fixed order. */
static double pair_distance(const float *x, const float *c, int64_t dim)
{
    double4 sum[4];
    memset(sum, 0, sizeof sum);
    int64_t d = 0;
    for (; d + 16 <= dim; d += 16)
        for (int v = 0; v < 4; v++) {
            const double4 diff = __builtin_convertvector(*(const float4 *)(x + d + 4 * v), double4) -
                                 __builtin_convertvector(*(const float4 *)(c + d + 4 * v), double4);
            sum[v] += diff * diff;
        }
    for (int l = 0; d < dim; d++, l++) {
        const double diff = (double)x[d] - (double)c[d];
        sum[l / 4][l % 4] += diff * diff;
    }
    const double4 all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    return (all[0] + all[1]) + (all[2] + all[3]);
}

typedef struct assign_job {
    score_centres scores;
    const float *x, *centres;
    int32_t *labels;
    float *dist2;            /* or NULL */
    const cluster_bounds *b; /* or NULL */
    double *gap;             /* [k] half the way to the nearest other centre, at most */
    float *lows;             /* [MAX_TEAM][block_rows][padded k] */
    uint16_t *rounded;       /* [MAX_TEAM][ROUNDED_ROWS][rounded dim], where cpu_has_amx() */
    int block_rows;
    double slack; /* relative: a sum of squares in double may be off by less */
    int64_t n, k, dim;
} assign_job;

/* Rows that wait for their products. */
typedef struct block {
    int count;
    int64_t rows[SCORE_ROWS];
    const float *x[SCORE_ROWS];
    float norms[SCORE_ROWS];
    score_best best[SCORE_ROWS];
    float *lows;
    uint16_t *rounded;
} block;

static bool shape_ok(int64_t n, int64_t k, int64_t dim)
{
    return n >= 0 && n <= INT64_MAX / 8 && k > 0 && k <= INT32_MAX - SCORE_PANEL && dim > 0 &&
           dim <= (1 << 24);
}

/* A block's lows are to stay in the second cache. */
static int rows_of_block(int64_t k)
{
    return k <= 2048 ? SCORE_ROWS : k <= 8192 ? SCORE_ROWS / 2 : SCORE_TILE;
}

static int team_of(int64_t work, int64_t tasks)
{
    const int team = cpu_team(work, tasks);
    return team < MAX_TEAM ? team : MAX_TEAM;
}

static int thread_number(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

static double square_root(double v)
{
    return v > 0 ? sqrt(v) : 0;
}

/* The label of row i: the one centre that is left, or the nearest of those that are in double. */
static void decide(const assign_job *t, int64_t i, float norm, float *lows, score_best *best)
{
    const bool in_range = score_in_range(&t->scores, (double)norm);
    const float *x = t->x + i * t->dim;
    if (in_range && score_coarse(&t->scores) && best->second <= best->high) /* no coarse product decides */
        cpu_score_finish(&t->scores, t->centres, x, norm, lows, best);
    int64_t label = best->index;
    double distance = -1, near2, far2;
    const double norm2 = t->b ? (double)t->b->norms2[i] : 0;
    if (in_range && best->second > best->high) {
        near2 = norm2 * (1 + 0x1p-23) + (double)best->high;
        far2 = norm2 * (1 - 0x1p-23) + (double)best->second;
    } else {
        double other = INFINITY;
        distance = INFINITY;
        for (int64_t j = 0; j < t->k; j++) {
            if (in_range && lows[j] > best->high)
                continue;
            const double d2 = pair_distance(x, t->centres + j * t->dim, t->dim);
            if (d2 < distance) {
                other = distance;
                distance = d2;
                label = j;
            } else if (d2 < other) {
                other = d2;
            }
        }
        const double rest = in_range ? norm2 * (1 - 0x1p-23) + (double)best->high : INFINITY;
        near2 = distance * (1 + t->slack);
        far2 = other * (1 - t->slack) < rest ? other * (1 - t->slack) : rest;
    }
    t->labels[i] = (int32_t)label;
    if (t->b) {
        t->b->near[i] = square_root(near2) * (1 + 1e-12);
        t->b->far[i] = square_root(far2) * (1 - 1e-12);
    }
    if (t->dist2)
        t->dist2[i] =
            (float)(distance < 0 ? pair_distance(x, t->centres + label * t->dim, t->dim) : distance);
}

static void decide_block(const assign_job *t, block *rows)
{
    if (rows->count == 0)
        return;
    /* Where no row was left out, the next block's are those that follow. */
    const int64_t last = rows->rows[rows->count - 1];
    const int64_t ahead = last - rows->rows[0] >= rows->count ? 0
                          : t->n - 1 - last < t->block_rows   ? t->n - 1 - last
                                                              : t->block_rows;
    cpu_score_rows(&t->scores, rows->count, rows->x, rows->norms, rows->lows, rows->rounded, rows->best,
                   rows->x[rows->count - 1] + t->dim, ahead * t->dim);
    for (int r = 0; r < rows->count; r++)
        decide(t, rows->rows[r], rows->norms[r], rows->lows + r * score_padded(t->k), rows->best + r);
    rows->count = 0;
}

static void add_row(const assign_job *t, block *rows, int64_t i, float norm)
{
    rows->rows[rows->count] = i;
    rows->x[rows->count] = t->x + i * t->dim;
    rows->norms[rows->count++] = norm;
    if (rows->count == t->block_rows)
        decide_block(t, rows);
}

static block empty_block(const assign_job *t)
{
    const int64_t thread = thread_number(), width = score_rounded_dim(t->dim);
    return (block){.lows = t->lows + thread * t->block_rows * score_padded(t->k),
                   .rounded = t->rounded ? t->rounded + thread * ROUNDED_ROWS * width : NULL};
}

/* --- the workspace ---------------------------------------------------------------------------------------- */

/* Never less for fewer centres: k-means++ may end with fewer than it was asked for. */
static size_t lows_of_thread(int64_t k)
{
    const int64_t own = rows_of_block(k) * score_padded(k);
    const int64_t before = k <= 2048 ? 0 : k <= 8192 ? SCORE_ROWS * 2048 : SCORE_ROWS / 2 * 8192;
    return (size_t)(own > before ? own : before);
}

/* Of the bf16 side: centres as pairs, their blur, and every thread's rows. */
static size_t rounded_bytes(int64_t k, int64_t dim)
{
    const size_t width = (size_t)score_rounded_dim(dim);
    const size_t panels = (size_t)(k + SCORE_WIDE - 1) / SCORE_WIDE;
    return cpu_has_amx() ? (panels * SCORE_WIDE + MAX_TEAM * ROUNDED_ROWS) * width * sizeof(uint16_t) : 0;
}

size_t cpu_cluster_assign_workspace(int64_t n, int64_t k, int64_t dim)
{
    if (!shape_ok(n, k, dim))
        return 0;
    const size_t kp = (size_t)score_padded(k);
    return kp * sizeof(double) + (kp * ((size_t)dim + 5) + MAX_TEAM * lows_of_thread(k)) * sizeof(float) +
           rounded_bytes(k, dim);
}

static sc_status job_open(const char *name, assign_job *t, void *workspace)
{
    const int64_t k = t->k, kp = score_padded(k);
    if (!shape_ok(t->n, k, t->dim) || !workspace)
        return sc_fail(SC_INTERNAL, "%s: impossible shape: %lld rows, %lld centres, width %lld", name,
                       (long long)t->n, (long long)k, (long long)t->dim);
    t->gap = workspace;
    t->scores = (score_centres){.k = k, .dim = t->dim, .panels = (float *)(t->gap + kp)};
    t->scores.low_norms = t->scores.panels + kp * t->dim;
    t->scores.high_norms = t->scores.low_norms + kp;
    t->scores.spread = t->scores.high_norms + kp;
    t->scores.blur = t->scores.spread + kp;
    t->scores.rests = t->scores.blur + kp;
    t->lows = t->scores.rests + kp;
    t->block_rows = rows_of_block(k);
    t->slack = (double)(t->dim + 64) * 0x1p-52;
    if (cpu_has_amx()) {
        const int64_t panels = (k + SCORE_WIDE - 1) / SCORE_WIDE, width = score_rounded_dim(t->dim);
        t->scores.pairs = (uint32_t *)(t->lows + MAX_TEAM * lows_of_thread(k));
        t->rounded = (uint16_t *)(t->scores.pairs + panels * SCORE_WIDE * width / 2);
    }
    if (k > 1)
        cpu_score_prepare(&t->scores, t->centres);
    return SC_OK;
}

/* With the products as they are set, how many whole ones follow a row's coarse ones: the mean of a sample. */
static double count_finished(const assign_job *t, int sample)
{
    const int64_t kp = score_padded(t->k);
    block rows = {.lows = t->lows, .rounded = t->rounded};
    int64_t finished = 0;
    for (; rows.count < sample && rows.count < t->block_rows; rows.count++) {
        rows.x[rows.count] = t->x + (rows.count * 2 + 1) * (t->n / (2 * sample)) * t->dim;
        rows.norms[rows.count] = cpu_score_norm(rows.x[rows.count], t->dim);
    }
    cpu_score_rows(&t->scores, rows.count, rows.x, rows.norms, rows.lows, rows.rounded, rows.best, NULL, 0);
    for (int r = 0; r < rows.count; r++)
        if (!score_in_range(&t->scores, (double)rows.norms[r]))
            finished += t->k;
        else if (rows.best[r].second <= rows.best[r].high)
            finished += cpu_score_finish(&t->scores, t->centres, rows.x[r], rows.norms[r], rows.lows + r * kp,
                                         rows.best + r);
    return (double)finished / (double)rows.count;
}

/* Whether products are to be coarse, and how: by a sample of rows, its cost in multiplications of the panels' product. */
static void find_products(assign_job *t)
{
    enum {
        SAMPLE = SCORE_WIDE,
        LEAST_K = 32,
        LEAST_DIM = 128,
        STEP = 32,
        LOOK = 24,   /* at a centre's product */
        FINISH = 4,  /* a row's own product with a centre, beside one of a panel's */
        ROUNDED = 10 /* products of bf16 in the time of one in float */
    };
    const int64_t k = t->k, dim = t->dim;
    const double pairs = (double)k, whole = (double)dim;
    double least = 0.9 * pairs * whole;
    int64_t chosen = dim;
    if (k < LEAST_K || dim < LEAST_DIM || t->n < 32 * SAMPLE)
        return;
    if (t->scores.pairs) {
        cpu_score_set_rounded(&t->scores, t->centres);
        const double cost = pairs * (whole / ROUNDED + LOOK) + FINISH * count_finished(t, SAMPLE) * whole;
        if (cost < least && cost < pairs * (STEP + LOOK)) /* what no depth falls below */
            return;
        if (cost < least) {
            least = cost;
            chosen = 0;
        }
    }
    for (int64_t depth = STEP; 2 * depth <= dim; depth += depth / STEP < 4 ? STEP : 2 * STEP) {
        cpu_score_set_depth(&t->scores, t->centres, depth);
        const double cost = pairs * (double)(depth + LOOK) + FINISH * count_finished(t, SAMPLE) * whole;
        if (cost < least) {
            least = cost;
            chosen = depth;
        }
    }
    if (chosen == 0)
        cpu_score_set_rounded(&t->scores, t->centres);
    else
        cpu_score_set_depth(&t->scores, t->centres, chosen);
}

/* The same, and rows a block that suit them. */
static void choose_products(assign_job *t)
{
    find_products(t);
    if (t->scores.rounded && t->block_rows > SCORE_WIDE)
        t->block_rows = SCORE_WIDE;
}

/* --- all rows --------------------------------------------------------------------------------------------- */

sc_status cpu_cluster_assign(stream *s, int32_t *labels, float *dist2, const float *x, const float *centres,
                             int64_t n, int64_t k, int64_t dim, void *workspace)
{
    (void)s;
    assign_job t = {.x = x, .centres = centres, .labels = labels, .dist2 = dist2, .n = n, .k = k, .dim = dim};
    const sc_status status = job_open("cluster_assign", &t, workspace);
    if (status != SC_OK)
        return status;
    choose_products(&t);
    const int64_t chunks = (n + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(dynamic) num_threads(team_of(n *k *dim, chunks))
    for (int64_t c = 0; c < chunks; c++) {
        const int64_t end = (c + 1) * CHUNK < n ? (c + 1) * CHUNK : n;
        block rows = empty_block(&t);
        for (int64_t i = c * CHUNK; i < end; i++) {
            if (k > 1) {
                add_row(&t, &rows, i, cpu_score_norm(x + i * dim, dim));
                continue;
            }
            labels[i] = 0;
            if (dist2)
                dist2[i] = (float)pair_distance(x + i * dim, centres, dim);
        }
        decide_block(&t, &rows);
    }
    return SC_OK;
}

/* --- rows that may have changed sides ---------------------------------------------------------------------- */

/* For every centre half the way to the nearest other one: a row that lies nearer to it has no nearer one. */
static void find_gaps(const assign_job *t)
{
    const int64_t k = t->k, kp = score_padded(k), blocks = (k + t->block_rows - 1) / t->block_rows;
    if (k < 2 || 8 * k > t->n) { /* would cost more than it can spare */
        for (int64_t j = 0; j < k; j++)
            t->gap[j] = 0;
        return;
    }
#pragma omp parallel for schedule(dynamic) num_threads(team_of(k *k * t->dim, blocks))
    for (int64_t at = 0; at < blocks; at++) {
        const int64_t first = at * t->block_rows;
        block rows = empty_block(t);
        for (; rows.count < t->block_rows && first + rows.count < k; rows.count++) {
            rows.x[rows.count] = t->centres + (first + rows.count) * t->dim;
            rows.norms[rows.count] = cpu_score_norm(rows.x[rows.count], t->dim);
        }
        cpu_score_rows(&t->scores, rows.count, rows.x, rows.norms, rows.lows, rows.rounded, rows.best, NULL,
                       0);
        for (int r = 0; r < rows.count; r++) {
            const float *lows = rows.lows + r * kp;
            float lowest = INFINITY;
            for (int64_t j = 0; j < k; j++)
                lowest = j != first + r && lows[j] < lowest ? lows[j] : lowest;
            const bool in_range = score_in_range(&t->scores, (double)rows.norms[r]);
            const double way2 = (double)t->scores.low_norms[first + r] + (double)lowest;
            t->gap[first + r] = in_range ? 0.5 * square_root(way2) * (1 - 1e-12) : 0;
        }
    }
}

/* The two centres that went farthest: every other centre of a row went at most so far. */
typedef struct farthest {
    double first, second;
    int64_t index;
} farthest;

static farthest find_farthest(const double *moved, int64_t k)
{
    farthest f = {0, 0, -1};
    for (int64_t j = 0; j < k; j++)
        if (moved[j] > f.first) {
            f.second = f.first;
            f.first = moved[j];
            f.index = j;
        } else if (moved[j] > f.second) {
            f.second = moved[j];
        }
    return f;
}

/* Whether row i surely keeps its label, after its bounds have followed the centres. */
static bool keeps_label(const assign_job *t, int64_t i, const farthest *f)
{
    const int32_t label = t->labels[i];
    const double own = t->b->moved[label], others = label == f->index ? f->second : f->first;
    const double near = t->b->near[i] * (1 + 0x1p-51) + own * (1 + 0x1p-51);
    const double far = t->b->far[i] * (1 - 0x1p-51) - others * (1 + 0x1p-51);
    const double limit = far > t->gap[label] ? far : t->gap[label];
    t->b->near[i] = near;
    t->b->far[i] = far;
    if (near * (1 + t->slack) < limit)
        return true;
    if (!(near - 2 * own < limit)) /* not even if the centre came straight towards it */
        return false;
    const float norm2 = t->b->norms2[i], norm = sqrtf(norm2) * (1 + 0x1p-20f);
    if (!score_in_range(&t->scores, (double)norm))
        return false;
    const double near2 =
        (double)norm2 * (1 + 0x1p-23) + (double)cpu_score_one(&t->scores, t->x + i * t->dim, norm,
                                                              t->centres + (int64_t)label * t->dim, label);
    const double now = square_root(near2) * (1 + 1e-12);
    t->b->near[i] = now < near ? now : near;
    return t->b->near[i] * (1 + t->slack) < limit;
}

sc_status cpu_cluster_reassign(stream *s, int32_t *labels, float *dist2, const cluster_bounds *b,
                               const float *x, const float *centres, int64_t n, int64_t k, int64_t dim,
                               void *workspace)
{
    (void)s;
    assign_job t = {.x = x, .centres = centres, .labels = labels, .b = b, .n = n, .k = k, .dim = dim};
    const sc_status status = job_open("cluster_reassign", &t, workspace);
    if (status != SC_OK)
        return status;
    const farthest f = b->moved ? find_farthest(b->moved, k) : (farthest){0, 0, -1};
    if (f.first > 0)
        find_gaps(&t);
    else
        memset(t.gap, 0, (size_t)k * sizeof *t.gap);
    if (b->moved)
        choose_products(&t);
    const int64_t chunks = (n + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(dynamic) num_threads(team_of(n *k *dim, chunks))
    for (int64_t c = 0; c < chunks; c++) {
        const int64_t first = c * CHUNK, end = first + CHUNK < n ? first + CHUNK : n;
        block rows = empty_block(&t);
        for (int64_t i = first; i < end && b->moved; i++) {
            if (k == 1)
                labels[i] = 0;
            else if (!keeps_label(&t, i, &f))
                add_row(&t, &rows, i, sqrtf(b->norms2[i]) * (1 + 0x1p-20f));
        }
        decide_block(&t, &rows);
        for (int64_t i = first; i < end && dist2; i++)
            dist2[i] = (float)pair_distance(x + i * dim, centres + (int64_t)labels[i] * dim, dim);
    }
    return SC_OK;
}
