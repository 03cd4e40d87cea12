/* norm: RMSNorm, y = x * rstd * (shift + w) with rstd = 1 / sqrt(mean(x^2) + eps), and its gradients. Twin of src/device/cpu/norm.c.
 *
 * Forward reads x and writes y, backward reads dy and x (and dx, if it adds to it) and writes dx, each once: a block has a
 * whole row in its registers, NORM_KEPT vectors a thread forward and one backward, and reads only what is beyond that (of
 * rows wider than 16,384 and 8,192 bf16) again. dw is a sum over rows: a block sums a run of rows, whose number depends
 * on n and dim alone, and `norm_join_kernel` the runs, in order; that moves 8 bytes a run and column more, 1/16 of the rest or less. */
#include "elements.cuh"
#include "launch.cuh"

enum { NORM_THREADS = 1024, NORM_KEPT = 2 }; /* threads at most */
enum { RUN_ROWS = 16, RUNS = 512 };          /* rows of a run at least, runs at most */
/* Rows of a vector a lane, as the heads of q and k are: a warp a row, for blocks of one warp would leave a multiprocessor
 * half empty; and more runs, each of them a warp's. */
enum { NARROW_WARPS = 8, NARROW_RUNS = 2048 };
enum { JOIN_COLUMNS = 32, JOIN_GROUPS = 16 };

struct norm_task {
    void *out; /* y or dx */
    const void *x, *w;
    int64_t n, dim;
    float shift;
};

struct norm_gradient {
    norm_task t;
    const void *dy;
    const float *rstd;
    float *dw_runs; /* [runs][dim], or NULL */
    int64_t runs;
    bool accumulate;
};

/* --- kernels ------------------------------------------------------------------------------------------- */

template <int WIDTH> __device__ __forceinline__ float squares_of(const float (&v)[WIDTH])
{
    float sum = 0;
#pragma unroll
    for (int e = 0; e < WIDTH; e++)
        sum = __fmaf_rn(v[e], v[e], sum);
    return sum;
}

template <class T, class W, int WIDTH>
__device__ __forceinline__ void store_normed(T *y, float (&v)[WIDTH], float r, float shift, const W *w)
{
    float weights[WIDTH];
    load_vector(weights, w);
#pragma unroll
    for (int e = 0; e < WIDTH; e++)
        v[e] = v[e] * r * (shift + weights[e]);
    store_vector(y, v);
}

template <class T, class W, int WIDTH>
__global__ void __launch_bounds__(NORM_THREADS) norm_kernel(norm_task t, float *rstd, float eps)
{
    SHARED(float, parts, [32]);
    const int64_t row = blockIdx.x, step = (int64_t)blockDim.x * WIDTH, mine = (int64_t)threadIdx.x * WIDTH;
    const T *x = (const T *)t.x + row * t.dim;
    const W *w = (const W *)t.w;
    T *y = (T *)t.out + row * t.dim;
    float kept[NORM_KEPT][WIDTH], squares = 0;
#pragma unroll
    for (int k = 0; k < NORM_KEPT; k++)
        if (mine + k * step < t.dim)
            load_vector(kept[k], x + mine + k * step);
#pragma unroll
    for (int k = 0; k < NORM_KEPT; k++)
        if (mine + k * step < t.dim)
            squares += squares_of(kept[k]);
    for (int64_t at = mine + NORM_KEPT * step; at < t.dim; at += step) {
        float v[WIDTH];
        load_vector(v, x + at);
        squares += squares_of(v);
    }
    const float r = 1.0f / sqrtf(block_sum(squares, parts) / (float)t.dim + eps);
    if (rstd && threadIdx.x == 0)
        rstd[row] = r;
#pragma unroll
    for (int k = 0; k < NORM_KEPT; k++)
        if (mine + k * step < t.dim)
            store_normed(y + mine + k * step, kept[k], r, t.shift, w + mine + k * step);
    for (int64_t at = mine + NORM_KEPT * step; at < t.dim; at += step) {
        float v[WIDTH];
        load_vector(v, x + at);
        store_normed(y + at, v, r, t.shift, w + at);
    }
}

