/* The class of a code point: a binary search in a table of runs. */
#include "text/unicode_class.h"

#include <stddef.h>

#include "text/unicode_class_table.h"

unicode_class_id unicode_class(uint32_t code_point)
{
    size_t low = 0, high = sizeof unicode_class_runs / sizeof unicode_class_runs[0];
    while (high - low > 1) { /* runs[low] starts at or before the code point, runs[high] after it */
        size_t middle = low + (high - low) / 2;
        if (unicode_class_runs[middle] >> 3 <= code_point)
            low = middle;
        else
            high = middle;
    }
    return (unicode_class_id)(unicode_class_runs[low] & 7);
}

bool unicode_is_late_mark(uint32_t code_point)
{
    size_t low = 0, high = sizeof unicode_late_marks / sizeof unicode_late_marks[0];
    while (low < high) { /* the first span that ends at or behind the code point */
        size_t middle = low + (high - low) / 2;
        if (unicode_late_marks[middle][1] < code_point)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof unicode_late_marks / sizeof unicode_late_marks[0] &&
           unicode_late_marks[low][0] <= code_point;
}
