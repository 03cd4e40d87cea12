/* attention_backward: gradients of the attention. Twin of src/device/cpu/attention_backward.c.
 *
 * The probabilities are computed again from the scores and lse (FlashAttention-2, Dao 2023); with D_i = dout_i . out_i,
 *
 *     dS = P * (dout V' - D),   dQ = scale dS K,   dK = scale dS' Q,   dV = P' dout.
 *
 * D comes first, into the workspace. Then one kernel does two passes that mirror each other. A block keeps `mine` - a
 * tile of queries with its dout, or of keys with its values - and goes past `theirs`, which are the others:
 *
 *     S = mine a . theirs a,   dP = mine b . theirs b,   d mine a += scale dS theirs a,   d mine b += P theirs b,
 *
 * the last for keys only. Keys pass the queries of all heads of their group, in order, so every gradient is summed by one
 * thread in one order, without atomics. Where heads of 256 are too wide for the sums of both, keys are passed twice.
 *
 * Operations: 5 products for the forward's 2, and S and dP twice: 7 T D 2 / 2 a token and head. Bytes: q, dout, out and
 * dq, and k, v, dk, dv, once each, as long as the second-level cache holds a sequence. */
#include "attention.cuh"

/* How heads of DIM are cut: 16 rows of mine a warp, STEP of theirs at a time, which arrive STAGES - 1 ahead. */
template <int DIM> struct backward_cut {
    static constexpr int WARPS = DIM == 128 ? 8 : 4, STEP = 32, STAGES = DIM <= 96 ? 2 : 1;
    static constexpr int ROWS = 16 * WARPS, THREADS = 32 * WARPS;
    static constexpr int BYTES = 2 * (ROWS + STAGES * STEP) * PITCH<bf16, DIM> * 2;
    static constexpr bool LEFT_STAYS = DIM == 64; /* mine in registers */
};

template <int DIM> struct float_backward_cut {
    static constexpr int ROWS = DIM == 256 ? 16 : 32, STEP = ROWS, EACH = STEP / ROW_LANES;
    static constexpr int THREADS = ROWS * ROW_LANES, BYTES = 2 * (ROWS + STEP) * PITCH<float, DIM> * 4;
};

enum { DOTS_THREADS = 128 };

struct backward_task {
    attention_task t;
    void *d_a, *d_b; /* gradients of mine */
    const void *q, *k, *v, *dout;
    const float *lse, *dots; /* [n_heads][n_tokens] */
};

struct dots_task {
    float *dots;
    const void *dout, *out;
    int64_t n, stride, n_tokens;
    int n_heads, head_dim;
};

/* --- kernels --------------------------------------------------------------------------------------------- */

/* dots[head][token] = dout . out; eight lanes a head of a token. */
template <class T, int WIDTH> __global__ void __launch_bounds__(DOTS_THREADS) dots_kernel(dots_task t)
{
    const int lane = (int)threadIdx.x % ROW_LANES;
    const int64_t i = ((int64_t)blockIdx.x * DOTS_THREADS + threadIdx.x) / ROW_LANES;
    const int64_t token = i / t.n_heads, head = i % t.n_heads, at = token * t.stride + head * t.head_dim;
    float sum = 0;
    for (int d = lane * WIDTH; i < t.n && d < t.head_dim; d += ROW_LANES * WIDTH) {
        float a[WIDTH], b[WIDTH];
        load_vector(a, (const T *)t.dout + at + d);
        load_vector(b, (const T *)t.out + at + d);
#pragma unroll
        for (int e = 0; e < WIDTH; e++)
            sum = __fmaf_rn(a[e], b[e], sum);
    }
#pragma unroll
    for (int other = 1; other < ROW_LANES; other *= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, other);
    if (i < t.n && lane == 0)
        t.dots[head * t.n_tokens + token] = sum;
}

/* What a block keeps and what it passes. Queries have lse and dots beside them. */
template <class T> struct both_sides {
    tile_place p;
    sight view;
    head_rows<T> mine_a, mine_b, theirs_a, theirs_b;
    int64_t out_column, out_stride, query_column;
    const float *lse, *dots; /* of the head's queries */
    int heads, begin, end;   /* heads to pass, and their rows */
};

