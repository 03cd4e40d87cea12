/* Turns the reviews of a dataset folder (`seedcorn import reviews` makes one) into vectors by a language model's hidden
 * states, and says how far the first review is from the others:
 *
 *     cc embed.c $(pkg-config --cflags --libs seedcorn) -lm -o embed
 *     ./embed DATASET ~/.cache/seedcorn/smollm2-135m-instruct embeddings.npy
 *
 * embeddings.npy is numpy's format: float32, behind a header that ends at a multiple of 64 bytes. */
#include <inttypes.h>
#include <math.h>
#include <seedcorn/seedcorn.h>
#include <stdio.h>
#include <stdlib.h>

static void show(void *user, const sc_progress *p)
{
    (void)user;
    fprintf(stderr, "\r%" PRId64 " of %" PRId64 " %s, %.0f a second%s", p->done, p->total, p->unit, p->rate,
            p->finished ? "\n" : "");
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: embed DATASET MODEL OUT.npy\n");
        return SC_USAGE;
    }
    sc_embed_options options = sc_embed_default();
    options.data = argv[1];
    options.model = argv[2];
    options.out = argv[3];
    options.normalize = "unit";
    sc_embed_result result;
    sc_progress_set(show, NULL);
    const sc_status status = sc_embed(&options, &result);
    if (status != SC_OK) {
        fprintf(stderr, "embed: %s\n", sc_last_error());
        return status;
    }
    const size_t dim = (size_t)result.dim, n = (size_t)result.n_rows;
    float *x = malloc(n * dim * sizeof *x);
    FILE *file = fopen(argv[3], "rb");
    if (!x || !file || fseek(file, -(long)(n * dim * sizeof *x), SEEK_END) != 0 ||
        fread(x, sizeof *x, n * dim, file) != n * dim) {
        fprintf(stderr, "embed: %s cannot be read back\n", argv[3]);
        return SC_IO;
    }
    for (size_t i = 1; i < n; i++) {
        float cosine = 0;
        for (size_t d = 0; d < dim; d++)
            cosine += x[d] * x[i * dim + d];
        printf("%zu\t%.6f\n", i, (double)cosine);
    }
    fclose(file);
    free(x);
    return SC_OK;
}
