/* plugin: the table, and the one function by which libseedcorn opens it (device/plugin.h). */
#include <stdarg.h>
#include <stdio.h>

#include "launch.cuh"

extern "C" {
#include "device/plugin.h"
}

/* What the host passed in, and the card that was opened: one a process, for operations are not told which. */
static plugin_host host;
static int card;
static bool opened;

sc_status sc_fail(sc_status status, const char *format, ...)
{
    char sentence[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    return host.fail(status, sentence);
}

cudaStream_t cuda_stream(stream *s)
{
    static thread_local bool chosen = false;
    if (!chosen)
        chosen = cudaSetDevice(card) == cudaSuccess;
    return (cudaStream_t)s;
}

sc_status cuda_status(const char *op, cudaError_t error)
{
    if (error == cudaSuccess)
        return SC_OK;
    cudaGetLastError(); /* takes it out of the way of the next call */
    return sc_fail(SC_DEVICE, "%s: the card reports: %s", op, cudaGetErrorString(error));
}

static const ops *table(void)
{
    static ops t;
#ifdef __CUDACC__
    t.name = "cuda";
#else
    t.name = "emu";
#endif
    t.alloc = cuda_alloc;
    t.release = cuda_release;
    t.upload = cuda_upload;
    t.download = cuda_download;
    t.fill_zero = cuda_fill_zero;
    t.synchronise = cuda_synchronise;
    t.memory_left = cuda_memory_left;
    t.alloc_pinned = cuda_alloc_pinned;
    t.release_pinned = cuda_release_pinned;
    t.stream_open = cuda_stream_open;
    t.stream_close = cuda_stream_close;
    t.stream_wait = cuda_stream_wait;
    t.cast = cuda_cast;
    t.add = cuda_add;
    t.gather_rows = cuda_gather_rows;
    t.scatter_rows = cuda_scatter_rows;
    t.pool_rows = cuda_pool_rows;
    t.embedding_forward = cuda_embedding_forward;
    t.embedding_backward = cuda_embedding_backward;
    t.embedding_backward_workspace = cuda_embedding_backward_workspace;
    t.bias_forward = cuda_bias_forward;
    t.bias_backward = cuda_bias_backward;
    t.rmsnorm_forward = cuda_rmsnorm_forward;
    t.rmsnorm_backward = cuda_rmsnorm_backward;
    t.rmsnorm_backward_workspace = cuda_rmsnorm_backward_workspace;
    t.rope = cuda_rope;
    t.glu_forward = cuda_glu_forward;
    t.glu_backward = cuda_glu_backward;
    t.adamw = cuda_adamw;
    t.square_sum = cuda_square_sum;
    t.gemm = cuda_gemm;
    t.gemm_library = cuda_gemm_library;
    t.cluster_assign = cuda_cluster_assign;
    t.cluster_assign_workspace = cuda_cluster_assign_workspace;
    t.cluster_update = cuda_cluster_update;
    t.cluster_softmax = cuda_cluster_softmax;
    t.cluster_softmax_workspace = cuda_cluster_softmax_workspace;
    t.nearest_update = cuda_nearest_update;
    t.js_to_mean = cuda_js_to_mean;
    t.design_flush = cuda_design_flush;
    t.design_peaks = cuda_design_peaks;
    t.design_above = cuda_design_above;
    t.design_above_workspace = cuda_design_above_workspace;
    t.design_put = cuda_design_put;
    t.design_pool = cuda_design_pool;
    t.design_pool_workspace = cuda_design_pool_workspace;
    t.design_bait = cuda_design_bait;
    t.rank_update = cuda_rank_update;
    t.cholesky = cuda_cholesky;
    t.cholesky_inverse = cuda_cholesky_inverse;
    t.cholesky_inverse_workspace = cuda_cholesky_inverse_workspace;
    t.quadratic_forms = cuda_quadratic_forms;
    t.sandwich = cuda_sandwich;
    t.sandwich_workspace = cuda_sandwich_workspace;
    t.als_gram = cuda_als_gram;
    t.als_gram_workspace = cuda_als_gram_workspace;
    t.als_solve = cuda_als_solve;
    t.als_solve_workspace = cuda_als_solve_workspace;
    t.cross_entropy = cuda_cross_entropy;
    t.cap_logits = cuda_cap_logits;
    t.sample_rows = cuda_sample_rows;
    t.penalise_rows = cuda_penalise_rows;
    t.gather_logprobs = cuda_gather_logprobs;
    t.lora_forward = cuda_lora_forward;
    t.lora_workspace = cuda_lora_workspace;
    t.lora_backward = cuda_lora_backward;
    t.dora_norm = cuda_dora_norm;
    t.dora_norm_workspace = cuda_dora_norm_workspace;
    t.dora_forward = cuda_dora_forward;
    t.dora_backward = cuda_dora_backward;
    t.attention_forward = cuda_attention_forward;
    t.attention_forward_workspace = cuda_attention_forward_workspace;
    t.attention_backward = cuda_attention_backward;
    t.attention_backward_workspace = cuda_attention_backward_workspace;
    t.attention_cached = cuda_attention_cached;
    t.attention_cached_workspace = cuda_attention_cached_workspace;
    return &t;
}

static sc_status describe(int index, char *name, size_t size)
{
    cudaDeviceProp card_is;
    int driver = 0;
    const cudaError_t error = cudaGetDeviceProperties(&card_is, index);
    if (error != cudaSuccess)
        return cuda_status("--device cuda", error);
    if (card_is.major < 8)
        return sc_fail(
            SC_DEVICE,
            "--device cuda:%d: %s has compute capability %d.%d, and Seedcorn's kernels need 8.0 (Ampere, "
            "2020) or later",
            index, card_is.name, card_is.major, card_is.minor);
    cudaDriverGetVersion(&driver);
    snprintf(name, size, "%s, %.1f GB, driver %d.%d", card_is.name, (double)card_is.totalGlobalMem / 1e9,
             driver / 1000, driver % 1000 / 10);
    return SC_OK;
}

extern "C" __attribute__((visibility("default"))) sc_status
sc_plugin_open(const plugin_host *caller, int32_t index, const ops **out, char *name, size_t name_size)
{
    int n_cards = 0;
    host = *caller;
    if (host.ops_size != sizeof(ops))
        return sc_fail(SC_DEVICE,
                       "--device cuda: the plug-in belongs to another build of libseedcorn; install both "
                       "from the same one");
    const cudaError_t error = cudaGetDeviceCount(&n_cards);
    if (error != cudaSuccess || n_cards == 0) {
        cudaGetLastError();
        return sc_fail(SC_DEVICE,
                       "--device cuda: no card can be used (%s); see `seedcorn doctor`, or use --device cpu",
                       error == cudaSuccess ? "the driver reports none" : cudaGetErrorString(error));
    }
    if (index < 0 || index >= n_cards)
        return sc_fail(SC_DEVICE, "--device cuda:%d: this machine has %d card%s, numbered from 0", index,
                       n_cards, n_cards == 1 ? "" : "s");
    if (opened && index != card)
        return sc_fail(
            SC_DEVICE,
            "--device cuda:%d: this process works on card %d already; give each card a process of its own",
            index, card);
    card = index;
    const cudaError_t chosen = cudaSetDevice(card);
    if (chosen != cudaSuccess)
        return cuda_status("--device cuda", chosen);
    opened = true;
    *out = table();
    return describe(index, name, name_size);
}
