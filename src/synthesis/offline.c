/* From material to a dialogue.
 *
 * The paper (3.3) lets the teacher answer each query with 20 pseudo-targets and does not force the
 * seed item among them; a teacher that knows the item names it, since the query describes it. Here
 * the seed item takes part in the ranking like every other, with the similarity of 1 that an item
 * has to itself, so it leads the list unless the user names it: what a user has named is never
 * recommended back. */
#include "synthesis/offline.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/dialogue.h"
#include "synthesis/lexicon.h"

/* FNV-1a over the first eight words, letters and digits only, in lower case. */
static uint64_t beginning_hash(const char *request)
{
    uint64_t h = 1469598103934665603u;
    int words = 0;
    bool inside = false;
    for (const char *p = request; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        bool letter = isalnum(c) || c >= 0x80 || c == '\'';
        if (letter && !inside && ++words > 8)
            break;
        if (letter || inside)
            h = (h ^ (letter ? (uint64_t)tolower(c) : 32u)) * 1099511628211u;
        inside = letter;
    }
    return h == 0 ? 1 : h;
}

bool beginnings_has(const beginnings *b, const char *request)
{
    uint64_t h = beginning_hash(request);
    for (size_t i = (size_t)h; b->cap > 0; i++) {
        uint64_t at = b->at[i & (b->cap - 1)];
        if (at == h)
            return true;
        if (at == 0)
            return false;
    }
    return false;
}

static void beginnings_put(beginnings *b, uint64_t h)
{
    size_t i = (size_t)h;
    while (b->at[i & (b->cap - 1)] != 0 && b->at[i & (b->cap - 1)] != h)
        i++;
    b->n += b->at[i & (b->cap - 1)] == 0;
    b->at[i & (b->cap - 1)] = h;
}

sc_status beginnings_add(beginnings *b, const char *request)
{
    if (2 * (b->n + 1) > b->cap) {
        beginnings wider = {.cap = b->cap > 0 ? 2 * b->cap : 1024};
        sc_status status = sc_alloc(&wider.at, wider.cap, sizeof *wider.at);
        if (status != SC_OK)
            return status;
        for (size_t i = 0; i < b->cap; i++)
            if (b->at[i] != 0)
                beginnings_put(&wider, b->at[i]);
        free(b->at);
        *b = wider;
    }
    beginnings_put(b, beginning_hash(request));
    return SC_OK;
}

void beginnings_free(beginnings *b)
{
    free(b->at);
    *b = (beginnings){0};
}

/* Room for the texts that fill the slots of one attempt. */
typedef struct slot_values {
    const char *at[SLOT_COUNT];
    strbuf texts[SLOT_COUNT];
    const char *genre, *genre2, *person;
    int32_t decade;
    int32_t liked[2];
} slot_values;

static void values_free(slot_values *v)
{
    for (int i = 0; i < SLOT_COUNT; i++)
        strbuf_free(&v->texts[i]);
}

static void fill(slot_values *v, template_slot slot, const char *text)
{
    strbuf_clear(&v->texts[slot]);
    strbuf_puts(&v->texts[slot], text);
    v->at[slot] = strbuf_text(&v->texts[slot]);
}

static void fill_genre(const synthesis_context *c, slot_values *v, const char *category, bool first)
{
    template_slot one = first ? SLOT_GENRE_ONE : SLOT_GENRE2_ONE, many = first ? SLOT_GENRES : SLOT_GENRES2;
    template_slot with_article = first ? SLOT_A_GENRE : SLOT_A_GENRE2;
    strbuf text = {0};
    const lexicon_genre *g = c->stories ? lexicon_find_genre(category) : NULL;
    if (g == NULL) {
        fill(v, many, category);
        strbuf_printf(&text, "%s %s", category, c->domain);
        fill(v, one, strbuf_text(&text));
        strbuf_clear(&text);
        strbuf_printf(&text, "something from %s", category);
        fill(v, with_article, strbuf_text(&text));
    } else {
        if (g->noun != NULL)
            strbuf_puts(&text, g->noun);
        else
            strbuf_printf(&text, "%s %s", g->modifier, c->domain);
        fill(v, one, strbuf_text(&text));
        char *noun = strbuf_take(&text);
        strbuf_printf(&text, "%s %s", lexicon_article(noun != NULL ? noun : ""), noun != NULL ? noun : "");
        fill(v, with_article, strbuf_text(&text));
        free(noun);
        strbuf_clear(&text);
        if (g->plural != NULL)
            strbuf_puts(&text, g->plural);
        else
            strbuf_printf(&text, "%s %s", g->modifier, c->domains);
        fill(v, many, strbuf_text(&text));
    }
    strbuf_free(&text);
}

