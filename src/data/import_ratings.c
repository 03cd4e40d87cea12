/* import ratings: MovieLens (https://files.grouplens.org/datasets/movielens/ml-latest-README.html), its
 * items joined with those of another dataset folder by id.
 *
 * The folder gets no reviews.jsonl. With --join, items of both sides become one line that keeps the richer
 * metadata, and items that only the other folder has are added. The other folder's interactions are
 * counted and left out: its users are other people, and its ratings may be on another scale. */
#include "seedcorn/import.h"

#include <stdlib.h>
#include <string.h>

#include "data/csv.h"
#include "data/dataset_writer.h"
#include "data/item_schema.h"
#include "formats/npy.h"

typedef struct rating_total {
    int64_t n;
    double sum;
} rating_total;

typedef struct rating_import {
    dataset_writer *writer;
    clean_counts cleaned;
    json_t *sources, *dropped_ratings, *dropped_items, *joined; /* counts by reason */
    id_table movies;                                            /* movieId -> index into the next two */
    strbuf ids;         /* the items' ids, each terminated by a zero */
    size_t *id_offsets; /* [n_movies] where the id of a movie begins in ids */
    size_t n_movies, id_capacity;
    json_t **items;       /* [n_items] in the order of writer->item_ids */
    rating_total *totals; /* [n_items] */
    size_t n_items, items_capacity, totals_capacity;
    int64_t n_read, n_rated;
} rating_import;

static sc_status open_csv(const char *path, csv_reader **r)
{
    return csv_open(path, (csv_options){',', true, SOURCE_MAX_RECORD}, r);
}

/* --- links.csv: movieId -> "tt0133093" ---------------------------------------------------------- */
static sc_status put_movie(rating_import *in, const char *movie, const char *id, const char *where)
{
    sc_status status = SC_OK;
    int32_t index = 0;
    bool is_new = false;
    SC_TRY(check_id(movie, "movieId", where));
    SC_TRY(check_id(id, "item id", where));
    SC_TRY(id_table_put(&in->movies, movie, &index, &is_new));
    if (!is_new)
        return sc_fail(SC_BAD_INPUT, "%s: the movieId %s stands there twice", where, movie);
    SC_TRY(sc_grow(&in->id_offsets, &in->id_capacity, in->n_movies + 1, sizeof *in->id_offsets));
    in->id_offsets[in->n_movies++] = in->ids.len;
    strbuf_append(&in->ids, id, strlen(id) + 1);
    SC_TRY(strbuf_status(&in->ids));
cleanup:
    return status;
}

/* The item's id for a movieId: the IMDb id where the links have one, else "ml-<movieId>". */
static sc_status movie_id(rating_import *in, const char *movie, const char *where, const char **out)
{
    sc_status status = SC_OK;
    strbuf name = {0};
    int32_t index = id_table_find(&in->movies, movie);
    if (index < 0) {
        strbuf_printf(&name, "ml-%s", movie);
        SC_TRY(strbuf_status(&name));
        SC_TRY(put_movie(in, movie, name.data, where));
        index = (int32_t)in->n_movies - 1;
    }
    *out = in->ids.data + in->id_offsets[index];
cleanup:
    strbuf_free(&name);
    return status;
}

static sc_status read_links(rating_import *in, const char *path)
{
    sc_status status = SC_OK;
    csv_reader *r = NULL;
    const char *const *fields = NULL;
    int movie = 0, imdb = 0;
    strbuf id = {0};
    SC_TRY(open_csv(path, &r));
    SC_TRY(csv_need_column(r, "movieId", &movie));
    SC_TRY(csv_need_column(r, "imdbId", &imdb));
    for (;;) {
        SC_TRY(csv_next(r, &fields));
        if (!fields)
            break;
        const char *number = fields[imdb] + (text_starts(fields[imdb], "tt") ? 2 : 0);
        if (is_blank(fields[imdb]))
            continue; /* the movie keeps its MovieLens id */
        if (strspn(number, "0123456789") != strlen(number) || strlen(number) > 12) {
            status =
                sc_fail(SC_BAD_INPUT, "%s: the imdbId \"%.60s\" is not a number", csv_where(r), fields[imdb]);
            goto cleanup;
        }
        strbuf_clear(&id);
        /* IMDb writes at least seven digits; spreadsheets lose the zeros in front. */
        strbuf_printf(&id, "tt%.*s%s", strlen(number) < 7 ? (int)(7 - strlen(number)) : 0, "0000000", number);
        SC_TRY(strbuf_status(&id));
        SC_TRY(put_movie(in, fields[movie], id.data, csv_where(r)));
    }
cleanup:
    csv_close(r);
    strbuf_free(&id);
    return status;
}

