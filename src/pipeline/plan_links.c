/* Which stage feeds which, and where results go. Links between stages are names; where a setting is left
 * out, the table below says which kind of stage feeds it. */
#include "pipeline/plan_links.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* Who may feed a setting. `by_default`: taken when the file leaves the setting out. */
static const struct feed {
    const char *consumer, *setting, *producer;
    bool by_default;
    bool items; /* the producer's catalogue, not its product */
} feeds[] = {
    {"import ratings", "join", "import reviews", false, false},
    {"embed", "data", "import reviews", true, false},
    {"embed", "data", "import ratings", false, false},
    {"embed", "model", "pull", true, false},
    {"embed", "model", "train", false, false},
    {"embed", "model", "merge", false, false},
    {"embed", "adapter", "train", false, false},
    {"select", "data", "import reviews", true, false},
    {"select", "embeddings", "embed", true, false},
    {"select", "item-embeddings", "embed", false, false},
    {"select", "model", "pull", false, false},
    {"select", "model", "train", false, false},
    {"select", "model", "merge", false, false},
    {"select", "given", "select", false, false},
    {"select", "include", "select", false, false},
    {"select", "exclude", "select", false, false},
    {"synth", "data", "import reviews", true, false},
    {"synth", "selection", "select", true, false},
    {"synth", "catalogue", "import ratings", false, false},
    {"synth", "catalogue", "import reviews", false, false},
    {"synth", "embeddings", "embed", false, false},
    {"train", "model", "pull", true, false},
    {"train", "model", "merge", false, false},
    {"train", "model", "train", false, false},
    {"train", "dialogues", "synth", true, false},
    {"train", "dialogues", "import dialogues", false, false},
    {"train", "validation", "synth", false, false},
    {"train", "validation", "import dialogues", false, false},
    {"train", "init-adapter", "train", false, false},
    {"merge", "model", "pull", true, false},
    {"merge", "adapter", "train", true, false},
    {"recommend", "model", "pull", true, false},
    {"recommend", "model", "train", false, false},
    {"recommend", "model", "merge", false, false},
    {"recommend", "adapter", "train", false, false},
    {"recommend", "dialogues", "import dialogues", true, false},
    {"recommend", "dialogues", "synth", false, false},
    {"recommend", "items", "import dialogues", false, true},
    {"recommend", "items", "import reviews", false, true},
    {"recommend", "items", "import ratings", false, true},
    {"generate", "model", "pull", true, false},
    {"generate", "model", "train", false, false},
    {"generate", "model", "merge", false, false},
    {"generate", "adapter", "train", false, false},
    {"generate", "dialogues", "import dialogues", true, false},
    {"generate", "dialogues", "synth", false, false},
    {"eval", "replies", "recommend", true, false},
    {"eval", "dialogues", "import dialogues", true, false},
    {"eval", "dialogues", "synth", false, false},
    {"eval", "items", "import dialogues", true, true},
    {"eval", "items", "import reviews", false, true},
    {"eval", "items", "import ratings", false, true},
    {"eval", "data", "import reviews", false, false},
    {"eval", "data", "import ratings", false, false},
};

/* How other stages call this one. */
static const char *stage_label(const stage *s)
{
    if (strcmp(s->section, "pull") == 0)
        return options_string(&s->options, "name");
    return s->name;
}

static stage *stage_named(plan *p, const char *verb_name, const char *name, size_t before)
{
    for (size_t i = 0; i < before; i++) {
        const char *label = stage_label(&p->stages[i]);
        if (strcmp(p->stages[i].verb->name, verb_name) == 0 && label != NULL && strcmp(label, name) == 0)
            return &p->stages[i];
    }
    return NULL;
}

static sc_status link_add(stage *s, const setting *to, size_t producer)
{
    sc_status status = sc_grow(&s->links, &s->cap_links, s->n_links + 1, sizeof(*s->links));
    if (status == SC_OK)
        s->links[s->n_links++] = (stage_link){to, producer};
    return status;
}

sc_status link_by_name(plan *p, stage *s, const setting *to, const char *text, const char *where,
                       bool *linked)
{
    size_t self = (size_t)(s - p->stages);
    *linked = false;
    for (size_t i = 0; i < sizeof(feeds) / sizeof(feeds[0]); i++) {
        if (strcmp(feeds[i].consumer, s->verb->name) != 0 || strcmp(feeds[i].setting, to->name) != 0)
            continue;
        stage *producer = stage_named(p, feeds[i].producer, text, self);
        if (producer == NULL)
            continue;
        *linked = true;
        sc_status status = link_add(s, to, (size_t)(producer - p->stages));
        return status != SC_OK ? status : options_set(&s->options, to->name, text, where);
    }
    return SC_OK;
}

