/* Writing safetensors: the header is planned first, the data streamed after it. Shards wait as
 * temporary files until the last byte is on the disk, then all of them are renamed, the index last. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "formats/safetensors.h"

#define SUFFIX ".safetensors"

typedef struct shard_plan {
    char *path;
    file_writer *file; /* open from its first byte to the commit */
    size_t first, n;   /* tensors of the plan */
    uint64_t bytes;
} shard_plan;

struct safetensors_writer {
    char *stem; /* path without ".safetensors" */
    st_plan *tensors;
    uint64_t *sizes; /* [n_tensors] bytes */
    size_t n_tensors;
    shard_plan *shards;
    size_t n_shards;
    uint64_t total;
    size_t shard;    /* being filled */
    uint64_t filled; /* bytes of it */
};

static sc_status tensor_size(const st_plan *t, uint64_t *out)
{
    uint64_t bytes = st_type_size(t->type);
    bool bad = t->n_dims < 0 || t->n_dims > ST_MAX_DIMS || !t->name ||
               !utf8_valid(t->name, strlen(t->name)) || strcmp(t->name, "__metadata__") == 0;
    for (int i = 0; !bad && i < t->n_dims; i++)
        bad = t->shape[i] < 0 || __builtin_mul_overflow(bytes, (uint64_t)t->shape[i], &bytes);
    *out = bytes;
    if (bad || bytes > INT64_MAX)
        return sc_fail(SC_INTERNAL, "cannot write tensor %s: its name or shape is out of range",
                       t->name ? t->name : "(none)");
    return SC_OK;
}

/* Copies the plan and cuts it into shards: a new one where the next tensor would pass the limit. */
static sc_status plan_shards(safetensors_writer *w, const st_plan *tensors, uint64_t limit)
{
    sc_status status;
    SC_TRY(sc_alloc(&w->tensors, w->n_tensors + 1, sizeof *w->tensors));
    SC_TRY(sc_alloc(&w->sizes, w->n_tensors + 1, sizeof *w->sizes));
    SC_TRY(sc_alloc(&w->shards, w->n_tensors + 1, sizeof *w->shards));
    w->n_shards = 1;
    for (size_t i = 0; i < w->n_tensors; i++) {
        SC_TRY(tensor_size(&tensors[i], &w->sizes[i]));
        w->tensors[i] = tensors[i];
        w->tensors[i].name = NULL;
        char *name;
        SC_TRY(sc_strdup(&name, tensors[i].name));
        w->tensors[i].name = name;
        shard_plan *sh = &w->shards[w->n_shards - 1];
        if (limit > 0 && sh->bytes > 0 && w->sizes[i] > 0 &&
            (w->sizes[i] > limit || sh->bytes > limit - w->sizes[i])) {
            sh = &w->shards[w->n_shards++];
            sh->first = i;
        }
        sh->n++;
        if (__builtin_add_overflow(w->total, w->sizes[i], &w->total)) {
            status = sc_fail(SC_INTERNAL, "%s: the tensors' sizes overflow", w->stem);
            goto cleanup;
        }
        sh->bytes += w->sizes[i];
    }
    for (size_t i = 0; i < w->n_shards; i++) {
        strbuf path = {0};
        if (w->n_shards == 1)
            strbuf_printf(&path, "%s" SUFFIX, w->stem);
        else
            strbuf_printf(&path, "%s-%05zu-of-%05zu" SUFFIX, w->stem, i + 1, w->n_shards);
        SC_TRY(strbuf_status(&path));
        w->shards[i].path = strbuf_take(&path);
    }
cleanup:
    return status;
}

/* {name: {dtype, shape, data_offsets}} in the order of the data; -1 where memory is out. */
static int add_entry(json_t *header, const st_plan *t, uint64_t begin, uint64_t end)
{
    json_t *shape = json_array();
    int fault = shape ? 0 : -1;
    for (int i = 0; i < t->n_dims; i++)
        fault |= json_array_append_new(shape, json_integer(t->shape[i]));
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", st_type_name(t->type), "shape", shape,
                              "data_offsets", (json_int_t)begin, (json_int_t)end);
    return fault | json_object_set_new(header, t->name, entry);
}

