/* attention.cuh: tiles of heads in shared memory, and their products on the tensor cores.
 *
 * A tile holds rows of one head: queries, keys, values or gradients. Rows are padded to DIM, the next of 64, 96, 128 and
 * 256 elements, with zeros, which change no product; the 16 bytes behind every row keep the rows that a fragment reads in
 * different banks. Rows reach shared memory by asynchronous copies of 16 bytes where they are aligned, otherwise element
 * by element.
 *
 * A warp multiplies 16 of its rows at a time (m16n8k16). Its scores, summed in float, are already laid out as the left
 * operand of the next product, so probabilities stay in registers on their way from one product to the next. */
#ifndef SC_KERNELS_ATTENTION_CUH
#define SC_KERNELS_ATTENTION_CUH

#include "elements.cuh"
#include "launch.cuh"

enum { HEAD_MOST = 256 };

#define LOG2_E 1.44269504088896341f
#define LN_2 0.69314718055994531f

/* Elements from one row of a tile to the next. */
template <class T, int DIM> constexpr int PITCH = DIM + 16 / (int)sizeof(T);

/* Rows of one head of one sequence: row j of it, or of the first sequence's while j < shared. */
template <class T> struct head_rows {
    const T *at; /* the head's first element of token 0 */
    int64_t stride;
    int start, shared, n; /* tokens: where its own begin, how many are shared, how many there are in all */

    __device__ __forceinline__ int64_t offset(int j) const
    {
        return (j < shared ? j : (int64_t)start + (j - shared)) * stride;
    }
};

/* What all kernels of the family are told. */
struct attention_task {
    const int32_t *cu_seqlens;
    int64_t n_seqs, n_tokens, q_stride, kv_stride;
    int tiles; /* of the longest sequence */
    int n_shared, n_heads, n_kv_heads, head_dim;
    float scale, soft_cap; /* 0: none */
    int window;            /* INT32_MAX: all */
    bool bidirectional, vectors;
};

/* One block's tile: which rows of which head of which sequence. */
struct tile_place {
    int start, n, first, shared, head;
};

/* Blocks take the tiles of one number of all heads and sequences, then those of the next, heads of one sequence side by
 * side, so that they meet in the cache. LATE: the last tiles first, which have the most to do under a causal mask. A
 * block whose sequence is shorter finds first >= n. */
template <bool LATE>
__device__ __forceinline__ tile_place place_of(const attention_task &t, int n_heads, int rows)
{
    const int64_t per_tile = t.n_seqs * n_heads;
    const int which = (int)(blockIdx.x / per_tile);
    const int64_t seq = blockIdx.x % per_tile / n_heads;
    tile_place p;
    p.head = (int)(blockIdx.x % n_heads);
    p.start = t.cu_seqlens[seq];
    p.n = t.cu_seqlens[seq + 1] - p.start;
    p.first = (LATE ? t.tiles - 1 - which : which) * rows;
    p.shared = seq > 0 ? t.n_shared : 0;
    return p;
}

/* Which keys a query sees. Positions are those of head_rows, shared tokens first; a query past the end sees none. */
struct sight {
    int n, window;
    bool bidirectional;

    __device__ __forceinline__ int from(int query) const
    {
        return max(0, query - window + 1);
    }
    __device__ __forceinline__ int before(int query) const
    {
        return query >= n ? 0 : bidirectional ? n : query + 1;
    }
    __device__ __forceinline__ bool one(int query, int key) const
    {
        return key >= from(query) && key < before(query);
    }
    /* Of queries and keys first .. last: whether any sees any, whether all see all. */
    __device__ __forceinline__ bool any(int first_query, int last_query, int first_key, int last_key) const
    {
        return (bidirectional || first_key <= last_query) && first_query - last_key < window;
    }
    __device__ __forceinline__ bool all(int first_query, int last_query, int first_key, int last_key) const
    {
        return max(last_query, last_key) < n && (bidirectional || last_key <= first_query) &&
               last_query - first_key < window;
    }
};

__device__ __forceinline__ sight sight_of(const attention_task &t, const tile_place &p)
{
    return {p.shared + p.n, t.window, t.bidirectional};
}

/* --- rows to and from shared memory --------------------------------------------------------------------- */

/* Row j of the tile = row first + j of `from`; zeros outside. The thread is number `thread` of THREADS. */
template <class T, int DIM, int COUNT, int THREADS>
__device__ __forceinline__ void load_tile(T *to, const head_rows<T> &from, int first, int head_dim,
                                          bool vectors, int thread)
{
    constexpr int WIDTH = 16 / (int)sizeof(T), PIECES = DIM / WIDTH;
#pragma unroll 4
    for (int i = thread; i < COUNT * PIECES; i += THREADS) {
        const int row = i / PIECES, column = i % PIECES * WIDTH;
        const bool inside = first + row < from.n;
        const T *source = inside ? from.at + from.offset(first + row) + column : from.at;
        T *target = to + row * PITCH<T, DIM> + column;
        if (vectors) {
            const bool wanted = inside && column < head_dim;
            copy_async16(target, wanted ? source : from.at, wanted);
        } else {
            for (int e = 0; e < WIDTH; e++)
                target[e] = inside && column + e < head_dim ? source[e] : T(0);
        }
    }
}

