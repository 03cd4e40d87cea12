// Selection on a card, piece by piece, as scripts/gpu-bench runs it; bench/gpu_select.py is the peer's side, and makes
// the table of both. Every command prints JSON, one object a line; --device cpu tries it where there is no card.
//
//   gpu_select rows FILE --rows N --dim D       writes clustered rows of length 1, the same ones every time
//   gpu_select kernels FILE                     every operation of the table that selection uses, by the card's own clock
//   gpu_select select FILE --strategy S --budget T [--write-p P.npy]   one selection, rows and clusters at hand
//   gpu_select kmeans FILE --iterations I       Lloyd's iterations from the rows 0, n / K, 2 n / K ...
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

extern "C" {
#include "base/log.h"
#include "device/device.h"
#include "select/clustering.h"
#include "select/strategy.h"
}

namespace
{

[[noreturn]] void fail(int code, const std::string &sentence)
{
    std::fprintf(stderr, "gpu_select: %s\n", sentence.c_str());
    std::exit(code);
}

void ok(sc_status status)
{
    if (status != SC_OK)
        fail(static_cast<int>(status), sc_last_error());
}

struct Options {
    std::string command, file, device = "cuda", strategy = "fisher", write_p;
    int64_t rows = 1000000, dim = 2048, budget = 10000, clusters = 64, iterations = 20, centres = 1000;
};

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

// One line of JSON, written at once: what a run that is cut off has printed stays.
class Line
{
  public:
    explicit Line(const char *part)
    {
        text("part", part);
        text("side", "seedcorn");
    }
    Line &text(const char *key, const std::string &value)
    {
        std::string escaped;
        for (char c : value) {
            if (c == '"' || c == '\\')
                escaped += '\\';
            escaped += c;
        }
        return raw(key, "\"" + escaped + "\"");
    }
    Line &number(const char *key, double value)
    {
        char digits[40];
        std::snprintf(digits, sizeof digits, "%.12g", value);
        return raw(key, std::isfinite(value) ? digits : "null");
    }
    Line &raw(const char *key, const std::string &value)
    {
        line_ += (line_.empty() ? "{\"" : ", \"") + std::string(key) + "\": " + value;
        return *this;
    }
    ~Line()
    {
        std::printf("%s}\n", line_.c_str());
        std::fflush(stdout);
    }
    Line(const Line &) = delete;
    Line &operator=(const Line &) = delete;

  private:
    std::string line_;
};

// --- rows ------------------------------------------------------------------------------------------------------

// Steele, Lea and Flood 2014 (SplitMix64): a number for every place.
uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// The sum of four uniform numbers, which is normal enough here: mean 0, variance 1.
float nearly_normal(uint64_t place)
{
    const uint64_t z = mix(place);
    const uint64_t sum = (z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) + (z >> 48);
    return (static_cast<float>(sum) / 65536.0f - 2.0f) * 1.7320508f;
}

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

// --- what all other commands need ---------------------------------------------------------------------------------

struct Bench {
    explicit Bench(const Options &options) : o(options)
    {
        sc_common common = sc_common_default();
        common.device = o.device.c_str();
        common.dtype = "fp32";
        ok(device_open(&common, &dev));
        ok(npy_open_as(o.file.c_str(), NPY_F4, 2, &file));
        x = static_cast<const float *>(file.data);
        n = file.shape[0];
        dim = file.shape[1];
        table = dev->ops;
    }
    ~Bench()
    {
        npy_close(&file);
        device_close(dev);
    }
    Bench(const Bench &) = delete;
    Bench &operator=(const Bench &) = delete;
    void describe(Line &line) const
    {
        line.text("device", dev->name)
            .number("rows", static_cast<double>(n))
            .number("dim", static_cast<double>(dim));
    }

    const Options &o;
    device *dev = nullptr;
    const ops *table = nullptr;
    npy_file file = {};
    const float *x = nullptr;
    int64_t n = 0, dim = 0;
};

// --- kernels --------------------------------------------------------------------------------------------------------

// Memory of the table.
class Array
{
  public:
    Array(const ops *table, size_t bytes) : table_(table)
    {
        ok(table->alloc(&data_, bytes));
    }
    template <class T>
    Array(const ops *table, const std::vector<T> &values) : Array(table, values.size() * sizeof(T))
    {
        put(values);
    }
    ~Array()
    {
        table_->release(data_);
    }
    Array(const Array &) = delete;
    Array &operator=(const Array &) = delete;
    template <class T> T *as() const
    {
        return static_cast<T *>(data_);
    }
    template <class T> void put(const std::vector<T> &values) const
    {
        ok(table_->upload(nullptr, data_, values.data(), values.size() * sizeof(T)));
    }

