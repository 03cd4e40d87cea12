/* Loading a dataset folder. Every index is checked against the table it points into. */
#include "data/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/ids.h"
#include "data/source.h"
#include "formats/npy.h"

/* --- items -------------------------------------------------------------------------------------- */
/* The keys of "details" that name people, in the order in which they are listed. */
static const char *const people_keys[] = {
    "director", "directors", "cast",   "actors",  "actor",     "stars",   "starring",    "author", "authors",
    "artist",   "artists",   "writer", "writers", "performer", "creator", "contributor", NULL};

static bool listed(char *const *list, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i], text) == 0)
            return true;
    }
    return false;
}

static sc_status add_text(char ***list, size_t *n, size_t *capacity, const char *text, size_t length)
{
    sc_status status = SC_OK;
    strbuf folded = {0};
    text_fold_spaces(&folded, text, length);
    SC_TRY(strbuf_status(&folded));
    if (folded.len == 0 || listed(*list, *n, folded.data))
        goto cleanup;
    SC_TRY(sc_grow(list, capacity, *n + 1, sizeof **list));
    (*list)[(*n)++] = strbuf_take(&folded);
cleanup:
    strbuf_free(&folded);
    return status;
}

static sc_status add_people(item *it, size_t *capacity, const json_t *value)
{
    sc_status status = SC_OK;
    if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            const json_t *name = json_array_get(value, i);
            if (json_is_string(name))
                SC_TRY(add_text(&it->people, &it->n_people, capacity, json_string_value(name),
                                json_string_length(name)));
        }
    } else if (json_is_string(value)) { /* "Tom Hanks, Meg Ryan" */
        for (const char *text = json_string_value(value); *text;) {
            size_t n = strcspn(text, ",;|");
            SC_TRY(add_text(&it->people, &it->n_people, capacity, text, n));
            text += n + (text[n] != '\0');
        }
    }
cleanup:
    return status;
}

static int32_t year_at(const char *text)
{
    int32_t year = 0;
    for (int i = 0; i < 4; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        year = year * 10 + (text[i] - '0');
    }
    return (text[4] >= '0' && text[4] <= '9') || year < 1000 ? 0 : year;
}

/* Where the "(1999)" at the end of a title begins; its length if there is none. */
static size_t year_suffix(const char *title, size_t n)
{
    while (n > 0 && title[n - 1] == ' ')
        n--;
    if (n >= 6 && title[n - 1] == ')' && title[n - 6] == '(' && year_at(title + n - 5) > 0)
        return n - 6;
    return n;
}

static int32_t item_year(const item *it, const json_t *details)
{
    static const char *const keys[] = {"Release Year", "Year", "year", "Release date", NULL};
    for (const char *const *key = keys; *key; key++) {
        const json_t *value = json_object_get(details, *key);
        json_int_t number = json_integer_value(value);
        if (number >= 1000 && number <= 9999)
            return (int32_t)number;
        const char *text = json_string_value(value);
        for (; text && *text; text += strcspn(text, " ,-/") + (text[strcspn(text, " ,-/")] != '\0')) {
            if (year_at(text) > 0)
                return year_at(text);
        }
    }
    size_t n = it->title ? strlen(it->title) : 0;
    size_t start = n ? year_suffix(it->title, n) : 0;
    return start < n && it->title[start] == '(' ? year_at(it->title + start + 1) : 0;
}

