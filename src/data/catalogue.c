/* Entity and item lists. */
#include "data/catalogue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/dataset.h"
#include "data/dialogue.h"
#include "data/item_schema.h"

/* Adds one entry; `name` moves in. The item (a new reference, or NULL) too. */
static sc_status add_entry(catalogue *c, const char *id, strbuf *name, json_t *item_line, const char *path)
{
    sc_status status = SC_OK;
    int32_t index = 0;
    bool is_new = false;
    size_t capacity = c->capacity;
    SC_TRY(strbuf_status(name));
    SC_TRY(check_id(id, "id", path));
    SC_TRY(id_table_put(&c->ids, id, &index, &is_new));
    if (!is_new) {
        status = sc_fail(SC_BAD_INPUT, "%s: the id %s stands there twice", path, id);
        goto cleanup;
    }
    SC_TRY(sc_grow(&c->names, &capacity, c->n + 1, sizeof *c->names));
    SC_TRY(sc_grow(&c->items, &c->capacity, c->n + 1, sizeof *c->items));
    c->names[c->n] = strbuf_take(name);
    c->items[c->n++] = item_line;
    c->n_candidates += item_line != NULL;
    item_line = NULL;
cleanup:
    strbuf_free(name);
    json_decref(item_line);
    return status;
}

/* An item of the schema from its id and title alone. */
static sc_status plain_item(const char *id, const char *title, const char *entity, json_t **out)
{
    clean_counts counts = {0};
    json_t *line =
        json_pack("{s:s, s:s, s:{s:s}}", "parent_asin", id, "title", title, "details", "Entity", entity);
    if (!line)
        return sc_fail(SC_MEMORY, "memory ran out while reading the items");
    sc_status status = item_normalise(line, entity, &counts, out);
    json_decref(line);
    return status;
}

/* item_ids.json, .gz or .zst beside the entity list; *out = NULL if there is none. */
static sc_status find_item_ids(const char *path, char **out)
{
    static const char *const names[] = {"item_ids.json", "item_ids.json.gz", "item_ids.json.zst", NULL};
    char *folder = path_dir(path);
    sc_status status = folder ? SC_OK : sc_fail(SC_MEMORY, "memory ran out");
    *out = NULL;
    for (const char *const *name = names; status == SC_OK && *name && !*out; name++) {
        *out = path_join(folder, *name);
        if (*out && !file_exists(*out)) {
            free(*out);
            *out = NULL;
        }
    }
    free(folder);
    return status;
}

static sc_status read_item_ids(const char *path, id_table *out)
{
    sc_status status = SC_OK;
    json_t *list = NULL;
    int32_t index = 0;
    char text[32];
    SC_TRY(json_read_compressed(path, &list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id)) {
            status = sc_fail(SC_BAD_INPUT, "%s: entry %zu is not a whole number", path, i);
            goto cleanup;
        }
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(id));
        SC_TRY(id_table_put(out, text, &index, NULL));
    }
    if (out->n == 0)
        status = sc_fail(SC_BAD_INPUT, "%s must be a list of entity ids", path);
cleanup:
    json_decref(list);
    return status;
}

static sc_status read_entities(const json_t *object, const char *path, catalogue *c)
{
    sc_status status = SC_OK;
    id_table candidates = {0};
    const char *entity = NULL;
    json_t *value = NULL;
    char id[32];
    SC_TRY(find_item_ids(path, &c->item_ids));
    if (c->item_ids)
        SC_TRY(read_item_ids(c->item_ids, &candidates));
    else
        log_warn("there is no item_ids.json beside %s: every entity counts as an item", path);
    json_object_foreach((json_t *)(uintptr_t)object, entity, value)
    {
        strbuf name = {0};
        json_t *item_line = NULL;
        if (!json_is_integer(value)) {
            status = sc_fail(SC_BAD_INPUT, "%s: the id of \"%.120s\" is not a whole number", path, entity);
            goto cleanup;
        }
        snprintf(id, sizeof id, "%lld", (long long)json_integer_value(value));
        SC_TRY(dialogue_entity_name(entity, &name));
        if ((!c->item_ids || id_table_find(&candidates, id) >= 0) && name.len > 0) {
            status = plain_item(id, strbuf_text(&name), entity, &item_line);
            if (status != SC_OK) {
                strbuf_free(&name);
                goto cleanup;
            }
        }
        SC_TRY(add_entry(c, id, &name, item_line, path));
    }
    for (size_t i = 0; i < candidates.n; i++) {
        if (id_table_find(&c->ids, id_table_get(&candidates, (int32_t)i)) < 0) {
            status = sc_fail(SC_BAD_INPUT, "%s: the id %s is not in %s", c->item_ids,
                             id_table_get(&candidates, (int32_t)i), path);
            goto cleanup;
        }
    }
cleanup:
    id_table_free(&candidates);
    return status;
}

