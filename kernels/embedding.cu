/* embedding: rows of a table by token id, and the gradient of the table. Twin of src/device/cpu/embedding.c.
 *
 * The gradient of an id is the sum of its rows of dout, in order of the rows, as the CPU adds them. So the rows are first
 * sorted by id, stably: by DIGIT_BITS of the ids at a time, from the lowest, in as many passes as `vocab` has such digits
 * (two for any up to 262,143). A pass counts digits by blocks of SORT_THREADS rows, adds the counts up, and moves each row
 * to where the counts before it end. The row numbers are moved, not what they hold: a pass is some 40 bytes a row, 1% of
 * a row of dout.
 *
 * Then a warp takes 32 places of the sorted list and VECTOR columns a lane; it sums the rows of the ids whose first row is
 * among them, SUM_AT_ONCE at a time. dout is read once, and the rows of dtable that are met are read and written once. */
#include "elements.cuh"
#include "launch.cuh"

enum { FORWARD_THREADS = 256 };
enum { DIGIT_BITS = 9, DIGITS = 1 << DIGIT_BITS };
enum { SORT_THREADS = DIGITS, SORT_WARPS = SORT_THREADS / 32 }; /* a thread owns a digit, too */
enum { SCAN_THREADS = 64 };
enum { SUM_WARPS = 4, SUM_AT_ONCE = 8, VECTOR = 4 };
static const unsigned NO_ROW = 0xffffffffu;

/* Rows of ids as they are sorted: digit `shift / DIGIT_BITS` of them. */
struct sort_task {
    const int32_t *ids;
    int64_t n;
    int32_t vocab, skip_id;
    const int32_t *from; /* rows in the order of the lower digits; NULL: in their own */
    int32_t *to;
    int32_t *counts; /* [DIGITS][blocks]: rows of a digit in a block, and then in the blocks before */
    int32_t *totals; /* [DIGITS] */
    unsigned *bad;   /* the first row whose id is not in the table */
    int32_t blocks, shift;
};

/* --- kernels ------------------------------------------------------------------------------------------- */

template <class TO, class FROM, int WIDTH>
__global__ void __launch_bounds__(FORWARD_THREADS)
    take_kernel(TO *out, const FROM *table, const int32_t *ids, int64_t dim, float scale)
{
    const int64_t row = blockIdx.x;
    const FROM *from = table + ids[row] * dim;
    for (int64_t at = ((int64_t)blockIdx.y * FORWARD_THREADS + threadIdx.x) * WIDTH; at < dim;
         at += (int64_t)gridDim.y * FORWARD_THREADS * WIDTH) {
        float v[WIDTH];
        load_vector(v, from + at);
#pragma unroll
        for (int e = 0; e < WIDTH; e++)
            v[e] *= scale;
        store_vector(out + row * dim + at, v);
    }
}

__device__ __forceinline__ bool outside(const sort_task &t, int32_t id)
{
    return id < 0 || id >= t.vocab;
}

/* What rows are sorted by: their id, or `vocab` where it is left out. */
__device__ __forceinline__ int key_of(const sort_task &t, int64_t row)
{
    const int32_t id = t.ids[row];
    return outside(t, id) || id == t.skip_id ? t.vocab : id;
}

__device__ __forceinline__ int digit_of(const sort_task &t, int64_t row)
{
    return key_of(t, row) >> t.shift & (DIGITS - 1);
}

__global__ void __launch_bounds__(SORT_THREADS) count_kernel(sort_task t)
{
    SHARED(int, found, [DIGITS]);
    const int64_t i = (int64_t)blockIdx.x * SORT_THREADS + threadIdx.x;
    found[threadIdx.x] = 0;
    __syncthreads();
    if (i < t.n) {
        atomicAdd(&found[digit_of(t, t.from ? t.from[i] : i)], 1);
        if (!t.from && outside(t, t.ids[i]))
            atomicMin(t.bad, (unsigned)i);
    }
    __syncthreads();
    t.counts[(int64_t)threadIdx.x * t.blocks + blockIdx.x] = found[threadIdx.x];
}

