/* attention_forward for bf16 on a processor with AMX: attention.c's online softmax, both of whose products are of tiles. Scores
 * are [key][query] as there: keys are an operand as they lie, the lanes of a vector are queries, and the probabilities, rounded
 * to bf16 two keys at a time, are the right operand of out^T = V^T P^T. Values are transposed once a call.
 *
 * Blocks of keys start at multiples of KEY_BLOCK of their sequence, so a token's sums do not depend on its neighbours. */
#include "device/cpu/attention_amx.h"

#define LN_2 0.693147180559945309f

enum { KEY_BLOCK = 128, GROUPS = QUERIES / 16 };

/* One block of 32 tokens of a head. */
static void transpose_block(uint16_t *to, const uint16_t *x, int64_t stride, int64_t n, int64_t dim)
{
    for (int64_t d = 0; d < dim; d += 16) {
        __m512i r[16];
        for (int64_t p = 0; p < 16; p++)
            r[p] = amx_pair_of(x + d, stride, n, p);
        amx_transpose(r);
        for (int64_t j = 0; j < 16; j++)
            _mm512_storeu_si512(to + (d + j) * AMX_STEP, r[j]);
    }
}

void amx_transpose_rows(uint16_t *all, const uint16_t *x, const attention_shape *shape)
{
    const int64_t per_seq = (shape->max_seqlen + AMX_STEP - 1) / AMX_STEP, heads = shape->n_kv_heads;
    const int64_t tasks = per_seq * shape->n_seqs * heads, dim = shape->head_dim;
#pragma omp parallel for schedule(static) num_threads(cpu_team(shape->n_tokens *heads *dim, tasks))
    for (int64_t t = 0; t < tasks; t++) {
        const int64_t seq = t / (heads * per_seq), head = t / per_seq % heads, first = t % per_seq * AMX_STEP;
        const int64_t start = shape->cu_seqlens[seq], n = shape->cu_seqlens[seq + 1] - start;
        if (first < n)
            transpose_block(all + amx_transposed_at(shape, seq, head, first),
                            x + (start + first) * shape->kv_stride + head * dim, shape->kv_stride,
                            n - first < AMX_STEP ? n - first : AMX_STEP, dim);
    }
}

typedef struct forward {
    uint16_t *out;
    float *lse;
    const uint16_t *q, *k, *values; /* the values transposed */
    const attention_shape *shape;
} forward;

/* What a block of queries carries from one block of keys to the next. `base` is the greatest score so far, in units of log 2
 * (0 while nothing has been seen). */
typedef struct running {
    __m512 base[GROUPS], most[GROUPS], total[GROUPS];
} running;

/* The scores' softmax so far: scores [n][QUERIES] times `rate` become pairs [n / 2][QUERIES] of probabilities, and shrink [QUERIES]
 * says by what earlier sums are too large. n is even. */
static void soften(running *state, uint32_t *pairs, float *shrink, const float *scores, int64_t n, float rate)
{
    const __m512 rates = _mm512_set1_ps(rate);
    __m512 most[GROUPS];
#pragma GCC unroll 4
    for (int g = 0; g < GROUPS; g++)
        most[g] = _mm512_set1_ps(-INFINITY);
    for (int64_t j = 0; j < n; j++) {
#pragma GCC unroll 4
        for (int g = 0; g < GROUPS; g++)
            most[g] = _mm512_max_ps(_mm512_load_ps(scores + j * QUERIES + 16 * g), most[g]);
    }
#pragma GCC unroll 4
    for (int g = 0; g < GROUPS; g++) {
        const __m512 top = _mm512_max_ps(_mm512_mul_ps(most[g], rates), state->most[g]);
        const __mmask16 nothing = _mm512_cmp_ps_mask(top, _mm512_set1_ps(-INFINITY), _CMP_EQ_OQ);
        state->base[g] = _mm512_mask_blend_ps(nothing, top, _mm512_setzero_ps());
        const __m512 smaller = amx_exp2(_mm512_sub_ps(state->most[g], state->base[g]));
        _mm512_store_ps(shrink + 16 * g, smaller);
        state->total[g] = _mm512_mul_ps(state->total[g], smaller);
        state->most[g] = top;
    }
    for (int64_t j = 0; j < n; j += 2) {
#pragma GCC unroll 4
        for (int g = 0; g < GROUPS; g++) {
            const float *s = scores + j * QUERIES + 16 * g;
            const __m512 even = amx_exp2(_mm512_fmsub_ps(_mm512_load_ps(s), rates, state->base[g]));
            const __m512 odd = amx_exp2(_mm512_fmsub_ps(_mm512_load_ps(s + QUERIES), rates, state->base[g]));
            state->total[g] = _mm512_add_ps(state->total[g], _mm512_add_ps(even, odd));
            _mm512_store_si512(pairs + j / 2 * QUERIES + 16 * g, amx_round_pairs(even, odd));
        }
    }
}

/* sums [dim][QUERIES] by each query's shrink, if any is not 1. */
static void scale_sums(float *sums, const float *shrink, int64_t dim)
{
    __m512 rates[GROUPS];
    __mmask16 some = 0;
    for (int g = 0; g < GROUPS; g++) {
        rates[g] = _mm512_load_ps(shrink + 16 * g);
        some |= _mm512_cmp_ps_mask(rates[g], _mm512_set1_ps(1.0f), _CMP_NEQ_UQ);
    }
    for (int64_t i = 0; some && i < dim * QUERIES; i += QUERIES)
        for (int g = 0; g < GROUPS; g++)
            _mm512_store_ps(sums + i + 16 * g, _mm512_mul_ps(_mm512_load_ps(sums + i + 16 * g), rates[g]));
}

