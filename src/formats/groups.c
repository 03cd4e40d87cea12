/* The journal of line_groups: the settings first, then a record a group. */
#include "formats/groups.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "formats/records.h"

static sc_status take_record(line_groups *g, const record_map *map, int64_t index, const char *settings)
{
    sc_status status = SC_OK;
    const char *text;
    int64_t group;
    token_counts counts;
    if (index == 0) {
        SC_TRY(record_need_string(map, "settings", &text));
        if (strcmp(text, settings) != 0)
            status = sc_fail(SC_CONFLICT,
                             "%s holds unfinished work of other settings (%s); finish it with them, choose "
                             "another --out, or remove it",
                             g->path, text);
        return status;
    }
    SC_TRY(record_need_int(map, "group", &group));
    SC_TRY(record_need_int(map, "prompt_tokens", &counts.prompt_tokens));
    SC_TRY(record_need_int(map, "new_tokens", &counts.new_tokens));
    SC_TRY(record_need_string(map, "lines", &text));
    if (group < 0 || (size_t)group >= g->n || g->done[group])
        return sc_fail(SC_BAD_INPUT,
                       "%s: record %lld is no group of this work; remove the file to begin anew", g->path,
                       (long long)index);
    strbuf_puts(&g->lines[group], text);
    SC_TRY(strbuf_status(&g->lines[group]));
    g->done[group] = true;
    g->counts[group] = counts;
    g->n_found++;
cleanup:
    return status;
}

static sc_status read_journal(line_groups *g, const char *settings)
{
    sc_status status = SC_OK;
    strbuf where = {0};
    record_reader *reader = NULL;
    record_map map = {0};
    size_t n;
    SC_TRY(record_reader_open(g->path, &reader));
    for (int64_t index = 0;; index++) {
        const uint8_t *payload;
        SC_TRY(record_reader_next(reader, &payload, &n, NULL));
        if (!payload)
            break;
        strbuf_clear(&where);
        strbuf_printf(&where, "%s, record %lld", g->path, (long long)index);
        SC_TRY(record_unpack(payload, n, strbuf_text(&where), &map));
        SC_TRY(take_record(g, &map, index, settings));
        record_map_free(&map);
    }
cleanup:
    record_map_free(&map);
    record_reader_close(reader);
    strbuf_free(&where);
    return status;
}

sc_status line_groups_open(const char *out, bool keep, const char *settings, size_t n, line_groups *g)
{
    sc_status status = SC_OK;
    strbuf path = {0};
    record_pack pack = {0};
    const void *bytes;
    size_t n_bytes;
    *g = (line_groups){.out = out, .n = n};
    SC_TRY(sc_alloc(&g->lines, n, sizeof *g->lines));
    SC_TRY(sc_alloc(&g->done, n, sizeof *g->done));
    SC_TRY(sc_alloc(&g->counts, n, sizeof *g->counts));
    if (!keep)
        goto cleanup;
    strbuf_printf(&path, "%s.journal", out);
    SC_TRY(strbuf_status(&path));
    g->path = strbuf_take(&path);
    SC_TRY(record_log_open(g->path, NULL, &g->log));
    if (record_log_count(g->log) > 0) {
        SC_TRY(read_journal(g, settings));
        goto cleanup;
    }
    record_pack_begin(&pack, 1);
    record_pack_string(&pack, "settings", settings);
    SC_TRY(record_pack_end(&pack, &bytes, &n_bytes));
    SC_TRY(record_log_append(g->log, bytes, n_bytes, true));
cleanup:
    record_pack_free(&pack);
    strbuf_free(&path);
    return status;
}

sc_status line_groups_finish(line_groups *g, size_t group, token_counts counts)
{
    sc_status status = SC_OK;
    record_pack pack = {0};
    const void *bytes;
    size_t n;
    SC_TRY(strbuf_status(&g->lines[group]));
    if (g->log) {
        record_pack_begin(&pack, 4);
        record_pack_int(&pack, "group", (int64_t)group);
        record_pack_int(&pack, "prompt_tokens", counts.prompt_tokens);
        record_pack_int(&pack, "new_tokens", counts.new_tokens);
        record_pack_text(&pack, "lines", strbuf_text(&g->lines[group]), g->lines[group].len);
        SC_TRY(record_pack_end(&pack, &bytes, &n));
        SC_TRY(record_log_append(g->log, bytes, n, true));
    }
    g->counts[group] = counts;
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
        record_log_close(g->log);
        g->log = NULL;
        SC_TRY(file_remove_tree(g->path));
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
    free(g->counts);
    free(g->path);
    memset(g, 0, sizeof *g);
}
