/* Fine-tunes a model on dialogues with LoRA and writes an adapter that PEFT reads, too:
 *
 *     cc train.c $(pkg-config --cflags --libs seedcorn) -o train
 *     ./train ~/.cache/seedcorn/smollm2-135m-instruct dialogues.jsonl adapter
 *
 * Ctrl-C finishes the step and saves; the same command then goes on where it stopped. */
#include <inttypes.h>
#include <seedcorn/seedcorn.h>
#include <signal.h>
#include <stdio.h>

static void stop(int number)
{
    (void)number;
    sc_cancel();
}

static void say(void *user, sc_log_level level, const char *message)
{
    (void)user;
    (void)level;
    fprintf(stderr, "%s\n", message);
}

static void show(void *user, const sc_progress *p)
{
    (void)user;
    fprintf(stderr, "\r%3.0f %%  %s\033[K%s", 100.0 * (double)p->done / (double)(p->total ? p->total : 1),
            p->note, p->finished ? "\n" : "");
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: train MODEL DIALOGUES.jsonl OUT\n");
        return SC_USAGE;
    }
    sc_train_options options = sc_train_default();
    options.model = argv[1];
    options.dialogues = argv[2];
    options.out = argv[3];
    options.validation_share = 0.1;
    options.patience = 2;

    sc_log_set(say, NULL, SC_LOG_INFO);
    sc_progress_set(show, NULL);
    signal(SIGINT, stop);
    sc_train_result r;
    const sc_status status = sc_train(&options, &r);
    if (status != SC_OK)
        fprintf(stderr, "train: %s\n", sc_last_error());
    else
        printf("%" PRId64 " steps, loss %.4f to %.4f, the best on %" PRId64
               " dialogues held back %.4f after step %" PRId64 "\n",
               r.n_steps, r.first_loss, r.last_loss, r.n_validation, r.best_loss, r.best_step);
    return status;
}
