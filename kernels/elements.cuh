/* elements.cuh: numbers of either type as floats, one at a time or 16 bytes at a time, and sums over a warp and a block.
 *
 * Kernels that pass over memory once are as fast as their loads are wide and as many of them are under way. They are
 * written for vectors of WIDTH elements: `vector_width` of their types where rows begin at multiples of 16 bytes, and 1
 * where they do not. */
#ifndef SC_KERNELS_ELEMENTS_CUH
#define SC_KERNELS_ELEMENTS_CUH

#include "kernels.h"
#include "portable.cuh"

typedef uint16_t bf16; /* its bits, as the tensor cores take them */

/* --- one element --------------------------------------------------------------------------------------- */

__device__ __forceinline__ float to_float(float v)
{
    return v;
}

__device__ __forceinline__ float to_float(bf16 v)
{
    return __uint_as_float((unsigned)v << 16);
}

/* Rounds to the nearest, ties to even; a NaN stays one. */
template <class T> __device__ __forceinline__ T from_float(float v);

template <> __device__ __forceinline__ float from_float<float>(float v)
{
    return v;
}

template <> __device__ __forceinline__ bf16 from_float<bf16>(float v)
{
    return to_bf16(v);
}

/* For kernels that learn the type as they run. */
__device__ __forceinline__ float load_as_float(const void *from, dtype type, int64_t i)
{
    return type == DTYPE_F32 ? ((const float *)from)[i] : to_float(((const bf16 *)from)[i]);
}

__device__ __forceinline__ void store_float(void *to, dtype type, int64_t i, float v)
{
    if (type == DTYPE_F32)
        ((float *)to)[i] = v;
    else
        ((bf16 *)to)[i] = from_float<bf16>(v);
}

/* --- vectors ------------------------------------------------------------------------------------------- */

/* Elements in 16 bytes of the smallest of the types. */
template <class... Types> __host__ __device__ constexpr int vector_width()
{
    return ((sizeof(Types) == sizeof(bf16)) || ...) ? 8 : 4;
}

/* Whether pointers, and rows that lie so many elements apart, allow vectors of `width`. */
static inline bool fits_vectors(int width, int64_t step)
{
    return step % width == 0;
}

template <class... More> static inline bool fits_vectors(int width, int64_t step, const void *p, More... more)
{
    return (uintptr_t)p % 16 == 0 && fits_vectors(width, step, more...);
}

/* Two bf16 in one word, the first in its low half. */
__device__ __forceinline__ float first_of(unsigned pair)
{
    return __uint_as_float(pair << 16);
}

__device__ __forceinline__ float second_of(unsigned pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

/* 16 bytes as floats, and back. */
__device__ __forceinline__ void unpack(float (&to)[4], uint4 v)
{
    to[0] = __uint_as_float(v.x);
    to[1] = __uint_as_float(v.y);
    to[2] = __uint_as_float(v.z);
    to[3] = __uint_as_float(v.w);
}

__device__ __forceinline__ void unpack(float (&to)[8], uint4 v)
{
    const unsigned words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        to[2 * i] = first_of(words[i]);
        to[2 * i + 1] = second_of(words[i]);
    }
}

__device__ __forceinline__ uint4 pack(const float (&from)[4])
{
    return make_uint4(__float_as_uint(from[0]), __float_as_uint(from[1]), __float_as_uint(from[2]),
                      __float_as_uint(from[3]));
}

__device__ __forceinline__ uint4 pack(const float (&from)[8])
{
    return make_uint4(to_bf16_pair(from[0], from[1]), to_bf16_pair(from[2], from[3]),
                      to_bf16_pair(from[4], from[5]), to_bf16_pair(from[6], from[7]));
}

template <int WIDTH> __device__ __forceinline__ void load_vector(float (&v)[WIDTH], const float *from)
{
    static_assert(WIDTH == 1 || WIDTH == 2 || WIDTH % 4 == 0, "floats are loaded by one, two or four");
    if constexpr (WIDTH == 1) {
        v[0] = from[0];
    } else if constexpr (WIDTH == 2) {
        const float2 two = *(const float2 *)from;
        v[0] = two.x;
        v[1] = two.y;
    } else {
#pragma unroll
        for (int i = 0; i < WIDTH; i += 4) {
            const float4 four = *(const float4 *)(from + i);
            v[i] = four.x;
            v[i + 1] = four.y;
            v[i + 2] = four.z;
            v[i + 3] = four.w;
        }
    }
}

template <int WIDTH> __device__ __forceinline__ void load_vector(float (&v)[WIDTH], const bf16 *from)
{
    static_assert(WIDTH == 1 || WIDTH == 2 || WIDTH == 4 || WIDTH == 8, "at most 16 bytes");
    if constexpr (WIDTH == 1) {
        v[0] = to_float(from[0]);
    } else if constexpr (WIDTH == 8) {
        unpack(v, *(const uint4 *)from);
    } else {
        unsigned pairs[WIDTH / 2];
        if constexpr (WIDTH == 2) {
            pairs[0] = *(const unsigned *)from;
        } else {
            const uint2 two = *(const uint2 *)from;
            pairs[0] = two.x;
            pairs[1] = two.y;
        }
#pragma unroll
        for (int i = 0; i < WIDTH / 2; i++) {
            v[2 * i] = first_of(pairs[i]);
            v[2 * i + 1] = second_of(pairs[i]);
        }
    }
}

template <int WIDTH> __device__ __forceinline__ void store_vector(float *to, const float (&v)[WIDTH])
{
    static_assert(WIDTH == 1 || WIDTH == 2 || WIDTH % 4 == 0, "floats are stored by one, two or four");
    if constexpr (WIDTH == 1) {
        to[0] = v[0];
    } else if constexpr (WIDTH == 2) {
        *(float2 *)to = make_float2(v[0], v[1]);
    } else {
#pragma unroll
        for (int i = 0; i < WIDTH; i += 4)
            *(float4 *)(to + i) = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
    }
}

template <int WIDTH> __device__ __forceinline__ void store_vector(bf16 *to, const float (&v)[WIDTH])
{
    static_assert(WIDTH == 1 || WIDTH == 2 || WIDTH == 4 || WIDTH == 8, "at most 16 bytes");
    if constexpr (WIDTH == 1)
        to[0] = from_float<bf16>(v[0]);
    else if constexpr (WIDTH == 2)
        *(unsigned *)to = to_bf16_pair(v[0], v[1]);
    else if constexpr (WIDTH == 4)
        *(uint2 *)to = make_uint2(to_bf16_pair(v[0], v[1]), to_bf16_pair(v[2], v[3]));
    else
        *(uint4 *)to = pack(v);
}

/* --- sums ---------------------------------------------------------------------------------------------- */

/* All lanes get the same bits: addition commutes, and every lane adds the same pairs. */
template <class T> __device__ __forceinline__ T warp_sum(T v)
{
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}

/* Of all threads of a block of whole warps, for all of them. `parts` is shared, of 32; it may be used again once the
 * block has met. */
template <class T> __device__ __forceinline__ T block_sum(T v, T *parts)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
    v = warp_sum(v);
    if (lane == 0)
        parts[warp] = v;
    __syncthreads();
    return warp_sum(lane < warps ? parts[lane] : T(0));
}

#endif
