/* seedcorn: one process, one verb. stdout carries the result, stderr what happens on the way. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/options.h"
#include "cli/results.h"
#include "cli/terminal.h"

/* Which signal asked to stop: the exit code is 128 + its number. */
static volatile sig_atomic_t stopped_by;

/* The first request drains; the second ends at once. */
static void on_signal(int number)
{
    if (stopped_by != 0)
        _exit(128 + number);
    stopped_by = number;
    sc_cancel();
}

static void catch_signals(void)
{
    struct sigaction action = {0};
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
    command c;
    json_t *result = NULL;
    sc_status status = command_parse(argc, argv, &c);
    if (status != SC_OK) {
        fprintf(stderr, "seedcorn: %s\n", sc_last_error());
        return status;
    }
    if (c.version) {
        printf("seedcorn %s\n", sc_version());
    } else if (c.help) {
        help_print(c.verb, c.group);
    } else {
        terminal_open(&c);
        catch_signals();
        status = c.verb->run(c.options.values, &result);
        terminal_close();
        if (result != NULL)
            result_print(&c, result);
        if (status != SC_OK)
            fprintf(stderr, "seedcorn: %s\n", sc_last_error());
    }
    json_decref(result);
    command_free(&c);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == SC_OK) {
        fprintf(stderr, "seedcorn: cannot write the result to stdout\n");
        return SC_IO;
    }
    return status == SC_INTERRUPTED && stopped_by != 0 ? 128 + stopped_by : (int)status;
}
