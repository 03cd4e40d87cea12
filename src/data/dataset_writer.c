/* A dataset folder, built aside and put in place by one rename. */
#include "data/dataset_writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "data/item_schema.h"
#include "formats/npy.h"

typedef struct dataset_pair {
    int32_t user, item;
    uint32_t order; /* of the input: of several ratings the last counts */
    float rating;
} dataset_pair;

static const char *const own_files[] = {
    "reviews.jsonl",           "items.jsonl", "users.txt", "interactions.npy", "dataset.json",
    "interactions_rating.npy", NULL};

static bool folder_is_empty(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder)
        return false;
    bool empty = true;
    for (struct dirent *e = readdir(folder); e && empty; e = readdir(folder))
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    closedir(folder);
    return empty;
}

/* Whether OUT may be written: absent, empty, or a dataset folder. */
static sc_status check_target(const char *out)
{
    char *description = NULL;
    sc_status status = SC_OK;
    if (!file_exists(out))
        return SC_OK;
    if (!file_is_dir(out))
        return sc_fail(SC_USAGE, "%s exists and is not a folder; name another place with --out", out);
    description = path_join(out, "dataset.json");
    if (!description)
        return sc_fail(SC_MEMORY, "memory ran out");
    if (!file_exists(description) && !folder_is_empty(out))
        status = sc_fail(SC_USAGE,
                         "%s is not empty and holds no dataset.json; name another folder with --out", out);
    free(description);
    return status;
}

/* A folder beside `out`. mkdir, not mkdtemp: it has the permissions that the user's umask gives. */
static sc_status make_temporary(const char *out, char **temporary)
{
    for (unsigned attempt = 0; attempt < 1000; attempt++) {
        strbuf name = {0};
        strbuf_printf(&name, "%s.tmp-%ld-%u", out, (long)getpid(), attempt);
        sc_status status = strbuf_status(&name);
        if (status != SC_OK)
            return status;
        if (mkdir(name.data, 0777) == 0) {
            *temporary = strbuf_take(&name);
            return SC_OK;
        }
        int error = errno;
        strbuf_free(&name);
        if (error != EEXIST) {
            errno = error;
            return sc_fail_errno(SC_IO, "cannot make a folder beside %s", out);
        }
    }
    return sc_fail(SC_IO, "too many unfinished folders %s.tmp-* lie about; remove them", out);
}

static sc_status open_file(const dataset_writer *w, const char *name, file_writer **out)
{
    char *path = path_join(w->temporary, name);
    if (!path)
        return sc_fail(SC_MEMORY, "memory ran out");
    sc_status status = file_writer_open(path, out);
    free(path);
    return status;
}

sc_status dataset_writer_open(const char *out, bool reviews, dataset_writer **result)
{
    sc_status status = SC_OK;
    dataset_writer *w = NULL;
    char *parent = NULL;
    *result = NULL;
    SC_TRY(sc_alloc(&w, 1, sizeof *w));
    if (file_exists(out)) { /* a link keeps pointing where it does */
        w->out = realpath(out, NULL);
        if (!w->out) {
            status = sc_fail_errno(SC_USAGE, "cannot resolve %s", out);
            goto cleanup;
        }
    } else {
        SC_TRY(sc_strdup(&w->out, out));
        for (size_t n = strlen(w->out); n > 1 && w->out[n - 1] == '/'; n--)
            w->out[n - 1] = '\0';
    }
    SC_TRY(check_target(w->out));
    parent = path_dir(w->out);
    if (!parent) {
        status = sc_fail(SC_MEMORY, "memory ran out");
        goto cleanup;
    }
    SC_TRY(file_make_dirs(parent));
    SC_TRY(make_temporary(w->out, &w->temporary));
    SC_TRY(open_file(w, "items.jsonl", &w->items));
    SC_TRY(open_file(w, "users.txt", &w->users));
    if (reviews)
        SC_TRY(open_file(w, "reviews.jsonl", &w->reviews));
    *result = w;
    w = NULL;
cleanup:
    free(parent);
    dataset_writer_discard(&w);
    return status;
}

sc_status dataset_writer_item(dataset_writer *w, const json_t *item, bool *is_new)
{
    sc_status status = SC_OK;
    int32_t index = 0;
    const char *id = NULL;
    SC_TRY(json_need_string(item, "parent_asin", "item", &id));
    SC_TRY(id_table_put(&w->item_ids, id, &index, NULL));
    *is_new = (size_t)index >= w->n_item_lines;
    if (!*is_new)
        goto cleanup;
    if ((size_t)index != w->n_item_lines)
        return sc_fail(SC_INTERNAL, "the line of item %s would not stand at its index", id);
    SC_TRY(json_write_line(w->items, item));
    w->n_item_lines++;
cleanup:
    return status;
}

