/* Added tokens: found in the text before the model sees it, the leftmost first and of those the
 * longest, as in the `tokenizers` library (added_vocabulary.rs). */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_parts.h"
#include "text/unicode_class.h"

static int by_first_byte_then_length(const void *a, const void *b)
{
    const added_token *x = *(const added_token *const *)a, *y = *(const added_token *const *)b;
    int first = (unsigned char)x->match[0] - (unsigned char)y->match[0];
    if (first != 0)
        return first;
    if (x->match_length != y->match_length)
        return x->match_length > y->match_length ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static sc_status fill_index(const tokenizer *t, bool normalized, added_index *index)
{
    sc_status status = sc_alloc(&index->tokens, t->n_added, sizeof *index->tokens);
    if (status != SC_OK)
        return status;
    for (size_t i = 0; i < t->n_added; i++)
        if (t->added[i].normalized == normalized)
            index->tokens[index->n++] = &t->added[i];
    if (index->n > 0)
        qsort(index->tokens, index->n, sizeof *index->tokens, by_first_byte_then_length);
    size_t at = 0;
    for (size_t byte = 0; byte <= 256; byte++) {
        while (at < index->n && (unsigned char)index->tokens[at]->match[0] < byte)
            at++;
        index->first[byte] = at;
    }
    return SC_OK;
}

sc_status added_tokens_index(tokenizer *t)
{
    sc_status status = fill_index(t, false, &t->raw_index);
    return status == SC_OK ? fill_index(t, true, &t->normalized_index) : status;
}

void added_tokens_free(tokenizer *t)
{
    for (size_t i = 0; t->added && i < t->n_added; i++) {
        free(t->added[i].content);
        free(t->added[i].match);
    }
    free(t->added);
    free(t->raw_index.tokens);
    free(t->normalized_index.tokens);
}

static bool is_space(uint32_t code_point)
{
    return unicode_class(code_point) == UNICODE_SPACE;
}

/* Where the white space that ends text[0..n) begins. */
static size_t trailing_space(const char *text, size_t n)
{
    while (n > 0) {
        size_t start = n - 1;
        while (start > 0 && ((unsigned char)text[start] & 0xc0) == 0x80)
            start--;
        uint32_t code_point = 0;
        if (utf8_decode(text + start, n - start, &code_point) == 0 || !is_space(code_point))
            break;
        n = start;
    }
    return n;
}

static size_t leading_space(const char *text, size_t n)
{
    size_t at = 0;
    while (at < n) {
        uint32_t code_point = 0;
        size_t length = utf8_decode(text + at, n - at, &code_point);
        if (length == 0 || !is_space(code_point))
            break;
        at += length;
    }
    return at;
}

static const added_token *match_at(const added_index *index, const char *text, size_t n)
{
    unsigned char byte = (unsigned char)text[0];
    for (size_t i = index->first[byte]; i < index->first[byte + 1]; i++) {
        const added_token *token = index->tokens[i];
        if (token->match_length <= n && memcmp(token->match, text, token->match_length) == 0)
            return token;
    }
    return NULL;
}

sc_status added_tokens_split(const added_index *index, const char *text, size_t n, bool parse_special,
                             const added_sink *sink)
{
    sc_status status = SC_OK;
    size_t done = 0; /* everything before it has been handed on */
    for (size_t at = 0; index->n > 0 && at < n;) {
        const added_token *token = match_at(index, text + at, n - at);
        if (!token) {
            at++;
            continue;
        }
        size_t begin = at, end = at + token->match_length;
        at = end;
        if (token->special && !parse_special)
            continue; /* plain text; the next search goes on behind it */
        if (token->lstrip) {
            begin = trailing_space(text, begin);
            begin = begin < done ? done : begin;
        }
        if (token->rstrip)
            end += leading_space(text + end, n - end);
        if (begin > done)
            SC_TRY(sink->part(sink->user, text + done, begin - done));
        SC_TRY(sink->token(sink->user, token->id));
        done = end;
        at = at < done ? done : at;
    }
    if (done < n)
        SC_TRY(sink->part(sink->user, text + done, n - done));
cleanup:
    return status;
}
