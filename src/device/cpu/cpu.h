/* The CPU table's functions, one file per op family (contracts: device/ops.h). */
#ifndef SC_DEVICE_CPU_CPU_H
#define SC_DEVICE_CPU_CPU_H

#include "device/ops.h"

/* table.c: this build's. device.c chooses. */
const ops *cpu_table(void);
const ops *cpu_table_avx512(void);

/* tensor.c */
sc_status cpu_alloc(void **out, size_t bytes);
void cpu_release(void *pointer);
sc_status cpu_upload(stream *s, void *to, const void *host, size_t bytes);
sc_status cpu_download(stream *s, void *host, const void *from, size_t bytes);
sc_status cpu_fill_zero(stream *s, void *to, size_t bytes);
sc_status cpu_synchronise(stream *s);
sc_status cpu_cast(stream *s, void *dst, dtype dst_type, const void *src, dtype src_type, int64_t n);
sc_status cpu_add(stream *s, void *y, dtype y_type, const void *x, dtype x_type, float alpha, int64_t n);
sc_status cpu_gather_rows(stream *s, void *dst, const void *src, const int32_t *rows, int64_t n_rows,
                          int64_t dim, int64_t src_ld, dtype type);
sc_status cpu_scatter_rows(stream *s, void *dst, const void *src, const int32_t *rows, int64_t n_rows,
                           int64_t dim, int64_t dst_ld, dtype type);
sc_status cpu_pool_rows(stream *s, float *out, const void *x, dtype type, const int32_t *cu_seqlens,
                        int64_t n_seqs, int64_t dim, pooling how);

/* embedding.c */
sc_status cpu_embedding_forward(stream *s, void *out, dtype out_type, const void *table, dtype table_type,
                                const int32_t *ids, int64_t n, int64_t dim, float scale);
sc_status cpu_embedding_backward(stream *s, float *dtable, const void *dout, dtype dout_type,
                                 const int32_t *ids, int64_t n, int64_t vocab, int64_t dim, int32_t skip_id,
                                 float scale, void *workspace);
size_t cpu_embedding_backward_workspace(int64_t n, int64_t vocab, int64_t dim);

/* gemm.c, gemm_onednn.c, gemv.c, gemv_bf16.c, gemv_amx.c */
sc_status cpu_gemm(stream *s, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                   const void *a, dtype a_type, int64_t lda, const void *b, dtype b_type, int64_t ldb,
                   float beta, void *c, dtype c_type, int64_t ldc);
/* The plain blocked product: any mix of types, any processor with AVX2. */
void cpu_gemm_plain(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const void *a,
                    dtype a_type, int64_t lda, const void *b, dtype b_type, int64_t ldb, float beta, void *c,
                    dtype c_type, int64_t ldc);
/* A oneDNN matmul primitive; a and b of one type. False if oneDNN offers none for this call. */
bool cpu_gemm_primitive(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                        const void *a, int64_t lda, const void *b, int64_t ldb, dtype ab_type, float beta,
                        void *c, dtype c_type, int64_t ldc);
/* oneDNN's sgemm; false if it refuses. */
bool cpu_gemm_sgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
/* c = alpha a b^T + beta c for any m; up to GEMV_ROWS rows it beats sgemm, which packs b first. */
enum { GEMV_ROWS = 16 };
void cpu_gemv_rows(int64_t m, int64_t n, int64_t k, float alpha, const void *x, dtype x_type, int64_t ldx,
                   const void *w, dtype w_type, int64_t ldw, float beta, void *c, dtype c_type, int64_t ldc);
/* The same for bf16, where cpu_has_avx512_bf16(); false if it was not compiled. Up to GEMV_BF16_ROWS rows it beats
 * both the plain product and the primitive. */
enum { GEMV_BF16_ROWS = 24 };
bool cpu_gemv_bf16(int64_t m, int64_t n, int64_t k, float alpha, const uint16_t *x, int64_t ldx,
                   const uint16_t *w, int64_t ldw, float beta, void *c, dtype c_type, int64_t ldc);
/* The same by AMX, where cpu_has_amx(); false if it does not take the shape, or has no memory for x. From GEMV_AMX_LEAST rows up
 * to GEMV_AMX_ROWS it beats those and the primitive. */
enum { GEMV_AMX_LEAST = 5, GEMV_AMX_ROWS = 64 };
bool cpu_gemv_amx(int64_t m, int64_t n, int64_t k, float alpha, const uint16_t *x, int64_t ldx,
                  const uint16_t *w, int64_t ldw, float beta, void *c, dtype c_type, int64_t ldc);

/* bias.c */
sc_status cpu_bias_forward(stream *s, void *y, const void *b, dtype type, int64_t n, int64_t dim);
sc_status cpu_bias_backward(stream *s, float *db, const void *dy, dtype type, int64_t n, int64_t dim);

/* norm.c */
sc_status cpu_rmsnorm_forward(stream *s, void *y, float *rstd, const void *x, const void *w, dtype type,
                              dtype w_type, int64_t n, int64_t dim, float eps, float shift);
