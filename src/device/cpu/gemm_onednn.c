/* gemm through oneDNN: sgemm for floats, and matmul primitives, which choose AMX or AVX512-BF16 by themselves.
 * The C API differs between 2.x and 3.x. Built with SC_NO_ONEDNN both functions refuse, and the plain product
 * does the work. */
#include "device/cpu/cpu.h"

#ifdef SC_NO_ONEDNN

bool cpu_gemm_sgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    (void)trans_a, (void)trans_b, (void)m, (void)n, (void)k, (void)alpha, (void)a, (void)lda, (void)b,
        (void)ldb;
    (void)beta, (void)c, (void)ldc;
    return false;
}

bool cpu_gemm_primitive(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                        const void *a, int64_t lda, const void *b, int64_t ldb, dtype ab_type, float beta,
                        void *c, dtype c_type, int64_t ldc)
{
    (void)trans_a, (void)trans_b, (void)m, (void)n, (void)k, (void)alpha, (void)a, (void)lda, (void)b,
        (void)ldb;
    (void)ab_type, (void)beta, (void)c, (void)c_type, (void)ldc;
    return false;
}

#else

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <oneapi/dnnl/dnnl.h>

bool cpu_gemm_sgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    return dnnl_sgemm(trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c,
                      ldc) == dnnl_success;
}

/* What makes two products the same primitive. Zeroed before it is filled: it is compared by its bytes. */
typedef struct product_key {
    int64_t m, n, k, lda, ldb, ldc;
    float alpha, beta;
    int32_t trans_a, trans_b, ab_type, c_type;
} product_key;

typedef struct product {
    product_key key;
    uint64_t used; /* when last, for eviction */
    bool refused;  /* oneDNN has nothing better than its reference code */
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c;
} product;

/* One step of training runs some twenty shapes; batches of other sizes push the oldest out. */
enum { PRODUCTS = 128 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* owns all that follows */
static dnnl_engine_t engine;
static dnnl_stream_t order;
static product products[PRODUCTS];
static uint64_t uses;

static void product_clear(product *p)
{
    if (p->a)
        dnnl_memory_destroy(p->a);
    if (p->b)
        dnnl_memory_destroy(p->b);
    if (p->c)
        dnnl_memory_destroy(p->c);
    if (p->primitive)
        dnnl_primitive_destroy(p->primitive);
    memset(p, 0, sizeof *p);
}

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t matrix_desc;
#define DESC_POINTER(d) (d)
#else
typedef dnnl_memory_desc_t matrix_desc;
#define DESC_POINTER(d) (&(d))
#endif

static bool describe(matrix_desc *out, int64_t rows, int64_t cols, int64_t ld, bool transposed, int32_t type)
{
    dnnl_dims_t dims = {rows, cols}, strides = {transposed ? 1 : ld, transposed ? ld : 1};
    dnnl_data_type_t kind = type == DTYPE_BF16 ? dnnl_bf16 : dnnl_f32;
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_strides(out, 2, dims, kind, strides) == dnnl_success;
#else
    return dnnl_memory_desc_init_by_strides(out, 2, dims, kind, strides) == dnnl_success;
#endif
}

/* alpha as a linear eltwise, beta C as a sum: the same in both APIs. */
static bool scales(dnnl_primitive_attr_t *out, float alpha, float beta)
{
    dnnl_post_ops_t post = NULL;
    bool good =
        dnnl_primitive_attr_create(out) == dnnl_success && dnnl_post_ops_create(&post) == dnnl_success;
#if DNNL_VERSION_MAJOR >= 3
    if (good && alpha != 1)
        good = dnnl_post_ops_append_eltwise(post, dnnl_eltwise_linear, alpha, 0) == dnnl_success;
    if (good && beta != 0)
        good = dnnl_post_ops_append_sum(post, beta, 0, dnnl_data_type_undef) == dnnl_success;
#else
    if (good && alpha != 1)
        good = dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_linear, alpha, 0) == dnnl_success;
    if (good && beta != 0)
        good = dnnl_post_ops_append_sum(post, beta) == dnnl_success;
#endif
    if (good)
        good = dnnl_primitive_attr_set_post_ops(*out, post) == dnnl_success;
    if (post)
        dnnl_post_ops_destroy(post);
    return good;
}

