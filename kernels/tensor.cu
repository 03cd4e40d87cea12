/* tensor: casts, sums, rows moved by index, pooling. Twin of src/device/cpu/tensor.c, whose memory is in memory.cu.
 *
 * Each passes over its memory once, and that is all it costs: n (size of dst + size of src) bytes for `cast`, with y read
 * and written for `add`; twice the rows for `gather_rows` and `scatter_rows`; n_tokens dim for the mean of `pool_rows`.
 * A thread has 16 bytes or more of each array under way. */
#include "elements.cuh"
#include "launch.cuh"

enum { FLAT_THREADS = 256 };
/* A warp copies a row, COPY_EACH units a lane at a time. */
enum { COPY_WARPS = 8, COPY_EACH = 4, COPY_AT_ONCE = 32 * COPY_EACH };
/* A thread pools two columns of a sequence, POOL_ROWS rows at a time. */
enum { POOL_THREADS = 256, POOL_ROWS = 8 };

struct copy_task {
    void *dst;
    const void *src;
    const int32_t *rows;
    int64_t n_rows, units, dst_step, src_step; /* units of a row, and between rows */
};

/* --- kernels ------------------------------------------------------------------------------------------- */

template <int WIDTH, class TO, class FROM>
__device__ __forceinline__ void cast_at(TO *dst, const FROM *src, int64_t i)
{
    float v[WIDTH];
    load_vector(v, src + i);
    store_vector(dst + i, v);
}

template <class TO, class FROM, int WIDTH>
__global__ void __launch_bounds__(FLAT_THREADS) cast_kernel(TO *dst, const FROM *src, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * FLAT_THREADS + threadIdx.x) * WIDTH;
    if (i + WIDTH <= n)
        cast_at<WIDTH>(dst, src, i);
    else
        for (int64_t j = i; j < n; j++)
            cast_at<1>(dst, src, j);
}

template <int WIDTH, class Y, class X>
__device__ __forceinline__ void add_at(Y *y, const X *x, float alpha, int64_t i)
{
    float sum[WIDTH], more[WIDTH];
    load_vector(sum, y + i);
    load_vector(more, x + i);
#pragma unroll
    for (int e = 0; e < WIDTH; e++)
        sum[e] = __fmaf_rn(alpha, more[e], sum[e]);
    store_vector(y + i, sum);
}

template <class Y, class X, int WIDTH>
__global__ void __launch_bounds__(FLAT_THREADS) add_kernel(Y *y, const X *x, float alpha, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * FLAT_THREADS + threadIdx.x) * WIDTH;
    if (i + WIDTH <= n)
        add_at<WIDTH>(y, x, alpha, i);
    else
        for (int64_t j = i; j < n; j++)
            add_at<1>(y, x, alpha, j);
}

template <class UNIT, bool SCATTER>
__global__ void __launch_bounds__(32 * COPY_WARPS) copy_kernel(copy_task t)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int64_t row = (int64_t)blockIdx.x * COPY_WARPS + warp;
    if (row >= t.n_rows)
        return;
    const int64_t other = t.rows[row];
    const UNIT *src = (const UNIT *)t.src + (SCATTER ? row : other) * t.src_step;
    UNIT *dst = (UNIT *)t.dst + (SCATTER ? other : row) * t.dst_step;
    for (int64_t at = (int64_t)blockIdx.y * COPY_AT_ONCE + lane; at < t.units;
         at += (int64_t)gridDim.y * COPY_AT_ONCE) {
        UNIT held[COPY_EACH];
#pragma unroll
        for (int e = 0; e < COPY_EACH; e++)
            if (at + 32 * e < t.units)
                held[e] = src[at + 32 * e];
#pragma unroll
        for (int e = 0; e < COPY_EACH; e++)
            if (at + 32 * e < t.units)
                dst[at + 32 * e] = held[e];
    }
}

