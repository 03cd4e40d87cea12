/* cluster_scores on AMX: rows and centres rounded to bf16, 32 rows by 32 centres at a time. Both lie as [32 rows or centres][step of
 * 32 columns][2 tiles], so that what a step takes of either is 2 kB in one piece. */
#include "device/cpu/amx.h"
#include "device/cpu/cluster_scores.h"

#include <math.h>

/* 32 floats, of which the first `count` are there, as bf16; what rounding took of each half is squared and added to rest2. */
static inline __m512i round_step(const float *from, int64_t count, __m512 rest2[2])
{
    const __mmask32 some = count >= AMX_DEPTH ? ~(__mmask32)0 : ((__mmask32)1 << count) - 1;
    const __m512 first = _mm512_maskz_loadu_ps((__mmask16)some, from);
    const __m512 second = _mm512_maskz_loadu_ps((__mmask16)(some >> 16), from + 16);
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, first);
    const __m512 first_rest = _mm512_sub_ps(first, amx_floats(_mm512_castsi512_si256(both)));
    const __m512 second_rest = _mm512_sub_ps(second, amx_floats(_mm512_extracti64x4_epi64(both, 1)));
    rest2[0] = _mm512_fmadd_ps(first_rest, first_rest, rest2[0]);
    rest2[1] = _mm512_fmadd_ps(second_rest, second_rest, rest2[1]);
    return both;
}

static inline float sum_of(const __m512 rest2[2])
{
    return _mm512_reduce_add_ps(_mm512_add_ps(rest2[0], rest2[1]));
}

void amx_score_pack(uint32_t *pairs, float *rest2, const float *centres, int64_t n, int64_t dim)
{
    for (int64_t i = 0; i < SCORE_WIDE; i += AMX_ROWS) {
        __m512 sums[AMX_ROWS][2];
        memset(sums, 0, sizeof sums);
        for (int64_t d = 0; d < dim; d += AMX_DEPTH) {
            __m512i r[AMX_ROWS];
            for (int64_t j = 0; j < AMX_ROWS; j++)
                r[j] = i + j < n ? round_step(centres + (i + j) * dim + d, dim - d, sums[j])
                                 : _mm512_setzero_si512();
            amx_transpose(r);
            for (int64_t p = 0; p < AMX_ROWS; p++)
                _mm512_storeu_si512(pairs + d / 2 * SCORE_WIDE + (i + p) * AMX_ROWS, r[p]);
        }
        for (int64_t j = 0; j < AMX_ROWS; j++)
            rest2[i + j] = sum_of(sums[j]);
    }
}

static inline uint16_t *rounded_at(uint16_t *rounded, int64_t row, int64_t width)
{
    return rounded + row / SCORE_WIDE * SCORE_WIDE * width + row % SCORE_WIDE * AMX_DEPTH;
}

void amx_score_round(uint16_t *rounded, float *rest2, const float *const *x, int64_t count, int64_t dim)
{
    const int64_t width = score_rounded_dim(dim);
    for (int64_t r = 0; r < score_rounded_rows(count); r++) {
        __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        uint16_t *to = rounded_at(rounded, r, width);
        for (int64_t d = 0; d < dim; d += AMX_DEPTH, to += SCORE_WIDE * AMX_DEPTH)
            _mm512_storeu_si512(to, r < count ? round_step(x[r] + d, dim - d, sums) : _mm512_setzero_si512());
        if (r < count)
            rest2[r] = sum_of(sums);
    }
}

void amx_score_dots(float *dots, const uint16_t *rounded, int64_t count, const uint32_t *pairs, int64_t dim)
{
    enum { ROWS_TILE = AMX_ROWS * AMX_DEPTH, PAIRS_TILE = ROWS_TILE / 2, TILE_ROW = 64 /* bytes */ };
    const int64_t width = score_rounded_dim(dim);
    amx_begin();
    for (int64_t r = 0; r < count; r += SCORE_WIDE) {
        const uint32_t *across = pairs;
        amx_zero_sums();
        for (int64_t d = 0; d < width; d += AMX_DEPTH, rounded += 2 * ROWS_TILE, across += 2 * PAIRS_TILE) {
            _tile_loadd(4, rounded, TILE_ROW);
            _tile_loadd(6, across, TILE_ROW);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, across + PAIRS_TILE, TILE_ROW);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, rounded + ROWS_TILE, TILE_ROW);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        amx_store_sums(dots + r * SCORE_WIDE, SCORE_WIDE);
    }
    amx_end();
}

void amx_score_see(const score_centres *c, int64_t first, int count, const float *dots, const float *norms,
                   const float *rests, float *lows, score_lanes *seen)
{
    const int64_t padded = score_padded(c->k);
    const __m512 low_norms = _mm512_loadu_ps(c->low_norms + first);
    const __m512 high_norms = _mm512_loadu_ps(c->high_norms + first);
    const __m512 blur = _mm512_loadu_ps(c->blur + first), left_out = _mm512_loadu_ps(c->rests + first);
    const __m512i index =
        _mm512_add_epi32(_mm512_set1_epi32((int)first),
                         _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    for (int r = 0; r < count; r++) {
        score_lanes *s = seen + r;
        const __m512 product = _mm512_loadu_ps(dots + r * SCORE_WIDE), two = _mm512_set1_ps(2);
        const __m512 may = _mm512_fmadd_ps(_mm512_set1_ps(rests[r]), left_out,
                                           _mm512_mul_ps(_mm512_set1_ps(norms[r]), blur));
        const __m512 low = _mm512_sub_ps(_mm512_fnmadd_ps(two, product, low_norms), may);
        const __m512 high = _mm512_add_ps(_mm512_fnmadd_ps(two, product, high_norms), may);
        const __m512 lowest = _mm512_loadu_ps(s->low), highest = _mm512_loadu_ps(s->high);
        const __mmask16 nearer = _mm512_cmp_ps_mask(high, highest, _CMP_LT_OQ);
        _mm512_storeu_ps(lows + r * padded + first, low);
        _mm512_storeu_ps(s->high, _mm512_mask_mov_ps(highest, nearer, high));
        _mm512_mask_storeu_epi32(s->index, nearer, index);
        _mm512_storeu_ps(s->second, _mm512_min_ps(_mm512_loadu_ps(s->second), _mm512_max_ps(lowest, low)));
        _mm512_storeu_ps(s->low, _mm512_min_ps(lowest, low));
    }
}

score_best amx_score_best(const score_lanes *seen)
{
    const __m512 high = _mm512_loadu_ps(seen->high), low = _mm512_loadu_ps(seen->low);
    const float lowest = _mm512_reduce_min_ps(low), highest = _mm512_reduce_min_ps(high);
    const unsigned its = _mm512_cmp_ps_mask(low, _mm512_set1_ps(lowest), _CMP_EQ_OQ);
    const __m512 others = _mm512_mask_mov_ps(low, (__mmask16)(its & (0 - its)), _mm512_set1_ps(INFINITY));
    const unsigned nearest = _mm512_cmp_ps_mask(high, _mm512_set1_ps(highest), _CMP_EQ_OQ);
    return (score_best){highest, seen->index[nearest ? __builtin_ctz(nearest) : 0],
                        _mm512_reduce_min_ps(_mm512_min_ps(others, _mm512_loadu_ps(seen->second)))};
}
