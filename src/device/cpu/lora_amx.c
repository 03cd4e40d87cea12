/* lora's products for activations of bf16 on a processor with AMX. One side of each is narrow, an adapter or rows of its rank,
 * and stays in float: as the sum of two bf16, which stand side by side in the operand, so that a product of tiles makes both
 * halves at once. With `wide` rows of activations and `narrow` rows of the rank, of n tokens,
 *     down:      narrow [n][rank]     = factor wide m                  both parts of m are columns
 *     up:        wide [n][width]     += factor narrow m                both parts of narrow are depth, against each part of m
 *     gradient:  m [rank][width]     += factor narrow^T wide           both parts of narrow are rows
 * Wide rows are read as they lie, and written once. Every sum has one order whatever the threads. */
#include "device/cpu/amx.h"
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

enum {
    RANK_TILE = 16,
    RANK_MOST = 128,
    ROWS_LEAST = 64, /* below, packing the adapters costs more than it spares */
    UP_ROWS = 64,
    UP_COLUMNS = 64,
    GRADIENT_COLUMNS = 64,
    GRADIENT_TOKENS = 256
};

bool lora_takes_amx(int64_t n, int64_t in, int64_t out, int64_t rank)
{
    return cpu_has_amx() && n >= ROWS_LEAST && in % AMX_STEP == 0 && out % AMX_STEP == 0 && in > 0 &&
           out > 0 && rank % RANK_TILE == 0 && rank > 0 && rank <= RANK_MOST;
}

/* --- operands ------------------------------------------------------------------------------------------ */

/* An adapter as the right operand of down: [width / 2][2 rank], each 16 of the rank followed by their low parts. */
static void pack_down(uint32_t *pairs, const amx_adapter *m)
{
    const int64_t width = m->width, rank = m->rank;
    if (!m->rank_in_rows)
        for (int64_t p = 0; p < width / 2; p++)
            for (int64_t r = 0; r < rank; r += RANK_TILE) {
                const float *even = m->at + 2 * p * rank + r;
                __m512i high, low;
                amx_split_pairs(_mm512_loadu_ps(even), _mm512_loadu_ps(even + rank), &high, &low);
                _mm512_storeu_si512(pairs + 2 * (p * rank + r), high);
                _mm512_storeu_si512(pairs + 2 * (p * rank + r) + 16, low);
            }
    for (int64_t c = 0; m->rank_in_rows && c < width; c += 32)
        for (int64_t r = 0; r < rank; r += RANK_TILE) {
            __m512i high[16], low[16];
            for (int64_t j = 0; j < 16; j++) {
                const float *from = m->at + (r + j) * width + c;
                const __m512i first = amx_split(_mm512_loadu_ps(from));
                const __m512i second = amx_split(_mm512_loadu_ps(from + 16));
                high[j] = _mm512_shuffle_i64x2(first, second, 0x44); /* both lower halves */
                low[j] = _mm512_shuffle_i64x2(first, second, 0xee);
            }
            amx_transpose(high);
            amx_transpose(low);
            for (int64_t p = 0; p < 16; p++) {
                uint32_t *to = pairs + 2 * ((c / 2 + p) * rank + r);
                _mm512_storeu_si512(to, high[p]);
                _mm512_storeu_si512(to + 16, low[p]);
            }
        }
}

/* An adapter as the right operand of up: for each 16 of the rank two steps, [16][width], of the high and of the low parts. Eight
 * pairs of a step meet the high parts of narrow, and the same eight its low ones. */
static void store_up(uint32_t *pairs, int64_t width, int64_t pair, int64_t column, __m512i high, __m512i low)
{
    uint32_t *to = pairs + pair * width + column;
    _mm512_storeu_si512(to, high);
    _mm512_storeu_si512(to + 8 * width, high);
    _mm512_storeu_si512(to + 16 * width, low);
    _mm512_storeu_si512(to + 24 * width, low);
}

static void pack_up(uint32_t *pairs, const amx_adapter *m)
{
    const int64_t width = m->width, rank = m->rank;
    for (int64_t r = 0; r < rank; r += RANK_TILE, pairs += 32 * width)
        for (int64_t c = 0; c < width; c += 16) {
            __m512i rows[16];
            for (int64_t p = 0; m->rank_in_rows && p < 8; p++) {
                const float *even = m->at + (r + 2 * p) * width + c;
                amx_split_pairs(_mm512_loadu_ps(even), _mm512_loadu_ps(even + width), &rows[p], &rows[8 + p]);
            }
            for (int64_t j = 0; !m->rank_in_rows && j < 16; j++)
                rows[j] = amx_split(_mm512_loadu_ps(m->at + (c + j) * rank + r));
            if (!m->rank_in_rows)
                amx_transpose(rows); /* eight pairs of high parts, then eight of low ones */
            for (int64_t p = 0; p < 8; p++)
                store_up(pairs, width, p, c, rows[p], rows[8 + p]);
        }
}