/* The sum over the threads before, of a block of whole warps; *all: over all of them. `parts` is shared, of 32; it may be
 * used again once the block has met. */
__device__ __forceinline__ int sum_before(int v, int *parts, int *all)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
    int upto = v;
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(0xffffffffu, upto, step);
        upto += lane >= step ? other : 0;
    }
    if (lane == 31)
        parts[warp] = upto;
    __syncthreads();
    int before = 0;
    *all = 0;
    for (int w = 0; w < warps; w++) {
        before += w < warp ? parts[w] : 0;
        *all += parts[w];
    }
    return before + upto - v;
}

/* A block adds up the counts of one digit. */
__global__ void __launch_bounds__(SCAN_THREADS) scan_kernel(sort_task t)
{
    SHARED(int, parts, [2][32]);
    int32_t *counts = t.counts + (int64_t)blockIdx.x * t.blocks;
    int total = 0;
    for (int first = 0, turn = 0; first < t.blocks; first += SCAN_THREADS, turn = 1 - turn) {
        const int b = first + (int)threadIdx.x;
        int all;
        const int before = sum_before(b < t.blocks ? counts[b] : 0, parts[turn], &all);
        if (b < t.blocks)
            counts[b] = total + before;
        total += all;
    }
    if (threadIdx.x == 0)
        t.totals[blockIdx.x] = total;
}

/* The lanes of the warp whose digit is this lane's. */
__device__ __forceinline__ unsigned lanes_alike(int digit, bool present)
{
    unsigned alike = __ballot_sync(0xffffffffu, present);
    for (int bit = 0; bit < DIGIT_BITS; bit++) {
        const unsigned ones = __ballot_sync(0xffffffffu, digit >> bit & 1);
        alike &= digit >> bit & 1 ? ones : ~ones;
    }
    return alike;
}

/* A row's place: the rows of lower digits, then those of its digit in the blocks before, in the warps before, and in the
 * lanes before. */
__global__ void __launch_bounds__(SORT_THREADS) move_kernel(sort_task t)
{
    SHARED(int, places, [SORT_WARPS][DIGITS]);
    SHARED(int, parts, [32]);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, own = (int)threadIdx.x;
    const int64_t i = (int64_t)blockIdx.x * SORT_THREADS + threadIdx.x;
    const bool present = i < t.n;
    const int32_t row = present ? (t.from ? t.from[i] : (int32_t)i) : 0;
    const int digit = present ? digit_of(t, row) : 0;
    int all;
    for (int w = 0; w < SORT_WARPS; w++)
        places[w][own] = 0;
    int place = sum_before(t.totals[own], parts, &all) + t.counts[(int64_t)own * t.blocks + blockIdx.x];
    const unsigned alike = lanes_alike(digit, present);
    const int before = __popc(alike & ((1u << lane) - 1));
    if (present && before == 0)
        places[warp][digit] = __popc(alike);
    __syncthreads();
    for (int w = 0; w < SORT_WARPS; w++) {
        const int count = places[w][own];
        places[w][own] = place;
        place += count;
    }
    __syncthreads();
    if (present)
        t.to[places[warp][digit] + before] = row;
}

/* Adds to `sum` the scaled rows of dout of key `key`, whose first is at place `first` of the sorted list. */
template <class T, int WIDTH>
__device__ __forceinline__ void sum_rows(float (&sum)[WIDTH], const sort_task &t, const T *dout, int64_t dim,
                                         int64_t first, int key, float scale)
{
    int count = 32;
    for (int64_t at = first; count == 32; at += 32) {
        const int64_t place = at + threadIdx.x % 32;
        const int32_t mine = place < t.n ? t.to[place] : -1;
        count = __popc(__ballot_sync(0xffffffffu, mine >= 0 && key_of(t, mine) == key));
        for (int q = 0; q < count; q += SUM_AT_ONCE) {
            float v[SUM_AT_ONCE][WIDTH];
#pragma unroll
            for (int e = 0; e < SUM_AT_ONCE; e++) {
                const int64_t row = __shfl_sync(0xffffffffu, mine, q + e);
                if (q + e < count)
                    load_vector(v[e], dout + row * dim);
            }
#pragma unroll
            for (int e = 0; e < SUM_AT_ONCE; e++)
                if (q + e < count)
                    for (int c = 0; c < WIDTH; c++)
                        sum[c] = __fmaf_rn(scale, v[e][c], sum[c]);
        }
    }
}

