/* exact_sum.h: sums of floats without any rounding of the sum, so that they do not depend on the order.
 *
 * Each number is split into two parts, multiples of a coarse and of a fine step (Rump 2009, "ultimately fast accurate summation";
 * Demmel and Nguyen 2013, "fast reproducible floating-point summation"): adding a great number rounds to its last digit. The steps
 * are such that n parts of each kind add up inside of a double's 53 digits. So rows may be added in any order, by any number of
 * threads, and taken off again, and the sums are the same to the last bit. What is left of a number below
 * the fine step is at most largest n^2 2^-105. For src/device/cpu/cluster_update.c and kernels/cluster_update.cu, by way of ops.h. */
#ifndef SC_DEVICE_EXACT_SUM_H
#define SC_DEVICE_EXACT_SUM_H

#include "device/device_too.h"

/* Numbers whose last digits are the steps. */
typedef struct exact_grid {
    double coarse, fine;
} exact_grid;

/* For sums of up to n numbers of at most `largest`, in size. */
DEVICE_TOO exact_grid exact_grid_of(int64_t n, double largest)
{
    int size, count;
    exact_grid grid;
    (void)frexp(largest, &size);
    (void)frexp((double)(n < 2 ? 2 : n), &count);
    grid.coarse = ldexp(1.5, size + count - 1);    /* the coarse step is 2^(size + count - 53), */
    grid.fine = ldexp(1.5, size + 2 * count - 55); /* the fine one 2^(size + 2 count - 107) */
    return grid;
}

DEVICE_TOO double exact_coarse(exact_grid grid, double x)
{
    return (x + grid.coarse) - grid.coarse;
}

/* Of what the coarse part leaves. */
DEVICE_TOO double exact_fine(exact_grid grid, double x, double coarse)
{
    return ((x - coarse) + grid.fine) - grid.fine;
}

#endif
