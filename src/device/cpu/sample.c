/* sample: the next token of every row (greedy, or drawn from all or the most probable) and log-probabilities of given
 * tokens. The choice is made in whole numbers (sample_weight.h), so it is the same on every table. */
#include "device/cpu/cpu.h"
#include "device/cpu/softmax.h"

static float logit_at(const void *logits, dtype type, int64_t i)
{
    return type == DTYPE_F32 ? ((const float *)logits)[i] : bf16_to_f32(((const uint16_t *)logits)[i]);
}

/* The greatest logit, ties to the lowest id; -1 if there is a NaN. */
static int64_t greatest(const void *logits, dtype type, int64_t first, int64_t vocab)
{
    float best = -INFINITY;
    int64_t found = 0, broken = 0;
    for (int64_t i = 0; i < vocab; i++) {
        float x = logit_at(logits, type, first + i);
        broken += x != x;
        if (x > best) {
            best = x;
            found = i;
        }
    }
    return broken ? -1 : found;
}

/* One row's distribution, not normalised. */
typedef struct weighing {
    const void *logits;
    dtype type;
    int64_t first, vocab;
    sample_scale scale;
} weighing;

static float row_logit(const weighing *w, int64_t i)
{
    return logit_at(w->logits, w->type, w->first + i);
}

/* The first tokens in order of their probability, equal logits in order of their ids. */
typedef struct leading {
    uint32_t edge;   /* tokens of a higher rank belong to them, and ... */
    int64_t at_edge; /* ... the first so many of this rank */
} leading;

enum { RADIX_BITS = 11, RADIX = 1 << RADIX_BITS };

/* As few of them as reach `wanted`, which is above 0 and at most what there is: that many tokens, or (Holtzman et al. 2020)
 * that much of all weights. Instead of sorting the vocabulary, the logit at their edge is found bit by bit: three histograms
 * over the 32 bits of its rank. */
static leading leading_find(const weighing *w, bool counting, uint64_t wanted)
{
    static const int shifts[] = {21, 10, 0}, widths[] = {11, 11, 10};
    uint32_t prefix = 0, known = 0; /* bits of the edge found so far, and which bits those are */
    uint64_t above = 0;
    for (int pass = 0; pass < 3; pass++) {
        uint64_t mass[RADIX] = {0};
        const uint32_t bits = (1u << widths[pass]) - 1;
        for (int64_t i = 0; i < w->vocab; i++) {
            const float x = row_logit(w, i);
            const uint32_t rank = sample_rank(x);
            if ((rank & known) == prefix)
                mass[(rank >> shifts[pass]) & bits] += counting ? 1 : sample_weight(&w->scale, x);
        }
        uint32_t digit = bits;
        for (; digit > 0 && above + mass[digit] < wanted; digit--)
            above += mass[digit];
        prefix |= digit << shifts[pass];
        known |= bits << shifts[pass];
    }
    /* all at the edge weigh the same */
    const uint64_t each = counting ? 1 : sample_weight(&w->scale, sample_ranked(prefix));
    return (leading){.edge = prefix, .at_edge = (int64_t)((wanted - above + each - 1) / each)};
}

/* The weight of the kept tokens up to where it exceeds `until`; *at is the last of them that has any, -1 if none has. */
static uint64_t add_kept(const weighing *w, leading kept, uint64_t least, uint64_t until, int64_t *at)
{
    uint64_t sum = 0;
    *at = -1;
    for (int64_t i = 0; i < w->vocab; i++) {
        const float x = row_logit(w, i);
        const uint32_t rank = sample_rank(x);
        if (rank < kept.edge || (rank == kept.edge && kept.at_edge-- <= 0))
            continue;
        const uint64_t weight = sample_weight(&w->scale, x);
        if (weight < least)
            continue;
        *at = i;
        sum += weight;
        if (sum > until)
            break;
    }
    return sum;
}

static int64_t draw(const weighing *w, const sample_options *o, uint64_t random)
{
    const bool some = o->top_k > 0 && o->top_k < w->vocab;
    const uint64_t least = sample_least(&w->scale, o->min_p);
    leading kept = {.edge = 0, .at_edge = w->vocab};
    int64_t at;
    if (some)
        kept = leading_find(w, true, (uint64_t)o->top_k);
    if (o->top_p < 1)
        kept = leading_find(w, false, sample_share(o->top_p, add_kept(w, kept, 1, UINT64_MAX, &at)));
    const uint64_t mass = add_kept(w, kept, least, UINT64_MAX, &at);
    add_kept(w, kept, least, sample_point(random, mass), &at);
    return at;
}

