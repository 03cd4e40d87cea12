/* Rows that say again what an earlier row says. */
#include "select/duplicates.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/ids.h"
#include "select/cosine.h"
#include "select/resident.h"

/* --- by text ----------------------------------------------------------------------------------------------------- */

enum { BANDS = 24, BAND_ROWS = 5, HASHES = BANDS * BAND_ROWS, RUN = 3 };

typedef struct shingles {
    strbuf text;      /* small letters, words separated by one blank */
    uint64_t *hashes; /* [n] of every run of words, ascending, each once */
    size_t n, capacity;
} shingles;

static void shingles_free(shingles *s)
{
    strbuf_free(&s->text);
    free(s->hashes);
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Letters and digits are ASCII's, and every byte of a longer character. */
static bool in_word(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c >= 0x80;
}

static sc_status shingles_make(const dataset *data, int32_t row, shingles *s)
{
    sc_status status = SC_OK;
    size_t starts[RUN + 1] = {0}, words = 0, kept = 0;
    strbuf_clear(&s->text);
    s->n = 0;
    SC_TRY(dataset_review_text(data, (size_t)row, &s->text));
    char *text = s->text.data;
    const size_t n = s->text.len;
    size_t length = 0, end = 0; /* of the words so far, in place; without the last blank */
    for (size_t i = 0; i <= n; i++) {
        unsigned char c = i < n ? (unsigned char)text[i] : ' ';
        c = c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c;
        if (in_word(c)) {
            text[length++] = (char)c;
            continue;
        }
        if (length == starts[0])
            continue; /* no word since the last blank */
        words++;
        for (int k = RUN; k > 0; k--)
            starts[k] = starts[k - 1];
        /* starts[k] is where the run of the last k words begins now */
        end = length;
        if (words >= RUN) {
            SC_TRY(sc_grow(&s->hashes, &s->capacity, s->n + 1, sizeof *s->hashes));
            s->hashes[s->n++] = hash_bytes(text + starts[RUN], length - starts[RUN]);
        }
        if (length < n)
            text[length++] = ' ';
        starts[0] = length;
    }
    if (s->n == 0 && end > 0) { /* of fewer words */
        SC_TRY(sc_grow(&s->hashes, &s->capacity, 1, sizeof *s->hashes));
        s->hashes[s->n++] = hash_bytes(text, end);
    }
    if (s->n > 1)
        qsort(s->hashes, s->n, sizeof *s->hashes, by_value);
    for (size_t i = 0; i < s->n; i++)
        if (i == 0 || s->hashes[i] != s->hashes[i - 1])
            s->hashes[kept++] = s->hashes[i];
    s->n = kept;
cleanup:
    return status;
}

static double overlap(const shingles *a, const shingles *b)
{
    size_t i = 0, j = 0, common = 0;
    while (i < a->n && j < b->n) {
        common += a->hashes[i] == b->hashes[j];
        const bool first = a->hashes[i] <= b->hashes[j], second = b->hashes[j] <= a->hashes[i];
        i += first;
        j += second;
    }
    const size_t all = a->n + b->n - common;
    return all > 0 ? (double)common / (double)all : 0;
}

/* The finaliser of SplitMix64 (Steele et al. 2014): a family of hashes of a hash. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Rows kept so far, by what each band of their signature hashes to. */
typedef struct band_index {
    int32_t *heads, *next; /* [BANDS][slots], [BANDS][n]: chains of rows, -1 ends one */
    size_t slots, n;
} band_index;

static sc_status band_index_open(band_index *b, size_t n)
{
    sc_status status = SC_OK;
    b->n = n;
    for (b->slots = 64; b->slots < n; b->slots *= 2)
        ;
    SC_TRY(sc_alloc(&b->heads, BANDS * b->slots, sizeof *b->heads));
    SC_TRY(sc_alloc(&b->next, BANDS * n, sizeof *b->next));
    memset(b->heads, 0xff, BANDS * b->slots * sizeof *b->heads);
cleanup:
    return status;
}

/* slots [BANDS] where the row belongs */
static void bands_of(const shingles *s, const band_index *b, size_t *slots)
{
    uint64_t least[HASHES];
    memset(least, 0xff, sizeof least);
    for (size_t i = 0; i < s->n; i++)
        for (uint64_t k = 0; k < HASHES; k++) {
            const uint64_t h = mix(s->hashes[i] + (k + 1) * UINT64_C(0x9e3779b97f4a7c15));
            least[k] = h < least[k] ? h : least[k];
        }
    for (int band = 0; band < BANDS; band++)
        slots[band] =
            (size_t)hash_bytes(&least[band * BAND_ROWS], BAND_ROWS * sizeof *least) & (b->slots - 1);
}

/* Whether a row kept before is as like as that. `other` is scratch; asked [n] remembers who was compared with whom. */
static sc_status is_known(const dataset *data, const shingles *s, const band_index *b, const size_t *slots,
                          double threshold, shingles *other, int32_t *asked, int32_t row, bool *known)
{
    *known = false;
    for (size_t band = 0; band < BANDS; band++)
        for (int32_t at = b->heads[band * b->slots + slots[band]]; at >= 0;
             at = b->next[band * b->n + (size_t)at]) {
            if (asked[at] == row)
                continue;
            asked[at] = row;
            const sc_status status = shingles_make(data, at, other);
            if (status != SC_OK)
                return status;
            if (overlap(s, other) >= threshold) {
                *known = true;
                return SC_OK;
            }
        }
    return SC_OK;
}

sc_status duplicates_by_text(const dataset *data, const int32_t *order, double threshold, uint8_t *dropped,
                             int64_t *n_dropped)
{
    sc_status status = SC_OK;
    shingles own = {0}, other = {0};
    band_index index = {0};
    int32_t *asked = NULL;
    const size_t n = data->n_reviews;
    progress *p = progress_begin("select: reviews alike in words", "reviews", (int64_t)n);
    *n_dropped = 0;
    SC_TRY(band_index_open(&index, n));
    SC_TRY(sc_alloc(&asked, n, sizeof *asked));
    memset(asked, 0xff, n * sizeof *asked);
    for (size_t k = 0; k < n; k++) {
        const int32_t row = order[k];
        size_t slots[BANDS];
        bool known;
        if (k % 64 == 0)
            SC_TRY(check_cancelled());
        progress_add(p, 1);
        if (dropped[row])
            continue;
        SC_TRY(shingles_make(data, row, &own));
        bands_of(&own, &index, slots);
        SC_TRY(is_known(data, &own, &index, slots, threshold, &other, asked, row, &known));
        if (known) {
            dropped[row] = 1;
            ++*n_dropped;
            continue;
        }
        for (size_t band = 0; band < BANDS && own.n > 0; band++) {
            int32_t *head = &index.heads[band * index.slots + slots[band]];
            index.next[band * n + (size_t)row] = *head;
            *head = row;
        }
    }
cleanup:
    progress_end(p);
    shingles_free(&own);
    shingles_free(&other);
    free(index.heads);
    free(index.next);
    free(asked);
    return status;
}

/* --- by embedding ------------------------------------------------------------------------------------------------ */

enum { ROWS = 256, KEPT = 2048 };

typedef struct cosines {
    const float *x;
    int64_t n, dim;
    double threshold;
    double *norms;            /* [n] */
    float *units;             /* [n_kept][dim] */
    int32_t *kept;            /* [n_kept] rows */
    int64_t n_kept, n_pushed; /* of the units, those before n_pushed are on the device */
    float *products;          /* [ROWS][KEPT] */
    resident d_units, d_products;
} cosines;

static double cosine(const cosines *c, int64_t a, int64_t b)
{
    return cosine_exact(c->x + a * c->dim, c->norms[a], c->x + b * c->dim, c->norms[b], c->dim);
}

/* Marks those of rows units[first ..first + m - 1] that one of the kept before `first` is like. */
static sc_status compare_with_kept(cosines *c, int64_t first, int64_t m, uint8_t *like)
{
    sc_status status = SC_OK;
    const double sure = c->threshold + cosine_error(c->dim), unsure = c->threshold - cosine_error(c->dim);
    for (int64_t at = 0; at < first; at += KEPT) {
        const int64_t k = first - at < KEPT ? first - at : KEPT;
        SC_TRY(c->d_units.ops->gemm(NULL, false, true, m, k, c->dim, 1,
                                    (float *)c->d_units.device + first * c->dim, DTYPE_F32, c->dim,
                                    (float *)c->d_units.device + at * c->dim, DTYPE_F32, c->dim, 0,
                                    c->d_products.device, DTYPE_F32, KEPT));
        SC_TRY(resident_pull(&c->d_products));
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < k && !like[i]; j++) {
                const double product = (double)c->products[i * KEPT + j];
                if (product >= unsure)
                    like[i] =
                        product >= sure || cosine(c, c->kept[first + i], c->kept[at + j]) >= c->threshold;
            }
    }
cleanup:
    return status;
}

