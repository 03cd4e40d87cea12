/* Reading, checking and expanding style templates. */
#include "synthesis/templates.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char *const slot_names[SLOT_COUNT] = {
    "phrase1", "phrase2", "phrase3",    "quote",   "mood",     "mood2",   "a_mood",  "genre_one",
    "genres",  "a_genre", "genre2_one", "genres2", "a_genre2", "theme",   "person",  "decade",
    "title",   "like1",   "like2",      "likes",   "domain",   "domains", "a_domain"};

/* The slot called name[0..n), or -1. */
static int find_slot(const char *name, size_t n)
{
    for (int i = 0; i < SLOT_COUNT; i++)
        if (strlen(slot_names[i]) == n && strncmp(slot_names[i], name, n) == 0)
            return i;
    return -1;
}

static const char *find_fragment(const template_fragment *fragments, const char *name, size_t n)
{
    for (; fragments->name != NULL; fragments++)
        if (strlen(fragments->name) == n && strncmp(fragments->name, name, n) == 0)
            return fragments->text;
    return NULL;
}

/* The ']' that closes the '[' at p, or NULL. */
static const char *closing_bracket(const char *p, const char *end)
{
    int depth = 0;
    for (; p < end; p++) {
        depth += *p == '[' ? 1 : *p == ']' ? -1 : 0;
        if (depth == 0)
            return p;
    }
    return NULL;
}

/* The end of the alternative that starts at p: its '|' or `end`. */
static const char *alternative_end(const char *p, const char *end)
{
    for (int depth = 0; p < end; p++) {
        depth += *p == '[' ? 1 : *p == ']' ? -1 : 0;
        if (depth == 0 && *p == '|')
            return p;
    }
    return end;
}

/* Brackets balance and every slot is known. Collects the slots used. */
static sc_status check(const template_fragment *fragments, const char *text, const char *where,
                       uint32_t *slots)
{
    int depth = 0;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '[')
            depth++;
        else if (*p == ']' && --depth < 0)
            break;
        else if (*p == '}')
            return sc_fail(SC_BAD_INPUT, "%s: a '}' without its '{'", where);
        else if (*p == '{') {
            const char *end = strchr(p, '}');
            size_t n = end == NULL ? 0 : (size_t)(end - p - 1);
            int slot = find_slot(p + 1, n);
            if (end == NULL || (slot < 0 && find_fragment(fragments, p + 1, n) == NULL))
                return sc_fail(SC_BAD_INPUT, "%s: no slot is called %.*s; docs/formats.md lists them", where,
                               (int)(n > 40 ? 40 : n + (end != NULL ? 2 : 0)), p);
            if (slot >= 0)
                *slots |= 1u << slot;
            p = end;
        }
    }
    if (depth != 0)
        return sc_fail(SC_BAD_INPUT, "%s: the square brackets do not balance", where);
    return SC_OK;
}

/* Does the line at p speak ("User: ", "System: ")? Gives what follows. */
static const char *speaker(const char *p, bool *user)
{
    *user = strncmp(p, "User: ", 6) == 0;
    if (*user)
        return p + 6;
    return strncmp(p, "System: ", 8) == 0 ? p + 8 : NULL;
}

static sc_status finish_template(const template_fragment *fragments, style_template *t, const char *where)
{
    t->slots = 0;
    t->n_turns = 0;
    sc_status status = check(fragments, t->text, where, &t->slots);
    if (status != SC_OK)
        return status;
    bool before = false, user = false;
    const char *p = t->text;
    if (speaker(p, &user) == NULL) {
        t->n_turns = 1;
        user = true;
    } else {
        while (p != NULL) {
            const char *line = speaker(p, &user);
            if (line == NULL || (t->n_turns > 0 && user == before) || *line == '\0' || *line == '\n')
                return sc_fail(
                    SC_BAD_INPUT,
                    "%s: every line of a conversation starts with \"User: \" or \"System: \", in turn",
                    where);
            before = user;
            t->n_turns++;
            p = strchr(line, '\n');
            p = p != NULL ? p + 1 : NULL;
        }
    }
    if (!user)
        return sc_fail(SC_BAD_INPUT, "%s: the user has the last word, as the answer follows it", where);
    if ((t->slots & (1u << SLOT_TITLE)) != 0 && !t->mentions_target)
        return sc_fail(SC_BAD_INPUT, "%s: {title} names the target; set \"mentions_target\": true", where);
    return SC_OK;
}

static sc_status finish_pool(template_pool *pool)
{
    strbuf all = {0};
    for (size_t i = 0; i < pool->n; i++)
        strbuf_printf(&all, "%s\t%s\t%s\t%d\n", pool->at[i].id, pool->at[i].style, pool->at[i].text,
                      pool->at[i].mentions_target);
    for (const template_fragment *f = pool->fragments; f->name != NULL; f++)
        strbuf_printf(&all, "%s\t%s\n", f->name, f->text);
    sc_status status = strbuf_status(&all);
    if (status == SC_OK)
        sha256_hex(strbuf_text(&all), all.len, pool->sha256);
    strbuf_free(&all);
    return status;
}