template <class T, int WIDTH>
__global__ void __launch_bounds__(32 * SUM_WARPS)
    sum_kernel(sort_task t, float *dtable, const T *dout, int64_t dim, float scale)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int64_t window = ((int64_t)blockIdx.x * SUM_WARPS + warp) * 32, place = window + lane;
    const int key = place < t.n ? key_of(t, t.to[place]) : t.vocab;
    int before = __shfl_up_sync(0xffffffffu, key, 1);
    if (lane == 0)
        before = place > 0 && place < t.n ? key_of(t, t.to[place - 1]) : -1;
    const unsigned starts = __ballot_sync(0xffffffffu, key != before && key != t.vocab);
    for (int64_t strip = blockIdx.y; strip * 32 * WIDTH < dim; strip += gridDim.y) {
        const int64_t column = (strip * 32 + lane) * WIDTH;
        const bool inside = column < dim;
        for (unsigned left = starts; left; left &= left - 1) {
            const int start = __ffs((int)left) - 1, id = __shfl_sync(0xffffffffu, key, start);
            float *to = dtable + (int64_t)id * dim + column, sum[WIDTH] = {0};
            if (inside)
                load_vector(sum, to);
            /* Lanes beyond the last column read the first, and drop it. */
            sum_rows(sum, t, inside ? dout + column : dout, dim, window + start, id, scale);
            if (inside)
                store_vector(to, sum);
        }
    }
}

/* --- launchers ----------------------------------------------------------------------------------------- */

template <class TO, class FROM>
static void take(cudaStream_t on, void *out, const void *table, const int32_t *ids, int64_t n, int64_t dim,
                 float scale)
{
    constexpr int WIDTH = vector_width<TO, FROM>();
    if (fits_vectors(WIDTH, dim, out, table))
        LAUNCH((take_kernel<TO, FROM, WIDTH>), row_grid(n, blocks_of(dim, FORWARD_THREADS * WIDTH)),
               FORWARD_THREADS, 0, on, (TO *)out, (const FROM *)table, ids, dim, scale);
    else
        LAUNCH((take_kernel<TO, FROM, 1>), row_grid(n, blocks_of(dim, FORWARD_THREADS)), FORWARD_THREADS, 0,
               on, (TO *)out, (const FROM *)table, ids, dim, scale);
}

static sc_status check_shape(const char *op, int64_t n, int64_t vocab, int64_t dim)
{
    if (n < 0 || n > INT32_MAX || vocab < 0 || vocab >= INT32_MAX || dim < 0)
        return sc_fail(SC_INTERNAL, "%s: impossible shape: %lld rows of %lld, a table of %lld", op,
                       (long long)n, (long long)dim, (long long)vocab);
    return SC_OK;
}

/* Without a conversion and a scale it is gather_rows. */
sc_status cuda_embedding_forward(stream *s, void *out, dtype out_type, const void *table, dtype table_type,
                                 const int32_t *ids, int64_t n, int64_t dim, float scale)
{
    const cudaStream_t on = cuda_stream(s);
    const sc_status status = check_shape("embedding_forward", n, 0, dim);
    if (status != SC_OK || n == 0 || dim == 0)
        return status;
    if (out_type == table_type && scale == 1)
        return cuda_gather_rows(s, out, table, ids, n, dim, dim, out_type);
    if (out_type == DTYPE_F32)
        table_type == DTYPE_F32 ? take<float, float>(on, out, table, ids, n, dim, scale)
                                : take<float, bf16>(on, out, table, ids, n, dim, scale);
    else
        table_type == DTYPE_F32 ? take<bf16, float>(on, out, table, ids, n, dim, scale)
                                : take<bf16, bf16>(on, out, table, ids, n, dim, scale);
    return launched("embedding_forward");
}