sc_status cpu_rmsnorm_backward(stream *s, void *dx, bool accumulate_dx, float *dw, const void *dy,
                               const void *x, const void *w, const float *rstd, dtype type, dtype w_type,
                               int64_t n, int64_t dim, float shift, void *workspace);
size_t cpu_rmsnorm_backward_workspace(int64_t n, int64_t dim);

/* rope.c */
sc_status cpu_rope(stream *s, void *x, dtype type, const int32_t *positions, const float *inv_freq, int64_t n,
                   int32_t n_heads, int32_t head_dim, int64_t ld, bool inverse);

/* attention.c, attention_backward.c, attention_cached.c */
sc_status cpu_attention_forward(stream *s, void *out, float *lse, const void *q, const void *k, const void *v,
                                dtype type, const attention_shape *shape, void *workspace);
size_t cpu_attention_forward_workspace(const attention_shape *shape);
sc_status cpu_attention_backward(stream *s, void *dq, void *dk, void *dv, const void *dout, const void *out,
                                 const float *lse, const void *q, const void *k, const void *v, dtype type,
                                 const attention_shape *shape, void *workspace);
size_t cpu_attention_backward_workspace(const attention_shape *shape);
sc_status cpu_attention_cached(stream *s, void *out, const void *q, const void *k_cache, const void *v_cache,
                               dtype type, const attention_cached_shape *shape, void *workspace);
size_t cpu_attention_cached_workspace(const attention_cached_shape *shape);
/* attention_amx.c, attention_backward_amx.c: the same for bf16, where attention_takes_amx(). Shapes are as attention_check
 * passes them. */
bool attention_takes_amx(const attention_shape *shape);
void amx_attention_forward(uint16_t *out, float *lse, const uint16_t *q, const uint16_t *k, const uint16_t *v,
                           const attention_shape *shape, void *workspace);
size_t amx_attention_forward_workspace(const attention_shape *shape);
void amx_attention_backward(uint16_t *dq, uint16_t *dk, uint16_t *dv, const uint16_t *dout,
                            const uint16_t *out, const float *lse, const uint16_t *q, const uint16_t *k,
                            const uint16_t *v, const attention_shape *shape, void *workspace);
size_t amx_attention_backward_workspace(const attention_shape *shape);

/* glu.c */
sc_status cpu_glu_forward(stream *s, void *y, const void *gate, const void *up, dtype type, int64_t n,
                          activation act);
sc_status cpu_glu_backward(stream *s, void *dgate, void *dup, const void *dy, const void *gate,
                           const void *up, dtype type, int64_t n, activation act);

/* loss.c */
sc_status cpu_cross_entropy(stream *s, float *losses, void *logits, dtype type, const int32_t *targets,
                            int64_t n, int64_t vocab, float scale, float soft_cap, bool backward);
sc_status cpu_cap_logits(stream *s, float *logits, int64_t n, float cap);

/* optimizer.c */
sc_status cpu_adamw(stream *s, float *master, void *weights_bf16, const float *grad, float *m, float *v,
                    int64_t n, const adamw_options *options);
sc_status cpu_square_sum(stream *s, double *out, const float *x, int64_t n);

/* lora.c */
sc_status cpu_lora_forward(stream *s, void *y, dtype y_type, float *xa, const void *x, dtype x_type,
                           const float *a, const float *b, int64_t n, int64_t in, int64_t out, int64_t rank,
                           float scaling, float dropout, uint64_t seed, const uint64_t *row_keys,
                           uint32_t step, void *workspace);
size_t cpu_lora_workspace(int64_t n, int64_t in, int64_t out, int64_t rank, float dropout);
sc_status cpu_lora_backward(stream *s, void *dx, dtype dx_type, float *da, float *db, const void *dy,
                            dtype dy_type, const float *xa, const void *x, dtype x_type, const float *a,
                            const float *b, int64_t n, int64_t in, int64_t out, int64_t rank, float scaling,
                            float dropout, uint64_t seed, const uint64_t *row_keys, uint32_t step,
                            void *workspace);

/* lora_amx.c: its products for bf16, where lora_takes_amx(). The adapter m, of floats, is [rank][width], or [width][rank]; `at` is
 * not read where m is a result. */
typedef struct amx_adapter {
    const float *at;
    int64_t width, rank;
    bool rank_in_rows;
} amx_adapter;
bool lora_takes_amx(int64_t n, int64_t in, int64_t out, int64_t rank);
size_t amx_lora_workspace(int64_t n, int64_t in, int64_t out, int64_t rank);
/* narrow [n][rank] = factor wide [n][width] m */
void amx_lora_down(float *narrow, const uint16_t *wide, const amx_adapter *m, int64_t n, float factor,
                   void *workspace);
/* wide [n][width] += factor narrow m for bf16, = for floats */
void amx_lora_up(void *wide, dtype type, const float *narrow, const amx_adapter *m, int64_t n, float factor,
                 void *workspace);
