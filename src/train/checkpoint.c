/* Masters and moments as safetensors, the rest as JSON. */
#include "train/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "formats/safetensors.h"

static const char *const kinds[3] = {"master", "m", "v"};

static float *part(const train_tensor *t, int kind)
{
    return kind == 0 ? t->master : kind == 1 ? t->m : t->v;
}

static sc_status write_tensors(const char *folder, const model *m, const train_weights *w)
{
    sc_status status = SC_OK;
    const ops *table = m->device->ops;
    size_t n = 3 * w->n;
    st_plan *plan = NULL;
    char(*names)[128] = NULL;
    float *host = NULL;
    safetensors_writer *writer = NULL;
    int64_t largest = 0;
    char *path = path_join(folder, "state.safetensors");

    if (path == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice for a checkpoint"));
    SC_TRY(sc_alloc(&plan, n, sizeof(*plan)));
    SC_TRY(sc_alloc(&names, n, sizeof(*names)));
    for (size_t i = 0; i < n; i++) {
        const train_tensor *t = &w->tensors[i / 3];
        snprintf(names[i], sizeof(names[i]), "%s.%s", kinds[i % 3], t->name);
        plan[i] = (st_plan){.name = names[i], .type = ST_F32, .n_dims = 1, .shape = {t->n}};
        largest = t->n > largest ? t->n : largest;
    }
    SC_TRY(sc_alloc(&host, (size_t)largest, sizeof(*host)));
    SC_TRY(safetensors_writer_open(path, plan, n, 0, &writer));
    for (size_t i = 0; i < n; i++) {
        const train_tensor *t = &w->tensors[i / 3];
        size_t bytes = (size_t)t->n * sizeof(float);
        SC_TRY(table->download(NULL, host, part(t, (int)(i % 3)), bytes));
        SC_TRY(table->synchronise(NULL));
        SC_TRY(safetensors_writer_data(writer, host, bytes));
    }
    SC_TRY(safetensors_writer_commit(&writer));
cleanup:
    safetensors_writer_discard(&writer);
    free(host);
    free(names);
    free(plan);
    free(path);
    return status;
}

static sc_status write_state(const char *folder, const checkpoint_state *s, const json_t *settings)
{
    char *path = path_join(folder, "state.json");
    json_t *state =
        json_pack("{s:I,s:f,s:f,s:I,s:I,s:I,s:f,s:I,s:I,s:O}", "step", (json_int_t)s->step, "first_loss",
                  s->first_loss, "last_loss", s->last_loss, "tokens", (json_int_t)s->n_tokens, "supervised",
                  (json_int_t)s->n_supervised, "best_step", (json_int_t)s->best_step, "best_loss",
                  s->best_loss, "worse", (json_int_t)s->n_worse, "validated_step",
                  (json_int_t)s->validated_step, "settings", settings);
    sc_status status = path != NULL && state != NULL
                           ? json_write_file(path, state)
                           : sc_fail(SC_MEMORY, "memory does not suffice for a checkpoint");
    json_decref(state);
    free(path);
    return status;
}

/* "step-12" gives 12; -1 for anything else, unfinished checkpoints among them. */
static int64_t step_of(const char *name)
{
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9')
        return -1;
    char *end;
    long long step = strtoll(name + 5, &end, 10);
    return *end == '\0' ? step : -1;
}

/* The newest step under `folder` that is below `limit`, -1 if there is none. */
static int64_t newest_below(const char *folder, int64_t limit)
{
    int64_t best = -1;
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return -1;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        int64_t step = step_of(e->d_name);
        best = step > best && step < limit ? step : best;
    }
    closedir(dir);
    return best;
}

static int64_t newest(const char *folder)
{
    return newest_below(folder, INT64_MAX);
}

