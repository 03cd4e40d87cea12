/* Results on stdout: a path alone where a path is the result, a table of metrics, `key value` lines
 * otherwise. --json prints the object as it is. */
#include "cli/results.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_metrics(const json_t *result)
{
    static const char *const names[] = {"recall", "ndcg", "mrr"};
    static const char *const cut[] = {"1", "5", "10", "20"};
    printf("%-8s %15s %15s %15s %15s   (%%, +- standard error, n = %lld)\n", "", "@1", "@5", "@10", "@20",
           (long long)json_integer_value(json_object_get(result, "n")));
    for (size_t m = 0; m < 3; m++) {
        printf("%-8s", names[m]);
        for (size_t k = 0; k < 4; k++) {
            const json_t *at = json_object_get(json_object_get(result, names[m]), cut[k]);
            printf("  %6.2f +- %4.2f", 100 * json_number_value(json_object_get(at, "value")),
                   100 * json_number_value(json_object_get(at, "se")));
        }
        printf("\n");
    }
}

/* The students of a run, one a line. */
static void print_students(const json_t *rows)
{
    static const char *const cut[] = {"1", "5", "10", "20"};
    size_t i;
    const json_t *row;
    printf("%-28s %6s %14s %14s %14s %14s\n", "recall in %, +- std. error", "n", "R@1", "R@5", "R@10",
           "R@20");
    json_array_foreach(rows, i, row)
    {
        printf("%-28s %6lld", json_string_value(json_object_get(row, "name")),
               (long long)json_integer_value(json_object_get(row, "n")));
        for (size_t k = 0; k < 4; k++) {
            const json_t *at = json_object_get(json_object_get(row, "recall"), cut[k]);
            printf("  %5.2f +- %4.2f", 100 * json_number_value(json_object_get(at, "value")),
                   100 * json_number_value(json_object_get(at, "se")));
        }
        printf("\n");
    }
}

static void print_checks(const json_t *result)
{
    size_t i;
    const json_t *check;
    json_array_foreach(json_object_get(result, "checks"), i, check)
    {
        bool found = json_is_true(json_object_get(check, "found"));
        printf("%s %-22s %s\n", found ? "yes" : "no ", json_string_value(json_object_get(check, "name")),
               json_string_value(json_object_get(check, "detail")));
        if (!found)
            printf("    %s\n", json_string_value(json_object_get(check, "way_out")));
    }
}

static int64_t int_at(const json_t *object, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(object, key));
}