template <class T, bool KEYS>
__device__ __forceinline__ both_sides<T> sides_of(const backward_task &b, int rows, int step)
{
    const attention_task &t = b.t;
    both_sides<T> s;
    s.p = place_of<!KEYS>(t, KEYS ? t.n_kv_heads : t.n_heads, rows);
    const int group = t.n_heads / t.n_kv_heads, query_head = KEYS ? s.p.head * group : s.p.head;
    const int kv_head = KEYS ? s.p.head : s.p.head / group;
    const int64_t q_column = (int64_t)query_head * t.head_dim, kv_column = (int64_t)kv_head * t.head_dim;
    const head_rows<T> q = {(const T *)b.q + q_column, t.q_stride, s.p.start, 0, s.p.n};
    const head_rows<T> dout = {(const T *)b.dout + q_column, t.q_stride, s.p.start, 0, s.p.n};
    const head_rows<T> k = {(const T *)b.k + kv_column, t.kv_stride, s.p.start, 0, s.p.n};
    const head_rows<T> v = {(const T *)b.v + kv_column, t.kv_stride, s.p.start, 0, s.p.n};
    s.mine_a = KEYS ? k : q;
    s.mine_b = KEYS ? v : dout;
    s.theirs_a = KEYS ? q : k;
    s.theirs_b = KEYS ? dout : v;
    s.out_stride = KEYS ? t.kv_stride : t.q_stride;
    s.out_column = s.p.start * s.out_stride + (KEYS ? kv_column : q_column);
    s.lse = b.lse + query_head * t.n_tokens + s.p.start;
    s.dots = b.dots + query_head * t.n_tokens + s.p.start;
    s.heads = KEYS ? group : 1;
    s.view = sight_of(t, s.p);
    const int last = min(s.p.first + rows, s.p.n) - 1;
    if (KEYS) {
        s.begin = t.bidirectional ? 0 : s.p.first / step * step;
        s.end = (int)min((int64_t)last + t.window, (int64_t)s.p.n);
    } else {
        s.begin = s.view.from(s.p.first) / step * step;
        s.end = s.view.before(last);
    }
    return s;
}

/* The next of theirs: rows of one head, then those of the group's next. */
template <class T>
__device__ __forceinline__ void advance(both_sides<T> &s, int &at, int step, const attention_task &t)
{
    at += step;
    if (at < s.end)
        return;
    at = s.begin;
    s.theirs_a.at += t.head_dim;
    s.theirs_b.at += t.head_dim;
    s.lse += t.n_tokens;
    s.dots += t.n_tokens;
}

/* The derivative of cap tanh(x / cap), by its value. */
__device__ __forceinline__ float cap_slope(float score, float cap)
{
    const float part = __fdividef(score, cap);
    return __fmaf_rn(-part, part, 1.0f);
}

