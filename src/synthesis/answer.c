/* Reading chat completions of OpenAI, vLLM, llama.cpp and Ollama. */
#include "synthesis/answer.h"

#include <stdlib.h>
#include <string.h>

static int64_t count_of(const json_t *usage, const char *key)
{
    const json_t *v = json_object_get(usage, key);
    return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) < ((json_int_t)1 << 40)
               ? json_integer_value(v)
               : -1;
}

/* The message of {"error": {...}}, or of vLLM's older flat {"object": "error", "message"}. */
static const char *error_of(const json_t *root)
{
    const json_t *error = json_object_get(root, "error");
    const char *object = json_string_value(json_object_get(root, "object"));
    if (json_is_string(error))
        return json_string_value(error);
    if (json_is_object(error)) {
        const char *message = json_string_value(json_object_get(error, "message"));
        return message != NULL ? message : "an error without a message";
    }
    if (object != NULL && strcmp(object, "error") == 0) {
        const char *message = json_string_value(json_object_get(root, "message"));
        return message != NULL ? message : "an error without a message";
    }
    return NULL;
}

sc_status chat_answer_read(const char *body, size_t n, chat_answer *out, bool *again)
{
    sc_status status = SC_OK;
    json_t *root = NULL;
    *out = (chat_answer){.prompt_tokens = -1, .completion_tokens = -1};
    *again = true;
    while (n > 0 && (*body == '\n' || *body == '\r' || *body == ' ')) { /* sent while a request waits */
        body++;
        n--;
    }
    SC_TRY(json_parse(body, n, "the endpoint's answer", &root));
    const char *error = error_of(root);
    if (error != NULL) {
        status = sc_fail(SC_BAD_INPUT, "the endpoint says under status 200: %.200s", error);
        goto cleanup;
    }
    const json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
    const json_t *message = json_object_get(choice, "message");
    const char *content = json_string_value(json_object_get(message, "content"));
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    if (json_string_value(json_object_get(message, "refusal")) != NULL) {
        *again = false;
        status = sc_fail(SC_BAD_INPUT, "the model refuses to answer");
        goto cleanup;
    }
    if (finish != NULL && strcmp(finish, "stop") != 0) {
        *again = false;
        status = sc_fail(SC_BAD_INPUT, "the answer ended by \"%.40s\"%s", finish,
                         strcmp(finish, "length") == 0 ? "; raise --answer-tokens" : "");
        goto cleanup;
    }
    if (content == NULL || content[strspn(content, " \t\r\n")] == '\0') {
        status = sc_fail(SC_BAD_INPUT, "the answer has no content");
        goto cleanup;
    }
    const json_t *usage = json_object_get(root, "usage");
    out->prompt_tokens = count_of(usage, "prompt_tokens");
    out->completion_tokens = count_of(usage, "completion_tokens");
    const char *model = json_string_value(json_object_get(root, "model"));
    SC_TRY(sc_strdup(&out->content, content));
    SC_TRY(sc_strdup(&out->model, model != NULL ? model : ""));
cleanup:
    json_decref(root);
    if (status != SC_OK)
        chat_answer_free(out);
    return status;
}

sc_status chat_answer_pack(const chat_answer *a, strbuf *out)
{
    json_t *root = json_pack("{s:o, s:o, s:I, s:I}", "content", json_text(a->content), "model",
                             json_text(a->model), "prompt_tokens", (json_int_t)a->prompt_tokens,
                             "completion_tokens", (json_int_t)a->completion_tokens);
    sc_status status = root != NULL ? json_canonical(root, out)
                                    : sc_fail(SC_MEMORY, "memory does not suffice for an answer");
    json_decref(root);
    return status;
}

sc_status chat_answer_unpack(const char *text, size_t n, chat_answer *out)
{
    sc_status status = SC_OK;
    json_t *root = NULL;
    const char *content = NULL, *model = NULL;
    *out = (chat_answer){0};
    SC_TRY(json_parse(text, n, "journal.log", &root));
    SC_TRY(json_need_string(root, "content", "journal.log", &content));
    SC_TRY(json_need_string(root, "model", "journal.log", &model));
    SC_TRY(json_need_int(root, "prompt_tokens", "journal.log", &out->prompt_tokens));
    SC_TRY(json_need_int(root, "completion_tokens", "journal.log", &out->completion_tokens));
    SC_TRY(sc_strdup(&out->content, content));
    SC_TRY(sc_strdup(&out->model, model));
cleanup:
    json_decref(root);
    if (status != SC_OK)
        chat_answer_free(out);
    return status;
}

void chat_answer_free(chat_answer *a)
{
    free(a->content);
    free(a->model);
    *a = (chat_answer){0};
}