/* --- movies.csv --------------------------------------------------------------------------------- */
/* "Matrix, The" -> "The Matrix"; n bytes of text, appended. */
static void put_article_first(strbuf *out, const char *text, size_t n)
{
    static const char *const articles[] = {
        "The", "A",   "An",  "Le",  "La",  "Les", "L'",  "Un", "Une", "El", "Los", "Las", "Il",  "Lo",  "Gli",
        "I",   "Der", "Die", "Das", "Ein", "Det", "Den", "De", "Het", "O",  "Os",  "En",  "Una", "Ett", NULL};
    if (n > 7 && memcmp(text, "a.k.a. ", 7) == 0) {
        strbuf_append(out, text, 7);
        text += 7;
        n -= 7;
    }
    const char *comma = memrchr(text, ',', n);
    size_t rest = comma ? n - (size_t)(comma - text) - 1 : 0;
    if (comma && rest > 1 && comma[1] == ' ') {
        for (const char *const *a = articles; *a; a++) {
            size_t length = strlen(*a);
            if (length == rest - 1 && memcmp(comma + 2, *a, length) == 0) {
                strbuf_append(out, *a, length);
                if ((*a)[length - 1] != '\'')
                    strbuf_putc(out, ' ');
                strbuf_append(out, text, (size_t)(comma - text));
                return;
            }
        }
    }
    strbuf_append(out, text, n);
}

/* "City of Lost Children, The (Cité des enfants perdus, La) (1995)": the name in front and the one in each
 * pair of parentheses are put right by themselves. */
static void put_title(strbuf *out, const char *title)
{
    while (*title) {
        size_t n = strcspn(title, "()");
        size_t end = n;
        while (end > 0 && title[end - 1] == ' ')
            end--;
        put_article_first(out, title, end);
        strbuf_append(out, title + end, n - end + (title[n] != '\0'));
        title += n + (title[n] != '\0');
    }
}

/* item NULL: one without metadata. */
static sc_status add_item(rating_import *in, const char *id, json_t *item)
{
    sc_status status = SC_OK;
    int32_t index = 0;
    bool is_new = false;
    SC_TRY(id_table_put(&in->writer->item_ids, id, &index, &is_new));
    if (!is_new) { /* two movieIds with one IMDb id: their ratings meet in one item */
        SC_TRY(count_reason(in->dropped_items, "repeated_item", 1));
        goto cleanup;
    }
    SC_TRY(sc_grow(&in->items, &in->items_capacity, in->n_items + 1, sizeof *in->items));
    SC_TRY(sc_grow(&in->totals, &in->totals_capacity, in->n_items + 1, sizeof *in->totals));
    in->totals[in->n_items] = (rating_total){0, 0};
    if (!item)
        SC_TRY(item_without_metadata(id, &in->items[in->n_items]));
    else
        in->items[in->n_items] = json_incref(item);
    in->n_items++;
cleanup:
    return status;
}

static json_t *genre_list(const char *text)
{
    json_t *list = json_array();
    if (strcmp(text, "(no genres listed)") == 0)
        return list;
    while (list && *text) {
        size_t n = strcspn(text, "|");
        if (n > 0)
            json_array_append_new(list, json_stringn(text, n));
        text += n + (text[n] == '|');
    }
    return list;
}