sc_status templates_builtin(bool stories, template_pool *out)
{
    sc_status status = SC_OK;
    *out = (template_pool){.fragments = stories ? template_fragments_stories : template_fragments_neutral};
    const style_template *from = stories ? template_pool_stories : template_pool_neutral;
    size_t n = stories ? template_pool_n_stories : template_pool_n_neutral;
    SC_TRY(sc_alloc(&out->at, n, sizeof *out->at));
    for (; out->n < n; out->n++) {
        out->at[out->n] = from[out->n];
        SC_TRY(finish_template(out->fragments, &out->at[out->n], from[out->n].id));
    }
    SC_TRY(finish_pool(out));
cleanup:
    if (status != SC_OK)
        templates_free(out);
    return status;
}

sc_status templates_read(const char *path, bool stories, template_pool *out)
{
    sc_status status = SC_OK;
    line_reader *reader = NULL;
    json_t *line = NULL;
    size_t cap = 0;
    strbuf place = {0};
    *out = (template_pool){.fragments = stories ? template_fragments_stories : template_fragments_neutral};
    out->file = json_array();
    if (out->file == NULL) {
        status = sc_fail(SC_MEMORY, "memory does not suffice for the templates of %s", path);
        goto cleanup;
    }
    SC_TRY(line_reader_open(path, 1 << 20, &reader));
    for (;;) {
        SC_TRY(json_next_line(reader, &line));
        if (line == NULL)
            break;
        strbuf_clear(&place);
        strbuf_printf(&place, "%s:%lld", path, (long long)line_reader_line(reader));
        SC_TRY(strbuf_status(&place));
        style_template t = {0};
        SC_TRY(json_need_string(line, "id", strbuf_text(&place), &t.id));
        SC_TRY(json_get_string(line, "style", strbuf_text(&place), "own", &t.style));
        SC_TRY(json_need_string(line, "text", strbuf_text(&place), &t.text));
        SC_TRY(json_get_bool(line, "mentions_target", strbuf_text(&place), false, &t.mentions_target));
        SC_TRY(finish_template(out->fragments, &t, strbuf_text(&place)));
        for (size_t i = 0; i < out->n; i++)
            if (strcmp(out->at[i].id, t.id) == 0) {
                status = sc_fail(SC_BAD_INPUT, "%s: the id \"%s\" stands for two templates",
                                 strbuf_text(&place), t.id);
                goto cleanup;
            }
        SC_TRY(sc_grow(&out->at, &cap, out->n + 1, sizeof *out->at));
        if (json_array_append_new(out->file, line) != 0) { /* keeps the borrowed texts alive */
            line = NULL;
            status = sc_fail(SC_MEMORY, "memory does not suffice for the templates of %s", path);
            goto cleanup;
        }
        line = NULL;
        out->at[out->n++] = t;
    }
    if (out->n < 5) {
        status = sc_fail(SC_BAD_INPUT,
                         "%s has %zu templates; five are drawn for every item, so give at least five", path,
                         out->n);
        goto cleanup;
    }
    SC_TRY(finish_pool(out));
cleanup:
    json_decref(line);
    line_reader_close(reader);
    strbuf_free(&place);
    if (status != SC_OK)
        templates_free(out);
    return status;
}

void templates_free(template_pool *pool)
{
    free(pool->at);
    json_decref(pool->file);
    *pool = (template_pool){0};
}

/* Can text[p, end) be said with these values? An alternation needs one alternative that can. */
static bool sayable(const template_pool *pool, const char *p, const char *end, const char *const *values,
                    int depth)
{
    for (; p < end; p++) {
        if (*p == '{') {
            const char *close = memchr(p, '}', (size_t)(end - p));
            if (close == NULL) /* the pool was checked when it was read */
                return false;
            size_t n = (size_t)(close - p - 1);
            int slot = find_slot(p + 1, n);
            if (slot >= 0 && values[slot] == NULL)
                return false;
            const char *fragment = slot < 0 ? find_fragment(pool->fragments, p + 1, n) : NULL;
            if (fragment != NULL &&
                (depth > 3 || !sayable(pool, fragment, fragment + strlen(fragment), values, depth + 1)))
                return false;
            p = close;
        } else if (*p == '[') {
            const char *close = closing_bracket(p, end);
            if (close == NULL)
                return false;
            bool any = false;
            for (const char *a = p + 1; a <= close && !any;) {
                const char *b = alternative_end(a, close);
                any = sayable(pool, a, b, values, depth);
                a = b + 1;
            }
            if (!any)
                return false;
            p = close;
        }
    }
    return true;
}

bool templates_fits(const template_pool *pool, const style_template *t, const char *const values[SLOT_COUNT])
{
    return sayable(pool, t->text, t->text + strlen(t->text), values, 0);
}

/* Around names, whose letters and blanks tidy() must not touch ("E.T. the Extra-Terrestrial"). */
enum { NAME_BEGIN = 2, NAME_END = 3 };

