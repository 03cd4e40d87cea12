/* attention_forward: attention of packed sequences by tiles, with an online softmax (Milakov & Gimelshein 2018),
 * so the matrix of scores never exists (FlashAttention-2, Dao 2023). Twin of src/device/cpu/attention.c.
 *
 * A block takes a tile of queries of one head, a warp 16 or 32 of them, past the keys that they see. Keys and values have
 * one buffer each: values arrive while scores are multiplied, the next keys while values are weighted. Queries pass
 * through the same buffers into registers, but for heads of 256, whose sums fill those.
 *
 * For T tokens a sequence, heads of D: 2 T D operations a token and head (4 T D, half of them masked), and as long as
 * keys stay in the second-level cache, every operand is moved once, 4 D bytes a query head and 4 D a key head for each
 * token. So it is bound by the tensor cores from some 100 tokens on. */
#include "attention.cuh"

/* How heads of DIM are cut: 16 * M rows a warp, tiles of KEYS keys. */
template <int DIM> struct forward_cut {
    static constexpr int M = DIM == 64 ? 2 : 1, WARPS = DIM == 256 ? 8 : 4, KEYS = DIM == 256 ? 32 : 64;
    static constexpr int ROWS = 16 * M * WARPS, THREADS = 32 * WARPS;
    static constexpr bool QUERIES_STAY = DIM == 256; /* in shared memory */
    static constexpr int BYTES = (2 * KEYS + (QUERIES_STAY ? ROWS : 0)) * PITCH<bf16, DIM> * 2;
};

/* The same in float: EACH keys a lane. */
template <int DIM> struct float_cut {
    static constexpr int ROWS = DIM == 256 ? 16 : 32, KEYS = ROWS, EACH = KEYS / ROW_LANES;
    static constexpr int THREADS = ROWS * ROW_LANES, BYTES = (ROWS + 2 * KEYS) * PITCH<float, DIM> * 4;
};

struct forward_task {
    attention_task t;
    void *out;
    float *lse;
    const void *q, *k, *v;
};

/* --- kernels --------------------------------------------------------------------------------------------- */

template <class T>
__device__ __forceinline__ head_rows<T> rows_of(const void *at, const tile_place &p, int64_t stride,
                                                int64_t column, int shared)
{
    return {(const T *)at + column, stride, p.start, shared, shared + p.n};
}

