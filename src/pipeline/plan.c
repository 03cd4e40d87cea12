/* Reading the YAML of `run` with libyaml's document tree, by the same table of flags as the command
 * line. Links between stages are names; where a setting is left out, the table below says which
 * kind of stage feeds it. */
#include "pipeline/plan.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "base/json.h"

/* The order in which sections run, whatever their order in the file. */
static const char *const sections[] = {"pull",  "import", "embed",     "select", "synth",
                                       "train", "merge",  "recommend", "eval",   NULL};

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
    {"train", "init-adapter", "train", false, false},
    {"merge", "model", "pull", true, false},
    {"merge", "adapter", "train", true, false},
    {"recommend", "model", "pull", true, false},
    {"recommend", "model", "train", false, false},
    {"recommend", "model", "merge", false, false},
    {"recommend", "adapter", "train", false, false},
    {"recommend", "dialogues", "import dialogues", true, false},
    {"recommend", "items", "import dialogues", false, true},
    {"recommend", "items", "import reviews", false, true},
    {"recommend", "items", "import ratings", false, true},
    {"eval", "replies", "recommend", true, false},
    {"eval", "dialogues", "import dialogues", true, false},
    {"eval", "items", "import dialogues", true, true},
    {"eval", "items", "import reviews", false, true},
    {"eval", "items", "import ratings", false, true},
    {"eval", "data", "import reviews", false, false},
    {"eval", "data", "import ratings", false, false},
};

bool setting_is_path(const setting *s)
{
    return strncmp(s->value, "FILE", 4) == 0 || strncmp(s->value, "DIR", 3) == 0;
}

/* --- YAML ------------------------------------------------------------------------------------- */

typedef struct yaml_file {
    yaml_document_t document;
    bool loaded;
    const char *path;
} yaml_file;

static sc_status yaml_open(const char *path, yaml_file *out)
{
    sc_status status = SC_OK;
    yaml_parser_t parser;
    bool have_parser = false;
    strbuf text = {0};

    memset(out, 0, sizeof(*out));
    out->path = path;
    SC_TRY(file_read_all(path, &text));
    if (!yaml_parser_initialize(&parser))
        SC_TRY(sc_fail(SC_MEMORY, "%s: memory does not suffice to read it", path));
    have_parser = true;
    yaml_parser_set_input_string(&parser, (const unsigned char *)strbuf_text(&text), text.len);
    if (!yaml_parser_load(&parser, &out->document))
        SC_TRY(sc_fail(SC_USAGE, "%s:%zu: not valid YAML: %s", path, parser.problem_mark.line + 1,
                       parser.problem ? parser.problem : "unreadable"));
    out->loaded = true;
cleanup:
    if (have_parser)
        yaml_parser_delete(&parser);
    strbuf_free(&text);
    return status;
}

static void yaml_close(yaml_file *y)
{
    if (y->loaded)
        yaml_document_delete(&y->document);
    y->loaded = false;
}

static yaml_node_t *node_at(yaml_file *y, int index)
{
    return yaml_document_get_node(&y->document, index);
}

static const char *scalar(const yaml_node_t *n)
{
    return n != NULL && n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}

static void place(const yaml_file *y, const yaml_node_t *n, char *out, size_t size)
{
    snprintf(out, size, "%.400s:%zu", y->path, n->start_mark.line + 1);
}

/* --- stages ----------------------------------------------------------------------------------- */

static void stage_free(stage *s)
{
    free(s->section);
    free(s->name);
    free(s->key);
    free(s->where);
    options_free(&s->options);
    free(s->links);
    free(s->folder);
    free(s->product);
    free(s->items);
}

void plan_free(plan *p)
{
    for (size_t i = 0; i < p->n; i++)
        stage_free(&p->stages[i]);
    free(p->stages);
    free(p->config);
    free(p->folder);
    memset(p, 0, sizeof(*p));
}

static sc_status stage_add(plan *p, const verb *v, const char *section, const char *where, stage **out)
{
    sc_status status = sc_grow(&p->stages, &p->cap, p->n + 1, sizeof(*p->stages));
    if (status != SC_OK)
        return status;
    stage *s = &p->stages[p->n++];
    memset(s, 0, sizeof(*s));
    s->verb = v;
    SC_TRY(options_create(v, &s->options));
    SC_TRY(sc_strdup(&s->section, section));
    SC_TRY(sc_strdup(&s->where, where));
    *out = s;
cleanup:
    return status;
}

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

