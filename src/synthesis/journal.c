/* The journal: a record log (formats/records.h) of {"key", "value"} maps, with a hash table over it. */
#include "synthesis/journal.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "formats/records.h"

typedef struct entry {
    char *key, *value;
    size_t n;
} entry;

struct journal {
    record_log *log;
    entry *table; /* open addressing; key NULL: free */
    size_t count, cap;
};

static size_t slot_of(const journal *j, const char *key)
{
    uint64_t h = 1469598103934665603u;
    for (const char *p = key; *p != '\0'; p++)
        h = (h ^ (unsigned char)*p) * 1099511628211u;
    size_t i = (size_t)h & (j->cap - 1);
    while (j->table[i].key != NULL && strcmp(j->table[i].key, key) != 0)
        i = (i + 1) & (j->cap - 1);
    return i;
}

static sc_status remember(journal *j, const char *key, const char *text, size_t n)
{
    sc_status status = SC_OK;
    char *key_copy = NULL, *value = NULL;
    if (2 * (j->count + 1) > j->cap) {
        journal wider = {.cap = j->cap > 0 ? 2 * j->cap : 256};
        SC_TRY(sc_alloc(&wider.table, wider.cap, sizeof *wider.table));
        for (size_t i = 0; i < j->cap; i++)
            if (j->table[i].key != NULL)
                wider.table[slot_of(&wider, j->table[i].key)] = j->table[i];
        free(j->table);
        j->table = wider.table;
        j->cap = wider.cap;
    }
    SC_TRY(sc_strdup(&key_copy, key));
    SC_TRY(sc_alloc(&value, n + 1, 1));
    memcpy(value, text, n);
    entry *e = &j->table[slot_of(j, key)];
    if (e->key == NULL) {
        j->count++;
    } else {
        free(e->key);
        free(e->value);
    }
    *e = (entry){key_copy, value, n};
    key_copy = value = NULL;
cleanup:
    free(key_copy);
    free(value);
    return status;
}

static sc_status take_record(void *context, const record_map *map)
{
    sc_status status = SC_OK;
    const char *key = NULL;
    const void *value = NULL;
    size_t n = 0;
    SC_TRY(record_need_string(map, "key", &key));
    SC_TRY(record_need_bytes(map, "value", &value, &n));
    SC_TRY(remember(context, key, value, n));
cleanup:
    return status;
}

sc_status journal_open(const char *path, journal **out)
{
    sc_status status = SC_OK;
    journal *j = NULL;
    uint64_t dropped = 0;
    *out = NULL;
    SC_TRY(sc_alloc(&j, 1, sizeof *j));
    SC_TRY(record_log_open(path, &dropped, &j->log));
    if (dropped > 0)
        log_warn("%s: the last record was cut short by an earlier stop; its %llu bytes are dropped and the "
                 "work is redone",
                 path, (unsigned long long)dropped);
    if (record_log_count(j->log) > 0)
        SC_TRY(record_each(path, take_record, j));
    *out = j;
    j = NULL;
cleanup:
    journal_close(j);
    return status;
}

const char *journal_find(const journal *j, const char *key, size_t *n)
{
    if (j->cap == 0)
        return NULL;
    const entry *e = &j->table[slot_of(j, key)];
    if (e->key == NULL)
        return NULL;
    if (n != NULL)
        *n = e->n;
    return e->value;
}

sc_status journal_put(journal *j, const char *key, const char *text, size_t n)
{
    sc_status status = SC_OK;
    record_pack pack = {0};
    const void *bytes = NULL;
    size_t size = 0;
    record_pack_begin(&pack, 2);
    record_pack_string(&pack, "key", key);
    record_pack_bytes(&pack, "value", text, n);
    SC_TRY(record_pack_end(&pack, &bytes, &size));
    SC_TRY(record_log_append(j->log, bytes, size, true));
    SC_TRY(remember(j, key, text, n));
cleanup:
    record_pack_free(&pack);
    return status;
}

sc_status journal_each(const journal *j,
                       sc_status (*each)(const char *key, const char *text, size_t n, void *user), void *user)
{
    sc_status status = SC_OK;
    for (size_t i = 0; i < j->cap && status == SC_OK; i++)
        if (j->table[i].key != NULL)
            status = each(j->table[i].key, j->table[i].value, j->table[i].n, user);
    return status;
}

size_t journal_count(const journal *j)
{
    return j->count;
}

void journal_close(journal *j)
{
    if (j == NULL)
        return;
    record_log_close(j->log);
    for (size_t i = 0; i < j->cap; i++) {
        free(j->table[i].key);
        free(j->table[i].value);
    }
    free(j->table);
    free(j);
}