/* quality: forward_kernel<64>: HMMA, LDGSTS.128; 18432 dynamic bytes */
/* quality: forward_kernel<96>: HMMA, LDGSTS.128; 26624 dynamic bytes */
/* quality: forward_kernel<128>: HMMA, LDGSTS.128; 34816 dynamic bytes */
/* quality: forward_kernel<256>: HMMA, LDGSTS.128; 101376 dynamic bytes */
template <int DIM> __global__ void __launch_bounds__(forward_cut<DIM>::THREADS) forward_kernel(forward_task f)
{
    typedef forward_cut<DIM> cut;
    constexpr int M = cut::M, KEYS = cut::KEYS, THREADS = cut::THREADS, N8 = KEYS / 8;
    DYNAMIC_SHARED(bf16, shared);
    const attention_task &t = f.t;
    const tile_place p = place_of<true>(t, t.n_heads, cut::ROWS);
    if (p.first >= p.n)
        return;
    bf16 *keys = shared, *values = keys + KEYS * PITCH<bf16, DIM>;
    bf16 *queries = cut::QUERIES_STAY ? values + KEYS * PITCH<bf16, DIM> : shared;
    const int thread = (int)threadIdx.x, lane = thread % 32, warp_row = thread / 32 * 16 * M;
    const int64_t q_column = (int64_t)p.head * t.head_dim;
    const int64_t kv_column = (int64_t)(p.head / (t.n_heads / t.n_kv_heads)) * t.head_dim;
    const head_rows<bf16> q = rows_of<bf16>(f.q, p, t.q_stride, q_column, 0);
    const head_rows<bf16> k = rows_of<bf16>(f.k, p, t.kv_stride, kv_column, p.shared);
    const head_rows<bf16> v = rows_of<bf16>(f.v, p, t.kv_stride, kv_column, p.shared);
    const sight view = sight_of(t, p);

    float sums[M][DIM / 8][4], most[M][2], total[M][2];
    unsigned stay[cut::QUERIES_STAY ? 1 : M][DIM / 16][4];
#pragma unroll
    for (int m = 0; m < M; m++) {
        clear(sums[m]);
        most[m][0] = most[m][1] = -INFINITY;
        total[m][0] = total[m][1] = 0;
    }
    load_tile<bf16, DIM, cut::ROWS, THREADS>(queries, q, p.first, t.head_dim, t.vectors, thread);
    copy_async_commit();
    if (!cut::QUERIES_STAY) {
        copy_async_wait<0>();
        __syncthreads();
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int d = 0; d < DIM / 16; d++)
                load_left<DIM>(stay[cut::QUERIES_STAY ? 0 : m][d], queries, warp_row + 16 * m, 16 * d);
        __syncthreads();
    }
    const int low = p.shared + p.first,
              warp_low = low + warp_row; /* the block's and the warp's first query */
    const int begin = view.from(low) / KEYS * KEYS, end = view.before(min(low + cut::ROWS, view.n) - 1);
    load_tile<bf16, DIM, KEYS, THREADS>(keys, k, begin, t.head_dim, t.vectors, thread);
    copy_async_commit();
    for (int k0 = begin; k0 < end; k0 += KEYS) {
        const bool seen = view.any(warp_low, warp_low + 16 * M - 1, k0, k0 + KEYS - 1);
        copy_async_wait<0>();
        __syncthreads(); /* the keys are here, and the values before are used up */
        load_tile<bf16, DIM, KEYS, THREADS>(values, v, k0, t.head_dim, t.vectors, thread);
        copy_async_commit();
        float scores[M][N8][4];
        if (seen) {
#pragma unroll
            for (int m = 0; m < M; m++)
                clear(scores[m]);
#pragma unroll
            for (int d = 0; d < DIM / 16; d++) {
                if (!cut::QUERIES_STAY) {
#pragma unroll
                    for (int j = 0; j < N8; j += 2) {
                        unsigned right[2][2];
                        load_rows_right<DIM>(right, keys, 8 * j, 16 * d);
#pragma unroll
                        for (int m = 0; m < M; m++) {
                            mma_bf16_16816(scores[m][j], stay[cut::QUERIES_STAY ? 0 : m][d], right[0]);
                            mma_bf16_16816(scores[m][j + 1], stay[cut::QUERIES_STAY ? 0 : m][d], right[1]);
                        }
                    }
                } else {
                    unsigned left[4];
                    load_left<DIM>(left, queries, warp_row, 16 * d);
                    multiply_rows<DIM>(scores[0], left, keys, 16 * d);
                }
            }
#pragma unroll
            for (int m = 0; m < M; m++) {
                const int first = warp_low + 16 * m, row = first + lane / 4;
                const int from[2] = {view.from(row), view.from(row + 8)};
                const int before[2] = {view.before(row), view.before(row + 8)};
                const bool masked = !view.all(first, first + 15, k0, k0 + KEYS - 1), capped = t.soft_cap > 0;
                if (capped)
                    cap_scores(scores[m], t.scale / t.soft_cap, t.soft_cap);
                const float scale = capped ? LOG2_E : t.scale * LOG2_E;
#pragma unroll
                for (int j = 0; j < N8; j++)
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        const int key = k0 + 8 * j + lane % 4 * 2 + e % 2;
                        scores[m][j][e] *= scale;
                        if (masked && (key < from[e / 2] || key >= before[e / 2]))
                            scores[m][j][e] = -INFINITY;
                    }
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const float shrink = soften(scores[m], half, most[m][half], total[m][half]);
#pragma unroll
                    for (int j = 0; j < DIM / 8; j++) {
                        sums[m][j][2 * half] *= shrink;
                        sums[m][j][2 * half + 1] *= shrink;
                    }
                }
            }
        }
        copy_async_wait<0>();
        __syncthreads(); /* the values are here, and the keys are used up */
        if (k0 + KEYS < end)
            load_tile<bf16, DIM, KEYS, THREADS>(keys, k, k0 + KEYS, t.head_dim, t.vectors, thread);
        copy_async_commit();
        if (seen) {
#pragma unroll
            for (int j = 0; j < KEYS / 16; j++) {
                unsigned left[M][4];
#pragma unroll
                for (int m = 0; m < M; m++)
                    sums_to_left(left[m], scores[m][2 * j], scores[m][2 * j + 1]);
#pragma unroll
                for (int d = 0; d < DIM / 8; d += 2) {
                    unsigned right[2][2];
                    load_columns_right<DIM>(right, values, 16 * j, 8 * d);
#pragma unroll
                    for (int m = 0; m < M; m++) {
                        mma_bf16_16816(sums[m][d], left[m], right[0]);
                        mma_bf16_16816(sums[m][d + 1], left[m], right[1]);
                    }
                }
            }
        }
    }
    if (!cut::QUERIES_STAY)
        __syncthreads(); /* keys and values are used up: the results pass through */