static sc_status read_item(const json_t *line, const char *where, item *it)
{
    sc_status status = SC_OK;
    const char *id = NULL, *title = NULL, *main_category = NULL;
    size_t capacity = 0, i = 0;
    json_t *value = NULL;
    strbuf text = {0};
    SC_TRY(json_need_string(line, "parent_asin", where, &id));
    SC_TRY(sc_strdup(&it->id, id));
    SC_TRY(json_get_string(line, "title", where, NULL, &title));
    if (title && !is_blank(title))
        SC_TRY(sc_strdup(&it->title, title));
    SC_TRY(json_get_string(line, "main_category", where, NULL, &main_category));
    SC_TRY(json_get_int(line, "rating_number", where, 0, &it->rating_number));

    const json_t *description = json_object_get(line, "description");
    if (json_is_string(description))
        strbuf_puts(&text, json_string_value(description));
    json_array_foreach(description, i, value)
    {
        if (json_is_string(value))
            strbuf_printf(&text, "%s%s", text.len ? " " : "", json_string_value(value));
    }
    SC_TRY(strbuf_status(&text));
    SC_TRY(sc_strdup(&it->description, strbuf_text(&text)));

    const json_t *categories = json_object_get(line, "categories");
    json_array_foreach(categories, i, value)
    {
        const char *name = json_string_value(value);
        /* The first category is the shop's department: it says nothing that main_category does not. */
        if (name && !(main_category && strcmp(name, main_category) == 0))
            SC_TRY(add_text(&it->categories, &it->n_categories, &capacity, name, strlen(name)));
    }
    const json_t *details = json_object_get(line, "details");
    capacity = 0;
    for (const char *const *key = people_keys; *key; key++) {
        const char *name = NULL;
        json_object_foreach((json_t *)(uintptr_t)details, name, value)
        {
            if (strcasecmp(name, *key) == 0)
                SC_TRY(add_people(it, &capacity, value));
        }
    }
    it->year = item_year(it, details);
cleanup:
    strbuf_free(&text);
    return status;
}

static void free_strings(char **list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(list[i]);
    free(list);
}

static void free_item(item *it)
{
    free(it->id);
    free(it->title);
    free(it->description);
    free_strings(it->categories, it->n_categories);
    free_strings(it->people, it->n_people);
}

static sc_status load_items(dataset *d, const char *path)
{
    sc_status status = SC_OK;
    source s = {0};
    clean_counts counts = {0};
    json_t *line = NULL;
    size_t capacity = 0;
    int32_t index = 0;
    bool is_new = false;
    SC_TRY(source_open(&s, path, &counts));
    for (;;) {
        json_decref(line);
        SC_TRY(source_next_object(&s, &line));
        if (!line)
            break;
        SC_TRY(sc_grow(&d->items, &capacity, d->n_items + 1, sizeof *d->items));
        memset(&d->items[d->n_items], 0, sizeof *d->items);
        d->n_items++;
        SC_TRY(read_item(line, source_where(&s), &d->items[d->n_items - 1]));
        const char *id = d->items[d->n_items - 1].id;
        SC_TRY(id_table_put(d->item_ids, id, &index, &is_new));
        if (!is_new) {
            status = sc_fail(SC_BAD_INPUT, "%s: the item %.80s was listed before, in line %d",
                             source_where(&s), id, index + 1);
            goto cleanup;
        }
    }
    SC_TRY(file_sha256(path, d->items_sha256));
cleanup:
    json_decref(line);
    source_close(&s);
    return status;
}

/* --- users, reviews, interactions --------------------------------------------------------------- */
static sc_status load_users(const char *path, id_table *users)
{
    sc_status status = SC_OK;
    line_reader *r = NULL;
    const char *line = NULL;
    size_t length = 0;
    int32_t index = 0;
    bool is_new = false;
    SC_TRY(line_reader_open(path, 4096, &r));
    for (;;) {
        SC_TRY(line_reader_next(r, &line, &length));
        if (!line)
            break;
        if (length == 0 || strlen(line) != length) {
            status = sc_fail(SC_BAD_INPUT, "%s:%lld: a user id is needed in every line", path,
                             (long long)line_reader_line(r));
            goto cleanup;
        }
        SC_TRY(id_table_put(users, line, &index, &is_new));
        if (!is_new) {
            status = sc_fail(SC_BAD_INPUT, "%s:%lld: the user %.80s was listed before, in line %d", path,
                             (long long)line_reader_line(r), line, index + 1);
            goto cleanup;
        }
    }
cleanup:
    line_reader_close(r);
    return status;
}

