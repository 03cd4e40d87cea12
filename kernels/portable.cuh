// The one header that kernels include. Under nvcc its names are native CUDA; any other compiler gets the
// kernel emulator (tests/emu), which runs the same source as host code, one fiber per CUDA thread.
//
// Both sides offer the CUDA built-ins (threadIdx, __syncthreads, __shfl_*_sync, atomics, __fmaf_rn, ...) and, for what
// plain C++ cannot express, the names below. docs/emulator.md lists the rules that kernels obey.
//
//   LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)   an ordinary launch
//                                        (put templates into parentheses: LAUNCH((k<64>), ...);
//                                        errors are fetched with cudaGetLastError())
//   SHARED(type, name, dims)             a shared variable, 16-byte aligned: SHARED(float, tile, [64][33]);
//                                        SHARED(int, n, ); is a scalar
//   DYNAMIC_SHARED(type, name)           type *name: the launch's dynamic shared memory, 16-byte aligned
//   copy_async16, copy_async4            cp.async: 16 or 4 bytes from global to shared memory; when not wanted,
//                                        zeros are written and global memory is not read
//   copy_async_commit, copy_async_wait<N>   close a group; wait until at most N groups are under way
//   load_matrix_x4, load_matrix_x4_trans ldmatrix: lane 8 j + r names row r of the j-th 8 x 8 matrix of 16-bit words
//   mma_bf16_16816                       d[16][8] += a[16][16] b[16][8], bf16 with fp32 accumulation
//   mma_tf32_1688                        d[16][8] += a[16][8] b[8][8], tf32 (low 13 bits ignored), fp32 accumulation
//   mma_f64_884                          d[8][8] += a[8][4] b[4][8], float64 (sm_80)
//   exp2_approx(x)                       2^x within 2 ulp, 0 where that is below the normal numbers
//   to_tf32(x)                           nearest tf32, ties away from zero, as bits
//   to_bf16(x)                           nearest bf16, ties to even, a NaN stays one, as bits
//   to_bf16_pair(first, second)          the same of two, the first in the low half
//   load_relaxed, store_relaxed          an access that may meet another thread's atomic one
//
// cooperative.cuh adds LAUNCH_COOPERATIVE and grid_barrier().
//
// The fragment layouts of the matrix operations are those of the PTX ISA, "Matrix Fragments for mma.m16n8k16" etc.
#pragma once

#if !defined(__CUDACC__)
#include "emu/emu.h"
#else

#include <cuda_runtime.h> // alone: CUDA's headers for cooperative groups and bf16 take longer to read than most kernels

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                               \
    (kernel)<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)

#define SHARED(type, name, dims) __shared__ __align__(16) type name dims

#define DYNAMIC_SHARED(type, name)                                                                           \
    extern __shared__ __align__(16) unsigned char portable_dynamic_shared[];                                 \
    type *name = reinterpret_cast<type *>(portable_dynamic_shared)

namespace portable
{

__device__ __forceinline__ unsigned shared_address(const void *p)
{
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

} // namespace portable

template <class T> __device__ __forceinline__ T load_relaxed(const T *p)
{
    return *reinterpret_cast<const volatile T *>(
        p); // ld.volatile orders like ld.relaxed.sys (PTX ISA, memory model)
}

template <class T> __device__ __forceinline__ void store_relaxed(T *p, T value)
{
    *reinterpret_cast<volatile T *>(p) = value;
}

__device__ __forceinline__ void copy_async16(void *shared, const void *global, bool wanted)
{
    int bytes = wanted ? 16 : 0; // the rest of the 16 is filled with zeros
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(portable::shared_address(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void copy_async4(void *shared, const void *global, bool wanted)
{
    int bytes = wanted ? 4 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(portable::shared_address(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void copy_async_commit()
{
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}

template <int N> __device__ __forceinline__ void copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

__device__ __forceinline__ void load_matrix_x4(unsigned (&r)[4], const void *shared_row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(portable::shared_address(shared_row))
                 : "memory");
}

__device__ __forceinline__ void load_matrix_x4_trans(unsigned (&r)[4], const void *shared_row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(portable::shared_address(shared_row))
                 : "memory");
}

__device__ __forceinline__ void mma_bf16_16816(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_tf32_1688(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_f64_884(double (&d)[2], double a, double b)
{
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};\n"
                 : "+d"(d[0]), "+d"(d[1])
                 : "d"(a), "d"(b));
}

__device__ __forceinline__ float exp2_approx(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ unsigned to_tf32(float x)
{
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(x));
    return bits;
}

__device__ __forceinline__ unsigned short to_bf16(float x)
{
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;\n" : "=h"(bits) : "f"(x));
    return bits;
}

__device__ __forceinline__ unsigned to_bf16_pair(float first, float second)
{
    unsigned bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(bits) : "f"(second), "f"(first));
    return bits;
}

#endif
