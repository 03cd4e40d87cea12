/* Plain products by cuBLASLt, which is opened when it is first wanted: it is half a gigabyte, and not on every machine. */
#ifndef SC_KERNELS_GEMM_LT_H
#define SC_KERNELS_GEMM_LT_H

#include "kernels.h"
#include "portable.cuh"

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

/* False, with nothing done, where the library is absent or refuses the call. */
bool gemm_lt(cudaStream_t on, const gemm_call *call);

#endif
