/* The CPU's table of operations. */
#include "device/cpu/cpu.h"
#include "device/device.h"

static const ops table = {
    .name = "cpu",
    .alloc = cpu_alloc,
    .release = cpu_release,
    .upload = cpu_upload,
    .download = cpu_download,
    .fill_zero = cpu_fill_zero,
    .synchronise = cpu_synchronise,
    .cast = cpu_cast,
    .add = cpu_add,
    .gather_rows = cpu_gather_rows,
    .scatter_rows = cpu_scatter_rows,
    .pool_rows = cpu_pool_rows,
    .embedding_forward = cpu_embedding_forward,
    .embedding_backward = cpu_embedding_backward,
    .embedding_backward_workspace = cpu_embedding_backward_workspace,
    .gemm = cpu_gemm,
    .rmsnorm_forward = cpu_rmsnorm_forward,
    .rmsnorm_backward = cpu_rmsnorm_backward,
    .rmsnorm_backward_workspace = cpu_rmsnorm_backward_workspace,
    .rope = cpu_rope,
    .attention_forward = cpu_attention_forward,
    .attention_forward_workspace = cpu_attention_forward_workspace,
    .attention_backward = cpu_attention_backward,
    .attention_backward_workspace = cpu_attention_backward_workspace,
    .attention_cached = cpu_attention_cached,
    .attention_cached_workspace = cpu_attention_cached_workspace,
    .glu_forward = cpu_glu_forward,
    .glu_backward = cpu_glu_backward,
    .cross_entropy = cpu_cross_entropy,
    .adamw = cpu_adamw,
    .square_sum = cpu_square_sum,
    .lora_forward = cpu_lora_forward,
    .lora_workspace = cpu_lora_workspace,
    .lora_backward = cpu_lora_backward,
    .sample_rows = cpu_sample_rows,
    .gather_logprobs = cpu_gather_logprobs,
    .cluster_assign = cpu_cluster_assign,
    .cluster_assign_workspace = cpu_cluster_assign_workspace,
    .cluster_update = cpu_cluster_update,
    .cluster_softmax = cpu_cluster_softmax,
    .cluster_softmax_workspace = cpu_cluster_softmax_workspace,
    .js_to_mean = cpu_js_to_mean,
    .design_update = cpu_design_update,
};

const ops *cpu_ops(void)
{
    return &table;
}