/* A word that is almost a stage's name and no file would be missed only when the stages before have run. */
sc_status link_check_word(plan *p, const stage *s, const setting *to, const char *text, const char *where)
{
    const char *names[64];
    size_t n = 0;
    if (strchr(text, '/') != NULL)
        return SC_OK;
    char *path = path_join(p->folder, text);
    bool exists = path != NULL && file_exists(path);
    free(path);
    for (size_t i = 0; i < sizeof(feeds) / sizeof(feeds[0]); i++)
        for (size_t k = 0; k < (size_t)(s - p->stages) && n < 63; k++) {
            const char *label = stage_label(&p->stages[k]);
            if (strcmp(feeds[i].consumer, s->verb->name) == 0 && strcmp(feeds[i].setting, to->name) == 0 &&
                strcmp(feeds[i].producer, p->stages[k].verb->name) == 0 && label != NULL && label[0] != '\0')
                names[n++] = label;
        }
    names[n] = NULL;
    const char *near = exists ? NULL : text_nearest(text, names);
    return near == NULL
               ? SC_OK
               : sc_fail(SC_USAGE, "%s: '%s' is no stage and no file; did you mean '%s'?", where, text, near);
}

/* One eval entry without `replies` stands for one eval of each recommend entry. */
sc_status plan_expand_eval(plan *p)
{
    sc_status status = SC_OK;
    size_t only = p->n, n_evals = 0, n_recommends = 0;
    for (size_t i = 0; i < p->n; i++) {
        if (strcmp(p->stages[i].section, "recommend") == 0)
            n_recommends++;
        if (strcmp(p->stages[i].section, "eval") == 0) {
            n_evals++;
            only = i;
        }
    }
    if (n_evals != 1 || n_recommends < 2 || options_is_given(&p->stages[only].options, "replies") ||
        options_is_given(&p->stages[only].options, "baseline"))
        return SC_OK;
    stage pattern = p->stages[only];
    p->n = only; /* eval is the last section */
    for (size_t i = 0; i < only; i++) {
        stage *s = NULL;
        if (strcmp(p->stages[i].section, "recommend") != 0)
            continue;
        SC_TRY(stage_add(p, pattern.verb, "eval", pattern.where, &s));
        SC_TRY(sc_strdup(&s->name, p->stages[i].name));
        for (size_t k = 0; k < pattern.verb->n_settings; k++) {
            const setting *to = &pattern.verb->settings[k];
            if (!pattern.options.given[k])
                continue;
            char number[32];
            const char *text = options_string(&pattern.options, to->name);
            const char *values = (const char *)pattern.options.values + to->offset;
            if (to->type == SETTING_BOOL)
                text = *(const bool *)values ? "true" : "false";
            else if (to->type == SETTING_INT) {
                snprintf(number, sizeof(number), "%lld", (long long)*(const int64_t *)values);
                text = number;
            }
            SC_TRY(options_set(&s->options, to->name, text, pattern.where));
        }
        for (size_t k = 0; k < n_common_settings; k++) {
            char number[32];
            const char *name = common_settings[k].name, *text = options_string(&pattern.options, name);
            if (!options_is_given(&pattern.options, name))
                continue;
            if (common_settings[k].type == SETTING_INT) {
                snprintf(number, sizeof(number), "%lld", (long long)options_int(&pattern.options, name));
                text = number;
            }
            SC_TRY(options_set(&s->options, name, text, pattern.where));
        }
        for (size_t k = 0; k < pattern.n_links; k++)
            SC_TRY(link_add(s, pattern.links[k].setting, pattern.links[k].producer));
        bool in_common;
        SC_TRY(link_add(s, options_find(&s->options, "replies", &in_common), i));
        SC_TRY(options_set(&s->options, "replies", p->stages[i].name, pattern.where));
    }
cleanup:
    stage_free(&pattern);
    return status;
}

static const stage_link *link_of(const stage *s, const char *setting_name)
{
    for (size_t i = 0; i < s->n_links; i++)
        if (strcmp(s->links[i].setting->name, setting_name) == 0)
            return &s->links[i];
    return NULL;
}

/* The stage that feeds a setting left out: eval takes its dialogues from the recommend it scores;
 * else the only stage of the right kind. */
