/* The ways to multiply, of which gemm.cu takes the first that accepts a call. All of them answer false, with nothing done,
 * for what they do not take. */
#ifndef SC_KERNELS_GEMM_H
#define SC_KERNELS_GEMM_H

#include "elements.cuh"

/* gemm's arguments (device/ops.h). */
typedef struct gemm_call {
    bool trans_a, trans_b;
    int64_t m, n, k;
    float alpha;
    const void *a;
    dtype a_type;
    int64_t lda;
    const void *b;
    dtype b_type;
    int64_t ldb;
    float beta;
    void *c;
    dtype c_type;
    int64_t ldc;
} gemm_call;

/* One element of C; C is not read where beta is 0. */
__device__ __forceinline__ void store_product(void *c, dtype type, int64_t at, float alpha, float sum,
                                              float beta)
{
    const float old = beta != 0 ? beta * load_as_float(c, type, at) : 0;
    store_float(c, type, at, alpha * sum + old);
}

/* gemv.cu: up to 16 rows of bf16 against a transposed bf16 matrix, both of them aligned to 16 bytes. */
bool gemm_few_rows(cudaStream_t on, const gemm_call *call);

/* gemm_lt.cu: cuBLASLt, which is opened when it is first wanted: it is half a gigabyte, and not on every machine. */
bool gemm_lt(cudaStream_t on, const gemm_call *call);

/* gemm_bf16.cu: bf16 by bf16 on the tensor cores. */
bool gemm_bf16(cudaStream_t on, const gemm_call *call);

#endif
