// Streams: work that is ordered gives its result under every seed; where a wait is missing, the result shows it.
#include "portable.cuh"

#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

namespace
{

enum { n_seeds = 12, n = 64, n_chunks = 5 };

using Values = std::vector<float>;

__global__ void add(const float *x, float *y)
{
    y[threadIdx.x] += x[threadIdx.x];
}

// What a pipeline leaves out.
enum class Forgets {
    nothing,
    wait_for_copy,   // the kernel does not wait for its chunk
    wait_for_buffer, // the host writes the pinned buffer before its copy was made
    wait_for_kernel  // the copy does not wait for the kernel that still reads the device's buffer
};

float *device_memory(size_t count)
{
    float *memory = nullptr;
    EXPECT_EQ(cudaSuccess, cudaMalloc(reinterpret_cast<void **>(&memory), count * sizeof(float)));
    EXPECT_EQ(cudaSuccess, cudaMemset(memory, 0, count * sizeof(float)));
    return memory;
}

Values fetched(const float *from, size_t count)
{
    Values host(count);
    EXPECT_EQ(cudaSuccess, cudaMemcpy(host.data(), from, count * sizeof(float), cudaMemcpyDeviceToHost));
    return host;
}

// Chunk c of n numbers c + 1 goes through one of two pinned buffers and one of two of the device, on a stream of its own
// each, and is added to y by a kernel on the default stream: y becomes the sum of all.
Values pipeline(Forgets forgets)
{
    float *pinned[2], *x[2], *y = device_memory(n);
    cudaStream_t streams[2];
    cudaEvent_t event;
    EXPECT_EQ(cudaSuccess, cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    for (int lane = 0; lane < 2; lane++) {
        EXPECT_EQ(cudaSuccess, cudaMallocHost(reinterpret_cast<void **>(&pinned[lane]), n * sizeof(float)));
        x[lane] = device_memory(n);
        EXPECT_EQ(cudaSuccess, cudaStreamCreateWithFlags(&streams[lane], cudaStreamNonBlocking));
    }
    for (int c = 0; c < n_chunks; c++) {
        const int lane = c % 2;
        if (forgets != Forgets::wait_for_buffer)
            cudaStreamSynchronize(streams[lane]);
        std::fill_n(pinned[lane], int(n), static_cast<float>(c + 1));
        if (forgets != Forgets::wait_for_kernel) {
            cudaEventRecord(event, nullptr);
            cudaStreamWaitEvent(streams[lane], event, 0);
        }
        cudaMemcpyAsync(x[lane], pinned[lane], n * sizeof(float), cudaMemcpyHostToDevice, streams[lane]);
        if (forgets != Forgets::wait_for_copy) {
            cudaEventRecord(event, streams[lane]);
            cudaStreamWaitEvent(nullptr, event, 0);
        }
        LAUNCH(add, 1, n, 0, nullptr, x[lane], y);
    }
    EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
    Values sum = fetched(y, n);
    for (int lane = 0; lane < 2; lane++) {
        EXPECT_EQ(cudaSuccess, cudaFree(x[lane]));
        EXPECT_EQ(cudaSuccess, cudaFreeHost(pinned[lane]));
        EXPECT_EQ(cudaSuccess, cudaStreamDestroy(streams[lane]));
    }
    EXPECT_EQ(cudaSuccess, cudaEventDestroy(event));
    EXPECT_EQ(cudaSuccess, cudaFree(y));
    return sum;
}

const Values expected(n, n_chunks *(n_chunks + 1) / 2.0f);

int seeds_that_see(Forgets forgets)
{
    int seen = 0;
    for (uint64_t seed = 0; seed < n_seeds; seed++) {
        emu::set_seed(seed);
        seen += pipeline(forgets) != expected;
    }
    emu::set_seed(0);
    return seen;
}

TEST(Streams, GiveTheSameSumUnderEverySeedWhereAllIsAwaited)
{
    EXPECT_EQ(0, seeds_that_see(Forgets::nothing));
}

TEST(Streams, AKernelThatDoesNotWaitForItsCopyReadsOldData)
{
    emu::set_seed(0);
    EXPECT_NE(expected, pipeline(Forgets::wait_for_copy));
    EXPECT_GT(seeds_that_see(Forgets::wait_for_copy), n_seeds / 2);
}

TEST(Streams, APinnedBufferThatIsWrittenTooEarlyGivesTheNewData)
{
    emu::set_seed(0);
    // The copies are made before the kernels that wait for them: it takes two copies on their way to see it.
    float *pinned = nullptr, *x = device_memory(2 * n);
    cudaStream_t stream;
    ASSERT_EQ(cudaSuccess, cudaMallocHost(reinterpret_cast<void **>(&pinned), n * sizeof(float)));
    ASSERT_EQ(cudaSuccess, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (int half = 0; half < 2; half++) {
        std::fill_n(pinned, int(n), static_cast<float>(half + 1));
        cudaMemcpyAsync(x + half * n, pinned, n * sizeof(float), cudaMemcpyHostToDevice, stream);
    }
    EXPECT_EQ(cudaErrorInvalidValue, cudaFreeHost(pinned)); // which a copy still uses
    EXPECT_EQ(cudaErrorInvalidValue, cudaGetLastError());
    EXPECT_EQ(cudaSuccess, cudaStreamSynchronize(stream));
    EXPECT_EQ(Values(2 * n, 2.0f), fetched(x, 2 * n));
    EXPECT_EQ(cudaSuccess, cudaStreamDestroy(stream));
    EXPECT_EQ(cudaSuccess, cudaFreeHost(pinned));
    EXPECT_EQ(cudaSuccess, cudaFree(x));
    EXPECT_GT(seeds_that_see(Forgets::wait_for_buffer), 0);
}

TEST(Streams, ACopyThatDoesNotWaitForAKernelIsSeenUnderSomeSeed)
{
    EXPECT_GT(seeds_that_see(Forgets::wait_for_kernel), 0);
}

// Memory that is not pinned is read at the call, and written at the call.
TEST(Streams, OrdinaryMemoryOfTheHostIsUsedAtTheCall)
{
    for (uint64_t seed = 0; seed < n_seeds; seed++) {
        emu::set_seed(seed);
        cudaStream_t stream;
        float *x = device_memory(n);
        Values host(n, 1.0f), back(n);
        ASSERT_EQ(cudaSuccess, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        cudaMemcpyAsync(x, host.data(), n * sizeof(float), cudaMemcpyHostToDevice, stream);
        host.assign(n, 2.0f);
        cudaMemcpyAsync(back.data(), x, n * sizeof(float), cudaMemcpyDeviceToHost, stream);
        EXPECT_EQ(Values(n, 1.0f), back);
        EXPECT_EQ(cudaSuccess, cudaStreamDestroy(stream));
        EXPECT_EQ(cudaSuccess, cudaFree(x));
    }
    emu::set_seed(0);
}

// The default stream and the ordinary ones wait for each other; one that is made not to does not.
TEST(Streams, TheDefaultStreamWaitsForOrdinaryOnes)
{
    emu::set_seed(0);
    for (unsigned flags : {cudaStreamDefault, cudaStreamNonBlocking}) {
        cudaStream_t stream;
        float *pinned = nullptr, *x = device_memory(n), *y = device_memory(n);
        ASSERT_EQ(cudaSuccess, cudaMallocHost(reinterpret_cast<void **>(&pinned), n * sizeof(float)));
        ASSERT_EQ(cudaSuccess, cudaStreamCreateWithFlags(&stream, flags));
        std::fill_n(pinned, int(n), 3.0f);
        cudaMemcpyAsync(x, pinned, n * sizeof(float), cudaMemcpyHostToDevice, stream);
        LAUNCH(add, 1, n, 0, nullptr, x, y);
        const bool waited = flags == cudaStreamDefault;
        EXPECT_EQ(Values(n, waited ? 3.0f : 0.0f), fetched(y, n));
        // and the other way round: a copy from the device after a kernel of the default stream
        cudaMemsetAsync(x, 0, n * sizeof(float), nullptr);
        cudaMemcpyAsync(pinned, x, n * sizeof(float), cudaMemcpyDeviceToHost, stream);
        EXPECT_EQ(cudaSuccess, cudaStreamSynchronize(stream));
        EXPECT_EQ(waited ? 0.0f : 3.0f, pinned[0]);
        EXPECT_EQ(cudaSuccess, cudaStreamDestroy(stream));
        EXPECT_EQ(cudaSuccess, cudaFree(x));
        EXPECT_EQ(cudaSuccess, cudaFree(y));
        EXPECT_EQ(cudaSuccess, cudaFreeHost(pinned));
    }
}

TEST(Streams, AStreamThatIsDestroyedStillDoesItsWork)
{
    emu::set_seed(0);
    cudaStream_t stream;
    float *pinned = nullptr, *x = device_memory(n);
    ASSERT_EQ(cudaSuccess, cudaMallocHost(reinterpret_cast<void **>(&pinned), n * sizeof(float)));
    ASSERT_EQ(cudaSuccess, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    std::fill_n(pinned, int(n), 4.0f);
    cudaMemcpyAsync(x, pinned, n * sizeof(float), cudaMemcpyHostToDevice, stream);
    EXPECT_EQ(cudaSuccess, cudaStreamDestroy(stream));
    EXPECT_EQ(Values(n, 0.0f), fetched(x, n));
    EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
    EXPECT_EQ(Values(n, 4.0f), fetched(x, n));
    EXPECT_EQ(cudaErrorInvalidValue, cudaFreeHost(x));
    EXPECT_EQ(cudaErrorInvalidValue, cudaGetLastError());
    EXPECT_EQ(cudaSuccess, cudaFreeHost(nullptr));
    EXPECT_EQ(cudaSuccess, cudaFreeHost(pinned));
    EXPECT_EQ(cudaSuccess, cudaFree(x));
}

TEST(Streams, TheEnvironmentLimitsTheCardsMemory)
{
    setenv("EMU_MEMORY", "1000", 1);
    size_t left = 0, all = 0;
    void *memory = nullptr;
    EXPECT_EQ(cudaSuccess, cudaMemGetInfo(&left, &all));
    EXPECT_EQ(1000u, all);
    EXPECT_EQ(cudaErrorMemoryAllocation, cudaMalloc(&memory, 1001));
    EXPECT_EQ(cudaErrorMemoryAllocation, cudaGetLastError());
    unsetenv("EMU_MEMORY");
}

} // namespace