#pragma unroll
    for (int m = 0; m < M; m++) {
        float inverse[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float &sum = total[m][half];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            inverse[half] = 1.0f / sum;
            const int row = p.first + warp_row + 16 * m + 8 * half + lane / 4;
            if (f.lse && lane % 4 == 0 && row < p.n)
                f.lse[p.head * t.n_tokens + p.start + row] = most[m][half] * LN_2 + logf(sum);
        }
        sums_to_tile<DIM>(queries + (warp_row + 16 * m) * PITCH<bf16, DIM>, sums[m], inverse[0], inverse[1]);
    }
    __syncwarp();
    bf16 *out = (bf16 *)f.out + p.start * t.q_stride + q_column;
    store_tile<bf16, DIM, 16 * M, 32>(out, t.q_stride, queries + warp_row * PITCH<bf16, DIM>,
                                      p.first + warp_row, p.n, t.head_dim, t.vectors, lane);
}

/* quality: float_forward_kernel<64>: LDGSTS.128; 26112 dynamic bytes */
/* quality: float_forward_kernel<128>: LDGSTS.128; 50688 dynamic bytes */
/* quality: float_forward_kernel<256>: LDGSTS.128; 49920 dynamic bytes */
template <int DIM>
__global__ void __launch_bounds__(float_cut<DIM>::THREADS) float_forward_kernel(forward_task f)
{
    typedef float_cut<DIM> cut;
    constexpr int ROWS = cut::ROWS, KEYS = cut::KEYS, THREADS = cut::THREADS;
    DYNAMIC_SHARED(float, queries);
    SHARED(float, weights, [ROWS][KEYS + 1]);
    const attention_task &t = f.t;
    const tile_place p = place_of<true>(t, t.n_heads, ROWS);
    if (p.first >= p.n)
        return;
    float *keys = queries + ROWS * PITCH<float, DIM>, *values = keys + KEYS * PITCH<float, DIM>;
    const int thread = (int)threadIdx.x, lane = thread % ROW_LANES, mine = thread / ROW_LANES;
    const sight view = sight_of(t, p);
    const int row = p.first + mine, low = p.shared + p.first;
    const int begin = view.from(low) / KEYS * KEYS, end = view.before(min(low + ROWS, view.n) - 1);
    const int64_t q_column = (int64_t)p.head * t.head_dim;
    const int64_t kv_column = (int64_t)(p.head / (t.n_heads / t.n_kv_heads)) * t.head_dim;
    const head_rows<float> q = rows_of<float>(f.q, p, t.q_stride, q_column, 0);
    const head_rows<float> k = rows_of<float>(f.k, p, t.kv_stride, kv_column, p.shared);
    const head_rows<float> v = rows_of<float>(f.v, p, t.kv_stride, kv_column, p.shared);
    float most = -INFINITY, total = 0;
    float4 sums[DIM / 32];
#pragma unroll
    for (int i = 0; i < DIM / 32; i++)
        sums[i] = {0, 0, 0, 0};
    load_tile<float, DIM, ROWS, THREADS>(queries, q, p.first, t.head_dim, t.vectors, thread);
    for (int k0 = begin; k0 < end; k0 += KEYS) {
        load_tile<float, DIM, KEYS, THREADS>(keys, k, k0, t.head_dim, t.vectors, thread);
        load_tile<float, DIM, KEYS, THREADS>(values, v, k0, t.head_dim, t.vectors, thread);
        copy_async_commit();
        copy_async_wait<0>();
        __syncthreads();
        float scores[cut::EACH], top = most, added = 0;
        float_scores<DIM>(scores, queries + mine * PITCH<float, DIM>, keys);
#pragma unroll
        for (int e = 0; e < cut::EACH; e++) {
            scores[e] = view.one(p.shared + row, k0 + lane + ROW_LANES * e)
                            ? float_score(scores[e], t.scale, t.soft_cap)
                            : -INFINITY;
            top = fmaxf(top, scores[e]);
        }
#pragma unroll
        for (int other = 1; other < ROW_LANES; other *= 2)
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, other));
        const float base = top == -INFINITY ? 0 : top, shrink = expf(most - base);
