/* Caps on requests and tokens, checked before anything is sent: what may be spent is reserved at its
 * highest, and settled when the answer tells what it was. */
#ifndef SC_SYNTHESIS_BUDGET_H
#define SC_SYNTHESIS_BUDGET_H

#include "base/status.h"

typedef struct budget {
    int64_t max_requests, max_tokens; /* 0: no cap */
    int64_t requests;                 /* sent, in this run and in those before it */
    int64_t spent, reserved;          /* tokens */
} budget;

/* SC_BUDGET if one more request of at most `tokens` could pass a cap. */
sc_status budget_reserve(budget *b, int64_t tokens);
/* The answer came: `actual` tokens, or -1 where it does not say (then the reservation counts). */
void budget_settle(budget *b, int64_t reserved, int64_t actual);
/* An answer from an earlier run. */
void budget_remember(budget *b, int64_t tokens);

#endif
