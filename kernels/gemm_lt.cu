/* gemm_lt: products by cuBLASLt, opened with dlopen: the file that SEEDCORN_CUBLASLT names (PyTorch's wheels bring one,
 * site-packages/nvidia/cublas/lib/libcublasLt.so.12), or the one that the system finds by its name. Without a workspace,
 * as operations never allocate, and in float without TF32. The emulator has no such library. */
#include "gemm.h"
#include "launch.cuh"

#ifndef __CUDACC__

bool gemm_lt(cudaStream_t on, const gemm_call *call)
{
    (void)on, (void)call;
    return false;
}

const char *cuda_gemm_library(void)
{
    return NULL;
}

#else

#include <cublasLt.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

/* The functions used, and the handle; all NULL where the library is absent. */
static struct {
    decltype(&cublasLtCreate) create;
    decltype(&cublasLtMatmul) matmul;
    decltype(&cublasLtMatmulDescCreate) call_create;
    decltype(&cublasLtMatmulDescDestroy) call_destroy;
    decltype(&cublasLtMatmulDescSetAttribute) call_set;
    decltype(&cublasLtMatrixLayoutCreate) layout_create;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
    cublasLtHandle_t handle;
} lt;
static pthread_once_t once = PTHREAD_ONCE_INIT;

template <class F> static bool find(void *library, const char *name, F *out)
{
    *out = (F)dlsym(library, name);
    return *out != NULL;
}

static void open_library(void)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
    const char *named = getenv("SEEDCORN_CUBLASLT");
    void *library = named && *named ? dlopen(named, RTLD_NOW | RTLD_LOCAL) : NULL;
    for (const char *name : names)
        if (!library && !(named && *named))
            library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    const bool whole = library && find(library, "cublasLtCreate", &lt.create) &&
                       find(library, "cublasLtMatmul", &lt.matmul) &&
                       find(library, "cublasLtMatmulDescCreate", &lt.call_create) &&
                       find(library, "cublasLtMatmulDescDestroy", &lt.call_destroy) &&
                       find(library, "cublasLtMatmulDescSetAttribute", &lt.call_set) &&
                       find(library, "cublasLtMatrixLayoutCreate", &lt.layout_create) &&
                       find(library, "cublasLtMatrixLayoutDestroy", &lt.layout_destroy);
    if (!whole || lt.create(&lt.handle) != CUBLAS_STATUS_SUCCESS)
        lt.handle = NULL;
}

const char *cuda_gemm_library(void)
{
    Dl_info found;
    cuda_stream(NULL);
    pthread_once(&once, open_library);
    return lt.handle && dladdr((void *)lt.matmul, &found) ? found.dli_fname : NULL;
}

static cudaDataType_t type_of(dtype type)
{
    return type == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* A row-major [rows][columns] matrix is a column-major [columns][rows] one. */
static bool layout_of(cublasLtMatrixLayout_t *out, dtype type, int64_t rows, int64_t columns, int64_t ld)
{
    return lt.layout_create(out, type_of(type), (uint64_t)columns, (uint64_t)rows, ld) ==
           CUBLAS_STATUS_SUCCESS;
}

/* In the library's eyes C' = op(B)' op(A)'. */
bool gemm_lt(cudaStream_t on, const gemm_call *g)
{
    pthread_once(&once, open_library);
    if (!lt.handle || g->a_type != g->b_type || g->k == 0 ||
        (g->a_type == DTYPE_F32 && g->c_type != DTYPE_F32))
        return false;
    cublasLtMatmulDesc_t call = NULL;
    cublasLtMatrixLayout_t a = NULL, b = NULL, c = NULL;
    const cublasOperation_t op_a = g->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                            op_b = g->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    bool done = lt.call_create(&call, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
                lt.call_set(call, CUBLASLT_MATMUL_DESC_TRANSA, &op_b, sizeof op_b) == CUBLAS_STATUS_SUCCESS &&
                lt.call_set(call, CUBLASLT_MATMUL_DESC_TRANSB, &op_a, sizeof op_a) == CUBLAS_STATUS_SUCCESS &&
                layout_of(&a, g->a_type, g->trans_a ? g->k : g->m, g->trans_a ? g->m : g->k, g->lda) &&
                layout_of(&b, g->b_type, g->trans_b ? g->n : g->k, g->trans_b ? g->k : g->n, g->ldb) &&
                layout_of(&c, g->c_type, g->m, g->n, g->ldc);
    done = done && lt.matmul(lt.handle, call, &g->alpha, g->b, b, g->a, a, &g->beta, g->c, c, g->c, c, NULL,
                             NULL, 0, on) == CUBLAS_STATUS_SUCCESS;
    if (a)
        lt.layout_destroy(a);
    if (b)
        lt.layout_destroy(b);
    if (c)
        lt.layout_destroy(c);
    if (call)
        lt.call_destroy(call);
    return done;
}

#endif
