/* import reviews: Amazon Reviews '23 and '14 (JSONL) and CSV -> a dataset folder.
 * Schemas: https://amazon-reviews-2023.github.io (2023), https://jmcauley.ucsd.edu/data/amazon (2014). */
#include "seedcorn/import.h"

#include <stdlib.h>
#include <string.h>

#include "data/dataset_writer.h"
#include "data/item_schema.h"

/* Amazon Reviews '23 has milliseconds, older files seconds; 1e11 is 1973 in the one, 5138 in the other. */
static const int64_t SECONDS_BELOW = 100000000000;

typedef enum review_format { AMAZON23, AMAZON14, CSV } review_format;

typedef struct review_import {
    review_format format;
    dataset_writer *writer;
    clean_counts cleaned;
    json_t *sources, *dropped_reviews, *dropped_items, *filled; /* counts by reason */
    hash_set review_ids;
    strbuf id, title, text;
    int64_t n_read, n_items_read;
} review_import;

/* One review before the checks; the strings are borrowed. */
typedef struct raw_review {
    const char *user_id, *item_id, *asin, *title, *text;
    bool has_rating, rating_is_number;
    double rating;
    bool has_timestamp;
    int64_t timestamp;
    const json_t *images;
    int64_t helpful_vote;
    bool verified_purchase;
} raw_review;

static sc_status get_rating(const json_t *line, const char *key, raw_review *r)
{
    const json_t *value = json_object_get(line, key);
    r->has_rating = value && !json_is_null(value);
    r->rating_is_number = json_is_number(value);
    r->rating = json_number_value(value);
    return SC_OK;
}

static sc_status get_timestamp(const json_t *line, const char *key, const char *where, raw_review *r)
{
    const json_t *value = json_object_get(line, key);
    r->has_timestamp = value && !json_is_null(value);
    if (!r->has_timestamp)
        return SC_OK;
    double real = json_number_value(value);
    if (!json_is_number(value) || !(real > -9e15 && real < 9e15) || real != (double)(int64_t)real)
        return sc_fail(SC_BAD_INPUT, "%s: \"%s\" must be a whole number", where, key);
    r->timestamp = (int64_t)real;
    return SC_OK;
}

static sc_status parse_amazon23(const json_t *line, const char *where, raw_review *r)
{
    sc_status status = SC_OK;
    SC_TRY(json_get_string(line, "user_id", where, NULL, &r->user_id));
    SC_TRY(json_get_string(line, "asin", where, NULL, &r->asin));
    SC_TRY(json_get_string(line, "parent_asin", where, r->asin, &r->item_id));
    SC_TRY(json_get_string(line, "title", where, NULL, &r->title));
    SC_TRY(json_get_string(line, "text", where, NULL, &r->text));
    SC_TRY(get_rating(line, "rating", r));
    SC_TRY(get_timestamp(line, "timestamp", where, r));
    SC_TRY(json_get_int(line, "helpful_vote", where, 0, &r->helpful_vote));
    SC_TRY(json_get_bool(line, "verified_purchase", where, false, &r->verified_purchase));
    r->images = json_object_get(line, "images");
cleanup:
    return status;
}

/* "vote" is a string such as "1,204" in the 2018 edition; "helpful" is [yes, all] in that of 2014. */
static sc_status helpful_votes(const json_t *line, const char *where, int64_t *votes)
{
    const json_t *helpful = json_object_get(line, "helpful");
    const json_t *vote = json_object_get(line, "vote");
    *votes = 0;
    if (json_is_array(helpful)) {
        *votes = json_integer_value(json_array_get(helpful, 0));
        return SC_OK;
    }
    if (!vote || json_is_null(vote))
        return SC_OK;
    if (!json_is_string(vote))
        return json_need_int(line, "vote", where, votes);
    for (const char *c = json_string_value(vote); *c; c++) {
        if (*c >= '0' && *c <= '9' && *votes < INT64_C(1000000000000))
            *votes = *votes * 10 + (*c - '0');
        else if (*c != ',')
            return sc_fail(SC_BAD_INPUT, "%s: \"vote\" must be a number", where);
    }
    return SC_OK;
}

static sc_status parse_amazon14(const json_t *line, const char *where, raw_review *r)
{
    sc_status status = SC_OK;
    SC_TRY(json_get_string(line, "reviewerID", where, NULL, &r->user_id));
    SC_TRY(json_get_string(line, "asin", where, NULL, &r->asin));
    r->item_id = r->asin;
    SC_TRY(json_get_string(line, "summary", where, NULL, &r->title));
    SC_TRY(json_get_string(line, "reviewText", where, NULL, &r->text));
    SC_TRY(get_rating(line, "overall", r));
    SC_TRY(get_timestamp(line, "unixReviewTime", where, r));
    SC_TRY(json_get_bool(line, "verified", where, false, &r->verified_purchase));
    SC_TRY(helpful_votes(line, where, &r->helpful_vote));
cleanup:
    return status;
}