/* Removes everything but the last `keep` checkpoints and that of step `best`. */
static void prune(const char *folder, int64_t keep, int64_t best)
{
    int64_t oldest = newest(folder);
    for (int64_t i = 1; i < keep; i++) {
        const int64_t before = newest_below(folder, oldest);
        if (before < 0)
            break;
        oldest = before;
    }
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        const int64_t step = step_of(e->d_name);
        if (e->d_name[0] == '.' || step >= oldest || (step > 0 && step == best))
            continue;
        char *path = path_join(folder, e->d_name);
        if (path != NULL && file_remove_tree(path) != SC_OK)
            log_warn("an old checkpoint stays behind: %s", sc_last_error());
        free(path);
    }
    closedir(dir);
}

static sc_status sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return sc_fail_errno(SC_IO, "cannot open the folder %s", path);
    int failed = fsync(fd);
    close(fd);
    return failed ? sc_fail_errno(SC_IO, "cannot sync the folder %s", path) : SC_OK;
}

static void remove_quietly(const char *path)
{
    char sentence[2048];
    snprintf(sentence, sizeof(sentence), "%s", sc_last_error());
    if (file_remove_tree(path) != SC_OK)
        sc_fail(SC_IO, "%s", sentence);
}

sc_status checkpoint_save(const char *out, const model *m, const train_weights *w,
                          const checkpoint_state *state, const json_t *settings, int64_t keep)
{
    sc_status status = SC_OK;
    char name[64];
    char *folder = path_join(out, "checkpoints"), *unfinished = NULL, *finished = NULL;

    if (folder == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice for a checkpoint"));
    snprintf(name, sizeof(name), "step-%lld", (long long)state->step);
    finished = path_join(folder, name);
    unfinished = path_join(folder, "unfinished");
    if (finished == NULL || unfinished == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice for a checkpoint"));
    if (newest(folder) == state->step)
        goto cleanup;
    SC_TRY(file_remove_tree(unfinished));
    SC_TRY(file_make_dirs(unfinished));
    SC_TRY(write_tensors(unfinished, m, w));
    SC_TRY(write_state(unfinished, state, settings));
    if (rename(unfinished, finished) != 0)
        SC_TRY(sc_fail_errno(SC_IO, "cannot rename %s", unfinished));
    SC_TRY(sync_folder(folder));
    prune(folder, keep, state->best_step);
cleanup:
    /* A disk that is full wants its space back; the first sentence stays the one that counts. */
    if (status != SC_OK && unfinished != NULL)
        remove_quietly(unfinished);
    free(folder);
    free(unfinished);
    free(finished);
    return status;
}

static sc_status read_tensors(const char *folder, model *m, train_weights *w)
{
    sc_status status = SC_OK;
    const ops *table = m->device->ops;
    safetensors *file = NULL;
    char *path = path_join(folder, "state.safetensors");

    if (path == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice for a checkpoint"));
    SC_TRY(safetensors_open(path, &file));
    for (size_t i = 0; i < 3 * w->n; i++) {
        train_tensor *t = &w->tensors[i / 3];
        const st_tensor *found = NULL;
        char name[128];
        snprintf(name, sizeof(name), "%s.%s", kinds[i % 3], t->name);
        SC_TRY(safetensors_need(file, name, &found));
        if (found->type != ST_F32 || found->n_values != t->n)
            SC_TRY(sc_fail(SC_BAD_INPUT, "%s: %s has another shape than the model; use --resume never", path,
                           name));
        SC_TRY(table->upload(NULL, part(t, (int)(i % 3)), found->data, found->n_bytes));
    }
    SC_TRY(table->synchronise(NULL));
    for (size_t i = 0; i < w->n; i++)
        if (w->tensors[i].weights_bf16 != NULL)
            SC_TRY(table->cast(NULL, w->tensors[i].weights_bf16, DTYPE_BF16, w->tensors[i].master, DTYPE_F32,
                               w->tensors[i].n));
    SC_TRY(table->synchronise(NULL));
    SC_TRY(model_lora_refresh(m));
cleanup:
    safetensors_close(file);
    free(path);
    return status;
}

/* What later code relies on. */
static sc_status check_state(const char *out, const char *path, int64_t step, const checkpoint_state *s)
{
    sc_status status = SC_OK;
    char name[64];
    char *best = NULL;
    snprintf(name, sizeof(name), "checkpoints/step-%lld/state.safetensors", (long long)s->best_step);
    best = path_join(out, name);
    if (best == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice for a checkpoint"));
    if (s->step != step || s->best_step < 0 || s->best_step > step || s->validated_step < 0 ||
        s->validated_step > step || s->n_worse < 0)
        SC_TRY(sc_fail(SC_BAD_INPUT, "%s is not the state of step %lld; use --resume never", path,
                       (long long)step));
    if (s->best_step > 0 && !file_exists(best))
        SC_TRY(sc_fail(SC_BAD_INPUT,
                       "%s says that step %lld was the best, and %s is absent; use --resume never", path,
                       (long long)s->best_step, best));
cleanup:
    free(best);
    return status;
}

sc_status checkpoint_load(const char *out, model *m, train_weights *w, const json_t *settings,
                          checkpoint_state *state, bool *found)
{
    sc_status status = SC_OK;
    char name[64];
    char *folder = path_join(out, "checkpoints"), *newest_folder = NULL, *path = NULL;
    json_t *saved = NULL;
    strbuf difference = {0};

    *found = false;
    if (folder == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice for a checkpoint"));
    int64_t step = newest(folder);
    if (step < 0)
        goto cleanup;
    snprintf(name, sizeof(name), "step-%lld", (long long)step);
    newest_folder = path_join(folder, name);
    path = newest_folder ? path_join(newest_folder, "state.json") : NULL;
    if (path == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice for a checkpoint"));
    SC_TRY(json_parse_file(path, &saved));
    json_differences(json_object_get(saved, "settings"), settings, &difference);
    if (difference.len > 0)
        SC_TRY(sc_fail(SC_CONFLICT,
                       "%s was made with other settings: %s; set them back, or use --resume never",
                       newest_folder, strbuf_text(&difference)));
    SC_TRY(json_need_int(saved, "step", path, &state->step));
    SC_TRY(json_need_number(saved, "first_loss", path, &state->first_loss));
    SC_TRY(json_need_number(saved, "last_loss", path, &state->last_loss));
    SC_TRY(json_need_int(saved, "tokens", path, &state->n_tokens));
    SC_TRY(json_need_int(saved, "supervised", path, &state->n_supervised));
    SC_TRY(json_need_int(saved, "best_step", path, &state->best_step));
    SC_TRY(json_need_number(saved, "best_loss", path, &state->best_loss));
    SC_TRY(json_need_int(saved, "worse", path, &state->n_worse));
    SC_TRY(json_get_int(saved, "validated_step", path, state->step, &state->validated_step));
    SC_TRY(check_state(out, path, step, state));
    SC_TRY(read_tensors(newest_folder, m, w));
    *found = true;
cleanup:
    strbuf_free(&difference);
    json_decref(saved);
    free(folder);
    free(newest_folder);
    free(path);
    return status;
}

sc_status checkpoint_load_weights(const char *out, int64_t step, model *m, train_weights *w)
{
    char name[64];
    snprintf(name, sizeof(name), "checkpoints/step-%lld", (long long)step);
    char *folder = path_join(out, name);
    sc_status status =
        folder ? read_tensors(folder, m, w) : sc_fail(SC_MEMORY, "memory does not suffice for a checkpoint");
    free(folder);
    return status;
}

/* Under another name first: one that is half removed must not be taken for a checkpoint. */
sc_status checkpoint_remove_all(const char *out)
{
    sc_status status = SC_OK;
    char *folder = path_join(out, "checkpoints"), *removed = path_join(out, "checkpoints.removed");
    if (folder == NULL || removed == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice"));
    SC_TRY(file_remove_tree(removed));
    if (rename(folder, removed) != 0 && errno != ENOENT)
        SC_TRY(sc_fail_errno(SC_IO, "cannot rename %s", folder));
    SC_TRY(file_remove_tree(removed));
cleanup:
    free(folder);
    free(removed);
    return status;
}