/* m += factor narrow^T wide */
void amx_lora_gradient(float *m, const amx_adapter *shape, const float *narrow, const uint16_t *wide,
                       int64_t n, float factor, void *workspace);

/* dora.c */
sc_status cpu_dora_norm(stream *s, float *norm, const void *w, dtype w_type, const float *a, const float *b,
                        int64_t in, int64_t out, int64_t rank, float scaling, void *workspace);
size_t cpu_dora_norm_workspace(int64_t in, int64_t out);
sc_status cpu_dora_forward(stream *s, void *y, bool accumulate, const void *x, dtype type,
                           const float *magnitude, const float *norm, int64_t n, int64_t out);
sc_status cpu_dora_backward(stream *s, void *dx, float *dmagnitude, const void *dy, const void *x, dtype type,
                            const float *magnitude, const float *norm, int64_t n, int64_t out);

/* sample.c */
sc_status cpu_sample_rows(stream *s, int32_t *ids, float *logprobs, const void *logits, dtype type, int64_t n,
                          int64_t vocab, const sample_options *options, const uint64_t *keys);
sc_status cpu_penalise_rows(stream *s, float *logits, int64_t n, int64_t vocab, float penalty,
                            const int32_t *ids, const int64_t *offsets);
sc_status cpu_gather_logprobs(stream *s, float *out, const void *logits, dtype type, int64_t n_rows,
                              int64_t vocab, const int32_t *rows, const int32_t *ids, int64_t n);

/* cluster_assign.c, cluster_update.c, cluster.c, divergence.c */
sc_status cpu_cluster_assign(stream *s, int32_t *labels, float *dist2, const float *x, const float *centres,
                             int64_t n, int64_t k, int64_t dim, void *workspace);
size_t cpu_cluster_assign_workspace(int64_t n, int64_t k, int64_t dim);
sc_status cpu_cluster_reassign(stream *s, int32_t *labels, float *dist2, const cluster_bounds *b,
                               const float *x, const float *centres, int64_t n, int64_t k, int64_t dim,
                               void *workspace);
sc_status cpu_cluster_update(stream *s, double *sums, int64_t *counts, int32_t *summed, exact_grid grid,
                             const float *x, const int32_t *labels, int64_t n, int64_t k, int64_t dim);
sc_status cpu_cluster_softmax(stream *s, double *p, double *entropy, const float *x, const float *centres,
                              int64_t n, int64_t k, int64_t dim, double temperature, void *workspace);
size_t cpu_cluster_softmax_workspace(int64_t n, int64_t k, int64_t dim);
sc_status cpu_js_to_mean(stream *s, double *js, const double *p, const double *q, int64_t n, int64_t k);

/* nearest.c */
sc_status cpu_nearest_update(stream *s, double *dist2, const nearest_rows *rows, int64_t n,
                             const nearest_rows *centres, const int32_t *from, int64_t to, int64_t dim);
sc_status cpu_nearest_update_apart(stream *s, double *dist2, int32_t *owner, const nearest_rows *rows,
                                   int64_t n, const nearest_rows *centres, const centres_apart *apart,
                                   const int32_t *from, int64_t to, int64_t dim);

/* design_flush.c, design_pool.c, design_bait.c */
sc_status cpu_design_flush(stream *s, double *gains, double *slack, const double *norms, const float *x,
                           const float *w, int64_t n, int64_t dim, int64_t b, double w_norm);
sc_status cpu_design_pool(stream *s, design_pool *p, void *workspace);
size_t cpu_design_pool_workspace(int64_t m, int64_t dim, int64_t most);
sc_status cpu_design_bait(stream *s, double *a, double *b, const float *x, const double *u, const double *v,
                          int64_t n, int64_t dim, double scale, double gamma);

/* factor.c */
sc_status cpu_rank_update(stream *s, double *a, const double *w, int64_t dim, int64_t b, double sign);
sc_status cpu_cholesky(stream *s, double *l, const double *a, int64_t dim, bool *definite);
sc_status cpu_cholesky_inverse(stream *s, double *inverse, const double *l, int64_t dim, void *workspace);
size_t cpu_cholesky_inverse_workspace(int64_t dim);

/* quadratic.c */
sc_status cpu_quadratic_forms(stream *s, double *out, const float *x, const double *a, int64_t n,
                              int64_t dim);
sc_status cpu_sandwich(stream *s, double *b, const double *a, const double *f, int64_t dim, void *workspace);
size_t cpu_sandwich_workspace(int64_t dim);

/* als.c */
sc_status cpu_als_gram(stream *s, double *gram, const float *y, int64_t n, int64_t f, double lambda,
                       void *workspace);
size_t cpu_als_gram_workspace(int64_t n, int64_t f);
sc_status cpu_als_solve(stream *s, float *x, const float *y, const double *gram, const int64_t *offsets,
                        const int32_t *others, int64_t n, int64_t f, double confidence, void *workspace);
size_t cpu_als_solve_workspace(int64_t n, int64_t f);

#endif
