/* eval: replies and targets -> metrics.json (means, standard errors, every setting and condition,
 * what the lists are like) and metrics.jsonl (the rank of every target). */
#include "seedcorn/evaluate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "data/dialogue.h"
#include "data/ids.h"
#include "evaluate/match.h"
#include "evaluate/parse.h"
#include "evaluate/popularity.h"
#include "evaluate/score.h"

enum { POPULAR_TITLES = 1000 /* room for what is filtered out or was seen */, LONGEST_LINE = 1 << 26 };

sc_eval_options sc_eval_default(void)
{
    return (sc_eval_options){
        .struct_size = sizeof(sc_eval_options), .common = sc_common_default(), .mode = "strict"};
}

/* Everything between the inputs and the figures. */
typedef struct evaluation {
    const sc_eval_options *options;
    match_mode mode;
    dialogues dialogues;
    title_list *lists; /* [dialogues.n]; with a baseline only the first, which all share */
    title_index *titles;
    id_table names;      /* compared forms: equal forms, equal numbers */
    scored_list *scored; /* [dialogues.n] */
    int32_t *numbers;    /* storage of the lists' names, targets and seen */
    bool *known;
    size_t n_rows;
    /* What the lists are like; titles are counted as parsed, before any filter. */
    int64_t n_titles, n_matched, n_repeats, n_empty, n_twenty, n_distinct, n_targets_listed;
} evaluation;

static sc_status check_options(const sc_eval_options *o, match_mode *mode)
{
    if (o->struct_size != sizeof *o)
        return sc_fail(SC_USAGE,
                       "eval: the options are not those of this library; start from sc_eval_default()");
    if (!o->dialogues || !o->items || !o->out || !o->mode)
        return sc_fail(SC_USAGE, "eval needs dialogues, items and out");
    if (strcmp(o->mode, "strict") != 0 && strcmp(o->mode, "he2023") != 0)
        return sc_fail(SC_USAGE, "unknown mode \"%s\"; there are: strict, he2023", o->mode);
    *mode = strcmp(o->mode, "strict") == 0 ? MATCH_STRICT : MATCH_HE2023;
    if (!o->replies == !o->baseline)
        return sc_fail(
            SC_USAGE,
            "eval scores either replies or a baseline: give --replies FILE or --baseline popularity");
    if (o->baseline && strcmp(o->baseline, "popularity") != 0)
        return sc_fail(SC_USAGE, "unknown baseline \"%s\"; there is: popularity", o->baseline);
    if (o->baseline && !o->data)
        return sc_fail(SC_USAGE, "the baseline counts the interactions of a data set: give --data DIR");
    return SC_OK;
}

/* --- reading ---------------------------------------------------------------------------------------- */

/* The titles of one reply: parsed from its text, or taken as listed where it has none. */
static sc_status reply_titles(const json_t *reply, const char *where, match_mode mode, title_list *out)
{
    sc_status status = SC_OK;
    const char *text = NULL;
    SC_TRY(json_get_string(reply, "text", where, NULL, &text));
    if (text)
        return parse_reply(text, mode == MATCH_STRICT ? PARSE_STRICT : PARSE_HE2023, out);
    json_t *list;
    SC_TRY(json_need_array(reply, "titles", where, &list));
    SC_TRY(sc_alloc(&out->titles, json_array_size(list) + 1, sizeof *out->titles));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *title = json_string_value(json_array_get(list, i));
        if (!title) {
            status = sc_fail(SC_BAD_INPUT, "%s: \"titles\"[%zu] is not a string", where, i);
            goto cleanup;
        }
        SC_TRY(sc_strdup(&out->titles[out->n], title));
        out->n++;
    }
cleanup:
    return status;
}