/* A path of the file: relative to the file's folder. */
static sc_status set_path(plan *p, stage *s, const setting *to, const char *text, const char *where)
{
    bool outside = text[0] == '/' || strstr(text, "://") != NULL || strcmp(p->folder, ".") == 0;
    char *path = outside ? NULL : path_join(p->folder, text);
    sc_status status = outside || path != NULL ? options_set(&s->options, to->name, path ? path : text, where)
                                               : sc_fail(SC_MEMORY, "%s: memory does not suffice", where);
    free(path);
    return status;
}

/* A word that is almost a stage's name and no file would be missed only when the stages before have run. */
static sc_status check_link(plan *p, const stage *s, const setting *to, const char *text, const char *where)
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

/* One scalar of a stage's mapping: a link by name, a path, or a plain value. */
static sc_status set_scalar(plan *p, stage *s, const char *name, const char *text, const char *where)
{
    bool in_common;
    size_t self = (size_t)(s - p->stages);
    const setting *to = options_find(&s->options, name, &in_common);
    if (to == NULL)
        return options_set(&s->options, name, text, where); /* fails, naming the nearest */
    if (strcmp(to->name, "out") == 0)
        return sc_fail(SC_USAGE, "%s: 'out' is chosen by run; leave it away", where);
    for (size_t i = 0; i < sizeof(feeds) / sizeof(feeds[0]); i++) {
        if (strcmp(feeds[i].consumer, s->verb->name) != 0 || strcmp(feeds[i].setting, to->name) != 0)
            continue;
        stage *producer = stage_named(p, feeds[i].producer, text, self);
        if (producer != NULL) {
            sc_status status = link_add(s, to, (size_t)(producer - p->stages));
            return status != SC_OK ? status : options_set(&s->options, to->name, text, where);
        }
    }
    if (setting_is_path(to)) {
        sc_status status = check_link(p, s, to, text, where);
        return status != SC_OK ? status : set_path(p, s, to, text, where);
    }
    return options_set(&s->options, name, text, where);
}

static sc_status set_value(plan *p, yaml_file *y, stage *s, const char *name, const yaml_node_t *value)
{
    char where[512];
    place(y, value, where, sizeof(where));
    if (scalar(value) != NULL)
        return set_scalar(p, s, name, scalar(value), where);
    if (value->type != YAML_SEQUENCE_NODE)
        return sc_fail(SC_USAGE, "%s: '%s' takes a value, not a mapping", where, name);
    for (yaml_node_item_t *i = value->data.sequence.items.start; i < value->data.sequence.items.top; i++) {
        const yaml_node_t *element = node_at(y, *i);
        if (scalar(element) == NULL)
            return sc_fail(SC_USAGE, "%s: '%s' takes a list of values", where, name);
        sc_status status = set_scalar(p, s, name, scalar(element), where);
        if (status != SC_OK)
            return status;
    }
    return SC_OK;
}

static const char *mapping_scalar(yaml_file *y, const yaml_node_t *mapping, const char *key)
{
    for (yaml_node_pair_t *i = mapping->data.mapping.pairs.start; i < mapping->data.mapping.pairs.top; i++) {
        const char *name = scalar(node_at(y, i->key));
        if (name != NULL && strcmp(name, key) == 0)
            return scalar(node_at(y, i->value));
    }
    return NULL;
}

/* "import" with kind: reviews is the verb "import reviews". */
static sc_status verb_of(yaml_file *y, const char *section, const yaml_node_t *mapping, const char *where,
                         const verb **out)
{
    char name[64];
    if (strcmp(section, "import") != 0) {
        *out = verb_find(section);
        return SC_OK;
    }
    const char *kind = mapping_scalar(y, mapping, "kind");
    if (kind == NULL)
        return sc_fail(SC_USAGE, "%s: an import needs kind: reviews, ratings or dialogues", where);
    snprintf(name, sizeof(name), "import %.40s", kind);
    *out = verb_find(name);
    if (*out == NULL)
        return sc_fail(SC_USAGE, "%s: kind is reviews, ratings or dialogues, not '%s'", where, kind);
    return SC_OK;
}

static bool name_is_plain(const char *name)
{
    if (name[0] == '\0' || name[0] == '.' || strlen(name) > 80)
        return false;
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] == '\0';
}

