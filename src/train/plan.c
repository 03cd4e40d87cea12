/* The memory of a run before its start: model_memory_plan's arrays, what the process has already, and whether it
 * fits; where it does not, what would. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "train/trainer.h"

enum { MAX_ARRAYS = 16, MAX_WAYS = 5 };

typedef struct array {
    const char *name;
    int64_t bytes;
} array;

typedef struct memory_plan {
    memory_task task;
    model_memory of;
    array arrays[MAX_ARRAYS];
    size_t n;
    int64_t bytes;     /* of the process at its peak */
    int64_t needed;    /* of these, not held yet */
    int64_t available; /* -1: not known */
} memory_plan;

lora_options train_adapter_options(const sc_train_options *o)
{
    return (lora_options){.rank = (int32_t)o->rank,
                          .alpha = o->alpha,
                          .dropout = o->dropout,
                          .targets = o->targets,
                          .seed = (uint64_t)o->common.seed,
                          .rslora = o->rslora,
                          .dora = o->dora};
}

static void add(memory_plan *p, const char *name, int64_t bytes)
{
    if (bytes > 0)
        p->arrays[p->n++] = (array){name, bytes};
    p->bytes += bytes;
}

/* A checkpoint is written through a copy of its largest tensor; the adapter is one. */
static int64_t checkpoint_bytes(const trainer *t, const model_memory *of, bool full)
{
    const model *m = t->model;
    int64_t most = full ? 0 : of->n_trained;
    for (int64_t i = 0; full && i < m->n_parameters; i++) {
        const int64_t n = m->parameters[i].rows * m->parameters[i].cols;
        most = n > most ? n : most;
    }
    return most * (int64_t)sizeof(float);
}

/* The plan of these options, which need not be the run's own. */
static sc_status make(trainer *t, const sc_train_options *o, memory_plan *p)
{
    sc_status status = SC_OK;
    trainer other = *t;
    other.o = o;
    memset(p, 0, sizeof *p);
    p->task.full = strcmp(o->method, "full") == 0;
    p->task.init_adapter = o->init_adapter;
    p->task.adapter = train_adapter_options(o);
    t->model->recompute = o->recompute;
    SC_TRY(train_largest_batch(&other, &p->task));
    SC_TRY(model_memory_plan(t->model, &p->task, &p->of));
    const model_memory *of = &p->of;
    const int64_t present = memory_resident();
    add(p, "program, tokenizer, dialogues", present);
    add(p, "weights, mapped from their file", of->mapped);
    add(p, "weights", of->weights);
    add(p, "adapter", of->adapter);
    add(p, "gradients", of->gradients);
    add(p, "moments", of->moments);
    add(p, "float masters", of->masters);
    add(p, "activations", of->activations);
    add(p, "gradients of activations", of->activation_gradients);
    add(p, "scratch of operations", of->scratch);
    add(p, "loss, logits of a chunk", of->head);
    add(p, "batch", of->batch);
    add(p, "a checkpoint's copy", checkpoint_bytes(t, of, p->task.full));
    p->needed = p->bytes - present;
    p->available = memory_available();
    if (!device_on_host(t->device)) {
        size_t left = 0, all = 0;
        SC_TRY(t->device->ops->memory_left(&left, &all));
        p->needed -= checkpoint_bytes(t, of, p->task.full); /* which is the host's */
        p->available = (int64_t)left;
    }
cleanup:
    t->model->recompute = t->o->recompute;
    return status;
}

static bool fits(const memory_plan *p)
{
    return p->available < 0 || p->needed <= p->available;
}

/* Settings that make it smaller, one at a time and together. One that cannot be planned is no way out. */
typedef struct way {
    char settings[64];
    memory_plan plan;
} way;

enum { RECOMPUTE = 1, ONE_ROW = 2, ADAPTER = 4 };

static size_t find_ways(trainer *t, const memory_plan *now, way ways[MAX_WAYS])
{
    static const int known[MAX_WAYS] = {RECOMPUTE, ONE_ROW, RECOMPUTE | ONE_ROW, ADAPTER,
                                        ADAPTER | RECOMPUTE | ONE_ROW};
    const int left =
        (t->o->recompute ? 0 : RECOMPUTE) | (t->o->micro_batch == 1 ? 0 : ONE_ROW) | (t->full ? ADAPTER : 0);
    size_t n = 0;
    for (size_t i = 0; i < MAX_WAYS; i++) {
        const int parts = known[i] & left;
        bool again = parts == 0;
        for (size_t k = 0; k < i; k++)
            again = again || (known[k] & left) == parts;
        if (again)
            continue;
        sc_train_options o = *t->o;
        o.recompute = o.recompute || (parts & RECOMPUTE);
        o.micro_batch = parts & ONE_ROW ? 1 : o.micro_batch;
        o.method = parts & ADAPTER ? "lora" : o.method;
        const char *const words[] = {parts & ADAPTER ? "--method lora" : "",
                                     parts & RECOMPUTE ? "--recompute" : "",
                                     parts & ONE_ROW ? "--micro-batch 1" : ""};
        size_t length = 0;
        for (size_t k = 0; k < 3; k++)
            length += (size_t)snprintf(ways[n].settings + length, sizeof ways[n].settings - length, "%s%s",
                                       length > 0 && *words[k] ? " " : "", words[k]);
        if (make(t, &o, &ways[n].plan) == SC_OK && ways[n].plan.bytes < now->bytes)
            n++;
    }
    return n;
}

