/* sample: the next token of every row (greedy, or drawn from all or the most probable) and log-probabilities of given
 * tokens. */
#include "base/random.h"
#include "device/cpu/cpu.h"
#include "device/cpu/softmax.h"

/* The order of floats as unsigned numbers: larger float, larger number. */
static uint32_t rank_of(float x)
{
    union {
        float f;
        uint32_t u;
    } bits = {.f = x};
    return bits.u & 0x80000000u ? ~bits.u : bits.u | 0x80000000u;
}

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

/* One row's distribution: exp((x - top) / temperature), not normalised. */
typedef struct weighing {
    const void *logits;
    dtype type;
    int64_t first, vocab;
    double top, temperature;
} weighing;

static double weight_at(const weighing *w, int64_t i)
{
    return exp(((double)logit_at(w->logits, w->type, w->first + i) - w->top) / w->temperature);
}

/* The first tokens in order of their probability, equal logits in order of their ids. */
typedef struct leading {
    uint32_t edge;   /* tokens of a higher rank belong to them, and ... */
    int64_t at_edge; /* ... the first so many of this rank */
    double mass;     /* of what was summed: weights, or ones */
} leading;

enum { RADIX_BITS = 11, RADIX = 1 << RADIX_BITS };

/* As few of them as reach `wanted`: that many tokens, or (Holtzman et al. 2020) that much of all weights. Instead of
 * sorting the vocabulary, the logit at their edge is found bit by bit: three histograms over the 32 bits of its rank. */
static leading leading_find(const weighing *w, bool counting, double wanted)
{
    static const int shifts[] = {21, 10, 0}, widths[] = {11, 11, 10};
    uint32_t prefix = 0, known = 0; /* bits of the edge found so far, and which bits those are */
    double above = 0;
    for (int pass = 0; pass < 3; pass++) {
        double mass[RADIX] = {0};
        const uint32_t bits = (1u << widths[pass]) - 1;
        for (int64_t i = 0; i < w->vocab; i++) {
            uint32_t rank = rank_of(logit_at(w->logits, w->type, w->first + i));
            if ((rank & known) == prefix)
                mass[(rank >> shifts[pass]) & bits] += counting ? 1 : weight_at(w, i);
        }
        uint32_t digit = bits;
        for (; digit > 0 && above + mass[digit] < wanted; digit--)
            above += mass[digit];
        prefix |= digit << shifts[pass];
        known |= bits << shifts[pass];
    }
    leading found = {.edge = prefix, .at_edge = 0, .mass = above};
    for (int64_t i = 0; i < w->vocab && (found.mass < wanted || found.mass == 0); i++)
        if (rank_of(logit_at(w->logits, w->type, w->first + i)) == found.edge) {
            found.mass += counting ? 1 : weight_at(w, i);
            found.at_edge++;
        }
    return found;
}

/* The weight of the kept tokens up to where it exceeds `until`; *at is the last of them that has any, -1 if none has. */
static double add_kept(const weighing *w, leading kept, double least, double until, int64_t *at)
{
    double sum = 0;
    *at = -1;
    for (int64_t i = 0; i < w->vocab; i++) {
        uint32_t rank = rank_of(logit_at(w->logits, w->type, w->first + i));
        if (rank < kept.edge || (rank == kept.edge && kept.at_edge-- <= 0))
            continue;
        double weight = weight_at(w, i);
        if (!(weight > 0) || weight < least)
            continue;
        *at = i;
        sum += weight;
        if (sum > until)
            break;
    }
    return sum;
}

static int64_t draw(const weighing *w, const sample_options *o, double uniform)
{
    const bool some = o->top_k > 0 && o->top_k < w->vocab;
    leading kept = {.edge = 0, .at_edge = w->vocab};
    int64_t at;
    if (some)
        kept = leading_find(w, true, o->top_k);
    if (o->top_p < 1)
        kept = leading_find(w, false, (double)o->top_p * add_kept(w, kept, 0, INFINITY, &at));
    /* rounding leaves nothing over: the number drawn is below 1, and the sum goes the same way again */
    const double mass = add_kept(w, kept, (double)o->min_p, INFINITY, &at);
    add_kept(w, kept, (double)o->min_p, uniform * mass, &at);
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
    int64_t lost = -1;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *vocab, n)) reduction(max : lost)
    for (int64_t row = 0; row < n; row++) {
        int64_t id = greatest(logits, type, row * vocab, vocab);
        double top = id < 0 ? NAN : (double)logit_at(logits, type, row * vocab + id);
        if (!isfinite(top)) {
            lost = row > lost ? row : lost;
            continue;
        }
        if (options->temperature > 0) {
            weighing w = {logits, type, row * vocab, vocab, top, (double)options->temperature};
            random_stream numbers = random_at(options->seed, RANDOM_SAMPLE, keys[row], options->step);
            id = draw(&w, options, random_uniform(&numbers));
            if (id < 0) {
                lost = row > lost ? row : lost;
                continue;
            }
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
