/* The first example as the model sees it: what it reads, and between marks what it learns to say. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "train/trainer.h"

/* Words that are only read are cut in their middle beyond this many bytes; what is learnt is shown whole. */
enum { READ_BYTES = 700 };
static const char OPEN[] = "\xe2\x9f\xa6", CLOSE[] = "\xe2\x9f\xa7"; /* U+27E6, U+27E7 */

static size_t whole_characters(const char *text, size_t at)
{
    while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80)
        at--;
    return at;
}

static void append_read(strbuf *out, const strbuf *part)
{
    const char *text = strbuf_text(part);
    if (part->len <= READ_BYTES) {
        strbuf_append(out, text, part->len);
        return;
    }
    const size_t head = whole_characters(text, READ_BYTES / 2);
    const size_t tail = whole_characters(text, part->len - READ_BYTES / 2);
    strbuf_append(out, text, head);
    strbuf_printf(out, " ... (%zu bytes) ... ", tail - head);
    strbuf_append(out, text + tail, part->len - tail);
}

/* Marks are closed at a line's end and opened again, since a message is one line. */
static void append_learnt(strbuf *out, const strbuf *part)
{
    const char *text = strbuf_text(part);
    strbuf_puts(out, OPEN);
    for (size_t i = 0; i < part->len; i++) {
        if (text[i] == '\n')
            strbuf_puts(out, CLOSE);
        strbuf_putc(out, text[i]);
        if (text[i] == '\n')
            strbuf_puts(out, OPEN);
    }
    strbuf_puts(out, CLOSE);
}

static void show_lines(const strbuf *text)
{
    const char *line = strbuf_text(text);
    while (*line != '\0') {
        const size_t n = strcspn(line, "\n");
        log_info("  | %.*s", (int)n, line);
        line += n + (line[n] == '\n');
    }
}

sc_status train_show_example(const trainer *t)
{
    sc_status status = SC_OK;
    const train_rows *r = t->training.rows;
    const int64_t row = t->training.list[0], first = r->offsets[row], end = r->offsets[row + 1];
    strbuf part = {0}, all = {0};
    for (int64_t at = first; at < end;) {
        const bool learnt = at > first && r->targets[at - 1] >= 0;
        int64_t next = at + 1;
        while (next < end && (r->targets[next - 1] >= 0) == learnt)
            next++;
        strbuf_clear(&part);
        SC_TRY(tokenizer_decode(t->tokenizer, r->ids + at, (size_t)(next - at), true, &part));
        if (learnt)
            append_learnt(&all, &part);
        else
            append_read(&all, &part);
        at = next;
    }
    SC_TRY(strbuf_status(&part));
    SC_TRY(strbuf_status(&all));
    log_info("the first example, '%s': %lld tokens, of which the %lld between %s and %s are learnt",
             t->training.dialogues->rows[row].id, (long long)(end - first), (long long)r->supervised[row],
             OPEN, CLOSE);
    show_lines(&all);
cleanup:
    strbuf_free(&part);
    strbuf_free(&all);
    return status;
}
