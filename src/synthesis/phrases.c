/* Phrases from reviews. Nothing is generated: an opinion and the aspect it stands with are found by
 * the word lists of lexicon.c, and short independent clauses are kept whole as quotes. */
#include "synthesis/phrases.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "synthesis/lexicon.h"

typedef struct token {
    char *lower;  /* folded: ’ becomes ' */
    bool capital; /* starts with a capital letter, or is all capitals */
    bool plain;   /* letters, apostrophes and hyphens only */
    bool starts;  /* first of a clause */
    bool starts_sentence;
    bool soft; /* a comma stands before it */
} token;

typedef struct token_list {
    token *at;
    size_t n, cap;
} token_list;

static void tokens_free(token_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->at[i].lower);
    free(l->at);
    *l = (token_list){0};
}

static bool is_word_byte(unsigned char c)
{
    return isalnum(c) || c == '\'' || c == '-' || c >= 0x80;
}

/* Words with the marks between them. `text` is valid UTF-8 or treated as bytes. */
static sc_status tokenize(const char *text, token_list *out)
{
    bool starts = true, sentence = true, soft = false;
    for (const char *p = text; *p != '\0';) {
        if (strncmp(p, "\xE2\x80\x99", 3) != 0 && !is_word_byte((unsigned char)*p)) {
            if (*p == '<') { /* markup that an importer left: the end of a sentence */
                const char *end = strchr(p, '>');
                if (end != NULL && end - p < 16) {
                    p = end;
                    starts = sentence = true;
                }
            }
            if (strchr(".!?\n", *p) != NULL)
                starts = sentence = true;
            else if (strchr(";:()\"[]/*_", *p) != NULL)
                starts = true;
            else if (*p == ',')
                soft = true;
            p++;
            continue;
        }
        const char *begin = p;
        strbuf word = {0};
        while (*p != '\0') {
            if (strncmp(p, "\xE2\x80\x99", 3) == 0) {
                strbuf_putc(&word, '\'');
                p += 3;
            } else if (strncmp(p, "\xE2\x80", 2) == 0) { /* dashes, quotation marks, dots */
                break;
            } else if (is_word_byte((unsigned char)*p)) {
                strbuf_putc(&word, (char)tolower((unsigned char)*p));
                p++;
            } else {
                break;
            }
        }
        if (p == begin) { /* one of the three-byte marks */
            starts = true;
            p += strlen(p) >= 3 ? 3 : 1;
            strbuf_free(&word);
            continue;
        }
        /* Quotation marks and dashes at the rim are no part of the word. */
        char *text_of = strbuf_take(&word);
        if (text_of == NULL)
            return sc_fail(SC_MEMORY, "memory does not suffice for the words of a review");
        size_t n = strlen(text_of), lead = 0;
        while (lead < n && (text_of[lead] == '\'' || text_of[lead] == '-'))
            lead++;
        while (n > lead && (text_of[n - 1] == '\'' || text_of[n - 1] == '-'))
            n--;
        if (lead > 0)
            starts = true;
        if (n == lead) {
            free(text_of);
            continue;
        }
        memmove(text_of, text_of + lead, n - lead);
        text_of[n - lead] = '\0';
        sc_status status = sc_grow(&out->at, &out->cap, out->n + 1, sizeof *out->at);
        if (status != SC_OK) {
            free(text_of);
            return status;
        }
        token *t = &out->at[out->n++];
        *t = (token){.lower = text_of,
                     .capital = isupper((unsigned char)begin[lead]),
                     .plain = true,
                     .starts = starts,
                     .starts_sentence = sentence,
                     .soft = soft};
        for (const char *c = text_of; *c != '\0'; c++)
            if (!isalpha((unsigned char)*c) && *c != '\'' && *c != '-')
                t->plain = false;
        starts = sentence = soft = false;
    }
    return SC_OK;
}

