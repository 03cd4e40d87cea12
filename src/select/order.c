/* Rows in the order of a key. */
#include "select/order.h"

#include <stdlib.h>

bool order_before(order_key key, const void *context, int32_t a, int32_t b)
{
    const double x = key(context, a), y = key(context, b);
    return x != y ? x > y : a < b;
}

static void swap(int32_t *rows, int64_t a, int64_t b)
{
    const int32_t row = rows[a];
    rows[a] = rows[b];
    rows[b] = row;
}

void order_split(int32_t *rows, int64_t n, int64_t m, order_key key, const void *context)
{
    int64_t first = 0, last = n - 1;
    if (m <= 0 || m >= n)
        return;
    while (first < last) {
        /* The median of three for a pivot: sorted input is what comes most. */
        const int64_t middle = first + (last - first) / 2;
        if (order_before(key, context, rows[middle], rows[first]))
            swap(rows, middle, first);
        if (order_before(key, context, rows[last], rows[first]))
            swap(rows, last, first);
        if (order_before(key, context, rows[last], rows[middle]))
            swap(rows, last, middle);
        const int32_t pivot = rows[middle];
        int64_t i = first, j = last;
        while (i <= j) {
            while (order_before(key, context, rows[i], pivot))
                i++;
            while (order_before(key, context, pivot, rows[j]))
                j--;
            if (i <= j)
                swap(rows, i++, j--);
        }
        if (m - 1 <= j)
            last = j;
        else if (m - 1 >= i)
            first = i;
        else
            return;
    }
}

/* The worst of a heap of m rows at its top (Williams 1964). */
static void sift(int32_t *rows, int64_t at, int64_t m, order_key key, const void *context)
{
    for (int64_t child; (child = 2 * at + 1) < m; at = child) {
        if (child + 1 < m && order_before(key, context, rows[child], rows[child + 1]))
            child++;
        if (!order_before(key, context, rows[at], rows[child]))
            return;
        swap(rows, at, child);
    }
}

void order_best(int32_t *rows, int64_t n, int64_t m, order_key key, const void *context)
{
    for (int64_t i = 0; i < n; i++)
        rows[i] = (int32_t)i;
    order_split(rows, n, m, key, context);
    for (int64_t at = m / 2 - 1; at >= 0; at--)
        sift(rows, at, m, key, context);
    for (int64_t last = m - 1; last > 0; last--) {
        swap(rows, 0, last);
        sift(rows, 0, last, key, context);
    }
}

static int ascending(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

void order_ascending(int32_t *rows, int64_t n)
{
    if (n > 1)
        qsort(rows, (size_t)n, sizeof *rows, ascending);
}