/* Rows first .. first + COUNT - 1 of a head go out, those that there are; THREADS threads of one warp or block. */
template <class T, int DIM, int COUNT, int THREADS>
__device__ __forceinline__ void store_tile(T *out, int64_t stride, const T *from, int first, int n,
                                           int head_dim, bool vectors, int thread)
{
    constexpr int WIDTH = 16 / (int)sizeof(T), PIECES = DIM / WIDTH;
    for (int i = thread; i < COUNT * PIECES; i += THREADS) {
        const int row = i / PIECES, column = i % PIECES * WIDTH;
        if (first + row >= n || column >= head_dim)
            continue;
        T *target = out + (first + row) * stride + column;
        const T *source = from + row * PITCH<T, DIM> + column;
        if (vectors)
            *(int4 *)target = *(const int4 *)source;
        else
            for (int e = 0; e < WIDTH && column + e < head_dim; e++)
                target[e] = source[e];
    }
}

/* --- fragments ------------------------------------------------------------------------------------------- */

/* Left operand: a[i][k] = tile[row + i][column + k]. */
template <int DIM>
__device__ __forceinline__ void load_left(unsigned (&a)[4], const bf16 *tile, int row, int column)
{
    const int lane = (int)threadIdx.x % 32;
    load_matrix_x4(a, tile + (row + lane % 16) * PITCH<bf16, DIM> + column + lane / 16 * 8);
}