  private:
    const ops *table_;
    void *data_ = nullptr;
};

// The card's own clock: events of the driver, in the order of the default stream (CUDA driver API). The CPU's table has
// done its work when a call returns.
class Clock
{
  public:
    explicit Clock(const ops *table) : table_(table)
    {
        if (std::strcmp(table->name, "cuda") != 0)
            return;
        void *driver = dlopen("libcuda.so.1", RTLD_NOW);
        if (!driver)
            fail(5, std::string("the driver cannot be opened: ") + dlerror());
        find(driver, "cuEventCreate", &create_);
        find(driver, "cuEventRecord", &record_);
        find(driver, "cuEventSynchronize", &wait_);
        find(driver, "cuEventElapsedTime", &elapsed_);
        find(driver, "cuMemcpyDtoDAsync_v2", &copy_);
        for (void *&event : events_)
            driver_ok("cuEventCreate", create_(&event, 0));
    }
    double milliseconds(const std::function<void()> &work)
    {
        if (!record_) {
            const double start = seconds_now();
            work();
            return (seconds_now() - start) * 1e3;
        }
        float ms = 0;
        driver_ok("cuEventRecord", record_(events_[0], nullptr));
        work();
        driver_ok("cuEventRecord", record_(events_[1], nullptr));
        driver_ok("cuEventSynchronize", wait_(events_[1]));
        driver_ok("cuEventElapsedTime", elapsed_(&ms, events_[0], events_[1]));
        return static_cast<double>(ms);
    }
    // From one place on the card to another.
    void copy(void *to, const void *from, size_t bytes)
    {
        if (copy_)
            driver_ok("cuMemcpyDtoDAsync", copy_(reinterpret_cast<uintptr_t>(to),
                                                 reinterpret_cast<uintptr_t>(from), bytes, nullptr));
        else
            std::memcpy(to, from, bytes);
    }

  private:
    template <class F> static void find(void *driver, const char *name, F **out)
    {
        *out = reinterpret_cast<F *>(dlsym(driver, name));
        if (!*out)
            fail(5, std::string("the driver lacks ") + name);
    }
    static void driver_ok(const char *what, int result)
    {
        if (result != 0)
            fail(5, std::string(what) + ": the driver reports error " + std::to_string(result));
    }
    const ops *table_;
    int (*create_)(void **, unsigned) = nullptr;
    int (*record_)(void *, void *) = nullptr;
    int (*wait_)(void *) = nullptr;
    int (*elapsed_)(float *, void *, void *) = nullptr;
    int (*copy_)(unsigned long long, unsigned long long, size_t, void *) = nullptr;
    void *events_[2] = {};
};

class Kernels
{
  public:
    explicit Kernels(const Bench &b) : b_(b), clock_(b.table)
    {
    }

    // Once to warm up, then until half a second is over: at least 3 times, at most 20, and once if that is slow.
    double run(
        const std::string &name, const std::string &shape, double bytes, double operations,
        const char *arithmetic, const std::function<sc_status()> &work,
        const std::function<void()> &reset = [] {})
    {
        std::vector<double> all;
        double total = 0;
        for (int i = 0; i <= 20 && (i <= 3 || total < 500); i++) {
            reset();
            ok(b_.table->synchronise(nullptr));
            const double ms = clock_.milliseconds([&] { ok(work()); });
            ok(b_.table->synchronise(nullptr));
            if (i > 0) {
                all.push_back(ms);
                total += ms;
            }
            if (i > 0 && ms > 3000)
                break;
        }
        std::sort(all.begin(), all.end());
        Line line("kernel");
        line.text("name", name)
            .text("shape", shape)
            .number("ms", all[0])
            .number("median_ms", all[all.size() / 2])
            .number("repeats", static_cast<double>(all.size()))
            .number("bytes", bytes)
            .number("operations", operations)
            .text("arithmetic", arithmetic);
        b_.describe(line);
        return all[0];
    }
    Clock &clock()
    {
        return clock_;
    }