/* KEYS: mine are keys. A, B: which gradients of mine are wanted. */
/* quality: backward_kernel<64, *>: HMMA, LDGSTS.128; 36864 dynamic bytes */
/* quality: backward_kernel<96, *>: HMMA, LDGSTS.128; 53248 dynamic bytes */
/* quality: backward_kernel<128, *>: HMMA, LDGSTS.128; 87040 dynamic bytes */
/* quality: backward_kernel<256, *>: HMMA, LDGSTS.128; 101376 dynamic bytes */
template <int DIM, bool KEYS, bool A, bool B>
__global__ void __launch_bounds__(backward_cut<DIM>::THREADS) backward_kernel(backward_task b)
{
    typedef backward_cut<DIM> cut;
    constexpr int ROWS = cut::ROWS, STEP = cut::STEP, STAGES = cut::STAGES, THREADS = cut::THREADS;
    constexpr int LINE = PITCH<bf16, DIM>, N8 = STEP / 8;
    DYNAMIC_SHARED(bf16, mine_a);
    const attention_task &t = b.t;
    both_sides<bf16> s = sides_of<bf16, KEYS>(b, ROWS, STEP);
    if (s.p.first >= s.p.n)
        return;
    bf16 *mine_b = mine_a + ROWS * LINE, *theirs = mine_b + ROWS * LINE;
    const int thread = (int)threadIdx.x, lane = thread % 32, warp_row = thread / 32 * 16;
    const int row = s.p.first + warp_row + lane / 4; /* and row + 8 */
    const bool capped = t.soft_cap > 0;
    const float scale = capped ? LOG2_E : t.scale * LOG2_E;

    /* lse and dots of theirs lie behind the rows, in the padding. */
    auto load_theirs = [&](int stage, int at) {
        bf16 *to_a = theirs + 2 * stage * STEP * LINE, *to_b = to_a + STEP * LINE;
        load_tile<bf16, DIM, STEP, THREADS>(to_a, s.theirs_a, at, t.head_dim, t.vectors, thread);
        load_tile<bf16, DIM, STEP, THREADS>(to_b, s.theirs_b, at, t.head_dim, t.vectors, thread);
        if (KEYS && thread < STEP) {
            const bool inside = at + thread < s.p.n;
            copy_async4(to_a + thread * LINE + DIM, inside ? s.lse + at + thread : b.lse, inside);
            copy_async4(to_b + thread * LINE + DIM, inside ? s.dots + at + thread : b.dots, inside);
        }
    };
    float row_lse[2] = {0, 0}, row_dot[2] = {0, 0};
#pragma unroll
    for (int half = 0; half < 2; half++)
        if (!KEYS && row + 8 * half < s.p.n) {
            row_lse[half] = s.lse[row + 8 * half] * LOG2_E;
            row_dot[half] = s.dots[row + 8 * half];
        }
    load_tile<bf16, DIM, ROWS, THREADS>(mine_a, s.mine_a, s.p.first, t.head_dim, t.vectors, thread);
    if (A)
        load_tile<bf16, DIM, ROWS, THREADS>(mine_b, s.mine_b, s.p.first, t.head_dim, t.vectors, thread);
    int ahead = s.begin; /* where the rows to be loaded next begin */
    load_theirs(0, ahead);
    copy_async_commit();
    advance(s, ahead, STEP, t);

    float d_a[A ? DIM / 8 : 1][4], d_b[B ? DIM / 8 : 1][4];
    unsigned left_a[cut::LEFT_STAYS ? DIM / 16 : 1][4], left_b[cut::LEFT_STAYS ? DIM / 16 : 1][4];
    clear(d_a);
    clear(d_b);

    const int per_head = (s.end - s.begin + STEP - 1) / STEP, steps = per_head * s.heads;
    int at = s.begin;
    for (int step = 0; step < steps; step++) {
        copy_async_wait<0>();
        __syncthreads(); /* theirs are here, and all warps are done with the stage that is filled next */
        if (STAGES == 2) {
            if (step + 1 < steps)
                load_theirs((step + 1) % STAGES, ahead);
            copy_async_commit();
            advance(s, ahead, STEP, t);
        }
        if (cut::LEFT_STAYS && step == 0)
#pragma unroll
            for (int d = 0; d < DIM / 16; d++) {
                load_left<DIM>(left_a[cut::LEFT_STAYS ? d : 0], mine_a, warp_row, 16 * d);
                load_left<DIM>(left_b[cut::LEFT_STAYS ? d : 0], mine_b, warp_row, 16 * d);
            }
        const bf16 *theirs_a = theirs + 2 * (step % STAGES) * STEP * LINE, *theirs_b = theirs_a + STEP * LINE;
        const int low = s.p.first + warp_row, high = low + 15; /* this warp's rows */
        const int end = at + STEP - 1;
        if (KEYS ? s.view.any(at, end, low, high) : s.view.any(low, high, at, end)) {
            float p[N8][4], ds[N8][4];
            clear(p);
            clear(ds);
#pragma unroll
            for (int d = 0; d < DIM / 16; d++) {
                unsigned left[4];
                if (!cut::LEFT_STAYS)
                    load_left<DIM>(left, mine_a, warp_row, 16 * d);
                multiply_rows<DIM>(p, cut::LEFT_STAYS ? left_a[cut::LEFT_STAYS ? d : 0] : left, theirs_a,
                                   16 * d);
                if (A) {
                    if (!cut::LEFT_STAYS)
                        load_left<DIM>(left, mine_b, warp_row, 16 * d);
                    multiply_rows<DIM>(ds, cut::LEFT_STAYS ? left_b[cut::LEFT_STAYS ? d : 0] : left, theirs_b,
                                       16 * d);
                }
            }
            const bool masked = !(KEYS ? s.view.all(at, end, low, high) : s.view.all(low, high, at, end));
            if (capped)
                cap_scores(p, t.scale / t.soft_cap, t.soft_cap);
#pragma unroll
            for (int j = 0; j < N8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const int column = 8 * j + lane % 4 * 2 + e % 2, other = at + column;
                    const float lse =
                        KEYS ? *(const float *)(theirs_a + column * LINE + DIM) * LOG2_E : row_lse[e / 2];
                    const float dot =
                        KEYS ? *(const float *)(theirs_b + column * LINE + DIM) : row_dot[e / 2];
                    const int mine = row + e / 2 * 8;
                    const float score = p[j][e];
                    p[j][e] = exp2_approx(__fmaf_rn(score, scale, -lse));
                    if (masked && !(KEYS ? s.view.one(other, mine) : s.view.one(mine, other)))
                        p[j][e] = 0;
                    if (A) {
                        ds[j][e] = p[j][e] * (ds[j][e] - dot);
                        if (capped)
                            ds[j][e] *= cap_slope(score, t.soft_cap);
                    }
                }
#pragma unroll
            for (int j = 0; j < STEP / 16; j++) {
                unsigned left[4];
                if constexpr (A) {
                    sums_to_left(left, ds[2 * j], ds[2 * j + 1]);
                    add_weighted<DIM>(d_a, left, theirs_a, 16 * j);
                }
                if constexpr (B) {
                    sums_to_left(left, p[2 * j], p[2 * j + 1]);
                    add_weighted<DIM>(d_b, left, theirs_b, 16 * j);
                }
            }
        }
        if (STAGES == 1) {
            __syncthreads(); /* theirs are used up */
            if (step + 1 < steps)
                load_theirs(0, ahead);
            copy_async_commit();
            advance(s, ahead, STEP, t);
        }
        at = at + STEP < s.end ? at + STEP : s.begin;
    }
    __syncwarp(); /* the warp is done with its rows of mine, which its results pass through */
    if constexpr (A) {
        sums_to_tile<DIM>(mine_a + warp_row * LINE, d_a, t.scale, t.scale);
        __syncwarp();
        store_tile<bf16, DIM, 16, 32>((bf16 *)b.d_a + s.out_column, s.out_stride, mine_a + warp_row * LINE,
                                      s.p.first + warp_row, s.p.n, t.head_dim, t.vectors, lane);
    }
    if constexpr (B) {
        sums_to_tile<DIM>(mine_b + warp_row * LINE, d_b, 1, 1);
        __syncwarp();
        store_tile<bf16, DIM, 16, 32>((bf16 *)b.d_b + s.out_column, s.out_stride, mine_b + warp_row * LINE,
                                      s.p.first + warp_row, s.p.n, t.head_dim, t.vectors, lane);
    }
}

