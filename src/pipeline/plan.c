/* Reading the YAML of `run` with libyaml's document tree, by the same table of flags as the command
 * line. What the names in it mean stands in plan_links.c. */
#include "pipeline/plan.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "base/json.h"
#include "pipeline/plan_links.h"

/* The order in which sections run, whatever their order in the file. */
static const char *const sections[] = {"pull",  "import",    "embed",    "select", "synth", "train",
                                       "merge", "recommend", "generate", "eval",   NULL};

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

void stage_free(stage *s)
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

sc_status stage_add(plan *p, const verb *v, const char *section, const char *where, stage **out)
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

/* One scalar of a stage's mapping: a link by name, a path, or a plain value. */
static sc_status set_scalar(plan *p, stage *s, const char *name, const char *text, const char *where)
{
    bool in_common;
    const setting *to = options_find(&s->options, name, &in_common);
    if (to == NULL)
        return options_set(&s->options, name, text, where); /* fails, naming the nearest */
    if (strcmp(to->name, "out") == 0)
        return sc_fail(SC_USAGE, "%s: 'out' is chosen by run; leave it away", where);
    if (strcmp(to->name, "dry-run") == 0 && strcmp(text, "true") == 0)
        return sc_fail(SC_USAGE, "%s: a stage of a run has to write its result; leave 'dry_run' away", where);
    bool linked = false;
    sc_status status = link_by_name(p, s, to, text, where, &linked);
    if (status != SC_OK || linked)
        return status;
    if (setting_is_path(to) && !setting_is_word(to, text)) {
        status = link_check_word(p, s, to, text, where);
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
        "recommend, generate, eval and device, dtype, threads, seed",
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
    SC_TRY(plan_expand_eval(out));
    for (size_t k = 0; k < out->n; k++) {
        stage *s = &out->stages[k];
        SC_TRY(plan_choose_places(out, k, run_dir));
        SC_TRY(link_defaults(out, k));
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