/* Puts up to ROWS rows behind the kept ones, and keeps those that are like none. */
static sc_status take_block(cosines *c, const int32_t *rows, int64_t m, uint8_t *dropped, int64_t *n_dropped)
{
    sc_status status = SC_OK;
    const int64_t first = c->n_kept, dim = c->dim;
    uint8_t like[ROWS] = {0};
    for (int64_t i = 0; i < m; i++) {
        c->kept[first + i] = rows[i];
        cosine_unit(c->x + rows[i] * dim, dim, c->norms[rows[i]], c->units + (first + i) * dim);
    }
    SC_TRY(resident_push_part(&c->d_units, (size_t)(c->n_pushed * dim) * sizeof *c->units,
                              (size_t)((first + m - c->n_pushed) * dim) * sizeof *c->units));
    c->n_pushed = first;
    SC_TRY(compare_with_kept(c, first, m, like));
    for (int64_t i = 0; i < m; i++) {
        const int32_t row = rows[i];
        for (int64_t j = first; j < c->n_kept && !like[i]; j++)
            like[i] = cosine(c, row, c->kept[j]) >= c->threshold;
        if (like[i]) {
            dropped[row] = 1;
            ++*n_dropped;
            continue;
        }
        c->kept[c->n_kept] = row;
        if (c->n_kept < first + i)
            memcpy(c->units + c->n_kept * dim, c->units + (first + i) * dim, (size_t)dim * sizeof *c->units);
        c->n_kept++;
    }
cleanup:
    return status;
}

