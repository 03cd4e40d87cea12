/* The learning rate over the steps: linear warm-up, then constant, linear or cosine to zero. */
#ifndef SC_TRAIN_SCHEDULE_H
#define SC_TRAIN_SCHEDULE_H

#include "base/status.h"

typedef enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE } schedule_kind;

sc_status schedule_parse(const char *name, schedule_kind *out);

/* The rate of step `step` (0 .. n_steps-1). Step 0 of a warm-up of w steps has lr / w, step w-1 has lr. */
double schedule_rate(schedule_kind kind, double lr, int64_t step, int64_t n_steps, int64_t warmup_steps);

#endif
