/* lora: low-rank adapters and their gradients. Twin of src/device/cpu/lora.c.
 *
 * Three kernels make the six products of a wide matrix [n][width] of activations, floats or bf16, with matrices of which one
 * side is the rank:
 *
 *     down       xa = drop(x) A^T and d(xa) = scaling dy B: reads the wide matrix
 *     up         y += scaling xa B^T and dx += drop(d(xa) A): reads and writes it
 *     gradient   dB += scaling dy^T xa and dA += d(xa)^T drop(x): reads it
 *
 * Forward so moves n (in + 2 out) elements, and backward n (in + 2 out + 2 in): dy is read once for dB and once for d(xa). Beside
 * that the products are small as long as the rank is: 2 n rank (in + out) times 2 (bf16) or 3 in TF32, as exact as
 * adapter.cuh says. From rank 64 on they, and not the memory, are the floor. A rank above 32 is done 32 at a time by
 * neighbouring blocks, which find the wide matrix in the cache.
 *
 * Dropout is found where it is needed, 4 numbers a block of Philox: no matrix of it is ever in memory. The kept elements'
 * factor is left to the sums. Where rows alone do not make enough blocks, columns (down) or rows (gradient) are shared out
 * and the parts added in order: the shares depend on the shapes alone, so the bytes do, too. */
#include "adapter.cuh"

enum { LORA_THREADS = 128, DOWN_ROWS = 128, GRADIENT_COLUMNS = 128, LORA_STAGES = 3, JOIN_THREADS = 256 };

/* 64 bytes of a row, or so many rows, a step. */
template <class T> struct lora_depth {
    enum { N = 64 / sizeof(T) };
};

struct down_task {
    float *out; /* [splits][n][rank] */
    wide_rows x;
    small_matrix m;
    dropout_mask mask;
    int64_t rank, run; /* columns a split */
    int splits;
    float alpha;
};

struct up_task {
    wide_rows y;
    const float *narrow;
    small_matrix m;
    dropout_mask mask;
    int64_t rank;
    float alpha;
};

struct gradient_task {
    float *out; /* [splits][width * rank] */
    wide_rows x;
    const float *narrow;
    dropout_mask mask;
    int64_t rank, run; /* rows a split */
    int64_t rank_step, width_step;
    int splits;
    float alpha;
};

/* --- kernels ------------------------------------------------------------------------------------------- */

/* Writes zeros over the dropped elements of a tile. */
template <int ROWS, int COLUMNS, class T, int PITCH>
__device__ __forceinline__ void drop_tile(T (*x)[PITCH], const dropout_mask &mask, int64_t n, int64_t first,
                                          int64_t column)
{
    for (int i = (int)threadIdx.x; i < ROWS * (COLUMNS / 4); i += LORA_THREADS) {
        const int row = i / (COLUMNS / 4), c = i % (COLUMNS / 4) * 4;
        if (first + row >= n)
            continue;
        const uint4 numbers =
            random_block(mask.key, mask.row_keys[first + row], (uint32_t)((column + c) / 4));
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (dropped(numbers, e, mask.limit))
                x[row][c + e] = (T)0;
    }
}

/* Loads `steps` tiles into LORA_STAGES stages in turn and multiplies each when it has arrived; drops elements of it before
 * where that is wanted. */
template <class Load, class Drop, class Multiply>
__device__ __forceinline__ void staged(int64_t steps, bool drops, Load load, Drop drop, Multiply multiply)
{
    for (int64_t step = 0; step < LORA_STAGES - 1; step++) {
        if (step < steps)
            load(step);
        copy_async_commit();
    }
    for (int64_t step = 0; step < steps; step++) {
        const int stage = (int)(step % LORA_STAGES);
        copy_async_wait<LORA_STAGES - 2>();
        __syncthreads(); /* all copies have arrived, and all warps are done with the stage filled next */
        if (drops) {
            drop(step, stage);
            __syncthreads();
        }
        if (step + LORA_STAGES - 1 < steps)
            load(step + LORA_STAGES - 1);
        copy_async_commit();
        multiply(stage);
    }
}

