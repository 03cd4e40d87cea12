/* A log of records: 8 bytes "SCRECS1\n", then per record u32 length, u64 XXH64 of the payload seeded
 * by the length, and the payload (little-endian). Appended to in place, so it survives a kill at any byte: the
 * next opening cuts a torn tail off. Payloads are, by custom, msgpack maps (below). */
#ifndef SC_FORMATS_RECORDS_H
#define SC_FORMATS_RECORDS_H

#include "base/file.h"

#define RECORDS_MAX_PAYLOAD (64u << 20)

/* For appending: created if absent; a torn tail (an incomplete last record) is cut off and
 * `dropped` (may be NULL) tells its bytes. Damage that whole records follow is SC_BAD_INPUT, named
 * by its offset, and nothing is changed. One writer at a time: SC_BUSY while another has it open. */
typedef struct record_log record_log;
sc_status record_log_open(const char *path, uint64_t *dropped, record_log **out);
/* The record is in the file when this returns (one write call), and on the disk if `sync`.
 * A failed append is taken back (truncated), so that the log stays whole. */
sc_status record_log_append(record_log *log, const void *payload, size_t n, bool sync);
sc_status record_log_sync(record_log *log);
uint64_t record_log_count(const record_log *log); /* whole records in the file */
uint64_t record_log_size(const record_log *log);  /* bytes of the file */
void record_log_close(record_log *log);           /* NULL is fine */

/* Reading; a torn tail ends the reading as if it were not there (record_reader_torn tells its bytes).
 * The payload is valid until the reader is closed. */
typedef struct record_reader record_reader;
sc_status record_reader_open(const char *path, record_reader **out);
/* *payload = NULL at the end. `offset` (may be NULL): where the record starts. */
sc_status record_reader_next(record_reader *r, const uint8_t **payload, size_t *n, uint64_t *offset);
uint64_t record_reader_torn(const record_reader *r);
void record_reader_close(record_reader *r); /* NULL is fine */

/* Packing a map: begin with the number of pairs, then exactly so many record_pack_* calls. Faults
 * (memory, a wrong number of pairs) are kept for record_pack_end. */
typedef struct record_pack {
    void *buffer; /* msgpack_sbuffer */
    size_t planned, done;
    bool failed;
} record_pack;
void record_pack_begin(record_pack *p, size_t n_pairs);
void record_pack_string(record_pack *p, const char *key, const char *text); /* NULL becomes nil */
void record_pack_text(record_pack *p, const char *key, const char *text, size_t n);
void record_pack_int(record_pack *p, const char *key, int64_t value);
void record_pack_number(record_pack *p, const char *key, double value);
void record_pack_bool(record_pack *p, const char *key, bool value);
void record_pack_bytes(record_pack *p, const char *key, const void *bytes, size_t n);
/* The packed bytes, valid until record_pack_free. */
sc_status record_pack_end(record_pack *p, const void **bytes, size_t *n);
void record_pack_free(record_pack *p); /* {0} is fine */

/* Unpacking a flat map with string keys. Sizes and depth are checked before anything is allocated;
 * duplicate keys, a nested value, or bytes after the map are SC_BAD_INPUT ("WHERE: ..."). */
typedef enum record_kind {
    RECORD_NIL = 0,
    RECORD_STRING,
    RECORD_INT,
    RECORD_NUMBER,
    RECORD_BOOL,
    RECORD_BYTES
} record_kind;
typedef struct record_field {
    const char *key;
    record_kind kind;
    const char *bytes; /* STRING (valid UTF-8, terminated) and BYTES */
    size_t n;
    int64_t i;     /* INT, BOOL */
    double number; /* NUMBER, INT */
} record_field;
typedef struct record_map {
    record_field *fields;
    size_t n_fields;
    char *storage;
    char *where;
} record_map;
sc_status record_unpack(const void *payload, size_t n, const char *where, record_map *out);
/* Every record of a log, unpacked, in order; map->where is "PATH, record at byte N". Ends where `take` fails. */
sc_status record_each(const char *path, sc_status (*take)(void *context, const record_map *map),
                      void *context);
void record_map_free(record_map *map);                                   /* {0} is fine */
const record_field *record_find(const record_map *map, const char *key); /* NULL if there is none */
/* A missing or nil field is an error in need_*, the fallback in get_*; a wrong kind an error in both. */
sc_status record_need_string(const record_map *map, const char *key, const char **out);
sc_status record_get_string(const record_map *map, const char *key, const char *fallback, const char **out);
sc_status record_need_int(const record_map *map, const char *key, int64_t *out);
sc_status record_get_int(const record_map *map, const char *key, int64_t fallback, int64_t *out);
sc_status record_get_number(const record_map *map, const char *key, double fallback, double *out);
sc_status record_get_bool(const record_map *map, const char *key, bool fallback, bool *out);
sc_status record_need_bytes(const record_map *map, const char *key, const void **out, size_t *n);

#endif