static void forward_block(const forward *all, int64_t seq, int64_t head, int64_t first)
{
    const attention_shape *shape = all->shape;
    _Alignas(64) uint32_t queries[HEAD_MOST / 2 * QUERIES], pairs[KEY_BLOCK / 2 * QUERIES];
    _Alignas(64) float scores[KEY_BLOCK * QUERIES], sums[HEAD_MOST * QUERIES];
    _Alignas(64) float shrink[QUERIES], base[QUERIES], total[QUERIES];
    _Alignas(64) uint16_t keys[KEY_BLOCK * HEAD_MOST];
    running state;
    const int64_t dim = shape->head_dim, start = shape->cu_seqlens[seq],
                  n = shape->cu_seqlens[seq + 1] - start;
    const int64_t length = n - first < QUERIES ? n - first : QUERIES;
    const int64_t kv_head = head / (shape->n_heads / shape->n_kv_heads);
    const float rate = amx_rate(shape);
    const int64_t offset = (start + first) * shape->q_stride + head * dim;

    amx_pack_rows(queries, QUERIES, all->q + offset, shape->q_stride, length, dim);
    for (int g = 0; g < GROUPS; g++) {
        state.base[g] = state.total[g] = _mm512_setzero_ps();
        state.most[g] = _mm512_set1_ps(-INFINITY);
    }
    /* The keys shared with the first sequence lie before the sequence's own, k0 < 0. */
    const int64_t seen = seen_before(shape, first, length, n), shared = seq > 0 ? shape->n_shared : 0;
    const int64_t from = seen_from(shape, shared + first);
    const amx_right query_pairs = {.at = queries, .step = AMX_DEPTH / 2 * QUERIES, .row = QUERIES};
    const amx_right probabilities = {.at = pairs, .step = AMX_DEPTH / 2 * QUERIES, .row = QUERIES};
    bool started = false;
    for (int own = from < shared ? 0 : 1; own < 2; own++) {
        const int64_t owner = own ? seq : 0, end = own ? seen : shared;
        const int64_t begin = own ? (from > shared ? from - shared : 0) : from;
        for (int64_t at = begin / KEY_BLOCK * KEY_BLOCK; at < end; at += KEY_BLOCK) {
            const int64_t some = end - at < KEY_BLOCK ? end - at : KEY_BLOCK, rows = amx_padded(some);
            const uint16_t *k = all->k + (shape->cu_seqlens[owner] + at) * shape->kv_stride + kv_head * dim;
            amx_product(rows, QUERIES, dim / AMX_DEPTH, amx_rows_of(keys, k, shape->kv_stride, some, dim),
                        query_pairs, false, scores, QUERIES);
            amx_see(scores, shape, own ? at : at - shared, some, first);
            soften(&state, pairs, shrink, scores, rows, rate);
            if (started)
                scale_sums(sums, shrink, dim);
            amx_product(dim, QUERIES, rows / AMX_DEPTH,
                        amx_transposed(all->values, shape, owner, kv_head, at), probabilities, started, sums,
                        QUERIES);
            started = true;
        }
    }
    for (int g = 0; g < GROUPS; g++) {
        _mm512_store_ps(base + 16 * g, state.base[g]);
        _mm512_store_ps(total + 16 * g, state.total[g]);
    }
    for (int64_t i = 0; i < length && all->lse; i++)
        all->lse[head * shape->n_tokens + start + first + i] = base[i] * LN_2 + logf(total[i]);
    for (int64_t i = 0; i < QUERIES; i++)
        total[i] = 1.0f / total[i];
    amx_store_queries(all->out + offset, shape->q_stride, length, dim, sums, total);
}

bool attention_takes_amx(const attention_shape *shape)
{
    return cpu_has_amx() && shape->head_dim % AMX_DEPTH == 0;
}

size_t amx_attention_forward_workspace(const attention_shape *shape)
{
    return amx_transposed_bytes(shape);
}

void amx_attention_forward(uint16_t *out, float *lse, const uint16_t *q, const uint16_t *k, const uint16_t *v,
                           const attention_shape *shape, void *workspace)
{
    const forward all = {.out = out, .lse = lse, .q = q, .k = k, .values = workspace, .shape = shape};
    amx_transpose_rows(workspace, v, shape);
    /* Late blocks, which see the most keys, come first. */
    const int64_t per_seq = (shape->max_seqlen + QUERIES - 1) / QUERIES, heads = shape->n_heads;
    const int64_t tasks = per_seq * heads * shape->n_seqs;
    const int64_t work = shape->n_tokens * heads * shape->head_dim * 4;
#pragma omp parallel num_threads(cpu_team(work, tasks))
    {
        amx_begin();
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < tasks; t++) {
            const int64_t seq = t / heads % shape->n_seqs;
            const int64_t first = (per_seq - 1 - t / heads / shape->n_seqs) * QUERIES;
            if (first < shape->cu_seqlens[seq + 1] - shape->cu_seqlens[seq])
                forward_block(&all, seq, t % heads, first);
        }
        amx_end();
    }
}
