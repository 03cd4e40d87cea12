/* gemm_lt: products by cuBLASLt, opened with dlopen: the file that SEEDCORN_CUBLASLT names (PyTorch's wheels bring one,
 * site-packages/nvidia/cublas/lib/libcublasLt.so.12), or the one that the system finds by its name; under the emulator only
 * one that is named, which has to be a test's. Without a workspace, as operations never allocate, and in float without TF32.
 *
 * What the library's heuristic chose for a product is kept, with its descriptors: asking for it and making them takes longer
 * than to launch a small product. */
#include "gemm.h"
#include "launch.cuh"

#if !__has_include(<cublasLt.h>)

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
#include <string.h>

/* The functions used, and the handle; all NULL where the library is absent. */
static struct {
    decltype(&cublasLtCreate) create;
    decltype(&cublasLtMatmul) matmul;
    decltype(&cublasLtMatmulDescCreate) call_create;
    decltype(&cublasLtMatmulDescDestroy) call_destroy;
    decltype(&cublasLtMatmulDescSetAttribute) call_set;
    decltype(&cublasLtMatrixLayoutCreate) layout_create;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
    decltype(&cublasLtMatmulPreferenceCreate) preference_create;
    decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
    decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
    decltype(&cublasLtMatmulAlgoGetHeuristic) choose;
    cublasLtHandle_t handle;
} lt;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* What makes two products the same to the heuristic. Zeroed before it is filled: it is compared by its bytes. */
typedef struct product_key {
    int64_t m, n, k, lda, ldb, ldc;
    uint32_t a_alignment, b_alignment, c_alignment; /* of the addresses, up to 256 */
    int32_t trans_a, trans_b, ab_type, c_type;
} product_key;

typedef struct product {
    product_key key;
    uint64_t used; /* when last, for eviction */
    bool refused;  /* the library has no way to do it */
    cublasLtMatmulDesc_t call;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algorithm;
} product;