static sc_status default_link(plan *p, size_t self, const struct feed *f)
{
    stage *s = &p->stages[self];
    bool in_common;
    const setting *to = options_find(&s->options, f->setting, &in_common);
    size_t found = self, n = 0;

    if (options_is_given(&s->options, f->setting))
        return SC_OK;
    if (strcmp(f->consumer, "eval") == 0 && strcmp(f->setting, "replies") == 0 &&
        options_is_given(&s->options, "baseline"))
        return SC_OK;
    if (strcmp(f->consumer, "recommend") == 0 && options_is_given(&s->options, "request"))
        return SC_OK;
    const stage_link *replies = strcmp(f->consumer, "eval") == 0 ? link_of(s, "replies") : NULL;
    const stage_link *dialogues = strcmp(f->consumer, "eval") == 0 ? link_of(s, "dialogues") : NULL;
    if (replies != NULL && strcmp(f->setting, "dialogues") == 0)
        dialogues = link_of(&p->stages[replies->producer], "dialogues");
    if (dialogues != NULL && (strcmp(f->setting, "dialogues") == 0 || strcmp(f->setting, "items") == 0)) {
        found = dialogues->producer;
        n = 1;
    } else {
        for (size_t i = 0; i < self; i++)
            if (strcmp(p->stages[i].verb->name, f->producer) == 0) {
                found = i;
                n++;
            }
    }
    if (n == 0)
        return SC_OK; /* options_check names what is missing */
    if (n > 1)
        return sc_fail(SC_USAGE, "%s: '%s' has %zu stages '%s' to take '%s' from: name one", s->where,
                       s->verb->name, n, f->producer, f->setting);
    const stage *producer = &p->stages[found];
    if (f->items && producer->items == NULL)
        return SC_OK;
    sc_status status = link_add(s, to, found);
    return status != SC_OK ? status : options_set(&s->options, f->setting, producer->key, s->where);
}

sc_status link_defaults(plan *p, size_t i)
{
    for (size_t f = 0; f < sizeof(feeds) / sizeof(feeds[0]); f++) {
        bool feeds_it = feeds[f].by_default && strcmp(feeds[f].consumer, p->stages[i].verb->name) == 0;
        sc_status status = feeds_it ? default_link(p, i, &feeds[f]) : SC_OK;
        if (status != SC_OK)
            return status;
    }
    return SC_OK;
}

sc_status plan_choose_places(plan *p, size_t i, const char *run_dir)
{
    sc_status status = SC_OK;
    stage *s = &p->stages[i];
    strbuf text = {0};
    const char *section = s->section;

    const char *label = strcmp(section, "pull") == 0 ? options_string(&s->options, "name") : s->name;
    strbuf_printf(&text, "%s%s%s", section, label && label[0] ? "/" : "", label ? label : "");
    SC_TRY(strbuf_status(&text));
    SC_TRY(sc_strdup(&s->key, text.data));
    for (size_t k = 0; k < i; k++)
        if (strcmp(p->stages[k].key, s->key) == 0)
            SC_TRY(sc_fail(SC_USAGE, "%s: a second '%s'; give each its own name", s->where, s->key));
    if (strcmp(section, "pull") == 0)
        goto cleanup;
    s->folder = path_join(run_dir, s->key);
    const char *file = strcmp(section, "embed") == 0       ? "embeddings.npy"
                       : strcmp(section, "select") == 0    ? "selection.jsonl"
                       : strcmp(section, "synth") == 0     ? "dialogues.jsonl"
                       : strcmp(section, "recommend") == 0 ? "replies.jsonl"
                       : strcmp(section, "generate") == 0  ? "replies.jsonl"
                       : strcmp(section, "eval") == 0      ? "metrics.json"
                                                           : NULL;
    strbuf_clear(&text);
    if (strcmp(s->verb->name, "import dialogues") == 0)
        strbuf_printf(&text, "%s/%s.jsonl", s->folder, s->name);
    else
        strbuf_printf(&text, "%s%s%s", s->folder ? s->folder : "", file ? "/" : "", file ? file : "");
    SC_TRY(strbuf_status(&text));
    SC_TRY(sc_strdup(&s->product, text.data));
    SC_TRY(options_set(&s->options, "out", strcmp(section, "synth") == 0 ? s->folder : s->product, s->where));
    strbuf_clear(&text);
    if (strcmp(s->verb->name, "import dialogues") == 0 && options_is_given(&s->options, "items"))
        strbuf_printf(&text, "%s/%s.items.jsonl", s->folder, s->name);
    else if (strcmp(section, "import") == 0 && strcmp(s->verb->name, "import dialogues") != 0)
        strbuf_printf(&text, "%s/items.jsonl", s->folder);
    if (text.len > 0)
        SC_TRY(sc_strdup(&s->items, text.data));
    SC_TRY(strbuf_status(&text));
cleanup:
    strbuf_free(&text);
    return status;
}

sc_status plan_resolve(plan *p, size_t i)
{
    stage *s = &p->stages[i];
    for (size_t k = 0; k < s->n_links; k++) {
        const stage *producer = &p->stages[s->links[k].producer];
        bool items = strcmp(s->links[k].setting->name, "items") == 0;
        const char *path = items ? producer->items : producer->product;
        if (path == NULL)
            return sc_fail(SC_USAGE, "%s: '%s' makes no %s for '%s'; give its import a file of items",
                           s->where, producer->key, items ? "catalogue" : "product", s->key);
        sc_status status = options_set(&s->options, s->links[k].setting->name, path, s->where);
        if (status != SC_OK)
            return status;
    }
    return SC_OK;
}
