// Opening a device.
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <set>
#include <cstring>
#include <string>

extern "C" {
#include "device/device.h"
}

namespace
{

sc_common options(const char *device_name, const char *type_name = "auto", int64_t threads = 0)
{
    sc_common common = {};
    common.struct_size = sizeof common;
    common.device = device_name;
    common.dtype = type_name;
    common.threads = threads;
    return common;
}

sc_status open_status(const sc_common &common)
{
    device *d = reinterpret_cast<device *>(1);
    sc_status status = device_open(&common, &d);
    if (status != SC_OK) {
        EXPECT_EQ(d, nullptr);
    }
    device_close(status == SC_OK ? d : nullptr);
    return status;
}

} // namespace

TEST(Device, OpensTheCpuByAutoByNameAndByDefault)
{
    for (const char *name : {static_cast<const char *>(nullptr), "auto", "cpu"}) {
        sc_common common = options(name, nullptr, 2);
        device *d = nullptr;
        ASSERT_EQ(device_open(&common, &d), SC_OK) << sc_last_error();
        EXPECT_STREQ(d->ops->name, "cpu");
        EXPECT_EQ(d->dtype, cpu_has_bf16() ? DTYPE_BF16 : DTYPE_F32);
        EXPECT_EQ(d->threads, 2);
        EXPECT_EQ(std::string(d->name).rfind("cpu (", 0), 0u) << d->name;
        EXPECT_NE(std::string(d->name).find(cpu_isa()), std::string::npos) << d->name;
        EXPECT_NE(std::string(d->name).find("2 threads"), std::string::npos) << d->name;
        device_close(d);
    }
}

TEST(Device, TakesTheTypeThatIsNamed)
{
    for (dtype type : {DTYPE_F32, DTYPE_BF16}) {
        sc_common common = options("cpu", type == DTYPE_F32 ? "fp32" : "bf16", 1);
        device *d = nullptr;
        ASSERT_EQ(device_open(&common, &d), SC_OK) << sc_last_error();
        EXPECT_EQ(d->dtype, type);
        device_close(d);
    }
    EXPECT_EQ(open_status(options("cpu", "fp16")), SC_USAGE);
    EXPECT_EQ(open_status(options("cpu", "")), SC_USAGE);
}

TEST(Device, SaysThatThereIsNoCudaPlugIn)
{
    const char *const set = std::getenv("SEEDCORN_CUDA_PLUGIN");
    const std::string before = set ? set : "";
    setenv("SEEDCORN_CUDA_PLUGIN", "/nonexistent/libseedcorn_cuda.so", 1);
    for (const char *name : {"cuda", "cuda:0", "cuda:13"}) {
        EXPECT_EQ(open_status(options(name)), SC_DEVICE) << name;
        EXPECT_NE(std::string(sc_last_error()).find("was not found"), std::string::npos) << sc_last_error();
    }
    if (set)
        setenv("SEEDCORN_CUDA_PLUGIN", before.c_str(), 1);
    else
        unsetenv("SEEDCORN_CUDA_PLUGIN");
    for (const char *name : {"", "gpu", "cuda:", "cuda:x", "cuda:1x", "CPU"})
        EXPECT_EQ(open_status(options(name)), SC_USAGE) << name;
}

TEST(Device, RefusesImpossibleThreads)
{
    EXPECT_EQ(open_status(options("cpu", "auto", -1)), SC_USAGE);
    EXPECT_EQ(open_status(options("cpu", "auto", 1 << 20)), SC_USAGE);
}

// It works on the host's memory, so it lacks what moves data between two, and what lists the rows that stay on a card.
TEST(Device, TheTableLacksOnlyWhatACardNeeds)
{
#define LACKS(entry) offsetof(ops, entry) / sizeof(void *)
    const std::set<size_t> lacks = {LACKS(memory_left),  LACKS(alloc_pinned),          LACKS(release_pinned),
                                    LACKS(stream_open),  LACKS(stream_close),          LACKS(stream_wait),
                                    LACKS(gemm_library), LACKS(design_peaks),          LACKS(design_above),
                                    LACKS(design_put),   LACKS(design_above_workspace)};
#undef LACKS
    const void *const *entry = reinterpret_cast<const void *const *>(cpu_ops());
    for (size_t i = 0; i < sizeof(ops) / sizeof(void *); i++)
        EXPECT_EQ(entry[i] == nullptr, lacks.count(i) == 1) << "entry " << i;
}
