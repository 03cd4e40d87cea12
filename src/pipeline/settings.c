/* Reading and writing option structs by the table of verbs.c. */
#include "pipeline/settings.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

const verb *verb_find(const char *name)
{
    for (size_t i = 0; i < n_verbs; i++)
        if (strcmp(verbs[i]->name, name) == 0)
            return verbs[i];
    return NULL;
}

sc_status options_create(const verb *v, options *out)
{
    sc_status status = SC_OK;
    memset(out, 0, sizeof(*out));
    out->verb = v;
    SC_TRY(sc_alloc(&out->values, 1, v->options_size));
    SC_TRY(sc_alloc(&out->given, v->n_settings + n_common_settings, sizeof(bool)));
    v->defaults(out->values);
cleanup:
    if (status != SC_OK)
        options_free(out);
    return status;
}

void options_free(options *o)
{
    for (size_t i = 0; i < o->n_strings; i++)
        free(o->strings[i]);
    free(o->strings);
    free(o->values);
    free(o->given);
    memset(o, 0, sizeof(*o));
}

static bool same_name(const char *flag, const char *name)
{
    for (; *flag && *name; flag++, name++)
        if (*flag != *name && !(*flag == '-' && *name == '_'))
            return false;
    return *flag == *name;
}

const setting *options_find(const options *o, const char *name, bool *in_common)
{
    *in_common = false;
    for (size_t i = 0; i < o->verb->n_settings; i++)
        if (same_name(o->verb->settings[i].name, name))
            return &o->verb->settings[i];
    *in_common = true;
    for (size_t i = 0; i < n_common_settings; i++)
        if (same_name(common_settings[i].name, name))
            return &common_settings[i];
    return NULL;
}

/* Every options struct begins { size_t struct_size; sc_common common; ... }. */
static void *value_of(const options *o, const setting *s, bool in_common)
{
    char *base = o->values;
    if (in_common)
        base += offsetof(sc_embed_options, common);
    return base + s->offset;
}

static bool *given_of(const options *o, const setting *s, bool in_common)
{
    return in_common ? &o->given[o->verb->n_settings + (size_t)(s - common_settings)]
                     : &o->given[s - o->verb->settings];
}

static sc_status keep(options *o, void *memory)
{
    sc_status status = sc_grow(&o->strings, &o->cap_strings, o->n_strings + 1, sizeof(*o->strings));
    if (status != SC_OK) {
        free(memory);
        return status;
    }
    o->strings[o->n_strings++] = memory;
    return SC_OK;
}

static sc_status unknown_name(const options *o, const char *name, const char *where)
{
    const char *names[128];
    size_t n = 0;
    for (size_t i = 0; i < o->verb->n_settings && n < 127; i++)
        names[n++] = o->verb->settings[i].name;
    for (size_t i = 0; i < n_common_settings && n < 127; i++)
        names[n++] = common_settings[i].name;
    names[n] = NULL;
    const char *near = text_nearest(name, names);
    if (near != NULL)
        return sc_fail(SC_USAGE, "%s: '%s' is no setting of '%s'; did you mean '%s'?", where, name,
                       o->verb->name, near);
    return sc_fail(SC_USAGE, "%s: '%s' is no setting of '%s'; 'seedcorn %s --help' lists them", where, name,
                   o->verb->name, o->verb->name);
}

static bool is_choice(const char *choices, const char *text)
{
    size_t n = strlen(text);
    for (const char *p = choices;;) {
        const char *end = strchr(p, '|');
        size_t length = end ? (size_t)(end - p) : strlen(p);
        if (length == n && memcmp(p, text, n) == 0)
            return true;
        if (end == NULL)
            return false;
        p = end + 1;
    }
}

static sc_status append_to_list(options *o, const char *const **list, const char *text)
{
    size_t n = 0;
    while (*list != NULL && (*list)[n] != NULL)
        n++;
    const char **grown = NULL;
    sc_status status = sc_alloc(&grown, n + 2, sizeof(*grown));
    if (status != SC_OK)
        return status;
    if (n > 0)
        memcpy(grown, *list, n * sizeof(*grown));
    grown[n] = text;
    *list = grown;
    return keep(o, grown);
}

