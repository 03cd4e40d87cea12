/* als: the half-step of alternating least squares. Twin of src/device/cpu/als.c, to the bit: every sum runs over the same
 * terms in the same order.
 *
 * Matrices are made of tiles of TILE x TILE in the registers of a block, a thread EACH x EACH entries, SIDE apart: no entry is
 * ever added to by two threads. A tile of the lower triangle of S takes its entity's rows of y, DEPTH at a time through
 * shared memory, and goes on, in the same registers, with the columns of L before it; so S is never written, only L
 * is: to shared memory, where it stays if one tile is all, and otherwise to a slab of the block's own in the workspace. The
 * right side b is one row more below each tile on the diagonal, which leaves L^-1 b in its place.
 *
 * A list of m rows costs m f^2 operations in double, the factor f^3 / 3; y is read once a tile. A block takes its
 * entities one after the other and a list's rows in order, so that the longest list bounds the launch from below. */
#include "launch.cuh"

enum {
    TILE = 64,
    SIDE = 16,
    EACH = TILE / SIDE,
    THREADS = SIDE * SIDE,
    DEPTH = 16,
    TILE_BYTES = TILE * TILE * (int)sizeof(double),
    PACKED = (TILE + 1) * (TILE + 2) / 2
};

/* What the slabs of all blocks take at most, in bytes. */
static constexpr int64_t SLABS_BYTES = 256 << 20;

/* Factors down and across, whose products are added up: down is weighed, and its last column belongs to b. */
struct pairs {
    double down[DEPTH][TILE + 1], across[DEPTH][TILE + 1];
};

/* Rows of y to add up: others[0 .. n - 1], or, where that is NULL, 0 .. n - 1. */
struct row_list {
    const float *y;
    const int32_t *others;
    int64_t n;
    int f;
    double confidence;
};

struct solve_task {
    float *x;
    const float *y;
    const double *gram;
    const int64_t *offsets;
    const int32_t *others;
    int64_t n;
    int f, tiles;
    double confidence;
    double *slabs; /* used if there are several tiles */
};

/* --- tiles --------------------------------------------------------------------------------------------- */

__device__ __forceinline__ int tile_row(int i)
{
    return (int)threadIdx.x / SIDE + SIDE * i;
}

__device__ __forceinline__ int tile_column(int j)
{
    return (int)threadIdx.x % SIDE + SIDE * j;
}

/* Where row r of a lower triangle begins. Columns lie in as many banks as there are rows in half a warp. */
__device__ __forceinline__ int packed(int r)
{
    return r * (r + 1) / 2;
}

static inline __host__ __device__ int tiles_of(int64_t f)
{
    return (int)blocks_of(f, TILE);
}

/* Tiles of a lower triangle, row by row, before the i-th row. */
static inline __host__ __device__ int tiles_before(int i)
{
    return i * (i + 1) / 2;
}

/* Row r of the i-th row of tiles in a slab, of TILE (i + 1) columns. */
__device__ __forceinline__ double *slab_row(double *slab, int i, int r)
{
    return slab + TILE * TILE * tiles_before(i) + r * TILE * (i + 1);
}

/* sums += down' across; of a tile on the diagonal only what can be in the lower triangle. */
template <bool DIAGONAL>
__device__ __forceinline__ void add_pairs(double (&sums)[EACH][EACH], const pairs &p, int depth)
{
    for (int q = 0; q < depth; q++) {
        double across[EACH];
#pragma unroll
        for (int j = 0; j < EACH; j++)
            across[j] = p.across[q][tile_column(j)];
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const double down = p.down[q][tile_row(i)];
#pragma unroll
            for (int j = 0; j < EACH; j++)
                if (!DIAGONAL || j <= i)
                    sums[i][j] += down * across[j];
        }
    }
}

/* b of column threadIdx.x, the row below the tile. */
__device__ __forceinline__ void add_right_side(double &b, const pairs &p, int depth)
{
    for (int q = 0; q < depth && threadIdx.x < TILE; q++)
        b += p.down[q][TILE] * p.across[q][threadIdx.x];
}

