/* The rows with the highest bounds. The peaks of short segments of rows give a floor that surely so many rows are above;
 * the rows above it are listed on the device. */
#include "select/top_rows.h"

#include <math.h>
#include <stdlib.h>

#include "select/order.h"

enum { SEGMENTS = 16384, FEWEST = 1024, MOST = 1 << 17 };

static bool here(const ops *table)
{
    return table->design_peaks && table->design_above && table->design_put;
}

static int64_t segment_of(int64_t n)
{
    return n / SEGMENTS + 1;
}

/* All rows of twice as many segments as are asked for: those above a floor lie in the ones with the highest peaks. */
static int64_t most_of(int64_t n, int64_t least)
{
    int64_t most = 2 * least * segment_of(n);
    most = most < FEWEST ? FEWEST : most > MOST ? MOST : most;
    return most < n ? most : n;
}

int64_t top_rows_bytes(const ops *table, int64_t n, int64_t least)
{
    const int64_t segments = (n + segment_of(n) - 1) / segment_of(n);
    return here(table) ? segments * (int64_t)(sizeof(double) + sizeof(int32_t)) +
                             most_of(n, least) * (int64_t)(sizeof(int32_t) + 2 * sizeof(double)) +
                             (int64_t)table->design_above_workspace(n)
                       : 0;
}

sc_status top_rows_open(const ops *table, resident *gains, resident *slack, int64_t least, top_rows *out)
{
    sc_status status = SC_OK;
    const int64_t n = (int64_t)(gains->bytes / sizeof(double)), segment = segment_of(n);
    const size_t segments = (size_t)((n + segment - 1) / segment), most = (size_t)most_of(n, least);
    *out = (top_rows){.gains = gains, .slack = slack, .n = n, .segment = segment, .most = (int64_t)most};
    if (!here(table))
        return SC_OK;
    out->ops = table;
    SC_TRY(sc_alloc(&out->peaks, segments, sizeof *out->peaks));
    SC_TRY(sc_alloc(&out->order, segments, sizeof *out->order));
    SC_TRY(sc_alloc(&out->rows, most, sizeof *out->rows));
    SC_TRY(sc_alloc(&out->of, 2 * most, sizeof *out->of));
    SC_TRY(resident_open(table, out->peaks, segments * sizeof *out->peaks, &out->d_peaks));
    SC_TRY(resident_open(table, out->rows, most * sizeof *out->rows, &out->d_rows));
    SC_TRY(resident_open(table, out->of, 2 * most * sizeof *out->of, &out->d_of));
    SC_TRY(resident_scratch(table, table->design_above_workspace(n), &out->d_work));
cleanup:
    return status;
}

static double peak_of(const void *context, int64_t segment)
{
    return ((const top_rows *)context)->peaks[segment];
}

/* The `least`-th highest peak: as many rows are above it, if not more. -infinity where there are fewer segments. */
static double find_floor(top_rows *t, int64_t least)
{
    const int64_t segments = (int64_t)(t->d_peaks.bytes / sizeof *t->peaks);
    double floor = INFINITY;
    if (segments < least)
        return -INFINITY;
    for (int64_t j = 0; j < segments; j++)
        t->order[j] = (int32_t)j;
    order_split(t->order, segments, least, peak_of, t);
    for (int64_t j = 0; j < least; j++)
        floor = t->peaks[t->order[j]] < floor ? t->peaks[t->order[j]] : floor;
    return floor;
}

/* Of the host's arrays, which are up to date. */
static int64_t list_open(const top_rows *t, int32_t *found)
{
    const double *gains = t->gains->host;
    int64_t n = 0;
    for (int64_t i = 0; i < t->n; i++)
        if (gains[i] != -INFINITY)
            found[n++] = (int32_t)i;
    return n;
}

sc_status top_rows_find(top_rows *t, int64_t least, double margin, int32_t *found, int64_t *n_found)
{
    sc_status status = SC_OK;
    double *gains = t->gains->host, *slack = t->slack->host, *of = t->d_of.device;
    SC_TRY(
        t->ops->design_peaks(NULL, t->d_peaks.device, t->gains->device, t->slack->device, t->n, t->segment));
    SC_TRY(resident_pull(&t->d_peaks));
    const double floor = find_floor(t, least);
    SC_TRY(t->ops->design_above(NULL, n_found, t->d_rows.device, of, of + t->most, t->gains->device,
                                t->slack->device, t->n, floor > 0 ? floor * (1 - margin) : -INFINITY, t->most,
                                t->d_work.device));
    if (*n_found > t->most) {
        SC_TRY(resident_pull(t->gains));
        SC_TRY(resident_pull(t->slack));
        *n_found = list_open(t, found);
        goto cleanup;
    }
    const size_t m = (size_t)*n_found;
    SC_TRY(t->ops->download(NULL, t->rows, t->d_rows.device, m * sizeof *t->rows));
    SC_TRY(t->ops->download(NULL, t->of, of, m * sizeof *t->of));
    SC_TRY(t->ops->download(NULL, t->of + t->most, of + t->most, m * sizeof *t->of));
    SC_TRY(t->ops->synchronise(NULL));
    for (size_t q = 0; q < m; q++) {
        found[q] = t->rows[q];
        gains[t->rows[q]] = t->of[q];
        slack[t->rows[q]] = t->of[t->most + (int64_t)q];
    }
cleanup:
    return status;
}

sc_status top_rows_put(top_rows *t, const int32_t *rows, int64_t m)
{
    sc_status status = SC_OK;
    const double *gains = t->gains->host, *slack = t->slack->host;
    double *of = t->d_of.device;
    for (int64_t at = 0; at < m; at += t->most) {
        const int64_t some = m - at < t->most ? m - at : t->most;
        for (int64_t q = 0; q < some; q++) {
            t->rows[q] = rows[at + q];
            t->of[q] = gains[rows[at + q]];
            t->of[t->most + q] = slack[rows[at + q]];
        }
        SC_TRY(t->ops->upload(NULL, t->d_rows.device, t->rows, (size_t)some * sizeof *t->rows));
        SC_TRY(t->ops->upload(NULL, of, t->of, (size_t)some * sizeof *t->of));
        SC_TRY(t->ops->upload(NULL, of + t->most, t->of + t->most, (size_t)some * sizeof *t->of));
        SC_TRY(t->ops->design_put(NULL, t->gains->device, t->slack->device, t->d_rows.device, of,
                                  of + t->most, some));
    }
cleanup:
    return status;
}

void top_rows_close(top_rows *t)
{
    resident_close(&t->d_peaks);
    resident_close(&t->d_rows);
    resident_close(&t->d_of);
    resident_close(&t->d_work);
    free(t->peaks);
    free(t->order);
    free(t->rows);
    free(t->of);
    *t = (top_rows){0};
}