sc_status duplicates_by_cosine(device *dev, const float *x, int64_t n, int64_t dim, const int32_t *order,
                               double threshold, uint8_t *dropped, int64_t *n_dropped)
{
    sc_status status = SC_OK;
    const size_t cells = (size_t)n * (size_t)dim;
    cosines c = {.x = x, .n = n, .dim = dim, .threshold = threshold};
    int32_t rows[ROWS];
    int64_t m = 0;
    progress *p = progress_begin("select: reviews alike in meaning", "reviews", n);
    *n_dropped = 0;
    SC_TRY(sc_alloc(&c.norms, (size_t)n, sizeof *c.norms));
    SC_TRY(sc_alloc(&c.kept, (size_t)n, sizeof *c.kept));
    SC_TRY(sc_alloc(&c.units, cells, sizeof *c.units));
    SC_TRY(sc_alloc(&c.products, (size_t)ROWS * KEPT, sizeof *c.products));
    SC_TRY(resident_open(dev->ops, c.units, cells * sizeof *c.units, &c.d_units));
    SC_TRY(resident_open(dev->ops, c.products, (size_t)ROWS * KEPT * sizeof *c.products, &c.d_products));
    cosine_norms(x, n, dim, c.norms);
    for (int64_t k = 0; k < n; k++) {
        progress_add(p, 1);
        if (!dropped[order[k]] && c.norms[order[k]] > 0)
            rows[m++] = order[k];
        if (m < ROWS && k + 1 < n)
            continue;
        SC_TRY(check_cancelled());
        SC_TRY(take_block(&c, rows, m, dropped, n_dropped));
        m = 0;
    }
cleanup:
    progress_end(p);
    resident_close(&c.d_units);
    resident_close(&c.d_products);
    free(c.norms);
    free(c.kept);
    free(c.units);
    free(c.products);
    return status;
}

/* --- what they would take ---------------------------------------------------------------------------------------- */

void duplicates_text_plan(int64_t n, estimate *out)
{
    int64_t slots = 64;
    while (slots < n)
        slots *= 2;
    estimate_phase_begin(out);
    estimate_array_add(out, "bands of signatures", BANDS * (slots + n), sizeof(int32_t));
    estimate_array_add(out, "rows in order", 2 * n, sizeof(int32_t));
    estimate_phase_end(out);
    estimate_work_add(out, "signatures of all words", 0, 0,
                      NULL); /* by words, which nobody has counted yet */
}

/* Half of all pairs, by products; those of a block in double, one of which takes as long as some twenty. */
static double cosine_operations(int64_t n, int64_t dim)
{
    return (double)n * (double)dim * ((double)n + 20 * ROWS);
}

static sc_status probe_cosines(const selection_task *task, double *operations)
{
    sc_status status = SC_OK;
    const int64_t enough = (int64_t)sqrt(1e9 / (double)task->dim), n = enough < task->n ? enough : task->n;
    int32_t *order = NULL;
    uint8_t *dropped = NULL;
    int64_t n_dropped = 0;
    SC_TRY(sc_alloc(&order, (size_t)n, sizeof *order));
    SC_TRY(sc_alloc(&dropped, (size_t)n, 1));
    for (int32_t i = 0; i < n; i++)
        order[i] = i;
    SC_TRY(duplicates_by_cosine(task->device, task->x, n, task->dim, order, 1, dropped, &n_dropped));
    *operations = cosine_operations(n, task->dim);
cleanup:
    free(order);
    free(dropped);
    return status;
}

void duplicates_cosine_plan(int64_t n, int64_t dim, estimate *out)
{
    estimate_phase_begin(out);
    estimate_resident_add(out, "unit rows", n * dim, sizeof(float));
    estimate_array_add(out, "norms and rows kept", n, sizeof(double) + sizeof(int32_t));
    estimate_resident_add(out, "products", (int64_t)ROWS * KEPT, sizeof(float));
    estimate_phase_end(out);
    estimate_work_add(out, "products of rows that may be alike", cosine_operations(n, dim), (double)n / ROWS,
                      probe_cosines);
}
