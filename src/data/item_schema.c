/* The schema of items.jsonl. */
#include "data/item_schema.h"

#include <stdlib.h>
#include <string.h>

static sc_status no_memory(const char *where)
{
    return sc_fail(SC_MEMORY, "%s: memory ran out while reading an item", where);
}

/* Sets object[key] to a new reference; a NULL value means that memory ran out. */
static sc_status put(json_t *object, const char *key, json_t *value, const char *where)
{
    return value && json_object_set_new(object, key, value) == 0 ? SC_OK : no_memory(where);
}

static sc_status cleaned_string(const char *text, size_t n, bool one_line, clean_counts *counts, json_t **out)
{
    sc_status status = SC_OK;
    strbuf cleaned = {0};
    SC_TRY(one_line ? clean_line(text, n, counts, &cleaned) : clean_text(text, n, counts, &cleaned));
    *out = cleaned.len == 0 ? json_null() : json_stringn(strbuf_text(&cleaned), cleaned.len);
    if (!*out)
        status = no_memory("items");
cleanup:
    strbuf_free(&cleaned);
    return status;
}

/* Appends the strings of a string, an array, or nested arrays (Amazon Reviews 2014). */
static sc_status flatten(const json_t *value, const char *key, const char *where, int depth, bool one_line,
                         clean_counts *counts, json_t *out)
{
    sc_status status = SC_OK;
    if (!value || json_is_null(value))
        return SC_OK;
    if (json_is_string(value)) {
        json_t *text = NULL;
        SC_TRY(cleaned_string(json_string_value(value), json_string_length(value), one_line, counts, &text));
        if (json_is_null(text))
            json_decref(text);
        else if (json_array_append_new(out, text) != 0)
            return no_memory(where);
        return SC_OK;
    }
    if (!json_is_array(value) || depth == 3)
        return sc_fail(SC_BAD_INPUT, "%s: \"%s\" must be a list of strings", where, key);
    for (size_t i = 0; i < json_array_size(value); i++)
        SC_TRY(flatten(json_array_get(value, i), key, where, depth + 1, one_line, counts, out));
cleanup:
    return status;
}

static sc_status put_strings(json_t *item, const char *key, const json_t *value, const char *where,
                             bool one_line, clean_counts *counts)
{
    json_t *list = json_array();
    if (!list)
        return no_memory(where);
    sc_status status = flatten(value, key, where, 0, one_line, counts, list);
    if (status != SC_OK) {
        json_decref(list);
        return status;
    }
    return put(item, key, list, where);
}

static sc_status put_line(json_t *item, const char *key, const json_t *line, const char *from,
                          const char *where, clean_counts *counts)
{
    const char *text = NULL;
    json_t *value = NULL;
    sc_status status = json_get_string(line, from, where, NULL, &text);
    if (status != SC_OK)
        return status;
    if (!text)
        return put(item, key, json_null(), where);
    status = cleaned_string(text, strlen(text), true, counts, &value);
    return status != SC_OK ? status : put(item, key, value, where);
}

/* Directors, actors and the rest: strings and lists of strings are cleaned, other values kept. */
static sc_status put_details(json_t *item, const json_t *value, const char *where, clean_counts *counts)
{
    sc_status status = SC_OK;
    json_t *parsed = NULL, *details = json_object();
    const char *key = NULL;
    json_t *detail = NULL;
    if (!details)
        return no_memory(where);
    if (json_is_string(value)) { /* as the data set is published on Hugging Face */
        SC_TRY(json_parse(json_string_value(value), json_string_length(value), where, &parsed));
        value = parsed;
    }
    if (value && !json_is_null(value) && !json_is_object(value)) {
        status = sc_fail(SC_BAD_INPUT, "%s: \"details\" must be an object", where);
        goto cleanup;
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, detail)
    {
        json_t *kept = NULL;
        if (json_is_string(detail))
            SC_TRY(
                cleaned_string(json_string_value(detail), json_string_length(detail), true, counts, &kept));
        else
            kept = json_deep_copy(detail);
        SC_TRY(put(details, key, kept, where));
    }
    status = put(item, "details", json_incref(details), where);
cleanup:
    json_decref(details);
    json_decref(parsed);
    return status;
}