/* Adds c y y' over the list, in order: the tile whose rows begin at `row` and whose columns begin at `column`. */
template <bool DIAGONAL>
__device__ __forceinline__ void add_list(double (&sums)[EACH][EACH], double &b, pairs &p,
                                         const row_list &list, int row, int column)
{
    for (int64_t at = 0; at < list.n; at += DEPTH) {
        const int depth = list.n - at < DEPTH ? (int)(list.n - at) : (int)DEPTH;
        __syncthreads(); /* the rows before have been used */
        for (int i = (int)threadIdx.x; i < depth * TILE; i += THREADS) {
            const int q = i / TILE, c = i % TILE;
            const float *y = list.y + (list.others ? (int64_t)list.others[at + q] : at + q) * list.f;
            p.across[q][c] = column + c < list.f ? (double)y[column + c] : 0.0;
            p.down[q][c] = row + c < list.f ? list.confidence * (double)y[row + c] : 0.0;
            if (c == 0)
                p.down[q][TILE] = 1 + list.confidence;
        }
        __syncthreads();
        add_pairs<DIAGONAL>(sums, p, depth);
        if (DIAGONAL)
            add_right_side(b, p, depth);
    }
}

/* --- als_gram ------------------------------------------------------------------------------------------ */

/* The sums of one run and one tile: parts [runs][tiles][TILE][TILE], of tiles on the diagonal the lower triangle. */
__global__ void __launch_bounds__(THREADS)
    gram_kernel(double *parts, const float *y, int64_t n, int f, int64_t run)
{
    SHARED(pairs, p, );
    const int64_t begin = blockIdx.y * run;
    const row_list list = {y + begin * f, NULL, n - begin < run ? n - begin : run, f, 1.0};
    double *part = parts + ((int64_t)blockIdx.y * gridDim.x + blockIdx.x) * TILE * TILE;
    double sums[EACH][EACH], unused = 0;
    int across = (int)blockIdx.x, down = 0;
    while (across > down)
        across -= ++down;
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++)
            sums[i][j] = 0;
    if (down == across)
        add_list<true>(sums, unused, p, list, down * TILE, across * TILE);
    else
        add_list<false>(sums, unused, p, list, down * TILE, across * TILE);
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++)
            if (down > across || tile_row(i) >= tile_column(j))
                part[tile_row(i) * TILE + tile_column(j)] = sums[i][j];
}

/* gram = the runs' sums, one after the other, both triangles; `lambda` comes to the diagonal. */
__global__ void __launch_bounds__(THREADS)
    join_kernel(double *gram, const double *parts, int f, int runs, double lambda)
{
    const int i = (int)blockIdx.y, j = (int)(blockIdx.x * THREADS + threadIdx.x);
    const int tiles = tiles_before(tiles_of(f)), tile = tiles_before(i / TILE) + j / TILE;
    if (j > i)
        return;
    double sum = 0;
    for (int run = 0; run < runs; run++)
        sum += parts[((int64_t)run * tiles + tile) * TILE * TILE + i % TILE * TILE + j % TILE];
    if (i == j)
        sum += lambda;
    gram[i * f + j] = sum;
    gram[j * f + i] = sum;
}

/* --- als_solve ----------------------------------------------------------------------------------------- */

/* Adds what the columns of L before the tile take: tile (down, across) of the entity, in order of the columns. */
template <bool DIAGONAL>
__device__ __forceinline__ void take_columns(double (&sums)[EACH][EACH], double &b, pairs &p, double *slab,
                                             const double *right, int down, int across)
{
    for (int at = 0; at < across * TILE; at += DEPTH) {
        __syncthreads(); /* the columns before have been used, and L is written */
        for (int i = (int)threadIdx.x; i < DEPTH * TILE; i += THREADS) {
            const int q = i % DEPTH, r = i / DEPTH;
            p.down[q][r] = -slab_row(slab, down, r)[at + q];
            p.across[q][r] = slab_row(slab, across, r)[at + q];
            if (DIAGONAL && r == 0)
                p.down[q][TILE] = -right[at + q];
        }
        __syncthreads();
        add_pairs<DIAGONAL>(sums, p, DEPTH);
        if (DIAGONAL)
            add_right_side(b, p, DEPTH);
    }
}