static sc_status begin_shard(safetensors_writer *w)
{
    shard_plan *sh = &w->shards[w->shard];
    sc_status status;
    strbuf text = {0};
    char *dump = NULL;
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    int fault = header ? 0 : -1;
    uint64_t at = 0;
    for (size_t i = sh->first; i < sh->first + sh->n; i++) {
        if (json_object_get(header, w->tensors[i].name)) {
            status = sc_fail(SC_INTERNAL, "%s: tensor %s was planned twice", sh->path, w->tensors[i].name);
            goto cleanup;
        }
        fault |= add_entry(header, &w->tensors[i], at, at + w->sizes[i]);
        at += w->sizes[i];
    }
    dump = fault ? NULL : json_dumps(header, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (!dump) {
        status = sc_fail(SC_MEMORY, "%s: memory does not suffice for the header", sh->path);
        goto cleanup;
    }
    strbuf_puts(&text, dump);
    while (text.len % 8 != 0 && !text.failed) /* so that the data starts at a multiple of 8 */
        strbuf_putc(&text, ' ');
    SC_TRY(strbuf_status(&text));
    uint64_t length = text.len;
    SC_TRY(file_writer_open(sh->path, &sh->file));
    SC_TRY(file_writer_write(sh->file, &length, sizeof length));
    SC_TRY(file_writer_write(sh->file, text.data, text.len));
cleanup:
    free(dump);
    strbuf_free(&text);
    json_decref(header);
    return status;
}

sc_status safetensors_writer_open(const char *path, const st_plan *tensors, size_t n_tensors,
                                  uint64_t shard_limit, safetensors_writer **out)
{
    sc_status status;
    safetensors_writer *w = NULL;
    *out = NULL;
    if (!text_ends(path, SUFFIX))
        return sc_fail(SC_INTERNAL, "%s: the name of a safetensors file ends in " SUFFIX, path);
    SC_TRY(sc_alloc(&w, 1, sizeof *w));
    SC_TRY(sc_strdup(&w->stem, path));
    w->stem[strlen(w->stem) - strlen(SUFFIX)] = 0;
    w->n_tensors = n_tensors;
    SC_TRY(plan_shards(w, tensors, shard_limit));
    SC_TRY(begin_shard(w));
    *out = w;
    w = NULL;
cleanup:
    safetensors_writer_discard(&w);
    return status;
}

sc_status safetensors_writer_data(safetensors_writer *w, const void *bytes, size_t n_bytes)
{
    const uint8_t *from = bytes;
    while (n_bytes > 0) {
        shard_plan *sh = &w->shards[w->shard];
        uint64_t room = sh->bytes - w->filled;
        sc_status status;
        if (room == 0) {
            if (w->shard + 1 == w->n_shards)
                return sc_fail(SC_INTERNAL, "%s: more data came than was planned", sh->path);
            w->shard++;
            w->filled = 0;
            status = begin_shard(w);
        } else {
            size_t piece = n_bytes < room ? n_bytes : (size_t)room;
            status = file_writer_write(sh->file, from, piece);
            from += piece;
            n_bytes -= piece;
            w->filled += piece;
        }
        if (status != SC_OK)
            return status;
    }
    return SC_OK;
}

static sc_status write_index(const safetensors_writer *w, const char *path)
{
    json_t *weight_map = json_object();
    int fault = weight_map ? 0 : -1;
    for (size_t s = 0; s < w->n_shards; s++) {
        const shard_plan *sh = &w->shards[s];
        for (size_t i = sh->first; i < sh->first + sh->n; i++)
            fault |= json_object_set_new(weight_map, w->tensors[i].name, json_string(path_base(sh->path)));
    }
    json_t *index =
        json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)w->total, "weight_map", weight_map);
    sc_status status = fault || !index ? sc_fail(SC_MEMORY, "%s: memory does not suffice for the index", path)
                                       : json_write_file(path, index);
    json_decref(index);
    return status;
}

