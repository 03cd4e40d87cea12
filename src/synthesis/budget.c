/* The budget. */
#include "synthesis/budget.h"

sc_status budget_reserve(budget *b, int64_t tokens)
{
    if (b->max_requests > 0 && b->requests + 1 > b->max_requests)
        return sc_fail(SC_BUDGET,
                       "the cap of %lld requests is reached; all answers are kept, start again with a higher "
                       "--max-requests",
                       (long long)b->max_requests);
    if (b->max_tokens > 0 && b->spent + b->reserved + tokens > b->max_tokens)
        return sc_fail(SC_BUDGET,
                       "the next request could pass the cap of %lld tokens (%lld are spent); all answers are "
                       "kept, start "
                       "again with a higher --max-total-tokens",
                       (long long)b->max_tokens, (long long)b->spent);
    b->requests++;
    b->reserved += tokens;
    return SC_OK;
}

void budget_settle(budget *b, int64_t reserved, int64_t actual)
{
    b->reserved -= reserved;
    b->spent += actual >= 0 ? actual : reserved;
}

void budget_remember(budget *b, int64_t tokens)
{
    b->requests++;
    b->spent += tokens;
}
