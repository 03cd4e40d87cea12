/* sample: the next token of every row, penalties, log-probabilities of given tokens. Twin of src/device/cpu/sample.c.
 *
 * sample_rows draws the token that the CPU draws, always: weights are whole numbers by one formula
 * (device/sample_weight.h), their sums do not depend on an order, and the number drawn is the same (random.cuh). One block
 * a row. Greedy reads the row once, for its greatest and, on the way, the sum for the log-probability. Drawing reads it
 * once more for the weight of 32 pieces, one a warp, and then pieces of the piece that the number falls into. top_k and
 * top_p take three passes each for the edge of what is kept, by histograms of 2,048 digits in shared memory, and top_p one more
 * for the weight that it is a share of. A row of 128,256 floats is 0.5 MB, and stays in the second-level cache after the first
 * pass as long as not too many are in work. */
#include "logits.cuh"
#include "random.cuh"

#include <math.h>

/* Fewer loads ahead than the loss has: the registers of 1,024 threads are few. */
enum { DIGITS = 2048, SAMPLE_AHEAD = 2, PENALISE_THREADS = 256 };

struct sample_task {
    int32_t *ids; /* -1: the row is no distribution */
    float *logprobs;
    const void *logits;
    const uint64_t *keys;
    int64_t vocab;
    sample_scale scale;
    uint64_t least;
    float top_p;
    int64_t top_k;
    bool greedy;
    random_key key;
};

/* --- kernels ------------------------------------------------------------------------------------------- */

struct greatest {
    float value;
    int id;
};

struct sample_shared {
    logits_shared row;
    greatest tops[LOGITS_WARPS];
    uint64_t pieces[LOGITS_WARPS];
    uint64_t above;
    unsigned digit;
    unsigned low[DIGITS], high[DIGITS];
};

/* Tokens of a rank above the edge, and of that rank those up to id `last`. */
struct kept_tokens {
    uint32_t edge;
    int last;
};

enum measure { WEIGHT, ONES_AT_EDGE };

template <class T> struct sample_row {
    const T *x;
    int64_t vocab;
    sample_scale scale;
};

__device__ __forceinline__ greatest greater(greatest a, greatest b)
{
    return b.value > a.value || (b.value == a.value && b.id < a.id) ? b : a;
}

__device__ __forceinline__ greatest warp_greatest(greatest g)
{
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        greatest other;
        other.value = __shfl_xor_sync(0xffffffffu, g.value, step);
        other.id = __shfl_xor_sync(0xffffffffu, g.id, step);
        g = greater(g, other);
    }
    return g;
}

/* The greatest logit, of equal ones the lowest id, and this thread's part of the sum of exponentials; NaN if there is one. */
template <class T>
__device__ __forceinline__ greatest row_greatest(sample_shared &shared, exp_sum &sum, const T *x, int64_t n)
{
    greatest mine = {-INFINITY, (int)n};
    bool broken = false;
    visit_row<SAMPLE_AHEAD>(
        x, n,
        [&](int64_t at, const float(&values)[vector_width<T>()]) {
            add_exps(sum, values);
#pragma unroll
            for (int i = 0; i < vector_width<T>(); i++) {
                broken |= values[i] != values[i];
                mine = greater(mine, {values[i], (int)at + i});
            }
        },
        [&](int64_t at, float value) {
            const float values[1] = {value};
            add_exps(sum, values);
            broken |= value != value;
            mine = greater(mine, {value, (int)at});
        });
    mine = warp_greatest(mine);
    if (threadIdx.x % 32 == 0)
        shared.tops[threadIdx.x / 32] = mine;
    const bool lost = __syncthreads_or(broken) != 0;
    greatest all = warp_greatest(shared.tops[threadIdx.x % 32]);
    if (lost)
        all.value = NAN;
    return all;
}