template <class T, class W, int WIDTH>
__global__ void __launch_bounds__(32 * NARROW_WARPS) norm_narrow_kernel(norm_task t, float *rstd, float eps)
{
    const int64_t row = (int64_t)blockIdx.x * NARROW_WARPS + threadIdx.x / 32;
    const int64_t mine = (int64_t)(threadIdx.x % 32) * WIDTH;
    if (row >= t.n)
        return;
    float kept[WIDTH], squares = 0;
    if (mine < t.dim) {
        load_vector(kept, (const T *)t.x + row * t.dim + mine);
        squares = squares_of(kept);
    }
    const float r = 1.0f / sqrtf(warp_sum(squares) / (float)t.dim + eps);
    if (rstd && mine == 0)
        rstd[row] = r;
    if (mine < t.dim)
        store_normed((T *)t.out + row * t.dim + mine, kept, r, t.shift, (const W *)t.w + mine);
}

/* Some columns of a row: x and g = dy * (shift + w), of which dx = rstd * g - x * rstd^3 * mean(g * x). */
template <int WIDTH> struct norm_columns {
    float x[WIDTH], g[WIDTH];
};

/* dw += dy * x * rstd, too, while dy is here. */
template <class T, class W, int WIDTH>
__device__ __forceinline__ void load_columns(norm_columns<WIDTH> &c, float (&dw)[WIDTH],
                                             const norm_gradient &g, int64_t row, int64_t at, float r)
{
    float w[WIDTH];
    load_vector(c.x, (const T *)g.t.x + row * g.t.dim + at);
    load_vector(c.g, (const T *)g.dy + row * g.t.dim + at);
    load_vector(w, (const W *)g.t.w + at);
#pragma unroll
    for (int e = 0; e < WIDTH; e++) {
        dw[e] += c.g[e] * c.x[e] * r;
        c.g[e] *= g.t.shift + w[e];
    }
}

template <int WIDTH> __device__ __forceinline__ float dot_of(const norm_columns<WIDTH> &c)
{
    float dot = 0;
#pragma unroll
    for (int e = 0; e < WIDTH; e++)
        dot = __fmaf_rn(c.g[e], c.x[e], dot);
    return dot;
}

/* `to` is what the gradient is added to: dx, or zeros. */
template <class T, int WIDTH>
__device__ __forceinline__ void store_gradient(T *dx, float (&to)[WIDTH], const norm_columns<WIDTH> &c,
                                               float r, float slope)
{
#pragma unroll
    for (int e = 0; e < WIDTH; e++)
        to[e] += r * c.g[e] - c.x[e] * slope;
    store_vector(dx, to);
}

template <class T, class W, int WIDTH>
__global__ void __launch_bounds__(NORM_THREADS) norm_backward_kernel(norm_gradient g)
{
    SHARED(float, parts, [2][32]);
    const int64_t dim = g.t.dim, step = (int64_t)blockDim.x * WIDTH, mine = (int64_t)threadIdx.x * WIDTH;
    const int64_t run = blockIdx.x, first = g.t.n * run / g.runs, last = g.t.n * (run + 1) / g.runs;
    float *dw = g.dw_runs ? g.dw_runs + run * dim : NULL;
    float sums[WIDTH];
#pragma unroll
    for (int e = 0; e < WIDTH; e++)
        sums[e] = 0;
    for (int64_t at = mine + step; dw && at < dim; at += step)
        store_vector(dw + at, sums);
    for (int64_t row = first; row < last; row++) {
        const float r = g.rstd[row];
        T *dx = (T *)g.t.out + row * dim;
        norm_columns<WIDTH> c;
        float dot = 0, to[WIDTH] = {0};
        if (mine < dim) {
            if (g.accumulate) /* before the block meets: one wait for memory a row, not two */
                load_vector(to, dx + mine);
            load_columns<T, W>(c, sums, g, row, mine, r);
            dot = dot_of(c);
        }
        for (int64_t at = mine + step; at < dim; at += step) {
            norm_columns<WIDTH> more;
            float own[WIDTH] = {0};
            if (dw)
                load_vector(own, dw + at);
            load_columns<T, W>(more, own, g, row, at, r);
            dot += dot_of(more);
            if (dw)
                store_vector(dw + at, own);
        }
        /* While some threads still read one of the two, the others are at most at the other. */
        const float slope = block_sum(dot, parts[row % 2]) / (float)dim * r * r * r;
        if (mine < dim)
            store_gradient(dx + mine, to, c, r, slope);
        for (int64_t at = mine + step; at < dim; at += step) {
            norm_columns<WIDTH> more;
            float none[WIDTH] = {0}, more_to[WIDTH] = {0};
            if (g.accumulate)
                load_vector(more_to, dx + at);
            load_columns<T, W>(more, none, g, row, at, r);
            store_gradient(dx + at, more_to, more, r, slope);
        }
    }
    if (dw && mine < dim)
        store_vector(dw + mine, sums);
}