/* narrow as the left operand of gradient: for each 32 tokens and 16 of the rank, [16 high, 16 low][32 tokens]. */
static void pack_gradient(uint16_t *left, const float *narrow, int64_t n, int64_t rank)
{
    const int64_t blocks = (n + AMX_DEPTH - 1) / AMX_DEPTH;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *rank, blocks))
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t r = 0; r < rank; r += RANK_TILE) {
            uint16_t *to = left + 2 * AMX_DEPTH * (block * rank + r);
            __m512i high[16], low[16];
            for (int64_t p = 0; p < 16; p++) {
                const int64_t token = block * AMX_DEPTH + 2 * p;
                const float *from = narrow + token * rank + r;
                const __m512 zero = _mm512_setzero_ps();
                amx_split_pairs(token < n ? _mm512_loadu_ps(from) : zero,
                                token + 1 < n ? _mm512_loadu_ps(from + rank) : zero, &high[p], &low[p]);
            }
            amx_transpose(high);
            amx_transpose(low);
            for (int64_t j = 0; j < 16; j++) {
                _mm512_storeu_si512(to + j * AMX_DEPTH, high[j]);
                _mm512_storeu_si512(to + (16 + j) * AMX_DEPTH, low[j]);
            }
        }
}

/* --- products ------------------------------------------------------------------------------------------ */

static size_t largest(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* down and up need their adapter, down a step of rows ended by zeros, gradient its left operand. What larger shapes want is enough
 * for smaller ones, though they may not be taken themselves: a plan asks for the largest. */
size_t amx_lora_workspace(int64_t n, int64_t in, int64_t out, int64_t rank)
{
    if (!cpu_has_amx())
        return 0;
    const size_t width = (size_t)(in > out ? in : out);
    const size_t adapter = width * (size_t)rank * 2 * sizeof(uint32_t),
                 rows = width * AMX_STEP * sizeof(uint16_t);
    const size_t left = (size_t)(n + AMX_DEPTH) * (size_t)rank * 2 * sizeof(uint16_t);
    return largest(adapter + rows, left);
}

void amx_lora_down(float *narrow, const uint16_t *wide, const amx_adapter *m, int64_t n, float factor,
                   void *workspace)
{
    const int64_t width = m->width, rank = m->rank, blocks = (n + AMX_STEP - 1) / AMX_STEP;
    uint32_t *const pairs = workspace;
    uint16_t *const last = (uint16_t *)(pairs + width * rank);
    pack_down(pairs, m);
    if (n % AMX_STEP) {
        const int64_t whole = n / AMX_STEP * AMX_STEP;
        memcpy(last, wide + whole * width, (size_t)((n - whole) * width) * sizeof *last);
        memset(last + (n - whole) * width, 0, (size_t)((AMX_STEP - n + whole) * width) * sizeof *last);
    }
    const amx_right right = {pairs, AMX_DEPTH / 2 * 2 * rank, 2 * rank};
#pragma omp parallel num_threads(cpu_team(n *width, blocks))
    {
        _Alignas(64) float sums[AMX_STEP * 2 * RANK_MOST];
        amx_begin();
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t first = block * AMX_STEP, rows = n - first < AMX_STEP ? n - first : AMX_STEP;
            const amx_left left = {rows < AMX_STEP ? last : wide + first * width, AMX_DEPTH, width};
            amx_product(AMX_STEP, 2 * rank, width / AMX_DEPTH, left, right, false, sums, 2 * rank);
            for (int64_t i = 0; i < rows; i++)
                for (int64_t r = 0; r < rank; r += RANK_TILE) {
                    const float *both = sums + 2 * (i * rank + r);
                    const __m512 sum = _mm512_add_ps(_mm512_load_ps(both), _mm512_load_ps(both + 16));
                    _mm512_storeu_ps(narrow + (first + i) * rank + r,
                                     _mm512_mul_ps(sum, _mm512_set1_ps(factor)));
                }
        }
        amx_end();
    }
}

/* Rows of narrow as up's left operand: each 16 of the rank as high and low parts, twice. */
static void split_rows(uint16_t *left, const float *narrow, int64_t rows, int64_t rank)
{
    for (int64_t i = 0; i < UP_ROWS; i++)
        for (int64_t r = 0; r < rank; r += RANK_TILE) {
            const __m512 values = i < rows ? _mm512_loadu_ps(narrow + i * rank + r) : _mm512_setzero_ps();
            const __m512i both = amx_split(values);
            _mm512_store_si512(left + 4 * (i * rank + r), both);
            _mm512_store_si512(left + 4 * (i * rank + r) + 32, both);
        }
}

/* wide [rows][columns] += factor sums for bf16, = for floats */
static void finish_up(void *wide, dtype type, int64_t width, const float *sums, int64_t rows, int64_t columns,
                      float factor)
{
    const __m512 factors = _mm512_set1_ps(factor);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j += 16) {
            void *to = at(wide, type, i * width + j);
            const __m512 sum = _mm512_load_ps(sums + i * UP_COLUMNS + j);
            const __m512 old = type == DTYPE_F32 ? _mm512_setzero_ps() : amx_load(to, type, 0xffff);
            amx_store(to, type, 0xffff, _mm512_fmadd_ps(sum, factors, old));
        }
}