static void say(const template_pool *pool, const char *p, const char *end, const char *const *values,
                random_stream *r, strbuf *out)
{
    for (; p < end; p++) {
        if (*p == '{') {
            const char *close = memchr(p, '}', (size_t)(end - p));
            if (close == NULL)
                return;
            size_t n = (size_t)(close - p - 1);
            int slot = find_slot(p + 1, n);
            const char *fragment = slot < 0 ? find_fragment(pool->fragments, p + 1, n) : NULL;
            if (slot == SLOT_TITLE || slot == SLOT_LIKE1 || slot == SLOT_LIKE2 || slot == SLOT_LIKES ||
                slot == SLOT_PERSON)
                strbuf_printf(out, "%c%s%c", NAME_BEGIN, values[slot] != NULL ? values[slot] : "", NAME_END);
            else if (slot >= 0)
                strbuf_puts(out, values[slot] != NULL ? values[slot] : "");
            else if (fragment != NULL)
                say(pool, fragment, fragment + strlen(fragment), values, r, out);
            p = close;
        } else if (*p == '[') {
            const char *close = closing_bracket(p, end);
            if (close == NULL)
                return;
            uint64_t n = 0;
            for (const char *a = p + 1; a <= close;) {
                const char *b = alternative_end(a, close);
                n += sayable(pool, a, b, values, 0) ? 1 : 0;
                a = b + 1;
            }
            uint64_t pick = n > 0 ? random_below(r, n) : 0;
            for (const char *a = p + 1; n > 0 && a <= close;) {
                const char *b = alternative_end(a, close);
                if (sayable(pool, a, b, values, 0) && pick-- == 0) {
                    say(pool, a, b, values, r, out);
                    break;
                }
                a = b + 1;
            }
            p = close;
        } else {
            strbuf_putc(out, *p);
        }
    }
}

/* Folds blanks, drops a blank before a mark, and opens sentences with a capital. */
static sc_status tidy(const char *text, bool casual, strbuf *out)
{
    bool opens = !casual, quoted = false;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == NAME_BEGIN) {
            const char *end = strchr(p, NAME_END);
            if (end == NULL)
                break;
            strbuf_append(out, p + 1, (size_t)(end - p - 1));
            opens = false;
            p = end;
            /* "When Harry Met Sally...", "Mamma Mia!": the sentence needs no stop of its own. */
            if (end[-1] != NAME_BEGIN && strchr(".?!", end[-1]) != NULL && end[1] == '.')
                p++, opens = !casual;
            continue;
        }
        if (isspace((unsigned char)*p)) {
            const char *next = p + strspn(p, " \t\n");
            if (*next != '\0' && strchr(".,!?;:", *next) == NULL && out->len > 0 &&
                out->data[out->len - 1] != ' ')
                strbuf_putc(out, ' ');
            continue;
        }
        if (*p == '"')
            quoted = !quoted;
        if (opens && isalpha((unsigned char)*p)) {
            strbuf_putc(out, (char)toupper((unsigned char)*p));
            opens = false;
            continue;
        }
        if (isdigit((unsigned char)*p))
            opens = false;
        strbuf_putc(out, *p);
        if (!casual && !quoted && (*p == '.' || *p == '?' || *p == '!') && (p[1] == ' ' || p[1] == '\0') &&
            !(p > text && *p == '.' && p[-1] == '.'))
            opens = true;
    }
    while (out->len > 0 && out->data[out->len - 1] == ' ')
        out->data[--out->len] = '\0';
    return strbuf_status(out);
}

sc_status templates_expand(const template_pool *pool, const style_template *t,
                           const char *const values[SLOT_COUNT], random_stream *r, template_turns *out)
{
    sc_status status = SC_OK;
    strbuf raw = {0}, text = {0};
    *out = (template_turns){.user_first = true};
    bool casual = strcmp(t->style, "casual") == 0, user = true;
    SC_TRY(sc_alloc(&out->at, t->n_turns, sizeof *out->at));
    const char *p = t->text;
    for (size_t i = 0; i < t->n_turns; i++) {
        const char *line = speaker(p, &user);
        if (line == NULL)
            line = p;
        else if (i == 0)
            out->user_first = user;
        const char *end = t->n_turns > 1 ? strchr(line, '\n') : NULL;
        end = end != NULL ? end : line + strlen(line);
        strbuf_clear(&raw);
        strbuf_clear(&text);
        say(pool, line, end, values, r, &raw);
        SC_TRY(strbuf_status(&raw));
        SC_TRY(tidy(strbuf_text(&raw), casual, &text));
        SC_TRY(sc_strdup(&out->at[out->n], strbuf_text(&text)));
        out->n++;
        p = *end == '\n' ? end + 1 : end;
    }
cleanup:
    strbuf_free(&raw);
    strbuf_free(&text);
    if (status != SC_OK)
        template_turns_free(out);
    return status;
}

void template_turns_free(template_turns *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->at[i]);
    free(t->at);
    *t = (template_turns){0};
}
