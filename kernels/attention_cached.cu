/* attention_cached: new tokens over a cache whose rows are named by index lists. Twin of
 * src/device/cpu/attention_cached.c.
 *
 * The time is that of reading keys and values, 2 len n_kv_heads head_dim elements a query, so every row is read once for
 * up to 16 query heads of its key head: these are the 16 rows of a product on the tensor cores, where the tile of a pass
 * over a prompt has 16 queries. A warp goes past its own rows of the cache by itself, keys arriving while values are
 * weighted and values while scores are multiplied, so warps wait for memory only, never for each other; at the end the
 * four of a block add up what they have found. The tensor cores have time left, so weights are not rounded to one bf16
 * number but to the sum of two.
 *
 * Few queries over long lists would leave most of the card idle, so a list is cut into splits (flash-decoding, Dao et al.
 * 2023), whose sums are added in order by a second kernel. How long the lists are is known on the card only: the number
 * of splits is that of the shape, and a split without rows ends at once. */
#include "attention.cuh"

enum {
    GROUP = 16,      /* query heads that share a read, and rows of a product */
    FLOAT_GROUP = 4, /* the same in float */
    FLOAT_ROWS = 2,  /* cache rows that a warp has under way in float */
    CACHED_WARPS = 4,
    CACHED_THREADS = 32 * CACHED_WARPS,
    FULL_CARD = 1024, /* blocks that keep the largest card busy */
    SPLITS_MOST = 64,
    SPLIT_LEAST = 64 /* rows, a step of all warps */
};

/* Rows of the cache that a warp takes at a time. */
template <int DIM> struct cached_cut {
    static constexpr int ROWS = DIM == 64 ? 32 : 16, LINE = PITCH<bf16, DIM>, WARP_TILE = 2 * ROWS * LINE;
    static constexpr bool QUERIES_STAY = DIM == 256; /* in shared memory */
    static constexpr int BYTES = (CACHED_WARPS * WARP_TILE + (QUERIES_STAY ? GROUP * LINE : 0)) * 2;
};

struct cached_task {
    const int32_t *kv_rows;
    const int64_t *kv_offsets;
    int64_t n_queries, q_stride, cache_stride, window; /* window: INT64_MAX: all */
    int n_heads, n_kv_heads, head_dim, splits;
    float scale, soft_cap;
    bool vectors;
    void *out;
    const void *q, *k, *v;
    float *sums, *most, *total; /* [n_queries][n_heads][splits], of head_dim each, and one each */
};

/* Which query and heads a block has, and which rows of the list. */
struct cached_place {
    int64_t query, from, to;
    int kv_head, head, heads, split;
};

/* --- kernels --------------------------------------------------------------------------------------------- */

/* Rows of each split of a list. */
__device__ __forceinline__ int64_t split_rows(int64_t n, int splits)
{
    return blocks_of(blocks_of(n, splits), SPLIT_LEAST) * SPLIT_LEAST;
}

/* Rows of a query's list that it sees, its last. */
__device__ __forceinline__ int64_t rows_seen(const cached_task &t, int64_t query)
{
    return min(t.kv_offsets[query + 1] - t.kv_offsets[query], t.window);
}

__device__ __forceinline__ cached_place cached_place_of(const cached_task &t, int most_heads)
{
    const int group = t.n_heads / t.n_kv_heads, pieces = (int)blocks_of(group, most_heads);
    cached_place p;
    p.split = (int)(blockIdx.x % t.splits);
    const int64_t rest = blockIdx.x / t.splits;
    const int skip = (int)(rest % pieces) * most_heads;
    p.kv_head = (int)(rest / pieces % t.n_kv_heads);
    p.query = rest / pieces / t.n_kv_heads;
    p.head = p.kv_head * group + skip;
    p.heads = min(most_heads, group - skip);
    const int64_t last = t.kv_offsets[p.query + 1], first = last - rows_seen(t, p.query);
    const int64_t rows = split_rows(last - first, t.splits);
    p.from = min(first + p.split * rows, last);
    p.to = min(p.from + rows, last);
    return p;
}