/* "A dramatic drama", "a funny movie with funny dialogue": the same word twice in one request. */
static bool echoes(const slot_values *v, const char *word)
{
    char stem[6];
    snprintf(stem, sizeof stem, "%s", word);
    for (int slot = 0; slot < SLOT_COUNT; slot++)
        if (v->at[slot] != NULL && slot != SLOT_TITLE && strcasestr(v->at[slot], stem) != NULL)
            return true;
    return false;
}

static void fill_moods(slot_values *v, const phrase_set *p, random_stream *r)
{
    size_t top = p->n_moods < 8 ? p->n_moods : 8;
    const char *found[2] = {NULL, NULL};
    size_t start = top > 0 ? (size_t)random_below(r, top) : 0;
    for (size_t i = 0, n = 0; i < top && n < 2; i++) {
        const char *mood = p->moods[(start + i) % top];
        if (!echoes(v, mood) && (n == 0 || strncmp(found[0], mood, 4) != 0))
            found[n++] = mood;
    }
    strbuf text = {0};
    if (found[0] != NULL) {
        fill(v, SLOT_MOOD, found[0]);
        strbuf_printf(&text, "%s %s", lexicon_article(found[0]), found[0]);
        fill(v, SLOT_A_MOOD, strbuf_text(&text));
    }
    if (found[1] != NULL)
        fill(v, SLOT_MOOD2, found[1]);
    strbuf_free(&text);
}

static void fill_liked(const synthesis_context *c, const material *m, slot_values *v, random_stream *r)
{
    v->liked[0] = v->liked[1] = -1;
    if (m->n_liked < 2)
        return;
    /* The closest ones first: squares of a uniform number lean to the head of the list. */
    double u = random_uniform(r);
    size_t a = (size_t)(u * u * (double)m->n_liked), b = (size_t)random_below(r, m->n_liked - 1);
    b += b >= a;
    size_t pick[2] = {a, b};
    bool years = c->stories && random_below(r, 10) < 3;
    strbuf both = {0}, one = {0};
    for (int i = 0; i < 2; i++) {
        int32_t index = m->liked[pick[i]];
        int32_t year = c->catalogue->items[index].year;
        v->liked[i] = index;
        strbuf_clear(&one);
        strbuf_puts(&one, neighbours_title(c->near, index));
        if (years && year > 0)
            strbuf_printf(&one, " (%d)", (int)year);
        fill(v, i == 0 ? SLOT_LIKE1 : SLOT_LIKE2, strbuf_text(&one));
        strbuf_printf(&both, "%s%s", i > 0 ? " and " : "", strbuf_text(&one));
    }
    fill(v, SLOT_LIKES, strbuf_text(&both));
    strbuf_free(&both);
    strbuf_free(&one);
}

static void fill_decade(const synthesis_context *c, slot_values *v, int32_t year)
{
    if (!c->stories || year < 1920 || year > 2029)
        return;
    strbuf text = {0};
    v->decade = year / 10 * 10;
    strbuf_printf(&text, v->decade >= 1950 && v->decade < 2000 ? "the %d" : "the %ds",
                  v->decade >= 1950 && v->decade < 2000 ? (int)(v->decade % 100) : (int)v->decade);
    if (v->decade >= 1950 && v->decade < 2000)
        strbuf_putc(&text, 's');
    fill(v, SLOT_DECADE, strbuf_text(&text));
    strbuf_free(&text);
}