template <class T, int RANKS> struct down_buffers {
    T x[LORA_STAGES][DOWN_ROWS][lora_depth<T>::N + 8];
    float m[LORA_STAGES][lora_depth<T>::N][RANKS + 4];
};

template <int TILES> struct lora_sums {
    float at[2][TILES][4];
};

template <int TILES> __device__ __forceinline__ void clear(lora_sums<TILES> &sums)
{
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < TILES; j++)
            for (int e = 0; e < 4; e++)
                sums.at[i][j][e] = 0;
}

template <int TILES> __device__ __forceinline__ void add(lora_sums<TILES> &sums, const lora_sums<TILES> &part)
{
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < TILES; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                sums.at[i][j][e] += part.at[i][j][e];
}

/* A warp's 32 rows by all ranks. Columns 2 q and 2 q + 1 of eight stand for q and q + 4 of the fragments, on both sides. */
template <class T, int RANKS>
__device__ __forceinline__ void down_multiply(lora_sums<RANKS / 8> &sums, const T (*x)[lora_depth<T>::N + 8],
                                              const float (*m)[RANKS + 4])
{
    const int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x / 32 * 32 + lane / 4, quad = lane % 4;
    lora_sums<RANKS / 8> part;
    clear(part);
#pragma unroll
    for (int k = 0; k < lora_depth<T>::N; k += 8) {
        unsigned a_hi[2][4], a_lo[2][4];
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                unsigned hi[2], lo[2];
                split_pair(hi, lo, &x[row + 16 * i + 8 * half][k + 2 * quad]);
                a_hi[i][half] = hi[0];
                a_hi[i][half + 2] = hi[1];
                a_lo[i][half] = lo[0];
                a_lo[i][half + 2] = lo[1];
            }
#pragma unroll
        for (int j = 0; j < RANKS / 8; j++) {
            const split_float b0 = split(m[k + 2 * quad][8 * j + lane / 4]);
            const split_float b1 = split(m[k + 2 * quad + 1][8 * j + lane / 4]);
            const unsigned b_hi[2] = {b0.hi, b1.hi}, b_lo[2] = {b0.lo, b1.lo};
#pragma unroll
            for (int i = 0; i < 2; i++)
                add_products<T>(part.at[i][j], a_hi[i], a_lo[i], b_hi, b_lo);
        }
    }
    add(sums, part);
}

template <class T, int RANKS>
__device__ __forceinline__ void down_load(down_buffers<T, RANKS> &buffers, int64_t step, const down_task &t,
                                          int64_t first, int64_t rank, int64_t column)
{
    const int depth = lora_depth<T>::N, stage = (int)(step % LORA_STAGES);
    load_wide<DOWN_ROWS, depth, LORA_THREADS>(buffers.x[stage], t.x, first, column + step * depth);
    load_small<RANKS, depth, LORA_THREADS>(&buffers.m[stage][0][0], 1, RANKS + 4, t.m, t.rank, t.x.width,
                                           rank, column + step * depth);
}

/* quality: down_kernel: HMMA, LDGSTS.128 */
template <class T, int RANKS> __global__ void __launch_bounds__(LORA_THREADS) down_kernel(down_task t)
{
    typedef down_buffers<T, RANKS> buffers_of_type;
    SHARED(buffers_of_type, buffers, );
    constexpr int depth = lora_depth<T>::N;
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int64_t rank_tiles = blocks_of(t.rank, RANKS), split = blockIdx.x % t.splits;
    const int64_t tile = blockIdx.x / t.splits;
    const int64_t rank = tile % rank_tiles * RANKS, first = tile / rank_tiles * DOWN_ROWS;
    const int64_t column = split * t.run, end = min(column + t.run, t.x.width);
    const int64_t steps = blocks_of(end - column, depth);
    lora_sums<RANKS / 8> sums;
    clear(sums);
    staged(
        steps, t.mask.row_keys != NULL,
        [&](int64_t step) { down_load(buffers, step, t, first, rank, column); },
        [&](int64_t step, int stage) {
            drop_tile<DOWN_ROWS, depth>(buffers.x[stage], t.mask, t.x.n, first, column + step * depth);
        },
        [&](int stage) { down_multiply<T, RANKS>(sums, buffers.x[stage], buffers.m[stage]); });
    float *out = t.out + split * t.x.n * t.rank;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < RANKS / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int64_t row = first + warp * 32 + 16 * i + e / 2 * 8 + lane / 4;
                const int64_t r = rank + 8 * j + lane % 4 * 2 + e % 2;
                if (row < t.x.n && r < t.rank)
                    out[row * t.rank + r] = t.alpha * sums.at[i][j][e];
            }
}

