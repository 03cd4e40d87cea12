/* doctor: what this machine has and lacks, in plain words. */
#ifndef SC_PIPELINE_DOCTOR_H
#define SC_PIPELINE_DOCTOR_H

#include <jansson.h>

#include "base/status.h"
#include "seedcorn/common.h"

typedef struct doctor_options {
    size_t struct_size;
    sc_common common;
} doctor_options;

doctor_options doctor_default(void);
/* {"checks":[{"name","found","detail","way_out"}...]} */
sc_status doctor_examine(json_t **result);

#endif