static sc_status read_entry(plan *p, yaml_file *y, const char *section, const yaml_node_t *mapping)
{
    sc_status status = SC_OK;
    char where[512];
    const verb *v = NULL;
    stage *s = NULL;

    place(y, mapping, where, sizeof(where));
    if (mapping->type != YAML_MAPPING_NODE) {
        const char *text = scalar(mapping);
        bool empty = text != NULL && (text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
        if (strcmp(section, "pull") == 0 && text != NULL && !empty) {
            SC_TRY(stage_add(p, verb_find("pull"), section, where, &s));
            SC_TRY(sc_strdup(&s->name, ""));
            return options_set(&s->options, "name", text, where);
        }
        if (!empty)
            return sc_fail(SC_USAGE, "%s: '%s' takes a mapping of its settings, or a list of them", where,
                           section);
        if (strcmp(section, "import") == 0)
            return sc_fail(SC_USAGE, "%s: an import needs kind: reviews, ratings or dialogues", where);
        SC_TRY(stage_add(p, verb_find(section), section, where, &s));
        return sc_strdup(&s->name, "");
    }
    SC_TRY(verb_of(y, section, mapping, where, &v));
    SC_TRY(stage_add(p, v, section, where, &s));
    bool is_pull = strcmp(section, "pull") == 0;
    const char *name = is_pull ? NULL : mapping_scalar(y, mapping, "name");
    if (name != NULL && !name_is_plain(name))
        SC_TRY(sc_fail(SC_USAGE, "%s: the name '%s' becomes a folder: letters, digits, '.', '_' and '-' only",
                       where, name));
    if (name == NULL && strcmp(section, "import") == 0)
        name = v->name + strlen("import ");
    SC_TRY(sc_strdup(&s->name, name ? name : ""));
    for (yaml_node_pair_t *i = mapping->data.mapping.pairs.start; i < mapping->data.mapping.pairs.top; i++) {
        const char *key = scalar(node_at(y, i->key));
        if (key == NULL)
            SC_TRY(sc_fail(SC_USAGE, "%s: a key must be a plain word", where));
        if ((strcmp(key, "name") == 0 && !is_pull) ||
            (strcmp(key, "kind") == 0 && strcmp(section, "import") == 0))
            continue;
        SC_TRY(set_value(p, y, s, key, node_at(y, i->value)));
    }
cleanup:
    return status;
}

/* A train stage without a name is called by its method, for the stages after it and as a folder. */
static sc_status name_trains(plan *p, size_t from)
{
    sc_status status = SC_OK;
    for (size_t i = from; i < p->n; i++) {
        stage *s = &p->stages[i];
        if (strcmp(s->section, "train") != 0 || s->name[0] != '\0')
            continue;
        free(s->name);
        s->name = NULL;
        SC_TRY(sc_strdup(&s->name, options_string(&s->options, "method")));
    }
cleanup:
    return status;
}

static sc_status read_section(plan *p, yaml_file *y, const char *section, const yaml_node_t *value)
{
    sc_status status = SC_OK;
    size_t from = p->n;
    if (value->type != YAML_SEQUENCE_NODE) {
        SC_TRY(read_entry(p, y, section, value));
        return name_trains(p, from);
    }
    for (yaml_node_item_t *i = value->data.sequence.items.start; i < value->data.sequence.items.top; i++) {
        from = p->n;
        SC_TRY(read_entry(p, y, section, node_at(y, *i)));
        SC_TRY(name_trains(p, from));
    }
cleanup:
    return status;
}

static bool is_common(const char *key)
{
    for (size_t i = 0; i < n_common_settings; i++)
        if (strcmp(common_settings[i].name, key) == 0)
            return true;
    return false;
}

static sc_status check_top_key(const char *key, const char *where)
{
    const char *names[32];
    size_t n = 0;
    for (size_t i = 0; sections[i] != NULL; i++) {
        if (strcmp(sections[i], key) == 0)
            return SC_OK;
        names[n++] = sections[i];
    }
    for (size_t i = 0; i < n_common_settings; i++)
        names[n++] = common_settings[i].name;
    names[n] = NULL;
    const char *near = text_nearest(key, names);
    if (near != NULL)
        return sc_fail(SC_USAGE, "%s: '%s' is no verb of a run; did you mean '%s'?", where, key, near);
    return sc_fail(
        SC_USAGE,
        "%s: '%s' is no verb of a run; the keys are pull, import, embed, select, synth, train, merge, "
        "recommend, eval and device, dtype, threads, seed",
        where, key);
}

/* Two entries of one YAML mapping may not share a key: libyaml keeps both, the second would win silently. */
static sc_status check_repeats(yaml_file *y, const yaml_node_t *mapping)
{
    char where[512];
    for (yaml_node_pair_t *i = mapping->data.mapping.pairs.start; i < mapping->data.mapping.pairs.top; i++)
        for (yaml_node_pair_t *j = mapping->data.mapping.pairs.start; j < i; j++) {
            const char *a = scalar(node_at(y, i->key)), *b = scalar(node_at(y, j->key));
            if (a != NULL && b != NULL && strcmp(a, b) == 0) {
                place(y, node_at(y, i->key), where, sizeof(where));
                return sc_fail(SC_USAGE, "%s: '%s' stands here a second time", where, a);
            }
        }
    return SC_OK;
}

/* --- defaults and places ---------------------------------------------------------------------- */

/* One eval entry without `replies` stands for one eval of each recommend entry. */
static sc_status expand_eval(plan *p)
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

static sc_status choose_places(plan *p, size_t i, const char *run_dir)
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

sc_status plan_read(const char *config, const char *run_dir, plan *out)
{
    sc_status status = SC_OK;
    yaml_file y;
    char where[512];

    memset(out, 0, sizeof(*out));
    SC_TRY(yaml_open(config, &y));
    SC_TRY(sc_strdup(&out->config, config));
    out->folder = path_dir(config);
    yaml_node_t *root = yaml_document_get_root_node(&y.document);
    if (root == NULL || root->type != YAML_MAPPING_NODE)
        SC_TRY(sc_fail(SC_USAGE, "%s: a run is a mapping of verbs; examples/ has some", config));
    for (int i = 1; node_at(&y, i) != NULL; i++)
        if (node_at(&y, i)->type == YAML_MAPPING_NODE)
            SC_TRY(check_repeats(&y, node_at(&y, i)));
    for (yaml_node_pair_t *i = root->data.mapping.pairs.start; i < root->data.mapping.pairs.top; i++) {
        const char *key = scalar(node_at(&y, i->key));
        place(&y, node_at(&y, i->key), where, sizeof(where));
        if (key == NULL || !is_common(key))
            SC_TRY(check_top_key(key ? key : "", where));
    }
    for (size_t k = 0; sections[k] != NULL; k++)
        for (yaml_node_pair_t *i = root->data.mapping.pairs.start; i < root->data.mapping.pairs.top; i++)
            if (strcmp(scalar(node_at(&y, i->key)), sections[k]) == 0)
                SC_TRY(read_section(out, &y, sections[k], node_at(&y, i->value)));
    if (out->n == 0)
        SC_TRY(sc_fail(SC_USAGE, "%s: no stage in it; examples/ has some", config));
    SC_TRY(expand_eval(out));
    for (size_t k = 0; k < out->n; k++) {
        stage *s = &out->stages[k];
        SC_TRY(choose_places(out, k, run_dir));
        for (size_t f = 0; f < sizeof(feeds) / sizeof(feeds[0]); f++)
            if (feeds[f].by_default && strcmp(feeds[f].consumer, s->verb->name) == 0)
                SC_TRY(default_link(out, k, &feeds[f]));
        if (options_check(&s->options) != SC_OK) {
            snprintf(where, sizeof(where), "%s", sc_last_error());
            SC_TRY(sc_fail(SC_USAGE, "%s: %s", s->where, where));
        }
        for (yaml_node_pair_t *i = root->data.mapping.pairs.start; i < root->data.mapping.pairs.top; i++) {
            const char *key = scalar(node_at(&y, i->key));
            if (is_common(key) && !options_is_given(&s->options, key))
                SC_TRY(set_value(out, &y, s, key, node_at(&y, i->value)));
        }
    }
cleanup:
    yaml_close(&y);
    if (status != SC_OK)
        plan_free(out);
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

sc_status plan_yaml(const plan *p, strbuf *out)
{
    const char *open = "";
    for (size_t i = 0; i < p->n; i++) {
        const stage *s = &p->stages[i];
        if (strcmp(open, s->section) != 0)
            strbuf_printf(out, "%s:\n", s->section);
        open = s->section;
        const char *dash = "- ";
        if (strcmp(s->section, "pull") != 0 && s->name[0] != '\0') {
            strbuf_printf(out, "  %sname: \"%s\"\n", dash, s->name);
            dash = "  ";
        }
        if (strcmp(s->section, "import") == 0) {
            strbuf_printf(out, "  %skind: %s\n", dash, s->verb->name + strlen("import "));
            dash = "  ";
        }
        json_t *values = options_json(&s->options);
        const char *key;
        json_t *value;
        json_object_foreach(values, key, value)
        {
            if (json_is_null(value) || strcmp(key, "out") == 0 ||
                (json_is_array(value) && !json_array_size(value)))
                continue;
            char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
            strbuf_printf(out, "  %s%s: %s\n", dash, key, text ? text : "null");
            free(text);
            dash = "  ";
        }
        json_decref(values);
    }
    return strbuf_status(out);
}