/* quality: up_kernel: HMMA */
template <class T> __global__ void __launch_bounds__(UP_THREADS, 3) up_kernel(up_task t)
{
    SHARED(up_buffers, buffers, );
    const int64_t column_tiles = blocks_of(t.y.width, UP_COLUMNS);
    const int64_t first = blockIdx.x / column_tiles * UP_ROWS;
    const int64_t tile_column = blockIdx.x % column_tiles * UP_COLUMNS;
    const int64_t column = tile_column + up_column();
    up_sums sums;
    up_products(buffers, sums, t.narrow, t.y.n, t.m, t.y.width, t.rank, first, tile_column);
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const int64_t row = first + up_row(r);
        float y[UP_EACH];
        load_eight<T>(y, t.y, row, column);
        if (t.mask.row_keys && row < t.y.n)
#pragma unroll
            for (int c = 0; c < UP_EACH; c += 4) {
                const uint4 numbers =
                    random_block(t.mask.key, t.mask.row_keys[row], (uint32_t)((column + c) / 4));
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (dropped(numbers, e, t.mask.limit))
                        sums.at[r][c + e] = 0;
            }
#pragma unroll
        for (int c = 0; c < UP_EACH; c++)
            y[c] += t.alpha * sums.at[r][c];
        store_eight<T>(t.y, row, column, y);
    }
}

template <class T, int RANKS> struct gradient_buffers {
    T x[LORA_STAGES][lora_depth<T>::N][GRADIENT_COLUMNS + 32 / sizeof(T)];
    float narrow[LORA_STAGES][lora_depth<T>::N][RANKS + 8];
};

/* A warp's 32 columns by all ranks. Columns 2 s and 2 s + 1 of the 32 stand for line s of the two fragments. */
template <class T, int RANKS>
__device__ __forceinline__ void gradient_multiply(lora_sums<RANKS / 8> &sums,
                                                  const T (*x)[GRADIENT_COLUMNS + 32 / sizeof(T)],
                                                  const float (*narrow)[RANKS + 8])
{
    const int lane = (int)threadIdx.x % 32, group = lane / 4, quad = lane % 4;
    const int column = (int)threadIdx.x / 32 * 32 + 2 * group;
    lora_sums<RANKS / 8> part;
    clear(part);
#pragma unroll
    for (int k = 0; k < lora_depth<T>::N; k += 8) {
        unsigned a_hi[2][4], a_lo[2][4];
#pragma unroll
        for (int e = 0; e < 4; e++) {
            unsigned hi[2], lo[2];
            split_pair(hi, lo, &x[k + quad + e / 2 * 4][column + e % 2 * 16]);
            a_hi[0][e] = hi[0];
            a_hi[1][e] = hi[1];
            a_lo[0][e] = lo[0];
            a_lo[1][e] = lo[1];
        }
#pragma unroll
        for (int j = 0; j < RANKS / 8; j++) {
            const split_float b0 = split(narrow[k + quad][8 * j + group]);
            const split_float b1 = split(narrow[k + quad + 4][8 * j + group]);
            const unsigned b_hi[2] = {b0.hi, b1.hi}, b_lo[2] = {b0.lo, b1.lo};
#pragma unroll
            for (int i = 0; i < 2; i++)
                add_products<T>(part.at[i][j], a_hi[i], a_lo[i], b_hi, b_lo);
        }
    }
    add(sums, part);
}

