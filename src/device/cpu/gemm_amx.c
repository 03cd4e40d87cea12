/* gemm of bf16 on a processor with AMX. Both operands are packed so that a step of 32 along k is 2 KB in a row, whichever way they
 * lie: tiles then load at the rate of the first two caches. As many columns of b as fill two fifths of the second cache are packed at a
 * time, by all threads; then each takes 32 rows of a, packs them for itself, which costs a hundredth of the product, and meets them
 * with all these columns. A sum runs over k in one order, in float. */
#include <stdlib.h>

#include "device/cpu/amx.h"
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

enum {
    PANEL = AMX_STEP,               /* rows of a, or columns of b */
    PANEL_STEP = PANEL * AMX_DEPTH, /* elements of a step of one */
    CHUNK_BYTES = 800 << 10,        /* of packed columns */
    DEPTH_MOST = 8192,              /* of k, whose panels would not stay in the caches */
    TASKS = 4,                      /* a thread's, at least, so that all end together */
};

typedef struct operand {
    const uint16_t *at;
    int64_t ld, lines, depth; /* rows of a or columns of b; k */
    bool along;               /* whether a line's elements are neighbours */
} operand;

static inline __mmask32 first_of(int64_t n)
{
    return n >= 32 ? 0xffffffffu : n <= 0 ? 0 : (1u << n) - 1;
}

/* 16 lines from `line`, 32 of the depth from `k`, in pairs along the depth: r[line] if they lie along it, else r[pair]. */
static inline void load_pairs(__m512i r[16], const operand *x, int64_t line, int64_t k)
{
    const __mmask32 deep = first_of(x->depth - k);
    const __mmask16 wide = (__mmask16)first_of(x->lines - line < 16 ? x->lines - line : 16);
    for (int64_t i = 0; i < 16; i++) {
        if (x->along) {
            r[i] = line + i < x->lines ? _mm512_maskz_loadu_epi16(deep, x->at + (line + i) * x->ld + k)
                                       : _mm512_setzero_si512();
            continue;
        }
        const uint16_t *even = x->at + (k + 2 * i) * x->ld + line;
        const __m256i zero = _mm256_setzero_si256();
        const __m256i low = k + 2 * i < x->depth ? _mm256_maskz_loadu_epi16(wide, even) : zero;
        const __m256i high = k + 2 * i + 1 < x->depth ? _mm256_maskz_loadu_epi16(wide, even + x->ld) : zero;
        r[i] =
            _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
    }
}

/* A panel of a: [k / 32][32 rows][32]. */
static void pack_rows(uint16_t *to, const operand *a, int64_t row)
{
    for (int64_t k = 0; k < a->depth; k += AMX_DEPTH)
        for (int64_t half = 0; half < PANEL; half += 16) {
            __m512i r[16];
            load_pairs(r, a, row + half, k);
            if (!a->along)
                amx_transpose(r);
            for (int64_t i = 0; i < 16; i++, to += AMX_DEPTH)
                _mm512_store_si512(to, r[i]);
        }
}

/* A panel of b: [k / 32][16 pairs][32 columns]. */
static void pack_columns(uint32_t *to, const operand *b, int64_t column)
{
    for (int64_t k = 0; k < b->depth; k += AMX_DEPTH, to += PANEL_STEP / 2)
        for (int64_t half = 0; half < PANEL; half += 16) {
            __m512i r[16];
            load_pairs(r, b, column + half, k);
            if (b->along)
                amx_transpose(r);
            for (int64_t p = 0; p < 16; p++)
                _mm512_store_si512(to + p * PANEL + half, r[p]);
        }
}

/* What becomes of a block's sums. */
typedef struct target {
    void *c;
    dtype type;
    int64_t ld, m, n;
    float alpha, beta;
} target;

