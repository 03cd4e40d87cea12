/* dora: weights split into magnitude and direction. Twin of src/device/cpu/dora.c.
 *
 * The lengths need every element of W + scaling B A once: the product of adapter.cuh whose epilogue adds up squares, in
 * double, and stores no sum. W is read once, out in elements; the squares of 64 columns a row are 8 bytes, added in order.
 *
 * Forward moves 2 n out elements, 3 if y is added to, backward 3 n out; a thread keeps the gains of its columns. The
 * magnitudes' gradient has no workspace, so a block owns whole columns, 32 bytes of each row, and goes down all rows: with
 * few columns few multiprocessors work. */
#include "adapter.cuh"

enum { DORA_THREADS = 256, FORWARD_ROWS = 64, LENGTH_THREADS = 256 };

struct length_task {
    double *squares; /* [column tiles][out] */
    wide_rows w;
    const float *b;
    small_matrix a;
    int64_t rank;
    float scaling;
};

struct scale_task {
    void *y; /* forward: y, backward: dx */
    const void *x, *dy;
    const float *magnitude, *norm;
    float *dmagnitude;
    int64_t n, out;
    bool accumulate, vectors;
};

/* --- kernels ------------------------------------------------------------------------------------------- */

/* quality: squares_kernel: HMMA, LDGSTS.128 */
template <class T> __global__ void __launch_bounds__(UP_THREADS, 3) squares_kernel(length_task t)
{
    SHARED(up_buffers, buffers, );
    SHARED(double, halves, [2][UP_ROWS]);
    const int lane = (int)threadIdx.x % 32, side = (int)threadIdx.x / 32 % 2;
    const int64_t column_tiles = blocks_of(t.w.width, UP_COLUMNS);
    const int64_t first = blockIdx.x / column_tiles * UP_ROWS, tile = blockIdx.x % column_tiles;
    up_sums sums;
    up_products(buffers, sums, t.b, t.w.n, t.a, t.w.width, t.rank, first, tile * UP_COLUMNS);
#pragma unroll
    for (int r = 0; r < 4; r++) {
        float w[UP_EACH];
        double squares = 0;
        load_eight<T>(w, t.w, first + up_row(r), tile * UP_COLUMNS + up_column());
#pragma unroll
        for (int c = 0; c < UP_EACH; c++) { /* outside of W both are 0 */
            const double sum = (double)(w[c] + t.scaling * sums.at[r][c]);
            squares += sum * sum;
        }
        squares += __shfl_xor_sync(0xffffffffu, squares, 1);
        squares += __shfl_xor_sync(0xffffffffu, squares, 2);
        if (lane % 4 == 0)
            halves[side][up_row(r)] = squares;
    }
    __syncthreads();
    const int64_t row = first + threadIdx.x;
    if (threadIdx.x < UP_ROWS && row < t.w.n)
        t.squares[tile * t.w.n + row] = halves[0][threadIdx.x] + halves[1][threadIdx.x];
}

__global__ void __launch_bounds__(LENGTH_THREADS)
    length_kernel(float *norm, const double *squares, int64_t tiles, int64_t out)
{
    const int64_t row = (int64_t)blockIdx.x * LENGTH_THREADS + threadIdx.x;
    if (row >= out)
        return;
    double sum = 0;
    for (int64_t tile = 0; tile < tiles; tile++)
        sum += squares[tile * out + row];
    norm[row] = (float)sqrt(sum);
}

/* A row of zeros has no direction: nothing comes out of it. */
__device__ __forceinline__ float gain(float magnitude, float norm)
{
    return norm > 0 ? magnitude / norm : 0;
}

/* Up to 16 bytes of a row, from `column`; zeros past its end. */
template <class T>
__device__ __forceinline__ void load_some(float (&to)[vector_width<T>()], const scale_task &t, const void *x,
                                          int64_t row, int64_t column)
{
    const T *from = (const T *)x + row * t.out + column;
    if (t.vectors)
        unpack(to, *(const uint4 *)from);
    else
#pragma unroll
        for (int i = 0; i < vector_width<T>(); i++)
            to[i] = column + i < t.out ? to_float(from[i]) : 0;
}

