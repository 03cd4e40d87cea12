/* design_pool: picks inside a pool of rows, the greedy D-optimal recursion in double. Twin of
 * src/device/cpu/design_pool.c: the same decisions, from gains that are summed in the same order.
 *
 * One cooperative launch makes all picks of a block without returning to the host. Every block of the grid follows the
 * whole course by itself, from what all wrote before the last barrier, so that decisions need no messages; the work in
 * between is shared out:
 *
 *   evaluate   u = A x for the rows that could be the best, EVALUATED at a time; a row of A to four lanes. Barrier. Then
 *              their gains, by the first block. Barrier.
 *   choose     w, a share of its columns to every thread. Barrier. Then what it takes from every gain, sixteen lanes a row
 *              of the pool. Barrier.
 *
 * A pick reads A once if rows have to be evaluated (8 dim^2 bytes), the pool once (4 m dim) and the block's w (8 n dim):
 * from the cache of the second level if that holds them. */
#include "cooperative.cuh"
#include "lanes.cuh"
#include "launch.cuh"

#include <float.h>

enum { POOL_THREADS = 256, POOL_WARPS = POOL_THREADS / 32, FIRST_EVALUATED = 32, EVALUATED = 8 };

/* A pick is right if its gain is within 1e-10 of the best; half of that is left to rounding, half to bounds from outside. */
static constexpr double TRUSTED = 5e-11;

struct pool_result {
    int64_t n, n_evaluated;
    int32_t stop;
};

struct pool_task {
    design_pool p; /* with the card's pointers */
    double *u;     /* [m][dim] A x of the rows evaluated */
    double *y;     /* [most][m] w.x of every pick and row */
    double *start; /* [m] gains when the block began */
    pool_result *result;
    uint8_t *evaluated; /* [m] */
};

/* A place and its bound; the higher bound, and the lower place of equals, comes first. */
struct contender {
    double bound;
    int64_t place;
};

/* --- the course, followed by every block --------------------------------------------------------------- */

__device__ __forceinline__ contender better(contender a, contender b)
{
    return b.bound > a.bound || (b.bound == a.bound && b.place < a.place) ? b : a;
}

/* The best of all threads' contenders, in all threads. */
__device__ contender best_of_block(contender mine)
{
    SHARED(contender, best, [POOL_WARPS]);
    for (int step = 16; step > 0; step /= 2) {
        contender other;
        other.bound = __shfl_xor_sync(0xffffffffu, mine.bound, step);
        other.place = __shfl_xor_sync(0xffffffffu, mine.place, step);
        mine = better(mine, other);
    }
    __syncthreads(); /* the best of the time before has been read */
    if (threadIdx.x % 32 == 0)
        best[threadIdx.x / 32] = mine;
    __syncthreads();
    for (int w = 0; w < POOL_WARPS; w++)
        mine = better(mine, best[w]);
    return mine;
}

/* The place with the highest bound that comes after `last`, among those not evaluated, or among all. */
__device__ contender highest(const pool_task &t, bool unknown_only, contender last)
{
    contender mine = {-INFINITY, INT64_MAX};
    for (int64_t q = threadIdx.x; q < t.p.m; q += POOL_THREADS) {
        const double gain = t.p.gains[q];
        if (gain == -INFINITY || (unknown_only && t.evaluated[q]))
            continue;
        const contender it = {gain + t.p.slack[q], q};
        if (it.bound < last.bound || (it.bound == last.bound && q > last.place))
            mine = better(mine, it);
    }
    return best_of_block(mine);
}

/* Rounding can move the gain by this much: of x.u and A, and of what was taken from the block's start. */
__device__ __forceinline__ double rounding(const pool_task &t, int64_t q)
{
    return t.p.a_error * t.p.norms[q] * t.p.norms[q] + 16 * DBL_EPSILON * t.start[q];
}

/* --- evaluate ------------------------------------------------------------------------------------------ */

