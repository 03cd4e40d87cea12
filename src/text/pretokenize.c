/* Pre-tokenization. The patterns of byte-level tokenizers ask of a character only whether it is a
 * letter, a number or white space. So a text is first written as one byte per character: ASCII as it
 * is, anything else as its class by the `tokenizers` library's own table (unicode_class.h); and the
 * pattern is translated to that alphabet. PCRE2 then matches plain bytes, with JIT, and its own
 * Unicode version and its own idea of \s play no part. */
#include "text/pretokenize.h"

#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/text.h"
#include "text/pattern.h"
#include "text/unicode_class.h"

#define MAX_STEPS 8

typedef enum step_kind { STEP_DIGITS, STEP_DIGIT_RUNS, STEP_PATTERN } step_kind;

typedef struct step {
    step_kind kind;
    pcre2_code *code; /* STEP_PATTERN */
    bool jit;
} step;

struct pretokenizer {
    step steps[MAX_STEPS];
    size_t n_steps;
};

struct pretokenize_scratch {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    char *classes; /* the text, one byte per character */
    size_t capacity;
};

/* ---- reading the node ---- */

static sc_status compile(const char *pattern, const char *where, step *out)
{
    sc_status status = SC_OK;
    strbuf translated = {0};
    SC_TRY(pattern_translate(pattern, where, &translated));
    int code = 0;
    PCRE2_SIZE offset = 0;
    out->kind = STEP_PATTERN;
    out->code = pcre2_compile((PCRE2_SPTR)translated.data, translated.len, 0, &code, &offset, NULL);
    if (!out->code) {
        PCRE2_UCHAR message[160] = "";
        pcre2_get_error_message(code, message, sizeof message);
        status = sc_fail(SC_BAD_INPUT, "%s: the pattern \"%s\" does not compile: %s", where, pattern,
                         (const char *)message);
        goto cleanup;
    }
    uint32_t empty = 0;
    pcre2_pattern_info(out->code, PCRE2_INFO_MATCHEMPTY, &empty);
    if (empty) {
        status =
            sc_fail(SC_BAD_INPUT, "%s: the pattern \"%s\" matches the empty text, which is not supported",
                    where, pattern);
        goto cleanup;
    }
    out->jit = pcre2_jit_compile(out->code, PCRE2_JIT_COMPLETE) == 0;
cleanup:
    strbuf_free(&translated);
    return status;
}

/* The flag `key` of a step, an error if it is there and no boolean. */
static sc_status flag(const json_t *node, const char *key, bool fallback, const char *where, bool *out)
{
    const json_t *value = json_object_get(node, key);
    *out = value ? json_is_true(value) : fallback;
    if (value && !json_is_boolean(value))
        return sc_fail(SC_BAD_INPUT, "%s: \"%s\" of the pre_tokenizer must be true or false", where, key);
    return SC_OK;
}