/* "<stem>-00002-of-00003.safetensors", of any two numbers. */
static bool is_shard_of(const char *name, const char *stem)
{
    const size_t length = strlen(stem);
    if (strncmp(name, stem, length) != 0)
        return false;
    name += length;
    for (const char *form = "-#-of-#" SUFFIX; *form != '\0'; form++) {
        const size_t digits = strspn(name, "0123456789");
        if (*form == '#' ? digits < 5 : *name != *form)
            return false;
        name += *form == '#' ? digits : 1;
    }
    return *name == '\0';
}

static bool is_written(const safetensors_writer *w, const char *name)
{
    for (size_t i = 0; i < w->n_shards; i++)
        if (strcmp(path_base(w->shards[i].path), name) == 0)
            return true;
    return false;
}

/* Shards of an earlier file with another number of them. */
static sc_status remove_other_shards(const safetensors_writer *w)
{
    sc_status status = SC_OK;
    DIR *dir = NULL;
    char *path = NULL, *folder = NULL;
    const size_t length = (size_t)(path_base(w->stem) - w->stem);
    SC_TRY(sc_strdup(&folder, length > 0 ? w->stem : "."));
    folder[length > 0 ? length : 1] = '\0';
    dir = opendir(folder);
    if (dir == NULL)
        SC_TRY(sc_fail_errno(SC_IO, "cannot read the folder %s", folder));
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (!is_shard_of(e->d_name, path_base(w->stem)) || is_written(w, e->d_name))
            continue;
        free(path);
        path = path_join(folder, e->d_name);
        if (path == NULL)
            SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice for a path in %s", folder));
        SC_TRY(file_remove_tree(path));
    }
cleanup:
    if (dir != NULL)
        closedir(dir);
    free(path);
    free(folder);
    return status;
}

/* A reader prefers X.safetensors to the index, so that what the other layout left behind must go. */
static sc_status remove_other_layout(const safetensors_writer *w, const char *index_path)
{
    sc_status status;
    strbuf single = {0};
    strbuf_printf(&single, "%s" SUFFIX, w->stem);
    SC_TRY(strbuf_status(&single));
    SC_TRY(file_remove_tree(w->n_shards == 1 ? index_path : single.data));
    SC_TRY(remove_other_shards(w));
cleanup:
    strbuf_free(&single);
    return status;
}

sc_status safetensors_writer_sync(safetensors_writer *w)
{
    sc_status status = SC_OK;
    if (w->shard + 1 != w->n_shards || w->filled != w->shards[w->shard].bytes)
        return sc_fail(SC_INTERNAL, "%s: less data came than was planned", w->shards[w->shard].path);
    for (size_t i = 0; i < w->n_shards; i++)
        SC_TRY(file_writer_sync(w->shards[i].file));
cleanup:
    return status;
}

sc_status safetensors_writer_commit(safetensors_writer **pointer)
{
    safetensors_writer *w = *pointer;
    sc_status status;
    strbuf index = {0};
    strbuf_printf(&index, "%s" SUFFIX ".index.json", w->stem);
    SC_TRY(strbuf_status(&index));
    SC_TRY(safetensors_writer_sync(w));
    /* The index of an earlier model names some of the same files: it would join old shards and new ones. */
    if (w->n_shards > 1)
        SC_TRY(file_remove_tree(index.data));
    for (size_t i = 0; i < w->n_shards; i++)
        SC_TRY(file_writer_commit(&w->shards[i].file));
    if (w->n_shards > 1)
        SC_TRY(write_index(w, index.data));
    SC_TRY(remove_other_layout(w, index.data));
cleanup:
    strbuf_free(&index);
    safetensors_writer_discard(pointer);
    return status;
}

void safetensors_writer_discard(safetensors_writer **pointer)
{
    safetensors_writer *w = *pointer;
    if (!w)
        return;
    for (size_t i = 0; w->shards && i < w->n_shards; i++) {
        file_writer_discard(&w->shards[i].file);
        free(w->shards[i].path);
    }
    for (size_t i = 0; w->tensors && i < w->n_tensors; i++)
        free((char *)w->tensors[i].name);
    free(w->shards);
    free(w->sizes);
    free(w->tensors);
    free(w->stem);
    free(w);
    *pointer = NULL;
}
