/* gemm_bf16: products of bf16 matrices on the tensor cores, accumulated in float.
 *
 * A block of 8 warps computes 128 x 128 of C, each warp 64 x 32, from tiles 32 deep that asynchronous copies bring two tiles
 * ahead: 2 x 128 x 32 products and sums for each 16 KiB of A and B, 64 operations a byte of the second-level cache. Where
 * such tiles are too few to fill a card, or C has few rows, 4 warps compute 64 x 64, three tiles ahead. Blocks go down
 * GROUP tiles of rows before they go on to the next tile of columns, so that those that run together share rows and
 * columns in the cache.
 *
 * A matrix that lies along k (A as it is, B transposed) fills lines of shared memory 64 bytes long, one that lies along its
 * rows or columns fills 32 long lines, and ldmatrix, plain or transposing, makes the same fragments of both. Pieces of 16
 * bytes are exchanged within 128 bytes (place()), so that the eight that ldmatrix reads together lie in different banks.
 * What is not aligned to 16 bytes is read element by element instead of by asynchronous copies.
 *
 * Bytes: 2 (m k ceil(n / 128) + k n ceil(m / 128)) from the second-level cache, 2 (m k + k n) + size(C) m n at least from
 * memory; 2 m n k operations. */
#include "gemm.h"
#include "launch.cuh"

enum { BF16_DEPTH = 32, PIECE = 8, GROUP = 8, SMALL = 64, LARGE = 128 };
/* Of a warp's part of C: 16 rows pass through shared memory at a time. 40 floats a row: pairs of floats that are written
 * and the four that are read lie in different banks. */
enum { WARP_COLUMNS = 32, SLAB_ROWS = 16, SLAB_PITCH = WARP_COLUMNS + 8 };

struct bf16_matrix {
    const bf16 *at;
    int64_t ld;
};

struct bf16_task {
    bf16_matrix a, b;
    void *c;
    dtype c_type;
    bool vectors; /* C's rows take four elements at a time */
    int64_t m, n, k, ldc;
    float alpha, beta;
};

template <int TILE, int STAGES> union bf16_shared {
    struct {
        bf16 a[TILE * BF16_DEPTH], b[TILE * BF16_DEPTH];
    } stages[STAGES];
    float slabs[TILE / 16][SLAB_ROWS][SLAB_PITCH]; /* a warp's, when all products are done */
};

/* --- kernel -------------------------------------------------------------------------------------------- */

/* Where the piece of shared memory is that has element `k` of line `line`, a row of op(A) or a column of op(B). */
template <int TILE, bool ALONG_K> __device__ __forceinline__ int place(int line, int k)
{
    return ALONG_K ? line * BF16_DEPTH + (k / PIECE ^ line / 2 % 4) * PIECE
                   : k * TILE + (line / PIECE ^ k % 8) * PIECE;
}

/* A thread's pieces of a matrix: one out of every so many lines of shared memory, always the same of each. */
template <int TILE, bool ALONG_K> struct bf16_pieces {
    enum {
        THREADS = 2 * TILE,
        ACROSS = (ALONG_K ? BF16_DEPTH : TILE) / PIECE,
        DOWN = THREADS / ACROSS,
        EACH = TILE * BF16_DEPTH / PIECE / THREADS
    };
    const bf16 *at;     /* the first of the tile that is loaded next */
    int64_t lines_left; /* in the matrix, from its first line on */
    int line, k;        /* of it, in the tile */
};

template <int TILE, bool ALONG_K>
__device__ __forceinline__ bf16_pieces<TILE, ALONG_K> first_pieces(bf16_matrix x, int64_t first,
                                                                   int64_t lines)
{
    typedef bf16_pieces<TILE, ALONG_K> pieces;
    const int down = (int)threadIdx.x / pieces::ACROSS, across = (int)threadIdx.x % pieces::ACROSS * PIECE;
    pieces p;
    p.line = ALONG_K ? down : across;
    p.k = ALONG_K ? across : down;
    p.lines_left = lines - first - p.line;
    p.at = x.at + (ALONG_K ? (first + p.line) * x.ld + p.k : p.k * x.ld + first + p.line);
    return p;
}