template <measure WHAT>
__device__ __forceinline__ uint64_t measured(const sample_scale &scale, const kept_tokens &kept,
                                             uint64_t least, int64_t id, float x)
{
    const uint32_t rank = sample_rank(x);
    if (WHAT == ONES_AT_EDGE)
        return rank == kept.edge ? 1 : 0;
    if (rank < kept.edge || (rank == kept.edge && id > kept.last))
        return 0;
    const uint64_t weight = sample_weight(&scale, x);
    return weight >= least ? weight : 0;
}

/* pieces[w] = what the w-th of 32 equal pieces of tokens from .. to - 1 measure, w = 0 .. 31, one a warp. */
template <measure WHAT, class T>
__device__ __forceinline__ void measure_pieces(sample_shared &shared, const sample_row<T> &r,
                                               const kept_tokens &kept, uint64_t least, int64_t from,
                                               int64_t to)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int64_t length = blocks_of(to - from, LOGITS_WARPS);
    const int64_t first = from + warp * length, end = min(first + length, to);
    uint64_t sum = 0;
    if (first < end) {
        const row_cut cut = cut_row(r.x + first, end - first);
        const uint4 *vectors = (const uint4 *)(r.x + first + cut.head);
        const int64_t ragged = ragged_element<T>(cut, end - first, lane);
        if (ragged >= 0)
            sum += measured<WHAT>(r.scale, kept, least, first + ragged, to_float(r.x[first + ragged]));
        for (int64_t v = lane; v < cut.vectors; v += 32) {
            float values[vector_width<T>()];
            unpack(values, vectors[v]);
#pragma unroll
            for (int i = 0; i < vector_width<T>(); i++)
                sum += measured<WHAT>(r.scale, kept, least, first + cut.head + v * vector_width<T>() + i,
                                      values[i]);
        }
    }
    sum = warp_sum(sum);
    __syncthreads(); /* the pieces before have been used */
    if (lane == 0)
        shared.pieces[warp] = sum;
    __syncthreads();
}

__device__ __forceinline__ uint64_t add_pieces(const sample_shared &shared)
{
    uint64_t all = 0;
    for (int w = 0; w < LOGITS_WARPS; w++)
        all += shared.pieces[w];
    return all;
}

/* The first token up to which they measure more than `until`; the pieces of the whole row are there. */
template <measure WHAT, class T>
__device__ __forceinline__ int64_t find_token(sample_shared &shared, const sample_row<T> &r,
                                              const kept_tokens &kept, uint64_t least, uint64_t until)
{
    int64_t from = 0, to = r.vocab;
    for (;;) {
        const int64_t length = blocks_of(to - from, LOGITS_WARPS);
        int w = 0;
        for (; until >= shared.pieces[w]; w++)
            until -= shared.pieces[w];
        from += w * length;
        to = min(from + length, to);
        if (to - from == 1)
            return from;
        measure_pieces<WHAT>(shared, r, kept, least, from, to);
    }
}

/* Finds the highest digit from which up on the tokens reach `wanted`, with what lies above it, from the histogram. Each
 * thread looks at two digits. */
__device__ __forceinline__ void find_digit(sample_shared &shared, uint64_t above, uint64_t wanted)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, mine = 2 * (int)threadIdx.x;
    const uint64_t upper = (uint64_t)shared.high[mine + 1] << 32 | shared.low[mine + 1];
    const uint64_t both = upper + ((uint64_t)shared.high[mine] << 32 | shared.low[mine]);
    uint64_t from_here = both; /* this thread's and those of the lanes above */
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        const uint64_t other = __shfl_down_sync(0xffffffffu, from_here, step);
        if (lane + step < 32)
            from_here += other;
    }
    if (lane == 0)
        shared.pieces[warp] = from_here;
    __syncthreads();
    above += from_here - both;
    for (int w = warp + 1; w < LOGITS_WARPS; w++)
        above += shared.pieces[w];
    if (above < wanted && above + both >= wanted) {
        const bool lower = above + upper < wanted;
        shared.digit = (unsigned)(lower ? mine : mine + 1);
        shared.above = lower ? above + upper : above;
    }
    __syncthreads();
}

