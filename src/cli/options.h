/* The command line: words to a verb, its options, and what concerns only the terminal. */
#ifndef SC_CLI_OPTIONS_H
#define SC_CLI_OPTIONS_H

#include "pipeline/settings.h"

typedef struct command {
    options options; /* of the verb */
    bool json;       /* result as JSON on stdout */
    bool quiet;      /* no messages below warnings, no progress */
    bool verbose;    /* debug messages */
    bool no_progress;
    bool help; /* print help and stop */
    bool version;
    const verb *verb;  /* NULL: none named */
    const char *group; /* "import" when only the first word of a two-word verb was given */
} command;

/* argv[1..) to a command. --flag VALUE, --flag=VALUE, --flag, --no-flag; a list takes all values up to
 * the next flag. SC_USAGE with the nearest right word for a misspelt verb or flag. */
sc_status command_parse(int argc, char **argv, command *out);
void command_free(command *c);

/* --help for the whole program, a group ("import") or one verb, to stdout. */
void help_print(const verb *v, const char *group);

#endif
