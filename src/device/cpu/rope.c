/* rope: rotary position embedding (Su et al. 2021) in the rotate-half layout of Hugging Face: element i of a
 * head is paired with i + head_dim/2. */
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

enum { ROPE_PAIRS = ROW_BLOCK };

static void rotate(void *x, dtype type, int64_t offset, int64_t half, int64_t n,
                   const float *restrict cosines, const float *restrict sines)
{
    float as[ROPE_PAIRS], bs[ROPE_PAIRS];
    float *restrict a = row_target(x, type, offset, as), *restrict b = row_target(x, type, offset + half, bs);
    if (type != DTYPE_F32) {
        row_load(x, type, offset, n, as);
        row_load(x, type, offset + half, n, bs);
    }
    for (int64_t i = 0; i < n; i++) {
        float first = a[i], second = b[i];
        a[i] = first * cosines[i] - second * sines[i];
        b[i] = second * cosines[i] + first * sines[i];
    }
    row_commit(x, type, offset, n, as);
    row_commit(x, type, offset + half, n, bs);
}

sc_status cpu_rope(stream *s, void *x, dtype type, const int32_t *positions, const float *inv_freq, int64_t n,
                   int32_t n_heads, int32_t head_dim, int64_t ld, bool inverse)
{
    (void)s;
    if (head_dim % 2)
        return sc_fail(SC_INTERNAL, "rope: head_dim %d is odd", head_dim);
    int64_t half = head_dim / 2;
    const float direction = inverse ? -1.0f : 1.0f;
#pragma omp parallel for schedule(static) num_threads(cpu_team(8 * n * n_heads * head_dim, n))
    for (int64_t t = 0; t < n; t++) {
        float cosines[ROPE_PAIRS], sines[ROPE_PAIRS];
        for (int64_t from = 0; from < half; from += ROPE_PAIRS) {
            int64_t part = half - from < ROPE_PAIRS ? half - from : ROPE_PAIRS;
            const double position = positions[t];
            for (int64_t i = 0; i < part; i++)
                fast_sincos(position * (double)inv_freq[from + i], &sines[i], &cosines[i]);
            for (int64_t i = 0; i < part; i++)
                sines[i] *= direction;
            for (int32_t h = 0; h < n_heads; h++)
                rotate(x, type, t * ld + (int64_t)h * head_dim + from, half, part, cosines, sines);
        }
    }
    return SC_OK;
}
