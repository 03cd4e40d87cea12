/* ChatML. The text is that of the model's own template; the ids are those that transformers gives for
 * it (apply_chat_template), but for two things that a stranger's words and training need:
 * - special tokens written in a content are plain text, so that nobody can close a turn;
 * - an assistant's content is encoded apart from its header, so that the row a model is trained on
 *   starts with the very ids of the prompt it will be given (it differs where the content begins
 *   with white space). */
#include "text/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define START "<|im_start|>"
#define END "<|im_end|>"
#define SMOLLM2_SYSTEM "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

void chat_rendered_free(chat_rendered *r)
{
    token_ids_free(&r->ids);
    free(r->mask);
    free(r->message_end);
    *r = (chat_rendered){0};
}

/* ---- which family ---- */

/* The templates themselves, with \n as a line end. */
#define CHATML_BODY                                                                                          \
    "{{'" START "' + message['role'] + '\n' + message['content'] + '" END "' + '\n'}}{% endfor %}"
#define CHATML_PROMPT "{% if add_generation_prompt %}{{ '" START "assistant\n' }}{% endif %}"

static const struct {
    chat_family family;
    const char *text;
} templates[] = {
    {CHAT_CHATML_SMOLLM2,
     "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '" START
     "system\n" SMOLLM2_SYSTEM END "\n' }}{% endif %}" CHATML_BODY CHATML_PROMPT},
    {CHAT_CHATML, "{% for message in messages %}" CHATML_BODY CHATML_PROMPT},
};

/* Jinja reads "\n" inside quotes as a line end, so files have it either way. */
static sc_status same_template(const char *text, chat_family *out, bool *found)
{
    strbuf plain = {0};
    for (const char *p = text; *p; p++) {
        if (p[0] == '\\' && p[1] == 'n') {
            strbuf_putc(&plain, '\n');
            p++;
        } else {
            strbuf_putc(&plain, *p);
        }
    }
    while (plain.len > 0 && plain.data[plain.len - 1] == '\n')
        plain.data[--plain.len] = '\0';
    sc_status status = strbuf_status(&plain);
    *found = false;
    for (size_t i = 0; status == SC_OK && i < sizeof templates / sizeof templates[0]; i++)
        if (strcmp(strbuf_text(&plain), templates[i].text) == 0) {
            *out = templates[i].family;
            *found = true;
        }
    strbuf_free(&plain);
    return status;
}

/* The "chat_template" of tokenizer_config.json: a string, or a list of {name, template}. */
static const char *config_template(const json_t *config)
{
    const json_t *value = json_object_get(config, "chat_template");
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *entry = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && strcmp(name, "default") == 0)
            return json_string_value(json_object_get(entry, "template"));
    }
    return json_string_value(value);
}

sc_status chat_family_of(const char *model_folder, chat_family *out)
{
    sc_status status = SC_OK;
    strbuf text = {0};
    json_t *config = NULL;
    bool found = false;
    char *jinja = path_join(model_folder, "chat_template.jinja");
    char *json = path_join(model_folder, "tokenizer_config.json");
    if (!jinja || !json) {
        status = sc_fail(SC_MEMORY, "memory does not suffice for a path");
        goto cleanup;
    }
    if (file_exists(jinja)) {
        SC_TRY(file_read_all(jinja, &text));
    } else if (file_exists(json)) {
        SC_TRY(json_parse_file(json, &config));
        const char *in_config = config_template(config);
        strbuf_puts(&text, in_config ? in_config : "");
        SC_TRY(strbuf_status(&text));
    }
    if (text.len == 0) {
        status = sc_fail(SC_BAD_INPUT,
                         "%s has no chat template (chat_template.jinja, or \"chat_template\" in "
                         "tokenizer_config.json); use an instruct model",
                         model_folder);
        goto cleanup;
    }
    SC_TRY(same_template(text.data, out, &found));
    if (!found)
        status = sc_fail(SC_BAD_INPUT,
                         "the chat template of %s is none that is supported (SmolLM2's and plain "
                         "ChatML are); its first words are \"%.40s\"",
                         model_folder, text.data);
cleanup:
    strbuf_free(&text);
    json_decref(config);
    free(jinja);
    free(json);
    return status;
}

/* ---- rendering ---- */

static sc_status check_messages(const chat_message *messages, size_t n)
{
    if (n == 0)
        return sc_fail(SC_BAD_INPUT, "a chat needs at least one message");
    for (size_t i = 0; i < n; i++) {
        const char *role = messages[i].role ? messages[i].role : "";
        if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0)
            return sc_fail(SC_BAD_INPUT,
                           "message %zu has the role \"%s\"; it must be system, user or assistant", i + 1,
                           role);
        if (!messages[i].content)
            return sc_fail(SC_BAD_INPUT, "message %zu has no content", i + 1);
    }
    return SC_OK;
}