static json_t *review_json(const review_import *in, const raw_review *r)
{
    json_t *images = json_is_array(r->images) ? json_deep_copy(r->images) : json_array();
    return json_pack("{s:s%, s:f, s:s%, s:s%, s:o, s:s, s:s, s:s, s:I, s:I, s:b}", "review_id",
                     strbuf_text(&in->id), in->id.len, "rating", r->rating, "title", strbuf_text(&in->title),
                     in->title.len, "text", strbuf_text(&in->text), in->text.len, "images", images, "asin",
                     r->asin && !is_blank(r->asin) ? r->asin : r->item_id, "parent_asin", r->item_id,
                     "user_id", r->user_id, "timestamp", (json_int_t)r->timestamp, "helpful_vote",
                     (json_int_t)r->helpful_vote, "verified_purchase", r->verified_purchase ? 1 : 0);
}

/* Drops the review under its reason, or writes it. */
static sc_status take_review(review_import *in, raw_review *r, const char *where)
{
    sc_status status = SC_OK;
    json_t *line = NULL;
    const char *reason = NULL;
    in->n_read++;
    strbuf_clear(&in->id);
    strbuf_clear(&in->title);
    strbuf_clear(&in->text);
    if (r->text)
        SC_TRY(clean_text(r->text, strlen(r->text), &in->cleaned, &in->text));
    if (!r->user_id || is_blank(r->user_id))
        reason = "no_user_id";
    else if (!r->item_id || is_blank(r->item_id))
        reason = "no_item_id";
    else if (in->text.len == 0)
        reason = "no_text";
    else if (!r->has_rating)
        reason = "no_rating";
    else if (!r->rating_is_number)
        reason = "rating_not_a_number";
    if (reason) {
        status = count_reason(in->dropped_reviews, reason, 1);
        goto cleanup;
    }
    SC_TRY(check_id(r->user_id, "user id", where));
    SC_TRY(check_id(r->item_id, "item id", where));
    if (r->title)
        SC_TRY(clean_line(r->title, strlen(r->title), &in->cleaned, &in->title));
    if (!r->has_timestamp)
        SC_TRY(count_reason(in->filled, "timestamp_absent", 1));
    if (r->timestamp > -SECONDS_BELOW && r->timestamp < SECONDS_BELOW && r->timestamp != 0) {
        r->timestamp *= 1000;
        SC_TRY(count_reason(in->filled, "timestamp_from_seconds", 1));
    }
    strbuf_printf(&in->id, "%s-%s-%lld", r->user_id, r->item_id, (long long)r->timestamp);
    SC_TRY(unique_id(&in->review_ids, &in->id));
    line = review_json(in, r);
    if (!line) {
        status = sc_fail(SC_MEMORY, "%s: memory ran out while writing a review", where);
        goto cleanup;
    }
    SC_TRY(dataset_writer_review(in->writer, line));
    SC_TRY(dataset_writer_interaction(in->writer, r->user_id, r->item_id, r->rating, NULL));
cleanup:
    json_decref(line);
    return status;
}

static sc_status read_json_reviews(review_import *in, const char *path)
{
    sc_status status = SC_OK;
    source s = {0};
    json_t *line = NULL;
    SC_TRY(source_open(&s, path, &in->cleaned));
    for (;;) {
        raw_review r = {0};
        json_decref(line);
        SC_TRY(source_next_object(&s, &line));
        if (!line)
            break;
        SC_TRY(in->format == AMAZON14 ? parse_amazon14(line, source_where(&s), &r)
                                      : parse_amazon23(line, source_where(&s), &r));
        SC_TRY(take_review(in, &r, source_where(&s)));
    }
cleanup:
    json_decref(line);
    source_close(&s);
    return status;
}

/* The first of several names that the header row has; -1 if none. */
static int any_column(const csv_reader *r, const char *const *names)
{
    int column = -1;
    for (; *names && column < 0; names++)
        column = csv_column(r, *names);
    return column;
}

static sc_status repaired(review_import *in, const char *text, strbuf *buffer, const char **out)
{
    *out = text;
    size_t n = strlen(text);
    if (utf8_valid(text, n))
        return SC_OK;
    strbuf_clear(buffer);
    in->cleaned.invalid_utf8 += (int64_t)utf8_sanitize(buffer, text, n);
    *out = strbuf_text(buffer);
    return strbuf_status(buffer);
}

