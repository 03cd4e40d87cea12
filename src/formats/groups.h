/* A result of one line a row, worked off in groups of rows. A finished group is kept in OUT.journal, a record log, as the
 * very lines that OUT will hold, so that a restart repeats none of them. One process at a time. */
#ifndef SC_FORMATS_GROUPS_H
#define SC_FORMATS_GROUPS_H

#include "base/json.h"

/* What a group's rows come to. */
typedef struct group_totals {
    int64_t prompt_tokens, new_tokens;
    double logprob; /* of the new tokens */
} group_totals;

typedef struct line_groups {
    const char *out; /* the caller's */
    char *path;      /* of the journal, NULL: nothing is kept */
    struct record_log *log;
    strbuf *lines;        /* [n] */
    bool *done;           /* [n] */
    group_totals *totals; /* [n] */
    size_t n, n_rows, group_rows;
    int64_t n_resumed; /* rows of an earlier run */
} line_groups;

/* `settings`: the object that says what the lines depend on; a journal of others is SC_CONFLICT, with what differs.
 * SC_BUSY: another process writes it. keep = false: no journal. */
sc_status line_groups_open(const char *out, bool keep, const json_t *settings, size_t n_rows,
                           size_t group_rows, line_groups *g);
size_t line_groups_rows(const line_groups *g, size_t group); /* the last group may have fewer */
/* lines[group] is whole. */
sc_status line_groups_finish(line_groups *g, size_t group, group_totals totals);
/* Writes OUT, then removes the journal. */
sc_status line_groups_commit(line_groups *g);
void line_groups_close(line_groups *g); /* {0} is fine */

#endif
