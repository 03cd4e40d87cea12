/* embedding: rows of a table by token id, and the gradient of the table. */
#include "device/cpu/cpu.h"
#include "device/cpu/rows.h"

static void scale_row(void *out, dtype out_type, int64_t to, const void *table, dtype table_type,
                      int64_t first, int64_t dim, float scale)
{
    float values[ROW_BLOCK], scaled[ROW_BLOCK];
    for (int64_t from = 0; from < dim; from += ROW_BLOCK) {
        const int64_t part = row_part(dim, from);
        const float *x = row_load(table, table_type, first + from, part, values);
        float *y = row_target(out, out_type, to + from, scaled);
        for (int64_t i = 0; i < part; i++)
            y[i] = scale * x[i];
        row_commit(out, out_type, to + from, part, scaled);
    }
}

sc_status cpu_embedding_forward(stream *s, void *out, dtype out_type, const void *table, dtype table_type,
                                const int32_t *ids, int64_t n, int64_t dim, float scale)
{
    (void)s;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n *dim, n))
    for (int64_t i = 0; i < n; i++) {
        int64_t from = ids[i] * dim, to = i * dim;
        if (scale != 1)
            scale_row(out, out_type, to, table, table_type, from, dim, scale);
        else if (out_type == table_type)
            memcpy(at(out, out_type, to), at_const(table, table_type, from),
                   (size_t)dim * dtype_size(out_type));
        else if (out_type == DTYPE_F32)
            widen((float *)out + to, (const uint16_t *)table + from, dim);
        else
            narrow((uint16_t *)out + to, (const float *)table + from, dim);
    }
    return SC_OK;
}

/* Every task owns a residue class of ids and walks all rows, so each table row is summed in order of i
 * whatever the number of threads. */
sc_status cpu_embedding_backward(stream *s, float *dtable, const void *dout, dtype dout_type,
                                 const int32_t *ids, int64_t n, int64_t vocab, int64_t dim, int32_t skip_id,
                                 float scale, void *workspace)
{
    (void)s;
    (void)workspace;
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return sc_fail(SC_INTERNAL, "embedding_backward: id %d of row %lld is outside 0..%lld",
                           (int)ids[i], (long long)i, (long long)vocab - 1);
    int team = cpu_team(n * dim, n);
#pragma omp parallel for schedule(static) num_threads(team)
    for (int owner = 0; owner < team; owner++) {
        float scratch[ROW_BLOCK];
        for (int64_t i = 0; i < n; i++) {
            if (ids[i] % team != owner || ids[i] == skip_id)
                continue;
            float *restrict row = dtable + ids[i] * dim;
            for (int64_t from = 0; from < dim; from += ROW_BLOCK) {
                int64_t part = row_part(dim, from);
                const float *restrict values = row_load(dout, dout_type, i * dim + from, part, scratch);
                for (int64_t j = 0; j < part; j++)
                    row[from + j] += scale * values[j];
            }
        }
    }
    return SC_OK;
}

size_t cpu_embedding_backward_workspace(int64_t n, int64_t vocab, int64_t dim)
{
    (void)n;
    (void)vocab;
    (void)dim;
    return 0;
}