  private:
    const Bench &b_;
    Clock clock_;
};

std::string times(int64_t a, int64_t b)
{
    return std::to_string(a) + " x " + std::to_string(b);
}

void bench_memory(const Bench &b, Kernels &k, const Array &x)
{
    const size_t all = static_cast<size_t>(b.n * b.dim) * sizeof(float);
    const size_t bytes = std::min<size_t>(all, size_t{1} << 31) / 2;
    void *const from = x.as<char>();
    const Array to(b.table, bytes);
    k.run("copy", std::to_string(bytes) + " bytes", 2.0 * static_cast<double>(bytes), 0, "", [&] {
        k.clock().copy(to.as<char>(), from, bytes);
        return SC_OK;
    });
    const size_t part = std::min<size_t>(bytes, size_t{1} << 28);
    std::vector<char> host(part);
    k.run("upload", std::to_string(part) + " bytes", static_cast<double>(part), 0, "",
          [&] { return b.table->upload(nullptr, to.as<char>(), host.data(), part); });
    k.run("download", std::to_string(part) + " bytes", static_cast<double>(part), 0, "",
          [&] { return b.table->download(nullptr, host.data(), to.as<char>(), part); });
}

void bench_gemm(const Bench &b, Kernels &k)
{
    const int64_t side = b.n >= 100000 ? 8192 : 512;
    const double operations = 2.0 * std::pow(static_cast<double>(side), 3);
    const size_t values = static_cast<size_t>(side * side);
    std::vector<float> random(values);
    std::vector<uint16_t> random16(values);
    for (size_t i = 0; i < values; i++) {
        random[i] = nearly_normal(i);
        random16[i] = f32_to_bf16(random[i]);
    }
    const Array c(b.table, values * sizeof(float));
    for (dtype type : {DTYPE_F32, DTYPE_BF16}) {
        const Array a(b.table, values * sizeof(float));
        ok(b.table->upload(nullptr, a.as<void>(),
                           type == DTYPE_F32 ? static_cast<const void *>(random.data()) : random16.data(),
                           values * dtype_size(type)));
        k.run(type == DTYPE_F32 ? "gemm fp32" : "gemm bf16", times(side, side),
              3 * static_cast<double>(values * dtype_size(type)), operations,
              type == DTYPE_F32 ? "fp32" : "bf16", [&] {
                  return b.table->gemm(nullptr, false, true, side, side, side, 1, a.as<void>(), type, side,
                                       a.as<void>(), type, side, 0, c.as<void>(), type, side);
              });
    }
}

void bench_design(const Bench &b, Kernels &k, const Array &x, const std::vector<double> &norms)
{
    enum { POOL = 1024, BLOCK = 64 };
    const int64_t n = b.n, dim = b.dim, m = std::min<int64_t>(POOL, n);
    const double nd = static_cast<double>(n) * static_cast<double>(dim), d2 = static_cast<double>(dim * dim);
    std::vector<double> gains(static_cast<size_t>(n)), identity(static_cast<size_t>(dim * dim));
    for (int64_t i = 0; i < n; i++)
        gains[i] = norms[i] * norms[i];
    for (int64_t i = 0; i < dim; i++)
        identity[i * dim + i] = 1;
    const Array d_norms(b.table, norms), d_gains(b.table, gains), a(b.table, identity);
    const Array slack(b.table, std::vector<double>(static_cast<size_t>(n)));
    std::vector<float> w32(static_cast<size_t>(BLOCK * dim));
    std::vector<double> w64(w32.size());
    for (size_t i = 0; i < w32.size(); i++)
        w64[i] = w32[i] = 0.01f * nearly_normal(i);
    const Array w(b.table, w32), w_double(b.table, w64);
    for (int64_t picks : {1, 16, 64})
        k.run("design_flush, " + std::to_string(picks) + " picks", times(n, dim), 4 * nd,
              2 * nd * static_cast<double>(picks), "3 x tf32", [&, picks] {
                  return b.table->design_flush(nullptr, d_gains.as<double>(), slack.as<double>(),
                                               d_norms.as<double>(), x.as<float>(), w.as<float>(), n, dim,
                                               picks, 1.0);
              });

    std::vector<int64_t> rows(static_cast<size_t>(m));
    for (int64_t q = 0; q < m; q++)
        rows[q] = q;
    const std::vector<double> pool_gains(gains.begin(), gains.begin() + m), none(static_cast<size_t>(m));
    const Array p_rows(b.table, rows), p_gains(b.table, pool_gains), p_slack(b.table, none),
        p_w(b.table, w64.size() * sizeof(double)), picks(b.table, BLOCK * sizeof(int64_t)),
        found(b.table, BLOCK * sizeof(double)), work(b.table, b.table->design_pool_workspace(m, dim, BLOCK));
    const int64_t most = std::min<int64_t>(BLOCK, m);
    design_pool pool = {};
    const double per_pick = 8 * d2 + 4 * static_cast<double>(m * dim);
    k.run(
        "design_pool, " + std::to_string(most) + " picks", times(m, dim),
        per_pick * static_cast<double>(most),
        static_cast<double>(most) * (16 * d2 + 2 * static_cast<double>(m * dim)), "fp64",
        [&] {
            const sc_status status = b.table->design_pool(nullptr, &pool, work.as<void>());
            if (status == SC_OK && pool.n != most)
                return sc_fail(SC_INTERNAL, "design_pool made %lld of %lld picks",
                               static_cast<long long>(pool.n), static_cast<long long>(most));
            return status;
        },
        [&] {
            pool = {};
            pool.x = x.as<float>();
            pool.rows = p_rows.as<int64_t>();
            pool.norms = d_norms.as<double>();
            pool.gains = p_gains.as<double>();
            pool.slack = p_slack.as<double>();
            pool.a = a.as<double>();
            pool.a_error = 4e-16;
            pool.tau = -INFINITY;
            pool.tau_row = -1;
            pool.m = m;
            pool.dim = dim;
            pool.most = most;
            pool.w = p_w.as<double>();
            pool.picks = picks.as<int64_t>();
            pool.found = found.as<double>();
            p_gains.put(pool_gains);
            p_slack.put(none);
        });

    k.run("rank_update, 64 rows", times(dim, dim), 16 * d2, 128 * d2, "fp64", [&] {
        return b.table->rank_update(nullptr, a.as<double>(), w_double.as<double>(), dim, BLOCK, 1e-9);
    });
    const Array l(b.table, identity.size() * sizeof(double)),
        inverse(b.table, identity.size() * sizeof(double)),
        scratch(b.table, std::max<size_t>(b.table->cholesky_inverse_workspace(dim), 1));
    bool definite = false;
    a.put(identity);
    k.run("cholesky", times(dim, dim), 16 * d2, d2 * static_cast<double>(dim) / 3, "fp64",
          [&] { return b.table->cholesky(nullptr, l.as<double>(), a.as<double>(), dim, &definite); });
    k.run("cholesky_inverse", times(dim, dim), 16 * d2, 2 * d2 * static_cast<double>(dim) / 3, "fp64", [&] {
        return b.table->cholesky_inverse(nullptr, inverse.as<double>(), l.as<double>(), dim,
                                         scratch.as<void>());
    });
    const int64_t few = std::min<int64_t>(n, 4096);
    const Array forms(b.table, static_cast<size_t>(few) * sizeof(double));
    k.run("quadratic_forms", times(few, dim), 8 * d2 + 4 * static_cast<double>(few * dim),
          2 * static_cast<double>(few) * d2, "fp64", [&] {
              return b.table->quadratic_forms(nullptr, forms.as<double>(), x.as<float>(), a.as<double>(), few,
                                              dim);
          });
}

void bench_clusters(const Bench &b, Kernels &k, const Array &x, const std::vector<double> &norms)
{
    const int64_t n = b.n, dim = b.dim, clusters = std::min(b.o.clusters, n);
    const double nd = static_cast<double>(n) * static_cast<double>(dim),
                 nk = static_cast<double>(n * clusters);
    const Array labels(b.table, static_cast<size_t>(n) * sizeof(int32_t)),
        dist2(b.table, static_cast<size_t>(n) * sizeof(float)),
        assign_work(b.table, std::max<size_t>(b.table->cluster_assign_workspace(n, clusters, dim), 1)),
        softmax_work(b.table, std::max<size_t>(b.table->cluster_softmax_workspace(n, clusters, dim), 1)),
        sums(b.table, static_cast<size_t>(clusters * dim) * sizeof(double)),
        counts(b.table, static_cast<size_t>(clusters) * sizeof(int64_t)),
        p(b.table, static_cast<size_t>(n * clusters) * sizeof(double)),
        entropy(b.table, static_cast<size_t>(n) * sizeof(double));
    for (int64_t centres : {int64_t{1}, clusters}) /* one: a step of k-means++ */
        k.run("cluster_assign, K = " + std::to_string(centres), times(n, dim), 4 * nd,
              2 * nd * static_cast<double>(centres), "3 x tf32", [&, centres] {
                  return b.table->cluster_assign(nullptr, labels.as<int32_t>(), dist2.as<float>(),
                                                 x.as<float>(), x.as<float>(), n, centres, dim,
                                                 assign_work.as<void>());
              });
    const std::string of = ", K = " + std::to_string(clusters);
    k.run("cluster_update" + of, times(n, dim), 4 * nd, nd, "fp64", [&] {
        return b.table->cluster_update(nullptr, sums.as<double>(), counts.as<int64_t>(), x.as<float>(),
                                       labels.as<int32_t>(), n, clusters, dim);
    });
    k.run("cluster_softmax" + of, times(n, dim), 4 * nd + 8 * nk, 3 * nd * static_cast<double>(clusters),
          "fp64", [&] {
              return b.table->cluster_softmax(nullptr, p.as<double>(), entropy.as<double>(), x.as<float>(),
                                              x.as<float>(), n, clusters, dim, 1, softmax_work.as<void>());
          });
    k.run("js_to_mean" + of, times(n, clusters), 8 * nk, 70 * nk, "fp64", [&] {
        return b.table->js_to_mean(nullptr, entropy.as<double>(), p.as<double>(), p.as<double>(), n,
                                   clusters);
    });

    const Array d_norms(b.table, norms), from(b.table, std::vector<int32_t>(static_cast<size_t>(n))),
        nearest(b.table, static_cast<size_t>(n) * sizeof(double));
    const std::vector<double> far(static_cast<size_t>(n), 1e300);
    const nearest_rows rows = {x.as<float>(), x.as<float>(), d_norms.as<double>()};
    const int64_t pool = std::min<int64_t>(n, 1024);
    for (const auto &[m, to] :
         {std::pair<int64_t, int64_t>{pool, 1}, {pool, pool}, {n, std::min<int64_t>(n, 64)}})
        k.run(
            "nearest_update, " + std::to_string(to) + (to == 1 ? " centre" : " centres"), times(m, dim),
            4 * static_cast<double>((m + to) * dim),
            2 * static_cast<double>(m * to) * static_cast<double>(dim), "3 x tf32",
            [&, m = m, to = to] {
                return b.table->nearest_update(nullptr, nearest.as<double>(), &rows, m, &rows,
                                               from.as<int32_t>(), to, dim);
            },
            [&] { nearest.put(far); });
}

void bench_kernels(const Options &o)
{
    const Bench b(o);
    Kernels k(b);
    const size_t bytes = static_cast<size_t>(b.n * b.dim) * sizeof(float);
    const Array x(b.table, bytes);
    std::vector<double> norms(static_cast<size_t>(b.n));
    const double start = seconds_now();
    ok(b.table->upload(nullptr, x.as<float>(), b.x, bytes));
    ok(b.table->synchronise(nullptr));
    {
        Line line("upload");
        line.number("bytes", static_cast<double>(bytes)).number("seconds", seconds_now() - start);
        b.describe(line);
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < b.n; i++) {
        double sum = 0;
        for (int64_t d = 0; d < b.dim; d++)
            sum += static_cast<double>(b.x[i * b.dim + d]) * static_cast<double>(b.x[i * b.dim + d]);
        norms[i] = std::sqrt(sum);
    }
    bench_memory(b, k, x);
    bench_design(b, k, x, norms);
    bench_clusters(b, k, x, norms);
    bench_gemm(b, k);
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

sc_status run_strategy(const Bench &b, const strategy *s, const clustering &clusters, int64_t n,
                       int64_t budget, std::vector<selection_pick> &picks)
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
    task.p = clusters.p;
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
        centred_free(&rows);
        if (!o.write_p.empty()) {
            const int64_t shape[] = {b.n, clusters.kmeans.k};
            ok(npy_write(o.write_p.c_str(), NPY_F8, 2, shape, clusters.p));
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
        if (clusters.p)
            line.number("clusters", static_cast<double>(clusters.kmeans.k))
                .number("centre_seconds", centre_seconds)
                .number("cluster_seconds", cluster_seconds)
                .number("cluster_iterations", static_cast<double>(clusters.kmeans.iterations));
        b.describe(line);
    }
    clustering_free(&clusters);
}

// --- k-means ------------------------------------------------------------------------------------------------------

void bench_kmeans(const Options &o)
{
    const Bench b(o);
    const int64_t k = std::min(o.clusters, b.n);
    centred rows = {};
    resident x = {};
    kmeans_result result = {};
    kmeans_options options = {};
    std::vector<float> centres(static_cast<size_t>(k * b.dim));
    double seconds = 0;
    ok(features_centre(b.x, b.n, b.dim, &rows));
    for (int64_t j = 0; j < k; j++)
        std::memcpy(&centres[j * b.dim], rows.x + j * (b.n / k) * b.dim,
                    static_cast<size_t>(b.dim) * sizeof(float));
    ok(resident_open(b.table, rows.x, static_cast<size_t>(b.n * b.dim) * sizeof(float), &x));
    ok(b.table->synchronise(nullptr));
    options.k = k;
    options.centres = centres.data();
    for (int64_t limit : {int64_t{1}, o.iterations}) { /* the first loads the kernels */
        options.max_iterations = limit;
        const double start = seconds_now();
        ok(kmeans(&x, b.n, b.dim, &options, &result));
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
    resident_close(&x);
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
