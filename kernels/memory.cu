/* memory: what the host asks of the card's memory and streams. Twin of src/device/cpu/tensor.c's part of that. */
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

sc_status cuda_memory_left(size_t *left, size_t *all)
{
    cuda_stream(NULL);
    return cuda_status("memory_left", cudaMemGetInfo(left, all));
}

sc_status cuda_alloc_pinned(void **out, size_t bytes)
{
    cuda_stream(NULL);
    const cudaError_t error = cudaHostAlloc(out, bytes > 0 ? bytes : 1, cudaHostAllocDefault);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        return sc_fail(SC_MEMORY,
                       "%.2f GB of memory cannot be pinned for the card; close other programs, or use "
                       "--device cpu",
                       (double)bytes / 1e9);
    }
    return cuda_status("alloc_pinned", error);
}

void cuda_release_pinned(void *pointer)
{
    cudaFreeHost(pointer);
}

/* Not blocking: the default stream would wait for it, and it for the default stream. */
sc_status cuda_stream_open(stream **out)
{
    cuda_stream(NULL);
    return cuda_status("stream_open", cudaStreamCreateWithFlags((cudaStream_t *)out, cudaStreamNonBlocking));
}

void cuda_stream_close(stream *s)
{
    if (s)
        cudaStreamDestroy((cudaStream_t)s);
}

/* The event may go as soon as both streams know it. */
sc_status cuda_stream_wait(stream *s, stream *other)
{
    cudaEvent_t here;
    cudaError_t error = cudaSuccess;
    const cudaStream_t waiting = cuda_stream(s), awaited = cuda_stream(other);
    error = cudaEventCreateWithFlags(&here, cudaEventDisableTiming);
    if (error != cudaSuccess)
        return cuda_status("stream_wait", error);
    error = cudaEventRecord(here, awaited);
    if (error == cudaSuccess)
        error = cudaStreamWaitEvent(waiting, here, 0);
    cudaEventDestroy(here);
    return cuda_status("stream_wait", error);
}