/* Sums in double, in order of the rows, as the CPU does. */
template <class T, int WIDTH>
__global__ void __launch_bounds__(POOL_THREADS)
    pool_rows_kernel(float *out, const T *x, const int32_t *cu_seqlens, int64_t dim, bool last_only)
{
    const int64_t seq = blockIdx.x, last = cu_seqlens[seq + 1];
    const int64_t first = last_only && last > cu_seqlens[seq] ? last - 1 : cu_seqlens[seq];
    const double scale = last > first ? 1.0 / (double)(last - first) : 0.0;
    for (int64_t column = ((int64_t)blockIdx.y * POOL_THREADS + threadIdx.x) * WIDTH; column < dim;
         column += (int64_t)gridDim.y * POOL_THREADS * WIDTH) {
        double sums[WIDTH];
        float pooled[WIDTH];
        for (int e = 0; e < WIDTH; e++)
            sums[e] = 0;
        for (int64_t row = first; row < last; row += POOL_ROWS) {
            float v[POOL_ROWS][WIDTH];
#pragma unroll
            for (int r = 0; r < POOL_ROWS; r++)
                if (row + r < last)
                    load_vector(v[r], x + (row + r) * dim + column);
#pragma unroll
            for (int r = 0; r < POOL_ROWS; r++)
                if (row + r < last)
                    for (int e = 0; e < WIDTH; e++)
                        sums[e] += (double)v[r][e];
        }
        for (int e = 0; e < WIDTH; e++)
            pooled[e] = (float)(sums[e] * scale);
        store_vector(out + seq * dim + column, pooled);
    }
}

/* --- launchers ----------------------------------------------------------------------------------------- */

template <class TO, class FROM> static void cast_all(cudaStream_t on, void *dst, const void *src, int64_t n)
{
    constexpr int WIDTH = vector_width<TO, FROM>();
    if (fits_vectors(WIDTH, 0, dst, src))
        LAUNCH((cast_kernel<TO, FROM, WIDTH>), grid_of(blocks_of(n, FLAT_THREADS * WIDTH)), FLAT_THREADS, 0,
               on, (TO *)dst, (const FROM *)src, n);
    else
        LAUNCH((cast_kernel<TO, FROM, 1>), grid_of(blocks_of(n, FLAT_THREADS)), FLAT_THREADS, 0, on,
               (TO *)dst, (const FROM *)src, n);
}

sc_status cuda_cast(stream *s, void *dst, dtype dst_type, const void *src, dtype src_type, int64_t n)
{
    const cudaStream_t on = cuda_stream(s);
    if (n < 0)
        return sc_fail(SC_INTERNAL, "cast: impossible size: %lld", (long long)n);
    if (n == 0)
        return SC_OK;
    if (dst_type == src_type)
        return cuda_status("cast", cudaMemcpyAsync(dst, src, (size_t)n * dtype_size(dst_type),
                                                   cudaMemcpyDeviceToDevice, on));
    if (dst_type == DTYPE_F32)
        cast_all<float, bf16>(on, dst, src, n);
    else
        cast_all<bf16, float>(on, dst, src, n);
    return launched("cast");
}

template <class Y, class X>
static void add_all(cudaStream_t on, void *y, const void *x, float alpha, int64_t n)
{
    constexpr int WIDTH = vector_width<Y, X>();
    if (fits_vectors(WIDTH, 0, y, x))
        LAUNCH((add_kernel<Y, X, WIDTH>), grid_of(blocks_of(n, FLAT_THREADS * WIDTH)), FLAT_THREADS, 0, on,
               (Y *)y, (const X *)x, alpha, n);
    else
        LAUNCH((add_kernel<Y, X, 1>), grid_of(blocks_of(n, FLAT_THREADS)), FLAT_THREADS, 0, on, (Y *)y,
               (const X *)x, alpha, n);
}

sc_status cuda_add(stream *s, void *y, dtype y_type, const void *x, dtype x_type, float alpha, int64_t n)
{
    const cudaStream_t on = cuda_stream(s);
    if (n < 0)
        return sc_fail(SC_INTERNAL, "add: impossible size: %lld", (long long)n);
    if (n == 0)
        return SC_OK;
    if (y_type == DTYPE_F32)
        x_type == DTYPE_F32 ? add_all<float, float>(on, y, x, alpha, n)
                            : add_all<float, bf16>(on, y, x, alpha, n);
    else
        x_type == DTYPE_F32 ? add_all<bf16, float>(on, y, x, alpha, n)
                            : add_all<bf16, bf16>(on, y, x, alpha, n);
    return launched("add");
}

