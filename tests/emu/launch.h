// LAUNCH and LAUNCH_COOPERATIVE, and the calls of the CUDA runtime that take a kernel.
#pragma once

namespace emu
{

template <class... Parameters> class Launcher
{
  public:
    Launcher(const char *name, bool cooperative, void (*kernel)(Parameters...), dim3 grid, dim3 block,
             size_t shared_bytes, cudaStream_t stream)
        : kernel_(kernel), stream_(stream), launch_{name,         reinterpret_cast<const void *>(kernel),
                                                    grid,         block,
                                                    shared_bytes, cooperative}
    {
    }

    void operator()(Parameters... arguments) const
    {
        put_launch(stream_, launch_, &Call::make, new Call{kernel_, std::tuple<Parameters...>(arguments...)},
                   &Call::end);
    }

  private:
    struct Call {
        void (*kernel)(Parameters...);
        std::tuple<Parameters...> arguments;

        static void make(void *self)
        {
            Call *call = static_cast<Call *>(self);
            std::apply(call->kernel, call->arguments);
        }

        static void end(void *self)
        {
            delete static_cast<Call *>(self);
        }
    };

    void (*kernel_)(Parameters...);
    cudaStream_t stream_;
    Launch launch_;
};

} // namespace emu

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                               \
    ::emu::Launcher(#kernel, false, kernel, grid, block, shared_bytes, stream)(__VA_ARGS__)

#define LAUNCH_COOPERATIVE(kernel, grid, block, shared_bytes, stream, ...)                                   \
    ::emu::Launcher(#kernel, true, kernel, grid, block, shared_bytes, stream)(__VA_ARGS__)

// nvcc's runtime header takes kernels themselves besides pointers to void.
template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute, int value)
{
    return ::cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}

template <class... Parameters>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void (*kernel)(Parameters...),
                                                          int block_size, size_t shared_bytes)
{
    return ::cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, reinterpret_cast<const void *>(kernel),
                                                           block_size, shared_bytes);
}
