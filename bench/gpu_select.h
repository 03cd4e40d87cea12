// What the parts of gpu_select share: options, the file of rows, the device.
#ifndef SC_BENCH_GPU_SELECT_H
#define SC_BENCH_GPU_SELECT_H

#include "gpu_bench.h"

extern "C" {
#include "formats/npy.h"
}

struct Options {
    std::string command, file, device = "cuda", strategy = "fisher", write_p;
    int64_t rows = 1000000, dim = 2048, budget = 10000, clusters = 64, iterations = 20, centres = 1000;
};

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