void amx_lora_up(void *wide, dtype type, const float *narrow, const amx_adapter *m, int64_t n, float factor,
                 void *workspace)
{
    const int64_t width = m->width, rank = m->rank, blocks = (n + UP_ROWS - 1) / UP_ROWS;
    uint32_t *const pairs = workspace;
    pack_up(pairs, m);
#pragma omp parallel num_threads(cpu_team(n *width, blocks))
    {
        _Alignas(64) uint16_t left[UP_ROWS * 4 * RANK_MOST];
        _Alignas(64) float sums[UP_ROWS * UP_COLUMNS];
        amx_begin();
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t first = block * UP_ROWS, rows = n - first < UP_ROWS ? n - first : UP_ROWS;
            split_rows(left, narrow + first * rank, rows, rank);
            for (int64_t column = 0; column < width; column += UP_COLUMNS) {
                const int64_t columns = width - column < UP_COLUMNS ? width - column : UP_COLUMNS;
                amx_product(UP_ROWS, columns, 2 * rank / RANK_TILE, (amx_left){left, AMX_DEPTH, 4 * rank},
                            (amx_right){pairs + column, 16 * width, width}, false, sums, UP_COLUMNS);
                finish_up(at(wide, type, first * width + column), type, width, sums, rows, columns, factor);
            }
        }
        amx_end();
    }
}

/* m += factor sums [16 high, 16 low][GRADIENT_COLUMNS] for 16 of the rank */
static void add_gradient(float *m, const amx_adapter *shape, const float *sums, int64_t rank, int64_t column,
                         int64_t columns, float factor)
{
    for (int64_t c = 0; c < columns; c += 16) {
        __m512i rows[16];
        for (int64_t r = 0; r < RANK_TILE; r++) {
            const float *high = sums + r * GRADIENT_COLUMNS + c, *low = high + RANK_TILE * GRADIENT_COLUMNS;
            rows[r] = _mm512_castps_si512(_mm512_add_ps(_mm512_load_ps(high), _mm512_load_ps(low)));
        }
        float *to = m + rank * shape->width + column + c;
        int64_t step = shape->width;
        if (!shape->rank_in_rows) {
            amx_transpose(rows);
            to = m + (column + c) * shape->rank + rank;
            step = shape->rank;
        }
        for (int64_t r = 0; r < 16; r++)
            _mm512_storeu_ps(to + r * step,
                             _mm512_fmadd_ps(_mm512_castsi512_ps(rows[r]), _mm512_set1_ps(factor),
                                             _mm512_loadu_ps(to + r * step)));
    }
}

void amx_lora_gradient(float *m, const amx_adapter *shape, const float *narrow, const uint16_t *wide,
                       int64_t n, float factor, void *workspace)
{
    const int64_t width = shape->width, rank = shape->rank;
    const int64_t blocks = (width + GRADIENT_COLUMNS - 1) / GRADIENT_COLUMNS;
    uint16_t *const left = workspace;
    pack_gradient(left, narrow, n, rank);
#pragma omp parallel num_threads(cpu_team(n *width, blocks))
    {
        _Alignas(64) uint32_t pairs[GRADIENT_TOKENS / 2 * GRADIENT_COLUMNS];
        _Alignas(64) float sums[RANK_MOST / RANK_TILE][AMX_STEP * GRADIENT_COLUMNS];
        amx_begin();
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t column = block * GRADIENT_COLUMNS;
            const int64_t columns = width - column < GRADIENT_COLUMNS ? width - column : GRADIENT_COLUMNS;
            for (int64_t token = 0; token < n; token += GRADIENT_TOKENS) {
                const int64_t some = n - token < GRADIENT_TOKENS ? n - token : GRADIENT_TOKENS;
                const int64_t tokens = amx_padded(some);
                amx_pair_rows(pairs, GRADIENT_COLUMNS, tokens / 2, wide + token * width + column, width, some,
                              columns);
                for (int64_t r = 0; r < rank; r += RANK_TILE)
                    amx_product(AMX_STEP, columns, tokens / AMX_DEPTH,
                                (amx_left){left + 2 * (token * rank + AMX_DEPTH * r), 2 * AMX_DEPTH * rank,
                                           AMX_DEPTH},
                                (amx_right){pairs, AMX_DEPTH / 2 * GRADIENT_COLUMNS, GRADIENT_COLUMNS},
                                token > 0, sums[r / RANK_TILE], GRADIENT_COLUMNS);
            }
            for (int64_t r = 0; r < rank; r += RANK_TILE)
                add_gradient(m, shape, sums[r / RANK_TILE], r, column, columns, factor);
        }
        amx_end();
    }
}