__device__ __forceinline__ void add_to_digit(sample_shared &shared, unsigned digit, uint64_t amount)
{
    const unsigned low = (unsigned)amount, high = (unsigned)(amount >> 32);
    const unsigned carry = atomicAdd(&shared.low[digit], low) + low < low ? 1 : 0;
    if (high + carry > 0)
        atomicAdd(&shared.high[digit], high + carry);
}

/* The most probable tokens, as few as reach `wanted` (in number, or in weight), 0 < wanted <= what there is. The block has met since
 * it last read the histogram, here and before each pass. */
template <bool COUNTING, class T>
__device__ __forceinline__ kept_tokens find_leading(sample_shared &shared, const sample_row<T> &r,
                                                    uint64_t wanted)
{
    uint32_t prefix = 0, known = 0;
    uint64_t above = 0;
    for (int pass = 0; pass < 3; pass++) {
        const int shift = pass == 0 ? 21 : pass == 1 ? 10 : 0;
        const uint32_t bits = pass < 2 ? 2047 : 1023;
        const auto add = [&](float value) {
            const uint32_t rank = sample_rank(value);
            if ((rank & known) != prefix)
                return;
            const uint64_t amount = COUNTING ? 1 : sample_weight(&r.scale, value);
            if (amount > 0)
                add_to_digit(shared, rank >> shift & bits, amount);
        };
        for (int digit = (int)threadIdx.x; digit < DIGITS; digit += LOGITS_THREADS)
            shared.low[digit] = shared.high[digit] = 0;
        __syncthreads();
        visit_row<SAMPLE_AHEAD>(
            r.x, r.vocab,
            [&](int64_t, const float(&values)[vector_width<T>()]) {
#pragma unroll
                for (int i = 0; i < vector_width<T>(); i++)
                    add(values[i]);
            },
            [&](int64_t, float value) { add(value); });
        __syncthreads();
        find_digit(shared, above, wanted);
        above = shared.above;
        prefix |= shared.digit << shift;
        known |= bits << shift;
    }
    /* all at the edge weigh the same */
    const uint64_t each = COUNTING ? 1 : sample_weight(&r.scale, sample_ranked(prefix));
    const uint64_t at_edge = (wanted - above + each - 1) / each;
    const uint64_t there = ((uint64_t)shared.high[shared.digit] << 32 | shared.low[shared.digit]) / each;
    kept_tokens kept = {prefix, (int)r.vocab};
    if (at_edge < there) {
        measure_pieces<ONES_AT_EDGE>(shared, r, kept, 0, 0, r.vocab);
        kept.last = (int)find_token<ONES_AT_EDGE>(shared, r, kept, 0, at_edge - 1);
    }
    return kept;
}

template <class T>
__device__ __forceinline__ int64_t draw(sample_shared &shared, const sample_task &t, const sample_row<T> &r,
                                        uint64_t key)
{
    kept_tokens kept = {0, (int)r.vocab};
    if (t.top_k < r.vocab)
        kept = find_leading<true>(shared, r, (uint64_t)t.top_k);
    if (t.top_p < 1) {
        measure_pieces<WEIGHT>(shared, r, kept, 1, 0, r.vocab);
        kept = find_leading<false>(shared, r, sample_share(t.top_p, add_pieces(shared)));
    }
    measure_pieces<WEIGHT>(shared, r, kept, t.least, 0, r.vocab);
    const uint4 numbers = random_block(t.key, key, 0);
    const uint64_t until = sample_point((uint64_t)numbers.x << 32 | numbers.y, add_pieces(shared));
    return find_token<WEIGHT>(shared, r, kept, t.least, until);
}

template <class T> __global__ void __launch_bounds__(LOGITS_THREADS) sample_kernel(sample_task t)
{
    SHARED(sample_shared, shared, );
    const int64_t row = blockIdx.x;
    const T *x = (const T *)t.logits + row * t.vocab;
    exp_sum sum = {-INFINITY, 0};
    const greatest top = row_greatest(shared, sum, x, t.vocab);
    int id = isfinite(top.value) ? top.id : -1;
    if (id >= 0 && t.logprobs)
        block_lse(shared.row, sum);
    if (id >= 0 && !t.greedy) {
        const sample_row<T> r = {x, t.vocab, {top.value, t.scale.rate, t.scale.shift}};
        id = (int)draw(shared, t, r, t.keys[row]);
    }
    if (threadIdx.x > 0)
        return;
    t.ids[row] = id;
    if (id >= 0 && t.logprobs)
        t.logprobs[row] = (float)((double)to_float(x[id]) - shared.row.lse);
}