static bool in_title(const token_list *title, const char *word)
{
    if (lexicon_is_common(word))
        return false;
    size_t n = strlen(word);
    for (size_t i = 0; i < title->n; i++) {
        const char *t = title->at[i].lower;
        size_t m = strlen(t);
        if (strcmp(t, word) == 0 || (n > 3 && m == n + 1 && t[n] == 's' && strncmp(t, word, n) == 0) ||
            (m > 3 && n == m + 1 && word[m] == 's' && strncmp(t, word, m) == 0))
            return true;
    }
    return false;
}

static sc_status add_text(char ***list, size_t *n, size_t *cap, strbuf *text)
{
    sc_status status = strbuf_status(text);
    if (status != SC_OK)
        return status;
    for (size_t i = 0; i < *n; i++)
        if (strcmp((*list)[i], strbuf_text(text)) == 0)
            return SC_OK;
    status = sc_grow(list, cap, *n + 1, sizeof **list);
    if (status != SC_OK)
        return status;
    char *copy = strbuf_take(text);
    if (copy == NULL)
        return sc_fail(SC_MEMORY, "memory does not suffice for the phrases of a review");
    (*list)[(*n)++] = copy;
    return SC_OK;
}

/* Is anything negative within `reach` words before i, in the same sentence? */
static bool spoilt(const token_list *t, size_t i, size_t reach)
{
    for (size_t k = i; k-- > 0 && i - k <= reach;) {
        if (lexicon_is_negative(t->at[k].lower))
            return true;
        if (t->at[k].starts_sentence)
            break;
    }
    return t->at[i].starts_sentence ? lexicon_is_negative(t->at[i].lower) : false;
}

static bool usable(const lexicon_opinion *o, bool stories)
{
    return o != NULL && (!stories || (o->flags & LEXICON_GOODS) == 0 || (o->flags & LEXICON_PRAISE));
}

/* "a", the opinion, a modifier that stood there, the aspect. */
static sc_status add_praise(phrase_set *out, const char *adverb, const char *opinion, const char *modifier,
                            const lexicon_aspect *aspect)
{
    strbuf text = {0};
    const char *first = adverb != NULL ? adverb : opinion;
    if (aspect->number == ASPECT_ONE)
        strbuf_printf(&text, "%s ", lexicon_article(first));
    if (adverb != NULL)
        strbuf_printf(&text, "%s ", adverb);
    strbuf_printf(&text, "%s ", opinion);
    if (modifier != NULL)
        strbuf_printf(&text, "%s ", modifier);
    strbuf_puts(&text, aspect->shown);
    /* One praise per aspect: "great acting and superb acting" is not how people ask. */
    size_t shown = strlen(aspect->shown);
    for (size_t i = 0; i < out->n_praise; i++) {
        size_t n = strlen(out->praise[i]);
        if (n >= shown && strcmp(out->praise[i] + n - shown, aspect->shown) == 0) {
            strbuf_free(&text);
            return SC_OK;
        }
    }
    sc_status status = add_text(&out->praise, &out->n_praise, &out->praise_cap, &text);
    strbuf_free(&text);
    return status;
}

static bool praises(const lexicon_opinion *o, const lexicon_aspect *a, bool stories)
{
    if (o == NULL || a == NULL || (o->flags & LEXICON_PRAISE) == 0)
        return false;
    if (a->goods)
        return !stories && (o->flags & LEXICON_GOODS) != 0;
    /* "A reasonable story", "durable acting": goods' words only praise goods. */
    bool of_goods_only = (o->flags & LEXICON_GOODS) != 0 && strcmp(o->word, "great") != 0;
    static const char *const both[] = {
        "good",   "amazing", "excellent", "wonderful", "fantastic", "outstanding", "perfect",  "beautiful",
        "strong", "solid",   "gorgeous",  "lovely",    "unique",    "nice",        "colorful", "colourful",
        "rich",   "warm",    "fun",       "fresh",     "vibrant",   "simple",      NULL};
    for (const char *const *b = both; of_goods_only && *b != NULL; b++)
        if (strcmp(*b, o->word) == 0)
            of_goods_only = false;
    return !of_goods_only;
}

