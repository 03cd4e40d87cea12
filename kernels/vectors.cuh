/* vectors.cuh: rows that need not begin at multiples of 16 bytes, taken 16 bytes at a time all the same.
 *
 * A row of type T (float or bf16) is cut into a head up to the first such multiple, whole vectors, and a tail;
 * head and tail together have fewer elements than a block has threads. */
#ifndef SC_KERNELS_VECTORS_CUH
#define SC_KERNELS_VECTORS_CUH

#include "elements.cuh"

/* How n elements from x lie about the multiples of 16 bytes: element `head` begins the first of `vectors` vectors. */
struct row_cut {
    int64_t head, vectors;
};

template <class T> __device__ __forceinline__ row_cut cut_row(const T *x, int64_t n)
{
    const int64_t before = (int64_t)((16 - (uintptr_t)x % 16) % 16 / sizeof(T));
    row_cut cut;
    cut.head = before < n ? before : n;
    cut.vectors = (n - cut.head) / vector_width<T>();
    return cut;
}

/* The i-th element that is in no vector, or -1 behind the last one. */
template <class T> __device__ __forceinline__ int64_t ragged_element(const row_cut &cut, int64_t n, int64_t i)
{
    const int64_t at = i < cut.head ? i : i + cut.vectors * vector_width<T>();
    return at < n ? at : -1;
}

#endif
