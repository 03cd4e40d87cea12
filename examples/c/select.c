/* Chooses the rows of a file of embeddings that say most, with Seedcorn's library and nothing else:
 *
 *     cc select.c $(pkg-config --cflags --libs seedcorn) -o select
 *     ./select rows.f32 384 fisher 100
 *
 * rows.f32 is float32, row after row, without a header (numpy: x.astype("float32").tofile("rows.f32")). It is mapped,
 * not read into memory, so it may be larger than that. One line a pick: row, score, objective after the pick. */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <inttypes.h>
#include <seedcorn/seedcorn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: select ROWS.f32 DIM STRATEGY BUDGET\n");
        return SC_USAGE;
    }
    sc_selector_options options = sc_selector_default();
    options.strategy = argv[3];
    options.budget = strtoll(argv[4], NULL, 10);
    const int64_t dim = strtoll(argv[2], NULL, 10);

    struct stat file;
    const int descriptor = open(argv[1], O_RDONLY);
    if (descriptor < 0 || fstat(descriptor, &file) != 0 || dim < 1 || file.st_size < (off_t)(dim * 4)) {
        fprintf(stderr, "%s: cannot be opened, or holds not even one row of %" PRId64 "\n", argv[1], dim);
        return SC_BAD_INPUT;
    }
    const float *rows = mmap(NULL, (size_t)file.st_size, PROT_READ, MAP_SHARED, descriptor, 0);
    close(descriptor);
    const int64_t n = file.st_size / (dim * 4);
    sc_pick *picks = options.budget > 0 ? malloc((size_t)options.budget * sizeof *picks) : NULL;
    if (rows == MAP_FAILED || !picks) {
        fprintf(stderr, "%s: cannot be mapped, or the budget is none\n", argv[1]);
        return SC_USAGE;
    }

    int64_t n_picks = 0;
    const sc_status status = sc_selector_fit(&options, rows, n, dim, picks, &n_picks);
    if (status != SC_OK)
        fprintf(stderr, "select: %s\n", sc_last_error());
    for (int64_t i = 0; status == SC_OK && i < n_picks; i++)
        printf("%" PRId64 "\t%.17g\t%.17g\n", picks[i].row, picks[i].score, picks[i].objective);
    free(picks);
    munmap((void *)(uintptr_t)rows, (size_t)file.st_size);
    return status;
}
