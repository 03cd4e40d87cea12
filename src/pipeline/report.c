/* sc_report: run folders to one HTML page that needs nothing else: data, selection, training, metrics. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "formats/npy.h"
#include "pipeline/chart.h"
#include "pipeline/summary.h"
#include "seedcorn/pipeline.h"

sc_report_options sc_report_default(void)
{
    return (sc_report_options){.struct_size = sizeof(sc_report_options), .common = sc_common_default()};
}

static const char *const style =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:860px;margin:2rem auto;padding:0 1rem;color:#222;"
    "background:#fff}h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem;border-bottom:1px solid #ddd}"
    "table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;border-bottom:1px solid #eee;"
    "text-align:right;font-variant-numeric:tabular-nums}td:first-child,th:first-child{text-align:left}"
    "svg{width:100%;height:auto;margin:1rem 0}svg .t{font:600 14px sans-serif;fill:#222}svg "
    ".n{font:11px sans-serif;fill:#555}svg .g{stroke:#e5e5e5}svg .e{stroke:#222;stroke-width:1.5}"
    "blockquote{border-left:3px solid #009e73;margin:.6rem 0;padding:.1rem 1rem;white-space:pre-wrap}"
    "small{color:#666}";

static const json_t *stages_of(const run_summary *s)
{
    return json_object_get(s->manifest, "stages");
}

/* The stages of one verb, in the order of the run: calls `draw` for each that is done. */
typedef sc_status (*draw_fn)(strbuf *out, const run_summary *s, const char *key, const json_t *entry);

static sc_status each_stage(strbuf *out, const run_summary *s, const char *verb, draw_fn draw)
{
    const char *key;
    json_t *entry;
    json_object_foreach((json_t *)stages_of(s), key, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "verb"));
        const char *state = json_string_value(json_object_get(entry, "state"));
        if (name == NULL || state == NULL || strcmp(name, verb) != 0 || strcmp(state, "done") != 0)
            continue;
        sc_status status = draw(out, s, key, entry);
        if (status != SC_OK)
            return status;
    }
    return SC_OK;
}

static long long result_int(const json_t *entry, const char *key)
{
    return (long long)json_integer_value(json_object_get(json_object_get(entry, "result"), key));
}

/* --- data ------------------------------------------------------------------------------------- */

static sc_status draw_import(strbuf *out, const run_summary *s, const char *key, const json_t *entry)
{
    (void)s;
    strbuf_puts(out, "<tr><td>");
    html_text(out, key);
    strbuf_printf(
        out, "</td><td>%lld</td><td>%lld</td><td>%lld</td><td>%lld</td><td>%lld</td><td>%lld</td></tr>",
        result_int(entry, "reviews"), result_int(entry, "items"), result_int(entry, "users"),
        result_int(entry, "interactions"), result_int(entry, "dialogues"), result_int(entry, "dropped"));
    return SC_OK;
}

static sc_status write_data(strbuf *out, const run_summary *s)
{
    sc_status status = SC_OK;
    strbuf_puts(out, "<h2>Data</h2><table><tr><th>import</th><th>reviews</th><th>items</th><th>users</th>"
                     "<th>interactions</th><th>dialogues</th><th>dropped</th></tr>");
    SC_TRY(each_stage(out, s, "import reviews", draw_import));
    SC_TRY(each_stage(out, s, "import ratings", draw_import));
    SC_TRY(each_stage(out, s, "import dialogues", draw_import));
    strbuf_puts(out, "</table>");
cleanup:
    return status;
}

/* --- selection -------------------------------------------------------------------------------- */

static sc_status read_ranks(const char *path, int64_t *chosen, size_t n)
{
    sc_status status = SC_OK;
    line_reader *r = NULL;
    json_t *line = NULL;
    SC_TRY(line_reader_open(path, (size_t)1 << 20, &r));
    for (;;) {
        int64_t row, rank;
        json_decref(line);
        line = NULL;
        SC_TRY(json_next_line(r, &line));
        if (line == NULL)
            break;
        SC_TRY(json_need_int(line, "row", path, &row));
        SC_TRY(json_need_int(line, "rank", path, &rank));
        if (row < 0 || (size_t)row >= n)
            SC_TRY(
                sc_fail(SC_BAD_INPUT, "%s: row %lld is beyond the map's %zu rows", path, (long long)row, n));
        chosen[row] = rank + 1;
    }
cleanup:
    json_decref(line);
    line_reader_close(r);
    return status;
}

