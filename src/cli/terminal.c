/* One state for the process's one terminal. A bar is redrawn in place; without a terminal a line is
 * written at the start, every ten seconds and at the end. */
#include "cli/terminal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static struct {
    bool is_terminal, colour, progress;
    bool bar_open;    /* the cursor stands behind a bar */
    double last_line; /* seconds of the last plain line of this piece of work */
    char label[64];
} terminal;

static void clear_bar(void)
{
    if (terminal.bar_open)
        fputs("\r\033[K", stderr);
    terminal.bar_open = false;
}

/* A message with what stands between U+27E6 and U+27E7 in green: the words that training learns. */
static void print_marked(const char *message)
{
    static const char open[] = "\xe2\x9f\xa6", shut[] = "\xe2\x9f\xa7";
    bool green = false;
    while (*message != '\0') {
        const bool opens = strncmp(message, open, 3) == 0, shuts = strncmp(message, shut, 3) == 0;
        if (opens)
            fputs("\033[32m", stderr);
        fwrite(message, 1, opens || shuts ? 3 : 1, stderr);
        if (shuts)
            fputs("\033[0m", stderr);
        green = opens || (green && !shuts);
        message += opens || shuts ? 3 : 1;
    }
    if (green) /* a long message is cut */
        fputs("\033[0m", stderr);
    fputc('\n', stderr);
}

static void on_log(void *user, sc_log_level level, const char *message)
{
    (void)user;
    static const char *const names[] = {"debug", "", "warning", "error"};
    static const char *const colours[] = {"\033[2m", "", "\033[33m", "\033[31m"};
    clear_bar();
    if (level == SC_LOG_INFO && terminal.colour)
        print_marked(message);
    else if (level == SC_LOG_INFO)
        fprintf(stderr, "%s\n", message);
    else
        fprintf(stderr, "%s%s:%s %s\n", terminal.colour ? colours[level] : "", names[level],
                terminal.colour ? "\033[0m" : "", message);
}

static void format_time(double seconds, char *out, size_t size)
{
    if (seconds < 0)
        snprintf(out, size, "-");
    else if (seconds < 60)
        snprintf(out, size, "%.0fs", seconds);
    else if (seconds < 3600)
        snprintf(out, size, "%dm%02ds", (int)seconds / 60, (int)seconds % 60);
    else
        snprintf(out, size, "%dh%02dm", (int)seconds / 3600, (int)seconds / 60 % 60);
}

static void format_count(double n, char *out, size_t size)
{
    if (n < 10000)
        snprintf(out, size, "%.*f", n < 100 && n != (int64_t)n ? 1 : 0, n);
    else if (n < 1e6)
        snprintf(out, size, "%.1fk", n / 1e3);
    else if (n < 1e9)
        snprintf(out, size, "%.1fM", n / 1e6);
    else
        snprintf(out, size, "%.2fG", n / 1e9);
}

static void draw_bar(const sc_progress *p, const char *tail)
{
    struct winsize size;
    int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
    char line[512], bar[32] = "";
    if (p->total > 0) {
        int filled = (int)(20.0 * (double)p->done / (double)p->total);
        filled = filled > 20 ? 20 : filled;
        memset(bar, '=', (size_t)filled);
        memset(bar + filled, ' ', (size_t)(20 - filled));
        bar[20] = '\0';
        snprintf(line, sizeof(line), "%-14s [%s] %3.0f %%  %s", p->label, bar,
                 100.0 * (double)p->done / (double)p->total, tail);
    } else {
        snprintf(line, sizeof(line), "%-14s %s", p->label, tail);
    }
    if ((int)strlen(line) >= columns)
        line[columns - 1] = '\0';
    fprintf(stderr, "\r\033[K%s", line);
    terminal.bar_open = true;
    fflush(stderr);
}

static void on_progress(void *user, const sc_progress *p)
{
    (void)user;
    char rate[32], left[32], done[32], total[32] = "", tail[320];
    if (!terminal.progress)
        return;
    format_count(p->rate, rate, sizeof(rate));
    format_count((double)p->done, done, sizeof(done));
    if (p->total > 0) {
        total[0] = '/';
        format_count((double)p->total, total + 1, sizeof(total) - 1);
    }
    format_time(p->finished ? p->seconds : p->remaining, left, sizeof(left));
    snprintf(tail, sizeof(tail), "%s%s %s, %s/s, %s %s%s%s", done, total, p->unit, rate,
             p->finished ? "took" : "left", left, p->note[0] ? ", " : "", p->note);
    /* Work that is over within two seconds leaves no line. */
    bool brief = p->finished && p->seconds < 2;
    if (terminal.is_terminal) {
        draw_bar(p, tail);
        if (brief) {
            clear_bar();
        } else if (p->finished) {
            fputc('\n', stderr);
            terminal.bar_open = false;
        }
        return;
    }
    bool first = strcmp(terminal.label, p->label) != 0;
    if (first) {
        snprintf(terminal.label, sizeof(terminal.label), "%s", p->label);
        terminal.last_line = p->seconds;
    }
    if ((p->finished && !brief) || p->seconds - terminal.last_line >= 10) {
        fprintf(stderr, "%s: %s\n", p->label, tail);
        terminal.last_line = p->seconds;
    }
    if (p->finished)
        terminal.label[0] = '\0';
}

void terminal_open(const command *c)
{
    const char *kind = getenv("TERM");
    terminal.is_terminal = isatty(STDERR_FILENO) == 1 && kind != NULL && strcmp(kind, "dumb") != 0;
    terminal.colour = terminal.is_terminal && getenv("NO_COLOR") == NULL;
    terminal.progress = !c->no_progress && !c->quiet;
    sc_log_set(on_log, NULL, c->verbose ? SC_LOG_DEBUG : c->quiet ? SC_LOG_WARN : SC_LOG_INFO);
    sc_progress_set(on_progress, NULL);
}

void terminal_close(void)
{
    clear_bar();
}