/* One step of training runs some twenty shapes; batches of other sizes push the oldest out. */
enum { PRODUCTS = 128 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* owns both that follow */
static product products[PRODUCTS];
static uint64_t uses;

template <class F> static bool find(void *library, const char *name, F *out)
{
    *out = (F)dlsym(library, name);
    return *out != NULL;
}

static void open_library(void)
{
    const char *named = getenv("SEEDCORN_CUBLASLT");
    void *library = named && *named ? dlopen(named, RTLD_NOW | RTLD_LOCAL) : NULL;
#ifdef __CUDACC__
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
    for (const char *name : names)
        if (!library && !(named && *named))
            library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
#endif
    const bool whole = library && find(library, "cublasLtCreate", &lt.create) &&
                       find(library, "cublasLtMatmul", &lt.matmul) &&
                       find(library, "cublasLtMatmulDescCreate", &lt.call_create) &&
                       find(library, "cublasLtMatmulDescDestroy", &lt.call_destroy) &&
                       find(library, "cublasLtMatmulDescSetAttribute", &lt.call_set) &&
                       find(library, "cublasLtMatrixLayoutCreate", &lt.layout_create) &&
                       find(library, "cublasLtMatrixLayoutDestroy", &lt.layout_destroy) &&
                       find(library, "cublasLtMatmulPreferenceCreate", &lt.preference_create) &&
                       find(library, "cublasLtMatmulPreferenceDestroy", &lt.preference_destroy) &&
                       find(library, "cublasLtMatmulPreferenceSetAttribute", &lt.preference_set) &&
                       find(library, "cublasLtMatmulAlgoGetHeuristic", &lt.choose);
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

static cudaDataType_t type_of(int32_t type)
{
    return type == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* A row-major [rows][columns] matrix is a column-major [columns][rows] one. */
static bool layout_of(cublasLtMatrixLayout_t *out, int32_t type, int64_t rows, int64_t columns, int64_t ld)
{
    return lt.layout_create(out, type_of(type), (uint64_t)columns, (uint64_t)rows, ld) ==
           CUBLAS_STATUS_SUCCESS;
}

static uint32_t alignment_of(const void *p)
{
    const uintptr_t lowest = (uintptr_t)p & -(uintptr_t)p;
    return lowest && lowest < 256 ? (uint32_t)lowest : 256;
}

static void product_clear(product *p)
{
    if (p->a)
        lt.layout_destroy(p->a);
    if (p->b)
        lt.layout_destroy(p->b);
    if (p->c)
        lt.layout_destroy(p->c);
    if (p->call)
        lt.call_destroy(p->call);
    memset(p, 0, sizeof *p);
}

static bool prefer(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t what,
                   uint32_t alignment)
{
    return lt.preference_set(preference, what, &alignment, sizeof alignment) == CUBLAS_STATUS_SUCCESS;
}

/* In the library's eyes C' = op(B)' op(A)': its A is our B. */
static bool product_build(product *p)
{
    const product_key *key = &p->key;
    const cublasOperation_t op_a = key->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                            op_b = key->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t chosen;
    int count = 0;
    const bool good =
        lt.call_create(&p->call, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
        lt.call_set(p->call, CUBLASLT_MATMUL_DESC_TRANSA, &op_b, sizeof op_b) == CUBLAS_STATUS_SUCCESS &&
        lt.call_set(p->call, CUBLASLT_MATMUL_DESC_TRANSB, &op_a, sizeof op_a) == CUBLAS_STATUS_SUCCESS &&
        layout_of(&p->a, key->ab_type, key->trans_a ? key->k : key->m, key->trans_a ? key->m : key->k,
                  key->lda) &&
        layout_of(&p->b, key->ab_type, key->trans_b ? key->n : key->k, key->trans_b ? key->k : key->n,
                  key->ldb) &&
        layout_of(&p->c, key->c_type, key->m, key->n, key->ldc) &&
        lt.preference_create(&preference) == CUBLAS_STATUS_SUCCESS &&
        prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key->b_alignment) &&
        prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key->a_alignment) &&
        prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key->c_alignment) &&
        prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key->c_alignment) &&
        lt.choose(lt.handle, p->call, p->b, p->a, p->c, p->c, preference, 1, &chosen, &count) ==
            CUBLAS_STATUS_SUCCESS &&
        count == 1 && chosen.state == CUBLAS_STATUS_SUCCESS;
    if (preference)
        lt.preference_destroy(preference);
    if (good)
        p->algorithm = chosen.algo;
    return good;
}

static product *product_find(const product_key *key)
{
    product *oldest = &products[0];
    for (int i = 0; i < PRODUCTS; i++) {
        product *p = &products[i];
        if (p->used && memcmp(&p->key, key, sizeof *key) == 0)
            return p;
        if (p->used < oldest->used)
            oldest = p;
    }
    product_clear(oldest);
    oldest->key = *key;
    if (!product_build(oldest)) {
        product_clear(oldest);
        oldest->key = *key;
        oldest->refused = true;
    }
    return oldest;
}

bool gemm_lt(cudaStream_t on, const gemm_call *g)
{
    pthread_once(&once, open_library);
    if (!lt.handle || g->a_type != g->b_type || g->k == 0 ||
        (g->a_type == DTYPE_F32 && g->c_type != DTYPE_F32))
        return false;
    product_key key;
    memset(&key, 0, sizeof key);
    key.m = g->m, key.n = g->n, key.k = g->k, key.lda = g->lda, key.ldb = g->ldb, key.ldc = g->ldc;
    key.a_alignment = alignment_of(g->a), key.b_alignment = alignment_of(g->b);
    key.c_alignment = alignment_of(g->c);
    key.trans_a = g->trans_a, key.trans_b = g->trans_b, key.ab_type = g->a_type, key.c_type = g->c_type;
    pthread_mutex_lock(&lock);
    product *p = product_find(&key);
    p->used = ++uses;
    const bool done =
        !p->refused && lt.matmul(lt.handle, p->call, &g->alpha, g->b, p->b, g->a, p->a, &g->beta, g->c, p->c,
                                 g->c, p->c, &p->algorithm, NULL, 0, on) == CUBLAS_STATUS_SUCCESS;
    pthread_mutex_unlock(&lock);
    return done;
}

#endif