static sc_status read_review(const dataset *d, id_table *users, bool users_known, const json_t *line,
                             const char *where, review *r)
{
    sc_status status = SC_OK;
    const char *id = NULL, *user = NULL, *item_id = NULL, *title = NULL, *text = NULL;
    SC_TRY(json_need_string(line, "review_id", where, &id));
    SC_TRY(json_need_string(line, "user_id", where, &user));
    SC_TRY(json_need_string(line, "parent_asin", where, &item_id));
    SC_TRY(json_get_string(line, "title", where, "", &title));
    SC_TRY(json_need_string(line, "text", where, &text));
    SC_TRY(json_get_number(line, "rating", where, 0, &r->rating));
    SC_TRY(json_get_int(line, "timestamp", where, 0, &r->timestamp));
    SC_TRY(sc_strdup(&r->id, id));
    SC_TRY(sc_strdup(&r->user_id, user));
    SC_TRY(sc_strdup(&r->parent_asin, item_id));
    SC_TRY(sc_strdup(&r->title, title));
    SC_TRY(sc_strdup(&r->text, text));
    r->item = id_table_find(d->item_ids, item_id);
    if (users_known)
        r->user = id_table_find(users, user);
    else
        SC_TRY(id_table_put(users, user, &r->user, NULL));
cleanup:
    return status;
}

static void free_review(review *r)
{
    free(r->id);
    free(r->user_id);
    free(r->parent_asin);
    free(r->title);
    free(r->text);
}

static sc_status load_reviews(dataset *d, const char *path, id_table *users)
{
    sc_status status = SC_OK;
    source s = {0};
    clean_counts counts = {0};
    json_t *line = NULL;
    id_table ids = {0};
    size_t capacity = 0;
    bool users_known = users->n > 0, is_new = false;
    int32_t index = 0;
    SC_TRY(source_open(&s, path, &counts));
    for (;;) {
        json_decref(line);
        SC_TRY(source_next_object(&s, &line));
        if (!line)
            break;
        SC_TRY(sc_grow(&d->reviews, &capacity, d->n_reviews + 1, sizeof *d->reviews));
        review *r = &d->reviews[d->n_reviews++];
        memset(r, 0, sizeof *r);
        SC_TRY(read_review(d, users, users_known, line, source_where(&s), r));
        SC_TRY(id_table_put(&ids, r->id, &index, &is_new));
        if (!is_new) {
            status = sc_fail(SC_BAD_INPUT, "%s: the review_id %.120s was used before, in record %d",
                             source_where(&s), r->id, index + 1);
            goto cleanup;
        }
    }
    if (d->n_reviews == 0) {
        status = sc_fail(SC_BAD_INPUT, "%s holds no reviews", path);
        goto cleanup;
    }
    SC_TRY(file_sha256(path, d->reviews_sha256));
cleanup:
    json_decref(line);
    id_table_free(&ids);
    source_close(&s);
    return status;
}

static sc_status load_interactions(dataset *d, const char *path, const char *ratings_path)
{
    sc_status status = SC_OK;
    npy_file pairs = {0}, ratings = {0};
    SC_TRY(npy_open_as(path, NPY_I4, 2, &pairs));
    SC_TRY(npy_open_as(ratings_path, NPY_F4, 1, &ratings));
    if (pairs.shape[1] != 2 || ratings.shape[0] != pairs.shape[0]) {
        status = sc_fail(SC_BAD_INPUT, "%s must be [n][2] and %s [n]; they are [%lld][%lld] and [%lld]", path,
                         ratings_path, (long long)pairs.shape[0], (long long)pairs.shape[1],
                         (long long)ratings.shape[0]);
        goto cleanup;
    }
    d->n_interactions = (size_t)pairs.shape[0];
    if (d->n_interactions == 0) {
        status = sc_fail(SC_BAD_INPUT, "%s holds no interactions", path);
        goto cleanup;
    }
    SC_TRY(sc_alloc(&d->interactions, d->n_interactions, sizeof *d->interactions));
    const int32_t *values = pairs.data;
    const float *rating = ratings.data;
    for (size_t i = 0; i < d->n_interactions; i++) {
        interaction *now = &d->interactions[i];
        *now = (interaction){values[2 * i], values[2 * i + 1], rating[i]};
        if (now->user < 0 || (size_t)now->user >= d->n_users || now->item < 0 ||
            (size_t)now->item >= d->n_items || !isfinite(now->rating)) {
            status = sc_fail(SC_BAD_INPUT,
                             "%s, row %zu: user %d, item %d, rating %g do not fit %zu users and %zu items",
                             path, i, now->user, now->item, (double)now->rating, d->n_users, d->n_items);
            goto cleanup;
        }
        if (i > 0 && (now[-1].user > now->user || (now[-1].user == now->user && now[-1].item >= now->item))) {
            status = sc_fail(SC_BAD_INPUT, "%s, row %zu: the rows are not sorted by user and item", path, i);
            goto cleanup;
        }
    }
cleanup:
    npy_close(&pairs);
    npy_close(&ratings);
    return status;
}