/* What this item offers for the slots; which of several phrases, by `r`. */
static sc_status collect_values(const synthesis_context *c, const material *m, random_stream *r,
                                slot_values *v)
{
    *v = (slot_values){.liked = {-1, -1}};
    fill(v, SLOT_DOMAIN, c->domain);
    fill(v, SLOT_DOMAINS, c->domains);
    fill(v, SLOT_A_DOMAIN, c->a_domain);
    if (m->n_genres > 0) {
        size_t a = (size_t)random_below(r, m->n_genres);
        v->genre = m->genres[a];
        fill_genre(c, v, v->genre, true);
        if (m->n_genres > 1) {
            size_t b = (size_t)random_below(r, m->n_genres - 1);
            v->genre2 = m->genres[b + (b >= a)];
            fill_genre(c, v, v->genre2, false);
        }
    }
    const phrase_set *p = &m->phrases;
    size_t start = p->n_praise > 0 ? (size_t)random_below(r, p->n_praise) : 0;
    for (size_t i = 0; i < p->n_praise && i < 3; i++)
        fill(v, (template_slot)(SLOT_PHRASE1 + i), p->praise[(start + i) % p->n_praise]);
    if (p->n_quotes > 0)
        fill(v, SLOT_QUOTE, p->quotes[random_below(r, p->n_quotes)]);
    if (p->n_themes > 0)
        fill(v, SLOT_THEME, p->themes[random_below(r, p->n_themes)]);
    if (m->n_people > 0) {
        v->person = m->people[random_below(r, m->n_people)];
        fill(v, SLOT_PERSON, v->person);
    }
    fill_moods(v, p, r);
    fill_decade(c, v, m->subject->year);
    if (m->title.len > 0 && m->title.len <= 60) /* longer ones nobody says */
        fill(v, SLOT_TITLE, strbuf_text(&m->title));
    fill_liked(c, m, v, r);
    sc_status status = SC_OK;
    for (int i = 0; i < SLOT_COUNT && status == SC_OK; i++)
        status = strbuf_status(&v->texts[i]);
    return status;
}

typedef struct weighted {
    double key;
    size_t index;
} weighted;

static int by_key(const void *a, const void *b)
{
    const weighted *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : (x->index < y->index ? -1 : x->index > y->index);
}

sc_status offline_draw(const synthesis_context *c, const material *m, const style_template **out, size_t *n)
{
    sc_status status = SC_OK;
    slot_values values = {0};
    weighted *order = NULL;
    random_stream r = random_at(c->seed, RANDOM_SYNTH, (uint64_t)m->row, 2);
    SC_TRY(collect_values(c, m, &r, &values));
    SC_TRY(sc_alloc(&order, c->pool.n, sizeof *order));
    *n = 0;
    /* Conversations count twice, since the prompts a recommender meets are conversations: order by
     * exponential variates with the weights as rates. */
    for (size_t i = 0; i < c->pool.n; i++) {
        double weight = c->pool.at[i].n_turns > 1 ? 2.0 : 1.0;
        order[i] = (weighted){-log(1.0 - random_uniform(&r)) / weight, i};
    }
    qsort(order, c->pool.n, sizeof *order, by_key);
    for (size_t i = 0; i < c->pool.n; i++) {
        const style_template *t = &c->pool.at[order[i].index];
        if (templates_fits(&c->pool, t, values.at))
            out[(*n)++] = t;
    }
    if (*n == 0)
        status =
            sc_fail(SC_BAD_INPUT,
                    "no template can be said of item %s: it has no categories, and its reviews no words of "
                    "praise; add templates that need neither (--templates)",
                    m->subject->id);
cleanup:
    values_free(&values);
    free(order);
    return status;
}

sc_status offline_conversation(const char *const *turns, size_t n, bool user_first, strbuf *out)
{
    return dialogue_conversation_text(turns, n, user_first ? 0 : 1, out);
}