/* ReDial's movies with their metadata. */
static sc_status read_infos(const json_t *object, const char *path, catalogue *c)
{
    static const char *const keys[][2] = {
        {"director", "Directors"}, {"star", "Actors"}, {"writer", "Writers"}};
    sc_status status = SC_OK;
    const char *id = NULL;
    json_t *info = NULL, *line = NULL, *item_line = NULL;
    strbuf where = {0}, name = {0};
    clean_counts counts = {0};
    json_object_foreach((json_t *)(uintptr_t)object, id, info)
    {
        const char *title = NULL, *plot = NULL, *imdb = NULL;
        strbuf_clear(&where);
        strbuf_printf(&where, "%s, \"%.80s\"", path, id);
        SC_TRY(strbuf_status(&where));
        SC_TRY(json_need_string(info, "name", where.data, &title));
        SC_TRY(json_get_string(info, "plot", where.data, NULL, &plot));
        SC_TRY(json_get_string(info, "imdb_id", where.data, NULL, &imdb));
        json_decref(line);
        json_t *details = json_object();
        line = json_pack("{s:s, s:s, s:s?, s:o}", "parent_asin", id, "title", title, "description", plot,
                         "details", details);
        if (!line) {
            status = sc_fail(SC_MEMORY, "memory ran out while reading %s", path);
            goto cleanup;
        }
        int failed = imdb ? json_object_set_new(details, "IMDb ID", json_string(imdb)) : 0;
        for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
            json_t *people = json_object_get(info, keys[i][0]);
            failed |= people ? json_object_set(details, keys[i][1], people) : 0;
        }
        json_t *genres = json_object_get(info, "genre");
        failed |= genres ? json_object_set(line, "categories", genres) : 0;
        if (failed) {
            status = sc_fail(SC_MEMORY, "memory ran out while reading %s", path);
            goto cleanup;
        }
        SC_TRY(item_normalise(line, where.data, &counts, &item_line));
        SC_TRY(dataset_plain_title(title, &name));
        SC_TRY(add_entry(c, id, &name, item_line, path));
    }
cleanup:
    json_decref(line);
    strbuf_free(&where);
    strbuf_free(&name);
    return status;
}

static sc_status read_item_lines(const char *path, catalogue *c)
{
    sc_status status = SC_OK;
    source s = {0};
    clean_counts counts = {0};
    json_t *line = NULL, *item_line = NULL;
    strbuf name = {0};
    SC_TRY(source_open(&s, path, &counts));
    for (;;) {
        json_decref(line);
        SC_TRY(source_next_object(&s, &line));
        if (!line)
            break;
        SC_TRY(item_normalise(line, source_where(&s), &counts, &item_line));
        const char *title = json_string_value(json_object_get(item_line, "title"));
        if (!title) { /* cannot be named by anyone */
            json_decref(item_line);
            item_line = NULL;
            continue;
        }
        const char *id = json_string_value(json_object_get(item_line, "parent_asin"));
        status = dataset_plain_title(title, &name);
        if (status == SC_OK)
            status = add_entry(c, id, &name, json_incref(item_line), source_where(&s));
        json_decref(item_line);
        item_line = NULL;
        if (status != SC_OK)
            goto cleanup;
    }
cleanup:
    json_decref(line);
    strbuf_free(&name);
    source_close(&s);
    return status;
}

static bool is_json_lines(const char *path)
{
    return text_ends(path, ".jsonl") || text_ends(path, ".jsonl.gz") || text_ends(path, ".jsonl.zst");
}

sc_status catalogue_open(const char *path, catalogue *out)
{
    sc_status status = SC_OK;
    json_t *root = NULL;
    memset(out, 0, sizeof *out);
    if (is_json_lines(path)) {
        SC_TRY(read_item_lines(path, out));
    } else {
        SC_TRY(json_read_compressed(path, &root));
        json_t *first = json_object_iter_value(json_object_iter(root));
        if (json_is_integer(first))
            SC_TRY(read_entities(root, path, out));
        else if (json_is_object(first))
            SC_TRY(read_infos(root, path, out));
        else {
            status = sc_fail(
                SC_BAD_INPUT,
                "%s is no item list: an entity2id.json, an id2info.json or an items.jsonl is needed", path);
            goto cleanup;
        }
    }
    if (out->n_candidates == 0)
        status = sc_fail(SC_BAD_INPUT, "%s names no item that could be recommended", path);
cleanup:
    json_decref(root);
    if (status != SC_OK)
        catalogue_close(out);
    return status;
}

const char *catalogue_name(const catalogue *c, const char *id)
{
    int32_t index = id_table_find(&c->ids, id);
    return index < 0 ? NULL : c->names[index];
}

sc_status catalogue_write(const catalogue *c, const char *path)
{
    sc_status status = SC_OK;
    file_writer *w = NULL;
    SC_TRY(file_writer_open(path, &w));
    for (size_t i = 0; i < c->n; i++) {
        if (c->items[i])
            SC_TRY(json_write_line(w, c->items[i]));
    }
    SC_TRY(file_writer_commit(&w));
cleanup:
    file_writer_discard(&w);
    return status;
}

void catalogue_close(catalogue *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->names[i]);
        json_decref(c->items[i]);
    }
    free(c->names);
    free(c->items);
    free(c->item_ids);
    id_table_free(&c->ids);
    memset(c, 0, sizeof *c);
}
