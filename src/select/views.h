/* What rows are compared by: their text's embedding, and joined to it what is known of their items and users. */
#ifndef SC_SELECT_VIEWS_H
#define SC_SELECT_VIEWS_H

#include "data/dataset.h"
#include "select/estimate.h"
#include "select/features.h"
#include "seedcorn/select.h"

enum { VIEW_METADATA = 1, VIEW_USER = 2 };

typedef struct view {
    const float *x; /* [n][dim]: the embeddings themselves, or `joined` */
    float *joined;
    int64_t n, dim;
    int64_t n_unknown_items, n_unknown_users; /* rows that got a mean for theirs */
} view;

/* "semantic", "metadata", "user", or several joined by "+": semantic is always there. SC_USAGE with the nearest name. */
sc_status view_parse(const char *name, unsigned *parts);
/* Rows [embedding | weight * item's embedding | weight * user's and item's factors]. Each part is scaled to the
 * embeddings' root mean square distance from the mean, so that a weight of 1 lets it count as much as they do. The
 * factors are found on the table's device, with the same bytes on any. */
sc_status view_make(const sc_select_options *o, unsigned parts, const dataset *data, const features *base,
                    const ops *table, view *out);
void view_free(view *v); /* {0} is fine */

/* What view_make would join: the columns of each part, 0 where it is not there, and the bytes of files mapped for it.
 * Checks what view_make checks. */
typedef struct view_columns {
    int64_t semantic, metadata, user;
    int64_t mapped;
} view_columns;
sc_status view_plan(const sc_select_options *o, unsigned parts, const dataset *data, const features *base,
                    const ops *table, view_columns *columns, estimate *out);

#endif
