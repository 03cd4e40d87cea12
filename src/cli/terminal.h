/* Messages and progress on stderr: a bar on a terminal, plain lines otherwise. */
#ifndef SC_CLI_TERMINAL_H
#define SC_CLI_TERMINAL_H

#include "cli/options.h"

/* Sets the library's callbacks. */
void terminal_open(const command *c);
/* Ends a bar that is being drawn, so that the next line starts clean. */
void terminal_close(void);

#endif
