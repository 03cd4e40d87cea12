/* memory: what the host asks of the card's memory. Twin of src/device/cpu/tensor.c's part of that. */
#include "launch.cuh"

sc_status cuda_alloc(void **out, size_t bytes)
{
    cuda_stream(NULL);
    const cudaError_t error = cudaMalloc(out, bytes > 0 ? bytes : 1);
    if (error == cudaErrorMemoryAllocation) {
        size_t left = 0, all = 0;
        cudaGetLastError();
        cudaMemGetInfo(&left, &all);
        return sc_fail(
            SC_MEMORY,
            "the card has no room for %.2f GB more: %.2f of its %.2f GB are free; choose a smaller "
            "model or batch, or --device cpu",
            (double)bytes / 1e9, (double)left / 1e9, (double)all / 1e9);
    }
    return cuda_status("alloc", error);
}

void cuda_release(void *pointer)
{
    cudaFree(pointer);
}

sc_status cuda_upload(stream *s, void *to, const void *host, size_t bytes)
{
    return cuda_status("upload", cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, cuda_stream(s)));
}

sc_status cuda_download(stream *s, void *host, const void *from, size_t bytes)
{
    return cuda_status("download",
                       cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, cuda_stream(s)));
}

sc_status cuda_fill_zero(stream *s, void *to, size_t bytes)
{
    return cuda_status("fill_zero", cudaMemsetAsync(to, 0, bytes, cuda_stream(s)));
}

sc_status cuda_synchronise(stream *s)
{
    return cuda_status("synchronise", cudaStreamSynchronize(cuda_stream(s)));
}