/* The path of a part; NULL with SC_OK if an optional one is absent. */
static sc_status part_path(const char *folder, const char *name, bool needed, char **out)
{
    *out = path_join(folder, name);
    if (!*out)
        return sc_fail(SC_MEMORY, "memory ran out");
    if (file_exists(*out))
        return SC_OK;
    free(*out);
    *out = NULL;
    if (!needed)
        return SC_OK;
    return sc_fail(SC_BAD_INPUT, "%s has no %s; make the dataset folder with seedcorn import", folder, name);
}

static sc_status take_users(dataset *d, const id_table *users)
{
    sc_status status = SC_OK;
    SC_TRY(sc_alloc(&d->users, users->n, sizeof *d->users));
    for (size_t i = 0; i < users->n; i++) {
        SC_TRY(sc_strdup(&d->users[i], id_table_get(users, (int32_t)i)));
        d->n_users = i + 1;
    }
cleanup:
    return status;
}

sc_status dataset_open(const char *folder, int parts, dataset **out)
{
    sc_status status = SC_OK;
    dataset *d = NULL;
    id_table users = {0};
    char *items = NULL, *names = NULL, *reviews = NULL, *pairs = NULL, *ratings = NULL;
    bool interactions = (parts & DATASET_INTERACTIONS) != 0;
    *out = NULL;
    if (!file_is_dir(folder))
        return sc_fail(SC_BAD_INPUT, "%s is not a folder; make a dataset folder with seedcorn import",
                       folder);
    SC_TRY(sc_alloc(&d, 1, sizeof *d));
    SC_TRY(sc_alloc(&d->item_ids, 1, sizeof *d->item_ids));
    SC_TRY(sc_strdup(&d->path, folder));
    SC_TRY(part_path(folder, "items.jsonl", (parts & DATASET_ITEMS) || interactions, &items));
    SC_TRY(part_path(folder, "users.txt", interactions, &names));
    if (items)
        SC_TRY(load_items(d, items));
    if (items && d->n_items == 0 && (parts & DATASET_ITEMS)) {
        status = sc_fail(SC_BAD_INPUT, "%s holds no items", items);
        goto cleanup;
    }
    if (names)
        SC_TRY(load_users(names, &users));
    if (parts & DATASET_REVIEWS) {
        SC_TRY(part_path(folder, "reviews.jsonl", true, &reviews));
        SC_TRY(load_reviews(d, reviews, &users));
    }
    SC_TRY(take_users(d, &users));
    if (interactions) {
        SC_TRY(part_path(folder, "interactions.npy", true, &pairs));
        SC_TRY(part_path(folder, "interactions_rating.npy", true, &ratings));
        SC_TRY(load_interactions(d, pairs, ratings));
    }
    *out = d;
    d = NULL;
cleanup:
    dataset_close(d);
    id_table_free(&users);
    free(items);
    free(names);
    free(reviews);
    free(pairs);
    free(ratings);
    return status;
}

void dataset_close(dataset *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->n_reviews; i++)
        free_review(&d->reviews[i]);
    for (size_t i = 0; i < d->n_items; i++)
        free_item(&d->items[i]);
    free_strings(d->users, d->n_users);
    free(d->reviews);
    free(d->items);
    free(d->interactions);
    free(d->path);
    if (d->item_ids)
        id_table_free(d->item_ids);
    free(d->item_ids);
    free(d);
}

int32_t dataset_find_item(const dataset *d, const char *parent_asin)
{
    return id_table_find(d->item_ids, parent_asin);
}

/* --- texts -------------------------------------------------------------------------------------- */
/* What malloc takes for so many bytes: a word before them, all in sixteens, 32 at least (glibc). */
static int64_t chunk(size_t bytes)
{
    const size_t whole = (bytes + 8 + 15) / 16 * 16;
    return whole < 32 ? 32 : (int64_t)whole;
}

