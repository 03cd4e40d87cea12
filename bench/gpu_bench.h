// What the programs that measure on a card share: lines of JSON, random numbers, memory of a table, the card's clock.
#ifndef SC_BENCH_GPU_BENCH_H
#define SC_BENCH_GPU_BENCH_H

#include <dlfcn.h>
#include <errno.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

extern "C" {
#include "base/log.h"
#include "device/device.h"
}

[[noreturn]] inline void fail(int code, const std::string &sentence)
{
    std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, sentence.c_str());
    std::exit(code);
}

inline void ok(sc_status status)
{
    if (status != SC_OK)
        fail(static_cast<int>(status), sc_last_error());
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

// Steele, Lea and Flood 2014 (SplitMix64): a number for every place.
inline uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// The sum of four uniform numbers, which is normal enough here: mean 0, variance 1.
inline float nearly_normal(uint64_t place)
{
    const uint64_t z = mix(place);
    const uint64_t sum = (z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) + (z >> 48);
    return (static_cast<float>(sum) / 65536.0f - 2.0f) * 1.7320508f;
}

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
    // `describe` adds to every line what was measured on.
    Kernels(const ops *table, std::function<void(Line &)> describe)
        : table_(table), describe_(std::move(describe)), clock_(table)
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
            ok(table_->synchronise(nullptr));
            const double ms = clock_.milliseconds([&] { ok(work()); });
            ok(table_->synchronise(nullptr));
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
        describe_(line);
        return all[0];
    }
    Clock &clock()
    {
        return clock_;
    }

  private:
    const ops *table_;
    std::function<void(Line &)> describe_;
    Clock clock_;
};

#endif
