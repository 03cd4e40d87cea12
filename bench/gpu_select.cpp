// Selection on a card, piece by piece, as scripts/gpu-bench runs it; bench/gpu_select.py is the peer's side, and makes
// the table of both. Every command prints JSON, one object a line; --device cpu tries it where there is no card.
//
//   gpu_select rows FILE --rows N --dim D       writes clustered rows of length 1, the same ones every time
//   gpu_select kernels FILE                     every operation of the table that selection uses, by the card's own clock
//   gpu_select select FILE --strategy S --budget T [--write-p P.npy]   one selection, rows and clusters at hand
//   gpu_select kmeans FILE --iterations I       Lloyd's iterations from the rows 0, n / K, 2 n / K ...

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "gpu_select.h"

extern "C" {
#include "select/clustering.h"
#include "select/strategy.h"
}

namespace
{

Options parse(int argc, char **argv)
{
    Options o;
    const std::map<std::string, std::string *> texts = {
        {"--device", &o.device}, {"--strategy", &o.strategy}, {"--write-p", &o.write_p}};
    const std::map<std::string, int64_t *> numbers = {{"--rows", &o.rows},
                                                      {"--dim", &o.dim},
                                                      {"--budget", &o.budget},
                                                      {"--clusters", &o.clusters},
                                                      {"--iterations", &o.iterations},
                                                      {"--centres", &o.centres}};
    const char usage[] =
        "gpu_select rows|kernels|select|kmeans FILE.npy [--device cuda] [--rows N] [--dim D] "
        "[--strategy fisher|js|kcenter] [--budget T] [--clusters K] [--iterations I] "
        "[--centres C] [--write-p P.npy]";
    std::vector<std::string> words;
    for (int i = 1; i < argc; i++) {
        const std::string word = argv[i];
        if (word == "--help") {
            std::printf("%s\n", usage);
            std::exit(0);
        }
        if (word.rfind("--", 0) != 0) {
            words.push_back(word);
            continue;
        }
        if (i + 1 == argc || (!texts.count(word) && !numbers.count(word)))
            fail(2, word + " is unknown or has no value; usage: " + usage);
        const char *value = argv[++i];
        char *end = nullptr;
        if (texts.count(word)) {
            *texts.at(word) = value;
        } else if ((*numbers.at(word) = std::strtoll(value, &end, 10)) < 1 || *end) {
            fail(2, word + " is " + value + "; it must be a whole number above 0");
        }
    }
    if (words.size() != 2)
        fail(2, std::string("usage: ") + usage);
    o.command = words[0];
    o.file = words[1];
    return o;
}

// --- rows ------------------------------------------------------------------------------------------------------

void to_length_one(float *row, int64_t dim)
{
    double sum = 0;
    for (int64_t d = 0; d < dim; d++)
        sum += static_cast<double>(row[d]) * static_cast<double>(row[d]);
    const float scale = static_cast<float>(1 / std::sqrt(sum));
    for (int64_t d = 0; d < dim; d++)
        row[d] *= scale;
}

// A centre of length 1, and noise of length 0.5; then the row is brought to length 1.
void write_rows(const Options &o)
{
    enum { BLOCK = 8192 };
    const int64_t shape[] = {o.rows, o.dim}, dim = o.dim;
    const uint64_t noise = uint64_t{1} << 62;
    const float spread = static_cast<float>(0.5 / std::sqrt(static_cast<double>(dim)));
    std::vector<float> centres(static_cast<size_t>(o.centres * dim)), block(static_cast<size_t>(BLOCK * dim));
    npy_writer *writer = nullptr;
    for (int64_t c = 0; c < o.centres; c++) {
        for (int64_t d = 0; d < dim; d++)
            centres[c * dim + d] = nearly_normal(static_cast<uint64_t>(c * dim + d));
        to_length_one(&centres[c * dim], dim);
    }
    const double start = seconds_now();
    ok(npy_writer_open(o.file.c_str(), NPY_F4, 2, shape, &writer));
    for (int64_t at = 0; at < o.rows; at += BLOCK) {
        const int64_t n = std::min<int64_t>(BLOCK, o.rows - at);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++) {
            const uint64_t row = static_cast<uint64_t>(at + i);
            const float *centre = &centres[static_cast<int64_t>(mix(~row) % o.centres) * dim];
            float *out = &block[i * dim];
            for (int64_t d = 0; d < dim; d++)
                out[d] = centre[d] + spread * nearly_normal(noise + row * static_cast<uint64_t>(dim) +
                                                            static_cast<uint64_t>(d));
            to_length_one(out, dim);
        }
        ok(npy_writer_rows(writer, block.data(), n));
    }
    ok(npy_writer_commit(&writer));
    Line("rows")
        .number("rows", static_cast<double>(o.rows))
        .number("dim", static_cast<double>(dim))
        .number("centres", static_cast<double>(o.centres))
        .number("seconds", seconds_now() - start);
}

