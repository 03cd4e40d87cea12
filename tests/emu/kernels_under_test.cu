// The kernels of the emulator's test for nvcc, which compiles only what is instantiated.
#include "emu/kernels_under_test.cuh"

template __global__ void scale_add<Bug::none>(int, float, const float *, float *);
template __global__ void scale_by_four<Bug::none>(int, float, const float *, float *);
template __global__ void softmax_rows<Bug::none, float>(const float *, float *, int, int);
template __global__ void softmax_rows<Bug::none, __nv_bfloat16>(const __nv_bfloat16 *, __nv_bfloat16 *, int,
                                                                int);
template __global__ void gemm_tiled<Bug::none>(const float *, const float *, float *, int, int, int);
template __global__ void gemm_bf16<Bug::none>(const __nv_bfloat16 *, const __nv_bfloat16 *, float *, int, int,
                                              int);
template __global__ void statistics<Bug::none>(const float *, int, double *, float *, float *, unsigned *);
template __global__ void reverse_warps<Bug::none>(const float *, float *);
template __global__ void through_dynamic<Bug::none>(const float *, float *);
template __global__ void parted_lanes<Bug::none>(int *);

void launch_normalize(const float *x, float *y, float *partial, int n, unsigned blocks, cudaStream_t stream)
{
    LAUNCH_COOPERATIVE((normalize<Bug::none>), blocks, 32, 0, stream, x, y, partial, n);
    LAUNCH((scale_add<Bug::none>), 1, 32, 0, stream, n, 1, x, y);
}
