/* The journal of line_groups: the settings first, then a record a group. */
#include "formats/groups.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "formats/records.h"

size_t line_groups_rows(const line_groups *g, size_t group)
{
    const size_t left = g->n_rows - group * g->group_rows;
    return left < g->group_rows ? left : g->group_rows;
}

static sc_status check_settings(const line_groups *g, const char *text, const json_t *settings)
{
    sc_status status = SC_OK;
    json_t *then = NULL;
    strbuf differences = {0};
    SC_TRY(json_parse(text, strlen(text), g->path, &then));
    json_differences(then, settings, &differences);
    if (differences.len > 0)
        status = sc_fail(SC_CONFLICT,
                         "%s holds unfinished work of other settings; finish it with those, choose another "
                         "--out, or remove it: %s",
                         g->path, strbuf_text(&differences));
cleanup:
    json_decref(then);
    strbuf_free(&differences);
    return status;
}

static size_t count_lines(const char *text)
{
    size_t n = 0;
    for (const char *end = strchr(text, '\n'); end; end = strchr(end + 1, '\n'))
        n++;
    return n;
}

/* Whole lines, one a row of the group. */
static bool fits(const line_groups *g, int64_t group, const char *text)
{
    const size_t length = strlen(text);
    return group >= 0 && (size_t)group < g->n && !g->done[group] && length > 0 && text[length - 1] == '\n' &&
           count_lines(text) == line_groups_rows(g, (size_t)group);
}

/* What the journal's records are read into: the settings stand in the first. */
typedef struct reading {
    line_groups *g;
    const json_t *settings;
    bool begun;
} reading;

static sc_status take_record(void *context, const record_map *map)
{
    sc_status status = SC_OK;
    reading *r = context;
    line_groups *g = r->g;
    const char *text;
    int64_t group;
    group_totals totals;
    if (!r->begun) {
        r->begun = true;
        SC_TRY(record_need_string(map, "settings", &text));
        return check_settings(g, text, r->settings);
    }
    SC_TRY(record_need_int(map, "group", &group));
    SC_TRY(record_need_int(map, "prompt_tokens", &totals.prompt_tokens));
    SC_TRY(record_need_int(map, "new_tokens", &totals.new_tokens));
    SC_TRY(record_get_number(map, "logprob", 0, &totals.logprob));
    SC_TRY(record_need_string(map, "lines", &text));
    if (!fits(g, group, text))
        return sc_fail(SC_BAD_INPUT, "%s: it is no group of this work; remove the file to begin anew",
                       map->where);
    strbuf_puts(&g->lines[group], text);
    SC_TRY(strbuf_status(&g->lines[group]));
    g->done[group] = true;
    g->totals[group] = totals;
    g->n_resumed += (int64_t)line_groups_rows(g, (size_t)group);
cleanup:
    return status;
}

static sc_status begin_journal(line_groups *g, const json_t *settings)
{
    sc_status status = SC_OK;
    record_pack pack = {0};
    strbuf text = {0};
    const void *bytes;
    size_t n;
    SC_TRY(json_canonical(settings, &text));
    record_pack_begin(&pack, 1);
    record_pack_string(&pack, "settings", strbuf_text(&text));
    SC_TRY(record_pack_end(&pack, &bytes, &n));
    SC_TRY(record_log_append(g->log, bytes, n, true));
cleanup:
    record_pack_free(&pack);
    strbuf_free(&text);
    return status;
}

sc_status line_groups_open(const char *out, bool keep, const json_t *settings, size_t n_rows,
                           size_t group_rows, line_groups *g)
{
    sc_status status = SC_OK;
    strbuf path = {0};
    *g = (line_groups){
        .out = out, .n = (n_rows + group_rows - 1) / group_rows, .n_rows = n_rows, .group_rows = group_rows};
    SC_TRY(sc_alloc(&g->lines, g->n, sizeof *g->lines));
    SC_TRY(sc_alloc(&g->done, g->n, sizeof *g->done));
    SC_TRY(sc_alloc(&g->totals, g->n, sizeof *g->totals));
    if (!keep)
        goto cleanup;
    strbuf_printf(&path, "%s.journal", out);
    SC_TRY(strbuf_status(&path));
    g->path = strbuf_take(&path);
    SC_TRY(record_log_open(g->path, NULL, &g->log));
    SC_TRY(record_log_count(g->log) > 0 ? record_each(g->path, take_record, &(reading){g, settings, false})
                                        : begin_journal(g, settings));
    if (g->n_resumed > 0)
        log_info("%lld of %zu rows are taken from %s", (long long)g->n_resumed, n_rows, g->path);
cleanup:
    strbuf_free(&path);
    return status;
}

sc_status line_groups_finish(line_groups *g, size_t group, group_totals totals)
{
    sc_status status = SC_OK;
    record_pack pack = {0};
    const void *bytes;
    size_t n;
    SC_TRY(strbuf_status(&g->lines[group]));
    if (g->log) {
        record_pack_begin(&pack, 5);
        record_pack_int(&pack, "group", (int64_t)group);
        record_pack_int(&pack, "prompt_tokens", totals.prompt_tokens);
        record_pack_int(&pack, "new_tokens", totals.new_tokens);
        record_pack_number(&pack, "logprob", totals.logprob);
        record_pack_text(&pack, "lines", strbuf_text(&g->lines[group]), g->lines[group].len);
        SC_TRY(record_pack_end(&pack, &bytes, &n));
        SC_TRY(record_log_append(g->log, bytes, n, true));
    }
    g->totals[group] = totals;
    g->done[group] = true;
cleanup:
    record_pack_free(&pack);
    return status;
}

sc_status line_groups_commit(line_groups *g)
{
    sc_status status = SC_OK;
    file_writer *w = NULL;
    SC_TRY(file_writer_open(g->out, &w));
    for (size_t i = 0; i < g->n; i++)
        SC_TRY(file_writer_write(w, strbuf_text(&g->lines[i]), g->lines[i].len));
    SC_TRY(file_writer_commit(&w));
    if (g->log) {
        SC_TRY(file_remove_tree(g->path));
        record_log_close(g->log);
        g->log = NULL;
    }
cleanup:
    file_writer_discard(&w);
    return status;
}

void line_groups_close(line_groups *g)
{
    for (size_t i = 0; g->lines && i < g->n; i++)
        strbuf_free(&g->lines[i]);
    record_log_close(g->log);
    free(g->lines);
    free(g->done);
    free(g->totals);
    free(g->path);
    memset(g, 0, sizeof *g);
}
