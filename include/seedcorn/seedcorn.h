/* Seedcorn: from reviews to a measured conversational recommender. Includes the whole C API. */
#ifndef SEEDCORN_H
#define SEEDCORN_H

#include "seedcorn/abi.h"
#include "seedcorn/bench.h"
#include "seedcorn/common.h"
#include "seedcorn/embed.h"
#include "seedcorn/evaluate.h"
#include "seedcorn/generate.h"
#include "seedcorn/import.h"
#include "seedcorn/kmeans.h"
#include "seedcorn/log.h"
#include "seedcorn/pipeline.h"
#include "seedcorn/pull.h"
#include "seedcorn/recommend.h"
#include "seedcorn/select.h"
#include "seedcorn/status.h"
#include "seedcorn/synth.h"
#include "seedcorn/train.h"

#endif
