/* How many requests may be on their way, and when the next may start. A plain cap and a hold-off
 * that a server asks for; an adaptive limit would replace limiter.c alone. */
#ifndef SC_NET_LIMITER_H
#define SC_NET_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct limiter {
    int64_t cap, running;
    double hold_until; /* on the engine's clock */
} limiter;

bool limiter_may_start(const limiter *l, double now);
void limiter_started(limiter *l);
void limiter_ended(limiter *l);
/* The server is short of capacity: nothing starts for `seconds`. */
void limiter_hold(limiter *l, double now, double seconds);

#endif