static sc_status add_split(step *out, const json_t *node, const char *where)
{
    const char *regex = json_string_value(json_object_get(json_object_get(node, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(node, "behavior"));
    bool invert;
    sc_status status = flag(node, "invert", false, where, &invert);
    if (status != SC_OK)
        return status;
    if (!regex)
        return sc_fail(SC_BAD_INPUT, "%s: a Split pre_tokenizer without a \"Regex\" pattern is not supported",
                       where);
    if (!behavior || strcmp(behavior, "Isolated") != 0 || invert)
        return sc_fail(SC_BAD_INPUT,
                       "%s: a Split pre_tokenizer with behavior \"%s\"%s is not supported, only Isolated",
                       where, behavior ? behavior : "", invert ? " and invert" : "");
    return compile(regex, where, out);
}

/* Adds the step of one node; *last is set by ByteLevel, which must come last. */
static sc_status add_step(pretokenizer *p, const json_t *node, const char *where, bool *last)
{
    sc_status status = SC_OK;
    const char *type = json_string_value(json_object_get(node, "type"));
    if (!type)
        return sc_fail(SC_BAD_INPUT, "%s: the pre_tokenizer must be an object with a \"type\"", where);
    if (*last)
        return sc_fail(SC_BAD_INPUT, "%s: the pre_tokenizer %s after ByteLevel is not supported", where,
                       type);
    if (p->n_steps == MAX_STEPS)
        return sc_fail(SC_BAD_INPUT, "%s: a pre_tokenizer of more than %d steps is not supported", where,
                       MAX_STEPS);
    step *s = &p->steps[p->n_steps];
    bool set;
    if (strcmp(type, "ByteLevel") == 0) {
        *last = true;
        SC_TRY(flag(node, "add_prefix_space", true, where, &set));
        if (set) {
            status = sc_fail(SC_BAD_INPUT, "%s: ByteLevel with add_prefix_space is not supported", where);
            goto cleanup;
        }
        SC_TRY(flag(node, "use_regex", true, where, &set));
        if (set) {
            SC_TRY(compile(PATTERN_GPT2, where, s));
            p->n_steps++;
        }
    } else if (strcmp(type, "Digits") == 0) {
        SC_TRY(flag(node, "individual_digits", false, where, &set));
        s->kind = set ? STEP_DIGITS : STEP_DIGIT_RUNS;
        p->n_steps++;
    } else if (strcmp(type, "Split") == 0) {
        SC_TRY(add_split(s, node, where));
        p->n_steps++;
    } else {
        status = sc_fail(SC_BAD_INPUT,
                         "%s: the pre_tokenizer \"%s\" is not supported (ByteLevel, Digits, Split and "
                         "a Sequence of them are)",
                         where, type);
    }
cleanup:
    return status;
}

sc_status pretokenizer_open(const json_t *node, const char *where, pretokenizer **out)
{
    sc_status status = SC_OK;
    pretokenizer *p = NULL;
    bool last = false;
    SC_TRY(sc_alloc(&p, 1, sizeof *p));
    const char *type = json_string_value(json_object_get(node, "type"));
    if (type && strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(node, "pretokenizers");
        for (size_t i = 0; i < json_array_size(list); i++)
            SC_TRY(add_step(p, json_array_get(list, i), where, &last));
    } else {
        SC_TRY(add_step(p, node, where, &last));
    }
    if (!last) {
        status = sc_fail(SC_BAD_INPUT,
                         "%s: only byte-level tokenizers are supported, and the pre_tokenizer "
                         "has no ByteLevel",
                         where);
        goto cleanup;
    }
    *out = p;
    p = NULL;
cleanup:
    pretokenizer_close(p);
    return status;
}

void pretokenizer_close(pretokenizer *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < MAX_STEPS; i++)
        pcre2_code_free(p->steps[i].code);
    free(p);
}

sc_status pretokenize_scratch_open(const pretokenizer *p, pretokenize_scratch **out)
{
    (void)p;
    sc_status status = SC_OK;
    pretokenize_scratch *s = NULL;
    SC_TRY(sc_alloc(&s, 1, sizeof *s));
    s->match = pcre2_match_data_create(1, NULL);
    s->context = pcre2_match_context_create(NULL);
    s->stack = pcre2_jit_stack_create(32 * 1024, 1024 * 1024, NULL); /* NULL where there is no JIT */
    if (!s->match || !s->context) {
        status = sc_fail(SC_MEMORY, "memory does not suffice for matching a pattern");
        goto cleanup;
    }
    if (s->stack)
        pcre2_jit_stack_assign(s->context, NULL, s->stack);
    *out = s;
    s = NULL;
cleanup:
    pretokenize_scratch_close(s);
    return status;
}

void pretokenize_scratch_close(pretokenize_scratch *s)
{
    if (!s)
        return;
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    free(s->classes);
    free(s);
}

/* ---- cutting ---- */

typedef struct run {
    const pretokenizer *p;
    pretokenize_scratch *s;
    pretokenize_piece piece;
    void *user;
} run;

/* classes[0..n) of the characters text[0..bytes): n == bytes for ASCII. */
static sc_status cut(const run *r, size_t step_index, const char *classes, size_t n, const char *text,
                     size_t bytes);

/* Bytes of the first n characters of text. */
static size_t bytes_of(const char *text, size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char lead = (unsigned char)text[bytes];
        bytes += lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    }
    return bytes;
}

typedef struct cursor {
    const char *classes, *text;
    size_t at, n, byte, bytes;
} cursor;