__device__ __forceinline__ float power(float x, bf16)
{
    return exp2_approx(x);
}

__device__ __forceinline__ float power(float x, float)
{
    return expf(x);
}

/* What the warps of a block have found, [CACHED_WARPS][HEADS][DIM] sums at `sums`, `pitch` apart from warp to warp, added
 * in the order of warps: a row of the result, or a split's part of it. Scores are in powers of two for bf16, of e for
 * float, as power() has it. */
template <class T, int DIM, int HEADS>
__device__ __forceinline__ void finish(const cached_task &t, const cached_place &p, const float *sums,
                                       int pitch, const float (*most)[HEADS], const float (*total)[HEADS])
{
    for (int i = (int)threadIdx.x; i < p.heads * DIM; i += CACHED_THREADS) {
        const int head = i / DIM, d = i % DIM;
        if (d >= t.head_dim)
            continue;
        float top = -INFINITY, sum = 0, all = 0;
        for (int w = 0; w < CACHED_WARPS; w++)
            top = fmaxf(top, most[w][head]);
        const float base = top == -INFINITY ? 0 : top;
        for (int w = 0; w < CACHED_WARPS; w++) {
            const float weight = power(most[w][head] - base, T(0));
            sum = __fmaf_rn(weight, sums[w * pitch + head * DIM + d], sum);
            all = __fmaf_rn(weight, total[w][head], all);
        }
        if (t.splits == 1) {
            /* A query that sees nothing gives zeros. */
            ((T *)t.out)[p.query * t.q_stride + (int64_t)(p.head + head) * t.head_dim + d] =
                from_float<T>(p.from < p.to ? sum / all : 0);
            continue;
        }
        const int64_t at = (p.query * t.n_heads + p.head + head) * t.splits + p.split;
        t.sums[at * t.head_dim + d] = sum;
        if (d == 0) {
            t.most[at] = top;
            t.total[at] = all;
        }
    }
}

/* Rows of the cache whose numbers are given (-1: none), to a warp's tile. */
template <int DIM, int COUNT>
__device__ __forceinline__ void load_cache(bf16 *to, const bf16 *cache, const int *numbers,
                                           const cached_task &t)
{
    constexpr int PIECES = DIM / 8;
    const int lane = (int)threadIdx.x % 32;
#pragma unroll 4
    for (int i = lane; i < COUNT * PIECES; i += 32) {
        const int row = i / PIECES, column = i % PIECES * 8, number = numbers[row];
        const bool wanted = number >= 0 && column < t.head_dim;
        const bf16 *from = cache + (wanted ? number * t.cache_stride + column : 0);
        bf16 *target = to + row * PITCH<bf16, DIM> + column;
        if (t.vectors)
            copy_async16(target, from, wanted);
        else
            for (int e = 0; e < 8; e++)
                target[e] = wanted && column + e < t.head_dim ? from[e] : (bf16)0;
    }
    copy_async_commit();
}

/* A product's left operand in two bf16 numbers, 16 bits of every weight. */
__device__ __forceinline__ void sums_to_two_lefts(unsigned (&high)[4], unsigned (&low)[4],
                                                  const float (&left)[4], const float (&right)[4])
{
    float rest[2][4];
    sums_to_left(high, left, right);
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const unsigned lefts = high[e / 2], rights = high[2 + e / 2];
        rest[0][e] = left[e] - (e % 2 ? second_of(lefts) : first_of(lefts));
        rest[1][e] = right[e] - (e % 2 ? second_of(rights) : first_of(rights));
    }
    sums_to_left(low, rest[0], rest[1]);
}

