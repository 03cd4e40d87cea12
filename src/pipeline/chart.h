/* Inline SVG charts for the report: no script, no font or file from elsewhere. */
#ifndef SC_PIPELINE_CHART_H
#define SC_PIPELINE_CHART_H

#include "base/text.h"

typedef struct chart_series {
    const char *label;
    const double *x, *y;
    size_t n;
} chart_series;

/* Text with &, <, > and quotes made safe. */
void html_text(strbuf *out, const char *text);

/* Lines over x with axes, ticks and a legend. At most 6 series; points that are not finite are left out. */
void chart_lines(strbuf *out, const char *title, const char *x_label, const char *y_label,
                 const chart_series *series, size_t n_series);

/* A map of points: `chosen[i]` 0 or the 1-based rank; chosen ones are drawn on top with their rank as a tooltip.
 * Of more than 4,000 points that were not chosen every k-th is drawn, and the caption says so. */
void chart_map(strbuf *out, const char *title, const float *points, const int64_t *chosen, size_t n);

/* Horizontal bars with whiskers of one standard error; `values` and `errors` in percent. */
void chart_bars(strbuf *out, const char *title, const char *const *labels, const double *values,
                const double *errors, size_t n);

#endif