template <class T>
__device__ __forceinline__ void store_some(const scale_task &t, int64_t row, int64_t column,
                                           const float (&from)[vector_width<T>()])
{
    T *to = (T *)t.y + row * t.out + column;
    if (t.vectors)
        *(uint4 *)to = pack(from);
    else
#pragma unroll
        for (int i = 0; i < vector_width<T>(); i++)
            if (column + i < t.out)
                to[i] = from_float<T>(from[i]);
}

template <class T>
__device__ __forceinline__ void load_gains(float (&gains)[vector_width<T>()], const scale_task &t,
                                           int64_t column)
{
#pragma unroll
    for (int i = 0; i < vector_width<T>(); i++)
        gains[i] = column + i < t.out ? gain(t.magnitude[column + i], t.norm[column + i]) : 0;
}

/* A thread: 16 bytes of FORWARD_ROWS rows. */
template <class T> __global__ void __launch_bounds__(DORA_THREADS) dora_forward_kernel(scale_task t)
{
    constexpr int width = vector_width<T>();
    const int64_t column_blocks = blocks_of(t.out, DORA_THREADS * width);
    const int64_t column = (blockIdx.x % column_blocks * DORA_THREADS + threadIdx.x) * width;
    const int64_t first = blockIdx.x / column_blocks * FORWARD_ROWS, end = min(first + FORWARD_ROWS, t.n);
    if (column >= t.out)
        return;
    float gains[width];
    load_gains<T>(gains, t, column);
#pragma unroll 4
    for (int64_t row = first; row < end; row++) {
        float x[width], y[width];
        load_some<T>(x, t, t.x, row, column);
        if (t.accumulate)
            load_some<T>(y, t, t.y, row, column);
#pragma unroll
        for (int i = 0; i < width; i++)
            y[i] = t.accumulate ? y[i] + x[i] * gains[i] : x[i] * gains[i];
        store_some<T>(t, row, column, y);
    }
}

/* Two threads a row, 16 bytes each; a block is 128 rows high. Sums are taken row by row, then over the 128. */
template <class T> __global__ void __launch_bounds__(DORA_THREADS) dora_backward_kernel(scale_task t)
{
    enum { WIDTH = vector_width<T>(), SIDES = 2, LINES = DORA_THREADS / SIDES, AHEAD = 4 };
    SHARED(float, sums, [LINES][SIDES * WIDTH + 1]);
    const int side = (int)threadIdx.x % SIDES, line = (int)threadIdx.x / SIDES;
    const int64_t column = ((int64_t)blockIdx.x * SIDES + side) * WIDTH;
    float gains[WIDTH], mine[WIDTH];
    load_gains<T>(gains, t, column);
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
        mine[i] = 0;
    for (int64_t row = line; row < t.n && column < t.out; row += AHEAD * LINES) {
        float x[AHEAD][WIDTH], d[AHEAD][WIDTH]; /* dx may be dy, so the loads have to come first */
#pragma unroll
        for (int a = 0; a < AHEAD; a++)
            if (row + a * LINES < t.n) {
                load_some<T>(x[a], t, t.x, row + a * LINES, column);
                load_some<T>(d[a], t, t.dy, row + a * LINES, column);
            }
#pragma unroll
        for (int a = 0; a < AHEAD; a++)
            if (row + a * LINES < t.n) {
#pragma unroll
                for (int i = 0; i < WIDTH; i++) {
                    mine[i] += d[a][i] * x[a][i];
                    d[a][i] *= gains[i];
                }
                store_some<T>(t, row + a * LINES, column, d[a]);
            }
    }
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
        sums[line][side * WIDTH + i] = mine[i];
    __syncthreads();
    const int64_t owned = (int64_t)blockIdx.x * SIDES * WIDTH + threadIdx.x;
    if (threadIdx.x >= SIDES * WIDTH || owned >= t.out)
        return;
    float sum = 0;
    for (int l = 0; l < LINES; l++)
        sum += sums[l][threadIdx.x];
    t.dmagnitude[owned] += t.norm[owned] > 0 ? sum / t.norm[owned] : 0;
}