static int64_t string_bytes(const char *text)
{
    return text ? chunk(strlen(text) + 1) : 0;
}

static int64_t list_bytes(char *const *list, size_t n)
{
    int64_t bytes = n > 0 ? chunk(n * sizeof *list) : 0;
    for (size_t i = 0; i < n; i++)
        bytes += string_bytes(list[i]);
    return bytes;
}

int64_t dataset_bytes(const dataset *d)
{
    int64_t bytes = chunk(d->n_reviews * sizeof *d->reviews) + chunk(d->n_items * sizeof *d->items) +
                    chunk(d->n_interactions * sizeof *d->interactions) + list_bytes(d->users, d->n_users);
    for (size_t i = 0; i < d->n_reviews; i++) {
        const review *r = &d->reviews[i];
        bytes += string_bytes(r->id) + string_bytes(r->user_id) + string_bytes(r->parent_asin) +
                 string_bytes(r->title) + string_bytes(r->text);
    }
    for (size_t i = 0; i < d->n_items; i++) {
        const item *it = &d->items[i];
        bytes += string_bytes(it->id) + string_bytes(it->title) + string_bytes(it->description) +
                 list_bytes(it->categories, it->n_categories) + list_bytes(it->people, it->n_people);
    }
    if (d->item_ids)
        bytes += (int64_t)(d->item_ids->bytes.cap + d->item_ids->capacity * sizeof *d->item_ids->offsets +
                           d->item_ids->n_slots * sizeof *d->item_ids->slots);
    return bytes;
}

sc_status dataset_review_text(const dataset *d, size_t row, strbuf *out)
{
    const review *r = &d->reviews[row];
    if (r->title[0])
        strbuf_printf(out, "%s\n", r->title);
    strbuf_puts(out, r->text);
    return strbuf_status(out);
}

void dataset_review_quote(const review *r, size_t number, strbuf *out)
{
    enum { MOST = 2000 };
    strbuf part = {0};
    const size_t n = strlen(r->text);
    utf8_sanitize(&part, r->text, n < MOST ? n : MOST);
    out->failed = out->failed || part.failed;
    strbuf_printf(out, "%zu. %s: ", number, r->title);
    text_fold_spaces(out, strbuf_text(&part), part.len);
    strbuf_free(&part);
}

static void put_list(strbuf *out, size_t start, char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        strbuf_printf(out, "%s%s", i ? ", " : out->len > start ? "\n" : "", list[i]);
}

sc_status dataset_item_text(const dataset *d, size_t index, strbuf *out)
{
    const item *it = &d->items[index];
    size_t start = out->len;
    strbuf_puts(out, it->title ? it->title : "");
    put_list(out, start, it->categories, it->n_categories);
    if (it->description[0])
        strbuf_printf(out, "%s%s", out->len > start ? "\n" : "", it->description);
    put_list(out, start, it->people, it->n_people);
    if (out->len == start) /* nothing is known: the id, since a text without tokens has no embedding */
        strbuf_puts(out, it->id);
    return strbuf_status(out);
}

/* Films are listed as "Seven (a.k.a. Se7en) (1995)": before a year, parentheses at the end hold another
 * name. Without a year they may tell two products apart ("(2 pack)") and stay. */
static size_t other_names(const char *title, size_t n)
{
    for (;;) {
        size_t end = n;
        while (end > 0 && title[end - 1] == ' ')
            end--;
        if (end == 0 || title[end - 1] != ')')
            return n;
        size_t open = end - 1;
        while (open > 0 && title[open] != '(')
            open--;
        if (open == 0 || strspn(title, " ") == open)
            return n; /* nothing but the parentheses would be left to drop */
        n = open;
    }
}

sc_status dataset_plain_title(const char *title, strbuf *out)
{
    size_t n = strlen(title), start = out->len, end = year_suffix(title, n);
    text_fold_spaces(out, title, end < n && title[end] == '(' ? other_names(title, end) : end);
    if (strbuf_status(out) == SC_OK && out->len == start) /* the title is a year in parentheses */
        text_fold_spaces(out, title, n);
    return strbuf_status(out);
}
