/* attention: grouped queries, packed sequences, with an online softmax (Milakov & Gimelshein 2018; Dao
 * et al. 2022), so the matrix of scores never exists.
 *
 * A task takes QUERIES queries of one head against blocks of KEYS keys. Scores are kept transposed,
 * [key][query]: the lanes of a vector are then different queries, the maximum and the sum of the softmax need no
 * horizontal step, and only the query side has to be transposed, once a task. All scratch is on the stack. */
#include "device/cpu/attention.h"

typedef struct block {
    int64_t seq, first, length; /* the sequence and its queries, as offsets inside it */
    int64_t n;                  /* its tokens */
    int32_t head;
} block;

/* Which queries task t has. Late blocks, which see the most keys, come first. */
static block block_at(const attention_shape *shape, int64_t t)
{
    int64_t per_seq = (shape->max_seqlen + QUERIES - 1) / QUERIES;
    int64_t which = t / ((int64_t)shape->n_heads * shape->n_seqs);
    int64_t rest = t % ((int64_t)shape->n_heads * shape->n_seqs);
    block found = {.seq = rest / shape->n_heads, .head = (int32_t)(rest % shape->n_heads)};
    int64_t n = shape->cu_seqlens[found.seq + 1] - shape->cu_seqlens[found.seq];
    found.n = n;
    found.first = (per_seq - 1 - which) * QUERIES;
    found.length = n - found.first < QUERIES ? n - found.first : QUERIES;
    return found;
}

sc_status attention_check(const attention_shape *shape, const char *name)
{
    if (shape->head_dim < 1 || shape->head_dim > HEAD_MOST)
        return sc_fail(SC_DEVICE, "%s: head_dim %d is outside 1..%d, which the CPU table offers", name,
                       (int)shape->head_dim, HEAD_MOST);
    if (shape->n_kv_heads < 1 || shape->n_heads % shape->n_kv_heads)
        return sc_fail(SC_INTERNAL, "%s: %d heads do not divide into %d key heads", name, (int)shape->n_heads,
                       (int)shape->n_kv_heads);
    for (int64_t i = 0; i < shape->n_seqs; i++) {
        int64_t n = (int64_t)shape->cu_seqlens[i + 1] - shape->cu_seqlens[i];
        if (n < 0 || n > shape->max_seqlen || shape->cu_seqlens[i + 1] > shape->n_tokens)
            return sc_fail(SC_INTERNAL, "%s: sequence %lld has %lld tokens; at most %lld are announced", name,
                           (long long)i, (long long)n, (long long)shape->max_seqlen);
    }
    if (shape->n_shared < 0 ||
        (shape->n_shared > 0 && (shape->n_seqs < 1 || shape->n_shared > shape->cu_seqlens[1])))
        return sc_fail(SC_INTERNAL, "%s: %lld shared tokens are more than the first sequence has", name,
                       (long long)shape->n_shared);
    if (shape->window < 0 || !(shape->soft_cap >= 0) ||
        (shape->bidirectional && (shape->window > 0 || shape->n_shared > 0)))
        return sc_fail(SC_INTERNAL,
                       "%s: a window of %lld and a soft cap of %g must not be negative, and a bidirectional "
                       "sequence has neither a window nor shared tokens",
                       name, (long long)shape->window, (double)shape->soft_cap);
    return SC_OK;
}

