/* As transformers' get_*_schedule_with_warmup, but no step has the rate zero. */
#include "train/schedule.h"

#include <math.h>
#include <string.h>

sc_status schedule_parse(const char *name, schedule_kind *out)
{
    static const char *const names[] = {"constant", "linear", "cosine"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (schedule_kind)i;
            return SC_OK;
        }
    return sc_fail(SC_USAGE, "schedule is constant, linear or cosine, not '%s'", name);
}

double schedule_rate(schedule_kind kind, double lr, int64_t step, int64_t n_steps, int64_t warmup_steps)
{
    const double pi = 3.14159265358979323846;
    if (step < warmup_steps)
        return lr * (double)(step + 1) / (double)warmup_steps;
    double done =
        (double)(step - warmup_steps) / (double)(n_steps > warmup_steps ? n_steps - warmup_steps : 1);
    switch (kind) {
    case SCHEDULE_LINEAR:
        return lr * (1 - done);
    case SCHEDULE_COSINE:
        return lr * 0.5 * (1 + cos(pi * done));
    default:
        return lr;
    }
}