template <class T, int RANKS>
__device__ __forceinline__ void gradient_load(gradient_buffers<T, RANKS> &buffers, int64_t step,
                                              const gradient_task &t, int64_t first, int64_t rank,
                                              int64_t column)
{
    const int depth = lora_depth<T>::N, stage = (int)(step % LORA_STAGES);
    load_wide<depth, GRADIENT_COLUMNS, LORA_THREADS>(buffers.x[stage], t.x, first + step * depth, column);
    load_floats<depth, RANKS, LORA_THREADS>(&buffers.narrow[stage][0][0], RANKS + 8, 1, t.narrow, t.x.n,
                                            t.rank, first + step * depth, rank);
}

/* quality: gradient_kernel: HMMA, LDGSTS.128 */
template <class T, int RANKS>
__global__ void __launch_bounds__(LORA_THREADS, 3) gradient_kernel(gradient_task t)
{
    typedef gradient_buffers<T, RANKS> buffers_of_type;
    SHARED(buffers_of_type, buffers, );
    constexpr int depth = lora_depth<T>::N;
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int64_t rank_tiles = blocks_of(t.rank, RANKS);
    const int64_t column_tiles = blocks_of(t.x.width, GRADIENT_COLUMNS);
    const int64_t rank = blockIdx.x % rank_tiles * RANKS;
    const int64_t column = blockIdx.x / rank_tiles % column_tiles * GRADIENT_COLUMNS;
    const int64_t split = blockIdx.x / rank_tiles / column_tiles;
    const int64_t first = split * t.run, end = min(first + t.run, t.x.n);
    const int64_t steps = blocks_of(end - first, depth);
    lora_sums<RANKS / 8> sums;
    clear(sums);
    staged(
        steps, t.mask.row_keys != NULL,
        [&](int64_t step) { gradient_load(buffers, step, t, first, rank, column); },
        [&](int64_t step, int stage) {
            drop_tile<depth, GRADIENT_COLUMNS>(buffers.x[stage], t.mask, t.x.n, first + step * depth, column);
        },
        [&](int stage) { gradient_multiply<T, RANKS>(sums, buffers.x[stage], buffers.narrow[stage]); });
    float *out = t.out + split * t.x.width * t.rank;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < RANKS / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int64_t w = column + warp * 32 + 2 * (lane / 4 + e / 2 * 8) + i;
                const int64_t r = rank + 8 * j + lane % 4 * 2 + e % 2;
                if (w < t.x.width && r < t.rank)
                    out[w * t.width_step + r * t.rank_step] = t.alpha * sums.at[i][j][e];
            }
}

/* out (+)= the parts' sum, part by part. */
__global__ void __launch_bounds__(JOIN_THREADS)
    lora_join_kernel(float *out, bool accumulate, const float *parts, int splits, int64_t n)
{
    const int64_t stride = (int64_t)gridDim.x * JOIN_THREADS;
    for (int64_t i = (int64_t)blockIdx.x * JOIN_THREADS + threadIdx.x; i < n; i += stride) {
        float sum = parts[i];
        for (int s = 1; s < splits; s++)
            sum += parts[s * n + i];
        out[i] = accumulate ? out[i] + sum : sum;
    }
}

/* --- launchers ----------------------------------------------------------------------------------------- */

/* Ranks at a time: adapters are mostly of rank 8 or 16. */
enum { FEW_RANKS = 16, MANY_RANKS = 32 };

/* Blocks that keep every card of today busy, and the least run of columns or rows that is worth one. */
enum { LORA_BLOCKS = 512, LEAST_RUN = 256, MOST_SPLITS = 64 };

/* Into how many runs `length` is shared out, where `tiles` blocks would each take all of it; *run is a multiple of 32. */
static int64_t shares(int64_t tiles, int64_t length, int64_t *run)
{
    int64_t splits = min(blocks_of(LORA_BLOCKS, tiles), (int64_t)MOST_SPLITS);
    splits = max(min(splits, length / LEAST_RUN), (int64_t)1);
    *run = blocks_of(blocks_of(length, splits), 32) * 32;
    return max(blocks_of(length, *run), (int64_t)1);
}

/* The shares do not depend on the rank, so the workspace grows with it. */
static int64_t down_shares(int64_t n, int64_t width, int64_t *run)
{
    return shares(blocks_of(n, DOWN_ROWS), width, run);
}

