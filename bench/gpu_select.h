// What the parts of gpu_select share: options, lines of JSON, the file of rows, the device.
#ifndef SC_BENCH_GPU_SELECT_H
#define SC_BENCH_GPU_SELECT_H

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

extern "C" {
#include "base/log.h"
#include "device/device.h"
#include "formats/npy.h"
}

[[noreturn]] inline void fail(int code, const std::string &sentence)
{
    std::fprintf(stderr, "gpu_select: %s\n", sentence.c_str());
    std::exit(code);
}

inline void ok(sc_status status)
{
    if (status != SC_OK)
        fail(static_cast<int>(status), sc_last_error());
}

struct Options {
    std::string command, file, device = "cuda", strategy = "fisher", write_p;
    int64_t rows = 1000000, dim = 2048, budget = 10000, clusters = 64, iterations = 20, centres = 1000;
};

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

// Every operation that selection uses, by the card's clock (gpu_kernels.cpp).
void bench_kernels(const Options &o);

#endif