/* quality: float_backward_kernel<64, *>: LDGSTS.128; 34816 dynamic bytes */
/* quality: float_backward_kernel<128, *>: LDGSTS.128; 67584 dynamic bytes */
/* quality: float_backward_kernel<256, *>: LDGSTS.128; 66560 dynamic bytes */
template <int DIM, bool KEYS>
__global__ void __launch_bounds__(float_backward_cut<DIM>::THREADS, 1) float_backward_kernel(backward_task b)
{
    typedef float_backward_cut<DIM> cut;
    constexpr int ROWS = cut::ROWS, STEP = cut::STEP, THREADS = cut::THREADS, LINE = PITCH<float, DIM>;
    DYNAMIC_SHARED(float, mine_a);
    SHARED(float, ps, [ROWS][STEP + 1]);
    SHARED(float, dss, [ROWS][STEP + 1]);
    const attention_task &t = b.t;
    both_sides<float> s = sides_of<float, KEYS>(b, ROWS, STEP);
    if (s.p.first >= s.p.n)
        return;
    float *mine_b = mine_a + ROWS * LINE, *theirs_a = mine_b + ROWS * LINE,
          *theirs_b = theirs_a + STEP * LINE;
    const int thread = (int)threadIdx.x, lane = thread % ROW_LANES, mine = thread / ROW_LANES;
    const int row = s.p.first + mine;
    load_tile<float, DIM, ROWS, THREADS>(mine_a, s.mine_a, s.p.first, t.head_dim, t.vectors, thread);
    load_tile<float, DIM, ROWS, THREADS>(mine_b, s.mine_b, s.p.first, t.head_dim, t.vectors, thread);
    float4 d_a[DIM / 32], d_b[DIM / 32];
#pragma unroll
    for (int i = 0; i < DIM / 32; i++)
        d_a[i] = d_b[i] = {0, 0, 0, 0};
    const int steps = (s.end - s.begin + STEP - 1) / STEP * s.heads;
    int at = s.begin;
    for (int step = 0; step < steps; step++) {
        load_tile<float, DIM, STEP, THREADS>(theirs_a, s.theirs_a, at, t.head_dim, t.vectors, thread);
        load_tile<float, DIM, STEP, THREADS>(theirs_b, s.theirs_b, at, t.head_dim, t.vectors, thread);
        copy_async_commit();
        copy_async_wait<0>();
        __syncthreads();
        float p[cut::EACH], ds[cut::EACH];
        float_scores<DIM>(p, mine_a + mine * LINE, theirs_a);
        float_scores<DIM>(ds, mine_b + mine * LINE, theirs_b);
#pragma unroll
        for (int e = 0; e < cut::EACH; e++) {
            const int other = at + lane + ROW_LANES * e, query = KEYS ? other : row, key = KEYS ? row : other;
            float weight = 0, slope = 0;
            if (s.view.one(query, key)) {
                const float score = float_score(p[e], t.scale, t.soft_cap);
                weight = expf(score - s.lse[query]);
                slope = weight * (ds[e] - s.dots[query]);
                if (t.soft_cap > 0)
                    slope *= cap_slope(score, t.soft_cap);
            }
            ps[mine][lane + ROW_LANES * e] = weight;
            dss[mine][lane + ROW_LANES * e] = slope;
        }
        __syncwarp(); /* a row's weights are its warp's own */
        float_add_weighted<DIM, STEP>(d_a, dss[mine], theirs_a);
        if (KEYS)
            float_add_weighted<DIM, STEP>(d_b, ps[mine], theirs_b);
        __syncthreads(); /* theirs are used up */
        advance(s, at, STEP, t);
    }
    if (row >= s.p.n)
        return;
    const int64_t to = s.out_column + row * s.out_stride;
    float_store<DIM>((float *)b.d_a + to, d_a, t.scale, t.head_dim, t.vectors);
    if (KEYS)
        float_store<DIM>((float *)b.d_b + to, d_b, 1, t.head_dim, t.vectors);
}

