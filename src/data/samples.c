/* Writing evaluation dialogues. With a limit, the n rows of smallest random key are kept in a heap, so
 * that memory is bounded by the limit and the draw does not depend on the length of the input. */
#include "data/samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "data/dialogue.h"

static bool list_has(const json_t *list, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (strcmp(json_string_value(json_array_get(list, i)), name) == 0)
            return true;
    }
    return false;
}

sc_status name_append(json_t *list, const char *name, bool once)
{
    sc_status status = SC_OK;
    strbuf folded = {0};
    text_fold_spaces(&folded, name, strlen(name));
    SC_TRY(strbuf_status(&folded));
    if (folded.len == 0 || (once && list_has(list, folded.data)))
        goto cleanup;
    if (json_array_append_new(list, json_text(folded.data)) != 0)
        status = sc_fail(SC_MEMORY, "memory ran out while reading titles");
cleanup:
    strbuf_free(&folded);
    return status;
}

sc_status id_text(const json_t *object, const char *key, const char *where, char buffer[32], const char **out)
{
    const json_t *value = json_object_get(object, key);
    *out = buffer;
    if (json_is_integer(value))
        snprintf(buffer, 32, "%lld", (long long)json_integer_value(value));
    else if (json_is_string(value))
        *out = json_string_value(value);
    else
        return sc_fail(SC_BAD_INPUT, "%s: \"%s\" must be a string or a whole number", where, key);
    return SC_OK;
}

/* Per target: "rec", or "dis" if the conversation names it already (reference: evaluation protocol, 2.6). */
static json_t *conditions(dialogue_import *in, const sample *s)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < json_array_size(s->targets); i++) {
        bool seen = list_has(s->seen, json_string_value(json_array_get(s->targets, i)));
        if (json_array_append_new(list, json_string(seen ? "dis" : "rec")) != 0) {
            json_decref(list);
            return NULL;
        }
        in->n_targets++;
        in->n_new += !seen;
    }
    return list;
}

static sc_status sample_json(dialogue_import *in, const sample *s, json_t **out)
{
    sc_status status = SC_OK;
    strbuf prompt = {0}, id = {0};
    json_t *messages = json_incref(s->messages);
    strbuf_puts(&id, s->id);
    SC_TRY(strbuf_status(&id));
    SC_TRY(unique_id(&in->ids, &id));
    if (!messages) {
        SC_TRY(
            dialogue_prompt(in->pattern, in->options->prompt, in->options->domain, s->conversation, &prompt));
        messages = json_pack("[{s:s, s:s%}]", "role", "user", "content", strbuf_text(&prompt), prompt.len);
    }
    *out = json_pack("{s:s, s:O, s:O, s:O, s:s, s:o, s:O}", "id", id.data, "messages", messages, "targets",
                     s->targets, "seen", s->seen, "request", s->conversation, "condition", conditions(in, s),
                     "source", s->source);
    if (!*out)
        status = sc_fail(SC_MEMORY, "memory ran out while writing the dialogue %s", s->id);
cleanup:
    json_decref(messages);
    strbuf_free(&prompt);
    strbuf_free(&id);
    return status;
}

static bool before(const kept_line *a, const kept_line *b)
{
    return a->key != b->key ? a->key < b->key : a->row < b->row;
}

static void swap_lines(kept_line *a, kept_line *b)
{
    kept_line t = *a;
    *a = *b;
    *b = t;
}

/* The heap's top is the kept row of largest key: the next to go. */
static void sift_down(kept_line *heap, size_t n, size_t at)
{
    for (;;) {
        size_t top = at, left = 2 * at + 1;
        for (size_t child = left; child < n && child < left + 2; child++) {
            if (before(&heap[top], &heap[child]))
                top = child;
        }
        if (top == at)
            return;
        swap_lines(&heap[at], &heap[top]);
        at = top;
    }
}

static sc_status keep(dialogue_import *in, uint64_t key, const json_t *line)
{
    sc_status status = SC_OK;
    kept_line now = {key, in->n_rows, NULL};
    if ((int64_t)in->n_kept == in->options->limit) {
        if (!before(&now, &in->kept[0]))
            return SC_OK;
        free(in->kept[0].text);
        in->kept[0] = in->kept[--in->n_kept];
        sift_down(in->kept, in->n_kept, 0);
    }
    SC_TRY(sc_grow(&in->kept, &in->kept_capacity, in->n_kept + 1, sizeof *in->kept));
    now.text = json_dumps(line, JSON_COMPACT);
    if (!now.text)
        return sc_fail(SC_MEMORY, "memory ran out while drawing rows");
    size_t at = in->n_kept++;
    in->kept[at] = now;
    for (; at > 0 && before(&in->kept[(at - 1) / 2], &in->kept[at]); at = (at - 1) / 2)
        swap_lines(&in->kept[at], &in->kept[(at - 1) / 2]);
cleanup:
    return status;
}

sc_status sample_write(dialogue_import *in, const sample *s)
{
    sc_status status = SC_OK;
    json_t *line = NULL;
    SC_TRY(sample_json(in, s, &line));
    if (in->options->limit > 0) {
        random_stream r =
            random_at((uint64_t)in->options->common.seed, RANDOM_IMPORT, (uint64_t)in->n_rows, 0);
        SC_TRY(keep(in, random_u64(&r), line));
    } else {
        SC_TRY(json_write_line(in->out, line));
    }
    in->n_rows++;
    if ((in->n_rows & 255) == 0)
        SC_TRY(check_cancelled());
cleanup:
    json_decref(line);
    return status;
}

static int compare_rows(const void *left, const void *right)
{
    const kept_line *a = left, *b = right;
    return a->row < b->row ? -1 : a->row > b->row;
}

sc_status samples_each_line(dialogue_import *in, json_type type,
                            sc_status (*take)(dialogue_import *in, const json_t *line, const char *where))
{
    sc_status status = SC_OK;
    source s = {0};
    json_t *line = NULL;
    SC_TRY(source_open(&s, in->options->input, &in->cleaned));
    for (;;) {
        json_decref(line);
        SC_TRY(source_next(&s, &line));
        if (!line)
            break;
        if (json_typeof(line) != type) {
            status = sc_fail(SC_BAD_INPUT, "%s: a JSON %s is needed in every line", source_where(&s),
                             type == JSON_OBJECT ? "object" : "array");
            goto cleanup;
        }
        SC_TRY(take(in, line, source_where(&s)));
        in->n_read++;
    }
cleanup:
    json_decref(line);
    source_close(&s);
    return status;
}

sc_status samples_finish(dialogue_import *in)
{
    sc_status status = SC_OK;
    json_t *line = NULL;
    if (in->n_kept > 1)
        qsort(in->kept, in->n_kept, sizeof *in->kept, compare_rows);
    for (size_t i = 0; i < in->n_kept; i++) {
        /* Through a value again, so that a line is written the same way with and without a limit. */
        json_decref(line);
        SC_TRY(json_parse(in->kept[i].text, strlen(in->kept[i].text), "a kept row", &line));
        SC_TRY(json_write_line(in->out, line));
    }
cleanup:
    json_decref(line);
    return status;
}