static sc_status read_movies(rating_import *in, const char *path)
{
    sc_status status = SC_OK;
    csv_reader *r = NULL;
    const char *const *fields = NULL;
    int movie = 0, title = 0, genres = 0;
    json_t *line = NULL, *item = NULL;
    strbuf name = {0}, repaired = {0};
    id_table known = {0};
    int32_t index = 0;
    bool is_new = false;
    SC_TRY(open_csv(path, &r));
    SC_TRY(csv_need_column(r, "movieId", &movie));
    SC_TRY(csv_need_column(r, "title", &title));
    SC_TRY(csv_need_column(r, "genres", &genres));
    for (;;) {
        const char *id = NULL;
        json_decref(line);
        json_decref(item);
        line = item = NULL;
        SC_TRY(csv_next(r, &fields));
        if (!fields)
            break;
        if (is_blank(fields[movie])) {
            SC_TRY(count_reason(in->dropped_items, "no_item_id", 1));
            continue;
        }
        SC_TRY(id_table_put(&known, fields[movie], &index, &is_new));
        if (!is_new) {
            status = sc_fail(SC_BAD_INPUT, "%s: the movieId %.60s stands there twice", csv_where(r),
                             fields[movie]);
            goto cleanup;
        }
        SC_TRY(movie_id(in, fields[movie], csv_where(r), &id));
        strbuf_clear(&name);
        strbuf_clear(&repaired);
        in->cleaned.invalid_utf8 += (int64_t)utf8_sanitize(&repaired, fields[title], strlen(fields[title]));
        SC_TRY(strbuf_status(&repaired));
        put_title(&name, strbuf_text(&repaired));
        SC_TRY(strbuf_status(&name));
        line = json_pack("{s:s, s:s, s:o, s:{s:s}}", "parent_asin", id, "title", strbuf_text(&name),
                         "categories", genre_list(fields[genres]), "details", "MovieLens ID", fields[movie]);
        if (!line) {
            status = sc_fail(SC_BAD_INPUT, "%s: the genres or the id are not valid UTF-8", csv_where(r));
            goto cleanup;
        }
        SC_TRY(item_normalise(line, csv_where(r), &in->cleaned, &item));
        SC_TRY(add_item(in, id, item));
    }
cleanup:
    json_decref(line);
    json_decref(item);
    csv_close(r);
    id_table_free(&known);
    strbuf_free(&name);
    strbuf_free(&repaired);
    return status;
}

/* --- the join ----------------------------------------------------------------------------------- */
static sc_status join_item(rating_import *in, const json_t *line, const char *where)
{
    sc_status status = SC_OK;
    json_t *other = NULL;
    bool changed = false;
    SC_TRY(item_normalise(line, where, &in->cleaned, &other));
    if (!other)
        return sc_fail(SC_BAD_INPUT, "%s: the item has no parent_asin", where);
    const char *id = json_string_value(json_object_get(other, "parent_asin"));
    int32_t index = id_table_find(&in->writer->item_ids, id);
    if (index < 0) {
        SC_TRY(add_item(in, id, other));
        SC_TRY(count_reason(in->joined, "items_added", 1));
    } else {
        SC_TRY(item_enrich(in->items[index], other, &changed));
        SC_TRY(count_reason(in->joined, "items_in_both", 1));
        SC_TRY(count_reason(in->joined, "items_enriched", changed));
    }
cleanup:
    json_decref(other);
    return status;
}