sc_status dataset_writer_review(dataset_writer *w, const json_t *review)
{
    w->n_reviews++;
    return json_write_line(w->reviews, review);
}

sc_status dataset_writer_interaction(dataset_writer *w, const char *user_id, const char *item_id,
                                     double rating, bool *user_is_new)
{
    sc_status status = SC_OK;
    int32_t user = 0, item = 0;
    bool is_new = false;
    if (w->n_pairs >= UINT32_MAX)
        return sc_fail(SC_BAD_INPUT, "more than 4294967295 interactions: split the data set");
    SC_TRY(id_table_put(&w->user_ids, user_id, &user, &is_new));
    if (is_new) {
        SC_TRY(file_writer_puts(w->users, user_id));
        SC_TRY(file_writer_puts(w->users, "\n"));
    }
    if (user_is_new)
        *user_is_new = is_new;
    SC_TRY(id_table_put(&w->item_ids, item_id, &item, NULL));
    SC_TRY(sc_grow(&w->pairs, &w->pairs_capacity, w->n_pairs + 1, sizeof *w->pairs));
    w->pairs[w->n_pairs] = (dataset_pair){user, item, (uint32_t)w->n_pairs, (float)rating};
    w->n_pairs++;
cleanup:
    return status;
}

static int compare_pairs(const void *left, const void *right)
{
    const dataset_pair *a = left, *b = right;
    if (a->user != b->user)
        return a->user < b->user ? -1 : 1;
    if (a->item != b->item)
        return a->item < b->item ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

static sc_status write_npy(const dataset_writer *w, const char *name, npy_type type, int n_dims,
                           const int64_t *shape, npy_writer **out)
{
    char *path = path_join(w->temporary, name);
    if (!path)
        return sc_fail(SC_MEMORY, "memory ran out");
    sc_status status = npy_writer_open(path, type, n_dims, shape, out);
    free(path);
    return status;
}

static sc_status write_interactions(dataset_writer *w)
{
    sc_status status = SC_OK;
    npy_writer *pairs = NULL, *ratings = NULL;
    size_t kept = 0;
    if (w->n_pairs > 1)
        qsort(w->pairs, w->n_pairs, sizeof *w->pairs, compare_pairs);
    for (size_t i = 0; i < w->n_pairs; i++) {
        bool last = i + 1 == w->n_pairs || w->pairs[i + 1].user != w->pairs[i].user ||
                    w->pairs[i + 1].item != w->pairs[i].item;
        if (last)
            w->pairs[kept++] = w->pairs[i];
    }
    w->n_repeated_pairs = (int64_t)(w->n_pairs - kept);
    w->n_interactions = (int64_t)kept;
    SC_TRY(write_npy(w, "interactions.npy", NPY_I4, 2, (const int64_t[]){(int64_t)kept, 2}, &pairs));
    SC_TRY(write_npy(w, "interactions_rating.npy", NPY_F4, 1, (const int64_t[]){(int64_t)kept}, &ratings));
    for (size_t i = 0; i < kept; i++) {
        SC_TRY(npy_writer_rows(pairs, (const int32_t[]){w->pairs[i].user, w->pairs[i].item}, 1));
        SC_TRY(npy_writer_rows(ratings, &w->pairs[i].rating, 1));
    }
    SC_TRY(npy_writer_commit(&pairs));
    SC_TRY(npy_writer_commit(&ratings));
cleanup:
    npy_writer_discard(&pairs);
    npy_writer_discard(&ratings);
    return status;
}

static sc_status write_description(dataset_writer *w, json_t *description)
{
    sc_status status = SC_OK;
    char *path = NULL;
    json_t *files = json_object();
    json_t *counts =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "reviews", (json_int_t)w->n_reviews, "items",
                  (json_int_t)w->item_ids.n, "users", (json_int_t)w->user_ids.n, "interactions",
                  (json_int_t)w->n_interactions, "items_without_metadata", (json_int_t)w->n_without_metadata,
                  "repeated_pairs", (json_int_t)w->n_repeated_pairs);
    if (!files || !counts || json_object_set_new(description, "counts", counts) != 0 ||
        json_object_set(description, "files", files) != 0) {
        status = sc_fail(SC_MEMORY, "memory ran out while describing %s", w->out);
        goto cleanup;
    }
    for (const char *const *name = own_files; *name; name++) {
        char hex[65];
        uint64_t bytes = 0;
        free(path);
        path = path_join(w->temporary, *name);
        if (!path) {
            status = sc_fail(SC_MEMORY, "memory ran out");
            goto cleanup;
        }
        if (!file_exists(path))
            continue;
        SC_TRY(file_size(path, &bytes));
        SC_TRY(file_sha256(path, hex));
        if (json_object_set_new(files, *name,
                                json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "sha256", hex))) {
            status = sc_fail(SC_MEMORY, "memory ran out while describing %s", w->out);
            goto cleanup;
        }
    }
    free(path);
    path = path_join(w->temporary, "dataset.json");
    if (!path) {
        status = sc_fail(SC_MEMORY, "memory ran out");
        goto cleanup;
    }
    SC_TRY(json_write_file(path, description));