struct gather_task {
    float *out;
    const void *logits;
    const int32_t *rows, *ids;
    int64_t n_rows, vocab, n;
};

/* A block a row; rows that no entry asks for are not read. */
template <class T> __global__ void __launch_bounds__(LOGITS_THREADS) gather_kernel(gather_task t)
{
    SHARED(logits_shared, shared, );
    for (int64_t row = blockIdx.x; row < t.n_rows; row += gridDim.x) {
        const T *x = (const T *)t.logits + row * t.vocab;
        bool asked = false;
        for (int64_t j = threadIdx.x; j < t.n; j += LOGITS_THREADS)
            asked |= t.rows[j] == row;
        if (__syncthreads_or(asked) == 0)
            continue;
        const double lse = row_lse(shared, x, t.vocab);
        for (int64_t j = threadIdx.x; j < t.n; j += LOGITS_THREADS)
            if (t.rows[j] == row)
                t.out[j] = (float)((double)to_float(x[t.ids[j]]) - lse);
    }
}

__global__ void __launch_bounds__(PENALISE_THREADS)
    penalise_kernel(float *logits, int64_t n, int64_t vocab, float penalty, const int32_t *ids,
                    const int64_t *offsets)
{
    for (int64_t row = blockIdx.x; row < n; row += gridDim.x)
        for (int64_t j = offsets[row] + threadIdx.x; j < offsets[row + 1]; j += PENALISE_THREADS) {
            float *x = &logits[row * vocab + ids[j]];
            *x = *x > 0 ? *x / penalty : *x * penalty;
        }
}

/* --- launchers ----------------------------------------------------------------------------------------- */

/* *wrong (host) = the first of n ids that is not in 0 .. limit - 1, with its value; -1: none. Waits. */
static inline sc_status find_wrong_id(const char *op, stream *s, const int32_t *ids, int64_t n, int64_t limit,
                                      int64_t *wrong, int32_t *value)
{
    enum { AT_A_TIME = 4096 };
    int32_t seen[AT_A_TIME];
    *wrong = -1;
    for (int64_t at = 0; at < n; at += AT_A_TIME) {
        const int64_t count = n - at < AT_A_TIME ? n - at : (int64_t)AT_A_TIME;
        const sc_status status = fetch(op, s, seen, ids + at, (size_t)count * sizeof *seen);
        if (status != SC_OK)
            return status;
        for (int64_t i = 0; i < count; i++)
            if (seen[i] < 0 || seen[i] >= limit) {
                *wrong = at + i;
                *value = seen[i];
                return SC_OK;
            }
    }
    return SC_OK;
}