/* Two right operands, of the rows' products with other rows: b[p][k][j] = tile[row + 8 p + j][column + k]. */
template <int DIM>
__device__ __forceinline__ void load_rows_right(unsigned (&b)[2][2], const bf16 *tile, int row, int column)
{
    const int lane = (int)threadIdx.x % 32;
    unsigned r[4];
    load_matrix_x4(r, tile + (row + lane / 16 * 8 + lane % 8) * PITCH<bf16, DIM> + column + lane / 8 % 2 * 8);
    b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

/* Two right operands, of weighted sums of rows: b[p][k][j] = tile[row + k][column + 8 p + j]. */
template <int DIM>
__device__ __forceinline__ void load_columns_right(unsigned (&b)[2][2], const bf16 *tile, int row, int column)
{
    const int lane = (int)threadIdx.x % 32;
    unsigned r[4];
    load_matrix_x4_trans(r, tile + (row + lane % 16) * PITCH<bf16, DIM> + column + lane / 16 * 8);
    b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

/* 16 x 16 of the sums, rounded, as the left operand of a product. */
__device__ __forceinline__ void sums_to_left(unsigned (&a)[4], const float (&left)[4],
                                             const float (&right)[4])
{
    a[0] = to_bf16_pair(left[0], left[1]);
    a[1] = to_bf16_pair(left[2], left[3]);
    a[2] = to_bf16_pair(right[0], right[1]);
    a[3] = to_bf16_pair(right[2], right[3]);
}

/* sums[j] += left times rows `row` + 8 j .. of the tile, 16 columns of both. */
template <int DIM, int N8>
__device__ __forceinline__ void multiply_rows(float (&sums)[N8][4], const unsigned (&left)[4],
                                              const bf16 *tile, int column)
{
#pragma unroll
    for (int j = 0; j < N8; j += 2) {
        unsigned right[2][2];
        load_rows_right<DIM>(right, tile, 8 * j, column);
        mma_bf16_16816(sums[j], left, right[0]);
        mma_bf16_16816(sums[j + 1], left, right[1]);
    }
}

/* sums += left times rows row .. row + 15 of the tile, all columns. */
template <int DIM>
__device__ __forceinline__ void add_weighted(float (&sums)[DIM / 8][4], const unsigned (&left)[4],
                                             const bf16 *tile, int row)
{
#pragma unroll
    for (int j = 0; j < DIM / 8; j += 2) {
        unsigned right[2][2];
        load_columns_right<DIM>(right, tile, row, 8 * j);
        mma_bf16_16816(sums[j], left, right[0]);
        mma_bf16_16816(sums[j + 1], left, right[1]);
    }
}

/* A warp's 16 rows of sums, times `factor` (by half of the rows), to 16 rows of a tile of their own. */
template <int DIM>
__device__ __forceinline__ void sums_to_tile(bf16 *tile, const float (&sums)[DIM / 8][4], float upper,
                                             float lower)
{
    const int lane = (int)threadIdx.x % 32;
    bf16 *to = tile + lane / 4 * PITCH<bf16, DIM> + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < DIM / 8; j++) {
        *(unsigned *)(to + 8 * j) = to_bf16_pair(sums[j][0] * upper, sums[j][1] * upper);
        *(unsigned *)(to + 8 * PITCH<bf16, DIM> + 8 * j) =
            to_bf16_pair(sums[j][2] * lower, sums[j][3] * lower);
    }
}

template <int ROWS, int COLUMNS> __device__ __forceinline__ void clear(float (&sums)[ROWS][COLUMNS])
{
#pragma unroll
    for (int i = 0; i < ROWS; i++)
#pragma unroll
        for (int j = 0; j < COLUMNS; j++)
            sums[i][j] = 0;
}

__device__ __forceinline__ float soft_tanh(float x, float)
{
    return tanhf(x);
}

/* Within 2^-22: enough where scores come from products of bf16. */
__device__ __forceinline__ float soft_tanh(float x, bf16)
{
    return 1 - __fdividef(2, exp2_approx(x * (2 * LOG2_E)) + 1);
}

/* Products become capped scores: most tanh(rate x). */
template <int N8> __device__ __forceinline__ void cap_scores(float (&scores)[N8][4], float rate, float most)
{
#pragma unroll
    for (int j = 0; j < N8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            scores[j][e] = most * soft_tanh(rate * scores[j][e], bf16(0));
}

/* The same of one in float; cap 0: none. */
__device__ __forceinline__ float float_score(float dot, float scale, float cap)
{
    const float score = dot * scale;
    return cap > 0 ? cap * soft_tanh(score / cap, 0.0f) : score;
}

/* One tile of scores becomes probabilities against the highest score so far, `most`, in powers of two; returns what the
 * sums so far are to be multiplied by. `total` is of this thread's columns only. */
template <int N8>
__device__ __forceinline__ float soften(float (&scores)[N8][4], int half, float &most, float &total)
{
    float top = most, added = 0;
#pragma unroll
    for (int j = 0; j < N8; j++)
        top = fmaxf(top, fmaxf(scores[j][2 * half], scores[j][2 * half + 1]));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
    const float base = top == -INFINITY ? 0 : top; /* nothing seen yet */
    const float shrink = exp2_approx(most - base);
#pragma unroll
    for (int j = 0; j < N8; j++)
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; e++) {
            scores[j][e] = exp2_approx(scores[j][e] - base);
            added += scores[j][e];
        }
    most = top;
    total = total * shrink + added;
    return shrink;
}

/* --- products in float ----------------------------------------------------------------------------------- */

/* For DTYPE_F32, eight lanes share a row: scores of every eighth row of the other tile, sums of every eighth group of
 * four columns. */
enum { ROW_LANES = 8 };

/* scores[e] = row `mine` of a tile . row lane + 8 e of another. */
template <int DIM, int EACH>
__device__ __forceinline__ void float_scores(float (&scores)[EACH], const float *mine, const float *theirs)
{
    const int lane = (int)threadIdx.x % ROW_LANES;
#pragma unroll
    for (int e = 0; e < EACH; e++)
        scores[e] = 0;
#pragma unroll 4
    for (int d = 0; d < DIM; d += 4) {
        const float4 a = *(const float4 *)(mine + d);
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const float4 b = *(const float4 *)(theirs + (lane + ROW_LANES * e) * PITCH<float, DIM> + d);
            scores[e] = __fmaf_rn(a.x, b.x, scores[e]);
            scores[e] = __fmaf_rn(a.y, b.y, scores[e]);
            scores[e] = __fmaf_rn(a.z, b.z, scores[e]);
            scores[e] = __fmaf_rn(a.w, b.w, scores[e]);
        }
    }
}

/* sums[i] += the weighted rows of a tile, columns 32 i + 4 lane ... */
template <int DIM, int COUNT>
__device__ __forceinline__ void float_add_weighted(float4 (&sums)[DIM / 32], const float *weights,
                                                   const float *tile)
{
    const int lane = (int)threadIdx.x % ROW_LANES;
#pragma unroll 4
    for (int j = 0; j < COUNT; j++) {
        const float w = weights[j];
#pragma unroll
        for (int i = 0; i < DIM / 32; i++) {
            const float4 x = *(const float4 *)(tile + j * PITCH<float, DIM> + 32 * i + 4 * lane);
            sums[i].x = __fmaf_rn(w, x.x, sums[i].x);
            sums[i].y = __fmaf_rn(w, x.y, sums[i].y);
            sums[i].z = __fmaf_rn(w, x.z, sums[i].z);
            sums[i].w = __fmaf_rn(w, x.w, sums[i].w);
        }
    }
}