/* u = A x of up to EVALUATED rows of the pool, a row of A to every four lanes of the grid. */
__device__ void multiply(const pool_task &t, const int64_t *places, int count)
{
    const int64_t dim = t.p.dim, whole = dim / 4 * 4, groups = (int64_t)gridDim.x * POOL_THREADS / 4;
    const int lane = (int)threadIdx.x % 4;
    for (int64_t row = ((int64_t)blockIdx.x * POOL_THREADS + threadIdx.x) / 4; row < dim; row += groups) {
        const double *a = t.p.a + row * dim;
        double sums[EVALUATED];
        for (int i = 0; i < EVALUATED; i++)
            sums[i] = 0;
        for (int64_t d = lane; d < whole; d += 4) {
            const double value = a[d];
#pragma unroll
            for (int i = 0; i < EVALUATED; i++)
                if (i < count)
                    sums[i] += (double)t.p.x[places[i] * dim + d] * value;
        }
#pragma unroll
        for (int i = 0; i < EVALUATED; i++) {
            double sum = join_halves<4>(sums[i]);
            if (i >= count || lane != 0)
                continue;
            for (int64_t d = whole; d < dim; d++)
                sum += (double)t.p.x[places[i] * dim + d] * a[d];
            t.u[places[i] * dim + row] = sum;
        }
    }
}

/* The gains of those rows: x.u less what the block's picks took; sixteen lanes each. */
__device__ void gains_of(const pool_task &t, const int64_t *places, int count, int64_t n)
{
    const int i = (int)threadIdx.x / 16;
    if (i >= count)
        return;
    const int64_t q = places[i];
    const double start = dot_16(t.p.x + q * t.p.dim, t.u + q * t.p.dim, t.p.dim);
    double gain = start;
    for (int64_t l = 0; l < n; l++)
        gain -= t.y[l * t.p.m + q] * t.y[l * t.p.m + q];
    if (threadIdx.x % 16 == 0) {
        t.start[q] = start;
        t.p.gains[q] = gain;
        t.p.slack[q] = 0;
        t.evaluated[q] = 1;
    }
}

/* Evaluates the places with the highest bounds among those not evaluated, at most `most`; returns how many. */
__device__ int evaluate(const pool_task &t, int most, int64_t n)
{
    SHARED(int64_t, places, [FIRST_EVALUATED]);
    int count = 0;
    contender last = {INFINITY, -1};
    while (count < most) {
        last = highest(t, true, last);
        if (last.place == INT64_MAX)
            break;
        if (threadIdx.x == 0)
            places[count] = last.place;
        count++;
    }
    __syncthreads();
    for (int at = 0; at < count; at += EVALUATED)
        multiply(t, places + at, count - at < EVALUATED ? count - at : EVALUATED);
    grid_barrier();
    if (blockIdx.x == 0)
        for (int at = 0; at < count; at += POOL_THREADS / 16)
            gains_of(t, places + at, count - at, n);
    grid_barrier();
    return count;
}

/* --- choose -------------------------------------------------------------------------------------------- */

/* Takes the places of every group that is full now out; the first block. */
__device__ void close_groups(const pool_task &t, int64_t q)
{
    for (int64_t at = t.p.group_offsets[q]; at < t.p.group_offsets[q + 1]; at++) {
        const int32_t group = t.p.groups[at]; /* another one in every turn, so one wait is enough */
        if (threadIdx.x == 0)
            t.p.left[group]--;
        __syncthreads();
        if (t.p.left[group] > 0)
            continue;
        for (int64_t i = threadIdx.x; i < t.p.m; i += POOL_THREADS)
            for (int64_t other = t.p.group_offsets[i]; other < t.p.group_offsets[i + 1]; other++)
                if (t.p.groups[other] == group)
                    t.p.gains[i] = -INFINITY;
    }
}

/* Place q, of this gain, becomes pick n. */
__device__ void choose(const pool_task &t, int64_t q, double gain, int64_t n)
{
    const int64_t dim = t.p.dim, m = t.p.m, threads = (int64_t)gridDim.x * POOL_THREADS;
    const int64_t thread = (int64_t)blockIdx.x * POOL_THREADS + threadIdx.x;
    double *w = t.p.w + n * dim, *y = t.y + n * m;
    const double scale = 1 / sqrt(1 + gain);
    for (int64_t d = thread; d < dim; d += threads) {
        double taken = 0;
        for (int64_t l = 0; l < n; l++)
            taken += t.y[l * m + q] * t.p.w[l * dim + d];
        w[d] = (t.u[q * dim + d] + -1 * taken) * scale;
    }
    grid_barrier();
    for (int64_t i = thread / 16; i < m; i += threads / 16) {
        const double product = dot_16(t.p.x + i * dim, w, dim);
        if (threadIdx.x % 16 == 0) {
            y[i] = product;
            t.p.gains[i] = i == q ? -INFINITY : t.p.gains[i] - product * product;
        }
    }
    if (thread == 0) {
        t.p.picks[n] = q;
        t.p.found[n] = gain;
    }
    grid_barrier();
    if (t.p.group_offsets) {
        if (blockIdx.x == 0)
            close_groups(t, q);
        grid_barrier();
    }
}