/* Fills in one template; *ok false where the result cannot be used (names the target, begins alike). */
static sc_status attempt(const synthesis_context *c, const material *m, const style_template *t,
                         uint32_t step, uint64_t row, const beginnings *before, bool strict,
                         offline_draft *out, bool *ok)
{
    sc_status status = SC_OK;
    slot_values v = {0};
    template_turns turns = {0};
    strbuf conversation = {0}, request = {0};
    random_stream r = random_at(c->seed, RANDOM_SYNTH, row, step);
    *ok = false;
    SC_TRY(collect_values(c, m, &r, &v));
    if (!templates_fits(&c->pool, t, v.at))
        goto cleanup;
    SC_TRY(templates_expand(&c->pool, t, v.at, &r, &turns));
    SC_TRY(offline_conversation((const char *const *)turns.at, turns.n, turns.user_first, &conversation));
    if (turns.n == 1) {
        strbuf_puts(&request, turns.at[0]);
    } else { /* the conversation without the empty turn that waits for the answer */
        const char *text = strbuf_text(&conversation);
        size_t end = conversation.len;
        if (text_ends(text, "\nSystem: "))
            end -= strlen("\nSystem: ");
        strbuf_append(&request, text + (text[0] == '\n'), end - (text[0] == '\n'));
    }
    SC_TRY(strbuf_status(&request));
    const char *said = strbuf_text(&request);
    if (!t->mentions_target && m->title.len > 0 && phrases_name_title(said, strbuf_text(&m->title)))
        goto cleanup;
    if (strict && beginnings_has(before, said))
        goto cleanup;
    for (size_t i = 0; i < m->n_reviews; i++) /* a quote and the words around it may meet the review again */
        if (phrases_longest_run(said, m->reviews[i]->text) > OFFLINE_LONGEST_COPY)
            goto cleanup;
    out->n_liked = 0;
    for (int i = 0; i < 2; i++)
        if (v.liked[i] >= 0 && strstr(said, neighbours_title(c->near, v.liked[i])) != NULL)
            out->liked[out->n_liked++] = v.liked[i];
    out->genre = v.at[SLOT_GENRES] != NULL &&
                         (strcasestr(said, v.at[SLOT_GENRES]) || strcasestr(said, v.at[SLOT_GENRE_ONE]))
                     ? v.genre
                     : NULL;
    out->person = v.person != NULL && strstr(said, v.person) != NULL ? v.person : NULL;
    out->decade = v.at[SLOT_DECADE] != NULL && strstr(said, v.at[SLOT_DECADE]) != NULL ? v.decade : 0;
    out->n_turns = turns.n;
    out->used = t;
    out->request = strbuf_take(&request);
    out->conversation = strbuf_take(&conversation);
    *ok = true;
cleanup:
    values_free(&v);
    template_turns_free(&turns);
    strbuf_free(&conversation);
    strbuf_free(&request);
    return status;
}

sc_status offline_write(const synthesis_context *c, const material *m, int64_t j, const beginnings *before,
                        offline_draft *out)
{
    sc_status status = SC_OK;
    const style_template **order = NULL;
    size_t n = 0;
    *out = (offline_draft){0};
    SC_TRY(sc_alloc(&order, c->pool.n, sizeof *order));
    SC_TRY(offline_draw(c, m, order, &n));
    /* Five drawn, one used per dialogue; a sixth dialogue draws five more. */
    size_t block = (size_t)j / MATERIAL_TEMPLATES * MATERIAL_TEMPLATES;
    for (size_t i = 0; i < MATERIAL_TEMPLATES && i < n; i++)
        out->drawn[out->n_drawn++] = order[(block + i) % n];
    /* 8 tries of the template in turn with fresh words, then the others; last, a beginning that was
     * used before is accepted. */
    uint64_t row = ((uint64_t)m->row << 12) + (uint64_t)j + 1;
    bool ok = false;
    uint32_t step = 16;
    for (int strict = 1; strict >= 0 && !ok; strict--)
        for (size_t i = 0; i < n && !ok; i++)
            for (int k = 0; k < 8 && !ok; k++)
                SC_TRY(attempt(c, m, order[((size_t)j + i) % n], step++, row, before, strict != 0, out, &ok));
    if (!ok)
        status = sc_fail(SC_BAD_INPUT,
                         "no template can be said of item %s without naming it; add templates (--templates)",
                         m->subject->id);
cleanup:
    free(order);
    if (status != SC_OK)
        offline_draft_free(out);
    return status;
}

