/* logits.cuh: the logarithm of a row's sum of exponentials, found by one block in one pass over the row, for the loss and for
 * sampling.
 *
 * Every thread keeps the greatest element that it met and the sum of exponentials relative to it, which shrinks when a greater
 * one comes (Milakov and Gimelshein 2018). A thread sums at most n / 1,024 vectors in float, then the block's 1,024 sums are
 * joined; the logarithm is taken in double, by one thread. A NaN reaches the result; -infinity adds nothing. */
#ifndef SC_KERNELS_LOGITS_CUH
#define SC_KERNELS_LOGITS_CUH

#include "launch.cuh"
#include "vectors.cuh"

enum { LOGITS_THREADS = 1024, LOGITS_WARPS = LOGITS_THREADS / 32, LOGITS_AHEAD = 4 };

struct exp_sum {
    float most, sum; /* sum of exp(x - most) */
};

struct logits_shared {
    exp_sum sums[LOGITS_WARPS];
    double lse;
};

/* What exponentials are taken relative to: the greatest, or 0 where all are -infinity, so that those add nothing. */
__device__ __forceinline__ float exp_base(float most)
{
    return most == -INFINITY ? 0.0f : most;
}

template <int N> __device__ __forceinline__ void add_exps(exp_sum &s, const float (&x)[N])
{
    float top = x[0];
#pragma unroll
    for (int i = 1; i < N; i++)
        top = fmaxf(top, x[i]);
    if (top > s.most) {
        s.sum *= __expf(s.most - top);
        s.most = top;
    }
    const float base = exp_base(s.most);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < N; i++)
        sum += __expf(x[i] - base);
    s.sum += sum;
}

__device__ __forceinline__ exp_sum join_exps(exp_sum a, exp_sum b)
{
    exp_sum s;
    s.most = fmaxf(a.most, b.most);
    const float base = exp_base(s.most);
    s.sum = a.sum * __expf(a.most - base) + b.sum * __expf(b.most - base);
    return s;
}

__device__ __forceinline__ exp_sum warp_exps(exp_sum s)
{
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        exp_sum other;
        other.most = __shfl_xor_sync(0xffffffffu, s.most, step);
        other.sum = __shfl_xor_sync(0xffffffffu, s.sum, step);
        s = join_exps(s, other);
    }
    return s;
}

/* Calls each(index, values) for every vector of the row that is this thread's, in ascending order with AHEAD loads
 * under way, and one(index, value) for its element of those that are in no vector. */
template <int AHEAD, class T, class Each, class One>
__device__ __forceinline__ void visit_row(const T *x, int64_t n, Each each, One one)
{
    constexpr int width = vector_width<T>();
    const row_cut cut = cut_row(x, n);
    const uint4 *vectors = (const uint4 *)(x + cut.head);
    const int64_t ragged = ragged_element<T>(cut, n, (int64_t)threadIdx.x);
    if (ragged >= 0)
        one(ragged, to_float(x[ragged]));
    for (int64_t v = threadIdx.x; v < cut.vectors; v += AHEAD * LOGITS_THREADS) {
        uint4 raw[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; a++)
            if (v + a * LOGITS_THREADS < cut.vectors)
                raw[a] = vectors[v + a * LOGITS_THREADS];
#pragma unroll
        for (int a = 0; a < AHEAD; a++)
            if (v + a * LOGITS_THREADS < cut.vectors) {
                float values[width];
                unpack(values, raw[a]);
                each(cut.head + (v + a * LOGITS_THREADS) * width, values);
            }
    }
}

/* The block's log(sum of exp) from its threads' parts. The block has met before `shared` is used again. */
__device__ __forceinline__ double block_lse(logits_shared &shared, exp_sum mine)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    mine = warp_exps(mine);
    if (lane == 0)
        shared.sums[warp] = mine;
    __syncthreads();
    if (warp == 0) {
        const exp_sum all = warp_exps(shared.sums[lane]);
        if (lane == 0)
            shared.lse = (double)all.most + log((double)all.sum);
    }
    __syncthreads();
    return shared.lse;
}

template <class T> __device__ __forceinline__ double row_lse(logits_shared &shared, const T *x, int64_t n)
{
    exp_sum mine = {-INFINITY, 0};
    visit_row<LOGITS_AHEAD>(
        x, n, [&](int64_t, const float(&values)[vector_width<T>()]) { add_exps(mine, values); },
        [&](int64_t, float value) {
            const float values[1] = {value};
            add_exps(mine, values);
        });
    return block_lse(shared, mine);
}

/* A block a row, up to so many that every multiprocessor of today has several. */
static inline dim3 logits_grid(int64_t n)
{
    return grid_of(min(n, (int64_t)512));
}

#endif