static sc_status collect_praise(const token_list *t, const token_list *title, bool stories, phrase_set *out)
{
    for (size_t i = 0; i < t->n; i++) {
        const lexicon_aspect *aspect = lexicon_find_aspect(t->at[i].lower);
        if (aspect == NULL || in_title(title, t->at[i].lower))
            continue;
        /* "superb supporting cast": opinion, at most one modifier, aspect, nothing between them. */
        size_t k = i;
        const char *modifier = NULL, *adverb = NULL;
        if (k > 0 && !t->at[k].starts && !t->at[k].soft && lexicon_is_modifier(t->at[k - 1].lower)) {
            modifier = t->at[k - 1].lower;
            k--;
        }
        const lexicon_opinion *opinion = NULL;
        if (k > 0 && !t->at[k].starts && !t->at[k].soft)
            opinion = lexicon_find_opinion(t->at[k - 1].lower);
        size_t at = k - (opinion != NULL);
        if (!praises(opinion, aspect, stories)) {
            /* "the soundtrack was amazing" */
            opinion = NULL;
            size_t m = i + 1;
            if (m + 1 < t->n && !t->at[m].starts && !t->at[m].soft &&
                (!strcmp(t->at[m].lower, "is") || !strcmp(t->at[m].lower, "was") ||
                 !strcmp(t->at[m].lower, "are") || !strcmp(t->at[m].lower, "were"))) {
                m++;
                if (lexicon_is_adverb(t->at[m].lower) && m + 1 < t->n)
                    m++;
                if (!t->at[m].starts && !t->at[m].soft)
                    opinion = lexicon_find_opinion(t->at[m].lower);
                /* Only at the clause's end: "the acting was good for a B movie" praises nothing. */
                if (m + 1 < t->n && !t->at[m + 1].starts && !t->at[m + 1].soft &&
                    strcmp(t->at[m + 1].lower, "and") != 0)
                    opinion = NULL;
            }
            at = i;
            if (!praises(opinion, aspect, stories))
                continue;
        } else if (at > 0 && !t->at[at].starts && !t->at[at].soft && lexicon_is_adverb(t->at[at - 1].lower) &&
                   strcmp(t->at[at - 1].lower, "very") != 0 && strcmp(t->at[at - 1].lower, "quite") != 0) {
            adverb = t->at[at - 1].lower;
        }
        if (opinion == NULL || in_title(title, opinion->word) ||
            (modifier != NULL && in_title(title, modifier)) || spoilt(t, at, 6))
            continue;
        sc_status status = add_praise(out, adverb, opinion->word, modifier, aspect);
        if (status != SC_OK)
            return status;
    }
    return SC_OK;
}

/* A run of words [from, to) that can stand in quotation marks. */
static bool quotable(const token_list *t, size_t from, size_t to, const token_list *title, bool stories)
{
    size_t n = to - from;
    if (n < PHRASES_MIN_QUOTE_WORDS || n > PHRASES_MAX_QUOTE_WORDS || !lexicon_is_opening(t->at[from].lower))
        return false;
    bool verb = false, praise = false;
    for (size_t i = from; i < to; i++) {
        const token *w = &t->at[i];
        if (!w->plain || (i > from && w->capital) || lexicon_is_negative(w->lower) ||
            lexicon_is_private(w->lower) || in_title(title, w->lower) || strlen(w->lower) > 16)
            return false;
        verb |= lexicon_is_verb(w->lower);
        praise |= usable(lexicon_find_opinion(w->lower), stories);
        if (i > from && w->soft)
            return false;
    }
    /* A clause must not break off ("the acting is so good that"). */
    static const char *const open_end[] = {
        "the", "a",   "an", "of", "to",   "and",  "is",   "was",  "that",  "which", "in",  "with",
        "for", "so",  "as", "at", "but",  "or",   "it",   "this", "you",   "very",  "are", "were",
        "has", "had", "on", "by", "from", "when", "what", "how",  "where", NULL};
    for (const char *const *o = open_end; *o != NULL; o++)
        if (strcmp(t->at[to - 1].lower, *o) == 0)
            return false;
    return verb && praise;
}