/* 1536 as "1.5 kB": bytes, as they are given out. */
static const char *bytes_text(int64_t bytes, char text[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double n = (double)bytes;
    int unit = 0;
    for (; n >= 1000 && unit < 4; unit++)
        n /= 1000;
    snprintf(text, 32, "%.*f %s", unit > 0 && n < 100 ? 1 : 0, n, units[unit]);
    return text;
}

static const char *seconds_text(double seconds, char text[32])
{
    snprintf(text, 32, seconds < 10 ? "%.2g s" : "%.0f s", seconds);
    return text;
}

/* The settings of one object in a line. */
static void print_pairs(const char *label, const json_t *object)
{
    const char *key, *before = "";
    json_t *value;
    printf("%-18s ", label);
    json_object_foreach((json_t *)object, key, value)
    {
        if (json_is_string(value))
            printf("%s%s %s", before, key, json_string_value(value));
        else if (json_is_integer(value))
            printf("%s%s %lld", before, key, (long long)json_integer_value(value));
        else if (json_is_real(value))
            printf("%s%s %.15g", before, key, json_real_value(value));
        else
            continue;
        before = ", ";
    }
    printf("\n");
}

/* Whether a device with memory of its own has room for all rows. */
static void print_device_rows(const json_t *memory, int64_t n)
{
    const char *how = json_string_value(json_object_get(memory, "rows_on_device"));
    char left[32], pinned[32];
    if (!how)
        return;
    bytes_text(int_at(memory, "device_free_bytes"), left);
    if (strcmp(how, "streamed") != 0) {
        printf("%-18s all rows at once: %s are free\n", "device", left);
        return;
    }
    bytes_text(int_at(memory, "pinned_bytes"), pinned);
    printf("%-18s rows are streamed, %lld of %lld at a time: %s are free; %s of memory are pinned\n",
           "device", (long long)int_at(memory, "rows_at_a_time"), (long long)n, left, pinned);
}

/* select --dry-run */
static void print_preview(const json_t *result)
{
    const json_t *memory = json_object_get(result, "memory"), *view = json_object_get(result, "view");
    const json_t *chosen = json_object_get(result, "may_be_chosen"), *entry;
    char text[32];
    size_t i;
    printf("%-18s %lld of %lld columns, on %s\n", "rows", (long long)int_at(result, "rows"),
           (long long)int_at(result, "dim"), json_string_value(json_object_get(result, "device")));
    print_pairs("view", json_object_get(view, "columns"));
    print_pairs("strategy", json_object_get(result, "strategy"));
    print_pairs("budget", json_object_get(result, "budget"));
    print_pairs("may be chosen", chosen);
    json_array_foreach(json_object_get(chosen, "caps"), i, entry) print_pairs(i == 0 ? "caps" : "", entry);
    printf("%-18s %s mapped", "memory", bytes_text(int_at(memory, "mapped_bytes"), text));
    printf(", %s beside it at most", bytes_text(int_at(memory, "bytes"), text));
    if (json_object_get(memory, "device_bytes"))
        printf(", %s on the device", bytes_text(int_at(memory, "device_bytes"), text));
    printf("\n");
    print_device_rows(memory, int_at(result, "rows"));
    json_array_foreach(json_object_get(memory, "arrays"), i, entry)
        printf("  %10s  %s%s\n", bytes_text(int_at(entry, "bytes"), text),
               json_string_value(json_object_get(entry, "name")),
               json_is_true(json_object_get(entry, "for_a_while")) ? " (for a while)" : "");
    printf("%-18s about %s by short measurements here, in sum\n", "time",
           seconds_text(json_number_value(json_object_get(result, "seconds")), text));
    json_array_foreach(json_object_get(result, "work"), i, entry)
    {
        const bool timed = json_is_real(json_object_get(entry, "seconds"));
        const double passes = json_number_value(json_object_get(entry, "passes"));
        printf("  %10s  %s",
               timed ? seconds_text(json_number_value(json_object_get(entry, "seconds")), text) : "not timed",
               json_string_value(json_object_get(entry, "name")));
        if (timed)
            printf(": %.2g operations", json_number_value(json_object_get(entry, "operations")));
        if (passes >= 1)
            printf(", the rows read %.0f times", passes);
        printf("\n");
    }
    json_array_foreach(json_object_get(result, "writes"), i, entry)
        printf("%-18s %s\n", i == 0 ? "would write" : "", json_string_value(entry));
}

/* train --dry-run */
static void print_training_plan(const json_t *result)
{
    const json_t *memory = json_object_get(result, "memory"), *entry;
    const json_t *free_bytes = json_object_get(memory, "free_bytes");
    char text[32];
    size_t i;
    printf("%-18s %lld, %lld held back, %lld cut; %lld tokens an epoch, %lld of them learnt\n", "dialogues",
           (long long)int_at(result, "examples"), (long long)int_at(result, "held_back"),
           (long long)int_at(result, "cut"), (long long)int_at(result, "tokens"),
           (long long)int_at(result, "supervised"));
    printf("%-18s %lld, the first %lld to warm up\n", "steps", (long long)int_at(result, "steps"),
           (long long)int_at(result, "warmup_steps"));
    printf("%-18s %s of %lld values in %s, on %s\n", "training",
           json_string_value(json_object_get(result, "method")), (long long)int_at(result, "trained_values"),
           json_string_value(json_object_get(result, "dtype")),
           json_string_value(json_object_get(result, "device")));
    print_pairs("largest batch", json_object_get(result, "largest_batch"));
    printf("%-18s %s at its peak", "memory", bytes_text(int_at(memory, "bytes"), text));
    printf(", %s more than now", bytes_text(int_at(memory, "needed_bytes"), text));
    if (json_is_integer(free_bytes))
        printf("; %s are free: it %s", bytes_text((int64_t)json_integer_value(free_bytes), text),
               json_is_true(json_object_get(memory, "fits")) ? "fits" : "does not fit");
    printf("\n");
    json_array_foreach(json_object_get(memory, "arrays"), i, entry)
        printf("  %10s  %s\n", bytes_text(int_at(entry, "bytes"), text),
               json_string_value(json_object_get(entry, "name")));
    json_array_foreach(json_object_get(result, "ways"), i, entry)
        printf("%-18s %10s  %s%s\n", i == 0 ? "smaller" : "", bytes_text(int_at(entry, "bytes"), text),
               json_string_value(json_object_get(entry, "settings")),
               json_is_true(json_object_get(entry, "fits")) ? "" : " (does not fit)");
    json_array_foreach(json_object_get(result, "writes"), i, entry)
        printf("%-18s %s\n", i == 0 ? "would write" : "", json_string_value(entry));
}

/* bench --profile: a family a line, with how far it is from what its operations or bytes need at least. */
static void print_profile(const json_t *result)
{
    const json_t *list = json_object_get(result, "profile"), *f;
    double total = 0;
    size_t i;
    json_array_foreach(list, i, f) total += json_number_value(json_object_get(f, "seconds"));
    printf("\n%-12s %9s %8s %9s %9s %9s %9s\n", "a repeat", "calls", "share", "ms", "floor ms", "GFLOP/s",
           "GB/s");
    json_array_foreach(list, i, f)
    {
        const double seconds = json_number_value(json_object_get(f, "seconds"));
        const double operations = json_number_value(json_object_get(f, "gflop"));
        const double bytes = json_number_value(json_object_get(f, "gigabytes"));
        printf("%-12s %9.0f %6.1f %% %9.2f", json_string_value(json_object_get(f, "family")),
               json_number_value(json_object_get(f, "calls")), 100 * seconds / total, 1e3 * seconds);
        if (bytes > 0)
            printf(" %9.2f", 1e3 * json_number_value(json_object_get(f, "floor_seconds")));
        if (operations > 0)
            printf(" %9.1f", operations / seconds);
        else if (bytes > 0)
            printf(" %9s", "");
        if (bytes > 0)
            printf(" %9.1f", bytes / seconds);
        printf("\n");
    }
}

static void print_values(const json_t *result)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)result, key, value)
    {
        if (json_is_integer(value))
            printf("%-18s %lld\n", key, (long long)json_integer_value(value));
        else if (json_is_real(value))
            printf("%-18s %.4g\n", key, json_real_value(value));
        else if (json_is_string(value))
            printf("%-18s %s\n", key, json_string_value(value));
    }
}

void result_print(const command *c, const json_t *result)
{
    if (c->json) {
        char *text = json_dumps(result, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
        if (text != NULL)
            printf("%s\n", text);
        free(text);
        return;
    }
    if (json_object_get(result, "checks") != NULL)
        print_checks(result);
    else if (json_is_true(json_object_get(result, "dry_run")) && json_object_get(result, "ways") != NULL)
        print_training_plan(result);
    else if (json_is_true(json_object_get(result, "dry_run")))
        print_preview(result);
    else if (json_array_size(json_object_get(result, "metrics")) > 0)
        print_students(json_object_get(result, "metrics"));
    else if (json_object_get(result, "recall") != NULL)
        print_metrics(result);
    else if (json_object_size(result) == 1 &&
             json_is_string(json_object_iter_value(json_object_iter((json_t *)result))))
        printf("%s\n", json_string_value(json_object_iter_value(json_object_iter((json_t *)result))));
    else if (json_object_get(result, "reply") != NULL)
        printf("%s\n", json_string_value(json_object_get(json_object_get(result, "reply"), "text")));
    else
        print_values(result);
    if (json_object_get(result, "profile") != NULL)
        print_profile(result);
}