/* Hands classes[at..end) on to the next step. */
static sc_status emit(const run *r, size_t step_index, cursor *c, size_t end)
{
    if (end == c->at)
        return SC_OK;
    size_t n = end - c->at;
    size_t bytes = c->n == c->bytes ? n : bytes_of(c->text + c->byte, n);
    sc_status status = cut(r, step_index + 1, c->classes + c->at, n, c->text + c->byte, bytes);
    c->at = end;
    c->byte += bytes;
    return status;
}

static sc_status next_match(const run *r, const step *s, const cursor *c, size_t *begin, size_t *end)
{
    int found = PCRE2_ERROR_JIT_STACKLIMIT;
    if (s->jit)
        found = pcre2_jit_match(s->code, (PCRE2_SPTR)c->classes, c->n, c->at, 0, r->s->match, r->s->context);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found = pcre2_match(s->code, (PCRE2_SPTR)c->classes, c->n, c->at, PCRE2_NO_JIT, r->s->match,
                            r->s->context);
    if (found == PCRE2_ERROR_NOMATCH) {
        *begin = *end = c->n;
        return SC_OK;
    }
    if (found < 0) {
        PCRE2_UCHAR message[160] = "";
        pcre2_get_error_message(found, message, sizeof message);
        return sc_fail(SC_BAD_INPUT, "the tokenizer's pattern gave up on a text of %zu characters: %s", c->n,
                       (const char *)message);
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(r->s->match);
    *begin = span[0];
    *end = span[1];
    return SC_OK;
}

static bool is_numeric(char class_byte)
{
    return (class_byte >= '0' && class_byte <= '9') || class_byte == PATTERN_NUMBER ||
           class_byte == PATTERN_NUMERIC;
}

static sc_status cut(const run *r, size_t step_index, const char *classes, size_t n, const char *text,
                     size_t bytes)
{
    sc_status status = SC_OK;
    if (step_index == r->p->n_steps)
        return r->piece(r->user, text, bytes);
    const step *s = &r->p->steps[step_index];
    cursor c = {.classes = classes, .text = text, .n = n, .bytes = bytes};
    while (c.at < n) {
        size_t begin = c.at, end = n;
        if (s->kind == STEP_PATTERN) {
            SC_TRY(next_match(r, s, &c, &begin, &end));
        } else {
            while (begin < n && !is_numeric(classes[begin]))
                begin++;
            end = begin < n ? begin + 1 : n;
            while (s->kind == STEP_DIGIT_RUNS && end < n && is_numeric(classes[end]))
                end++;
        }
        SC_TRY(emit(r, step_index, &c, begin)); /* what lies before the match is a piece of its own */
        SC_TRY(emit(r, step_index, &c, end));
    }
cleanup:
    return status;
}

/* One byte per character into s->classes. */
static sc_status classify(pretokenize_scratch *s, const char *text, size_t n, size_t *n_out)
{
    sc_status status = sc_grow(&s->classes, &s->capacity, n, 1);
    if (status != SC_OK)
        return status;
    static const char bytes[] = {
        [UNICODE_OTHER] = PATTERN_OTHER,   [UNICODE_LETTER] = PATTERN_LETTER,
        [UNICODE_NUMBER] = PATTERN_NUMBER, [UNICODE_NUMERIC] = PATTERN_NUMERIC,
        [UNICODE_SPACE] = PATTERN_SPACE,
    };
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        if ((unsigned char)text[i] < 0x80) {
            s->classes[out++] = text[i++];
            continue;
        }
        uint32_t code_point = 0;
        size_t length = utf8_decode(text + i, n - i, &code_point);
        if (length == 0)
            return sc_fail(SC_INTERNAL, "pretokenize: the text is not UTF-8 at byte %zu", i);
        s->classes[out++] = code_point == 0x17f ? PATTERN_LONG_S : bytes[unicode_class(code_point)];
        i += length;
    }
    *n_out = out;
    return SC_OK;
}

sc_status pretokenize(const pretokenizer *p, pretokenize_scratch *s, const char *text, size_t n,
                      pretokenize_piece piece, void *user)
{
    run r = {p, s, piece, user};
    size_t ascii = 0;
    while (ascii < n && (unsigned char)text[ascii] < 0x80)
        ascii++;
    if (ascii == n)
        return n ? cut(&r, 0, text, n, text, n) : SC_OK;
    size_t n_classes = 0;
    sc_status status = classify(s, text, n, &n_classes);
    return status == SC_OK ? cut(&r, 0, s->classes, n_classes, text, n) : status;
}