static sc_status refuse(trainer *t, const memory_plan *p)
{
    sc_status status = SC_OK;
    strbuf arrays = {0}, help = {0};
    way ways[MAX_WAYS];
    const size_t n = find_ways(t, p, ways);
    for (size_t i = 0; i < p->n; i++)
        strbuf_printf(&arrays, "%s%s %.3f", i ? ", " : "", p->arrays[i].name,
                      (double)p->arrays[i].bytes * 1e-9);
    for (size_t i = 0; i < n; i++)
        strbuf_printf(&help, "%s%s takes %.3f%s", i ? ", " : "", ways[i].settings,
                      (double)ways[i].plan.bytes * 1e-9, fits(&ways[i].plan) ? " and fits" : "");
    SC_TRY(strbuf_status(&arrays));
    SC_TRY(strbuf_status(&help));
    status =
        sc_fail(SC_MEMORY, "training would take %.3f GB, %.3f more than now, and %.3f GB are free (%s): %s",
                (double)p->bytes * 1e-9, (double)p->needed * 1e-9, (double)p->available * 1e-9,
                strbuf_text(&arrays), help.len ? strbuf_text(&help) : "lower --max-tokens or --rank");
cleanup:
    strbuf_free(&arrays);
    strbuf_free(&help);
    return status;
}

sc_status train_check_memory(trainer *t)
{
    memory_plan p;
    sc_status status = make(t, t->o, &p);
    if (status != SC_OK)
        return status;
    log_info("memory: %.2f GB at its peak (weights %.2f, gradients and optimizer %.2f, activations %.2f for "
             "%lld tokens)",
             (double)p.bytes * 1e-9, (double)(p.of.mapped + p.of.weights) * 1e-9,
             (double)(p.of.gradients + p.of.moments + p.of.masters) * 1e-9,
             (double)(p.of.activations + p.of.activation_gradients) * 1e-9,
             (long long)p.task.training.n_tokens);
    return fits(&p) ? SC_OK : refuse(t, &p);
}

static json_t *memory_json(const memory_plan *p)
{
    json_t *arrays = json_array();
    for (size_t i = 0; i < p->n; i++)
        json_array_append_new(arrays, json_pack("{s:s,s:I}", "name", p->arrays[i].name, "bytes",
                                                (json_int_t)p->arrays[i].bytes));
    return json_pack("{s:o,s:I,s:I,s:o,s:b}", "arrays", arrays, "bytes", (json_int_t)p->bytes, "needed_bytes",
                     (json_int_t)p->needed, "free_bytes",
                     p->available < 0 ? json_null() : json_integer(p->available), "fits", fits(p));
}

static json_t *writes_json(const trainer *t)
{
    static const char *const adapter[] = {"adapter_model.safetensors", "adapter_config.json", NULL};
    static const char *const whole[] = {"model.safetensors", "config.json", NULL};
    static const char *const shards[] = {"model-*-of-*.safetensors", "model.safetensors.index.json",
                                         "config.json", NULL};
    static const char *const both[] = {"training.json", "events.jsonl", NULL};
    const bool several =
        t->full && model_saves_shards(t->model, model_file_dtype(t->model), t->o->shard_bytes);
    const char *const *const lists[] = {several ? shards : t->full ? whole : adapter, both};
    json_t *out = json_array();
    for (size_t l = 0; l < 2; l++)
        for (const char *const *name = lists[l]; *name != NULL; name++)
            json_array_append_new(out, json_sprintf("%s/%s", t->o->out, *name));
    return out;
}

sc_status train_plan_json(trainer *t, json_t **plan)
{
    sc_status status = SC_OK;
    memory_plan p;
    way ways[MAX_WAYS];
    size_t n = 0;
    json_t *list = NULL;
    int64_t tokens = 0, supervised = 0;
    SC_TRY(make(t, t->o, &p));
    n = find_ways(t, &p, ways);
    list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:s,s:I,s:b}", "settings", ways[i].settings, "bytes",
                                              (json_int_t)ways[i].plan.bytes, "fits", fits(&ways[i].plan)));
    for (int64_t i = 0; i < t->training.n; i++) {
        const int64_t row = t->training.list[i];
        tokens += t->training.rows->offsets[row + 1] - t->training.rows->offsets[row];
        supervised += t->training.rows->supervised[row];
    }
    *plan = json_pack(
        "{s:b,s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:{s:I,s:I,s:I,s:I},s:o,s:O,s:o}", "dry_run", 1,
        "verb", "train", "method", t->o->method, "dtype", t->device->dtype == DTYPE_BF16 ? "bf16" : "fp32",
        "device", t->device->name, "examples", (json_int_t)t->training.n, "held_back", (json_int_t)t->held.n,
        "cut", (json_int_t)t->rows.n_cut + (json_int_t)t->held_rows.n_cut, "tokens", (json_int_t)tokens,
        "supervised", (json_int_t)supervised, "trained_values", (json_int_t)p.of.n_trained, "steps",
        (json_int_t)t->n_steps, "warmup_steps", (json_int_t)t->warmup_steps, "largest_batch", "tokens",
        (json_int_t)p.task.training.n_tokens, "rows", (json_int_t)p.task.training.n_seqs, "supervised",
        (json_int_t)p.task.training.n_supervised, "longest", (json_int_t)p.task.training.longest, "memory",
        memory_json(&p), "ways", list, "writes", writes_json(t));
    if (*plan == NULL)
        SC_TRY(sc_fail(SC_MEMORY, "memory does not suffice for a plan"));
cleanup:
    json_decref(list);
    return status;
}
