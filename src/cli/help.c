/* --help, generated from the table of flags. */
#include <stdio.h>
#include <string.h>

#include "cli/options.h"

static void print_setting(const setting *s, json_t *defaults)
{
    char flag[80], fallback[80] = "";
    snprintf(flag, sizeof(flag), "--%s%s%s", s->name, s->type == SETTING_BOOL ? "" : " ",
             s->type == SETTING_BOOL ? "" : s->value);
    json_t *value = json_object_get(defaults, s->name);
    if (s->required)
        snprintf(fallback, sizeof(fallback), " (required)");
    else if (json_is_string(value))
        snprintf(fallback, sizeof(fallback), " [%.60s]", json_string_value(value));
    else if (json_is_integer(value))
        snprintf(fallback, sizeof(fallback), " [%lld]", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(fallback, sizeof(fallback), " [%g]", json_real_value(value));
    else if (json_is_true(value))
        snprintf(fallback, sizeof(fallback), " [on; --no-%s]", s->name);
    printf("  %-28s %s%s%s%s%s\n", flag, s->help, s->choices ? " (" : "", s->choices ? s->choices : "",
           s->choices ? ")" : "", fallback);
}

static void print_everywhere(void)
{
    printf("\nEverywhere:\n"
           "  --json                       the result as JSON on stdout\n"
           "  --quiet, -v                  fewer or more messages\n"
           "  --no-progress                no progress on stderr\n"
           "  --help, --version\n");
}

static void print_verb(const verb *v)
{
    options defaults;
    printf("seedcorn %s: %s\n", v->name, v->summary);
    if (v->reads != NULL)
        printf("\n  reads  %s\n  writes %s\n", v->reads, v->writes);
    if (options_create(v, &defaults) != SC_OK)
        return;
    json_t *values = options_json(&defaults);
    if (v->n_settings > 0)
        printf("\nFlags [default]:\n");
    for (size_t i = 0; i < v->n_settings; i++)
        print_setting(&v->settings[i], values);
    printf("\n");
    for (size_t i = 0; i < n_common_settings; i++)
        print_setting(&common_settings[i], values);
    json_decref(values);
    options_free(&defaults);
    print_everywhere();
}

void help_print(const verb *v, const char *group)
{
    if (v != NULL) {
        print_verb(v);
        return;
    }
    if (group == NULL)
        printf("seedcorn %s: from a shop's reviews to a measured conversational recommender\n\n"
               "usage: seedcorn VERB [flags]\n\n",
               sc_version());
    for (size_t i = 0; i < n_verbs; i++)
        if (group == NULL || strncmp(verbs[i]->name, group, strlen(group)) == 0)
            printf("  %-18s %s\n", verbs[i]->name, verbs[i]->summary);
    print_everywhere();
    printf("\nExit codes: 0 done, 1 done in part, 2 usage, 3 bad input, 4 settings differ from the run to be "
           "resumed,\n"
           "5 device, 6 network or endpoint, 7 authentication, 8 budget reached, 9 quota exhausted, 10 "
           "cannot write,\n"
           "11 memory, 12 the folder is in use, 70 a bug of ours, 130/143 interrupted with everything "
           "finished kept.\n"
           "'seedcorn VERB --help' lists the flags of a verb.\n");
}