#pragma unroll
        for (int e = 0; e < cut::EACH; e++) {
            const float weight = expf(scores[e] - base);
            weights[mine][lane + ROW_LANES * e] = weight;
            added += weight;
        }
        most = top;
        total = total * shrink + added;
#pragma unroll
        for (int i = 0; i < DIM / 32; i++)
            sums[i] = {sums[i].x * shrink, sums[i].y * shrink, sums[i].z * shrink, sums[i].w * shrink};
        __syncwarp(); /* a row's weights are its warp's own */
        float_add_weighted<DIM, KEYS>(sums, weights[mine], values);
        __syncthreads(); /* keys and values are used up */
    }
#pragma unroll
    for (int other = 1; other < ROW_LANES; other *= 2)
        total += __shfl_xor_sync(0xffffffffu, total, other);
    if (row >= p.n)
        return;
    if (f.lse && lane == 0)
        f.lse[p.head * t.n_tokens + p.start + row] = most + logf(total);
    float_store<DIM>((float *)f.out + (p.start + row) * t.q_stride + q_column, sums, 1.0f / total, t.head_dim,
                     t.vectors);
}

/* --- launcher -------------------------------------------------------------------------------------------- */

template <int DIM> static sc_status forward(stream *s, forward_task f, const attention_shape *shape)
{
    f.t = attention_task_of(shape, forward_cut<DIM>::ROWS, f.t.vectors);
    return attention_launch("attention_forward", s, forward_kernel<DIM>,
                            (int64_t)f.t.tiles * shape->n_seqs * shape->n_heads, forward_cut<DIM>::THREADS,
                            forward_cut<DIM>::BYTES, f);
}

template <int DIM> static sc_status float_forward(stream *s, forward_task f, const attention_shape *shape)
{
    f.t = attention_task_of(shape, float_cut<DIM>::ROWS, f.t.vectors);
    return attention_launch("attention_forward", s, float_forward_kernel<DIM>,
                            (int64_t)f.t.tiles * shape->n_seqs * shape->n_heads, float_cut<DIM>::THREADS,
                            float_cut<DIM>::BYTES, f);
}

sc_status cuda_attention_forward(stream *s, void *out, float *lse, const void *q, const void *k,
                                 const void *v, dtype type, const attention_shape *shape, void *workspace)
{
    (void)workspace;
    const sc_status status = attention_check(shape, "attention_forward");
    if (status != SC_OK)
        return status;
    if (shape->n_seqs == 0 || attention_longest(shape) == 0)
        return SC_OK;
    forward_task f = {{}, out, lse, q, k, v};
    f.t.vectors = attention_vectors(type, shape->head_dim, shape->q_stride, shape->kv_stride,
                                    (uintptr_t)out | (uintptr_t)q | (uintptr_t)k | (uintptr_t)v);
    if (type == DTYPE_F32)
        return shape->head_dim <= 64    ? float_forward<64>(s, f, shape)
               : shape->head_dim <= 128 ? float_forward<128>(s, f, shape)
                                        : float_forward<256>(s, f, shape);
    return shape->head_dim <= 64    ? forward<64>(s, f, shape)
           : shape->head_dim <= 96  ? forward<96>(s, f, shape)
           : shape->head_dim <= 128 ? forward<128>(s, f, shape)
                                    : forward<256>(s, f, shape);
}

size_t cuda_attention_forward_workspace(const attention_shape *shape)
{
    (void)shape;
    return 0;
}
