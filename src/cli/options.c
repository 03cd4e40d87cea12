/* Parsing by the table of flags (pipeline/settings.h); nothing about a single verb stands here. */
#include "cli/options.h"

#include <string.h>

#include "base/text.h"

static sc_status unknown_verb(const char *word)
{
    const char *names[32];
    size_t n = 0;
    for (size_t i = 0; i < n_verbs && n < 31; i++)
        names[n++] = verbs[i]->name;
    names[n] = NULL;
    const char *near = text_nearest(word, names);
    if (near != NULL)
        return sc_fail(SC_USAGE, "'%s' is no verb; did you mean '%s'?", word, near);
    return sc_fail(SC_USAGE, "'%s' is no verb; 'seedcorn --help' lists them", word);
}

/* The verb named by argv[1] or argv[1] argv[2]; *used tells how many words it took. */
static sc_status find_verb(int argc, char **argv, command *c, int *used)
{
    char two[64];
    *used = 1;
    c->verb = verb_find(argv[1]);
    if (c->verb != NULL)
        return SC_OK;
    if (argc > 2 && argv[2][0] != '-') {
        snprintf(two, sizeof(two), "%.30s %.30s", argv[1], argv[2]);
        c->verb = verb_find(two);
        *used = 2;
        if (c->verb != NULL)
            return SC_OK;
    }
    size_t length = strlen(argv[1]);
    for (size_t i = 0; i < n_verbs; i++)
        if (strncmp(verbs[i]->name, argv[1], length) == 0 && verbs[i]->name[length] == ' ') {
            if (argc > 2 && argv[2][0] != '-')
                return unknown_verb(two);
            c->group = argv[1];
            *used = 1;
            return SC_OK;
        }
    return unknown_verb(argv[1]);
}

/* Flags of the terminal; true if `word` was one. */
static bool terminal_flag(command *c, const char *word)
{
    if (strcmp(word, "--json") == 0)
        c->json = true;
    else if (strcmp(word, "--quiet") == 0)
        c->quiet = true;
    else if (strcmp(word, "-v") == 0 || strcmp(word, "--verbose") == 0)
        c->verbose = true;
    else if (strcmp(word, "--no-progress") == 0)
        c->no_progress = true;
    else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        c->help = true;
    else if (strcmp(word, "--version") == 0)
        c->version = true;
    else
        return false;
    return true;
}

static sc_status set_bool(options *o, const char *name, const char *where, const char *value)
{
    return options_set(o, name, value ? value : "true", where);
}

/* One flag with its values, argv[*i] being the flag. */
static sc_status parse_flag(command *c, int argc, char **argv, int *i)
{
    char name[64];
    const char *word = argv[*i];
    const char *equals = strchr(word, '=');
    size_t length = equals ? (size_t)(equals - word - 2) : strlen(word) - 2;
    bool in_common;

    snprintf(name, sizeof(name), "%.*s", (int)(length < 60 ? length : 60), word + 2);
    const setting *s = options_find(&c->options, name, &in_common);
    if (s == NULL && strncmp(name, "no-", 3) == 0) {
        const setting *positive = options_find(&c->options, name + 3, &in_common);
        if (positive != NULL && positive->type == SETTING_BOOL && equals == NULL)
            return options_set(&c->options, name + 3, "false", word);
    }
    if (s == NULL)
        return options_set(&c->options, name, "", "command line"); /* fails, naming the nearest */
    if (s->type == SETTING_BOOL)
        return set_bool(&c->options, name, word, equals ? equals + 1 : NULL);
    if (equals != NULL)
        return options_set(&c->options, name, equals + 1, "command line");
    /* A value that begins with -- is a flag whose forerunner was left empty; --flag=--value says it. */
    if (*i + 1 >= argc || strncmp(argv[*i + 1], "--", 2) == 0)
        return sc_fail(SC_USAGE, "%s needs a value: %s (%s)", word, s->value, s->help);
    do {
        sc_status status = options_set(&c->options, name, argv[++*i], "command line");
        if (status != SC_OK)
            return status;
    } while (s->type == SETTING_LIST && *i + 1 < argc && strncmp(argv[*i + 1], "--", 2) != 0 &&
             strcmp(argv[*i + 1], "-v") != 0);
    return SC_OK;
}

/* A word without a flag: the verb's positional setting, once unless it is a list. */
static sc_status parse_word(command *c, const char *word)
{
    bool in_common;
    const char *name = c->verb->positional;
    if (word[0] == '-' && word[1] != '\0')
        return sc_fail(SC_USAGE, "'%s' is no flag of '%s'; 'seedcorn %s --help' lists them", word,
                       c->verb->name, c->verb->name);
    if (name == NULL || (options_is_given(&c->options, name) &&
                         options_find(&c->options, name, &in_common)->type != SETTING_LIST))
        return sc_fail(SC_USAGE, "'%s' stands alone; 'seedcorn %s --help' lists the flags", word,
                       c->verb->name);
    return options_set(&c->options, name, word, "command line");
}

sc_status command_parse(int argc, char **argv, command *out)
{
    sc_status status = SC_OK;
    int i = 1, used = 0;

    memset(out, 0, sizeof(*out));
    while (i < argc && terminal_flag(out, argv[i]))
        i++;
    if (i >= argc) {
        out->help = !out->version;
        return SC_OK;
    }
    SC_TRY(find_verb(argc - i + 1, argv + i - 1, out, &used));
    if (out->verb == NULL) {
        for (i++; i < argc; i++)
            terminal_flag(out, argv[i]);
        if (!out->help && !out->version)
            return sc_fail(SC_USAGE, "'%s' is several verbs; 'seedcorn %s --help' lists them", out->group,
                           out->group);
        return SC_OK;
    }
    SC_TRY(options_create(out->verb, &out->options));
    for (i += used; i < argc; i++) {
        if (terminal_flag(out, argv[i]))
            continue;
        if (strncmp(argv[i], "--", 2) == 0 && argv[i][2] != '\0')
            SC_TRY(parse_flag(out, argc, argv, &i));
        else
            SC_TRY(parse_word(out, argv[i]));
    }
    if (!out->help && !out->version)
        SC_TRY(options_check(&out->options));
cleanup:
    if (status != SC_OK)
        command_free(out);
    return status;
}

void command_free(command *c)
{
    options_free(&c->options);
}