static sc_status collect_quotes(const token_list *t, const token_list *title, bool stories, phrase_set *out)
{
    for (size_t from = 0; from < t->n;) {
        size_t to = from + 1;
        while (to < t->n && !t->at[to].starts && !t->at[to].starts_sentence)
            to++;
        /* Whole sentences only: a clause cut at a colon or a bracket often lacks its half. */
        bool whole = t->at[from].starts_sentence && (to == t->n || t->at[to].starts_sentence);
        if (whole && quotable(t, from, to, title, stories)) {
            strbuf text = {0};
            for (size_t i = from; i < to; i++)
                strbuf_printf(&text, "%s%s", i > from ? " " : "", t->at[i].lower);
            sc_status status = add_text(&out->quotes, &out->n_quotes, &out->quotes_cap, &text);
            strbuf_free(&text);
            if (status != SC_OK)
                return status;
        }
        from = to;
    }
    return SC_OK;
}

typedef struct counted {
    const char *word;
    int count;
    int order;
} counted;

static int by_count(const void *a, const void *b)
{
    const counted *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static sc_status collect_moods(const token_list *t, size_t n_lists, const token_list *title, bool stories,
                               phrase_set *out)
{
    sc_status status = SC_OK;
    counted *found = NULL;
    size_t n = 0, cap = 0;
    for (size_t l = 0; l < n_lists; l++)
        for (size_t i = 0; i < t[l].n; i++) {
            const lexicon_opinion *o = lexicon_find_opinion(t[l].at[i].lower);
            if (o == NULL || (o->flags & LEXICON_MOOD) == 0 || in_title(title, o->word) ||
                spoilt(&t[l], i, 3))
                continue;
            if (stories && (o->flags & LEXICON_GOODS) != 0 && strcmp(o->word, "beautiful") != 0 &&
                strcmp(o->word, "unique") != 0 && strcmp(o->word, "fun") != 0)
                continue; /* "a soft movie", "something bright" */
            size_t k = 0;
            while (k < n && found[k].word != o->word)
                k++;
            if (k == n) {
                SC_TRY(sc_grow(&found, &cap, n + 1, sizeof *found));
                found[n] = (counted){.word = o->word, .order = (int)n};
                n++;
            }
            found[k].count++;
        }
    if (n > 0) {
        qsort(found, n, sizeof *found, by_count);
        SC_TRY(sc_alloc(&out->moods, n, sizeof *out->moods));
        for (size_t i = 0; i < n; i++)
            out->moods[out->n_moods++] = found[i].word;
    }
cleanup:
    free(found);
    return status;
}

/* Does the word list contain this keyword ('_' for a blank)? */
static bool has_keyword(const token_list *t, const char *keyword, size_t length)
{
    for (size_t i = 0; i < t->n; i++) {
        size_t at = 0, k = i;
        while (k < t->n && at < length) {
            const char *word = t->at[k].lower;
            size_t m = strlen(word);
            if (m > length - at || strncmp(keyword + at, word, m) != 0)
                break;
            at += m;
            if (at == length)
                return true;
            if (keyword[at] != '_')
                break;
            at++;
            k++;
        }
    }
    return false;
}

static bool keyword_found(const token_list *t, const char *keywords)
{
    while (*keywords != '\0') {
        size_t n = strcspn(keywords, " ");
        if (has_keyword(t, keywords, n))
            return true;
        keywords += n + (keywords[n] == ' ');
    }
    return false;
}

static sc_status collect_themes(const token_list *reviews, size_t n_reviews, const token_list *description,
                                const token_list *title, phrase_set *out)
{
    for (size_t i = 0; i < lexicon_n_themes; i++) {
        /* The plot says it, or two reviews do: one mention may be a comparison with another work. */
        int support = keyword_found(description, lexicon_themes[i].keywords) ? 2 : 0;
        for (size_t r = 0; r < n_reviews; r++)
            support += keyword_found(&reviews[r], lexicon_themes[i].keywords) ? 1 : 0;
        if (support < 2 || keyword_found(title, lexicon_themes[i].keywords))
            continue;
        if (out->themes == NULL) {
            sc_status status = sc_alloc(&out->themes, lexicon_n_themes, sizeof *out->themes);
            if (status != SC_OK)
                return status;
        }
        out->themes[out->n_themes++] = lexicon_themes[i].shown;
    }
    return SC_OK;
}

sc_status phrases_collect(const item *subject, const review *const *reviews, size_t n_reviews, bool stories,
                          phrase_set *out)
{
    sc_status status = SC_OK;
    *out = (phrase_set){0};
    token_list title = {0}, description = {0};
    token_list *bodies = NULL;
    SC_TRY(sc_alloc(&bodies, 2 * n_reviews + 1, sizeof *bodies));
    if (subject != NULL && subject->title != NULL)
        SC_TRY(tokenize(subject->title, &title));
    if (subject != NULL && subject->description != NULL)
        SC_TRY(tokenize(subject->description, &description));
    for (size_t i = 0; i < n_reviews; i++) {
        SC_TRY(tokenize(reviews[i]->text, &bodies[2 * i]));
        SC_TRY(tokenize(reviews[i]->title, &bodies[2 * i + 1]));
    }
    for (size_t i = 0; i < 2 * n_reviews; i++) {
        SC_TRY(collect_praise(&bodies[i], &title, stories, out));
        if (i % 2 == 0)
            SC_TRY(collect_quotes(&bodies[i], &title, stories, out));
    }
    SC_TRY(collect_moods(bodies, 2 * n_reviews, &title, stories, out));
    if (stories)
        SC_TRY(collect_themes(bodies, 2 * n_reviews, &description, &title, out));
cleanup:
    for (size_t i = 0; bodies != NULL && i < 2 * n_reviews; i++)
        tokens_free(&bodies[i]);
    free(bodies);
    tokens_free(&title);
    tokens_free(&description);
    if (status != SC_OK)
        phrases_free(out);
    return status;
}

void phrases_free(phrase_set *p)
{
    for (size_t i = 0; i < p->n_praise; i++)
        free(p->praise[i]);
    for (size_t i = 0; i < p->n_quotes; i++)
        free(p->quotes[i]);
    free(p->praise);
    free(p->quotes);
    free(p->moods);
    free(p->themes);
    *p = (phrase_set){0};
}

/* Is needle a run of whole words of haystack? */
static bool has_run(const token_list *text, const token_list *title, size_t from, size_t to)
{
    size_t n = to - from;
    for (size_t i = 0; n > 0 && i + n <= text->n; i++) {
        size_t k = 0;
        while (k < n && strcmp(text->at[i + k].lower, title->at[from + k].lower) == 0)
            k++;
        if (k < n)
            continue;
        if (n > 1)
            return true;
        /* One word: a name only if it is written as one. */
        bool rare = strlen(title->at[from].lower) > 8;
        if (rare || (text->at[i].capital && !text->at[i].starts_sentence && !text->at[i].starts))
            return true;
    }
    return false;
}

bool phrases_name_title(const char *text, const char *title)
{
    token_list words = {0}, name = {0};
    bool found = false;
    if (tokenize(text, &words) == SC_OK && tokenize(title, &name) == SC_OK && name.n > 0) {
        size_t from = 0, to = name.n;
        found = has_run(&words, &name, from, to);
        if (name.n > 2 && (!strcmp(name.at[0].lower, "the") || !strcmp(name.at[0].lower, "a")))
            found |= has_run(&words, &name, 1, to);
        for (size_t i = 2; i < to; i++) /* "Alien: Resurrection": what stands before the colon */
            if (name.at[i].starts)
                found |= has_run(&words, &name, 0, i);
    }
    tokens_free(&words);
    tokens_free(&name);
    return found;
}

size_t phrases_longest_run(const char *text, const char *source)
{
    token_list a = {0}, b = {0};
    size_t best = 0;
    if (tokenize(text, &a) == SC_OK && tokenize(source, &b) == SC_OK)
        for (size_t i = 0; i < a.n; i++)
            for (size_t j = 0; j < b.n; j++) {
                size_t k = 0;
                while (i + k < a.n && j + k < b.n && strcmp(a.at[i + k].lower, b.at[j + k].lower) == 0)
                    k++;
                best = k > best ? k : best;
            }
    tokens_free(&a);
    tokens_free(&b);
    return best;
}