static void forward_block(void *out, float *lse, const void *q, const void *k, const void *v, dtype type,
                          const attention_shape *shape, block task)
{
    float queries[HEAD_MOST * QUERIES], scores[KEYS * QUERIES], sums[QUERIES * HEAD_MOST];
    float keys[KEYS * HEAD_MOST];
    float most[QUERIES], base[QUERIES], total[QUERIES], shrink[QUERIES];
    const int64_t dim = shape->head_dim, wide = head_wide(shape->head_dim);
    const int64_t start = shape->cu_seqlens[task.seq], row0 = start + task.first;
    const int64_t kv_head = task.head / (shape->n_heads / shape->n_kv_heads);

    load_transposed(queries, q, type, row0 * shape->q_stride + task.head * dim, shape->q_stride, task.length,
                    dim, shape->scale);
    memset(sums, 0, (size_t)(QUERIES * wide) * sizeof *sums);
    for (int64_t i = 0; i < QUERIES; i++) {
        most[i] = -INFINITY;
        total[i] = 0;
    }
    /* The sequence's own keys, behind those that it shares with the first: k0 < 0. */
    const int64_t seen = seen_before(shape, task.first, task.length, task.n);
    const int64_t shared = task.seq > 0 ? shape->n_shared : 0;
    const int64_t begin = seen_from(shape, shared + task.first) - shared;
    for (int64_t k0 = begin, next; k0 < seen; k0 = next) {
        next = k0 + KEYS;
        if (k0 < 0 && next > 0)
            next = 0;
        if (next > seen)
            next = seen;
        int64_t n = next - k0, pitch;
        int64_t offset = (k0 < 0 ? shared + k0 : start + k0) * shape->kv_stride + kv_head * dim;
        const float *rows = load_rows(keys, k, type, offset, shape->kv_stride, n, dim, &pitch);
        memset(scores, 0, sizeof scores);
        tile_product(n, QUERIES, dim, rows, pitch, 1, queries, QUERIES, scores, QUERIES);
        if (shape->soft_cap > 0)
            cap_values(scores, n * QUERIES, shape->soft_cap);
        mask(scores, shape, k0, n, task.first);
        for (int64_t i = 0; i < QUERIES; i++)
            shrink[i] = most[i];
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < QUERIES; i++)
                most[i] = scores[j * QUERIES + i] > most[i] ? scores[j * QUERIES + i] : most[i];
        for (int64_t i = 0; i < QUERIES; i++) {
            base[i] = most[i] == -INFINITY ? 0 : most[i]; /* nothing seen yet */
            shrink[i] = fast_exp(shrink[i] - base[i]);
            total[i] *= shrink[i];
        }
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < QUERIES; i++) {
                float p = fast_exp(scores[j * QUERIES + i] - base[i]);
                scores[j * QUERIES + i] = p;
                total[i] += p;
            }
        if (k0 > begin)
            for (int64_t i = 0; i < task.length; i++)
                for (int64_t d = 0; d < wide; d++)
                    sums[i * wide + d] *= shrink[i];
        rows = load_rows(keys, v, type, offset, shape->kv_stride, n, dim, &pitch);
        tile_product(task.length, wide, n, scores, 1, QUERIES, rows, pitch, sums, wide);
    }
    for (int64_t i = 0; i < task.length; i++) {
        float inverse = 1.0f / total[i];
        float *sum = sums + i * wide;
        for (int64_t d = 0; d < dim; d++)
            sum[d] *= inverse;
        store_row(out, type, (row0 + i) * shape->q_stride + task.head * dim, dim, sum);
        if (lse)
            lse[task.head * shape->n_tokens + row0 + i] = most[i] + logf(total[i]);
    }
}

sc_status cpu_attention_forward(stream *s, void *out, float *lse, const void *q, const void *k, const void *v,
                                dtype type, const attention_shape *shape, void *workspace)
{
    (void)s;
    (void)workspace; /* AMX alone wants one */
    sc_status status = attention_check(shape, "attention_forward");
    if (status != SC_OK)
        return status;
#ifdef __AVX512F__ /* of the two builds, the one that such a processor uses */
    if (type == DTYPE_BF16 && attention_takes_amx(shape)) {
        amx_attention_forward(out, lse, q, k, v, shape, workspace);
        return SC_OK;
    }
#endif
    int64_t tasks = (shape->max_seqlen + QUERIES - 1) / QUERIES * shape->n_heads * shape->n_seqs;
    int64_t work = shape->n_tokens * shape->n_heads * shape->head_dim * 4;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(work, tasks))
    for (int64_t t = 0; t < tasks; t++) {
        block task = block_at(shape, t);
        if (task.length > 0)
            forward_block(out, lse, q, k, v, type, shape, task);
    }
    return SC_OK;
}

size_t cpu_attention_forward_workspace(const attention_shape *shape)
{
#ifdef __AVX512F__
    if (attention_takes_amx(shape))
        return amx_attention_forward_workspace(shape);
#endif
    (void)shape;
    return 0;
}