static sc_status draw_selection(strbuf *out, const run_summary *s, const char *key, const json_t *entry)
{
    sc_status status = SC_OK;
    npy_file map = {0};
    int64_t *chosen = NULL;
    char *map_path = run_summary_file(s, key, "selection_map.npy");
    char *rows_path = run_summary_file(s, key, "selection.jsonl");
    const json_t *settings = json_object_get(entry, "settings");
    char title[200];

    if (map_path == NULL || rows_path == NULL)
        goto cleanup;
    SC_TRY(npy_open(map_path, &map));
    if (map.n_dims != 2 || map.shape[1] != 2 || map.type != NPY_F4)
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s is no map of two float32 columns", map_path));
    size_t n = (size_t)map.shape[0];
    SC_TRY(sc_alloc(&chosen, n ? n : 1, sizeof(*chosen)));
    SC_TRY(read_ranks(rows_path, chosen, n));
    snprintf(title, sizeof(title), "%.80s: %lld of %lld reviews, strategy %.40s", key,
             result_int(entry, "selected"), result_int(entry, "rows"),
             json_string_value(json_object_get(settings, "strategy")));
    chart_map(out, title, map.data, chosen, n);
cleanup:
    npy_close(&map);
    free(chosen);
    free(map_path);
    free(rows_path);
    return status;
}

/* --- one grown conversation ------------------------------------------------------------------- */

static sc_status draw_dialogue(strbuf *out, const run_summary *s, const char *key, const json_t *entry)
{
    sc_status status = SC_OK;
    char *path = run_summary_file(s, key, "dialogues.jsonl");
    line_reader *r = NULL;
    json_t *line = NULL;
    if (path == NULL)
        goto cleanup;
    SC_TRY(line_reader_open(path, (size_t)1 << 24, &r));
    SC_TRY(json_next_line(r, &line));
    const char *request = json_string_value(json_object_get(line, "request"));
    const json_t *messages = json_object_get(line, "messages");
    const char *answer = json_string_value(
        json_object_get(json_array_get(messages, json_array_size(messages) - 1), "content"));
    strbuf_printf(out, "<p>%lld conversations; the first:</p><blockquote>", result_int(entry, "dialogues"));
    html_text(out, request ? request : "");
    strbuf_puts(out, "</blockquote><blockquote>");
    html_text(out, answer ? answer : "");
    strbuf_puts(out, "</blockquote>");
cleanup:
    json_decref(line);
    line_reader_close(r);
    free(path);
    return status;
}

/* --- training --------------------------------------------------------------------------------- */

typedef struct curve {
    char *label;
    double *x, *y;
    size_t n, cap_x, cap_y;
} curve;

typedef struct curves {
    curve rows[6];
    size_t n;
} curves;

static sc_status read_curve(const char *path, curve *c)
{
    sc_status status = SC_OK;
    line_reader *r = NULL;
    json_t *line = NULL;
    SC_TRY(line_reader_open(path, (size_t)1 << 20, &r));
    for (;;) {
        json_decref(line);
        line = NULL;
        SC_TRY(json_next_line(r, &line));
        if (line == NULL)
            break;
        const json_t *step = json_object_get(line, "step"), *loss = json_object_get(line, "loss");
        if (!json_is_number(step) || !json_is_number(loss))
            continue;
        /* A run that was resumed repeats the steps after its last checkpoint: the later line counts. */
        while (c->n > 0 && c->x[c->n - 1] >= json_number_value(step))
            c->n--;
        SC_TRY(sc_grow(&c->x, &c->cap_x, c->n + 1, sizeof(*c->x)));
        SC_TRY(sc_grow(&c->y, &c->cap_y, c->n + 1, sizeof(*c->y)));
        c->x[c->n] = json_number_value(step);
        c->y[c->n++] = json_number_value(loss);
    }
cleanup:
    json_decref(line);
    line_reader_close(r);
    return status;
}

static sc_status write_training(strbuf *out, const run_summary *s)
{
    sc_status status = SC_OK;
    curves all = {0};
    chart_series series[6];
    const char *key;
    json_t *entry;

    json_object_foreach((json_t *)stages_of(s), key, entry)
    {
        const char *verb = json_string_value(json_object_get(entry, "verb"));
        char *path = verb != NULL && strcmp(verb, "train") == 0 && all.n < 6
                         ? run_summary_file(s, key, "events.jsonl")
                         : NULL;
        if (path == NULL)
            continue;
        curve *c = &all.rows[all.n++];
        status = sc_strdup(&c->label, key);
        if (status == SC_OK)
            status = read_curve(path, c);
        free(path);
        if (status != SC_OK)
            goto cleanup;
    }
    if (all.n == 0)
        goto cleanup;
    for (size_t i = 0; i < all.n; i++)
        series[i] = (chart_series){all.rows[i].label, all.rows[i].x, all.rows[i].y, all.rows[i].n};
    strbuf_puts(out, "<h2>Training</h2>");
    chart_lines(out, "Loss", "optimizer step", "nats per supervised token", series, all.n);
cleanup:
    for (size_t i = 0; i < all.n; i++) {
        free(all.rows[i].label);
        free(all.rows[i].x);
        free(all.rows[i].y);
    }
    return status;
}

/* --- metrics ---------------------------------------------------------------------------------- */

static double metric(const json_t *row, const char *name, const char *cut, const char *part)
{
    return 100 * json_number_value(json_object_get(json_object_get(json_object_get(row, name), cut), part));
}