// --- select -----------------------------------------------------------------------------------------------------

// What a selection that is cut off has come to: a line every two seconds.
struct Partial {
    const Bench *bench;
    std::string part;
    double last;
};

void show_progress(void *user, const sc_progress *p)
{
    Partial *partial = static_cast<Partial *>(user);
    if (std::strcmp(p->unit, "picks") != 0 || p->finished || p->seconds < partial->last + 2)
        return;
    partial->last = p->seconds;
    Line line(partial->part.c_str());
    line.raw("partial", "true").number("picks", static_cast<double>(p->done)).number("seconds", p->seconds);
    partial->bench->describe(line);
}

sc_status run_strategy(const Bench &b, const strategy *s, clustering &clusters, int64_t n, int64_t budget,
                       std::vector<selection_pick> &picks)
{
    limits open = {};
    selection_task task = {};
    int64_t made = 0;
    picks.assign(static_cast<size_t>(budget), {});
    ok(limits_open(&open, n, nullptr, nullptr, 0));
    task.device = b.dev;
    task.x = b.x;
    task.n = n;
    task.dim = b.dim;
    task.budget = budget;
    task.p = clusters.distributions.p;
    task.distributions = &clusters.distributions;
    task.entropy = clusters.entropy;
    task.labels = clusters.kmeans.labels;
    task.k = clusters.kmeans.k;
    task.alpha = 0.5;
    task.lambda = 1;
    task.neighbours = 64;
    task.limits = &open;
    const sc_status status = s->run(&task, picks.data(), &made);
    limits_close(&open);
    picks.resize(static_cast<size_t>(made));
    return status;
}

// The objective after 1, 2, 5, 10, 20, 50 ... picks and after the last.
std::string objectives(const std::vector<selection_pick> &picks)
{
    std::string out = "{";
    for (size_t decade = 1; decade <= picks.size(); decade *= 10)
        for (size_t mark : {decade, 2 * decade, 5 * decade})
            if (mark <= picks.size()) {
                char item[80];
                std::snprintf(item, sizeof item, "%s\"%zu\": %.12g", out.size() > 1 ? ", " : "", mark,
                              picks[mark - 1].objective);
                out += item;
            }
    return out + "}";
}