template <class T, class W, int WIDTH>
__global__ void __launch_bounds__(32 * NARROW_WARPS) norm_narrow_backward_kernel(norm_gradient g)
{
    const int64_t run = (int64_t)blockIdx.x * NARROW_WARPS + threadIdx.x / 32, dim = g.t.dim;
    const int64_t mine = (int64_t)(threadIdx.x % 32) * WIDTH;
    if (run >= g.runs)
        return;
    float sums[WIDTH] = {0};
    for (int64_t row = g.t.n * run / g.runs; row < g.t.n * (run + 1) / g.runs; row++) {
        const float r = g.rstd[row];
        T *dx = (T *)g.t.out + row * dim + mine;
        norm_columns<WIDTH> c;
        float dot = 0, to[WIDTH] = {0};
        if (mine < dim) {
            if (g.accumulate)
                load_vector(to, dx);
            load_columns<T, W>(c, sums, g, row, mine, r);
            dot = dot_of(c);
        }
        const float slope = warp_sum(dot) / (float)dim * r * r * r;
        if (mine < dim)
            store_gradient(dx, to, c, r, slope);
    }
    if (g.dw_runs && mine < dim)
        store_vector(g.dw_runs + run * dim + mine, sums);
}

/* Every group of threads sums each JOIN_GROUPS-th run, and the first adds their sums to dw. */
__global__ void __launch_bounds__(JOIN_COLUMNS *JOIN_GROUPS)
    norm_join_kernel(float *dw, const float *dw_runs, int64_t runs, int64_t dim)
{
    SHARED(float, parts, [JOIN_GROUPS][JOIN_COLUMNS]);
    const int across = (int)threadIdx.x % JOIN_COLUMNS, group = (int)threadIdx.x / JOIN_COLUMNS;
    const int64_t column = (int64_t)blockIdx.x * JOIN_COLUMNS + across;
    float sum = 0;
#pragma unroll 8
    for (int64_t run = group; run < runs; run += JOIN_GROUPS)
        sum += column < dim ? dw_runs[run * dim + column] : 0;
    parts[group][across] = sum;
    __syncthreads();
    if (group > 0 || column >= dim)
        return;
    sum = dw[column];
    for (int other = 0; other < JOIN_GROUPS; other++)
        sum += parts[other][across];
    dw[column] = sum;
}

/* --- launchers ----------------------------------------------------------------------------------------- */

/* Whether a lane holds its part of a row in one vector of `width`. */
static bool is_narrow(int64_t dim, int width)
{
    return dim <= 32 * width;
}

static int64_t runs_of(int64_t n, int64_t dim)
{
    const int64_t runs = blocks_of(n, RUN_ROWS);
    const int64_t most = is_narrow(dim, vector_width<bf16>()) ? (int64_t)NARROW_RUNS : (int64_t)RUNS;
    return runs < most ? runs : most;
}

/* Whole warps, enough for a row if a thread takes so many of its columns. */
static unsigned threads_for(int64_t dim, int64_t columns)
{
    const int64_t threads = blocks_of(dim, columns * 32) * 32;
    return (unsigned)(threads < NORM_THREADS ? threads : (int64_t)NORM_THREADS);
}

static sc_status check_shape(const char *op, int64_t n, int64_t dim)
{
    if (n < 0 || n > INT32_MAX || dim <= 0)
        return sc_fail(SC_INTERNAL, "%s: impossible shape: %lld rows of %lld", op, (long long)n,
                       (long long)dim);
    return SC_OK;
}

