/* Rows in the order of a key: the highest first, equal keys by ascending row. */
#ifndef SC_SELECT_ORDER_H
#define SC_SELECT_ORDER_H

#include <stdbool.h>
#include <stdint.h>

typedef double (*order_key)(const void *context, int64_t row);

bool order_before(order_key key, const void *context, int32_t a, int32_t b);
/* Puts the first m of n rows before the rest, neither part in order (Hoare's quickselect). O(n). */
void order_split(int32_t *rows, int64_t n, int64_t m, order_key key, const void *context);
/* rows [n] becomes 0 .. n-1 with the best m of them first, in order. O(n + m log m). */
void order_best(int32_t *rows, int64_t n, int64_t m, order_key key, const void *context);
void order_ascending(int32_t *rows, int64_t n);

#endif
