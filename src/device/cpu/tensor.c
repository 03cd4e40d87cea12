/* tensor: memory, casts, sums, rows moved by index, pooling. */
#include <stdlib.h>
#include <sys/mman.h>

#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

/* Large blocks lie in huge pages: a pass over the weights shall wait for memory, not for page tables as well. Under a
 * sanitizer none does, for it sees what lies beyond a block's end, not beyond its last byte in use. */
enum { HUGE_PAGE = 2 << 20 };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const size_t HUGE_FROM = SIZE_MAX;
#else
static const size_t HUGE_FROM = 16 << 20;
#endif

sc_status cpu_alloc(void **out, size_t bytes)
{
    *out = NULL;
    if (bytes > (size_t)1 << 56) /* more than any x86-64 can address */
        return sc_fail(SC_MEMORY, "cannot allocate %zu bytes; use a smaller batch or model", bytes);
    const size_t alignment = bytes >= HUGE_FROM ? HUGE_PAGE : 64;
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    *out = aligned_alloc(alignment, rounded ? rounded : alignment);
    if (!*out)
        return sc_fail(SC_MEMORY, "cannot allocate %zu bytes; use a smaller batch or model", bytes);
    if (alignment == HUGE_PAGE)
        (void)madvise(*out, rounded, MADV_HUGEPAGE); /* advice: where there are none, nothing is lost */
    return SC_OK;
}

void cpu_release(void *pointer)
{
    free(pointer);
}

sc_status cpu_upload(stream *s, void *to, const void *host, size_t bytes)
{
    (void)s;
    if (bytes)
        memmove(to, host, bytes);
    return SC_OK;
}

sc_status cpu_download(stream *s, void *host, const void *from, size_t bytes)
{
    return cpu_upload(s, host, from, bytes);
}

sc_status cpu_fill_zero(stream *s, void *to, size_t bytes)
{
    (void)s;
    enum { PIECE = 1 << 20 };
    int64_t pieces = (int64_t)((bytes + PIECE - 1) / PIECE);
#pragma omp parallel for schedule(static) num_threads(cpu_team((int64_t)bytes / 16, pieces))
    for (int64_t i = 0; i < pieces; i++) {
        size_t from = (size_t)i * PIECE;
        memset((char *)to + from, 0, bytes - from < PIECE ? bytes - from : PIECE);
    }
    return SC_OK;
}

sc_status cpu_synchronise(stream *s)
{
    (void)s;
    return SC_OK;
}

static int64_t blocks_of(int64_t n)
{
    return (n + ROW_BLOCK - 1) / ROW_BLOCK;
}

sc_status cpu_cast(stream *s, void *dst, dtype dst_type, const void *src, dtype src_type, int64_t n)
{
    (void)s;
    int64_t blocks = blocks_of(n);
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, blocks))
    for (int64_t b = 0; b < blocks; b++) {
        int64_t from = b * ROW_BLOCK, part = row_part(n, from);
        if (dst_type == src_type)
            memcpy(at(dst, dst_type, from), at_const(src, src_type, from),
                   (size_t)part * dtype_size(dst_type));
        else if (dst_type == DTYPE_F32)
            widen((float *)dst + from, (const uint16_t *)src + from, part);
        else
            narrow((uint16_t *)dst + from, (const float *)src + from, part);
    }
    return SC_OK;
}

sc_status cpu_add(stream *s, void *y, dtype y_type, const void *x, dtype x_type, float alpha, int64_t n)
{
    (void)s;
    int64_t blocks = blocks_of(n);
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, blocks))
    for (int64_t b = 0; b < blocks; b++) {
        int64_t from = b * ROW_BLOCK, part = row_part(n, from);
        float xs[ROW_BLOCK], ys[ROW_BLOCK];
        const float *xf = row_load(x, x_type, from, part, xs);
        float *yf = row_target(y, y_type, from, ys);
        if (y_type != DTYPE_F32)
            row_load(y, y_type, from, part, ys);
        for (int64_t i = 0; i < part; i++)
            yf[i] += alpha * xf[i];
        row_commit(y, y_type, from, part, ys);
    }
    return SC_OK;
}

sc_status cpu_gather_rows(stream *s, void *dst, const void *src, const int32_t *rows, int64_t n_rows,
                          int64_t dim, int64_t src_ld, dtype type)
{
    (void)s;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n_rows *dim, n_rows))
    for (int64_t i = 0; i < n_rows; i++)
        memcpy(at(dst, type, i * dim), at_const(src, type, rows[i] * src_ld), (size_t)dim * dtype_size(type));
    return SC_OK;
}

sc_status cpu_scatter_rows(stream *s, void *dst, const void *src, const int32_t *rows, int64_t n_rows,
                           int64_t dim, int64_t dst_ld, dtype type)
{
    (void)s;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n_rows *dim, n_rows))
    for (int64_t i = 0; i < n_rows; i++)
        memcpy(at(dst, type, rows[i] * dst_ld), at_const(src, type, i * dim), (size_t)dim * dtype_size(type));
    return SC_OK;
}

sc_status cpu_pool_rows(stream *s, float *out, const void *x, dtype type, const int32_t *cu_seqlens,
                        int64_t n_seqs, int64_t dim, pooling how)
{
    (void)s;
    int64_t columns = blocks_of(dim), tasks = n_seqs * columns;
    int64_t work = n_seqs > 0 ? (int64_t)cu_seqlens[n_seqs] * dim : 0;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(work, tasks))
    for (int64_t t = 0; t < tasks; t++) {
        int64_t seq = t / columns, from = t % columns * ROW_BLOCK, part = row_part(dim, from);
        int64_t first = cu_seqlens[seq], last = cu_seqlens[seq + 1];
        double sums[ROW_BLOCK] = {0};
        float scratch[ROW_BLOCK], *y = out + seq * dim + from;
        if (how == POOL_LAST && last > first)
            first = last - 1;
        for (int64_t row = first; row < last; row++) {
            const float *values = row_load(x, type, row * dim + from, part, scratch);
            for (int64_t i = 0; i < part; i++)
                sums[i] += values[i];
        }
        /* An empty sequence pools to zeros. */
        double scale = last > first ? 1.0 / (double)(last - first) : 0.0;
        for (int64_t i = 0; i < part; i++)
            y[i] = (float)(sums[i] * scale);
    }
    return SC_OK;
}
