/* The files of NBCRS (Xie et al., RecSys 2024; github.com/zhouhanxie/neighborhood-based-CF-for-CRS):
 * test: "",test_inputs,test_outputs - one target a row, the turns joined without roles;
 * train: "",movies,full_situation - "movies" is a Python list of strings. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/csv.h"
#include "data/dialogue.h"
#include "data/samples.h"

static int hex_value(const char *text, int digits)
{
    int value = 0;
    for (int i = 0; i < digits; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* One character behind a backslash of a Python string; the number of bytes it takes, 0 if unknown. */
static size_t python_escape(const char *text, strbuf *out)
{
    static const char from[] = "\\'\"nrt", to[] = "\\'\"\n\r\t";
    const char *simple = *text ? strchr(from, *text) : NULL;
    int digits = *text == 'x' ? 2 : *text == 'u' ? 4 : 0;
    int value = digits ? hex_value(text + 1, digits) : -1;
    char bytes[4];
    if (simple) {
        strbuf_putc(out, to[simple - from]);
        return 1;
    }
    if (value <= 0 || (value >= 0xD800 && value < 0xE000))
        return 0;
    strbuf_append(out, bytes, utf8_encode((uint32_t)value, bytes));
    return 1 + (size_t)digits;
}

/* "['Mystery', \"Don't Let Go\"]" */
static sc_status python_list(const char *text, const char *where, json_t *names)
{
    sc_status status = SC_OK;
    strbuf name = {0};
    const char *c = text + strspn(text, " ");
    bool good = *c == '[';
    c += good;
    c += strspn(c, " ");
    while (good && *c != ']') {
        char quote = *c;
        good = quote == '\'' || quote == '"';
        strbuf_clear(&name);
        for (c += good; good && *c != quote;) {
            size_t n = 1;
            if (*c == '\\')
                n = python_escape(c + 1, &name);
            else
                strbuf_putc(&name, *c);
            good = *c != '\0' && n > 0;
            c += good ? n + (*c == '\\') : 0;
        }
        if (!good)
            break;
        SC_TRY(strbuf_status(&name));
        SC_TRY(name_append(names, strbuf_text(&name), true));
        c++;
        c += strspn(c, " ");
        if (*c == ',')
            c += 1 + strspn(c + 1, " ");
        else
            good = *c == ']';
    }
    if (!good || !is_blank(c + 1))
        status = sc_fail(SC_BAD_INPUT, "%s: \"movies\" is not a list of strings as Python writes it", where);
cleanup:
    strbuf_free(&name);
    return status;
}

static sc_status take_record(dialogue_import *in, const char *number, const char *text, const char *titles,
                             bool is_list, const char *where)
{
    sc_status status = SC_OK;
    strbuf clean = {0}, turn = {0}, id = {0}, name = {0};
    sample s = {.targets = json_array(), .seen = json_array()};
    if (!utf8_valid(text, strlen(text)))
        in->cleaned.invalid_utf8 += (int64_t)utf8_sanitize(&clean, text, strlen(text));
    else
        strbuf_puts(&clean, text);
    SC_TRY(strbuf_status(&clean));
    while (clean.len > 0 && clean.data[clean.len - 1] == ' ')
        clean.data[--clean.len] = '\0';
    const char *start = strbuf_text(&clean) + strspn(strbuf_text(&clean), " ");
    if (is_list) {
        SC_TRY(python_list(titles, where, s.targets));
    } else {
        utf8_sanitize(&name, titles, strlen(titles));
        SC_TRY(strbuf_status(&name));
        SC_TRY(name_append(s.targets, strbuf_text(&name), true));
    }
    /* A test row may have no text: the recommender opens the conversation. It counts in the protocol. */
    bool no_text = is_list && *start == '\0';
    if (json_array_size(s.targets) == 0 || no_text) {
        status = count_reason(in->dropped, no_text ? "no_text" : "no_target", 1);
        goto cleanup;
    }
    SC_TRY(dialogue_conversation_text(&start, 1, 0, &turn));
    strbuf_printf(&id, "nbcrs-%s", number);
    SC_TRY(strbuf_status(&id));
    SC_TRY(check_id(id.data, "row number", where));
    s.id = id.data;
    s.conversation = turn.data;
    s.source = json_pack("{s:s, s:s}", "format", "nbcrs", "row", number);
    SC_TRY(sample_write(in, &s));
cleanup:
    json_decref(s.targets);
    json_decref(s.seen);
    json_decref(s.source);
    strbuf_free(&clean);
    strbuf_free(&turn);
    strbuf_free(&id);
    strbuf_free(&name);
    return status;
}

sc_status import_nbcrs(dialogue_import *in)
{
    sc_status status = SC_OK;
    csv_reader *r = NULL;
    const char *const *fields = NULL;
    int text_column = 0, titles_column = 0;
    char number[32];
    SC_TRY(csv_open(in->options->input, (csv_options){',', true, SOURCE_MAX_RECORD}, &r));
    bool is_train = csv_column(r, "full_situation") >= 0;
    SC_TRY(csv_need_column(r, is_train ? "full_situation" : "test_inputs", &text_column));
    SC_TRY(csv_need_column(r, is_train ? "movies" : "test_outputs", &titles_column));
    int number_column = csv_column(r, "");
    for (;;) {
        SC_TRY(csv_next(r, &fields));
        if (!fields)
            break;
        snprintf(number, sizeof number, "%lld", (long long)in->n_read);
        in->n_read++;
        SC_TRY(take_record(in, number_column >= 0 ? fields[number_column] : number, fields[text_column],
                           fields[titles_column], is_train, csv_where(r)));
    }
cleanup:
    csv_close(r);
    return status;
}
