// Launches whose blocks wait for one another, in a header of its own because CUDA's takes long to read.
//
//   LAUNCH_COOPERATIVE(...)   LAUNCH with all blocks resident, so that grid_barrier() may be used
//   grid_barrier()            all threads of a cooperative launch
#pragma once

#include "portable.cuh"

#if defined(__CUDACC__) // the emulator has both already

#include <cooperative_groups.h>
#include <tuple>
#include <utility>

#define LAUNCH_COOPERATIVE(kernel, grid, block, shared_bytes, stream, ...)                                   \
    ::portable::cooperative((kernel), (grid), (block), (shared_bytes), (stream))(__VA_ARGS__)

namespace portable
{

// cudaLaunchCooperativeKernel wants pointers to arguments of exactly the kernel's parameter types.
template <class... Parameters> struct CooperativeLaunch {
    void (*kernel)(Parameters...);
    dim3 grid, block;
    size_t shared_bytes;
    cudaStream_t stream;

    void operator()(Parameters... arguments) const
    {
        std::tuple<Parameters...> values(arguments...);
        launch(values, std::index_sequence_for<Parameters...>());
    }

  private:
    template <size_t... I> void launch(std::tuple<Parameters...> &values, std::index_sequence<I...>) const
    {
        void *pointers[] = {static_cast<void *>(&std::get<I>(values))..., nullptr};
        (void)cudaLaunchCooperativeKernel(reinterpret_cast<const void *>(kernel), grid, block, pointers,
                                          shared_bytes,
                                          stream); // the error stays in cudaGetLastError()
    }
};

template <class... Parameters>
CooperativeLaunch<Parameters...> cooperative(void (*kernel)(Parameters...), dim3 grid, dim3 block,
                                             size_t shared_bytes, cudaStream_t stream)
{
    return {kernel, grid, block, shared_bytes, stream};
}

} // namespace portable

__device__ __forceinline__ void grid_barrier()
{
    cooperative_groups::this_grid().sync();
}

#endif
