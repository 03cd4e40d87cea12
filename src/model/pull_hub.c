/* Models of the Hugging Face hub. API: GET /api/models/REPO/revision/REV?blobs=true lists the files with
 * sizes and, for large ones, their SHA-256 ("lfs"); /REPO/resolve/COMMIT/FILE gives one
 * (huggingface_hub: hf_api.py model_info, file_download.py hf_hub_url). */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "model/pull.h"
#include "net/fetch.h"

#define MAX_LISTING (64u << 20)

typedef struct hub {
    const char *endpoint, *token;
    strbuf repo, revision;
} hub;

/* Letters, digits and ._- ; no dot first: parts of a repository's name. */
static bool plain_part(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)text[i]) && !strchr("._-", text[i]))
            return false;
    }
    return n > 0 && n <= 96 && text[0] != '.';
}

static sc_status parse_name(const char *name, hub *h)
{
    const char *repo = name + 3, *at = strchr(repo, '@');
    size_t n = at ? (size_t)(at - repo) : strlen(repo);
    const char *slash = memchr(repo, '/', n);
    bool good = slash && plain_part(repo, (size_t)(slash - repo)) &&
                plain_part(slash + 1, n - (size_t)(slash - repo) - 1);
    for (const char *part = at ? at + 1 : NULL; good && part;) { /* branches may hold slashes */
        size_t length = strcspn(part, "/");
        good = plain_part(part, length);
        part = part[length] ? part + length + 1 : NULL;
    }
    if (!good)
        return sc_fail(SC_USAGE, "'%s' is not of the form hf:OWNER/REPO or hf:OWNER/REPO@REVISION", name);
    strbuf_append(&h->repo, repo, n);
    strbuf_puts(&h->revision, at ? at + 1 : "main");
    sc_status status = strbuf_status(&h->repo);
    return status == SC_OK ? strbuf_status(&h->revision) : status;
}

/* Percent-encoding of all but unreserved characters (RFC 3986), slashes kept where asked. */
static void append_encoded(strbuf *out, const char *text, bool keep_slash)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (isalnum(c) || strchr("-._~", c) || (c == '/' && keep_slash))
            strbuf_putc(out, *text);
        else
            strbuf_printf(out, "%%%02X", c);
    }
}

/* Whether a file of the repository belongs to a model folder: settings, tokenizer, safetensors. */
static bool wanted(const char *file)
{
    static const char *const names[] = {"config.json",
                                        "generation_config.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "tokenizer.model",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "vocab.txt",
                                        "merges.txt",
                                        "chat_template.jinja",
                                        "chat_template.json",
                                        "model.safetensors.index.json",
                                        "modules.json",
                                        "sentence_bert_config.json",
                                        "config_sentence_transformers.json",
                                        "1_Pooling/config.json",
                                        "adapter_config.json",
                                        "adapter_model.safetensors",
                                        "LICENSE",
                                        "LICENSE.txt",
                                        NULL};
    for (size_t i = 0; names[i]; i++) {
        if (strcmp(file, names[i]) == 0)
            return true;
    }
    return text_starts(file, "model") && text_ends(file, ".safetensors") && !strchr(file, '/');
}

/* The commit that the revision stands for now: every file is taken from it. */
static sc_status parse_commit(pull *p, const json_t *listing, const char *where)
{
    const char *commit;
    sc_status status = json_need_string(listing, "sha", where, &commit);
    if (status != SC_OK)
        return status;
    if (strlen(commit) != 40 || strspn(commit, "0123456789abcdef") != 40)
        return sc_fail(SC_NETWORK, "%s: the answer names no commit", where);
    free(p->revision);
    return sc_strdup(&p->revision, commit);
}

static sc_status list_files(pull *p, const hub *h, json_t **listing, json_t **files)
{
    sc_status status;
    strbuf url = {0}, text = {0};
    fetch_options options = {.bearer = h->token, .size = -1};
    strbuf_printf(&url, "%s/api/models/%s/revision/", h->endpoint, h->repo.data);
    append_encoded(&url, h->revision.data, false);
    strbuf_puts(&url, "?blobs=true");
    SC_TRY(strbuf_status(&url));
    SC_TRY(fetch_text(url.data, &options, MAX_LISTING, &text));
    SC_TRY(json_parse(text.data, text.len, url.data, listing));
    SC_TRY(parse_commit(p, *listing, url.data));
    SC_TRY(json_need_array(*listing, "siblings", url.data, files));
cleanup:
    strbuf_free(&url);
    strbuf_free(&text);
    return status;
}

