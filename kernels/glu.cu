/* glu: gated linear units, y = act(gate) * up, with SiLU or the tanh form of GELU. Twin of src/device/cpu/glu.c.
 *
 * Forward moves three, backward five arrays of n elements, each once; a thread has 16 bytes of each under way. Results
 * are stored when all is read, for they may lie where the inputs do. */
#include "elements.cuh"
#include "launch.cuh"

/* gelu(x) = x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3), since (1 + tanh u) / 2 = sigmoid(2u). */
#define GELU_SLOPE 1.5957691216057308f /* 2 sqrt(2/pi) */
#define GELU_CUBIC 0.044715f

enum { GLU_THREADS = 256 };

struct glu_task {
    void *y, *dgate, *dup;
    const void *dy, *gate, *up;
    int64_t n;
};

/* --- kernels ------------------------------------------------------------------------------------------- */

/* g = 1 / (1 + e), e = exp(-x), and rest = 1 - g = e / (1 + e): not from g, whose last bit is the card's to choose and
 * which the slope of a GELU multiplies by x^3. The quotient is within 2 ulp up to divisors of 2^126. */
struct sigmoid {
    float g, rest;
};

__device__ __forceinline__ sigmoid sigmoid_of(float x)
{
    const float divisor = 1.0f + fminf(expf(-x), 0x1p120f), g = __fdividef(1.0f, divisor);
    return {g, (divisor - 1.0f) * g};
}

/* act(x), and its slope. */
template <activation ACT> __device__ __forceinline__ float activate(float x, float *slope)
{
    const bool silu = ACT == ACT_SILU;
    const sigmoid s = sigmoid_of(silu ? x : GELU_SLOPE * (x + GELU_CUBIC * x * x * x));
    const float inner = silu ? 1.0f : GELU_SLOPE * (1.0f + 3.0f * GELU_CUBIC * x * x);
    *slope = s.g + x * s.g * s.rest * inner;
    return x * s.g;
}

template <activation ACT, int WIDTH, class T>
__device__ __forceinline__ void forward_at(const glu_task &t, int64_t i)
{
    float gate[WIDTH], up[WIDTH], slope;
    load_vector(gate, (const T *)t.gate + i);
    load_vector(up, (const T *)t.up + i);
#pragma unroll
    for (int e = 0; e < WIDTH; e++)
        up[e] *= activate<ACT>(gate[e], &slope);
    store_vector((T *)t.y + i, up);
}

template <activation ACT, int WIDTH, class T>
__device__ __forceinline__ void backward_at(const glu_task &t, int64_t i)
{
    float gate[WIDTH], up[WIDTH], dy[WIDTH];
    load_vector(gate, (const T *)t.gate + i);
    load_vector(up, (const T *)t.up + i);
    load_vector(dy, (const T *)t.dy + i);
#pragma unroll
    for (int e = 0; e < WIDTH; e++) {
        float slope;
        const float y = activate<ACT>(gate[e], &slope);
        gate[e] = dy[e] * up[e] * slope;
        up[e] = dy[e] * y;
    }
    store_vector((T *)t.dgate + i, gate);
    store_vector((T *)t.dup + i, up);
}

template <bool BACKWARD, activation ACT, int WIDTH, class T>
__device__ __forceinline__ void glu_at(const glu_task &t, int64_t i)
{
    if (BACKWARD)
        backward_at<ACT, WIDTH, T>(t, i);
    else
        forward_at<ACT, WIDTH, T>(t, i);
}

template <bool BACKWARD, activation ACT, class T, int WIDTH>
__global__ void __launch_bounds__(GLU_THREADS) glu_kernel(glu_task t)
{
    const int64_t i = ((int64_t)blockIdx.x * GLU_THREADS + threadIdx.x) * WIDTH;
    if (i + WIDTH <= t.n)
        glu_at<BACKWARD, ACT, WIDTH, T>(t, i);
    else
        for (int64_t j = i; j < t.n; j++)
            glu_at<BACKWARD, ACT, 1, T>(t, j);
}

/* --- launchers ----------------------------------------------------------------------------------------- */

template <activation ACT, class T, int WIDTH> static void launch(cudaStream_t on, const glu_task &t)
{
    const dim3 grid = grid_of(blocks_of(t.n, GLU_THREADS * WIDTH));
    if (t.y)
        LAUNCH((glu_kernel<false, ACT, T, WIDTH>), grid, GLU_THREADS, 0, on, t);
    else
        LAUNCH((glu_kernel<true, ACT, T, WIDTH>), grid, GLU_THREADS, 0, on, t);
}

template <activation ACT> static void launch_typed(cudaStream_t on, const glu_task &t, dtype type)
{
    /* Those of the two that do not take part are NULL, and fit. */
    const bool fits = fits_vectors(1, 0, t.y, t.dgate, t.dup, t.dy, t.gate, t.up);
    if (type == DTYPE_F32)
        fits ? launch<ACT, float, vector_width<float>()>(on, t) : launch<ACT, float, 1>(on, t);
    else
        fits ? launch<ACT, bf16, vector_width<bf16>()>(on, t) : launch<ACT, bf16, 1>(on, t);
}

static sc_status run(const char *op, stream *s, const glu_task &t, dtype type, activation act)
{
    const cudaStream_t on = cuda_stream(s);
    if (t.n < 0)
        return sc_fail(SC_INTERNAL, "%s: impossible size: %lld", op, (long long)t.n);
    if (t.n == 0)
        return SC_OK;
    if (act == ACT_SILU)
        launch_typed<ACT_SILU>(on, t, type);
    else
        launch_typed<ACT_GELU_TANH>(on, t, type);
    return launched(op);
}

sc_status cuda_glu_forward(stream *s, void *y, const void *gate, const void *up, dtype type, int64_t n,
                           activation act)
{
    const glu_task task = {y, NULL, NULL, NULL, gate, up, n};
    return run("glu_forward", s, task, type, act);
}

sc_status cuda_glu_backward(stream *s, void *dgate, void *dup, const void *dy, const void *gate,
                            const void *up, dtype type, int64_t n, activation act)
{
    const glu_task task = {NULL, dgate, dup, dy, gate, up, n};
    return run("glu_backward", s, task, type, act);
}
