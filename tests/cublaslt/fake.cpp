// Those functions of cuBLASLt that kernels/gemm_lt.cu calls, on the host's memory, which is the emulated card's, too.
#include "fake.h"

#include <cublasLt.h>

#include <cstring>

extern "C" FakeCublasLt fake_cublaslt;
FakeCublasLt fake_cublaslt;

namespace
{

struct Call {
    cublasOperation_t trans_a = CUBLAS_OP_N, trans_b = CUBLAS_OP_N;
};

struct Layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t ld;
};

struct Preference {
    uint32_t alignment[4] = {256, 256, 256, 256};
};

template <class T, class Handle> T &of(Handle handle)
{
    return *reinterpret_cast<T *>(handle);
}

// Column-major.
float load(const void *at, const Layout &layout, uint64_t row, uint64_t column)
{
    const uint64_t i = column * uint64_t(layout.ld) + row;
    if (layout.type == CUDA_R_32F)
        return static_cast<const float *>(at)[i];
    const uint32_t bits = uint32_t(static_cast<const uint16_t *>(at)[i]) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

void store(void *at, const Layout &layout, uint64_t row, uint64_t column, float value)
{
    const uint64_t i = column * uint64_t(layout.ld) + row;
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (layout.type == CUDA_R_32F)
        static_cast<float *>(at)[i] = value;
    else
        static_cast<uint16_t *>(at)[i] = uint16_t((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

} // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = reinterpret_cast<cublasLtHandle_t>(&fake_cublaslt);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t, cudaDataType_t)
{
    fake_cublaslt.alive++;
    *out = reinterpret_cast<cublasLtMatmulDesc_t>(new Call);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t call)
{
    fake_cublaslt.alive--;
    delete &of<Call>(call);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t call, cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t size)
{
    if (size != sizeof(cublasOperation_t))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (what == CUBLASLT_MATMUL_DESC_TRANSA)
        std::memcpy(&of<Call>(call).trans_a, value, size);
    else if (what == CUBLASLT_MATMUL_DESC_TRANSB)
        std::memcpy(&of<Call>(call).trans_b, value, size);
    else
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld)
{
    if (ld < int64_t(rows))
        return CUBLAS_STATUS_INVALID_VALUE;
    fake_cublaslt.alive++;
    *out = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{type, rows, columns, ld});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    fake_cublaslt.alive--;
    delete &of<Layout>(layout);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    fake_cublaslt.alive++;
    *out = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    fake_cublaslt.alive--;
    delete &of<Preference>(preference);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void *value, size_t size)
{
    const int index = int(what) - int(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
    if (index < 0 || index > 3 || size != sizeof(uint32_t))
        return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&of<Preference>(preference).alignment[index], value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t call,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *count)
{
    fake_cublaslt.asked++;
    std::memcpy(fake_cublaslt.alignment, of<Preference>(preference).alignment,
                sizeof fake_cublaslt.alignment);
    *count = wanted > 0 && !fake_cublaslt.refuses ? 1 : 0;
    if (*count == 0)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    std::memset(results, 0, sizeof *results);
    results->algo.data[0] = reinterpret_cast<uintptr_t>(call); // chosen for this product
    results->state = CUBLAS_STATUS_SUCCESS;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t call_handle, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_handle, const void *b,
                              cublasLtMatrixLayout_t b_handle, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_handle, void *d, cublasLtMatrixLayout_t d_handle,
                              const cublasLtMatmulAlgo_t *algorithm, void *, size_t, cudaStream_t)
{
    const Call &call = of<Call>(call_handle);
    const Layout &left = of<Layout>(a_handle), &right = of<Layout>(b_handle), &out = of<Layout>(d_handle);
    if (!algorithm || algorithm->data[0] != reinterpret_cast<uintptr_t>(call_handle) || c != d ||
        c_handle != d_handle)
        return CUBLAS_STATUS_INVALID_VALUE;
    const bool a_over = call.trans_a == CUBLAS_OP_T, b_over = call.trans_b == CUBLAS_OP_T;
    const uint64_t depth = a_over ? left.rows : left.columns;
    if ((a_over ? left.columns : left.rows) != out.rows ||
        (b_over ? right.rows : right.columns) != out.columns ||
        (b_over ? right.columns : right.rows) != depth)
        return CUBLAS_STATUS_INVALID_VALUE;
    const float scale = *static_cast<const float *>(alpha), keep = *static_cast<const float *>(beta);
    for (uint64_t i = 0; i < out.rows; i++)
        for (uint64_t j = 0; j < out.columns; j++) {
            double sum = 0;
            for (uint64_t q = 0; q < depth; q++)
                sum += double(a_over ? load(a, left, q, i) : load(a, left, i, q)) *
                       double(b_over ? load(b, right, j, q) : load(b, right, q, j));
            store(d, out, i, j, scale * float(sum) + (keep != 0 ? keep * load(d, out, i, j) : 0));
        }
    fake_cublaslt.multiplied++;
    return CUBLAS_STATUS_SUCCESS;
}
}
