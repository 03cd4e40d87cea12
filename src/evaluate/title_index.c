/* A catalogue of names: read from items.jsonl or He et al.'s entity list, made distinct, indexed. */
#include "evaluate/title_index.h"

#include <stdlib.h>
#include <string.h>

#include "evaluate/title.h"

size_t title_index_size(const title_index *c)
{
    return c->n_names;
}

size_t title_index_n_items(const title_index *c)
{
    return c->n_items;
}

const char *title_index_name(const title_index *c, int32_t index)
{
    return c->names[index].name;
}

const char *title_index_key(const title_index *c, int32_t index)
{
    return c->names[index].key;
}

void title_index_form(const title_index *c, const char *title, strbuf *out)
{
    if (c->mode == MATCH_STRICT) {
        title_normalise(out, title);
        return;
    }
    utf8_lower(out, title, strlen(title));
}

int32_t title_index_find_key(const title_index *c, const char *key)
{
    size_t low = 0, high = c->n_names;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        const int order = strcmp(c->names[c->by_key[middle]].key, key);
        if (order == 0)
            return c->by_key[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

void title_index_form_of_name(const title_index *c, const char *name, strbuf *out)
{
    strbuf plain = {0};
    if (c->mode == MATCH_HE2023)
        title_he_entity(&plain, name);
    else
        strbuf_puts(&plain, name);
    title_index_form(c, strbuf_text(&plain), out);
    out->failed = out->failed || plain.failed;
    strbuf_free(&plain);
}

sc_status title_index_find(const title_index *c, const char *title, int32_t *out)
{
    strbuf key = {0};
    title_index_form_of_name(c, title, &key);
    sc_status status = strbuf_status(&key);
    *out = status == SC_OK && key.len > 0 ? title_index_find_key(c, strbuf_text(&key)) : -1;
    strbuf_free(&key);
    return status;
}

static int by_code_point(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int32_t title_index_symbols(const title_index *c, const char *key, size_t n, int32_t *out)
{
    int32_t count = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0xfffd;
        const size_t used = utf8_decode(key + i, n - i, &cp);
        i += used > 0 ? used : 1;
        const uint32_t *found =
            bsearch(&cp, c->alphabet, (size_t)c->n_symbols, sizeof *c->alphabet, by_code_point);
        out[count++] = found ? (int32_t)(found - c->alphabet) : -1;
    }
    return count;
}

/* --- building ------------------------------------------------------------------------------------- */

static int by_order(const void *a, const void *b)
{
    const name_entry *x = a, *y = b;
    if (x->item != y->item)
        return x->item ? -1 : 1;
    const int order = strcmp(x->key, y->key);
    return order != 0 ? order : strcmp(x->name, y->name);
}

static int by_key(const void *a, const void *b, void *names)
{
    const name_entry *all = names;
    return strcmp(all[*(const int32_t *)a].key, all[*(const int32_t *)b].key);
}

static int by_key_then_item(const void *a, const void *b)
{
    const name_entry *x = a, *y = b;
    const int order = strcmp(x->key, y->key);
    if (order != 0)
        return order;
    if (x->item != y->item)
        return x->item ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void name_entry_free(name_entry *e)
{
    free(e->name);
    free(e->key);
    free(e->symbols);
}

static sc_status collect_alphabet(title_index *c)
{
    sc_status status = SC_OK;
    size_t total = 0, n = 0, distinct = 0;
    for (size_t i = 0; i < c->n_names; i++)
        total += strlen(c->names[i].key);
    uint32_t *all = NULL;
    SC_TRY(sc_alloc(&all, total + 1, sizeof *all));
    for (size_t i = 0; i < c->n_names; i++) {
        const char *key = c->names[i].key;
        for (size_t at = 0, length = strlen(key); at < length;) {
            const size_t used = utf8_decode(key + at, length - at, &all[n]);
            if (used == 0)
                all[n] = 0xfffd;
            at += used > 0 ? used : 1;
            n++;
        }
    }
    qsort(all, n, sizeof *all, by_code_point);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || all[i] != all[i - 1])
            all[distinct++] = all[i];
    if (distinct > UINT16_MAX) {
        status =
            sc_fail(SC_BAD_INPUT, "the catalogue's names use %zu different characters; %d can be told apart",
                    distinct, UINT16_MAX);
        goto cleanup;
    }
    c->alphabet = all;
    c->n_symbols = (int32_t)distinct;
    all = NULL;
cleanup:
    free(all);
    return status;
}

static sc_status index_names(title_index *c)
{
    sc_status status = SC_OK;
    int32_t *symbols = NULL;
    size_t longest = 0;
    for (size_t i = 0; i < c->n_names; i++)
        longest = strlen(c->names[i].key) > longest ? strlen(c->names[i].key) : longest;
    SC_TRY(sc_alloc(&symbols, longest + 1, sizeof *symbols));
    for (size_t i = 0; i < c->n_names; i++) {
        name_entry *e = &c->names[i];
        e->length = title_index_symbols(c, e->key, strlen(e->key), symbols);
        SC_TRY(sc_alloc(&e->symbols, (size_t)e->length + 1, sizeof *e->symbols));
        for (int32_t s = 0; s < e->length; s++) {
            e->symbols[s] = (uint16_t)symbols[s];
            e->signature |= (uint64_t)1 << ((uint32_t)symbols[s] % 64);
        }
        c->longest = e->length > c->longest ? e->length : c->longest;
        c->n_items += e->item;
    }
    SC_TRY(sc_alloc(&c->by_length, c->n_names, sizeof *c->by_length));
    SC_TRY(sc_alloc(&c->by_key, c->n_names, sizeof *c->by_key));
    SC_TRY(sc_alloc(&c->by_length_start, (size_t)c->longest + 2, sizeof *c->by_length_start));
    for (size_t i = 0; i < c->n_names; i++)
        c->by_length_start[c->names[i].length + 1]++;
    for (int32_t l = 0; l <= c->longest; l++)
        c->by_length_start[l + 1] += c->by_length_start[l];
    for (size_t i = 0; i < c->n_names; i++) {
        c->by_length[c->by_length_start[c->names[i].length]++] = (int32_t)i;
        c->by_key[i] = (int32_t)i;
    }
    for (int32_t l = c->longest + 1; l > 0; l--)
        c->by_length_start[l] = c->by_length_start[l - 1];
    c->by_length_start[0] = 0;
    qsort_r(c->by_key, c->n_names, sizeof *c->by_key, by_key, c->names);
cleanup:
    free(symbols);
    return status;
}

sc_status title_index_create(const char *const *names, const bool *items, size_t n, match_mode mode,
                             title_index **out)
{
    sc_status status = SC_OK;
    title_index *c = NULL;
    strbuf plain = {0}, key = {0};
    *out = NULL;
    SC_TRY(sc_alloc(&c, 1, sizeof *c));
    c->mode = mode;
    if (n > INT32_MAX / 2) {
        status = sc_fail(SC_BAD_INPUT, "the catalogue has %zu names; %d are possible", n, INT32_MAX / 2);
        goto cleanup;
    }
    SC_TRY(sc_alloc(&c->names, n + 1, sizeof *c->names));
    for (size_t i = 0; i < n; i++) {
        strbuf_clear(&plain);
        strbuf_clear(&key);
        if (mode == MATCH_HE2023)
            title_he_entity(&plain, names[i]);
        else
            strbuf_puts(&plain, names[i]);
        title_index_form(c, strbuf_text(&plain), &key);
        SC_TRY(strbuf_status(&plain));
        SC_TRY(strbuf_status(&key));
        if (key.len == 0 || key.len > 4096)
            continue;
        name_entry *e = &c->names[c->n_names++];
        e->item = items ? items[i] : true;
        SC_TRY(sc_strdup(&e->name, strbuf_text(&plain)));
        SC_TRY(sc_strdup(&e->key, strbuf_text(&key)));
    }
    if (c->n_names == 0) {
        status = sc_fail(SC_BAD_INPUT, "the catalogue has no names to match with");
        goto cleanup;
    }
    /* One entry per compared form: an item's before another entity's. */
    qsort(c->names, c->n_names, sizeof *c->names, by_key_then_item);
    size_t kept = 0;
    for (size_t i = 0; i < c->n_names; i++) {
        if (kept > 0 && strcmp(c->names[kept - 1].key, c->names[i].key) == 0) {
            name_entry_free(&c->names[i]);
            continue;
        }
        c->names[kept++] = c->names[i];
    }
    c->n_names = kept;
    qsort(c->names, c->n_names, sizeof *c->names, by_order);
    SC_TRY(collect_alphabet(c));
    SC_TRY(index_names(c));
    *out = c;
    c = NULL;
cleanup:
    strbuf_free(&plain);
    strbuf_free(&key);
    title_index_close(c);
    return status;
}

void title_index_close(title_index *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n_names; i++)
        name_entry_free(&c->names[i]);
    free(c->names);
    free(c->alphabet);
    free(c->by_length);
    free(c->by_length_start);
    free(c->by_key);
    free(c);
}

/* --- reading --------------------------------------------------------------------------------------- */

typedef struct name_list {
    char **names;
    bool *items;
    int64_t *ids;
    size_t n, cap, cap_items, cap_ids;
} name_list;

static void name_list_free(name_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->names[i]);
    free(l->names);
    free(l->items);
    free(l->ids);
}

