/* OUT/events.jsonl: every step once, and every validation, appended as they happen. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "train/trainer.h"

/* A run that goes on repeats steps behind its checkpoint, and perhaps a validation: their lines go, and a torn last one
 * with them. */
static bool is_done(const json_t *event, const checkpoint_state *s)
{
    const int64_t step = json_integer_value(json_object_get(event, "step"));
    const bool validation = json_object_get(event, "validation_loss") != NULL;
    return event != NULL && step <= (validation ? s->validated_step : s->step);
}

static sc_status keep_lines(const char *path, const checkpoint_state *s)
{
    sc_status status = SC_OK;
    strbuf all = {0}, kept = {0};
    if (!file_exists(path))
        return SC_OK;
    SC_TRY(file_read_all(path, &all));
    for (const char *line = strbuf_text(&all); *line != '\0';) {
        const char *end = strchr(line, '\n');
        if (end == NULL)
            break;
        json_t *event = json_loadb(line, (size_t)(end - line), 0, NULL);
        if (is_done(event, s))
            strbuf_append(&kept, line, (size_t)(end - line) + 1);
        json_decref(event);
        line = end + 1;
    }
    SC_TRY(strbuf_status(&kept));
    if (kept.len != all.len)
        SC_TRY(file_write_all(path, strbuf_text(&kept), kept.len));
cleanup:
    strbuf_free(&all);
    strbuf_free(&kept);
    return status;
}

sc_status train_events_open(trainer *t)
{
    sc_status status = SC_OK;
    const bool anew = t->state.step == 0;
    char *path = path_join(t->o->out, "events.jsonl");
    if (path == NULL)
        return sc_fail(SC_MEMORY, "memory does not suffice");
    if (!anew)
        SC_TRY(keep_lines(path, &t->state));
    t->events = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_APPEND | (anew ? O_TRUNC : 0), 0644);
    if (t->events < 0)
        SC_TRY(sc_fail_errno(SC_IO, "cannot write %s", path));
cleanup:
    free(path);
    return status;
}

static sc_status write_line(const trainer *t, json_t *event)
{
    char *text = event ? json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    sc_status status = SC_OK;
    if (text == NULL) {
        status = sc_fail(SC_MEMORY, "memory does not suffice for an event");
    } else {
        const size_t n = strlen(text);
        text[n] = '\n';
        for (size_t done = 0; done <= n && status == SC_OK;) {
            const ssize_t some = write(t->events, text + done, n + 1 - done);
            if (some >= 0)
                done += (size_t)some;
            else if (errno != EINTR)
                status = sc_fail_errno(SC_IO, "cannot write %s/events.jsonl", t->o->out);
        }
    }
    json_decref(event);
    free(text);
    return status;
}

sc_status train_event_step(const trainer *t, int64_t step, const step_report *r)
{
    const double gflops = r->operations / r->seconds * 1e-9;
    return write_line(
        t, json_pack("{s:I,s:I,s:f,s:f,s:f,s:I,s:I,s:f,s:f,s:f,s:f}", "step", (json_int_t)step + 1, "epoch",
                     (json_int_t)(step / t->steps_per_epoch), "loss", r->loss, "norm", r->norm, "lr", r->rate,
                     "tokens", (json_int_t)r->tokens, "supervised", (json_int_t)r->supervised, "seconds",
                     r->seconds, "tokens_per_second", (double)r->tokens / r->seconds, "gflops", gflops,
                     "share_of_peak", t->peak_gflops > 0 ? gflops / t->peak_gflops : 0.0));
}

sc_status train_event_validation(const trainer *t, int64_t step, double loss, double seconds)
{
    return write_line(t, json_pack("{s:I,s:f,s:f,s:b}", "step", (json_int_t)step, "validation_loss", loss,
                                   "seconds", seconds, "best", step > 0 && t->state.best_step == step));
}