static sc_status read_replies(evaluation *e)
{
    sc_status status = SC_OK;
    const char *path = e->options->replies;
    line_reader *r = NULL;
    json_t *reply = NULL;
    id_table ids = {0};
    strbuf where = {0};
    bool *have = NULL;
    int32_t index;
    bool is_new;
    SC_TRY(sc_alloc(&have, e->dialogues.n, sizeof *have));
    for (size_t i = 0; i < e->dialogues.n; i++)
        SC_TRY(id_table_put(&ids, e->dialogues.rows[i].id, &index, &is_new));
    SC_TRY(line_reader_open(path, LONGEST_LINE, &r));
    for (;;) {
        const char *id;
        SC_TRY(json_next_line(r, &reply));
        if (!reply)
            break;
        strbuf_clear(&where);
        strbuf_printf(&where, "%s:%lld", path, (long long)line_reader_line(r));
        SC_TRY(json_need_string(reply, "id", strbuf_text(&where), &id));
        index = id_table_find(&ids, id);
        if (index < 0) {
            status =
                sc_fail(SC_BAD_INPUT,
                        "%s: there is no dialogue \"%.80s\" in %s; are these replies to other dialogues?",
                        strbuf_text(&where), id, e->options->dialogues);
            goto cleanup;
        }
        if (have[index]) {
            status = sc_fail(SC_BAD_INPUT, "%s: a second reply to \"%.80s\"", strbuf_text(&where), id);
            goto cleanup;
        }
        have[index] = true;
        SC_TRY(reply_titles(reply, strbuf_text(&where), e->mode, &e->lists[index]));
        json_decref(reply);
        reply = NULL;
    }
    for (size_t i = 0; i < e->dialogues.n; i++)
        if (!have[i]) {
            status = sc_fail(SC_BAD_INPUT,
                             "%s has no reply to the dialogue \"%.80s\" of %s; run recommend to its end",
                             path, e->dialogues.rows[i].id, e->options->dialogues);
            goto cleanup;
        }
cleanup:
    json_decref(reply);
    line_reader_close(r);
    id_table_free(&ids);
    strbuf_free(&where);
    free(have);
    return status;
}

/* --- names to numbers --------------------------------------------------------------------------------- */

/* The number of a title's compared form. In he2023 mode a target is the name of an entity. */
static sc_status number_of(evaluation *e, const char *title, strbuf *form, int32_t *out)
{
    sc_status status = SC_OK;
    strbuf_clear(form);
    title_index_form_of_name(e->titles, title, form);
    SC_TRY(strbuf_status(form));
    SC_TRY(id_table_put(&e->names, strbuf_text(form), out, NULL));
cleanup:
    return status;
}

static sc_status number_all(evaluation *e, char *const *titles, size_t n, strbuf *form, int32_t **next,
                            const int32_t **out)
{
    *out = *next;
    for (size_t i = 0; i < n; i++) {
        sc_status status = number_of(e, titles[i], form, (*next)++);
        if (status != SC_OK)
            return status;
    }
    return SC_OK;
}

/* Matches every title of every list at once, then numbers names, targets and seen titles. */
static sc_status match_all(evaluation *e)
{
    sc_status status = SC_OK;
    const size_t n = e->dialogues.n, n_lists = e->options->baseline ? 1 : n;
    size_t n_titles = 0, n_numbers = 0;
    const char **titles = NULL;
    title_match *matches = NULL;
    strbuf form = {0};
    bool *used = NULL;
    for (size_t i = 0; i < n_lists; i++)
        n_titles += e->lists[i].n;
    n_numbers = n_titles;
    for (size_t i = 0; i < n; i++) {
        n_numbers += e->dialogues.rows[i].n_targets + e->dialogues.rows[i].n_seen;
        e->n_rows += e->dialogues.rows[i].n_targets;
    }
    SC_TRY(sc_alloc(&titles, n_titles + 1, sizeof *titles));
    SC_TRY(sc_alloc(&matches, n_titles + 1, sizeof *matches));
    SC_TRY(sc_alloc(&e->numbers, n_numbers + 1, sizeof *e->numbers));
    SC_TRY(sc_alloc(&e->known, n_titles + 1, sizeof *e->known));
    SC_TRY(sc_alloc(&e->scored, n, sizeof *e->scored));
    size_t at = 0;
    for (size_t i = 0; i < n_lists; i++)
        for (size_t t = 0; t < e->lists[i].n; t++)
            titles[at++] = e->lists[i].titles[t];
    SC_TRY(title_index_match(e->titles, titles, n_titles, matches));

    SC_TRY(sc_alloc(&used, title_index_size(e->titles), sizeof *used));
    int32_t *next = e->numbers;
    bool *known = e->known;
    at = 0;
    for (size_t i = 0; i < n_lists; i++) {
        scored_list *s = &e->scored[i];
        s->names = next;
        s->known = known;
        const size_t first = at;
        size_t filled = 0;
        for (size_t t = 0; t < e->lists[i].n; t++, at++) {
            const title_match *m = &matches[at];
            filled += e->lists[i].titles[t][0] != 0;
            bool repeat = false;
            for (size_t b = first; b < at && m->known && !repeat; b++)
                repeat = matches[b].known && matches[b].name == m->name;
            e->n_titles++;
            e->n_matched += m->known;
            e->n_repeats += repeat;
            if (m->known && !used[m->name]) {
                used[m->name] = true;
                e->n_distinct++;
            }
            /* Two ways of writing one title are one recommendation; He et al. count both. */
            if (repeat && e->mode == MATCH_STRICT)
                continue;
            *next = -1;
            if (m->name >= 0)
                SC_TRY(id_table_put(&e->names, title_index_key(e->titles, m->name), next, NULL));
            next++;
            *known++ = m->known;
            s->n++;
        }
        e->n_empty += filled == 0;
        e->n_twenty += e->lists[i].n == 20;
    }
    for (size_t i = 0; i < n; i++) {
        scored_list *s = &e->scored[i];
        const dialogue *d = &e->dialogues.rows[i];
        if (i > 0 && e->options->baseline)
            *s = (scored_list){.names = e->scored[0].names, .known = e->scored[0].known, .n = e->scored[0].n};
        SC_TRY(number_all(e, d->targets, d->n_targets, &form, &next, &s->targets));
        SC_TRY(number_all(e, d->seen, d->n_seen, &form, &next, &s->seen));
        s->n_targets = d->n_targets;
        s->n_seen = d->n_seen;
    }
cleanup:
    free(titles);
    free(matches);
    free(used);
    strbuf_free(&form);
    return status;
}