/* A block at least a multiprocessor: without that ptxas spills, to fit more of them. */
/* quality: cached_kernel<64>: HMMA, LDGSTS.128; 36864 dynamic bytes */
/* quality: cached_kernel<96>: HMMA, LDGSTS.128; 26624 dynamic bytes */
/* quality: cached_kernel<128>: HMMA, LDGSTS.128; 34816 dynamic bytes */
/* quality: cached_kernel<256>: HMMA, LDGSTS.128; 76032 dynamic bytes */
template <int DIM> __global__ void __launch_bounds__(CACHED_THREADS, 1) cached_kernel(cached_task t)
{
    typedef cached_cut<DIM> cut;
    constexpr int ROWS = cut::ROWS, LINE = cut::LINE, N8 = ROWS / 8;
    DYNAMIC_SHARED(bf16, shared);
    SHARED(float, mosts, [CACHED_WARPS][GROUP]);
    SHARED(float, totals, [CACHED_WARPS][GROUP]);
    SHARED(int, all_numbers, [CACHED_WARPS][ROWS]);
    SHARED(cached_place, p, ); /* which leaves registers to the sums */
    const int thread = (int)threadIdx.x, lane = thread % 32, warp = thread / 32;
    if (thread == 0)
        p = cached_place_of(t, GROUP);
    __syncthreads();
    const int n = (int)(p.to - p.from);
    if (n == 0 && t.splits > 1)
        return;
    const int32_t *list = t.kv_rows + p.from;
    bf16 *keys = shared + warp * cut::WARP_TILE, *values = keys + ROWS * LINE;
    bf16 *queries = cut::QUERIES_STAY ? shared + CACHED_WARPS * cut::WARP_TILE : shared;
    const bf16 *k = (const bf16 *)t.k + (int64_t)p.kv_head * t.head_dim;
    const bf16 *v = (const bf16 *)t.v + (int64_t)p.kv_head * t.head_dim;

    /* The queries of the group are rows as far apart as heads are. */
    const head_rows<bf16> q = {(const bf16 *)t.q + p.query * t.q_stride + (int64_t)p.head * t.head_dim,
                               t.head_dim, 0, 0, p.heads};
    load_tile<bf16, DIM, GROUP, CACHED_THREADS>(queries, q, 0, t.head_dim, t.vectors, thread);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    unsigned stay[cut::QUERIES_STAY ? 1 : DIM / 16][4];
    if (!cut::QUERIES_STAY) {
#pragma unroll
        for (int d = 0; d < DIM / 16; d++)
            load_left<DIM>(stay[cut::QUERIES_STAY ? 0 : d], queries, 0, 16 * d);
        __syncthreads(); /* the warps' rows take the queries' place */
    }

    const bool capped = t.soft_cap > 0;
    const float scale = capped ? LOG2_E : t.scale * LOG2_E;
    float sums[DIM / 8][4], most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    clear(sums);
    const int step = CACHED_WARPS * ROWS;
    int at = warp * ROWS;
    auto number_of = [&](int first) { return lane < ROWS && first + lane < n ? list[first + lane] : -1; };
    int *numbers = all_numbers[warp];
    if (at < n) {
        if (lane < ROWS)
            numbers[lane] = number_of(at);
        __syncwarp();
        load_cache<DIM, ROWS>(keys, k, numbers, t);
    }
    for (; at < n; at += step) {
        const int next = number_of(at + step); /* early, for the keys wait for it */
        copy_async_wait<0>();
        __syncwarp(); /* the keys are here, and the values before are used up */
        load_cache<DIM, ROWS>(values, v, numbers, t);
        float scores[N8][4];
        clear(scores);
#pragma unroll(cut::QUERIES_STAY ? 2 : DIM / 16)
        for (int d = 0; d < DIM / 16; d++) {
            unsigned left[4];
            if (cut::QUERIES_STAY)
                load_left<DIM>(left, queries, 0, 16 * d);
            multiply_rows<DIM>(scores, cut::QUERIES_STAY ? left : stay[cut::QUERIES_STAY ? 0 : d], keys,
                               16 * d);
        }
        if (capped)
            cap_scores(scores, t.scale / t.soft_cap, t.soft_cap);
#pragma unroll
        for (int j = 0; j < N8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                scores[j][e] = at + 8 * j + lane % 4 * 2 + e % 2 < n ? scores[j][e] * scale : -INFINITY;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float shrink = soften(scores, half, most[half], total[half]);
#pragma unroll
            for (int j = 0; j < DIM / 8; j++) {
                sums[j][2 * half] *= shrink;
                sums[j][2 * half + 1] *= shrink;
            }
        }
        copy_async_wait<0>();
        __syncwarp(); /* the values are here, and the keys are used up */
        if (lane < ROWS)
            numbers[lane] = next;
        __syncwarp();
        if (at + step < n)
            load_cache<DIM, ROWS>(keys, k, numbers, t);
#pragma unroll
        for (int j = 0; j < ROWS / 16; j++) {
            unsigned high[4], low[4];
            sums_to_two_lefts(high, low, scores[2 * j], scores[2 * j + 1]);
#pragma unroll
            for (int d = 0; d < DIM / 8; d += 2) {
                unsigned right[2][2];
                load_columns_right<DIM>(right, values, 16 * j, 8 * d);
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    mma_bf16_16816(sums[d + i], high, right[i]);
                    mma_bf16_16816(sums[d + i], low, right[i]);
                }
            }
        }
    }

    /* Each warp's sums take the place of its rows. */
    float *found = (float *)keys;
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = lane / 4 + 8 * half;
        total[half] += __shfl_xor_sync(0xffffffffu, total[half], 1);
        total[half] += __shfl_xor_sync(0xffffffffu, total[half], 2);
        if (lane % 4 == 0) {
            mosts[warp][row] = most[half];
            totals[warp][row] = total[half];
        }
