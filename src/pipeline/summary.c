/* Reading a run folder back. */
#include "pipeline/summary.h"

#include <stdlib.h>
#include <string.h>

static sc_status add_metrics(run_summary *s, const char *key, const json_t *entry)
{
    sc_status status = SC_OK;
    json_t *metrics = NULL;
    const char *product = json_string_value(json_object_get(entry, "product"));
    if (product == NULL || !json_is_string(json_object_get(entry, "verb")))
        return SC_OK;
    char *path = product[0] == '/' ? NULL : path_join(s->folder, product);
    SC_TRY(json_parse_file(path ? path : product, &metrics));
    const char *slash = strchr(key, '/');
    json_t *row = json_copy(json_object_get(entry, "result"));
    if (row == NULL)
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s/manifest.json: stage %s has no result", s->folder, key));
    json_object_set_new(row, "name", json_string(slash ? slash + 1 : key));
    json_object_set(row, "details", metrics);
    json_array_append_new(s->metrics, row);
cleanup:
    json_decref(metrics);
    free(path);
    return status;
}

sc_status run_summary_open(const char *folder, run_summary *out)
{
    sc_status status = SC_OK;
    const char *key;
    json_t *entry, *stages;

    memset(out, 0, sizeof(*out));
    char *path = path_join(folder, "manifest.json");
    SC_TRY(sc_strdup(&out->folder, folder));
    if (path == NULL || !file_exists(path))
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s is no run folder: it has no manifest.json", folder));
    SC_TRY(json_parse_file(path, &out->manifest));
    out->metrics = json_array();
    stages = json_object_get(out->manifest, "stages");
    json_object_foreach(stages, key, entry)
    {
        const char *verb = json_string_value(json_object_get(entry, "verb"));
        const char *state = json_string_value(json_object_get(entry, "state"));
        if (verb != NULL && state != NULL && strcmp(verb, "eval") == 0 && strcmp(state, "done") == 0)
            SC_TRY(add_metrics(out, key, entry));
    }
cleanup:
    free(path);
    if (status != SC_OK)
        run_summary_close(out);
    return status;
}

void run_summary_close(run_summary *s)
{
    free(s->folder);
    json_decref(s->manifest);
    json_decref(s->metrics);
    memset(s, 0, sizeof(*s));
}

char *run_summary_file(const run_summary *s, const char *stage_key, const char *name)
{
    char *folder = path_join(s->folder, stage_key);
    char *path = folder ? path_join(folder, name) : NULL;
    free(folder);
    if (path != NULL && !file_exists(path)) {
        free(path);
        path = NULL;
    }
    return path;
}