static int64_t gradient_shares(int64_t n, int64_t width, int64_t *run)
{
    return shares(blocks_of(width, GRADIENT_COLUMNS), n, run);
}

static size_t aligned(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static float *parts_of(void *workspace, int64_t n, int64_t rank)
{
    return (float *)((char *)workspace + aligned((size_t)n * (size_t)rank * sizeof(float)));
}

/* d(xa) [n][rank], then the parts of one sum at a time. */
size_t cuda_lora_workspace(int64_t n, int64_t in, int64_t out, int64_t rank, float dropout)
{
    (void)dropout;
    int64_t run = 0, most = 0;
    for (int64_t width : {in, out}) {
        most = max(most, down_shares(n, width, &run) * n);
        most = max(most, gradient_shares(n, width, &run) * width);
    }
    return aligned((size_t)n * (size_t)rank * sizeof(float)) + (size_t)most * (size_t)rank * sizeof(float);
}

template <class T> static void launch_down(cudaStream_t on, const down_task &task)
{
    const int64_t tiles = blocks_of(task.x.n, DOWN_ROWS) * task.splits;
    if (task.rank <= FEW_RANKS)
        LAUNCH((down_kernel<T, FEW_RANKS>), grid_of(tiles), LORA_THREADS, 0, on, task);
    else
        LAUNCH((down_kernel<T, MANY_RANKS>), grid_of(tiles * blocks_of(task.rank, MANY_RANKS)), LORA_THREADS,
               0, on, task);
}

template <class T> static void launch_gradient(cudaStream_t on, const gradient_task &task)
{
    const int64_t tiles = blocks_of(task.x.width, GRADIENT_COLUMNS) * task.splits;
    if (task.rank <= FEW_RANKS)
        LAUNCH((gradient_kernel<T, FEW_RANKS>), grid_of(tiles), LORA_THREADS, 0, on, task);
    else
        LAUNCH((gradient_kernel<T, MANY_RANKS>), grid_of(tiles * blocks_of(task.rank, MANY_RANKS)),
               LORA_THREADS, 0, on, task);
}

static void join(cudaStream_t on, float *out, bool accumulate, const float *parts, int splits, int64_t n)
{
    LAUNCH(lora_join_kernel, striding_grid(blocks_of(n, JOIN_THREADS)), JOIN_THREADS, 0, on, out, accumulate,
           parts, splits, n);
}

/* out [n][rank] = alpha drop(x) m^T */
static void down(cudaStream_t on, float *out, const wide_rows &x, dtype type, const small_matrix &m,
                 const dropout_mask &mask, int64_t rank, float alpha, float *parts)
{
    int64_t run = 0;
    const int splits = (int)down_shares(x.n, x.width, &run);
    const down_task task = {splits > 1 ? parts : out, x, m, mask, rank, run, splits, alpha * mask.keep};
    if (type == DTYPE_F32)
        launch_down<float>(on, task);
    else
        launch_down<bf16>(on, task);
    if (splits > 1)
        join(on, out, false, parts, splits, x.n * rank);
}

/* y += alpha drop(narrow m) */
static void up(cudaStream_t on, const wide_rows &y, dtype type, const float *narrow, const small_matrix &m,
               const dropout_mask &mask, int64_t rank, float alpha)
{
    const up_task task = {y, narrow, m, mask, rank, alpha * mask.keep};
    const dim3 grid = grid_of(blocks_of(y.n, UP_ROWS) * blocks_of(y.width, UP_COLUMNS));
    if (type == DTYPE_F32)
        LAUNCH(up_kernel<float>, grid, UP_THREADS, 0, on, task);
    else
        LAUNCH(up_kernel<bf16>, grid, UP_THREADS, 0, on, task);
}

/* gradient, [width][rank] or [rank][width] as the steps say, += alpha drop(x)^T narrow */
static void gradient(cudaStream_t on, float *out, const wide_rows &x, dtype type, const float *narrow,
                     const dropout_mask &mask, int64_t rank, int64_t rank_step, int64_t width_step,
                     float alpha, float *parts)
{
    int64_t run = 0;
    const int splits = (int)gradient_shares(x.n, x.width, &run);
    const gradient_task task = {parts, x,         narrow,     mask,   rank,
                                run,   rank_step, width_step, splits, alpha * mask.keep};
    if (type == DTYPE_F32)
        launch_gradient<float>(on, task);
    else
        launch_gradient<bf16>(on, task);
    join(on, out, true, parts, splits, x.width * rank);
}

static const dropout_mask all_kept = {NULL, 0, 1, {0, RANDOM_DROPOUT, 0}};

static sc_status check(const char *op, int64_t n, int64_t in, int64_t out, int64_t rank, float dropout,
                       const uint64_t *row_keys)
{
    if (!(dropout >= 0 && dropout < 1))
        return sc_fail(SC_USAGE, "a dropout of %g is outside 0..1", (double)dropout);
    if (dropout > 0 && !row_keys)
        return sc_fail(SC_INTERNAL, "%s: dropout without row keys", op);
    if (n < 0 || in <= 0 || out <= 0 || rank <= 0)
        return sc_fail(SC_INTERNAL, "%s: impossible shape: %lld rows, %lld to %lld by rank %lld", op,
                       (long long)n, (long long)in, (long long)out, (long long)rank);
    return SC_OK;
}

static dropout_mask mask_of(float dropout, uint64_t seed, const uint64_t *row_keys, uint32_t step)
{
    if (!(dropout > 0))
        return all_kept;
    const dropout_mask mask = {row_keys,
                               (uint32_t)((double)dropout * 4294967296.0),
                               1.0f / (1.0f - dropout),
                               {seed, RANDOM_DROPOUT, step}};
    return mask;
}

sc_status cuda_lora_forward(stream *s, void *y, dtype y_type, float *xa, const void *x, dtype x_type,
                            const float *a, const float *b, int64_t n, int64_t in, int64_t out, int64_t rank,
                            float scaling, float dropout, uint64_t seed, const uint64_t *row_keys,
                            uint32_t step, void *workspace)
{
    const sc_status status = check("lora_forward", n, in, out, rank, dropout, row_keys);
    if (status != SC_OK || n == 0)
        return status;
    const cudaStream_t on = cuda_stream(s);
    const dropout_mask mask = mask_of(dropout, seed, row_keys, step);
    down(on, xa, wide_of(x, x_type, n, in), x_type, {a, in, 1}, mask, rank, 1, parts_of(workspace, n, rank));
    up(on, wide_of(y, y_type, n, out), y_type, xa, {b, 1, rank}, all_kept, rank, scaling);
    return launched("lora_forward");
}

sc_status cuda_lora_backward(stream *s, void *dx, dtype dx_type, float *da, float *db, const void *dy,
                             dtype dy_type, const float *xa, const void *x, dtype x_type, const float *a,
                             const float *b, int64_t n, int64_t in, int64_t out, int64_t rank, float scaling,
                             float dropout, uint64_t seed, const uint64_t *row_keys, uint32_t step,
                             void *workspace)
{
    const sc_status status = check("lora_backward", n, in, out, rank, dropout, row_keys);
    if (status != SC_OK || n == 0)
        return status;
    const cudaStream_t on = cuda_stream(s);
    const dropout_mask mask = mask_of(dropout, seed, row_keys, step);
    const wide_rows wide_x = wide_of(x, x_type, n, in), wide_dy = wide_of(dy, dy_type, n, out);
    float *dxa = (float *)workspace, *parts = parts_of(workspace, n, rank);
    gradient(on, db, wide_dy, dy_type, xa, all_kept, rank, 1, rank, scaling, parts);
    down(on, dxa, wide_dy, dy_type, {b, 1, rank}, all_kept, rank, scaling, parts);
    gradient(on, da, wide_x, x_type, dxa, mask, rank, in, 1, 1, parts);
    if (dx)
        up(on, wide_of(dx, dx_type, n, in), dx_type, dxa, {a, in, 1}, mask, rank, 1);
    return launched("lora_backward");
}