void bench_select(const Options &o)
{
    const Bench b(o);
    const strategy *chosen = nullptr;
    clustering clusters = {};
    centred rows = {};
    std::vector<selection_pick> picks;
    double centre_seconds = 0, cluster_seconds = 0;
    ok(strategy_find(o.strategy.c_str(), &chosen));
    if (chosen->needs & ~static_cast<unsigned>(NEEDS_CLUSTERS))
        fail(2, "the strategy \"" + o.strategy + "\" needs more than rows");
    if (o.budget > b.n)
        fail(2, "--budget is above the number of rows");
    if (chosen->needs & NEEDS_CLUSTERS) {
        clustering_options options = {};
        options.k = o.clusters;
        options.temperature = 1;
        double start = seconds_now();
        ok(features_centre(b.x, b.n, b.dim, &rows));
        centre_seconds = seconds_now() - start;
        start = seconds_now();
        ok(clustering_make(b.dev, &rows, &options, &clusters));
        cluster_seconds = seconds_now() - start;
        if (!o.write_p.empty()) {
            const int64_t shape[] = {b.n, clusters.kmeans.k};
            if (!clusters.distributions.p)
                fail(11, "the distributions are more than an eighth of the memory that is free");
            ok(npy_write(o.write_p.c_str(), NPY_F8, 2, shape, clusters.distributions.p));
        }
    }
    /* The first launches load the kernels. */
    const int64_t few = std::min<int64_t>(b.n, 4096);
    ok(run_strategy(b, chosen, clusters, few, std::min<int64_t>(few, 32), picks));
    Partial partial = {&b, o.strategy, 0};
    sc_progress_set(show_progress, &partial);
    const double start = seconds_now();
    ok(run_strategy(b, chosen, clusters, b.n, o.budget, picks));
    const double seconds = seconds_now() - start;
    sc_progress_set(nullptr, nullptr);
    if (picks.empty())
        fail(70, "the selection is empty");
    {
        Line line(o.strategy.c_str());
        line.number("picks", static_cast<double>(picks.size()))
            .number("seconds", seconds)
            .number("objective", picks.back().objective)
            .raw("objective_at", objectives(picks));
        if (clusters.kmeans.k > 0)
            line.number("clusters", static_cast<double>(clusters.kmeans.k))
                .number("centre_seconds", centre_seconds)
                .number("cluster_seconds", cluster_seconds)
                .number("cluster_iterations", static_cast<double>(clusters.kmeans.iterations));
        b.describe(line);
    }
    clustering_free(&clusters);
    centred_free(&rows);
}

// --- k-means ------------------------------------------------------------------------------------------------------

void bench_kmeans(const Options &o)
{
    const Bench b(o);
    const int64_t k = std::min(o.clusters, b.n);
    centred rows = {};
    device_rows x = {};
    kmeans_result result = {};
    kmeans_options options = {};
    std::vector<float> centres(static_cast<size_t>(k * b.dim));
    double seconds = 0;
    ok(features_centre(b.x, b.n, b.dim, &rows));
    for (int64_t j = 0; j < k; j++)
        centred_fill(&rows, j * (b.n / k), 1, &centres[j * b.dim]);
    ok(kmeans_rows_open(b.table, &rows, k, &x));
    ok(b.table->synchronise(nullptr));
    options.k = k;
    options.centres = centres.data();
    for (int64_t limit : {int64_t{1}, o.iterations}) { /* the first loads the kernels */
        options.max_iterations = limit;
        const double start = seconds_now();
        ok(kmeans(&x, &options, &result));
        seconds = seconds_now() - start;
        if (limit == o.iterations) {
            Line line("kmeans");
            line.number("clusters", static_cast<double>(k))
                .number("iterations", static_cast<double>(result.iterations))
                .number("seconds", seconds)
                .number("ms_per_iteration", seconds * 1e3 / static_cast<double>(result.iterations))
                .number("inertia", result.inertia / (rows.scale * rows.scale));
            b.describe(line);
        }
        kmeans_free(&result);
    }
    rows_close(&x);
    centred_free(&rows);
}

} // namespace

int main(int argc, char **argv)
{
    const Options o = parse(argc, argv);
    if (o.command == "rows")
        write_rows(o);
    else if (o.command == "kernels")
        bench_kernels(o);
    else if (o.command == "select")
        bench_select(o);
    else if (o.command == "kmeans")
        bench_kmeans(o);
    else
        fail(2, "\"" + o.command + "\" is no command; there are: rows, kernels, select, kmeans");
    return 0;
}
