/* Rows of a data set that a file names. */
#ifndef SC_SELECT_NAMED_ROWS_H
#define SC_SELECT_NAMED_ROWS_H

#include "data/dataset.h"
#include "data/ids.h"

/* The rows whose review ids stand in the file, in its order: one id a line, or selections (objects with
 * "review_id"). `ids` has the id of every review in its row's place. SC_BAD_INPUT, with file:line: an id that the
 * data set does not have, or that stands there twice. */
sc_status named_rows_read(const char *path, const char *data, const id_table *ids, int64_t **rows,
                          int64_t *n);
sc_status named_rows_index(const dataset *data, id_table *ids);

#endif