#pragma unroll
        for (int j = 0; j < DIM / 8; j++)
            *(float2 *)(found + row * DIM + 8 * j + lane % 4 * 2) = {sums[j][2 * half],
                                                                     sums[j][2 * half + 1]};
    }
    __syncthreads();
    finish<bf16, DIM, GROUP>(t, p, (const float *)shared, cut::WARP_TILE / 2, mosts, totals);
}

/* In float a lane has every 32nd element, and a warp FLOAT_ROWS rows at a time. */
template <int DIM> __global__ void __launch_bounds__(CACHED_THREADS) float_cached_kernel(cached_task t)
{
    constexpr int EACH = DIM / 32;
    SHARED(float, found, [CACHED_WARPS][FLOAT_GROUP][DIM]);
    SHARED(float, mosts, [CACHED_WARPS][FLOAT_GROUP]);
    SHARED(float, totals, [CACHED_WARPS][FLOAT_GROUP]);
    const cached_place p = cached_place_of(t, FLOAT_GROUP);
    if (p.from >= p.to && t.splits > 1)
        return;
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const float *q = (const float *)t.q + p.query * t.q_stride + (int64_t)p.head * t.head_dim;
    const int64_t column = (int64_t)p.kv_head * t.head_dim;
    float queries[FLOAT_GROUP][EACH], sums[FLOAT_GROUP][EACH], most[FLOAT_GROUP], total[FLOAT_GROUP];
#pragma unroll
    for (int h = 0; h < FLOAT_GROUP; h++) {
        most[h] = -INFINITY;
        total[h] = 0;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int d = lane + 32 * i;
            queries[h][i] = h < p.heads && d < t.head_dim ? q[h * t.head_dim + d] : 0;
            sums[h][i] = 0;
        }
    }
    for (int64_t at = p.from + warp * FLOAT_ROWS; at < p.to; at += CACHED_WARPS * FLOAT_ROWS) {
        float keys[FLOAT_ROWS][EACH], values[FLOAT_ROWS][EACH];
#pragma unroll
        for (int r = 0; r < FLOAT_ROWS; r++) {
            const bool inside = at + r < p.to;
            const int64_t row = (inside ? t.kv_rows[at + r] : 0) * t.cache_stride + column;
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                const int d = lane + 32 * i;
                const bool wanted = inside && d < t.head_dim;
                keys[r][i] = wanted ? ((const float *)t.k)[row + d] : 0;
                values[r][i] = wanted ? ((const float *)t.v)[row + d] : 0;
            }
        }