/* bad, totals, counts, and the rows' order before and after a pass */
enum { HEAD_BYTES = 64 };

size_t cuda_embedding_backward_workspace(int64_t n, int64_t vocab, int64_t dim)
{
    (void)vocab;
    (void)dim;
    return HEAD_BYTES + (size_t)(DIGITS + DIGITS * blocks_of(n, SORT_THREADS) + 2 * n) * sizeof(int32_t);
}

/* Leaves the order in task->to. */
static void sort_rows(cudaStream_t on, sort_task *task, int32_t *orders)
{
    const dim3 grid = grid_of(task->blocks);
    task->to = orders;
    for (task->shift = 0; task->shift == 0 || (int64_t)task->vocab >> task->shift;
         task->shift += DIGIT_BITS) {
        if (task->shift > 0) {
            task->from = task->to;
            task->to = task->from == orders ? orders + task->n : orders;
        }
        LAUNCH(count_kernel, grid, SORT_THREADS, 0, on, *task);
        LAUNCH(scan_kernel, grid_of(DIGITS), SCAN_THREADS, 0, on, *task);
        LAUNCH(move_kernel, grid, SORT_THREADS, 0, on, *task);
    }
}

template <class T, int WIDTH>
static void sum_all(cudaStream_t on, const sort_task &task, float *dtable, const void *dout, int64_t dim,
                    float scale)
{
    LAUNCH((sum_kernel<T, WIDTH>), row_grid(blocks_of(task.n, 32 * SUM_WARPS), blocks_of(dim, 32 * WIDTH)),
           32 * SUM_WARPS, 0, on, task, dtable, (const T *)dout, dim, scale);
}

sc_status cuda_embedding_backward(stream *s, float *dtable, const void *dout, dtype dout_type,
                                  const int32_t *ids, int64_t n, int64_t vocab, int64_t dim, int32_t skip_id,
                                  float scale, void *workspace)
{
    const cudaStream_t on = cuda_stream(s);
    sc_status status = check_shape("embedding_backward", n, vocab, dim);
    if (status != SC_OK || n == 0)
        return status;
    unsigned *bad = (unsigned *)workspace, row = 0;
    int32_t *totals = (int32_t *)((char *)workspace + HEAD_BYTES), *counts = totals + DIGITS;
    const int64_t blocks = blocks_of(n, SORT_THREADS);
    sort_task task = {ids, n, (int32_t)vocab, skip_id, NULL, NULL, counts, totals, bad, (int32_t)blocks, 0};
    status = cuda_status("embedding_backward", cudaMemsetAsync(bad, 0xff, sizeof *bad, on));
    if (status != SC_OK)
        return status;
    sort_rows(on, &task, counts + DIGITS * blocks);
    const bool vectors = fits_vectors(VECTOR, dim, dtable, dout);
    if (dout_type == DTYPE_F32)
        vectors ? sum_all<float, VECTOR>(on, task, dtable, dout, dim, scale)
                : sum_all<float, 1>(on, task, dtable, dout, dim, scale);
    else
        vectors ? sum_all<bf16, VECTOR>(on, task, dtable, dout, dim, scale)
                : sum_all<bf16, 1>(on, task, dtable, dout, dim, scale);
    status = launched("embedding_backward");
    if (status == SC_OK)
        status = fetch("embedding_backward", s, &row, bad, sizeof row);
    if (status == SC_OK && row != NO_ROW)
        return sc_fail(SC_INTERNAL, "embedding_backward: the id of row %u is outside 0..%lld", row,
                       (long long)vocab - 1);
    return status;
}