/* L of a tile on the diagonal, `width` columns, into l, packed, with L^-1 b as its last row. */
__device__ __forceinline__ void factorise(double *l, double (&sums)[EACH][EACH], double b, int width)
{
    const int mine = (int)threadIdx.x, column = mine % SIDE;
#pragma unroll
    for (int part = 0; part < EACH; part++)
        for (int c = 0; c < SIDE && SIDE * part + c < width; c++) {
            const int j = SIDE * part + c;
            if (column == c)
#pragma unroll
                for (int i = part; i < EACH; i++)
                    if (tile_row(i) >= j)
                        l[packed(tile_row(i)) + j] = sums[i][part];
            if (mine == j)
                l[packed(TILE) + j] = b;
            __syncthreads();
            const double root = mine >= j && mine <= TILE ? sqrt(l[packed(j) + j]) : 0.0;
            if (mine > j && mine <= TILE)
                l[packed(mine) + j] /= root;
            __syncthreads();
            if (mine == j)
                l[packed(j) + j] = root;
#pragma unroll
            for (int k = part; k < EACH; k++)
                if (tile_column(k) > j) {
                    const double above = l[packed(tile_column(k)) + j];
#pragma unroll
                    for (int i = k; i < EACH; i++)
                        if (tile_row(i) >= tile_column(k))
                            sums[i][k] -= l[packed(tile_row(i)) + j] * above;
                }
            if (mine > j && mine < TILE)
                b -= l[packed(TILE) + j] * l[packed(mine) + j];
        }
    __syncthreads();
}

/* A tile below that one, which is full: X L' = sums. Rows lie in half warps, so lanes hand on what a column needs. */
__device__ __forceinline__ void solve_below(const double *l, double (&sums)[EACH][EACH])
{
    const int column = (int)threadIdx.x % SIDE;
#pragma unroll
    for (int part = 0; part < EACH; part++)
        for (int c = 0; c < SIDE; c++) {
            const int j = SIDE * part + c;
            double done[EACH];
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                if (column == c)
                    sums[i][part] /= l[packed(j) + j];
                done[i] = __shfl_sync(0xffffffffu, sums[i][part], c, SIDE);
            }
#pragma unroll
            for (int k = part; k < EACH; k++)
                if (k > part || column > c) {
                    const double above = l[packed(tile_column(k)) + j];
#pragma unroll
                    for (int i = 0; i < EACH; i++)
                        sums[i][k] -= done[i] * above;
                }
        }
}

/* The tile (down, across) of S of an entity, but for what earlier columns take: G and its list. */
template <bool DIAGONAL>
__device__ __forceinline__ void make_tile(double (&sums)[EACH][EACH], double &b, pairs &p,
                                          const solve_task &t, const row_list &list, int down, int across)
{
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) {
            const int row = down * TILE + tile_row(i), column = across * TILE + tile_column(j);
            sums[i][j] = row < t.f && column <= row ? t.gram[row * t.f + column] : 0.0;
        }
    add_list<DIAGONAL>(sums, b, p, list, down * TILE, across * TILE);
}

/* x = L'^-1 of the right side, the last unknown first. SLAB: that is where L is. */
template <bool SLAB>
__device__ __forceinline__ void substitute(const solve_task &t, const double *l, double *slab, double *right,
                                           float *x)
{
    for (int q = t.f - 1; q >= 0; q--) {
        const double *row = SLAB ? slab_row(slab, q / TILE, q % TILE) : l + packed(q);
        const double value = right[q] / row[q];
        if (threadIdx.x == 0)
            x[q] = (float)value;
        for (int i = (int)threadIdx.x; i < q; i += THREADS)
            right[i] -= row[i] * value;
        __syncthreads();
    }
}

/* What the tiles of several hand on by the slab: the diagonal one, and then those below it. */
__device__ __forceinline__ void store_diagonal(double *slab, const double *l, int across, int width)
{
    for (int i = (int)threadIdx.x; i < width * TILE; i += THREADS)
        if (i % TILE <= i / TILE)
            slab_row(slab, across, i / TILE)[across * TILE + i % TILE] = l[packed(i / TILE) + i % TILE];
}

__device__ __forceinline__ void store_below(double *slab, const double (&sums)[EACH][EACH], int down,
                                            int across)
{
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++)
            slab_row(slab, down, tile_row(i))[across * TILE + tile_column(j)] = sums[i][j];
}

