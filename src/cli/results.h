/* What a verb has to tell, for people or as JSON. */
#ifndef SC_CLI_RESULTS_H
#define SC_CLI_RESULTS_H

#include "cli/options.h"

void result_print(const command *c, const json_t *result);

#endif