cleanup:
    json_decref(files);
    free(path);
    return status;
}

static void sync_parent(const char *path)
{
    char *parent = path_dir(path);
    int folder = parent ? open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (folder >= 0) {
        fsync(folder);
        close(folder);
    }
    free(parent);
}

/* What a user put into the folder that is being replaced moves over to the new one. */
static sc_status keep_foreign_files(const char *old, const char *fresh)
{
    sc_status status = SC_OK;
    DIR *folder = opendir(old);
    if (!folder)
        return sc_fail_errno(SC_IO, "cannot read the folder %s", old);
    for (struct dirent *e = readdir(folder); e && status == SC_OK; e = readdir(folder)) {
        bool own = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
        for (const char *const *name = own_files; *name && !own; name++)
            own = strcmp(*name, e->d_name) == 0;
        if (own)
            continue;
        char *from = path_join(old, e->d_name), *to = path_join(fresh, e->d_name);
        if (!from || !to)
            status = sc_fail(SC_MEMORY, "memory ran out");
        else if (rename(from, to) != 0)
            status = sc_fail_errno(SC_IO, "cannot move %s to %s", from, to);
        free(from);
        free(to);
    }
    closedir(folder);
    return status;
}

/* Puts the finished folder in its place; an old one is exchanged with it, so that at no time a
 * reader finds neither. */
static sc_status put_in_place(dataset_writer *w)
{
    sc_status status = SC_OK;
    SC_TRY(check_target(w->out)); /* it may have changed meanwhile */
    if (file_exists(w->out) && !folder_is_empty(w->out)) {
        if (renameat2(AT_FDCWD, w->temporary, AT_FDCWD, w->out, RENAME_EXCHANGE) != 0) {
            status = sc_fail_errno(SC_IO, "cannot replace %s", w->out);
            goto cleanup;
        }
        /* From here on `temporary` names the old folder: what cannot be moved out of it stays in it. */
        char *old = w->temporary;
        w->temporary = NULL;
        status = keep_foreign_files(old, w->out);
        if (status == SC_OK)
            status = file_remove_tree(old);
        free(old);
        if (status != SC_OK)
            goto cleanup;
    } else if (rename(w->temporary, w->out) != 0) {
        status = sc_fail_errno(SC_IO, "cannot rename %s to %s", w->temporary, w->out);
        goto cleanup;
    }
    free(w->temporary);
    w->temporary = NULL;
    sync_parent(w->out);
cleanup:
    return status;
}

sc_status dataset_writer_commit(dataset_writer **writer, json_t *description)
{
    sc_status status = SC_OK;
    dataset_writer *w = *writer;
    json_t *item = NULL;
    for (size_t i = w->n_item_lines; i < w->item_ids.n; i++) {
        json_decref(item);
        SC_TRY(item_without_metadata(id_table_get(&w->item_ids, (int32_t)i), &item));
        SC_TRY(json_write_line(w->items, item));
        w->n_without_metadata++;
    }
    SC_TRY(file_writer_commit(&w->items));
    SC_TRY(file_writer_commit(&w->users));
    if (w->reviews)
        SC_TRY(file_writer_commit(&w->reviews));
    SC_TRY(write_interactions(w));
    SC_TRY(check_cancelled());
    SC_TRY(write_description(w, description));
    SC_TRY(put_in_place(w));
cleanup:
    json_decref(item);
    dataset_writer_discard(writer);
    return status;
}

void dataset_writer_discard(dataset_writer **writer)
{
    dataset_writer *w = *writer;
    if (!w)
        return;
    file_writer_discard(&w->reviews);
    file_writer_discard(&w->items);
    file_writer_discard(&w->users);
    if (w->temporary)
        file_remove_tree(w->temporary);
    id_table_free(&w->item_ids);
    id_table_free(&w->user_ids);
    free(w->pairs);
    free(w->temporary);
    free(w->out);
    free(w);
    *writer = NULL;
}