/* A row of a head goes out, by its eight lanes. */
template <int DIM>
__device__ __forceinline__ void float_store(float *out, const float4 (&sums)[DIM / 32], float factor,
                                            int head_dim, bool vectors)
{
    const int lane = (int)threadIdx.x % ROW_LANES;
#pragma unroll
    for (int i = 0; i < DIM / 32; i++) {
        const int column = 32 * i + 4 * lane;
        const float4 x = {sums[i].x * factor, sums[i].y * factor, sums[i].z * factor, sums[i].w * factor};
        if (vectors && column < head_dim) {
            *(float4 *)(out + column) = x;
            continue;
        }
        if (column < head_dim)
            out[column] = x.x;
        if (column + 1 < head_dim)
            out[column + 1] = x.y;
        if (column + 2 < head_dim)
            out[column + 2] = x.z;
        if (column + 3 < head_dim)
            out[column + 3] = x.w;
    }
}

/* --- launchers ------------------------------------------------------------------------------------------- */

/* Tokens that a sequence has at most. */
static inline int64_t attention_longest(const attention_shape *s)
{
    return s->max_seqlen < s->n_tokens ? s->max_seqlen : s->n_tokens;
}

/* Shapes that can be judged without reading cu_seqlens, which lies on the card. */
static inline sc_status attention_check(const attention_shape *s, const char *op)
{
    if (s->head_dim < 1 || s->head_dim > HEAD_MOST)
        return sc_fail(SC_DEVICE, "%s: head_dim %d is outside 1..%d, which the CUDA table offers", op,
                       (int)s->head_dim, (int)HEAD_MOST);
    if (s->n_kv_heads < 1 || s->n_heads % s->n_kv_heads)
        return sc_fail(SC_INTERNAL, "%s: %d heads do not divide into %d key heads", op, (int)s->n_heads,
                       (int)s->n_kv_heads);
    if (s->n_seqs < 0 || s->n_tokens < 0 || s->n_tokens > INT32_MAX || s->max_seqlen < 0)
        return sc_fail(SC_INTERNAL, "%s: impossible shape: %lld tokens in %lld sequences of up to %lld", op,
                       (long long)s->n_tokens, (long long)s->n_seqs, (long long)s->max_seqlen);
    if (s->n_shared < 0 || s->n_shared > attention_longest(s))
        return sc_fail(SC_INTERNAL, "%s: %lld shared tokens are more than the first sequence has", op,
                       (long long)s->n_shared);
    if (s->window < 0 || !(s->soft_cap >= 0) || (s->bidirectional && (s->window > 0 || s->n_shared > 0)))
        return sc_fail(SC_INTERNAL,
                       "%s: a window of %lld and a soft cap of %g must not be negative, and a bidirectional "
                       "sequence has neither a window nor shared tokens",
                       op, (long long)s->window, (double)s->soft_cap);
    return SC_OK;
}

/* The task, with tiles of `rows` rows. */
static inline attention_task attention_task_of(const attention_shape *s, int rows, bool vectors)
{
    const int64_t longest = attention_longest(s);
    const int window = s->window > 0 && s->window < INT32_MAX ? (int)s->window : INT32_MAX;
    return {s->cu_seqlens,    s->n_seqs,        s->n_tokens,
            s->q_stride,      s->kv_stride,     (int)blocks_of(longest, rows),
            (int)s->n_shared, s->n_heads,       s->n_kv_heads,
            s->head_dim,      s->scale,         s->soft_cap,
            window,           s->bidirectional, vectors};
}

/* Whether rows at strides of `q` and `kv` elements may be copied 16 bytes at a time; `pointers` are or-ed together. */
static inline bool attention_vectors(dtype type, int head_dim, int64_t q_stride, int64_t kv_stride,
                                     uintptr_t pointers)
{
    const int64_t width = 16 / (int64_t)dtype_size(type);
    return head_dim % width == 0 && q_stride % width == 0 && kv_stride % width == 0 && pointers % 16 == 0;
}

/* One block a tile of each of n_heads heads of each sequence. Kernels need more shared memory than 48 KiB, which has to
 * be asked for. */
template <class Kernel, class Task>
sc_status attention_launch(const char *op, stream *s, Kernel kernel, int64_t blocks, int threads,
                           size_t shared_bytes, const Task &task)
{
    cudaStream_t on = cuda_stream(s);
    if (blocks > INT32_MAX)
        return sc_fail(SC_INTERNAL, "%s: %lld blocks are more than a grid holds; split the batch", op,
                       (long long)blocks);
    if (shared_bytes > 48 * 1024) {
        const cudaError_t error = cudaFuncSetAttribute(
            (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
        if (error != cudaSuccess)
            return cuda_status(op, error);
    }
    LAUNCH(kernel, grid_of(blocks), threads, shared_bytes, on, task);
    return launched(op);
}

#endif
