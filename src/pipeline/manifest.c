/* Fingerprints decide what a run may skip; they hold contents, not paths or times. */
#include "pipeline/manifest.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/file.h"

sc_status manifest_open(const char *run_dir, manifest *out)
{
    sc_status status = SC_OK;
    memset(out, 0, sizeof(*out));
    out->path = path_join(run_dir, "manifest.json");
    SC_TRY(sc_strdup(&out->run_dir, run_dir));
    if (out->path == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice for %s", run_dir));
    out->hashes = json_object();
    if (file_exists(out->path)) {
        SC_TRY(json_parse_file(out->path, &out->root));
        if (!json_is_object(json_object_get(out->root, "stages")))
            SC_TRY(sc_fail(SC_BAD_INPUT, "%s is no manifest of a run: remove it, or take another --run-dir",
                           out->path));
    } else {
        out->root = json_pack("{s:s,s:{}}", "seedcorn", sc_version(), "stages");
    }
cleanup:
    if (status != SC_OK)
        manifest_close(out);
    return status;
}

void manifest_close(manifest *m)
{
    free(m->path);
    free(m->run_dir);
    json_decref(m->root);
    json_decref(m->hashes);
    memset(m, 0, sizeof(*m));
}

sc_status manifest_save(const manifest *m)
{
    return json_write_file(m->path, m->root);
}

/* --- hashes ----------------------------------------------------------------------------------- */

static sc_status hash_file(manifest *m, const char *path, char hex[65])
{
    struct stat info;
    if (stat(path, &info) != 0)
        return sc_fail_errno(SC_BAD_INPUT, "cannot read %s", path);
    const json_t *known = json_object_get(m->hashes, path);
    json_int_t time_ns = (json_int_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
    if (known != NULL && json_integer_value(json_array_get(known, 0)) == (json_int_t)info.st_size &&
        json_integer_value(json_array_get(known, 1)) == time_ns) {
        memcpy(hex, json_string_value(json_array_get(known, 2)), 65);
        return SC_OK;
    }
    sc_status status = file_sha256(path, hex);
    if (status == SC_OK)
        json_object_set_new(m->hashes, path, json_pack("[I,I,s]", (json_int_t)info.st_size, time_ns, hex));
    return status;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Files that are on the way to a result, not one. */
static bool is_working_file(const char *name)
{
    return name[0] == '.' || strstr(name, ".tmp-") != NULL || text_ends(name, ".journal") ||
           text_ends(name, ".partial") || text_ends(name, ".part") || strcmp(name, "journal.log") == 0 ||
           strcmp(name, "events.jsonl") == 0;
}

static sc_status list_files(const char *folder, char ***names, size_t *n)
{
    sc_status status = SC_OK;
    size_t cap = 0;
    DIR *dir = opendir(folder);
    *names = NULL;
    *n = 0;
    if (dir == NULL)
        return sc_fail_errno(SC_BAD_INPUT, "cannot read the folder %s", folder);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (is_working_file(e->d_name))
            continue;
        char *path = path_join(folder, e->d_name);
        bool plain = path != NULL && file_exists(path) && !file_is_dir(path);
        free(path);
        if (!plain)
            continue;
        SC_TRY(sc_grow(names, &cap, *n + 1, sizeof(**names)));
        SC_TRY(sc_strdup(&(*names)[*n], e->d_name));
        (*n)++;
    }
    if (*n > 0)
        qsort(*names, *n, sizeof(**names), compare_names);
cleanup:
    closedir(dir);
    return status;
}

static void free_names(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

sc_status manifest_hash(manifest *m, const char *path, char hex[65])
{
    sc_status status = SC_OK;
    char **names = NULL;
    size_t n = 0;
    strbuf list = {0};

    if (!file_is_dir(path))
        return hash_file(m, path, hex);
    SC_TRY(list_files(path, &names, &n));
    for (size_t i = 0; i < n; i++) {
        char one[65], *file = path_join(path, names[i]);
        status = file ? hash_file(m, file, one) : sc_fail(SC_MEMORY, "memory does not suffice");
        free(file);
        if (status != SC_OK)
            goto cleanup;
        strbuf_printf(&list, "%s %s\n", one, names[i]);
    }
    SC_TRY(strbuf_status(&list));
    sha256_hex(strbuf_text(&list), list.len, hex);
cleanup:
    free_names(names, n);
    strbuf_free(&list);
    return status;
}

/* Hash of one input, kept under its path in `inputs`. */
static sc_status add_input(manifest *m, json_t *inputs, const char *path, char hex[65])
{
    sc_status status = manifest_hash(m, path, hex);
    if (status == SC_OK)
        json_object_set_new(inputs, path, json_string(hex));
    return status;
}

sc_status manifest_fingerprint(manifest *m, const stage *s, json_t **inputs, char hex[65])
{
    sc_status status = SC_OK;
    json_t *values = options_json(&s->options), *content = json_object(), *value;
    const char *name;
    strbuf text = {0};
    char one[65];

    *inputs = json_object();
    json_object_foreach(values, name, value)
    {
        bool in_common;
        const setting *of = options_find(&s->options, name, &in_common);
        /* `text` of embed is a word; `name` of pull is pinned by its own hashes. */
        if (strcmp(name, "out") == 0)
            continue;
        if (json_is_null(value) || !setting_is_path(of) ||
            (json_is_string(value) && setting_is_word(of, json_string_value(value)))) {
            json_object_set(content, name, value);
            continue;
        }
        json_t *list = json_array();
        json_object_set_new(content, name, list);
        if (json_is_string(value)) {
            SC_TRY(add_input(m, *inputs, json_string_value(value), one));
            json_array_append_new(list, json_string(one));
        }
        size_t i;
        const json_t *element;
        json_array_foreach(value, i, element)
        {
            SC_TRY(add_input(m, *inputs, json_string_value(element), one));
            json_array_append_new(list, json_string(one));
        }
    }
    json_object_set_new(content, "verb", json_string(s->verb->name));
    json_object_set_new(content, "seedcorn", json_string(sc_version()));
    SC_TRY(json_canonical(content, &text));
    sha256_hex(strbuf_text(&text), text.len, hex);
cleanup:
    json_decref(values);
    json_decref(content);
    strbuf_free(&text);
    return status;
}

/* --- stages ----------------------------------------------------------------------------------- */

static json_t *entry_of(const manifest *m, const stage *s)
{
    return json_object_get(json_object_get(m->root, "stages"), s->key);
}

static const char *entry_text(const manifest *m, const stage *s, const char *key)
{
    const char *text = json_string_value(json_object_get(entry_of(m, s), key));
    return text ? text : "";
}

const json_t *manifest_result(const manifest *m, const stage *s)
{
    return json_object_get(entry_of(m, s), "result");
}

/* Paths inside the run folder are kept relative to it, so that a moved run is still known. */
static const char *relative(const manifest *m, const char *path)
{
    size_t n = strlen(m->run_dir);
    while (n > 0 && m->run_dir[n - 1] == '/')
        n--;
    if (strncmp(path, m->run_dir, n) != 0 || path[n] != '/')
        return path;
    return path + n + strspn(path + n, "/");
}

sc_status manifest_is_done(manifest *m, const stage *s, const char *fingerprint, bool *done)
{
    const char *path;
    json_t *hash;
    *done = false;
    if (strcmp(entry_text(m, s, "state"), "done") != 0 ||
        strcmp(entry_text(m, s, "fingerprint"), fingerprint) != 0)
        return SC_OK;
    json_object_foreach(json_object_get(entry_of(m, s), "outputs"), path, hash)
    {
        char one[65] = "", *full = path[0] == '/' ? NULL : path_join(m->run_dir, path);
        const char *file = full ? full : path;
        sc_status status = file_exists(file) ? manifest_hash(m, file, one) : SC_OK;
        free(full);
        if (status != SC_OK)
            return status;
        if (!json_is_string(hash) || strcmp(one, json_string_value(hash)) != 0)
            return SC_OK;
    }
    *done = true;
    return SC_OK;
}

bool manifest_is_stale(const manifest *m, const stage *s, const char *fingerprint)
{
    return entry_of(m, s) == NULL || strcmp(entry_text(m, s, "state"), "done") == 0 ||
           strcmp(entry_text(m, s, "fingerprint"), fingerprint) != 0;
}

sc_status manifest_begin(manifest *m, const stage *s, const char *fingerprint)
{
    json_object_set_new(
        json_object_get(m->root, "stages"), s->key,
        json_pack("{s:s,s:s,s:s}", "verb", s->verb->name, "state", "running", "fingerprint", fingerprint));
    return manifest_save(m);
}

/* The result files of a stage: every file of its folder, or pull's folder as one. */
static sc_status outputs_of(manifest *m, const stage *s, json_t *outputs)
{
    sc_status status = SC_OK;
    char **names = NULL, hex[65];
    size_t n = 0;
    const char *folder = s->folder ? s->folder : s->product;

    if (s->folder == NULL) {
        SC_TRY(manifest_hash(m, folder, hex));
        json_object_set_new(outputs, folder, json_string(hex));
        goto cleanup;
    }
    SC_TRY(list_files(folder, &names, &n));
    for (size_t i = 0; i < n; i++) {
        char *path = path_join(folder, names[i]);
        status = path ? manifest_hash(m, path, hex) : sc_fail(SC_MEMORY, "memory does not suffice");
        if (status == SC_OK)
            json_object_set_new(outputs, relative(m, path), json_string(hex));
        free(path);
        if (status != SC_OK)
            goto cleanup;
    }
cleanup:
    free_names(names, n);
    return status;
}

sc_status manifest_finish(manifest *m, const stage *s, const char *fingerprint, json_t *inputs,
                          json_t *result, double seconds, const char *device, bool partial)
{
    json_t *outputs = json_object(), *settings = options_json(&s->options);
    char stamp[32] = "";
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) != NULL)
        strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &utc);
    sc_status status = outputs_of(m, s, outputs);
    if (status != SC_OK) {
        json_decref(outputs);
        json_decref(settings);
        return status;
    }
    json_t *entry =
        json_pack("{s:s,s:s,s:s,s:b,s:O,s:o,s:o,s:O?,s:s?,s:f,s:s,s:s,s:s}", "verb", s->verb->name, "state",
                  "done", "fingerprint", fingerprint, "partial", partial, "inputs", inputs, "outputs",
                  outputs, "settings", settings, "result", result, "product", relative(m, s->product),
                  "seconds", seconds, "finished", stamp, "device", device, "seedcorn", sc_version());
    if (entry == NULL)
        return sc_fail(SC_MEMORY, "memory does not suffice for the manifest");
    json_object_set_new(json_object_get(m->root, "stages"), s->key, entry);
    return manifest_save(m);
}