/* --- launcher -------------------------------------------------------------------------------------------- */

static const char *const OP = "attention_backward";

template <class T> static sc_status find_dots(stream *s, const dots_task &t)
{
    constexpr int WIDTH = vector_width<T>();
    const int64_t blocks = blocks_of(t.n, DOTS_THREADS / ROW_LANES);
    const bool vectors = t.head_dim % WIDTH == 0 && fits_vectors(WIDTH, t.stride, t.dout, t.out);
    return attention_launch(OP, s, vectors ? dots_kernel<T, WIDTH> : dots_kernel<T, 1>, blocks, DOTS_THREADS,
                            0, t);
}

/* Both passes over `b`, whose d_a and d_b are those of keys; dq's are the other's. */
template <int DIM>
static sc_status backward(stream *s, backward_task b, void *dq, const attention_shape *shape)
{
    typedef backward_cut<DIM> cut;
    b.t = attention_task_of(shape, cut::ROWS, b.t.vectors);
    const int64_t tiles = b.t.tiles * shape->n_seqs;
    backward_task queries = b;
    queries.d_a = dq;
    sc_status status = attention_launch(OP, s, backward_kernel<DIM, false, true, false>,
                                        tiles * shape->n_heads, cut::THREADS, cut::BYTES, queries);
    if (status != SC_OK)
        return status;
    const int64_t blocks = tiles * shape->n_kv_heads;
    if constexpr (DIM <= 128) {
        return attention_launch(OP, s, backward_kernel<DIM, true, true, true>, blocks, cut::THREADS,
                                cut::BYTES, b);
    } else {
        status = attention_launch(OP, s, backward_kernel<DIM, true, true, false>, blocks, cut::THREADS,
                                  cut::BYTES, b);
        if (status != SC_OK)
            return status;
        return attention_launch(OP, s, backward_kernel<DIM, true, false, true>, blocks, cut::THREADS,
                                cut::BYTES, b);
    }
}

