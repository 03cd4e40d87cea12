/* What the parts of fisher share: gains and their slack, S and its inverse, the pool and the block (fisher.c). */
#ifndef SC_SELECT_FISHER_H
#define SC_SELECT_FISHER_H

#include "base/log.h"
#include "select/resident.h"
#include "select/rotations.h"
#include "select/strategy.h"
#include "select/top_rows.h"

enum {
    FISHER_POOL = 1024,              /* rows */
    FISHER_BLOCK = 64,               /* picks */
    FISHER_LISTED = FISHER_POOL + 64 /* rows that a device tells of, at least */
};

typedef struct design {
    const selection_task *task;
    const ops *ops;
    double *gains, *slack, *norms; /* [n] gains of closed rows are -infinity */
    resident d_gains, d_slack, d_norms;
    device_rows d_x;
    top_rows top;    /* where the gains are a device's; then those of the host are right in few rows */
    int32_t *closed; /* [n] rows that the device does not know yet to be closed, in `top` only */
    int64_t n_closed;
    double *s, *a; /* [dim][dim] S and its inverse, on the host only where it asks for them */
    resident d_s, d_a, d_l, d_scratch;
    int64_t n_summed;     /* rows in S, of those given and then the picks */
    double trace;         /* of S with all rows chosen */
    double a_norm, drift; /* |A| at most; sum of squares of what updates may have added to its error */
    int64_t n_unmeasured; /* flushes since a_norm was measured */
    int64_t n_built;      /* picks in S when A was last built from it */
    /* the pool and the block */
    int32_t *order;
    int64_t *rows;
    float *x, *x_rows, *w32; /* [FISHER_POOL][dim], [FISHER_BLOCK][dim] twice */
    double *pool_gains, *pool_slack, *pool_norms, *w, *x64;
    resident d_rows, d_pool_x, d_pool_gains, d_pool_slack, d_pool_norms, d_w, d_w32, d_x64, d_picks, d_found,
        d_work;
    int64_t *picks; /* [FISHER_BLOCK] */
    double *found;
    rotations careful;
    uint8_t *fresh; /* [n] for the careful pick */
    /* the pool's groups, where there are caps */
    int64_t *group_offsets, *left;
    int32_t *groups;
    resident d_group_offsets, d_groups, d_left;
    int64_t n_wasted,
        patience; /* rows evaluated for nothing since the last regain, and how many are let pass */
    int64_t t;
    double total;
    selection_pick *out;
    progress *p;
} design;

/* The row's gain at most. An order_key. */
static inline double fisher_bound(const void *context, int64_t i)
{
    const design *d = context;
    return d->gains[i] + d->slack[i];
}

/* --- fisher_state.c --- */
sc_status fisher_check_table(const ops *table);
sc_status fisher_open(design *d, const selection_task *task, selection_pick *picks);
void fisher_close(design *d); /* {0} is fine */
/* x'Ax is known within this much of |x|^2. Rounding errors of the updates add up as a random walk does. */
double fisher_inverse_error(const design *d);
/* A from S by Cholesky, unless S is too ill-conditioned for that to help: *done is false then. */
sc_status fisher_build_inverse(design *d, bool *done);
/* The row becomes the next pick. */
void fisher_record(design *d, int64_t row, double gain);
/* Takes n picks, whose vectors w and rows x stand on the host, from all gains, and puts them into A. */
sc_status fisher_flush(design *d, int64_t n);

/* --- fisher_pool.c --- */
/* Gathers the pool: the rows with the highest bounds. */
sc_status fisher_form_pool(design *d, design_pool *pool, int64_t *n_pool);

/* --- fisher_careful.c --- */
/* One pick by the factor kept by rotations, over all rows, and its flush. */
sc_status fisher_pick_carefully(design *d);
/* Rows chosen before are taken from the gains as picks are, a block at a time. */
sc_status fisher_take_given(design *d);

#endif