static sc_status write_metrics(strbuf *out, const run_summary *s)
{
    static const char *const cuts[] = {"1", "5", "10", "20"};
    sc_status status = SC_OK;
    size_t n = json_array_size(s->metrics), i;
    const char **labels = NULL;
    double *values = NULL, *errors = NULL;
    json_t *row;

    if (n == 0)
        return SC_OK;
    SC_TRY(sc_alloc(&labels, n, sizeof(*labels)));
    SC_TRY(sc_alloc(&values, n, sizeof(*values)));
    SC_TRY(sc_alloc(&errors, n, sizeof(*errors)));
    strbuf_puts(
        out, "<h2>Metrics</h2><table><tr><th>%, &#177; standard error</th><th>n</th><th>R@1</th><th>R@5</th>"
             "<th>R@10</th><th>R@20</th><th>NDCG@20</th><th>MRR@20</th></tr>");
    json_array_foreach(s->metrics, i, row)
    {
        labels[i] = json_string_value(json_object_get(row, "name"));
        values[i] = metric(row, "recall", "20", "value");
        errors[i] = metric(row, "recall", "20", "se");
        strbuf_puts(out, "<tr><td>");
        html_text(out, labels[i]);
        strbuf_printf(out, "</td><td>%lld</td>", (long long)json_integer_value(json_object_get(row, "n")));
        for (size_t k = 0; k < 4; k++)
            strbuf_printf(out, "<td>%.2f &#177; %.2f</td>", metric(row, "recall", cuts[k], "value"),
                          metric(row, "recall", cuts[k], "se"));
        strbuf_printf(out, "<td>%.2f &#177; %.2f</td><td>%.2f &#177; %.2f</td></tr>",
                      metric(row, "ndcg", "20", "value"), metric(row, "ndcg", "20", "se"),
                      metric(row, "mrr", "20", "value"), metric(row, "mrr", "20", "se"));
    }
    strbuf_puts(out, "</table>");
    chart_bars(out, "Recall@20 in %", labels, values, errors, n);
cleanup:
    free(labels);
    free(values);
    free(errors);
    return status;
}

static void write_stages(strbuf *out, const run_summary *s)
{
    const char *key;
    json_t *entry;
    strbuf_puts(out,
                "<h2>Stages</h2><table><tr><th>stage</th><th>state</th><th>seconds</th><th>device</th></tr>");
    json_object_foreach((json_t *)stages_of(s), key, entry)
    {
        const char *state = json_string_value(json_object_get(entry, "state"));
        const char *device = json_string_value(json_object_get(entry, "device"));
        strbuf_puts(out, "<tr><td>");
        html_text(out, key);
        strbuf_puts(out, "</td><td>");
        html_text(out, state ? state : "");
        strbuf_printf(out, "</td><td>%.1f</td><td>", json_number_value(json_object_get(entry, "seconds")));
        html_text(out, device ? device : "");
        strbuf_puts(out, "</td></tr>");
    }
    strbuf_puts(out, "</table>");
}

static sc_status write_run(strbuf *out, const run_summary *s)
{
    sc_status status = SC_OK;
    strbuf name = {0};
    size_t length = strlen(s->folder);
    while (length > 1 && s->folder[length - 1] == '/')
        length--;
    strbuf_append(&name, s->folder, length);
    strbuf_puts(out, "<h1>");
    html_text(out, path_base(strbuf_text(&name)));
    strbuf_free(&name);
    strbuf_puts(out, "</h1>");
    SC_TRY(write_metrics(out, s));
    SC_TRY(write_data(out, s));
    strbuf_puts(out, "<h2>Selection</h2>");
    SC_TRY(each_stage(out, s, "select", draw_selection));
    strbuf_puts(out, "<h2>Conversations</h2>");
    SC_TRY(each_stage(out, s, "synth", draw_dialogue));
    SC_TRY(write_training(out, s));
    write_stages(out, s);
cleanup:
    return status;
}

sc_status sc_report(const sc_report_options *o)
{
    sc_status status = SC_OK;
    strbuf page = {0};
    run_summary s = {0};

    if (o->runs == NULL || o->runs[0] == NULL || o->out == NULL)
        return sc_fail(SC_USAGE, "report needs a run folder and --out FILE.html");
    strbuf_printf(
        &page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width\"><title>Seedcorn report</title><style>%s</style></head><body>",
        style);
    for (size_t i = 0; o->runs[i] != NULL; i++) {
        SC_TRY(run_summary_open(o->runs[i], &s));
        SC_TRY(write_run(&page, &s));
        run_summary_close(&s);
    }
    strbuf_printf(
        &page,
        "<p><small>Seedcorn %s. Standard errors are sample standard deviations over the square root "
        "of n.</small></p></body></html>\n",
        sc_version());
    SC_TRY(strbuf_status(&page));
    SC_TRY(file_write_all(o->out, page.data, page.len));
cleanup:
    run_summary_close(&s);
    strbuf_free(&page);
    return status;
}