template <class UNIT, bool SCATTER> static void copy_rows(cudaStream_t on, copy_task t, int64_t elements)
{
    t.units /= elements;
    t.dst_step /= elements;
    t.src_step /= elements;
    LAUNCH((copy_kernel<UNIT, SCATTER>),
           row_grid(blocks_of(t.n_rows, COPY_WARPS), blocks_of(t.units, COPY_AT_ONCE)), 32 * COPY_WARPS, 0,
           on, t);
}

/* Rows go by 16 bytes where all begin at multiples of that, else by element. */
template <bool SCATTER> static sc_status move_rows(const char *op, stream *s, const copy_task *t, dtype type)
{
    const cudaStream_t on = cuda_stream(s);
    const int64_t width = 16 / (int64_t)dtype_size(type);
    if (t->n_rows < 0 || t->n_rows > INT32_MAX || t->units < 0 || t->dst_step < t->units ||
        t->src_step < t->units)
        return sc_fail(SC_INTERNAL, "%s: impossible shape: %lld rows of %lld, %lld apart", op,
                       (long long)t->n_rows, (long long)t->units,
                       (long long)(SCATTER ? t->dst_step : t->src_step));
    if (t->n_rows == 0 || t->units == 0)
        return SC_OK;
    if (t->units % width == 0 && t->dst_step % width == 0 &&
        fits_vectors((int)width, t->src_step, t->dst, t->src))
        copy_rows<uint4, SCATTER>(on, *t, width);
    else if (type == DTYPE_F32)
        copy_rows<float, SCATTER>(on, *t, 1);
    else
        copy_rows<bf16, SCATTER>(on, *t, 1);
    return launched(op);
}

sc_status cuda_gather_rows(stream *s, void *dst, const void *src, const int32_t *rows, int64_t n_rows,
                           int64_t dim, int64_t src_ld, dtype type)
{
    const copy_task task = {dst, src, rows, n_rows, dim, dim, src_ld};
    return move_rows<false>("gather_rows", s, &task, type);
}

sc_status cuda_scatter_rows(stream *s, void *dst, const void *src, const int32_t *rows, int64_t n_rows,
                            int64_t dim, int64_t dst_ld, dtype type)
{
    const copy_task task = {dst, src, rows, n_rows, dim, dst_ld, dim};
    return move_rows<true>("scatter_rows", s, &task, type);
}

template <class T, int WIDTH>
static void pool_all(cudaStream_t on, float *out, const void *x, const int32_t *cu_seqlens, int64_t n_seqs,
                     int64_t dim, pooling how)
{
    LAUNCH((pool_rows_kernel<T, WIDTH>), row_grid(n_seqs, blocks_of(dim, POOL_THREADS * WIDTH)), POOL_THREADS,
           0, on, out, (const T *)x, cu_seqlens, dim, how == POOL_LAST);
}

sc_status cuda_pool_rows(stream *s, float *out, const void *x, dtype type, const int32_t *cu_seqlens,
                         int64_t n_seqs, int64_t dim, pooling how)
{
    const cudaStream_t on = cuda_stream(s);
    if (n_seqs < 0 || n_seqs > INT32_MAX || dim < 0)
        return sc_fail(SC_INTERNAL, "pool_rows: impossible shape: %lld sequences of width %lld",
                       (long long)n_seqs, (long long)dim);
    if (n_seqs == 0 || dim == 0)
        return SC_OK;
    const bool pairs = fits_vectors(2, dim, out, x);
    if (type == DTYPE_F32)
        pairs ? pool_all<float, 2>(on, out, x, cu_seqlens, n_seqs, dim, how)
              : pool_all<float, 1>(on, out, x, cu_seqlens, n_seqs, dim, how);
    else
        pairs ? pool_all<bf16, 2>(on, out, x, cu_seqlens, n_seqs, dim, how)
              : pool_all<bf16, 1>(on, out, x, cu_seqlens, n_seqs, dim, how);
    return launched("pool_rows");
}