static sc_status name_list_add(name_list *l, const char *name, int64_t id, bool is_item)
{
    sc_status status = SC_OK;
    SC_TRY(sc_grow(&l->names, &l->cap, l->n + 1, sizeof *l->names));
    SC_TRY(sc_grow(&l->items, &l->cap_items, l->n + 1, sizeof *l->items));
    SC_TRY(sc_grow(&l->ids, &l->cap_ids, l->n + 1, sizeof *l->ids));
    SC_TRY(sc_strdup(&l->names[l->n], name));
    l->items[l->n] = is_item;
    l->ids[l->n] = id;
    l->n++;
cleanup:
    return status;
}

/* A whole JSON file, which may be compressed. */
static sc_status read_json(const char *path, json_t **out)
{
    sc_status status = SC_OK;
    line_reader *r = NULL;
    strbuf text = {0};
    SC_TRY(line_reader_open(path, (size_t)1 << 28, &r));
    for (;;) {
        const char *line;
        size_t n;
        SC_TRY(line_reader_next(r, &line, &n));
        if (!line)
            break;
        strbuf_append(&text, line, n);
        strbuf_putc(&text, '\n');
    }
    SC_TRY(strbuf_status(&text));
    SC_TRY(json_parse(strbuf_text(&text), text.len, path, out));
cleanup:
    line_reader_close(r);
    strbuf_free(&text);
    return status;
}