static sc_status join_folder(rating_import *in, const char *folder)
{
    sc_status status = SC_OK;
    source s = {0};
    npy_file pairs = {0};
    json_t *line = NULL;
    char *items = path_join(folder, "items.jsonl"), *interactions = path_join(folder, "interactions.npy");
    if (!items || !interactions) {
        status = sc_fail(SC_MEMORY, "memory ran out");
        goto cleanup;
    }
    if (!file_exists(items)) {
        status =
            sc_fail(SC_BAD_INPUT,
                    "%s has no items.jsonl: --join takes a dataset folder made by seedcorn import", folder);
        goto cleanup;
    }
    SC_TRY(source_describe(in->sources, "join", items));
    SC_TRY(source_open(&s, items, &in->cleaned));
    for (;;) {
        json_decref(line);
        SC_TRY(source_next_object(&s, &line));
        if (!line)
            break;
        SC_TRY(join_item(in, line, source_where(&s)));
    }
    if (file_exists(interactions)) {
        SC_TRY(npy_open_as(interactions, NPY_I4, 2, &pairs));
        SC_TRY(count_reason(in->joined, "interactions_left_out", pairs.shape[0]));
        log_info("%s: its %lld interactions are left out, only its items are joined", folder,
                 (long long)pairs.shape[0]);
    }
cleanup:
    json_decref(line);
    source_close(&s);
    npy_close(&pairs);
    free(items);
    free(interactions);
    return status;
}

/* --- ratings.csv -------------------------------------------------------------------------------- */
static sc_status take_rating(rating_import *in, const char *user, const char *movie, const char *rating,
                             const char *where)
{
    sc_status status = SC_OK;
    const char *reason = NULL, *id = NULL;
    double value = 0;
    if (is_blank(user))
        reason = "no_user_id";
    else if (is_blank(movie))
        reason = "no_item_id";
    else if (is_blank(rating))
        reason = "no_rating";
    else if (!parse_number(rating, &value))
        reason = "rating_not_a_number";
    if (reason)
        return count_reason(in->dropped_ratings, reason, 1);
    SC_TRY(check_id(user, "userId", where));
    SC_TRY(movie_id(in, movie, where, &id));
    int32_t index = id_table_find(&in->writer->item_ids, id);
    if (index < 0) {
        index = (int32_t)in->n_items;
        SC_TRY(add_item(in, id, NULL));
        in->writer->n_without_metadata++;
    }
    in->totals[index].n++;
    in->totals[index].sum += value;
    in->n_rated++;
    SC_TRY(dataset_writer_interaction(in->writer, user, id, value, NULL));
cleanup:
    return status;
}

static sc_status read_ratings(rating_import *in, const char *path)
{
    sc_status status = SC_OK;
    csv_reader *r = NULL;
    const char *const *fields = NULL;
    progress *bar = NULL;
    uint64_t told = 0;
    int user = 0, movie = 0, rating = 0;
    SC_TRY(open_csv(path, &r));
    SC_TRY(csv_need_column(r, "userId", &user));
    SC_TRY(csv_need_column(r, "movieId", &movie));
    SC_TRY(csv_need_column(r, "rating", &rating));
    bar = progress_begin(path_base(path), "bytes", (int64_t)csv_size(r));
    for (;;) {
        SC_TRY(csv_next(r, &fields));
        if (!fields)
            break;
        in->n_read++;
        SC_TRY(take_rating(in, fields[user], fields[movie], fields[rating], csv_where(r)));
        if ((in->n_read & 4095) == 0) {
            progress_add(bar, (int64_t)(csv_consumed(r) - told));
            told = csv_consumed(r);
            SC_TRY(check_cancelled());
        }
    }
    if (in->n_rated == 0)
        status = sc_fail(SC_BAD_INPUT, "%s: none of %lld ratings can be used", path, (long long)in->n_read);
cleanup:
    progress_end(bar);
    csv_close(r);
    return status;
}

/* --- the verb ----------------------------------------------------------------------------------- */
sc_import_ratings_options sc_import_ratings_default(void)
{
    sc_import_ratings_options o = {0};
    o.struct_size = sizeof o;
    o.common = sc_common_default();
    o.format = "movielens";
    return o;
}

/* Every item's rating_number and average_rating are those of this folder's ratings. */
static sc_status write_items(rating_import *in)
{
    sc_status status = SC_OK;
    bool is_new = false;
    for (size_t i = 0; i < in->n_items; i++) {
        const rating_total *total = &in->totals[i];
        json_t *average = total->n ? json_real(total->sum / (double)total->n) : json_null();
        if (json_object_set_new(in->items[i], "average_rating", average) != 0 ||
            json_object_set_new(in->items[i], "rating_number", json_integer(total->n)) != 0)
            return sc_fail(SC_MEMORY, "memory ran out while writing the items");
        SC_TRY(dataset_writer_item(in->writer, in->items[i], &is_new));
    }
cleanup:
    return status;
}