sc_status cuda_sample_rows(stream *s, int32_t *ids, float *logprobs, const void *logits, dtype type,
                           int64_t n, int64_t vocab, const sample_options *options, const uint64_t *keys)
{
    if (n < 0 || n > INT32_MAX || vocab < 1 || vocab > INT32_MAX)
        return sc_fail(SC_INTERNAL, "sample_rows: %lld rows of a vocabulary of %lld tokens", (long long)n,
                       (long long)vocab);
    if (!(options->temperature >= 0) || !(options->top_p > 0) || options->top_k < 0 ||
        !(options->min_p >= 0) || options->min_p > 1)
        return sc_fail(
            SC_USAGE,
            "sampling needs temperature >= 0, top_p > 0, top_k >= 0 and min_p from 0 to 1, not %g, %g, %d "
            "and %g",
            (double)options->temperature, (double)options->top_p, (int)options->top_k,
            (double)options->min_p);
    if (n == 0)
        return SC_OK;
    const sample_scale scale = sample_scale_of(options->temperature, vocab);
    const sample_task task = {ids,
                              logprobs,
                              logits,
                              keys,
                              vocab,
                              scale,
                              sample_least(&scale, options->min_p),
                              options->top_p,
                              options->top_k > 0 ? options->top_k : vocab,
                              options->temperature == 0,
                              {options->seed, RANDOM_SAMPLE, options->step}};
    if (type == DTYPE_F32)
        LAUNCH(sample_kernel<float>, grid_of(n), LOGITS_THREADS, 0, cuda_stream(s), task);
    else
        LAUNCH(sample_kernel<bf16>, grid_of(n), LOGITS_THREADS, 0, cuda_stream(s), task);
    int64_t lost = -1;
    int32_t id = 0;
    sc_status status = launched("sample_rows");
    if (status == SC_OK)
        status = find_wrong_id("sample_rows", s, ids, n, vocab, &lost, &id);
    if (status == SC_OK && lost >= 0)
        return sc_fail(SC_BAD_INPUT,
                       "row %lld of the logits is not a distribution (NaN or infinite); the model's "
                       "weights are damaged or have diverged",
                       (long long)lost);
    return status;
}

sc_status cuda_penalise_rows(stream *s, float *logits, int64_t n, int64_t vocab, float penalty,
                             const int32_t *ids, const int64_t *offsets)
{
    int64_t all = 0, wrong = -1;
    int32_t id = 0;
    if (!(penalty > 0) || !isfinite(penalty))
        return sc_fail(SC_USAGE, "the repetition penalty is %g; it must be above 0", (double)penalty);
    if (n <= 0)
        return SC_OK;
    sc_status status = fetch("penalise_rows", s, &all, offsets + n, sizeof all);
    if (status == SC_OK)
        status = find_wrong_id("penalise_rows", s, ids, all, vocab, &wrong, &id);
    if (status != SC_OK)
        return status;
    if (wrong >= 0)
        return sc_fail(SC_INTERNAL, "penalise_rows: id %d of a vocabulary of %lld", (int)id,
                       (long long)vocab);
    LAUNCH(penalise_kernel, striding_grid(n), PENALISE_THREADS, 0, cuda_stream(s), logits, n, vocab, penalty,
           ids, offsets);
    return launched("penalise_rows");
}

sc_status cuda_gather_logprobs(stream *s, float *out, const void *logits, dtype type, int64_t n_rows,
                               int64_t vocab, const int32_t *rows, const int32_t *ids, int64_t n)
{
    int64_t wrong_row = -1, wrong_id = -1;
    int32_t row = 0, id = 0;
    if (n_rows < 0 || vocab < 1 || n < 0)
        return sc_fail(SC_INTERNAL, "gather_logprobs: impossible shape: %lld of [%lld][%lld]", (long long)n,
                       (long long)n_rows, (long long)vocab);
    if (n == 0)
        return SC_OK;
    sc_status status = find_wrong_id("gather_logprobs", s, rows, n, n_rows, &wrong_row, &row);
    if (status == SC_OK)
        status = find_wrong_id("gather_logprobs", s, ids, n, vocab, &wrong_id, &id);
    if (status != SC_OK)
        return status;
    if (wrong_row >= 0)
        return sc_fail(SC_INTERNAL, "gather_logprobs: entry %lld asks for row %d of %lld",
                       (long long)wrong_row, (int)row, (long long)n_rows);
    if (wrong_id >= 0)
        return sc_fail(SC_INTERNAL, "gather_logprobs: entry %lld asks for id %d of a vocabulary of %lld",
                       (long long)wrong_id, (int)id, (long long)vocab);
    const gather_task task = {out, logits, rows, ids, n_rows, vocab, n};
    if (type == DTYPE_F32)
        LAUNCH(gather_kernel<float>, logits_grid(n_rows), LOGITS_THREADS, 0, cuda_stream(s), task);
    else
        LAUNCH(gather_kernel<bf16>, logits_grid(n_rows), LOGITS_THREADS, 0, cuda_stream(s), task);
    return launched("gather_logprobs");
}