/* A block's entities, one after the other; columns of tiles from the left, in each the diagonal first. */
template <bool SLAB> __global__ void __launch_bounds__(THREADS, 2) solve_kernel(solve_task t)
{
    SHARED(pairs, p, );
    SHARED(double, l, [PACKED]);
    SHARED(double, right, [ALS_FACTORS]);
    double *slab = SLAB ? t.slabs + (int64_t)blockIdx.x * TILE * TILE * tiles_before(t.tiles) : NULL;
    for (int64_t entity = blockIdx.x; entity < t.n; entity += gridDim.x) {
        const int64_t first = t.offsets[entity], count = t.offsets[entity + 1] - first;
        const row_list list = {t.y, t.others + first, count, t.f, t.confidence};
        if (count == 0)
            continue;
        for (int across = 0; across < (SLAB ? t.tiles : 1); across++) {
            const int width = t.f - across * TILE < TILE ? t.f - across * TILE : (int)TILE;
            double sums[EACH][EACH], b = 0;
            make_tile<true>(sums, b, p, t, list, across, across);
            if (SLAB)
                take_columns<true>(sums, b, p, slab, right, across, across);
            factorise(l, sums, b, width);
            for (int i = (int)threadIdx.x; i < width; i += THREADS)
                right[across * TILE + i] = l[packed(TILE) + i];
            if (SLAB)
                store_diagonal(slab, l, across, width);
            for (int down = across + 1; SLAB && down < t.tiles; down++) {
                make_tile<false>(sums, b, p, t, list, down, across);
                take_columns<false>(sums, b, p, slab, right, down, across);
                solve_below(l, sums);
                store_below(slab, sums, down, across);
            }
        }
        __syncthreads();
        substitute<SLAB>(t, l, slab, right, t.x + entity * t.f);
    }
}

/* --- launchers ----------------------------------------------------------------------------------------- */

static sc_status check_shape(const char *op, int64_t n, int64_t f)
{
    return n >= 0 && f >= 1 && f <= ALS_FACTORS
               ? SC_OK
               : sc_fail(SC_INTERNAL, "%s: impossible shape: %lld rows of %lld factors", op, (long long)n,
                         (long long)f);
}

static int64_t triangle_bytes(int64_t f)
{
    return tiles_before(tiles_of(f)) * TILE_BYTES;
}

size_t cuda_als_gram_workspace(int64_t n, int64_t f)
{
    return (size_t)(als_runs(n) * triangle_bytes(f));
}

sc_status cuda_als_gram(stream *s, double *gram, const float *y, int64_t n, int64_t f, double lambda,
                        void *workspace)
{
    const sc_status status = check_shape("als_gram", n, f);
    if (status != SC_OK)
        return status;
    const cudaStream_t on = cuda_stream(s);
    double *parts = (double *)workspace;
    const int64_t runs = als_runs(n);
    const dim3 tiles((unsigned)tiles_before(tiles_of(f)), (unsigned)runs);
    const dim3 entries((unsigned)blocks_of(f, THREADS), (unsigned)f);
    if (runs > 0)
        LAUNCH(gram_kernel, tiles, THREADS, 0, on, parts, y, n, (int)f, als_run(n));
    LAUNCH(join_kernel, entries, THREADS, 0, on, gram, (const double *)parts, (int)f, (int)runs, lambda);
    return launched("als_gram");
}

/* One tile needs no slab, and the card hands out blocks as they end. */
static int64_t solve_blocks(int64_t n, int64_t f)
{
    const int64_t most = f <= TILE ? (int64_t)INT32_MAX : SLABS_BYTES / triangle_bytes(f);
    return n < most ? n : most;
}

size_t cuda_als_solve_workspace(int64_t n, int64_t f)
{
    return f <= TILE ? 0 : (size_t)(solve_blocks(n, f) * triangle_bytes(f));
}

sc_status cuda_als_solve(stream *s, float *x, const float *y, const double *gram, const int64_t *offsets,
                         const int32_t *others, int64_t n, int64_t f, double confidence, void *workspace)
{
    const sc_status status = check_shape("als_solve", n, f);
    if (status != SC_OK || n == 0)
        return status;
    const cudaStream_t on = cuda_stream(s);
    const dim3 grid = grid_of(solve_blocks(n, f));
    const solve_task task = {x, y,      gram,        offsets,    others,
                             n, (int)f, tiles_of(f), confidence, (double *)workspace};
    if (f <= TILE)
        LAUNCH((solve_kernel<false>), grid, THREADS, 0, on, task);
    else
        LAUNCH((solve_kernel<true>), grid, THREADS, 0, on, task);
    return launched("als_solve");
}
