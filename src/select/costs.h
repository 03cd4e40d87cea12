/* What each review costs: the tokens that it adds to a teacher's prompt, or the numbers of a file. */
#ifndef SC_SELECT_COSTS_H
#define SC_SELECT_COSTS_H

#include "data/dataset.h"
#include "seedcorn/select.h"

typedef struct costs {
    double *of;         /* [n_reviews] above 0, finite; NULL where nobody asks for them */
    const char *source; /* "tokenizer", "bytes", "file" */
} costs;

/* SC_BAD_INPUT: a file that is not [n_reviews] float32, float64, int32 or int64 above 0, a folder without tokenizer. */
sc_status costs_make(const sc_select_options *o, const dataset *data, costs *out);
void costs_free(costs *c); /* {0} is fine */
/* How many rows a budget can pay for, at most n. */
int64_t costs_room(const costs *c, int64_t n, double budget);

#endif
