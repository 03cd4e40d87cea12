/* lanes.cuh: sums in double over the columns of two rows, shared out over a few neighbouring lanes of a warp.
 *
 * They add in the very order of their twins in src/device/cpu, whose vectors have as many lanes: lane v takes columns
 * v, v + LANES, ...; exchanging partners then joins the lanes. Addition commutes, so all lanes get the same bits, and the
 * same as the CPU's, where both fuse multiplications with additions, or both do not. */
#ifndef SC_KERNELS_LANES_CUH
#define SC_KERNELS_LANES_CUH

#include "portable.cuh"

/* The lanes of this thread's group of LANES, at most 16. */
template <int LANES> __device__ __forceinline__ unsigned lane_group()
{
    const int lane = (int)threadIdx.x % 32;
    return ((1u << LANES) - 1) << (lane / LANES * LANES);
}

template <int LANES> __device__ __forceinline__ double join(double sum, int step)
{
    return sum + __shfl_xor_sync(lane_group<LANES>(), sum, step);
}

/* ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7)), or four lanes' (s0 + s2) + (s1 + s3) */
template <int LANES> __device__ __forceinline__ double join_halves(double sum)
{
#pragma unroll
    for (int step = LANES / 2; step > 0; step /= 2)
        sum = join<LANES>(sum, step);
    return sum;
}

/* |x - c|^2, sixteen sums over all columns (cluster.c's pair_distance) */
__device__ __forceinline__ double distance_16(const float *x, const float *c, int64_t dim)
{
    double sum = 0;
    for (int64_t d = (int)threadIdx.x % 16; d < dim; d += 16) {
        const double diff = (double)x[d] - (double)c[d];
        sum += diff * diff;
    }
    sum = join<16>(sum, 4);
    sum = join<16>(sum, 8);
    sum = join<16>(sum, 1);
    return join<16>(sum, 2);
}

/* |x - c|^2, eight sums and the columns that are left (nearest.c's distance2, which is
 * compiled with fused multiply-adds) */
__device__ __forceinline__ double distance_8(const float *x, const float *c, int64_t dim)
{
    const int64_t whole = dim / 8 * 8;
    double sum = 0, left = 0;
    for (int64_t d = (int)threadIdx.x % 8; d < whole; d += 8) {
        const double diff = (double)x[d] - (double)c[d];
        sum = __fma_rn(diff, diff, sum);
    }
    for (int64_t d = whole; d < dim; d++) {
        const double diff = (double)x[d] - (double)c[d];
        left = __fma_rn(diff, diff, left);
    }
    return left + join_halves<8>(sum);
}

/* x . w, sixteen sums and the columns that are left (design_pool.c's dot_mixed) */
__device__ __forceinline__ double dot_16(const float *x, const double *w, int64_t dim)
{
    const int64_t whole = dim / 16 * 16;
    double sum = 0;
    for (int64_t d = (int)threadIdx.x % 16; d < whole; d += 16)
        sum += (double)x[d] * w[d];
    sum = join<16>(sum, 4);
    sum = join<16>(sum, 8);
    sum = join<16>(sum, 2);
    sum = join<16>(sum, 1);
    for (int64_t d = whole; d < dim; d++)
        sum += (double)x[d] * w[d];
    return sum;
}

#endif