#pragma unroll
        for (int h = 0; h < FLOAT_GROUP; h++) {
            float scores[FLOAT_ROWS], top = most[h];
#pragma unroll
            for (int r = 0; r < FLOAT_ROWS; r++) {
                float dot = 0;
#pragma unroll
                for (int i = 0; i < EACH; i++)
                    dot = __fmaf_rn(queries[h][i], keys[r][i], dot);
                dot = warp_sum(dot);
                scores[r] = at + r < p.to ? float_score(dot, t.scale, t.soft_cap) : -INFINITY;
                top = fmaxf(top, scores[r]);
            }
            const float base = top == -INFINITY ? 0 : top, shrink = expf(most[h] - base);
            total[h] *= shrink;
#pragma unroll
            for (int i = 0; i < EACH; i++)
                sums[h][i] *= shrink;
#pragma unroll
            for (int r = 0; r < FLOAT_ROWS; r++) {
                const float weight = expf(scores[r] - base);
                total[h] += weight;
#pragma unroll
                for (int i = 0; i < EACH; i++)
                    sums[h][i] = __fmaf_rn(weight, values[r][i], sums[h][i]);
            }
            most[h] = top;
        }
    }
#pragma unroll
    for (int h = 0; h < FLOAT_GROUP; h++) {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            found[warp][h][lane + 32 * i] = sums[h][i];
        if (lane == 0) {
            mosts[warp][h] = most[h];
            totals[warp][h] = total[h];
        }
    }
    __syncthreads();
    finish<float, DIM, FLOAT_GROUP>(t, p, &found[0][0][0], FLOAT_GROUP * DIM, mosts, totals);
}

/* A warp a head of a query: what the splits have found, added in order. */
template <class T> __global__ void __launch_bounds__(CACHED_THREADS) combine_kernel(cached_task t)
{
    const int64_t row = (int64_t)blockIdx.x * CACHED_WARPS + threadIdx.x / 32;
    if (row >= t.n_queries * t.n_heads)
        return;
    const int64_t query = row / t.n_heads, head = row % t.n_heads;
    const int64_t n = rows_seen(t, query);
    const int splits = n > 0 ? (int)blocks_of(n, split_rows(n, t.splits)) : 0;
    const float *most = t.most + row * t.splits, *total = t.total + row * t.splits;
    float top = -INFINITY, all = 0;
    for (int i = 0; i < splits; i++)
        top = fmaxf(top, most[i]);
    const float base = top == -INFINITY ? 0 : top;
    for (int i = 0; i < splits; i++)
        all = __fmaf_rn(power(most[i] - base, T(0)), total[i], all);
    for (int d = (int)threadIdx.x % 32; d < t.head_dim; d += 32) {
        float sum = 0;
        for (int i = 0; i < splits; i++)
            sum = __fmaf_rn(power(most[i] - base, T(0)), t.sums[(row * t.splits + i) * t.head_dim + d], sum);
        ((T *)t.out)[query * t.q_stride + head * t.head_dim + d] = from_float<T>(splits > 0 ? sum / all : 0);
    }
}

/* --- launchers ------------------------------------------------------------------------------------------- */

static int splits_of(const attention_cached_shape *s)
{
    const int64_t lists = s->n_queries * s->n_kv_heads;
    const int64_t splits = lists > 0 ? blocks_of(FULL_CARD, lists) : 1;
    return splits < SPLITS_MOST ? (int)splits : (int)SPLITS_MOST;
}