static bool product_build(product *p)
{
    const product_key *key = &p->key;
    matrix_desc a, b, c;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    memset(&c, 0, sizeof c);
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t desc = NULL;
    const char *name = "";
    bool good = describe(&a, key->m, key->k, key->lda, key->trans_a, key->ab_type) &&
                describe(&b, key->k, key->n, key->ldb, key->trans_b, key->ab_type) &&
                describe(&c, key->m, key->n, key->ldc, false, key->c_type) &&
                scales(&attributes, key->alpha, key->beta);
#if DNNL_VERSION_MAJOR >= 3
    good =
        good && dnnl_matmul_primitive_desc_create(&desc, engine, a, b, NULL, c, attributes) == dnnl_success;
#else
    dnnl_matmul_desc_t operation;
    good = good && dnnl_matmul_desc_init(&operation, &a, &b, NULL, &c) == dnnl_success &&
           dnnl_primitive_desc_create(&desc, &operation, attributes, engine, NULL) == dnnl_success;
#endif
    good = good && dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &name) == dnnl_success &&
           !strstr(name, "ref") && dnnl_primitive_create(&p->primitive, desc) == dnnl_success &&
           dnnl_memory_create(&p->a, DESC_POINTER(a), engine, DNNL_MEMORY_NONE) == dnnl_success &&
           dnnl_memory_create(&p->b, DESC_POINTER(b), engine, DNNL_MEMORY_NONE) == dnnl_success &&
           dnnl_memory_create(&p->c, DESC_POINTER(c), engine, DNNL_MEMORY_NONE) == dnnl_success;
    if (desc)
        dnnl_primitive_desc_destroy(desc);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
#if DNNL_VERSION_MAJOR >= 3
    if (a)
        dnnl_memory_desc_destroy(a);
    if (b)
        dnnl_memory_desc_destroy(b);
    if (c)
        dnnl_memory_desc_destroy(c);
#endif
    return good;
}

static product *product_find(const product_key *key)
{
    product *oldest = &products[0];
    for (int i = 0; i < PRODUCTS; i++) {
        product *p = &products[i];
        /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): zeroed, without padding, and 0 != -0 costs a miss */
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

bool cpu_gemm_primitive(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                        const void *a, int64_t lda, const void *b, int64_t ldb, dtype ab_type, float beta,
                        void *c, dtype c_type, int64_t ldc)
{
    product_key key;
    memset(&key, 0, sizeof key);
    key.m = m, key.n = n, key.k = k, key.lda = lda, key.ldb = ldb, key.ldc = ldc;
    key.alpha = alpha, key.beta = beta, key.trans_a = trans_a, key.trans_b = trans_b;
    key.ab_type = (int32_t)ab_type, key.c_type = (int32_t)c_type;
    bool done = false;
    pthread_mutex_lock(&lock);
    if (!engine && dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success)
        engine = NULL;
    if (engine && !order && dnnl_stream_create(&order, engine, dnnl_stream_default_flags) != dnnl_success)
        order = NULL;
    if (engine && order) {
        product *p = product_find(&key);
        p->used = ++uses;
        /* The handles are not written through for a and b; the API has no const form. */
        done = !p->refused && dnnl_memory_set_data_handle(p->a, (void *)(uintptr_t)a) == dnnl_success &&
               dnnl_memory_set_data_handle(p->b, (void *)(uintptr_t)b) == dnnl_success &&
               dnnl_memory_set_data_handle(p->c, c) == dnnl_success;
        if (done) {
            dnnl_exec_arg_t arguments[] = {
                {DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}};
            done = dnnl_primitive_execute(p->primitive, order, 3, arguments) == dnnl_success &&
                   dnnl_stream_wait(order) == dnnl_success;
        }
    }
    pthread_mutex_unlock(&lock);
    return done;
}

#endif