sc_status cpu_sample_rows(stream *s, int32_t *ids, float *logprobs, const void *logits, dtype type, int64_t n,
                          int64_t vocab, const sample_options *options, const uint64_t *keys)
{
    (void)s;
    if (vocab < 1 || vocab > INT32_MAX)
        return sc_fail(SC_INTERNAL, "sample_rows: a vocabulary of %lld tokens", (long long)vocab);
    if (!(options->temperature >= 0) || !(options->top_p > 0) || options->top_k < 0 ||
        !(options->min_p >= 0) || options->min_p > 1)
        return sc_fail(
            SC_USAGE,
            "sampling needs temperature >= 0, top_p > 0, top_k >= 0 and min_p from 0 to 1, not %g, %g, %d "
            "and %g",
            (double)options->temperature, (double)options->top_p, (int)options->top_k,
            (double)options->min_p);
    const sample_scale scale = sample_scale_of(options->temperature, vocab);
    int64_t lost = -1;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *vocab, n)) reduction(max : lost)
    for (int64_t row = 0; row < n; row++) {
        int64_t id = greatest(logits, type, row * vocab, vocab);
        const float top = id < 0 ? NAN : logit_at(logits, type, row * vocab + id);
        if (!isfinite(top)) {
            lost = row > lost ? row : lost;
            continue;
        }
        if (options->temperature > 0) {
            weighing w = {logits, type, row * vocab, vocab, scale};
            random_stream numbers = random_at(options->seed, RANDOM_SAMPLE, keys[row], options->step);
            w.scale.top = top;
            id = draw(&w, options, random_u64(&numbers));
        }
        ids[row] = (int32_t)id;
        if (logprobs)
            logprobs[row] = (float)((double)logit_at(logits, type, row * vocab + id) -
                                    log_sum_exp(logits, type, row * vocab, vocab));
    }
    if (lost >= 0)
        return sc_fail(SC_BAD_INPUT,
                       "row %lld of the logits is not a distribution (NaN or infinite); the model's "
                       "weights are damaged or have diverged",
                       (long long)lost);
    return SC_OK;
}

sc_status cpu_penalise_rows(stream *s, float *logits, int64_t n, int64_t vocab, float penalty,
                            const int32_t *ids, const int64_t *offsets)
{
    (void)s;
    if (!(penalty > 0) || !isfinite(penalty))
        return sc_fail(SC_USAGE, "the repetition penalty is %g; it must be above 0", (double)penalty);
    for (int64_t row = 0; row < n; row++)
        for (int64_t j = offsets[row]; j < offsets[row + 1]; j++) {
            if (ids[j] < 0 || ids[j] >= vocab)
                return sc_fail(SC_INTERNAL, "penalise_rows: id %d of a vocabulary of %lld", (int)ids[j],
                               (long long)vocab);
            float *x = &logits[row * vocab + ids[j]];
            *x = *x > 0 ? *x / penalty : *x * penalty;
        }
    return SC_OK;
}

sc_status cpu_gather_logprobs(stream *s, float *out, const void *logits, dtype type, int64_t n_rows,
                              int64_t vocab, const int32_t *rows, const int32_t *ids, int64_t n)
{
    (void)s;
    for (int64_t j = 0; j < n; j++)
        if (rows[j] < 0 || rows[j] >= n_rows || ids[j] < 0 || ids[j] >= vocab)
            return sc_fail(SC_INTERNAL, "gather_logprobs: entry %lld asks for row %d, id %d of [%lld][%lld]",
                           (long long)j, (int)rows[j], (int)ids[j], (long long)n_rows, (long long)vocab);
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(n_rows *vocab, n_rows))
    for (int64_t row = 0; row < n_rows; row++) {
        double lse = NAN; /* computed when the first entry asks for this row */
        for (int64_t j = 0; j < n; j++) {
            if (rows[j] != row)
                continue;
            if (isnan(lse))
                lse = log_sum_exp(logits, type, row * vocab, vocab);
            out[j] = (float)((double)logit_at(logits, type, row * vocab + ids[j]) - lse);
        }
    }
    return SC_OK;
}