template <class T, class W> static void forward(cudaStream_t on, const norm_task &t, float *rstd, float eps)
{
    constexpr int WIDTH = vector_width<T>();
    const bool vectors = fits_vectors(WIDTH, t.dim, t.out, t.x, t.w);
    if (vectors && is_narrow(t.dim, WIDTH))
        LAUNCH((norm_narrow_kernel<T, W, WIDTH>), grid_of(blocks_of(t.n, NARROW_WARPS)), 32 * NARROW_WARPS, 0,
               on, t, rstd, eps);
    else if (vectors)
        LAUNCH((norm_kernel<T, W, WIDTH>), grid_of(t.n), threads_for(t.dim, NORM_KEPT * WIDTH), 0, on, t,
               rstd, eps);
    else
        LAUNCH((norm_kernel<T, W, 1>), grid_of(t.n), threads_for(t.dim, NORM_KEPT), 0, on, t, rstd, eps);
}

sc_status cuda_rmsnorm_forward(stream *s, void *y, float *rstd, const void *x, const void *w, dtype type,
                               dtype w_type, int64_t n, int64_t dim, float eps, float shift)
{
    const cudaStream_t on = cuda_stream(s);
    const norm_task task = {y, x, w, n, dim, shift};
    const sc_status status = check_shape("rmsnorm_forward", n, dim);
    if (status != SC_OK || n == 0)
        return status;
    if (type == DTYPE_F32)
        w_type == DTYPE_F32 ? forward<float, float>(on, task, rstd, eps)
                            : forward<float, bf16>(on, task, rstd, eps);
    else
        w_type == DTYPE_F32 ? forward<bf16, float>(on, task, rstd, eps)
                            : forward<bf16, bf16>(on, task, rstd, eps);
    return launched("rmsnorm_forward");
}

size_t cuda_rmsnorm_backward_workspace(int64_t n, int64_t dim)
{
    return (size_t)runs_of(n, dim) * (size_t)dim * sizeof(float);
}

template <class T, class W> static void backward(cudaStream_t on, const norm_gradient &g)
{
    constexpr int WIDTH = vector_width<T>();
    const bool vectors = fits_vectors(WIDTH, g.t.dim, g.t.out, g.t.x, g.t.w, g.dy, g.dw_runs);
    if (vectors && is_narrow(g.t.dim, WIDTH))
        LAUNCH((norm_narrow_backward_kernel<T, W, WIDTH>), grid_of(blocks_of(g.runs, NARROW_WARPS)),
               32 * NARROW_WARPS, 0, on, g);
    else if (vectors)
        LAUNCH((norm_backward_kernel<T, W, WIDTH>), grid_of(g.runs), threads_for(g.t.dim, WIDTH), 0, on, g);
    else
        LAUNCH((norm_backward_kernel<T, W, 1>), grid_of(g.runs), threads_for(g.t.dim, 1), 0, on, g);
}

sc_status cuda_rmsnorm_backward(stream *s, void *dx, bool accumulate_dx, float *dw, const void *dy,
                                const void *x, const void *w, const float *rstd, dtype type, dtype w_type,
                                int64_t n, int64_t dim, float shift, void *workspace)
{
    const cudaStream_t on = cuda_stream(s);
    const sc_status status = check_shape("rmsnorm_backward", n, dim);
    if (status != SC_OK || n == 0)
        return status;
    /* Without dw nothing joins rows, and every one has a block. */
    const norm_gradient g = {{dx, x, w, n, dim, shift}, dy,           rstd, dw ? (float *)workspace : NULL,
                             dw ? runs_of(n, dim) : n,  accumulate_dx};
    if (type == DTYPE_F32)
        w_type == DTYPE_F32 ? backward<float, float>(on, g) : backward<float, bf16>(on, g);
    else
        w_type == DTYPE_F32 ? backward<bf16, float>(on, g) : backward<bf16, bf16>(on, g);
    if (dw)
        LAUNCH(norm_join_kernel, grid_of(blocks_of(dim, JOIN_COLUMNS)), JOIN_COLUMNS * JOIN_GROUPS, 0, on, dw,
               g.dw_runs, g.runs, dim);
    return launched("rmsnorm_backward");
}