/* --- launchers ----------------------------------------------------------------------------------------- */

size_t cuda_dora_norm_workspace(int64_t in, int64_t out)
{
    return (size_t)blocks_of(in, UP_COLUMNS) * (size_t)out * sizeof(double);
}

sc_status cuda_dora_norm(stream *s, float *norm, const void *w, dtype w_type, const float *a, const float *b,
                         int64_t in, int64_t out, int64_t rank, float scaling, void *workspace)
{
    if (in <= 0 || out < 0 || rank <= 0)
        return sc_fail(SC_INTERNAL, "dora_norm: impossible shape: [%lld][%lld] by rank %lld", (long long)out,
                       (long long)in, (long long)rank);
    if (out == 0)
        return SC_OK;
    const int64_t tiles = blocks_of(in, UP_COLUMNS);
    const length_task task = {(double *)workspace, wide_of(w, w_type, out, in), b, {a, in, 1}, rank, scaling};
    const dim3 grid = grid_of(blocks_of(out, UP_ROWS) * tiles);
    if (w_type == DTYPE_F32)
        LAUNCH(squares_kernel<float>, grid, UP_THREADS, 0, cuda_stream(s), task);
    else
        LAUNCH(squares_kernel<bf16>, grid, UP_THREADS, 0, cuda_stream(s), task);
    LAUNCH(length_kernel, grid_of(blocks_of(out, LENGTH_THREADS)), LENGTH_THREADS, 0, cuda_stream(s), norm,
           (const double *)workspace, tiles, out);
    return launched("dora_norm");
}

/* Rows of all three begin at multiples of 16 bytes. */
static bool in_vectors(const void *a, const void *b, const void *c, dtype type, int64_t out)
{
    return ((uintptr_t)a | (uintptr_t)b | (uintptr_t)c) % 16 == 0 && (size_t)out * dtype_size(type) % 16 == 0;
}

sc_status cuda_dora_forward(stream *s, void *y, bool accumulate, const void *x, dtype type,
                            const float *magnitude, const float *norm, int64_t n, int64_t out)
{
    if (n < 0 || out < 0)
        return sc_fail(SC_INTERNAL, "dora_forward: impossible shape: %lld rows of %lld", (long long)n,
                       (long long)out);
    if (n == 0 || out == 0)
        return SC_OK;
    const scale_task task = {y,    x, NULL, magnitude,  norm,
                             NULL, n, out,  accumulate, in_vectors(y, x, NULL, type, out)};
    const int64_t per_block = DORA_THREADS * (int64_t)(16 / dtype_size(type));
    const dim3 grid = grid_of(blocks_of(out, per_block) * blocks_of(n, FORWARD_ROWS));
    if (type == DTYPE_F32)
        LAUNCH(dora_forward_kernel<float>, grid, DORA_THREADS, 0, cuda_stream(s), task);
    else
        LAUNCH(dora_forward_kernel<bf16>, grid, DORA_THREADS, 0, cuda_stream(s), task);
    return launched("dora_forward");
}

sc_status cuda_dora_backward(stream *s, void *dx, float *dmagnitude, const void *dy, const void *x,
                             dtype type, const float *magnitude, const float *norm, int64_t n, int64_t out)
{
    if (n < 0 || out < 0)
        return sc_fail(SC_INTERNAL, "dora_backward: impossible shape: %lld rows of %lld", (long long)n,
                       (long long)out);
    if (n == 0 || out == 0)
        return SC_OK;
    const scale_task task = {dx,         x, dy,  magnitude, norm,
                             dmagnitude, n, out, false,     in_vectors(dx, x, dy, type, out)};
    const dim3 grid = grid_of(blocks_of(out, 2 * (int64_t)(16 / dtype_size(type))));
    if (type == DTYPE_F32)
        LAUNCH(dora_backward_kernel<float>, grid, DORA_THREADS, 0, cuda_stream(s), task);
    else
        LAUNCH(dora_backward_kernel<bf16>, grid, DORA_THREADS, 0, cuda_stream(s), task);
    return launched("dora_backward");
}