static sc_status read_csv_reviews(review_import *in, const char *path)
{
    static const char *const item_names[] = {"parent_asin", "item_id", "asin", NULL};
    sc_status status = SC_OK;
    csv_reader *r = NULL;
    progress *bar = NULL;
    const char *const *fields = NULL;
    strbuf user = {0}, item = {0};
    int user_column = 0, rating_column = 0, text_column = 0;
    uint64_t told = 0;
    SC_TRY(csv_open(path, (csv_options){',', true, SOURCE_MAX_RECORD}, &r));
    SC_TRY(csv_need_column(r, "user_id", &user_column));
    SC_TRY(csv_need_column(r, "rating", &rating_column));
    SC_TRY(csv_need_column(r, "text", &text_column));
    int item_column = any_column(r, item_names);
    if (item_column < 0)
        SC_TRY(csv_need_column(r, "parent_asin", &item_column));
    int title_column = csv_column(r, "title"), time_column = csv_column(r, "timestamp");
    bar = progress_begin(path_base(path), "bytes", (int64_t)csv_size(r));
    for (;;) {
        raw_review review = {0};
        double timestamp = 0;
        SC_TRY(csv_next(r, &fields));
        if (!fields)
            break;
        SC_TRY(repaired(in, fields[user_column], &user, &review.user_id));
        SC_TRY(repaired(in, fields[item_column], &item, &review.item_id));
        review.text = fields[text_column];
        review.title = title_column >= 0 ? fields[title_column] : NULL;
        review.has_rating = !is_blank(fields[rating_column]);
        review.rating_is_number = parse_number(fields[rating_column], &review.rating);
        review.has_timestamp = time_column >= 0 && !is_blank(fields[time_column]);
        if (review.has_timestamp) {
            if (!parse_number(fields[time_column], &timestamp) || !(timestamp > -9e15 && timestamp < 9e15)) {
                status = sc_fail(SC_BAD_INPUT, "%s: the timestamp \"%.60s\" is not a number", csv_where(r),
                                 fields[time_column]);
                goto cleanup;
            }
            review.timestamp = (int64_t)timestamp;
        }
        SC_TRY(take_review(in, &review, csv_where(r)));
        if ((in->n_read & 1023) == 0) {
            progress_add(bar, (int64_t)(csv_consumed(r) - told));
            told = csv_consumed(r);
            SC_TRY(check_cancelled());
        }
    }
cleanup:
    progress_end(bar);
    csv_close(r);
    strbuf_free(&user);
    strbuf_free(&item);
    return status;
}

/* --- items -------------------------------------------------------------------------------------- */
static sc_status take_item(review_import *in, const json_t *item)
{
    sc_status status = SC_OK;
    bool is_new = false;
    in->n_items_read++;
    if (!item)
        return count_reason(in->dropped_items, "no_item_id", 1);
    SC_TRY(dataset_writer_item(in->writer, item, &is_new));
    if (!is_new)
        SC_TRY(count_reason(in->dropped_items, "repeated_item", 1));
cleanup:
    return status;
}

static bool is_csv(const char *path)
{
    return text_ends(path, ".csv") || text_ends(path, ".csv.gz") || text_ends(path, ".csv.zst");
}

static sc_status read_csv_items(review_import *in, const char *path)
{
    sc_status status = SC_OK;
    csv_reader *r = NULL;
    json_t *item = NULL;
    const char *const *fields = NULL;
    SC_TRY(csv_open(path, (csv_options){',', true, SOURCE_MAX_RECORD}, &r));
    for (;;) {
        json_decref(item);
        item = NULL;
        SC_TRY(csv_next(r, &fields));
        if (!fields)
            break;
        SC_TRY(item_from_csv(r, fields, csv_where(r), &in->cleaned, &item));
        SC_TRY(take_item(in, item));
        SC_TRY(check_cancelled());
    }
cleanup:
    json_decref(item);
    csv_close(r);
    return status;
}

static sc_status read_items(review_import *in, const char *path)
{
    sc_status status = SC_OK;
    source s = {0};
    json_t *line = NULL, *item = NULL;
    if (in->format == CSV && is_csv(path))
        return read_csv_items(in, path);
    SC_TRY(source_open(&s, path, &in->cleaned));
    for (;;) {
        json_decref(line);
        json_decref(item);
        item = NULL;
        SC_TRY(source_next_object(&s, &line));
        if (!line)
            break;
        SC_TRY(item_normalise(line, source_where(&s), &in->cleaned, &item));
        SC_TRY(take_item(in, item));
    }
cleanup:
    json_decref(line);
    json_decref(item);
    source_close(&s);
    return status;
}