/* What the listing knows of the file; the names were chosen by wanted(), so they stay in the folder. */
static sc_status read_entry(const json_t *entry, const char *file, fetch_options *options)
{
    const json_t *lfs = json_object_get(entry, "lfs");
    const json_t *size = json_object_get(json_is_object(lfs) ? lfs : entry, "size");
    const char *hash = json_string_value(json_object_get(lfs, "sha256"));
    options->size = json_is_integer(size) ? (int64_t)json_integer_value(size) : -1;
    options->sha256 = hash;
    options->label = file;
    if (hash && (strlen(hash) != 64 || strspn(hash, "0123456789abcdef") != 64))
        return sc_fail(SC_NETWORK, "the hub's listing has a malformed SHA-256 for %s", file);
    return SC_OK;
}

static bool already_whole(const char *path, const fetch_options *options)
{
    uint64_t size;
    char hex[65];
    if (options->size < 0 || !file_exists(path) || file_size(path, &size) != SC_OK ||
        (int64_t)size != options->size)
        return false;
    return !options->sha256 || (file_sha256(path, hex) == SC_OK && strcmp(hex, options->sha256) == 0);
}

static sc_status fetch_one(const pull *p, const hub *h, const json_t *entry, const char *file)
{
    sc_status status;
    strbuf url = {0};
    char *path = NULL, *parent = NULL;
    fetch_options options = {.bearer = h->token, .size = -1};
    SC_TRY(read_entry(entry, file, &options));
    SC_TRY(pull_path(p->stage, file, &path));
    if (already_whole(path, &options))
        goto cleanup;
    parent = path_dir(path);
    SC_TRY(parent ? file_make_dirs(parent) : sc_fail(SC_MEMORY, "%s: memory does not suffice", path));
    strbuf_printf(&url, "%s/%s/resolve/%s/", h->endpoint, h->repo.data, p->revision);
    append_encoded(&url, file, true);
    SC_TRY(strbuf_status(&url));
    SC_TRY(fetch_file(url.data, path, &options, NULL));
cleanup:
    strbuf_free(&url);
    free(parent);
    free(path);
    return status;
}

/* What an earlier call left of another commit must not mix with this one's files. */
static sc_status keep_to_commit(const pull *p)
{
    sc_status status;
    char *path = NULL;
    strbuf text = {0};
    SC_TRY(pull_path(p->work, "commit", &path));
    if (file_exists(path))
        SC_TRY(file_read_all(path, &text));
    if (strcmp(strbuf_text(&text), p->revision) != 0) {
        SC_TRY(file_remove_tree(p->stage));
        SC_TRY(pull_note_revision(p, p->revision));
    }
    SC_TRY(file_make_dirs(p->stage));
cleanup:
    strbuf_free(&text);
    free(path);
    return status;
}

static sc_status fetch_files(pull *p, const hub *h)
{
    sc_status status;
    json_t *listing = NULL, *files = NULL, *entry;
    size_t i, weights = 0;
    SC_TRY(list_files(p, h, &listing, &files));
    json_array_foreach(files, i, entry)
    {
        const char *file = json_string_value(json_object_get(entry, "rfilename"));
        weights += file && wanted(file) && text_ends(file, ".safetensors");
    }
    if (weights == 0) {
        status =
            sc_fail(SC_BAD_INPUT,
                    "%s: the repository holds no model*.safetensors; for a GGUF give the address of the file",
                    p->name);
        goto cleanup;
    }
    SC_TRY(keep_to_commit(p));
    json_array_foreach(files, i, entry)
    {
        const char *file = json_string_value(json_object_get(entry, "rfilename"));
        if (file && wanted(file))
            SC_TRY(fetch_one(p, h, entry, file));
    }
cleanup:
    json_decref(listing);
    return status;
}

sc_status pull_from_hub(pull *p)
{
    sc_status status;
    strbuf endpoint = {0};
    hub h = {.token = getenv("HF_TOKEN")};
    const char *chosen = getenv("HF_ENDPOINT");
    strbuf_puts(&endpoint, chosen && *chosen ? chosen : "https://huggingface.co");
    SC_TRY(strbuf_status(&endpoint));
    while (endpoint.len > 0 && endpoint.data[endpoint.len - 1] == '/')
        endpoint.data[--endpoint.len] = 0;
    h.endpoint = endpoint.data;
    SC_TRY(parse_name(p->name, &h));
    SC_TRY(fetch_files(p, &h));
cleanup:
    strbuf_free(&endpoint);
    strbuf_free(&h.repo);
    strbuf_free(&h.revision);
    return status;
}