/* --- writing ---------------------------------------------------------------------------------------- */

static json_t *summary_json(const metric_summary *s)
{
    json_t *root = json_object();
    for (int m = 0; m < N_METRICS; m++) {
        json_t *metric = json_object();
        for (int c = 0; c < N_CUTS; c++) {
            char cut[8];
            snprintf(cut, sizeof cut, "%lld", (long long)metric_cuts[c]);
            json_object_set_new(metric, cut,
                                json_pack("{s:f,s:o,s:I}", "value", s->mean[m][c], "se",
                                          s->n > 1 ? json_real(s->se[m][c]) : json_null(), "n",
                                          (json_int_t)s->n));
        }
        json_object_set_new(root, metric_names[m], metric);
    }
    return root;
}

static json_t *share(int64_t part, int64_t whole)
{
    return whole > 0 ? json_real((double)part / (double)whole) : json_null();
}

static json_t *lists_json(const evaluation *e)
{
    const int64_t n = e->options->baseline ? 1 : (int64_t)e->dialogues.n;
    return json_pack("{s:I,s:I,s:o,s:o,s:o,s:o,s:I,s:I,s:o}", "lists", (json_int_t)n, "titles",
                     (json_int_t)e->n_titles, "matched_share", share(e->n_matched, e->n_titles),
                     "repeated_share", share(e->n_repeats, e->n_titles), "empty_share", share(e->n_empty, n),
                     "exactly_20_share", share(e->n_twenty, n), "distinct_titles", (json_int_t)e->n_distinct,
                     "catalogue_items", (json_int_t)title_index_n_items(e->titles),
                     "targets_in_catalogue_share", share(e->n_targets_listed, (int64_t)e->n_rows));
}

static json_t *protocol_json(const evaluation *e)
{
    const sc_eval_options *o = e->options;
    return json_pack("{s:s,s:b,s:b,s:s,s:s,s:s*,s:s,s:s}", "mode", o->mode, "filtered", o->filtered,
                     "exclude_seen", o->exclude_seen, "condition", condition_names[CONDITION_REC], "scored",
                     o->baseline ? o->baseline : "replies", "reply_file",
                     o->replies ? path_base(o->replies) : NULL, "dialogues_sha256", e->dialogues.sha256,
                     "matching",
                     e->mode == MATCH_STRICT ? "normalised title of an item; 0 edits for at most 5 code "
                                               "points, 1 for at most 10, else 2; same numbers"
                                             : "nearest entity name by Levenshtein distance, known within 2; "
                                               "ties to items, then to the first in code point order");
}

static sc_status write_rows(const evaluation *e, const char *path, const int64_t *positions,
                            const bool *mentioned)
{
    sc_status status = SC_OK;
    file_writer *w = NULL;
    size_t row = 0;
    SC_TRY(file_writer_open(path, &w));
    for (size_t i = 0; i < e->dialogues.n; i++) {
        const dialogue *d = &e->dialogues.rows[i];
        for (size_t t = 0; t < d->n_targets; t++, row++) {
            int32_t name;
            SC_TRY(title_index_find(e->titles, d->targets[t], &name));
            json_t *line = json_pack(
                "{s:o,s:o,s:s,s:b,s:o}", "id", json_text(d->id), "target", json_text(d->targets[t]),
                "condition", condition_names[mentioned[row] ? CONDITION_DIS : CONDITION_REC], "in_catalogue",
                name >= 0, "rank", positions[row] >= 0 ? json_integer(positions[row] + 1) : json_null());
            status = json_write_line(w, line);
            json_decref(line);
            if (status != SC_OK)
                goto cleanup;
        }
    }
    SC_TRY(file_writer_commit(&w));
cleanup:
    file_writer_discard(&w);
    return status;
}