static sc_status put_array(json_t *item, const char *key, const json_t *line, const char *where)
{
    const json_t *value = json_object_get(line, key);
    if (!value || json_is_null(value))
        return put(item, key, json_array(), where);
    if (!json_is_array(value))
        return sc_fail(SC_BAD_INPUT, "%s: \"%s\" must be a list", where, key);
    return put(item, key, json_deep_copy(value), where);
}

sc_status item_normalise(const json_t *line, const char *where, clean_counts *counts, json_t **out)
{
    sc_status status = SC_OK;
    const char *id = NULL;
    double average = 0;
    int64_t ratings = 0;
    json_t *item = NULL;
    *out = NULL;
    SC_TRY(json_get_string(line, "parent_asin", where, NULL, &id));
    if (!id || is_blank(id))
        SC_TRY(json_get_string(line, "asin", where, NULL, &id));
    if (!id || is_blank(id))
        return SC_OK;
    SC_TRY(check_id(id, "item id", where));
    item = json_object();
    if (!item)
        return no_memory(where);
    SC_TRY(put(item, "parent_asin", json_string(id), where));
    SC_TRY(put_line(item, "title", line, "title", where, counts));
    if (json_object_get(line, "subtitle"))
        SC_TRY(put_line(item, "subtitle", line, "subtitle", where, counts));
    SC_TRY(put_line(item, "main_category", line,
                    json_object_get(line, "main_cat") ? "main_cat" : "main_category", where, counts));
    const json_t *average_rating = json_object_get(line, "average_rating");
    if (average_rating && !json_is_null(average_rating)) {
        SC_TRY(json_need_number(line, "average_rating", where, &average));
        SC_TRY(put(item, "average_rating", json_real(average), where));
    } else {
        SC_TRY(put(item, "average_rating", json_null(), where));
    }
    SC_TRY(json_get_int(line, "rating_number", where, 0, &ratings));
    SC_TRY(put(item, "rating_number", json_integer(ratings), where));
    const json_t *features = json_object_get(line, "features");
    SC_TRY(put_strings(item, "features", features ? features : json_object_get(line, "feature"), where, false,
                       counts));
    SC_TRY(put_strings(item, "description", json_object_get(line, "description"), where, false, counts));
    const json_t *price = json_object_get(line, "price");
    if (price && !json_is_null(price) && !json_is_number(price) && !json_is_string(price)) {
        status = sc_fail(SC_BAD_INPUT, "%s: \"price\" must be a number, a string or null", where);
        goto cleanup;
    }
    SC_TRY(put(item, "price", price ? json_deep_copy(price) : json_null(), where));
    SC_TRY(put_array(item, "images", line, where));
    SC_TRY(put_array(item, "videos", line, where));
    SC_TRY(put_line(item, "store", line, json_object_get(line, "brand") ? "brand" : "store", where, counts));
    const json_t *categories = json_object_get(line, "categories");
    SC_TRY(put_strings(item, "categories", categories ? categories : json_object_get(line, "category"), where,
                       true, counts));
    SC_TRY(put_details(item, json_object_get(line, "details"), where, counts));
    const json_t *together = json_object_get(line, "bought_together");
    SC_TRY(put(item, "bought_together", together ? json_deep_copy(together) : json_null(), where));
    *out = item;
    item = NULL;
cleanup:
    json_decref(item);
    return status;
}

sc_status item_without_metadata(const char *id, json_t **out)
{
    clean_counts counts = {0};
    json_t *line = json_pack("{s:s}", "parent_asin", id);
    if (!line)
        return no_memory(id);
    sc_status status = item_normalise(line, id, &counts, out);
    json_decref(line);
    return status;
}

static json_t *split(const char *text, char divider)
{
    json_t *list = json_array();
    while (list && *text) {
        size_t n = strcspn(text, (const char[]){divider, '\0'});
        size_t start = strspn(text, " ");
        size_t end = n;
        while (end > start && text[end - 1] == ' ')
            end--;
        if (end > start && json_array_append_new(list, json_stringn(text + start, end - start)) != 0) {
            json_decref(list);
            return NULL;
        }
        text += n + (text[n] == divider);
    }
    return list;
}

