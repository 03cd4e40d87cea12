/* The offline teacher over a whole selection: groups of 64 seeds, each journaled whole. The words
 * of a group are collected and its answers ranked by all threads; the requests are written one after
 * the other in between, since each must begin unlike those before it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "synthesis/offline.h"
#include "synthesis/run.h"

enum { GROUP = 64 };

typedef struct seed_slot {
    material material;
    sc_status status;
    char reason[512];
} seed_slot;

typedef struct draft_slot {
    offline_draft draft;
    sc_status status;
    char reason[512];
} draft_slot;

/* The message of the last failure lives in its thread: keep it with the row. */
static void keep_reason(sc_status status, char reason[512])
{
    if (status != SC_OK)
        snprintf(reason, 512, "%s", sc_last_error());
}

/* A row that cannot be used fails alone; want of memory ends the run. */
static bool ends_run(sc_status status)
{
    return status != SC_OK && status != SC_BAD_INPUT;
}

static int default_threads(void)
{
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

static void request_key(const synthesis_run *run, int64_t row, int64_t j, char hex[65])
{
    char text[160];
    int n = snprintf(text, sizeof text, "%s/%lld/%lld", run->fingerprint, (long long)row, (long long)j);
    sha256_hex(text, (size_t)n, hex);
}

/* A line of the group's record: 'd' and the dialogue, or 'f' and {"id","row","reason"}. */
static sc_status add_done(const synthesis_run *run, const seed_slot *s, const draft_slot *d, const char *id,
                          int64_t j, strbuf *out)
{
    sc_status status = SC_OK;
    json_t *line = NULL;
    char key[65];
    request_key(run, s->material.row, j, key);
    SC_TRY(offline_line(&run->context, &s->material, &d->draft, id, key, &line));
    char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(line);
    if (text == NULL)
        return sc_fail(SC_MEMORY, "memory does not suffice for a dialogue");
    strbuf_putc(out, 'd');
    strbuf_puts(out, text);
    strbuf_putc(out, '\n');
    free(text);
    status = strbuf_status(out);
cleanup:
    return status;
}

static sc_status add_failed(const char *id, int64_t row, const char *reason, strbuf *out)
{
    json_t *line =
        json_pack("{s:s, s:I, s:o}", "id", id, "row", (json_int_t)row, "reason", json_text(reason));
    char *text = line != NULL ? json_dumps(line, JSON_COMPACT) : NULL;
    json_decref(line);
    if (text == NULL)
        return sc_fail(SC_MEMORY, "memory does not suffice for a line of failed.jsonl");
    strbuf_putc(out, 'f');
    strbuf_puts(out, text);
    strbuf_putc(out, '\n');
    free(text);
    return strbuf_status(out);
}

static sc_status make_group(synthesis_run *run, size_t first, size_t n, beginnings *before, strbuf *out)
{
    sc_status status = SC_OK;
    const synthesis_context *c = &run->context;
    int64_t per_seed = c->per_seed;
    seed_slot *seeds = NULL;
    draft_slot *drafts = NULL;
    int threads = run->options->common.threads > 0 ? (int)run->options->common.threads : default_threads();
    (void)threads; /* without OpenMP */
    SC_TRY(sc_alloc(&seeds, n, sizeof *seeds));
    SC_TRY(sc_alloc(&drafts, n * (size_t)per_seed, sizeof *drafts));
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (size_t i = 0; i < n; i++) {
        seeds[i].status = material_collect(c, run->rows[first + i], &seeds[i].material);
        keep_reason(seeds[i].status, seeds[i].reason);
    }
    for (size_t i = 0; i < n; i++)
        for (int64_t j = 0; j < per_seed; j++) {
            draft_slot *d = &drafts[i * (size_t)per_seed + (size_t)j];
            d->status = seeds[i].status;
            if (d->status == SC_OK) {
                d->status = offline_write(c, &seeds[i].material, j, before, &d->draft);
                if (d->status == SC_OK)
                    d->status = beginnings_add(before, d->draft.request);
                keep_reason(d->status, d->reason);
            } else {
                memcpy(d->reason, seeds[i].reason, sizeof d->reason);
            }
        }
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (size_t k = 0; k < n * (size_t)per_seed; k++)
        if (drafts[k].status == SC_OK) {
            drafts[k].status = offline_answer(c, &seeds[k / (size_t)per_seed].material, &drafts[k].draft);
            keep_reason(drafts[k].status, drafts[k].reason);
        }
    for (size_t k = 0; k < n * (size_t)per_seed; k++) {
        size_t i = k / (size_t)per_seed;
        int64_t j = (int64_t)(k % (size_t)per_seed);
        char id[40];
        run_dialogue_id((int64_t)(first + i), j, id);
        if (ends_run(drafts[k].status)) {
            status = sc_fail(drafts[k].status, "%s", drafts[k].reason);
            goto cleanup;
        }
        SC_TRY(drafts[k].status == SC_OK ? add_done(run, &seeds[i], &drafts[k], id, j, out)
                                         : add_failed(id, run->rows[first + i], drafts[k].reason, out));
    }
cleanup:
    for (size_t k = 0; drafts != NULL && k < n * (size_t)per_seed; k++)
        offline_draft_free(&drafts[k].draft);
    for (size_t i = 0; seeds != NULL && i < n; i++)
        material_free(&seeds[i].material);
    free(seeds);
    free(drafts);
    return status;
}

/* Sends the lines of a group on; from the journal, their beginnings are taken note of too. */
static sc_status emit_group(synthesis_run *run, const char *text, size_t n, beginnings *before)
{
    sc_status status = SC_OK;
    json_t *line = NULL;
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        if (end == NULL)
            return sc_fail(SC_BAD_INPUT,
                           "the journal in %s holds a group that is cut short; delete journal.log",
                           run->options->out);
        size_t length = (size_t)(end - (text + at));
        const char *body = text + at + 1;
        if (length < 2 || (text[at] != 'd' && text[at] != 'f'))
            return sc_fail(SC_BAD_INPUT, "the journal in %s holds an unknown line; delete journal.log",
                           run->options->out);
        if (text[at] == 'f' || before != NULL)
            SC_TRY(json_parse(body, length - 1, "journal.log", &line));
        if (text[at] == 'd') {
            if (before != NULL) {
                const char *request = NULL;
                SC_TRY(json_need_string(line, "request", "journal.log", &request));
                SC_TRY(beginnings_add(before, request));
            }
            SC_TRY(run_emit_text(run, body, length - 1));
        } else {
            const char *id = NULL, *reason = NULL;
            int64_t row = 0;
            SC_TRY(json_need_string(line, "id", "journal.log", &id));
            SC_TRY(json_need_string(line, "reason", "journal.log", &reason));
            SC_TRY(json_need_int(line, "row", "journal.log", &row));
            if (row < 0 || (size_t)row >= run->context.data->n_reviews)
                return sc_fail(SC_BAD_INPUT,
                               "the journal in %s names a row that is not there; delete journal.log",
                               run->options->out);
            SC_TRY(run_fail(run, id, row, reason));
        }
        json_decref(line);
        line = NULL;
        at += length + 1;
    }
cleanup:
    json_decref(line);
    return status;
}

sc_status offline_run(synthesis_run *run)
{
    sc_status status = SC_OK;
    beginnings before = {0};
    strbuf text = {0};
    for (size_t first = 0; first < run->n_rows; first += GROUP) {
        SC_TRY(check_cancelled());
        size_t n = run->n_rows - first < GROUP ? run->n_rows - first : GROUP;
        int64_t dialogues = (int64_t)n * run->context.per_seed;
        char key[128];
        snprintf(key, sizeof key, "offline/%s/%zu", run->fingerprint, first / GROUP);
        size_t size = 0;
        const char *done = journal_find(run->journal, key, &size);
        if (done != NULL) {
            SC_TRY(emit_group(run, done, size, &before));
            run->result->n_reused += dialogues;
            progress_skip(run->progress, dialogues);
            continue;
        }
        strbuf_clear(&text);
        SC_TRY(make_group(run, first, n, &before, &text));
        SC_TRY(journal_put(run->journal, key, strbuf_text(&text), text.len));
        SC_TRY(emit_group(run, strbuf_text(&text), text.len, NULL));
        run->result->n_requests += dialogues;
        progress_add(run->progress, dialogues);
    }
cleanup:
    beginnings_free(&before);
    strbuf_free(&text);
    return status;
}