/* --- the verb ----------------------------------------------------------------------------------- */
static sc_status parse_format(const char *name, review_format *out)
{
    static const char *const names[] = {"amazon23", "amazon14", "csv", NULL};
    for (int i = 0; names[i]; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (review_format)i;
            return SC_OK;
        }
    }
    const char *nearest = text_nearest(name, names);
    return sc_fail(SC_USAGE, "unknown review format \"%s\"%s%s; there are amazon23, amazon14 and csv", name,
                   nearest ? ", did you mean " : "", nearest ? nearest : "");
}

sc_import_reviews_options sc_import_reviews_default(void)
{
    sc_import_reviews_options o = {0};
    o.struct_size = sizeof o;
    o.common = sc_common_default();
    o.format = "amazon23";
    return o;
}

static sc_status read_everything(review_import *in, const sc_import_reviews_options *o)
{
    sc_status status = SC_OK;
    for (const char *const *path = o->items; path && *path; path++) {
        SC_TRY(source_describe(in->sources, "items", *path));
        SC_TRY(read_items(in, *path));
    }
    for (const char *const *path = o->reviews; *path; path++) {
        SC_TRY(source_describe(in->sources, "reviews", *path));
        SC_TRY(in->format == CSV ? read_csv_reviews(in, *path) : read_json_reviews(in, *path));
    }
    if (in->writer->n_reviews == 0) {
        char *why = json_dumps(in->dropped_reviews, JSON_COMPACT);
        status = sc_fail(SC_BAD_INPUT,
                         "%s: none of %lld reviews can be used (dropped: %s); is --format %s the right one?",
                         o->reviews[0], (long long)in->n_read, why ? why : "?", o->format);
        free(why);
    }
cleanup:
    return status;
}

sc_status sc_import_reviews(const sc_import_reviews_options *o, sc_import_result *result)
{
    sc_status status = SC_OK;
    review_import in = {0};
    json_t *description = NULL;
    const double start = seconds_now();
    if (!o || o->struct_size != sizeof *o || !o->reviews || !o->reviews[0] || !o->out || !o->format)
        return sc_fail(SC_USAGE, "import reviews needs --reviews and --out");
    SC_TRY(parse_format(o->format, &in.format));
    in.sources = json_array();
    in.dropped_reviews = json_object();
    in.dropped_items = json_object();
    in.filled = json_object();
    if (!in.sources || !in.dropped_reviews || !in.dropped_items || !in.filled) {
        status = sc_fail(SC_MEMORY, "memory ran out");
        goto cleanup;
    }
    SC_TRY(dataset_writer_open(o->out, true, &in.writer));
    SC_TRY(read_everything(&in, o));
    description = json_pack("{s:s, s:i, s:s, s:s, s:O, s:{s:I, s:I}, s:{s:O, s:O}, s:O, s:o}", "format",
                            "seedcorn-dataset", "version", 1, "kind", "reviews", "source_format", o->format,
                            "sources", in.sources, "read", "reviews", (json_int_t)in.n_read, "items",
                            (json_int_t)in.n_items_read, "dropped", "reviews", in.dropped_reviews, "items",
                            in.dropped_items, "filled", in.filled, "cleaned", clean_counts_json(&in.cleaned));
    if (!description) {
        status = sc_fail(SC_MEMORY, "memory ran out");
        goto cleanup;
    }
    sc_import_result r = {.n_reviews = in.writer->n_reviews,
                          .n_items = (int64_t)in.writer->item_ids.n,
                          .n_users = (int64_t)in.writer->user_ids.n,
                          .n_read = in.n_read,
                          .n_dropped = count_total(in.dropped_reviews)};
    SC_TRY(dataset_writer_commit(&in.writer, description));
    r.n_interactions =
        json_integer_value(json_object_get(json_object_get(description, "counts"), "interactions"));
    r.seconds = seconds_now() - start;
    if (result)
        *result = r;
    log_info("%s: %lld of %lld reviews, %lld items, %lld users", o->out, (long long)r.n_reviews,
             (long long)r.n_read, (long long)r.n_items, (long long)r.n_users);
    if (r.n_dropped > 0)
        log_warn("%lld reviews were dropped; the reasons are in dataset.json", (long long)r.n_dropped);
cleanup:
    dataset_writer_discard(&in.writer);
    json_decref(in.sources);
    json_decref(in.dropped_reviews);
    json_decref(in.dropped_items);
    json_decref(in.filled);
    json_decref(description);
    hash_set_free(&in.review_ids);
    strbuf_free(&in.id);
    strbuf_free(&in.title);
    strbuf_free(&in.text);
    return status;
}
