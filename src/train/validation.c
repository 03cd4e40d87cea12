/* The loss on what is held back: forward passes alone, every supervised token weighing the same. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "train/trainer.h"

sc_status train_validate(trainer *t, double *loss)
{
    sc_status status = SC_OK;
    const example_set *held = &t->held;
    size_t n_batches = 0, at = 0;
    double sum = 0;
    int64_t supervised = 0;

    memcpy(t->step_rows, held->list, (size_t)held->n * sizeof(*t->step_rows));
    SC_TRY(train_pack_rows(t, held->rows, (size_t)held->n, &n_batches));
    for (size_t b = 0; b < n_batches; b++) {
        double part = 0;
        SC_TRY(check_cancelled());
        SC_TRY(train_batch_build(held->rows, t->step_rows + at, t->ends[b] - at, &t->batch));
        SC_TRY(sc_grow(&t->losses, &t->cap_losses, (size_t)t->batch.n_supervised, sizeof(*t->losses)));
        SC_TRY(model_loss(t->model, &t->batch.batch, t->batch.targets, &part, t->losses));
        for (int64_t i = 0, k = 0; !isfinite(part) && i < t->batch.batch.n_seqs; i++) {
            const int64_t row = t->step_rows[at + (size_t)i];
            for (int64_t s = 0; s < held->rows->supervised[row]; s++)
                if (!isfinite(t->losses[k++]))
                    SC_TRY(sc_fail(SC_BAD_INPUT,
                                   "the validation loss of dialogue '%s' is not a number at step %lld; the "
                                   "last checkpoint is kept: lower --lr, and start again with --resume never",
                                   held->dialogues->rows[row].id, (long long)t->state.step));
        }
        sum += part;
        supervised += t->batch.n_supervised;
        at = t->ends[b];
    }
    *loss = sum / (double)supervised;
cleanup:
    return status;
}