static sc_status read_inputs(rating_import *in, const sc_import_ratings_options *o)
{
    sc_status status = SC_OK;
    SC_TRY(source_describe(in->sources, "ratings", o->ratings));
    SC_TRY(source_describe(in->sources, "items", o->items));
    if (o->links) {
        SC_TRY(source_describe(in->sources, "links", o->links));
        SC_TRY(read_links(in, o->links));
    }
    SC_TRY(read_movies(in, o->items));
    if (o->join)
        SC_TRY(join_folder(in, o->join));
    SC_TRY(read_ratings(in, o->ratings));
    SC_TRY(write_items(in));
cleanup:
    return status;
}

static void close_import(rating_import *in)
{
    dataset_writer_discard(&in->writer);
    for (size_t i = 0; i < in->n_items; i++)
        json_decref(in->items[i]);
    free(in->items);
    free(in->totals);
    free(in->id_offsets);
    id_table_free(&in->movies);
    strbuf_free(&in->ids);
    json_decref(in->sources);
    json_decref(in->dropped_ratings);
    json_decref(in->dropped_items);
    json_decref(in->joined);
}

sc_status sc_import_ratings(const sc_import_ratings_options *o, sc_import_result *result)
{
    sc_status status = SC_OK;
    rating_import in = {0};
    json_t *description = NULL;
    const double start = seconds_now();
    if (!o || o->struct_size != sizeof *o || !o->ratings || !o->items || !o->out || !o->format)
        return sc_fail(SC_USAGE, "import ratings needs --ratings, --items and --out");
    if (strcmp(o->format, "movielens") != 0)
        return sc_fail(SC_USAGE, "unknown rating format \"%s\"; there is movielens", o->format);
    in.sources = json_array();
    in.dropped_ratings = json_object();
    in.dropped_items = json_object();
    in.joined = json_object();
    if (!in.sources || !in.dropped_ratings || !in.dropped_items || !in.joined) {
        status = sc_fail(SC_MEMORY, "memory ran out");
        goto cleanup;
    }
    SC_TRY(dataset_writer_open(o->out, false, &in.writer));
    SC_TRY(read_inputs(&in, o));
    description =
        json_pack("{s:s, s:i, s:s, s:s, s:O, s:{s:I}, s:{s:O, s:O}, s:O, s:o}", "format", "seedcorn-dataset",
                  "version", 1, "kind", "ratings", "source_format", o->format, "sources", in.sources, "read",
                  "ratings", (json_int_t)in.n_read, "dropped", "ratings", in.dropped_ratings, "items",
                  in.dropped_items, "join", in.joined, "cleaned", clean_counts_json(&in.cleaned));
    if (!description) {
        status = sc_fail(SC_MEMORY, "memory ran out");
        goto cleanup;
    }
    sc_import_result r = {.n_items = (int64_t)in.writer->item_ids.n,
                          .n_users = (int64_t)in.writer->user_ids.n,
                          .n_read = in.n_read,
                          .n_dropped = count_total(in.dropped_ratings)};
    SC_TRY(dataset_writer_commit(&in.writer, description));
    r.n_interactions =
        json_integer_value(json_object_get(json_object_get(description, "counts"), "interactions"));
    r.seconds = seconds_now() - start;
    if (result)
        *result = r;
    log_info("%s: %lld interactions, %lld items, %lld users", o->out, (long long)r.n_interactions,
             (long long)r.n_items, (long long)r.n_users);
    if (r.n_dropped > 0)
        log_warn("%lld ratings were dropped; the reasons are in dataset.json", (long long)r.n_dropped);
cleanup:
    close_import(&in);
    json_decref(description);
    return status;
}
