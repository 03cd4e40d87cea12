/* rope: rotary position embedding in the rotate-half layout: element i of a head is paired with i + head_dim / 2. Twin of
 * src/device/cpu/rope.c.
 *
 * x is read and written once, 4 n n_heads head_dim bytes in bf16. A thread has one vector of pairs of a token: it computes
 * their sines and cosines once, in registers, and turns ROPE_HEADS heads by them. */
#include "elements.cuh"
#include "launch.cuh"

enum { ROPE_THREADS = 128, ROPE_HEADS = 8, ROPE_AT_ONCE = 2 };

struct rope_task {
    void *x;
    const int32_t *positions;
    const float *inv_freq;
    int64_t n, half, ld;
    int n_heads;
    float direction;
};

/* --- kernel -------------------------------------------------------------------------------------------- */

/* In double the angle is taken to the quarter turn next to it; what is left, at most pi/4, is a float for the polynomials
 * of Cephes' sinf and cosf (Moshier), which are within 2^-23. So position 100,000 is as accurate as position 1, for seven
 * operations in double. */
__device__ __forceinline__ void turn_of(int32_t position, float inv_freq, float direction, float *cosine,
                                        float *sine)
{
    const double quarters = (double)position * (double)inv_freq * 0.63661977236758134308; /* 2/pi */
    const long long whole = __double2ll_rn(quarters);
    const float r = (float)(quarters - (double)whole) * 1.57079632679489662f, z = r * r;
    float p = __fmaf_rn(z, -1.9515295891e-4f, 8.3321608736e-3f);
    p = __fmaf_rn(z, p, -1.6666654611e-1f);
    const float s = __fmaf_rn(r * z, p, r);
    float q = __fmaf_rn(z, 2.443315711809948e-5f, -1.388731625493765e-3f);
    q = __fmaf_rn(z, q, 4.166664568298827e-2f);
    const float c = __fmaf_rn(z * z, q, __fmaf_rn(z, -0.5f, 1.0f));
    const float sine_of = whole & 1 ? c : s, cosine_of = whole & 1 ? s : c;
    *sine = direction * (whole & 2 ? -sine_of : sine_of);
    *cosine = (whole + 1) & 2 ? -cosine_of : cosine_of;
}

template <class T, int WIDTH> __global__ void __launch_bounds__(ROPE_THREADS) rope_kernel(rope_task t)
{
    const int64_t vectors = t.half / WIDTH, task = (int64_t)blockIdx.x * ROPE_THREADS + threadIdx.x;
    if (task >= t.n * vectors)
        return;
    const int64_t token = task / vectors, i = task % vectors * WIDTH;
    const int32_t position = t.positions[token];
    float cosines[WIDTH], sines[WIDTH];
#pragma unroll
    for (int e = 0; e < WIDTH; e++)
        turn_of(position, t.inv_freq[i + e], t.direction, &cosines[e], &sines[e]);
    const int first = (int)blockIdx.y * ROPE_HEADS, rest = t.n_heads - first;
    const int heads = rest < ROPE_HEADS ? rest : (int)ROPE_HEADS;
    T *x = (T *)t.x + token * t.ld + 2 * t.half * first + i;
    for (int h = 0; h < heads; h += ROPE_AT_ONCE, x += 2 * t.half * ROPE_AT_ONCE) {
        float a[ROPE_AT_ONCE][WIDTH], b[ROPE_AT_ONCE][WIDTH];
#pragma unroll
        for (int g = 0; g < ROPE_AT_ONCE; g++)
            if (h + g < heads) {
                load_vector(a[g], x + 2 * t.half * g);
                load_vector(b[g], x + 2 * t.half * g + t.half);
            }
#pragma unroll
        for (int g = 0; g < ROPE_AT_ONCE; g++)
            if (h + g < heads) {
#pragma unroll
                for (int e = 0; e < WIDTH; e++) {
                    const float one = a[g][e], two = b[g][e];
                    a[g][e] = one * cosines[e] - two * sines[e];
                    b[g][e] = two * cosines[e] + one * sines[e];
                }
                store_vector(x + 2 * t.half * g, a[g]);
                store_vector(x + 2 * t.half * g + t.half, b[g]);
            }
    }
}

/* --- launcher ------------------------------------------------------------------------------------------ */

template <class T, int WIDTH> static void launch(cudaStream_t on, const rope_task &t)
{
    const dim3 grid((unsigned)blocks_of(t.n * (t.half / WIDTH), ROPE_THREADS),
                    (unsigned)blocks_of(t.n_heads, ROPE_HEADS));
    LAUNCH((rope_kernel<T, WIDTH>), grid, ROPE_THREADS, 0, on, t);
}

template <class T> static void launch_typed(cudaStream_t on, const rope_task &t)
{
    constexpr int WIDTH = vector_width<T>();
    if (t.half % WIDTH == 0 && fits_vectors(WIDTH, t.ld, t.x))
        launch<T, WIDTH>(on, t);
    else
        launch<T, 1>(on, t);
}

sc_status cuda_rope(stream *s, void *x, dtype type, const int32_t *positions, const float *inv_freq,
                    int64_t n, int32_t n_heads, int32_t head_dim, int64_t ld, bool inverse)
{
    const cudaStream_t on = cuda_stream(s);
    if (head_dim % 2)
        return sc_fail(SC_INTERNAL, "rope: head_dim %d is odd", head_dim);
    if (n < 0 || n > INT32_MAX || head_dim < 0 || n_heads < 0 || n_heads > 65535 * ROPE_HEADS ||
        ld < (int64_t)n_heads * head_dim)
        return sc_fail(SC_INTERNAL, "rope: impossible shape: %lld rows of %d heads of %d, %lld apart",
                       (long long)n, n_heads, head_dim, (long long)ld);
    if (n == 0 || n_heads == 0 || head_dim == 0)
        return SC_OK;
    const rope_task task = {x, positions, inv_freq, n, head_dim / 2, ld, n_heads, inverse ? -1.0f : 1.0f};
    if (type == DTYPE_F32)
        launch_typed<float>(on, task);
    else
        launch_typed<bf16>(on, task);
    return launched("rope");
}