static void finish(const target *t, int64_t row, int64_t column, const float *sums)
{
    const int64_t rows = t->m - row < PANEL ? t->m - row : PANEL;
    if (t->type == DTYPE_BF16 && t->alpha == 1 && t->beta == 0 && column + PANEL <= t->n) {
        for (int64_t i = 0; i < rows; i++) {
            const float *sum = sums + i * PANEL;
            const __m512bh y = _mm512_cvtne2ps_pbh(_mm512_load_ps(sum + 16), _mm512_load_ps(sum));
            _mm512_storeu_si512((uint16_t *)t->c + (row + i) * t->ld + column, (__m512i)y);
        }
        return;
    }
    const __m512 alpha = _mm512_set1_ps(t->alpha), beta = _mm512_set1_ps(t->beta);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < PANEL && column + j < t->n; j += 16) {
            const __mmask16 some = (__mmask16)first_of(t->n - column - j < 16 ? t->n - column - j : 16);
            void *to = at(t->c, t->type, (row + i) * t->ld + column + j);
            __m512 y = _mm512_mul_ps(alpha, _mm512_load_ps(sums + i * PANEL + j));
            if (t->beta != 0) /* what stands there is not read otherwise */
                y = _mm512_fmadd_ps(beta, amx_load(to, t->type, some), y);
            amx_store(to, t->type, some, y);
        }
}

/* Columns of b that are packed at a time: what the cache holds, or more where threads would be left without rows. */
static int64_t columns_at_a_time(int64_t m, int64_t n, int64_t padded, int threads)
{
    const int64_t panel_bytes = padded * PANEL * (int64_t)sizeof(uint16_t);
    int64_t panels = CHUNK_BYTES / panel_bytes > 0 ? CHUNK_BYTES / panel_bytes : 1;
    const int64_t row_panels = (m + PANEL - 1) / PANEL, wanted = TASKS * (int64_t)threads;
    if (row_panels < wanted)
        panels *= (wanted + row_panels - 1) / row_panels;
    const int64_t all = (n + PANEL - 1) / PANEL;
    return panels < all ? panels : all;
}

bool cpu_gemm_amx(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const uint16_t *a,
                  int64_t lda, const uint16_t *b, int64_t ldb, float beta, void *c, dtype c_type, int64_t ldc)
{
    const int64_t padded = (k + AMX_DEPTH - 1) / AMX_DEPTH * AMX_DEPTH, row_panels = (m + PANEL - 1) / PANEL;
    const int64_t column_panels = (n + PANEL - 1) / PANEL;
    if (k == 0 || k > DEPTH_MOST)
        return false;
    const operand rows = {a, lda, m, k, !trans_a}, columns = {b, ldb, n, k, trans_b};
    const target t = {c, c_type, ldc, m, n, alpha, beta};
    const int threads = cpu_team(m * n + (m + n) * k, row_panels * column_panels);
    const int64_t chunk = columns_at_a_time(m, n, padded, threads);
    const int64_t run = columns_at_a_time(m, n, padded, 1); /* what a task takes of them: the cache's share */
    const size_t panel = (size_t)(padded * PANEL) * sizeof(uint16_t);
    /* Rows that lie along k need no packing, unless they fall into the same few lines of the cache. */
    const bool as_they_lie = !trans_a && k % AMX_DEPTH == 0 && lda % 1024 != 0;
    char *const room = aligned_alloc(64, panel * (size_t)(chunk + threads));
    if (!room)
        return false;
    uint32_t *const packed = (uint32_t *)room;
#pragma omp parallel num_threads(threads)
    {
        _Alignas(64) float sums[PANEL * PANEL];
        uint16_t *const mine = (uint16_t *)(room + panel * (size_t)(chunk + cpu_thread()));
        amx_begin();
        for (int64_t first = 0; first < column_panels; first += chunk) {
            const int64_t some = column_panels - first < chunk ? column_panels - first : chunk;
            const int64_t runs = (some + run - 1) / run;
#pragma omp for schedule(static)
            for (int64_t j = 0; j < some; j++)
                pack_columns(packed + j * padded * PANEL / 2, &columns, (first + j) * PANEL);
#pragma omp for schedule(static)
            for (int64_t task = 0; task < runs * row_panels; task++) {
                const int64_t row = task % row_panels * PANEL, from = task / row_panels * run;
                amx_left left = {mine, PANEL_STEP, AMX_DEPTH};
                if (as_they_lie && row + PANEL <= m)
                    left = (amx_left){a + row * lda, AMX_DEPTH, lda};
                else
                    pack_rows(mine, &rows, row);
                for (int64_t j = from; j < from + run && j < some; j++) {
                    amx_product(PANEL, PANEL, padded / AMX_DEPTH, left,
                                (amx_right){packed + j * padded * PANEL / 2, PANEL_STEP / 2, PANEL}, false,
                                sums, PANEL);
                    finish(&t, row, (first + j) * PANEL, sums);
                }
            }
        }
        amx_end();
    }
    free(room);
    return true;
}
