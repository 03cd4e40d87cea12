/* A streaming reader of delimited files: RFC 4180 with a quote character, or plain columns (TSV)
 * without. Reads plain, .gz and .zst files in constant memory. */
#ifndef SC_DATA_CSV_H
#define SC_DATA_CSV_H

#include "base/file.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct csv_reader csv_reader;

typedef struct csv_options {
    char delimiter;    /* ',' or '\t' */
    bool quoted;       /* "a ""b"", c" is one field; false: a quote is a character like any other */
    size_t max_record; /* bytes of one record at most; it bounds what an unbalanced quote can take */
} csv_options;

/* Reads the header row as well: names must be distinct (empty ones excepted) and present. */
sc_status csv_open(const char *path, csv_options options, csv_reader **out);
/* The column of that name, -1 if there is none. */
int csv_column(const csv_reader *r, const char *name);
/* The same, but a missing column is an error that lists those of the file. */
sc_status csv_need_column(const csv_reader *r, const char *name, int *column);
/* The next record: as many fields as the header has, terminated, valid until the next call;
 * *fields = NULL at the end. Blank lines are skipped. A quote left open, text behind a closing quote,
 * a quote inside an unquoted field, another number of fields and zero bytes are errors. */
sc_status csv_next(csv_reader *r, const char *const **fields);
/* "file.csv:12": where the record given last begins. */
const char *csv_where(const csv_reader *r);
uint64_t csv_consumed(const csv_reader *r);
uint64_t csv_size(const csv_reader *r);
void csv_close(csv_reader *r); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
