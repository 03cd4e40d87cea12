// The rest of the CUDA runtime: a device, and what is asked about kernels. Streams are streams.cpp.
#include "emu/machine.h"

#include <cstdio>
#include <cstdlib>
#include <map>

namespace emu
{

namespace
{

struct Attribute {
    cudaDeviceAttr attribute;
    int value;
};

const Attribute attributes[] = {
    {cudaDevAttrMaxThreadsPerBlock, max_block_threads},
    {cudaDevAttrMaxBlockDimX, 1024},
    {cudaDevAttrMaxBlockDimY, 1024},
    {cudaDevAttrMaxBlockDimZ, 64},
    {cudaDevAttrMaxGridDimX, 0x7fffffff},
    {cudaDevAttrMaxGridDimY, 65535},
    {cudaDevAttrMaxGridDimZ, 65535},
    {cudaDevAttrWarpSize, warp_size},
    {cudaDevAttrMultiProcessorCount, multiprocessors},
    {cudaDevAttrMaxBlocksPerMultiprocessor, blocks_per_multiprocessor},
    {cudaDevAttrMaxThreadsPerMultiProcessor, blocks_per_multiprocessor *max_block_threads},
    {cudaDevAttrMaxSharedMemoryPerBlock, static_shared_limit},
    {cudaDevAttrMaxRegistersPerBlock, 65536},
    {cudaDevAttrComputeCapabilityMajor, 8},
    {cudaDevAttrComputeCapabilityMinor, 6},
    {cudaDevAttrCooperativeLaunch, 1},
    {cudaDevAttrL2CacheSize, 4 << 20},
    {cudaDevAttrMemoryClockRate, 1000000},
    {cudaDevAttrGlobalMemoryBusWidth, 128},
    {cudaDevAttrClockRate, 1000000},
    {cudaDevAttrIntegrated, 0},
    {cudaDevAttrUnifiedAddressing, 1},
    {cudaDevAttrConcurrentKernels, 0},
    {cudaDevAttrEccEnabled, 0},
};

std::map<const void *, int> &dynamic_limits()
{
    static auto *all = new std::map<const void *, int>;
    return *all;
}

// EMU_DEVICES: how many there seem to be; all are the same one.
int device_count()
{
    const char *count = getenv("EMU_DEVICES");
    return count ? atoi(count) : 1;
}

cudaError_t check_device(int device)
{
    if (device >= 0 && device < device_count())
        return pending_failure();
    note_error(cudaErrorInvalidDevice, "there is no device %d: the emulator has %d, from 0", device,
               device_count());
    return cudaErrorInvalidDevice;
}

} // namespace

int max_dynamic_shared(const void *kernel)
{
    auto found = dynamic_limits().find(kernel);
    return found == dynamic_limits().end() ? int(static_shared_limit) : found->second;
}

} // namespace emu

using namespace emu;

// ---- the device

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = device_count();
    return pending_failure();
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return pending_failure();
}

cudaError_t cudaSetDevice(int device)
{
    return check_device(device);
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    if (device != 0)
        return check_device(device);
    if (attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ||
        attribute == cudaDevAttrMaxSharedMemoryPerMultiprocessor) {
        *value = static_cast<int>(shared_limit());
        return pending_failure();
    }
    for (const Attribute &known : attributes)
        if (known.attribute == attribute) {
            *value = known.value;
            return pending_failure();
        }
    note_error(cudaErrorInvalidValue, "the emulator does not know device attribute %d", int(attribute));
    return cudaErrorInvalidValue;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    if (device != 0)
        return check_device(device);
    *properties = cudaDeviceProp();
    std::snprintf(properties->name, sizeof properties->name, "Kernel emulator (CPU)");
    properties->totalGlobalMem = device_memory_limit();
    properties->sharedMemPerBlock = static_shared_limit;
    properties->sharedMemPerBlockOptin = shared_limit();
    properties->sharedMemPerMultiprocessor = shared_limit();
    properties->regsPerBlock = 65536;
    properties->warpSize = warp_size;
    properties->maxThreadsPerBlock = max_block_threads;
    properties->maxThreadsPerMultiProcessor = blocks_per_multiprocessor * max_block_threads;
    properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
    properties->maxThreadsDim[2] = 64;
    properties->maxGridSize[0] = 0x7fffffff;
    properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
    properties->major = 8;
    properties->minor = 6;
    properties->multiProcessorCount = multiprocessors;
    properties->cooperativeLaunch = 1;
    properties->unifiedAddressing = 1;
    properties->l2CacheSize = 4 << 20;
    return pending_failure();
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

// ---- kernels

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (value < 0 || static_cast<size_t>(value) > shared_limit()) {
            note_error(cudaErrorInvalidValue,
                       "a kernel is to be allowed %d bytes of dynamic shared memory, but the device has %zu",
                       value, shared_limit());
            return cudaErrorInvalidValue;
        }
        dynamic_limits()[kernel] = value;
    }
    return pending_failure();
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int block_size,
                                                          size_t shared_bytes)
{
    bool fits = block_size <= max_block_threads && shared_bytes <= shared_limit();
    *blocks = fits ? int(blocks_per_multiprocessor) : 0;
    return pending_failure();
}
