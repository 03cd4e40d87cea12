/* The limiter: a cap and a hold-off. */
#include "net/limiter.h"

bool limiter_may_start(const limiter *l, double now)
{
    return l->running < l->cap && now >= l->hold_until;
}

void limiter_started(limiter *l)
{
    l->running++;
}

void limiter_ended(limiter *l)
{
    l->running--;
}

void limiter_hold(limiter *l, double now, double seconds)
{
    if (now + seconds > l->hold_until)
        l->hold_until = now + seconds;
}