template <int DIM>
static sc_status float_backward(stream *s, backward_task b, void *dq, const attention_shape *shape)
{
    typedef float_backward_cut<DIM> cut;
    b.t = attention_task_of(shape, cut::ROWS, b.t.vectors);
    const int64_t tiles = b.t.tiles * shape->n_seqs;
    backward_task queries = b;
    queries.d_a = dq;
    const sc_status status = attention_launch(OP, s, float_backward_kernel<DIM, false>,
                                              tiles * shape->n_heads, cut::THREADS, cut::BYTES, queries);
    if (status != SC_OK)
        return status;
    return attention_launch(OP, s, float_backward_kernel<DIM, true>, tiles * shape->n_kv_heads, cut::THREADS,
                            cut::BYTES, b);
}

sc_status cuda_attention_backward(stream *s, void *dq, void *dk, void *dv, const void *dout, const void *out,
                                  const float *lse, const void *q, const void *k, const void *v, dtype type,
                                  const attention_shape *shape, void *workspace)
{
    sc_status status = attention_check(shape, OP);
    if (status != SC_OK)
        return status;
    if (shape->n_shared > 0)
        return sc_fail(SC_INTERNAL, "%s: there is no gradient through shared tokens", OP);
    if (shape->n_seqs == 0 || attention_longest(shape) == 0)
        return SC_OK;
    const int64_t n = shape->n_tokens * shape->n_heads;
    const dots_task dots = {(float *)workspace, dout,           out, n, shape->q_stride, shape->n_tokens,
                            shape->n_heads,     shape->head_dim};
    status = type == DTYPE_F32 ? find_dots<float>(s, dots) : find_dots<bf16>(s, dots);
    if (status != SC_OK)
        return status;
    backward_task b = {{}, dk, dv, q, k, v, dout, lse, (const float *)workspace};
    b.t.vectors = attention_vectors(type, shape->head_dim, shape->q_stride, shape->kv_stride,
                                    (uintptr_t)dq | (uintptr_t)dk | (uintptr_t)dv | (uintptr_t)dout |
                                        (uintptr_t)q | (uintptr_t)k | (uintptr_t)v);
    if (type == DTYPE_F32)
        return shape->head_dim <= 64    ? float_backward<64>(s, b, dq, shape)
               : shape->head_dim <= 128 ? float_backward<128>(s, b, dq, shape)
                                        : float_backward<256>(s, b, dq, shape);
    return shape->head_dim <= 64    ? backward<64>(s, b, dq, shape)
           : shape->head_dim <= 96  ? backward<96>(s, b, dq, shape)
           : shape->head_dim <= 128 ? backward<128>(s, b, dq, shape)
                                    : backward<256>(s, b, dq, shape);
}

size_t cuda_attention_backward_workspace(const attention_shape *shape)
{
    return (size_t)shape->n_tokens * (size_t)shape->n_heads * sizeof(float);
}