template <int DIM> static sc_status cached(stream *s, int64_t blocks, const cached_task &t)
{
    return attention_launch("attention_cached", s, cached_kernel<DIM>, blocks, CACHED_THREADS,
                            cached_cut<DIM>::BYTES, t);
}

template <int DIM> static sc_status float_cached(stream *s, int64_t blocks, const cached_task &t)
{
    return attention_launch("attention_cached", s, float_cached_kernel<DIM>, blocks, CACHED_THREADS, 0, t);
}

sc_status cuda_attention_cached(stream *s, void *out, const void *q, const void *k_cache, const void *v_cache,
                                dtype type, const attention_cached_shape *shape, void *workspace)
{
    if (shape->head_dim < 1 || shape->head_dim > HEAD_MOST)
        return sc_fail(SC_DEVICE,
                       "attention_cached: head_dim %d is outside 1..%d, which the CUDA table offers",
                       (int)shape->head_dim, (int)HEAD_MOST);
    if (shape->n_kv_heads < 1 || shape->n_heads % shape->n_kv_heads)
        return sc_fail(SC_INTERNAL, "attention_cached: %d heads do not divide into %d key heads",
                       (int)shape->n_heads, (int)shape->n_kv_heads);
    if (!(shape->soft_cap >= 0) || shape->window < 0)
        return sc_fail(SC_INTERNAL,
                       "attention_cached: a soft cap of %g and a window of %lld must not be negative",
                       (double)shape->soft_cap, (long long)shape->window);
    if (shape->n_queries <= 0)
        return SC_OK;
    const int splits = splits_of(shape), dim = shape->head_dim;
    const int64_t parts = shape->n_queries * shape->n_heads * splits;
    float *const sums = (float *)workspace, *const most = sums + parts * dim;
    const bool vectors = attention_vectors(type, dim, shape->q_stride, shape->cache_stride,
                                           (uintptr_t)q | (uintptr_t)k_cache | (uintptr_t)v_cache);
    const cached_task t = {shape->kv_rows,
                           shape->kv_offsets,
                           shape->n_queries,
                           shape->q_stride,
                           shape->cache_stride,
                           shape->window > 0 ? shape->window : INT64_MAX,
                           shape->n_heads,
                           shape->n_kv_heads,
                           dim,
                           splits,
                           shape->scale,
                           shape->soft_cap,
                           vectors,
                           out,
                           q,
                           k_cache,
                           v_cache,
                           sums,
                           most,
                           most + parts};
    const int64_t group = shape->n_heads / shape->n_kv_heads;
    const int64_t lists = shape->n_queries * shape->n_kv_heads * splits;
    const int64_t blocks = lists * blocks_of(group, type == DTYPE_F32 ? FLOAT_GROUP : GROUP);
    sc_status status;
    if (type == DTYPE_F32)
        status = dim <= 64    ? float_cached<64>(s, blocks, t)
                 : dim <= 128 ? float_cached<128>(s, blocks, t)
                              : float_cached<256>(s, blocks, t);
    else
        status = dim <= 64    ? cached<64>(s, blocks, t)
                 : dim <= 96  ? cached<96>(s, blocks, t)
                 : dim <= 128 ? cached<128>(s, blocks, t)
                              : cached<256>(s, blocks, t);
    if (status != SC_OK || splits == 1)
        return status;
    const int64_t rows = blocks_of(shape->n_queries * shape->n_heads, CACHED_WARPS);
    return type == DTYPE_F32
               ? attention_launch("attention_cached", s, combine_kernel<float>, rows, CACHED_THREADS, 0, t)
               : attention_launch("attention_cached", s, combine_kernel<bf16>, rows, CACHED_THREADS, 0, t);
}

size_t cuda_attention_cached_workspace(const attention_cached_shape *shape)
{
    const int splits = splits_of(shape);
    const size_t parts = (size_t)shape->n_queries * (size_t)shape->n_heads * (size_t)splits;
    return splits > 1 ? parts * ((size_t)shape->head_dim + 2) * sizeof(float) : 0;
}
