/* Choosing the three reviews and the words. */
#include "synthesis/material.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "synthesis/lexicon.h"

/* "movies", "stories", "boxes", "series". */
static void plural(const char *word, strbuf *out)
{
    size_t n = strlen(word);
    if (text_ends(word, "series") || n == 0) {
        strbuf_puts(out, word);
    } else if (n > 1 && word[n - 1] == 'y' && strchr("aeiou", word[n - 2]) == NULL) {
        strbuf_append(out, word, n - 1);
        strbuf_puts(out, "ies");
    } else {
        bool hisses = strchr("sxz", word[n - 1]) != NULL || text_ends(word, "ch") || text_ends(word, "sh");
        strbuf_printf(out, "%s%s", word, hisses ? "es" : "s");
    }
}

sc_status synthesis_context_open(synthesis_context *c)
{
    sc_status status = SC_OK;
    strbuf text = {0};
    int64_t *fill = NULL;
    size_t n_items = c->data->n_items;
    plural(c->domain, &text);
    SC_TRY(strbuf_status(&text));
    SC_TRY(sc_strdup(&c->domains, strbuf_text(&text)));
    strbuf_clear(&text);
    strbuf_printf(&text, "%s %s", lexicon_article(c->domain), c->domain);
    SC_TRY(strbuf_status(&text));
    SC_TRY(sc_strdup(&c->a_domain, strbuf_text(&text)));
    SC_TRY(sc_alloc(&c->item_start, n_items + 2, sizeof *c->item_start));
    SC_TRY(sc_alloc(&c->item_rows, c->data->n_reviews + 1, sizeof *c->item_rows));
    SC_TRY(sc_alloc(&fill, n_items + 1, sizeof *fill));
    for (size_t i = 0; i < c->data->n_reviews; i++)
        if (c->data->reviews[i].item >= 0)
            c->item_start[c->data->reviews[i].item + 1]++;
    for (size_t i = 0; i < n_items; i++)
        c->item_start[i + 1] += c->item_start[i];
    memcpy(fill, c->item_start, n_items * sizeof *fill);
    for (size_t i = 0; i < c->data->n_reviews; i++)
        if (c->data->reviews[i].item >= 0)
            c->item_rows[fill[c->data->reviews[i].item]++] = (int64_t)i;
cleanup:
    free(fill);
    strbuf_free(&text);
    return status;
}

void synthesis_context_close(synthesis_context *c)
{
    templates_free(&c->pool);
    free(c->domains);
    free(c->a_domain);
    free(c->item_start);
    free(c->item_rows);
}

/* The selected review, then others of the item: the favourable ones first, as a request asks for
 * what was good; drawn by (seed, row). */
static sc_status choose_reviews(const synthesis_context *c, material *m)
{
    sc_status status = SC_OK;
    int64_t *order = NULL;
    const review *chosen = &c->data->reviews[m->row];
    int64_t from = c->item_start[chosen->item], to = c->item_start[chosen->item + 1];
    m->rows[0] = m->row;
    m->reviews[m->n_reviews++] = chosen;
    SC_TRY(sc_alloc(&order, (size_t)(to - from) + 1, sizeof *order));
    random_stream r = random_at(c->seed, RANDOM_SYNTH, (uint64_t)m->row, 1);
    for (int pass = 0; pass < 2; pass++) {
        size_t n = 0;
        for (int64_t k = from; k < to; k++) {
            bool favourable = c->data->reviews[c->item_rows[k]].rating >= 3.5;
            if (c->item_rows[k] != m->row && favourable == (pass == 0))
                order[n++] = c->item_rows[k];
        }
        random_shuffle(&r, order, n);
        for (size_t i = 0; i < n && m->n_reviews < MATERIAL_REVIEWS; i++) {
            m->rows[m->n_reviews] = order[i];
            m->reviews[m->n_reviews++] = &c->data->reviews[order[i]];
        }
    }
cleanup:
    free(order);
    return status;
}

/* A full name: two words or more, each with a capital. */
static bool is_full_name(const char *name)
{
    int words = 0;
    for (const char *p = name; *p != '\0';) {
        if (*p == '(' || *p == ',' || isdigit((unsigned char)*p))
            return false;
        words += isupper((unsigned char)*p) && (p == name || p[-1] == ' ');
        p++;
    }
    return words >= 2 && strlen(name) < 40;
}

static void choose_metadata(const synthesis_context *c, material *m)
{
    const item *from = m->subject;
    if (from->n_categories == 0 && m->located >= 0)
        from = &c->catalogue->items[m->located];
    for (size_t i = 0; i < from->n_categories && m->n_genres < MATERIAL_GENRES; i++) {
        const char *name = from->categories[i];
        if (c->stories ? lexicon_find_genre(name) != NULL : !lexicon_is_broad(name))
            m->genres[m->n_genres++] = name;
    }
    from = m->subject->n_people > 0 || m->located < 0 ? m->subject : &c->catalogue->items[m->located];
    for (size_t i = 0; i < from->n_people && m->n_people < MATERIAL_GENRES; i++)
        if (is_full_name(from->people[i]))
            m->people[m->n_people++] = from->people[i];
}

/* Does a catalogue item have one of the genres that can be said of the subject? */
static bool shares_genre(const synthesis_context *c, const material *m, int32_t index)
{
    const item *other = &c->catalogue->items[index];
    for (size_t i = 0; i < m->n_genres; i++)
        for (size_t k = 0; k < other->n_categories; k++)
            if (strcasecmp(m->genres[i], other->categories[k]) == 0)
                return true;
    return m->n_genres == 0;
}

sc_status material_collect(const synthesis_context *c, int64_t row, material *out)
{
    sc_status status = SC_OK;
    *out = (material){.row = row, .located = -1};
    const review *chosen = &c->data->reviews[row];
    if (chosen->item < 0) {
        status = sc_fail(SC_BAD_INPUT, "review %lld (%s) is of an item that %s/items.jsonl does not list",
                         (long long)row, chosen->id, c->data->path);
        goto cleanup;
    }
    out->subject = &c->data->items[chosen->item];
    out->located = neighbours_locate(c->near, out->subject);
    if (out->subject->title != NULL)
        SC_TRY(dataset_plain_title(out->subject->title, &out->title));
    SC_TRY(choose_reviews(c, out));
    SC_TRY(phrases_collect(out->subject, out->reviews, out->n_reviews, c->stories, &out->phrases));
    choose_metadata(c, out);

    /* Titles the user may say to have liked: close to the subject, known to some, and not of its
     * own series, which would give it away. */
    neighbour near[2 * MATERIAL_LIKED];
    size_t n = 0;
    SC_TRY(
        neighbours_rank(c->near, &(neighbour_query){.subject = out->subject}, 2 * MATERIAL_LIKED, near, &n));
    for (size_t i = 0; i < n && out->n_liked < MATERIAL_LIKED; i++) {
        const char *title = neighbours_title(c->near, near[i].item);
        if (near[i].source == NEIGHBOUR_CONTENT && !shares_genre(c, out, near[i].item))
            continue;
        if (near[i].source == NEIGHBOUR_SEED || strlen(title) > 60 ||
            (out->title.len > 0 && (phrases_name_title(title, strbuf_text(&out->title)) ||
                                    phrases_name_title(strbuf_text(&out->title), title))))
            continue;
        out->liked[out->n_liked++] = near[i].item;
    }
cleanup:
    if (status != SC_OK)
        material_free(out);
    return status;
}

void material_free(material *m)
{
    strbuf_free(&m->title);
    phrases_free(&m->phrases);
}