static const char *field(const csv_reader *r, const char *const *fields, const char *name)
{
    int column = csv_column(r, name);
    return column < 0 || is_blank(fields[column]) ? NULL : fields[column];
}

sc_status item_from_csv(const csv_reader *r, const char *const *fields, const char *where,
                        clean_counts *counts, json_t **out)
{
    static const char *const same[] = {"title", "description", "store", "price", "main_category", NULL};
    static const char *const lists[][2] = {
        {"directors", "Directors"}, {"cast", "Actors"}, {"year", "Release Year"}};
    static const char *const ids[] = {"parent_asin", "item_id", "asin", NULL};
    sc_status status = SC_OK;
    const char *value = NULL;
    json_t *line = json_object(), *details = json_object();
    *out = NULL;
    if (!line || !details) {
        status = no_memory(where);
        goto cleanup;
    }
    for (const char *const *name = ids; *name && !value; name++)
        value = field(r, fields, *name);
    if (value)
        SC_TRY(put(line, "parent_asin", json_text(value), where));
    for (const char *const *name = same; *name; name++) {
        if ((value = field(r, fields, *name)))
            SC_TRY(put(line, *name, json_text(value), where));
    }
    value = field(r, fields, "categories");
    if (!value)
        value = field(r, fields, "genres");
    if (value)
        SC_TRY(put(line, "categories", split(value, '|'), where));
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if ((value = field(r, fields, lists[i][0])))
            SC_TRY(put(details, lists[i][1], i < 2 ? split(value, '|') : json_text(value), where));
    }
    SC_TRY(put(line, "details", json_incref(details), where));
    SC_TRY(item_normalise(line, where, counts, out));
cleanup:
    json_decref(line);
    json_decref(details);
    return status;
}

static size_t text_length(const json_t *strings)
{
    size_t total = 0, i = 0;
    json_t *value = NULL;
    json_array_foreach(strings, i, value)
    {
        total += json_string_length(value);
    }
    return total;
}

static bool list_holds(const json_t *list, const json_t *value)
{
    size_t i = 0;
    json_t *known = NULL;
    json_array_foreach(list, i, known)
    {
        if (json_equal(known, value))
            return true;
    }
    return false;
}

static bool is_void(const json_t *value)
{
    return !value || json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0);
}

sc_status item_enrich(json_t *item, const json_t *other, bool *changed)
{
    static const char *const longer[] = {"description", "features", NULL};
    static const char *const single[] = {"title", "subtitle", "main_category", "price",
                                         "store", "images",   "videos",        NULL};
    const char *key = NULL;
    json_t *value = NULL;
    size_t i = 0;
    int failed = 0;
    *changed = false;
    for (const char *const *name = single; *name; name++) {
        value = json_object_get(other, *name);
        if (is_void(json_object_get(item, *name)) && !is_void(value)) {
            failed |= json_object_set_new(item, *name, json_deep_copy(value));
            *changed = true;
        }
    }
    for (const char *const *name = longer; *name; name++) {
        value = json_object_get(other, *name);
        if (text_length(value) > text_length(json_object_get(item, *name))) {
            failed |= json_object_set_new(item, *name, json_deep_copy(value));
            *changed = true;
        }
    }
    json_t *categories = json_object_get(item, "categories");
    json_array_foreach(json_object_get(other, "categories"), i, value)
    {
        if (json_is_array(categories) && !list_holds(categories, value)) {
            failed |= json_array_append_new(categories, json_deep_copy(value));
            *changed = true;
        }
    }
    json_t *details = json_object_get(item, "details");
    json_object_foreach(json_object_get(other, "details"), key, value)
    {
        if (json_is_object(details) && is_void(json_object_get(details, key)) && !is_void(value)) {
            failed |= json_object_set_new(details, key, json_deep_copy(value));
            *changed = true;
        }
    }
    return failed ? no_memory("join") : SC_OK;
}