static void to_result(const metric_summary *s, sc_eval_result *out)
{
    *out = (sc_eval_result){.n = s->n};
    for (int c = 0; c < N_CUTS; c++) {
        out->recall[c] = s->mean[METRIC_RECALL][c];
        out->ndcg[c] = s->mean[METRIC_NDCG][c];
        out->mrr[c] = s->mean[METRIC_MRR][c];
        out->recall_se[c] = s->se[METRIC_RECALL][c];
        out->ndcg_se[c] = s->se[METRIC_NDCG][c];
        out->mrr_se[c] = s->se[METRIC_MRR][c];
    }
}

/* All settings and conditions; the options choose the headline and what metrics.jsonl tells. */
static sc_status score_and_write(evaluation *e, sc_eval_result *result)
{
    sc_status status = SC_OK;
    const sc_eval_options *o = e->options;
    int64_t *positions = NULL, *scratch = NULL;
    bool *mentioned = NULL;
    json_t *root = json_object(), *grid = json_array();
    strbuf rows_path = {0};
    sc_eval_result r = {0};
    SC_TRY(sc_alloc(&positions, e->n_rows + 1, sizeof *positions));
    SC_TRY(sc_alloc(&scratch, e->n_rows + 1, sizeof *scratch));
    SC_TRY(sc_alloc(&mentioned, e->n_rows + 1, sizeof *mentioned));
    json_object_set_new(root, "protocol", protocol_json(e));
    for (size_t i = 0; i < e->dialogues.n; i++)
        for (size_t t = 0; t < e->dialogues.rows[i].n_targets; t++) {
            int32_t name;
            SC_TRY(title_index_find(e->titles, e->dialogues.rows[i].targets[t], &name));
            e->n_targets_listed += name >= 0;
        }
    for (int setting = 0; setting < 4; setting++) {
        const bool filtered = setting & 2, exclude_seen = setting & 1;
        score_positions(e->scored, e->dialogues.n, filtered, exclude_seen, positions, mentioned);
        for (int c = CONDITION_REC; c <= CONDITION_ALL; c++) {
            metric_summary s;
            score_condition(positions, mentioned, e->n_rows, (condition)c, scratch, &s);
            json_array_append_new(grid,
                                  json_pack("{s:b,s:b,s:s,s:I,s:o}", "filtered", filtered, "exclude_seen",
                                            exclude_seen, "condition", condition_names[c], "n",
                                            (json_int_t)s.n, "metrics", summary_json(&s)));
            if (c == CONDITION_REC && filtered == o->filtered && exclude_seen == o->exclude_seen) {
                to_result(&s, &r);
                json_object_set_new(root, "n", json_integer(s.n));
                json_object_update_new(root, summary_json(&s));
            }
        }
    }
    if (r.n == 0) {
        status = sc_fail(SC_BAD_INPUT,
                         "%s has no target that the conversation did not mention before: nothing to score",
                         o->dialogues);
        goto cleanup;
    }
    json_object_set_new(root, "lists", lists_json(e));
    json_object_set(root, "grid", grid);
    score_positions(e->scored, e->dialogues.n, o->filtered, o->exclude_seen, positions, mentioned);
    strbuf_append(&rows_path, o->out, text_ends(o->out, ".json") ? strlen(o->out) - 5 : strlen(o->out));
    strbuf_puts(&rows_path, ".jsonl");
    SC_TRY(strbuf_status(&rows_path));
    SC_TRY(write_rows(e, strbuf_text(&rows_path), positions, mentioned));
    SC_TRY(json_write_file(o->out, root));
    if (result)
        *result = r;
cleanup:
    json_decref(root);
    json_decref(grid);
    strbuf_free(&rows_path);
    free(positions);
    free(scratch);
    free(mentioned);
    return status;
}

sc_status sc_eval(const sc_eval_options *options, sc_eval_result *result)
{
    sc_status status = SC_OK;
    evaluation e = {.options = options};
    SC_TRY(check_options(options, &e.mode));
    SC_TRY(dialogues_read(options->dialogues, &e.dialogues));
    SC_TRY(sc_alloc(&e.lists, e.dialogues.n, sizeof *e.lists));
    if (options->baseline)
        SC_TRY(popularity_titles(options->data, POPULAR_TITLES, &e.lists[0]));
    else
        SC_TRY(read_replies(&e));
    SC_TRY(title_index_open(options->items, e.mode, &e.titles));
    SC_TRY(match_all(&e));
    SC_TRY(score_and_write(&e, result));
cleanup:
    for (size_t i = 0; e.lists && i < e.dialogues.n; i++)
        title_list_free(&e.lists[i]);
    free(e.lists);
    free(e.scored);
    free(e.numbers);
    free(e.known);
    id_table_free(&e.names);
    title_index_close(e.titles);
    dialogues_free(&e.dialogues);
    return status;
}
