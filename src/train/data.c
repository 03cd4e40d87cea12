/* What a run trains on and in which order. Everything follows from (settings, seed, step). */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "train/trainer.h"

static sc_status read_rows(const trainer *t, const char *path, chat_family family, dialogues *d,
                           train_rows *rows)
{
    sc_status status = SC_OK;
    const int64_t positions = t->model->config.max_positions;
    const int64_t longest = t->o->max_tokens < positions ? t->o->max_tokens : positions;
    SC_TRY(dialogues_read(path, d));
    SC_TRY(train_rows_build(t->tokenizer, family, d, longest, rows));
    if (rows->n_cut > 0)
        log_warn("%lld of %lld dialogues of %s are cut at %lld tokens", (long long)rows->n_cut,
                 (long long)rows->n, path, (long long)longest);
cleanup:
    return status;
}

static sc_status all_rows(example_set *set)
{
    set->n = set->rows->n;
    sc_status status = sc_alloc(&set->list, (size_t)set->n, sizeof(*set->list));
    for (int64_t i = 0; status == SC_OK && i < set->n; i++)
        set->list[i] = i;
    return status;
}

static sc_status count_steps(trainer *t)
{
    const sc_train_options *o = t->o;
    t->steps_per_epoch = (t->training.n + o->batch_size - 1) / o->batch_size;
    if (t->steps_per_epoch > (int64_t)UINT32_MAX / o->epochs)
        return sc_fail(SC_USAGE, "%lld epochs of %lld steps are too many: lower --epochs",
                       (long long)o->epochs, (long long)t->steps_per_epoch);
    t->n_steps = t->steps_per_epoch * o->epochs;
    t->warmup_steps = o->warmup_steps >= 0 ? o->warmup_steps : (t->n_steps + 9) / 10;
    t->validate_every = t->held.n == 0 ? 0 : o->validate_every > 0 ? o->validate_every : t->steps_per_epoch;
    t->lr = o->lr > 0 ? o->lr : t->full ? 5e-5 : 2e-4;
    return schedule_parse(o->schedule, &t->schedule);
}

sc_status train_data_open(trainer *t)
{
    sc_status status = SC_OK;
    const sc_train_options *o = t->o;
    chat_family family;

    SC_TRY(chat_family_of(o->model, &family));
    SC_TRY(read_rows(t, o->dialogues, family, &t->dialogues, &t->rows));
    t->training.rows = t->held.rows = &t->rows;
    t->training.dialogues = t->held.dialogues = &t->dialogues;
    if (o->validation != NULL) {
        SC_TRY(read_rows(t, o->validation, family, &t->held_dialogues, &t->held_rows));
        t->held.rows = &t->held_rows;
        t->held.dialogues = &t->held_dialogues;
        SC_TRY(all_rows(&t->training));
        SC_TRY(all_rows(&t->held));
    } else if (o->validation_share > 0) {
        SC_TRY(train_split(&t->dialogues, o->validation_share, (uint64_t)o->common.seed, &t->training,
                           &t->held));
    } else {
        SC_TRY(all_rows(&t->training));
    }
    const size_t rows_a_step = (size_t)(o->batch_size < t->training.n ? o->batch_size : t->training.n);
    const size_t most = rows_a_step > (size_t)t->held.n ? rows_a_step : (size_t)t->held.n;
    SC_TRY(sc_alloc(&t->order, (size_t)t->training.n, sizeof(*t->order)));
    SC_TRY(sc_alloc(&t->step_rows, most, sizeof(*t->step_rows)));
    SC_TRY(sc_alloc(&t->ends, most, sizeof(*t->ends)));
    t->order_epoch = -1;
    SC_TRY(count_steps(t));
cleanup:
    return status;
}

void train_data_close(trainer *t)
{
    train_batch_free(&t->batch);
    train_rows_free(&t->rows);
    train_rows_free(&t->held_rows);
    dialogues_free(&t->dialogues);
    dialogues_free(&t->held_dialogues);
    free(t->training.list);
    free(t->held.list);
    free(t->losses);
    free(t->order);
    free(t->step_rows);
    free(t->ends);
}

/* The rows of an epoch in their order. */
void train_order_rows(trainer *t, int64_t epoch)
{
    if (t->order_epoch == epoch)
        return;
    memcpy(t->order, t->training.list, (size_t)t->training.n * sizeof(*t->order));
    if (t->o->shuffle) {
        random_stream r = random_at((uint64_t)t->o->common.seed, RANDOM_SHUFFLE, (uint64_t)epoch, 0);
        random_shuffle(&r, t->order, (size_t)t->training.n);
    }
    t->order_epoch = epoch;
}

sc_status train_pack_rows(const trainer *t, const train_rows *rows, size_t n, size_t *n_batches)
{
    const size_t micro = (size_t)t->o->micro_batch;
    if (micro == 0)
        return train_pack_best_fit(rows, t->step_rows, n, AUTO_BATCH_TOKENS, t->ends, n_batches);
    *n_batches = 0;
    for (size_t at = 0; at < n; at += micro)
        t->ends[(*n_batches)++] = at + micro < n ? at + micro : n;
    return SC_OK;
}

static int descending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* The sum of the `n` largest. */
static int64_t sum_of_largest(int64_t *values, int64_t count, int64_t n)
{
    int64_t sum = 0;
    qsort(values, (size_t)count, sizeof *values, descending);
    for (int64_t i = 0; i < n && i < count; i++)
        sum += values[i];
    return sum;
}

static void consider(const trainer *t, const example_set *set, int64_t rows, int64_t *scratch,
                     memory_batch *batch)
{
    const train_rows *r = set->rows;
    int64_t longest = 0;
    double densest = 0;
    rows = rows < set->n ? rows : set->n;
    for (int64_t i = 0; i < set->n; i++) {
        const int64_t row = set->list[i], n = r->offsets[row + 1] - r->offsets[row];
        const double density = (double)r->supervised[row] / (double)n;
        scratch[i] = n;
        longest = n > longest ? n : longest;
        densest = density > densest ? density : densest;
    }
    int64_t tokens = sum_of_largest(scratch, set->n, rows);
    const int64_t limit = longest > AUTO_BATCH_TOKENS ? longest : AUTO_BATCH_TOKENS;
    if (t->o->micro_batch == 0 && tokens > limit)
        tokens = limit;
    for (int64_t i = 0; i < set->n; i++)
        scratch[i] = r->supervised[set->list[i]];
    int64_t supervised = sum_of_largest(scratch, set->n, rows);
    if ((double)supervised > densest * (double)tokens)
        supervised = (int64_t)(densest * (double)tokens) + 1;
    *batch = (memory_batch){tokens, rows, longest, supervised};
}

/* Bounds that every order of the rows keeps. */
sc_status train_largest_batch(const trainer *t, memory_task *task)
{
    sc_status status = SC_OK;
    int64_t *scratch = NULL;
    const int64_t rows = t->o->micro_batch > 0 ? t->o->micro_batch : t->o->batch_size;
    SC_TRY(
        sc_alloc(&scratch, (size_t)(t->training.n > t->held.n ? t->training.n : t->held.n), sizeof *scratch));
    consider(t, &t->training, rows, scratch, &task->training);
    /* a validation batch holds as many rows as a training batch, or as many as fit */
    if (t->held.n > 0)
        consider(t, &t->held, t->o->micro_batch > 0 ? rows : t->held.n, scratch, &task->validation);
cleanup:
    free(scratch);
    return status;
}