static bool needs_system(chat_family family, const chat_message *messages)
{
    return family == CHAT_CHATML_SMOLLM2 && strcmp(messages[0].role, "system") != 0;
}

sc_status chat_render_text(chat_family family, const chat_message *messages, size_t n_messages,
                           bool add_generation_prompt, strbuf *out)
{
    sc_status status = check_messages(messages, n_messages);
    if (status != SC_OK)
        return status;
    if (needs_system(family, messages))
        strbuf_puts(out, START "system\n" SMOLLM2_SYSTEM END "\n");
    for (size_t i = 0; i < n_messages; i++) {
        strbuf_puts(out, START);
        strbuf_puts(out, messages[i].role);
        strbuf_putc(out, '\n');
        utf8_sanitize(out, messages[i].content, strlen(messages[i].content));
        strbuf_puts(out, END "\n");
    }
    if (add_generation_prompt)
        strbuf_puts(out, START "assistant\n");
    return strbuf_status(out);
}

typedef struct renderer {
    const tokenizer *t;
    chat_rendered *out;
    size_t mask_capacity;
    int32_t start, end;
} renderer;

/* The mask grows with the ids: what was added since is `value`. */
static sc_status mark(renderer *r, size_t from, uint8_t value)
{
    sc_status status = sc_grow(&r->out->mask, &r->mask_capacity, r->out->ids.n, 1);
    if (status != SC_OK)
        return status;
    memset(r->out->mask + from, value, r->out->ids.n - from);
    return SC_OK;
}

static sc_status encode(const renderer *r, const char *a, const char *b, const char *c)
{
    strbuf text = {0};
    strbuf_puts(&text, a);
    strbuf_puts(&text, b);
    strbuf_puts(&text, c);
    sc_status status = strbuf_status(&text);
    if (status == SC_OK)
        status = tokenizer_encode(r->t, strbuf_text(&text), text.len, false, &r->out->ids);
    strbuf_free(&text);
    return status;
}

static sc_status render_message(renderer *r, const char *role, const char *content)
{
    sc_status status = SC_OK;
    bool supervised = strcmp(role, "assistant") == 0;
    token_ids *ids = &r->out->ids;
    size_t from = ids->n;
    SC_TRY(token_ids_push(ids, r->start));
    SC_TRY(encode(r, role, "\n", supervised ? "" : content));
    SC_TRY(mark(r, from, 0));
    from = ids->n;
    if (supervised)
        SC_TRY(encode(r, content, "", ""));
    SC_TRY(token_ids_push(ids, r->end));
    SC_TRY(mark(r, from, supervised));
    from = ids->n;
    SC_TRY(encode(r, "\n", "", ""));
    SC_TRY(mark(r, from, 0));
cleanup:
    return status;
}

int32_t chat_end_token(const tokenizer *t, chat_family family)
{
    (void)family; /* every family there is is ChatML */
    return tokenizer_token_id(t, END);
}

sc_status chat_render(const tokenizer *t, chat_family family, const chat_message *messages, size_t n_messages,
                      bool add_generation_prompt, chat_rendered *out)
{
    sc_status status = SC_OK;
    *out = (chat_rendered){0};
    renderer r = {t, out, 0, tokenizer_token_id(t, START), chat_end_token(t, family)};
    SC_TRY(check_messages(messages, n_messages));
    if (!tokenizer_is_special(t, r.start) || !tokenizer_is_special(t, r.end)) {
        status = sc_fail(SC_BAD_INPUT, "the tokenizer has no special tokens " START " and " END
                                       "; take the tokenizer of a ChatML model");
        goto cleanup;
    }
    SC_TRY(sc_alloc(&out->message_end, n_messages, sizeof *out->message_end));
    if (needs_system(family, messages))
        SC_TRY(render_message(&r, "system", SMOLLM2_SYSTEM));
    for (size_t i = 0; i < n_messages; i++) {
        SC_TRY(render_message(&r, messages[i].role, messages[i].content));
        out->message_end[i] = out->ids.n;
    }
    if (add_generation_prompt) {
        size_t from = out->ids.n;
        SC_TRY(token_ids_push(&out->ids, r.start));
        SC_TRY(encode(&r, "assistant\n", "", ""));
        SC_TRY(mark(&r, from, 0));
    }
cleanup:
    if (status != SC_OK)
        chat_rendered_free(out);
    return status;
}