/* --- kernel -------------------------------------------------------------------------------------------- */

__global__ void __launch_bounds__(POOL_THREADS, 1) pool_kernel(pool_task t)
{
    const int64_t threads = (int64_t)gridDim.x * POOL_THREADS,
                  thread = (int64_t)blockIdx.x * POOL_THREADS + threadIdx.x;
    int64_t n = 0, n_evaluated = 0;
    design_stop stop = DESIGN_FULL;
    for (int64_t q = thread; q < t.p.m; q += threads)
        t.evaluated[q] = 0;
    grid_barrier();
    while (n < t.p.most) {
        const contender it = highest(t, false, {INFINITY, -1});
        if (it.place == INT64_MAX) {
            stop = DESIGN_EMPTY;
            break;
        }
        if (!t.evaluated[it.place]) {
            n_evaluated += evaluate(t, n_evaluated == 0 ? FIRST_EVALUATED : EVALUATED, n);
            continue;
        }
        const double gain = t.p.gains[it.place];
        if (!(rounding(t, it.place) <= TRUSTED * gain)) {
            stop = DESIGN_UNSURE;
            break;
        }
        if (!(gain > t.p.tau || (gain >= t.p.tau * (1 - TRUSTED) && t.p.rows[it.place] < t.p.tau_row))) {
            stop = DESIGN_BEATEN;
            break;
        }
        choose(t, it.place, gain, n);
        n++;
    }
    grid_barrier();
    for (int64_t q = thread; q < t.p.m; q += threads)
        if (t.evaluated[q])
            t.p.slack[q] = rounding(t, q);
    if (thread == 0)
        *t.result = {n, n_evaluated, (int32_t)stop};
}

/* --- launcher ------------------------------------------------------------------------------------------ */

size_t cuda_design_pool_workspace(int64_t m, int64_t dim, int64_t most)
{
    return sizeof(double) * (size_t)(m * dim + most * m + m) + sizeof(pool_result) + (size_t)m;
}

/* As many blocks as stay on the card together, but no more than have work. */
static sc_status pool_grid(const design_pool *p, dim3 *grid)
{
    int device = 0, processors = 0, each = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess)
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, pool_kernel, POOL_THREADS, 0);
    if (error == cudaSuccess && processors * each < 1)
        error = cudaErrorCooperativeLaunchTooLarge;
    const int64_t rows = blocks_of(p->m * 16, POOL_THREADS), lines = blocks_of(p->dim * 4, POOL_THREADS);
    const int64_t useful = rows > lines ? rows : lines, most = each > 0 ? processors : 0;
    *grid = grid_of(useful < most ? useful : most);
    return cuda_status("design_pool", error);
}

sc_status cuda_design_pool(stream *s, design_pool *p, void *workspace)
{
    if (p->m <= 0 || p->dim <= 0 || p->most <= 0)
        return sc_fail(SC_INTERNAL, "design_pool: impossible shape: %lld rows of %lld, %lld picks",
                       (long long)p->m, (long long)p->dim, (long long)p->most);
    pool_result result = {0, 0, DESIGN_EMPTY};
    pool_task task = {};
    dim3 grid;
    cuda_stream(s);
    sc_status status = pool_grid(p, &grid);
    if (status != SC_OK)
        return status;
    task.p = *p;
    task.u = (double *)workspace;
    task.y = task.u + p->m * p->dim;
    task.start = task.y + p->most * p->m;
    task.result = (pool_result *)(task.start + p->m);
    task.evaluated = (uint8_t *)(task.result + 1);
    LAUNCH_COOPERATIVE(pool_kernel, grid, POOL_THREADS, 0, cuda_stream(s), task);
    status = launched("design_pool");
    if (status == SC_OK)
        status = fetch("design_pool", s, &result, task.result, sizeof result);
    p->n = result.n;
    p->n_evaluated = result.n_evaluated;
    p->stop = (design_stop)result.stop;
    return status;
}