static int by_id(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* item_ids.json beside entity2id.json says which entities are items. */
static sc_status mark_items(const char *entity_path, name_list *l)
{
    sc_status status = SC_OK;
    json_t *root = NULL;
    int64_t *ids = NULL;
    char *folder = path_dir(entity_path);
    char *plain = folder ? path_join(folder, "item_ids.json") : NULL;
    char *packed = folder ? path_join(folder, "item_ids.json.gz") : NULL;
    if (!plain || !packed) {
        status = sc_fail(SC_MEMORY, "no memory to read %s", entity_path);
        goto cleanup;
    }
    const char *path = file_exists(plain) ? plain : file_exists(packed) ? packed : NULL;
    if (!path)
        goto cleanup;
    SC_TRY(read_json(path, &root));
    if (!json_is_array(root) || json_array_size(root) == 0) {
        status = sc_fail(SC_BAD_INPUT, "%s is not a list of ids", path);
        goto cleanup;
    }
    const size_t n = json_array_size(root);
    SC_TRY(sc_alloc(&ids, n, sizeof *ids));
    for (size_t i = 0; i < n; i++) {
        if (!json_is_integer(json_array_get(root, i))) {
            status = sc_fail(SC_BAD_INPUT, "%s: entry %zu is not a number", path, i);
            goto cleanup;
        }
        ids[i] = json_integer_value(json_array_get(root, i));
    }
    qsort(ids, n, sizeof *ids, by_id);
    for (size_t i = 0; i < l->n; i++)
        l->items[i] = bsearch(&l->ids[i], ids, n, sizeof *ids, by_id) != NULL;
cleanup:
    json_decref(root);
    free(ids);
    free(folder);
    free(plain);
    free(packed);
    return status;
}

static sc_status read_entities(const char *path, const json_t *root, name_list *l)
{
    sc_status status = SC_OK;
    strbuf name = {0};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)root, key, value)
    {
        if (!json_is_integer(value)) {
            status = sc_fail(SC_BAD_INPUT, "%s: the entity \"%.80s\" has no number", path, key);
            goto cleanup;
        }
        strbuf_clear(&name);
        title_he_entity(&name, key);
        SC_TRY(strbuf_status(&name));
        SC_TRY(name_list_add(l, strbuf_text(&name), json_integer_value(value), true));
    }
    SC_TRY(mark_items(path, l));
cleanup:
    strbuf_free(&name);
    return status;
}

static sc_status read_items(line_reader *r, name_list *l)
{
    sc_status status = SC_OK;
    json_t *item = NULL;
    strbuf where = {0};
    for (;;) {
        const char *title;
        SC_TRY(json_next_line(r, &item));
        if (!item)
            break;
        strbuf_clear(&where);
        strbuf_printf(&where, "%s:%lld", line_reader_path(r), (long long)line_reader_line(r));
        SC_TRY(json_get_string(item, "title", strbuf_text(&where), NULL, &title));
        if (title)
            SC_TRY(name_list_add(l, title, 0, true));
        json_decref(item);
        item = NULL;
    }
cleanup:
    json_decref(item);
    strbuf_free(&where);
    return status;
}

sc_status title_index_open(const char *path, match_mode mode, title_index **out)
{
    sc_status status = SC_OK;
    line_reader *r = NULL;
    json_t *root = NULL;
    name_list list = {0};
    *out = NULL;
    if (text_ends(path, ".json") || text_ends(path, ".json.gz") || text_ends(path, ".json.zst")) {
        SC_TRY(read_json(path, &root));
        if (!json_is_object(root)) {
            status = sc_fail(SC_BAD_INPUT,
                             "%s is neither items.jsonl nor an object of entity names and numbers", path);
            goto cleanup;
        }
        SC_TRY(read_entities(path, root, &list));
    } else {
        SC_TRY(line_reader_open(path, (size_t)1 << 26, &r));
        SC_TRY(read_items(r, &list));
    }
    if (list.n == 0) {
        status = sc_fail(SC_BAD_INPUT, "%s has no item with a title", path);
        goto cleanup;
    }
    SC_TRY(title_index_create((const char *const *)list.names, list.items, list.n, mode, out));
cleanup:
    line_reader_close(r);
    json_decref(root);
    name_list_free(&list);
    return status;
}
