/* NumPy .npy files: read in place by mmap, written as a stream of rows.
 * Format: numpy/lib/format.py, versions 1.0 to 3.0. Here: little-endian f4, f8, i4, i8 in C order,
 * one to three dimensions (embeddings [n][dim], interactions [n][3], ...). */
#ifndef SC_FORMATS_NPY_H
#define SC_FORMATS_NPY_H

#include "base/file.h"

#define NPY_MAX_DIMS 3

typedef enum npy_type { NPY_F4 = 0, NPY_F8 = 1, NPY_I4 = 2, NPY_I8 = 3 } npy_type;
size_t npy_type_size(npy_type type);
const char *npy_type_name(npy_type type); /* "float32", "float64", "int32", "int64" */

typedef struct npy_file {
    npy_type type;
    int n_dims;                  /* 1..3 */
    int64_t shape[NPY_MAX_DIMS]; /* axes beyond n_dims are 1, so shape[0] rows of shape[1]*shape[2] values */
    int64_t n_values;
    const void *data; /* [n_values], aligned for its type, valid until npy_close */
    file_map map;
    void *copy; /* the data again, where the file holds it at an odd address */
} npy_file;

/* SC_BAD_INPUT with a sentence for what is not such a file, is cut short or has bytes left over. */
sc_status npy_open(const char *path, npy_file *out);
/* The same, and refuses another type than `type` or another number of axes than `n_dims`. */
sc_status npy_open_as(const char *path, npy_type type, int n_dims, npy_file *out);
void npy_close(npy_file *file); /* {0} is fine */

/* Rows in order of the first axis. shape[0] = -1: as many as come, filled in at the commit; else the
 * commit checks that exactly shape[0] rows came. Atomic (base/file.h). */
typedef struct npy_writer npy_writer;
sc_status npy_writer_open(const char *path, npy_type type, int n_dims, const int64_t *shape,
                          npy_writer **out);
sc_status npy_writer_rows(npy_writer *w, const void *rows, int64_t n_rows);
sc_status npy_writer_commit(npy_writer **pointer); /* closes in every case; *pointer becomes NULL */
void npy_writer_discard(npy_writer **pointer);     /* fine with NULL */
/* All at once. */
sc_status npy_write(const char *path, npy_type type, int n_dims, const int64_t *shape, const void *data);

#endif
