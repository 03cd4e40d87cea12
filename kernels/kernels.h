/* The CUDA table's functions, one file per op family, the twins of src/device/cpu (contracts: device/ops.h).
 *
 * A launcher checks its shapes, launches and returns; what went wrong on the card is reported by the next operation
 * that waits. Operations with a result on the host wait for it. */
#ifndef SC_KERNELS_KERNELS_H
#define SC_KERNELS_KERNELS_H

extern "C" {
#include "device/ops.h"

/* memory.cu */
sc_status cuda_alloc(void **out, size_t bytes);
void cuda_release(void *pointer);
sc_status cuda_upload(stream *s, void *to, const void *host, size_t bytes);
sc_status cuda_download(stream *s, void *host, const void *from, size_t bytes);
sc_status cuda_fill_zero(stream *s, void *to, size_t bytes);
sc_status cuda_synchronise(stream *s);
sc_status cuda_memory_left(size_t *left, size_t *all);
sc_status cuda_alloc_pinned(void **out, size_t bytes);
void cuda_release_pinned(void *pointer);
sc_status cuda_stream_open(stream **out);
void cuda_stream_close(stream *s);
sc_status cuda_stream_wait(stream *s, stream *other);

/* tensor.cu */
sc_status cuda_cast(stream *s, void *dst, dtype dst_type, const void *src, dtype src_type, int64_t n);
sc_status cuda_add(stream *s, void *y, dtype y_type, const void *x, dtype x_type, float alpha, int64_t n);
sc_status cuda_gather_rows(stream *s, void *dst, const void *src, const int32_t *rows, int64_t n_rows,
                           int64_t dim, int64_t src_ld, dtype type);
sc_status cuda_scatter_rows(stream *s, void *dst, const void *src, const int32_t *rows, int64_t n_rows,
                            int64_t dim, int64_t dst_ld, dtype type);
sc_status cuda_pool_rows(stream *s, float *out, const void *x, dtype type, const int32_t *cu_seqlens,
                         int64_t n_seqs, int64_t dim, pooling how);

/* embedding.cu */
sc_status cuda_embedding_forward(stream *s, void *out, dtype out_type, const void *table, dtype table_type,
                                 const int32_t *ids, int64_t n, int64_t dim, float scale);
sc_status cuda_embedding_backward(stream *s, float *dtable, const void *dout, dtype dout_type,
                                  const int32_t *ids, int64_t n, int64_t vocab, int64_t dim, int32_t skip_id,
                                  float scale, void *workspace);
size_t cuda_embedding_backward_workspace(int64_t n, int64_t vocab, int64_t dim);

/* bias.cu */
sc_status cuda_bias_forward(stream *s, void *y, const void *b, dtype type, int64_t n, int64_t dim);
sc_status cuda_bias_backward(stream *s, float *db, const void *dy, dtype type, int64_t n, int64_t dim);

/* norm.cu */
sc_status cuda_rmsnorm_forward(stream *s, void *y, float *rstd, const void *x, const void *w, dtype type,
                               dtype w_type, int64_t n, int64_t dim, float eps, float shift);
sc_status cuda_rmsnorm_backward(stream *s, void *dx, bool accumulate_dx, float *dw, const void *dy,
                                const void *x, const void *w, const float *rstd, dtype type, dtype w_type,
                                int64_t n, int64_t dim, float shift, void *workspace);
size_t cuda_rmsnorm_backward_workspace(int64_t n, int64_t dim);

/* rope.cu */
sc_status cuda_rope(stream *s, void *x, dtype type, const int32_t *positions, const float *inv_freq,
                    int64_t n, int32_t n_heads, int32_t head_dim, int64_t ld, bool inverse);

/* glu.cu */
sc_status cuda_glu_forward(stream *s, void *y, const void *gate, const void *up, dtype type, int64_t n,
                           activation act);
sc_status cuda_glu_backward(stream *s, void *dgate, void *dup, const void *dy, const void *gate,
                            const void *up, dtype type, int64_t n, activation act);

/* optimizer.cu */
sc_status cuda_adamw(stream *s, float *master, void *weights_bf16, const float *grad, float *m, float *v,
                     int64_t n, const adamw_options *options);
sc_status cuda_square_sum(stream *s, double *out, const float *x, int64_t n);

/* gemm.cu */
sc_status cuda_gemm(stream *s, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                    const void *a, dtype a_type, int64_t lda, const void *b, dtype b_type, int64_t ldb,
                    float beta, void *c, dtype c_type, int64_t ldc);

/* gemm_lt.cu */
const char *cuda_gemm_library(void);

/* cluster.cu, cluster_update.cu, cluster_softmax.cu */
sc_status cuda_cluster_assign(stream *s, int32_t *labels, float *dist2, const float *x, const float *centres,
                              int64_t n, int64_t k, int64_t dim, void *workspace);
size_t cuda_cluster_assign_workspace(int64_t n, int64_t k, int64_t dim);
sc_status cuda_cluster_update(stream *s, double *sums, int64_t *counts, int32_t *summed, exact_grid grid,
                              const float *x, const int32_t *labels, int64_t n, int64_t k, int64_t dim);
sc_status cuda_cluster_softmax(stream *s, double *p, double *entropy, const float *x, const float *centres,
                               int64_t n, int64_t k, int64_t dim, double temperature, void *workspace);
size_t cuda_cluster_softmax_workspace(int64_t n, int64_t k, int64_t dim);

/* nearest.cu */
sc_status cuda_nearest_update(stream *s, double *dist2, const nearest_rows *rows, int64_t n,
                              const nearest_rows *centres, const int32_t *from, int64_t to, int64_t dim);

/* divergence.cu */
sc_status cuda_js_to_mean(stream *s, double *js, const double *p, const double *q, int64_t n, int64_t k);

/* design_flush.cu, design_bounds.cu, design_pool.cu, design_bait.cu */
sc_status cuda_design_flush(stream *s, double *gains, double *slack, const double *norms, const float *x,
                            const float *w, int64_t n, int64_t dim, int64_t b, double w_norm);
sc_status cuda_design_pool(stream *s, design_pool *p, void *workspace);
sc_status cuda_design_peaks(stream *s, double *peaks, const double *gains, const double *slack, int64_t n,
                            int64_t segment);
sc_status cuda_design_above(stream *s, int64_t *n_above, int32_t *rows, double *top_gains, double *top_slack,
                            const double *gains, const double *slack, int64_t n, double floor, int64_t most,
                            void *workspace);
size_t cuda_design_above_workspace(int64_t n);
sc_status cuda_design_put(stream *s, double *gains, double *slack, const int32_t *rows,
                          const double *new_gains, const double *new_slack, int64_t m);
size_t cuda_design_pool_workspace(int64_t m, int64_t dim, int64_t most);
sc_status cuda_design_bait(stream *s, double *a, double *b, const float *x, const double *u, const double *v,
                           int64_t n, int64_t dim, double scale, double gamma);

/* factor.cu, quadratic.cu */
sc_status cuda_rank_update(stream *s, double *a, const double *w, int64_t dim, int64_t b, double sign);
sc_status cuda_cholesky(stream *s, double *l, const double *a, int64_t dim, bool *definite);
sc_status cuda_cholesky_inverse(stream *s, double *inverse, const double *l, int64_t dim, void *workspace);
size_t cuda_cholesky_inverse_workspace(int64_t dim);
sc_status cuda_quadratic_forms(stream *s, double *out, const float *x, const double *a, int64_t n,
                               int64_t dim);
sc_status cuda_sandwich(stream *s, double *b, const double *a, const double *f, int64_t dim, void *workspace);
size_t cuda_sandwich_workspace(int64_t dim);

/* attention.cu, attention_backward.cu, attention_cached.cu */
sc_status cuda_attention_forward(stream *s, void *out, float *lse, const void *q, const void *k,
                                 const void *v, dtype type, const attention_shape *shape, void *workspace);
size_t cuda_attention_forward_workspace(const attention_shape *shape);
sc_status cuda_attention_backward(stream *s, void *dq, void *dk, void *dv, const void *dout, const void *out,
                                  const float *lse, const void *q, const void *k, const void *v, dtype type,
                                  const attention_shape *shape, void *workspace);
size_t cuda_attention_backward_workspace(const attention_shape *shape);
sc_status cuda_attention_cached(stream *s, void *out, const void *q, const void *k_cache, const void *v_cache,
                                dtype type, const attention_cached_shape *shape, void *workspace);
size_t cuda_attention_cached_workspace(const attention_cached_shape *shape);

/* als.cu */
sc_status cuda_als_gram(stream *s, double *gram, const float *y, int64_t n, int64_t f, double lambda,
                        void *workspace);
size_t cuda_als_gram_workspace(int64_t n, int64_t f);
sc_status cuda_als_solve(stream *s, float *x, const float *y, const double *gram, const int64_t *offsets,
                         const int32_t *others, int64_t n, int64_t f, double confidence, void *workspace);
size_t cuda_als_solve_workspace(int64_t n, int64_t f);

/* loss.cu, sample.cu */
sc_status cuda_cross_entropy(stream *s, float *losses, void *logits, dtype type, const int32_t *targets,
                             int64_t n, int64_t vocab, float scale, float soft_cap, bool backward);
sc_status cuda_cap_logits(stream *s, float *logits, int64_t n, float cap);
sc_status cuda_sample_rows(stream *s, int32_t *ids, float *logprobs, const void *logits, dtype type,
                           int64_t n, int64_t vocab, const sample_options *options, const uint64_t *keys);
sc_status cuda_penalise_rows(stream *s, float *logits, int64_t n, int64_t vocab, float penalty,
                             const int32_t *ids, const int64_t *offsets);
sc_status cuda_gather_logprobs(stream *s, float *out, const void *logits, dtype type, int64_t n_rows,
                               int64_t vocab, const int32_t *rows, const int32_t *ids, int64_t n);

/* lora.cu, dora.cu */
sc_status cuda_lora_forward(stream *s, void *y, dtype y_type, float *xa, const void *x, dtype x_type,
                            const float *a, const float *b, int64_t n, int64_t in, int64_t out, int64_t rank,
                            float scaling, float dropout, uint64_t seed, const uint64_t *row_keys,
                            uint32_t step, void *workspace);
size_t cuda_lora_workspace(int64_t n, int64_t in, int64_t out, int64_t rank, float dropout);
sc_status cuda_lora_backward(stream *s, void *dx, dtype dx_type, float *da, float *db, const void *dy,
                             dtype dy_type, const float *xa, const void *x, dtype x_type, const float *a,
                             const float *b, int64_t n, int64_t in, int64_t out, int64_t rank, float scaling,
                             float dropout, uint64_t seed, const uint64_t *row_keys, uint32_t step,
                             void *workspace);
sc_status cuda_dora_norm(stream *s, float *norm, const void *w, dtype w_type, const float *a, const float *b,
                         int64_t in, int64_t out, int64_t rank, float scaling, void *workspace);
size_t cuda_dora_norm_workspace(int64_t in, int64_t out);
sc_status cuda_dora_forward(stream *s, void *y, bool accumulate, const void *x, dtype type,
                            const float *magnitude, const float *norm, int64_t n, int64_t out);
sc_status cuda_dora_backward(stream *s, void *dx, float *dmagnitude, const void *dy, const void *x,
                             dtype type, const float *magnitude, const float *norm, int64_t n, int64_t out);
}

#endif
