/* vectors.cuh: 16 bytes of floats or of bf16 at a time, and rows that need not begin at multiples of 16 bytes.
 *
 * A row of type T (float, or uint16_t for bf16) is cut into a head up to the first such multiple, whole vectors, and a tail;
 * head and tail together have fewer elements than a block has threads. */
#ifndef SC_KERNELS_VECTORS_CUH
#define SC_KERNELS_VECTORS_CUH

#include <stdint.h>

#include "portable.cuh"

template <class T> struct vector_width {
    enum { N = 16 / sizeof(T) };
};

__device__ __forceinline__ float as_float(float v)
{
    return v;
}

__device__ __forceinline__ float as_float(uint16_t v)
{
    return __uint_as_float((unsigned)v << 16);
}

/* Two bf16 in a word, rounded to nearest, ties to even. */
__device__ __forceinline__ unsigned bf16_pair(float low, float high)
{
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    unsigned bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

__device__ __forceinline__ void store_as(float *to, float v)
{
    *to = v;
}

__device__ __forceinline__ void store_as(uint16_t *to, float v)
{
    *to = (uint16_t)bf16_pair(v, 0.0f);
}

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
        to[2 * i] = __uint_as_float(words[i] << 16);
        to[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

__device__ __forceinline__ uint4 pack(const float (&from)[4])
{
    return make_uint4(__float_as_uint(from[0]), __float_as_uint(from[1]), __float_as_uint(from[2]),
                      __float_as_uint(from[3]));
}

__device__ __forceinline__ uint4 pack(const float (&from)[8])
{
    return make_uint4(bf16_pair(from[0], from[1]), bf16_pair(from[2], from[3]), bf16_pair(from[4], from[5]),
                      bf16_pair(from[6], from[7]));
}

/* How n elements from x lie about the multiples of 16 bytes: element `head` begins the first of `vectors` vectors. */
struct row_cut {
    int64_t head, vectors;
};

template <class T> __device__ __forceinline__ row_cut cut_row(const T *x, int64_t n)
{
    const int64_t before = (int64_t)((16 - (uintptr_t)x % 16) % 16 / sizeof(T));
    row_cut cut;
    cut.head = before < n ? before : n;
    cut.vectors = (n - cut.head) / vector_width<T>::N;
    return cut;
}

/* The i-th element that is in no vector, or -1 behind the last one. */
template <class T> __device__ __forceinline__ int64_t ragged_element(const row_cut &cut, int64_t n, int64_t i)
{
    const int64_t at = i < cut.head ? i : i + cut.vectors * vector_width<T>::N;
    return at < n ? at : -1;
}

#endif