/* Up to eight elements, zeros after them. */
__device__ __forceinline__ uint4 gather(const bf16 *from, int64_t count)
{
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const unsigned low = 2 * i < count ? from[2 * i] : 0u,
                       high = 2 * i + 1 < count ? from[2 * i + 1] : 0u;
        words[i] = low | high << 16;
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

/* The next tile; depth_left: elements of k from its first on. Zeros outside of the matrix. */
template <int TILE, bool ALONG_K, bool ALIGNED>
__device__ __forceinline__ void load_pieces(bf16 *to, bf16_pieces<TILE, ALONG_K> &p, int64_t ld,
                                            int64_t depth_left)
{
    typedef bf16_pieces<TILE, ALONG_K> pieces;
#pragma unroll
    for (int i = 0; i < pieces::EACH; i++) {
        const int down = i * pieces::DOWN, line = p.line + (ALONG_K ? down : 0),
                  k = p.k + (ALONG_K ? 0 : down);
        const int64_t lines = p.lines_left - (ALONG_K ? down : 0), depth = depth_left - k;
        const bool wanted = lines > 0 && depth > 0;
        const bf16 *at = p.at + down * ld;
        bf16 *piece = to + place<TILE, ALONG_K>(line, k);
        if (ALIGNED)
            copy_async16(piece, at, wanted);
        else
            *(uint4 *)piece = gather(at, wanted ? ALONG_K ? depth : lines : 0);
    }
    p.at += BF16_DEPTH * (ALONG_K ? (int64_t)1 : ld);
}

/* 16 lines by 16 of k, as the product wants them: lines 0 to 7 and 8 to 15 of the lower k, then of the upper. */
template <int TILE, bool ALONG_K>
__device__ __forceinline__ void fragment(unsigned (&r)[4], const bf16 *tile, int line, int k)
{
    const int lane = (int)threadIdx.x % 32, row = lane % 8, right = lane / 8 % 2 * 8, below = lane / 16 * 8;
    if (ALONG_K)
        load_matrix_x4(r, tile + place<TILE, true>(line + right + row, k + below));
    else
        load_matrix_x4_trans(r, tile + place<TILE, false>(line + right, k + below + row));
}

/* C from (row, column) on, four columns. */
__device__ __forceinline__ void finish_four(const bf16_task &t, int64_t row, int64_t column, float4 sum)
{
    if (row >= t.m || column >= t.n)
        return;
    const int64_t at = row * t.ldc + column;
    if (!t.vectors || t.n - column < 4) {
        const float sums[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (column + i < t.n)
                store_product(t.c, t.c_type, at + i, t.alpha, sums[i], t.beta);
        return;
    }
    float4 old = make_float4(0, 0, 0, 0);
    if (t.beta != 0 && t.c_type == DTYPE_F32)
        old = *(const float4 *)((const float *)t.c + at);
    if (t.beta != 0 && t.c_type == DTYPE_BF16) {
        const uint2 pairs = *(const uint2 *)((const bf16 *)t.c + at);
        old = make_float4(first_of(pairs.x), second_of(pairs.x), first_of(pairs.y), second_of(pairs.y));
    }
    const float4 c = make_float4(t.alpha * sum.x + t.beta * old.x, t.alpha * sum.y + t.beta * old.y,
                                 t.alpha * sum.z + t.beta * old.z, t.alpha * sum.w + t.beta * old.w);
    if (t.c_type == DTYPE_F32)
        *(float4 *)((float *)t.c + at) = c;
    else
        *(uint2 *)((bf16 *)t.c + at) = make_uint2(to_bf16_pair(c.x, c.y), to_bf16_pair(c.z, c.w));
}

/* quality: gemm_bf16_kernel: HMMA, LDSM, STG.128 */
/* quality: gemm_bf16_kernel<*, true>: LDGSTS.128 */
template <int TILE, int STAGES, bool A_ALONG_K, bool B_ALONG_K, bool ALIGNED>
__global__ void __launch_bounds__(2 * TILE, 256 / TILE) gemm_bf16_kernel(bf16_task t)
{
    typedef bf16_shared<TILE, STAGES> shared_buffers;
    SHARED(shared_buffers, shared, );
    enum { WARP_ROWS = TILE / 2, M = WARP_ROWS / 16, N = WARP_COLUMNS / 8 };
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int warp_row = warp % 2 * WARP_ROWS, warp_column = warp / 2 * WARP_COLUMNS;
    /* Down the rows of a group of tiles, then to its next column. */
    const int64_t down = blocks_of(t.m, TILE), per_group = GROUP * blocks_of(t.n, TILE);
    const int64_t group = blockIdx.x / per_group * GROUP, inside = blockIdx.x % per_group;
    const int64_t height = down - group < GROUP ? down - group : (int64_t)GROUP;
    const int64_t i0 = (group + inside % height) * TILE, j0 = inside / height * TILE;

    bf16_pieces<TILE, A_ALONG_K> a = first_pieces<TILE, A_ALONG_K>(t.a, i0, t.m);
    bf16_pieces<TILE, B_ALONG_K> b = first_pieces<TILE, B_ALONG_K>(t.b, j0, t.n);
    float sums[M][N][4];
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++)
            for (int e = 0; e < 4; e++)
                sums[i][j][e] = 0;

    int64_t left = t.k; /* of the depth, from the tile that is loaded next */
    for (int stage = 0; stage < STAGES - 1; stage++) {
        load_pieces<TILE, A_ALONG_K, ALIGNED>(shared.stages[stage].a, a, t.a.ld, left);
        load_pieces<TILE, B_ALONG_K, ALIGNED>(shared.stages[stage].b, b, t.b.ld, left);
        copy_async_commit();
        left -= BF16_DEPTH;
    }
    int stage = 0, ahead = STAGES - 1;
    for (int64_t k = 0; k < t.k; k += BF16_DEPTH) {
        copy_async_wait<STAGES - 2>();
        __syncthreads(); /* all pieces have arrived, and all warps are done with the stage filled next */
        load_pieces<TILE, A_ALONG_K, ALIGNED>(shared.stages[ahead].a, a, t.a.ld, left);
        load_pieces<TILE, B_ALONG_K, ALIGNED>(shared.stages[ahead].b, b, t.b.ld, left);
        copy_async_commit();
        left -= BF16_DEPTH;
#pragma unroll
        for (int step = 0; step < BF16_DEPTH; step += 16) {
            unsigned x[M][4];
#pragma unroll
            for (int i = 0; i < M; i++)
                fragment<TILE, A_ALONG_K>(x[i], shared.stages[stage].a, warp_row + i * 16, step);
#pragma unroll
            for (int j = 0; j < N; j += 2) {
                unsigned y[4];
                fragment<TILE, B_ALONG_K>(y, shared.stages[stage].b, warp_column + j * 8, step);
                const unsigned left_eight[2] = {y[0], y[2]}, right_eight[2] = {y[1], y[3]};
#pragma unroll
                for (int i = 0; i < M; i++) {
                    mma_bf16_16816(sums[i][j], x[i], left_eight);
                    mma_bf16_16816(sums[i][j + 1], x[i], right_eight);
                }
            }
        }
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        ahead = ahead + 1 == STAGES ? 0 : ahead + 1;
    }
    copy_async_wait<0>(); /* zeros from beyond the depth are still on their way to where the slabs are */
    __syncthreads();

#pragma unroll
    for (int i = 0; i < M; i++) {
        float(*slab)[SLAB_PITCH] = shared.slabs[warp];
#pragma unroll
        for (int j = 0; j < N; j++) {
            const int column = j * 8 + lane % 4 * 2;
            *(float2 *)&slab[lane / 4][column] = make_float2(sums[i][j][0], sums[i][j][1]);
            *(float2 *)&slab[lane / 4 + 8][column] = make_float2(sums[i][j][2], sums[i][j][3]);
        }
        __syncwarp();
#pragma unroll
        for (int row = lane / 8; row < SLAB_ROWS; row += 4)
            finish_four(t, i0 + warp_row + i * 16 + row, j0 + warp_column + lane % 8 * 4,
                        *(const float4 *)&slab[row][lane % 8 * 4]);
        __syncwarp(); /* the slab is read before the next is written */
    }
}

/* --- launcher ------------------------------------------------------------------------------------------ */

template <int TILE, int STAGES, bool ALIGNED>
static void launch_tile(cudaStream_t on, const gemm_call *g, const bf16_task &task)
{
    const dim3 grid = grid_of(blocks_of(g->m, TILE) * blocks_of(g->n, TILE));
    if (g->trans_a && g->trans_b)
        LAUNCH((gemm_bf16_kernel<TILE, STAGES, false, true, ALIGNED>), grid, 2 * TILE, 0, on, task);
    else if (g->trans_a)
        LAUNCH((gemm_bf16_kernel<TILE, STAGES, false, false, ALIGNED>), grid, 2 * TILE, 0, on, task);
    else if (g->trans_b)
        LAUNCH((gemm_bf16_kernel<TILE, STAGES, true, true, ALIGNED>), grid, 2 * TILE, 0, on, task);
    else
        LAUNCH((gemm_bf16_kernel<TILE, STAGES, true, false, ALIGNED>), grid, 2 * TILE, 0, on, task);
}

/* Pieces of 16 bytes are whole: `length` elements lie one after another. */
static bool pieces_fit(const void *x, int64_t ld, int64_t length)
{
    return (uintptr_t)x % 16 == 0 && ld % PIECE == 0 && length % PIECE == 0;
}

static int multiprocessors(void)
{
    int device = 0, count = 0;
    if (cudaGetDevice(&device) == cudaSuccess)
        cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
    return count;
}

bool gemm_bf16(cudaStream_t on, const gemm_call *g)
{
    if (g->a_type != DTYPE_BF16 || g->b_type != DTYPE_BF16)
        return false;
    static const int full_card = multiprocessors(); /* a process works on one card (plugin.cu) */
    const bool small =
        g->m <= SMALL || g->n <= SMALL || blocks_of(g->m, LARGE) * blocks_of(g->n, LARGE) < full_card;
    const int64_t tile = small ? SMALL : LARGE;
    if (blocks_of(g->m, tile) > INT32_MAX / blocks_of(g->n, tile))
        return false;
    const bf16_task task = {{(const bf16 *)g->a, g->lda},
                            {(const bf16 *)g->b, g->ldb},
                            g->c,
                            g->c_type,
                            (uintptr_t)g->c % (4 * dtype_size(g->c_type)) == 0 && g->ldc % 4 == 0,
                            g->m,
                            g->n,
                            g->k,
                            g->ldc,
                            g->alpha,
                            g->beta};
    const bool aligned = pieces_fit(g->a, g->lda, g->trans_a ? g->m : g->k) &&
                         pieces_fit(g->b, g->ldb, g->trans_b ? g->k : g->n);
    if (small && aligned)
        launch_tile<SMALL, 4, true>(on, g, task);
    else if (small)
        launch_tile<SMALL, 4, false>(on, g, task);
    else if (aligned)
        launch_tile<LARGE, 3, true>(on, g, task);
    else
        launch_tile<LARGE, 3, false>(on, g, task);
    return true;
}