sc_status offline_answer(const synthesis_context *c, const material *m, offline_draft *draft)
{
    const char *exclude[3];
    size_t n = 0;
    for (size_t i = 0; i < draft->n_liked; i++)
        exclude[n++] = neighbours_title(c->near, draft->liked[i]);
    if (draft->used->mentions_target && m->title.len > 0)
        exclude[n++] = strbuf_text(&m->title);
    neighbour_query query = {.subject = m->subject,
                             .liked = draft->liked,
                             .n_liked = draft->n_liked,
                             .genre = draft->genre,
                             .person = draft->person,
                             .decade = draft->decade,
                             .exclude = exclude,
                             .n_exclude = n};
    sc_status status = neighbours_rank(c->near, &query, OFFLINE_LIST, draft->answer, &draft->n_answer);
    if (status == SC_OK && draft->n_answer == 0)
        status = sc_fail(SC_BAD_INPUT, "the catalogue %s has no title to recommend beside the ones mentioned",
                         c->catalogue->path);
    return status;
}

static json_t *drawn_ids(const offline_draft *d)
{
    json_t *ids = json_array();
    for (size_t i = 0; i < d->n_drawn; i++)
        json_array_append_new(ids, json_text(d->drawn[i]->id));
    return ids;
}

sc_status offline_line(const synthesis_context *c, const material *m, const offline_draft *draft,
                       const char *id, const char *request_sha256, json_t **out)
{
    sc_status status = SC_OK;
    strbuf prompt = {0}, list = {0};
    json_t *targets = json_array(), *seen = json_array(), *rows = json_array(), *reviews = json_array();
    int sources[3] = {0};
    SC_TRY(dialogue_prompt(NULL, id, c->domain, draft->conversation, &prompt));
    for (size_t i = 0; i < draft->n_answer; i++) {
        const char *title = neighbours_title(c->near, draft->answer[i].item);
        strbuf_printf(&list, "%s%zu. %s", i > 0 ? "\n" : "", i + 1, title);
        json_array_append_new(targets, json_text(title));
        sources[draft->answer[i].source]++;
    }
    SC_TRY(strbuf_status(&list));
    for (size_t i = 0; i < draft->n_liked; i++)
        json_array_append_new(seen, json_text(neighbours_title(c->near, draft->liked[i])));
    if (draft->used->mentions_target && m->title.len > 0)
        json_array_append_new(seen, json_text(strbuf_text(&m->title)));
    for (size_t i = 0; i < m->n_reviews; i++) {
        json_array_append_new(rows, json_integer(m->rows[i]));
        json_array_append_new(reviews, json_text(m->reviews[i]->id));
    }
    json_t *line = json_pack(
        "{s:o, s:[{s:s, s:o}, {s:s, s:o}], s:o, s:o, s:o, s:{s:o, s:o, s:o}, s:{s:s, s:s, s:s, s:{s:i, s:i}, "
        "s:f, s:o, s:o, "
        "s:i, s:{s:i, s:i, s:i}, s:b}}",
        "id", json_text(id), "messages", "role", "user", "content", json_text(strbuf_text(&prompt)), "role",
        "assistant", "content", json_text(strbuf_text(&list)), "targets", json_incref(targets), "seen",
        json_incref(seen), "request", json_text(draft->request), "seed", "rows", json_incref(rows),
        "parent_asin", json_text(m->subject->id), "template", json_text(draft->used->id), "provenance",
        "teacher", "offline", "model", "offline-1", "request_sha256", request_sha256, "usage",
        "prompt_tokens", 0, "completion_tokens", 0, "cost", 0.0, "reviews", json_incref(reviews), "templates",
        drawn_ids(draft), "turns", (int)draft->n_turns, "ranking", "seed", sources[NEIGHBOUR_SEED],
        "co_ratings", sources[NEIGHBOUR_CO_RATED], "content", sources[NEIGHBOUR_CONTENT], "mentions_target",
        draft->used->mentions_target);
    if (line == NULL) {
        status = sc_fail(SC_MEMORY, "memory does not suffice for a dialogue");
        goto cleanup;
    }
    *out = line;
cleanup:
    json_decref(targets);
    json_decref(seen);
    json_decref(rows);
    json_decref(reviews);
    strbuf_free(&prompt);
    strbuf_free(&list);
    return status;
}

void offline_draft_free(offline_draft *d)
{
    free(d->request);
    free(d->conversation);
    *d = (offline_draft){0};
}