sc_status options_set(options *o, const char *name, const char *text, const char *where)
{
    bool in_common;
    const setting *s = options_find(o, name, &in_common);
    if (s == NULL)
        return unknown_name(o, name, where);
    void *value = value_of(o, s, in_common);
    char *end = NULL;
    sc_status status = SC_OK;

    errno = 0;
    switch (s->type) {
    case SETTING_INT: {
        long long number = strtoll(text, &end, 10);
        if (end == text || *end != '\0' || errno != 0)
            return sc_fail(SC_USAGE, "%s: %s takes a whole number, not '%s'", where, s->name, text);
        if (number < 0 && strcmp(s->name, "layer") != 0 && strcmp(s->name, "warmup-steps") != 0)
            return sc_fail(SC_USAGE, "%s: %s must not be negative (%s)", where, s->name, text);
        *(int64_t *)value = number;
        break;
    }
    case SETTING_REAL: {
        double number = strtod(text, &end);
        if (end == text || *end != '\0' || !isfinite(number))
            return sc_fail(SC_USAGE, "%s: %s takes a number, not '%s'", where, s->name, text);
        *(double *)value = number;
        break;
    }
    case SETTING_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return sc_fail(SC_USAGE, "%s: %s takes true or false, not '%s'", where, s->name, text);
        *(bool *)value = strcmp(text, "true") == 0;
        break;
    case SETTING_STRING:
    case SETTING_LIST: {
        if (s->choices != NULL && !is_choice(s->choices, text))
            return sc_fail(SC_USAGE, "%s: %s takes one of %s, not '%s'", where, s->name, s->choices, text);
        char *copy = NULL;
        status = sc_strdup(&copy, text);
        if (status == SC_OK)
            status = keep(o, copy);
        if (status != SC_OK)
            return status;
        if (s->type == SETTING_STRING)
            *(const char **)value = copy;
        else
            status = append_to_list(o, (const char *const **)value, copy);
        break;
    }
    }
    *given_of(o, s, in_common) = true;
    return status;
}

bool options_is_given(const options *o, const char *name)
{
    bool in_common;
    const setting *s = options_find(o, name, &in_common);
    return s != NULL && *given_of(o, s, in_common);
}

const char *options_string(const options *o, const char *name)
{
    bool in_common;
    const setting *s = options_find(o, name, &in_common);
    if (s == NULL || s->type != SETTING_STRING)
        return NULL;
    return *(const char **)value_of(o, s, in_common);
}

int64_t options_int(const options *o, const char *name)
{
    bool in_common;
    const setting *s = options_find(o, name, &in_common);
    if (s == NULL || s->type != SETTING_INT)
        return 0;
    return *(const int64_t *)value_of(o, s, in_common);
}

sc_status options_check(const options *o)
{
    for (size_t i = 0; i < o->verb->n_settings; i++) {
        const setting *s = &o->verb->settings[i];
        if (s->required && !o->given[i])
            return sc_fail(SC_USAGE, "'%s' needs --%s %s (%s)", o->verb->name, s->name, s->value, s->help);
    }
    return o->verb->check ? o->verb->check(o->values) : SC_OK;
}

bool setting_is_path(const setting *s)
{
    const char *bar = strchr(s->value, '|'), *value = bar ? bar + 1 : s->value;
    return strncmp(value, "FILE", 4) == 0 || strncmp(value, "DIR", 3) == 0;
}

bool setting_is_word(const setting *s, const char *text)
{
    const size_t n = strcspn(s->value, "|");
    return s->value[n] != '\0' && strlen(text) == n && memcmp(text, s->value, n) == 0;
}

static json_t *value_json(const setting *s, const void *value)
{
    switch (s->type) {
    case SETTING_INT:
        return json_integer(*(const int64_t *)value);
    case SETTING_REAL:
        return json_real(*(const double *)value);
    case SETTING_BOOL:
        return json_boolean(*(const bool *)value);
    case SETTING_STRING: {
        const char *text = *(const char *const *)value;
        return text ? json_string(text) : json_null();
    }
    case SETTING_LIST: {
        const char *const *list = *(const char *const *const *)value;
        json_t *array = json_array();
        for (; list != NULL && *list != NULL; list++)
            json_array_append_new(array, json_string(*list));
        return array;
    }
    }
    return json_null();
}

json_t *options_json(const options *o)
{
    json_t *object = json_object();
    for (size_t i = 0; i < o->verb->n_settings; i++)
        json_object_set_new(object, o->verb->settings[i].name,
                            value_json(&o->verb->settings[i], value_of(o, &o->verb->settings[i], false)));
    for (size_t i = 0; i < n_common_settings; i++)
        json_object_set_new(object, common_settings[i].name,
                            value_json(&common_settings[i], value_of(o, &common_settings[i], true)));
    return object;
}
