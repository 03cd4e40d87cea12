/* What every launcher needs: its stream on the right card, the size of a grid, and the sentence for what went wrong. */
#ifndef SC_KERNELS_LAUNCH_CUH
#define SC_KERNELS_LAUNCH_CUH

#include "kernels.h"
#include "portable.cuh"

/* The stream as CUDA knows it; makes the card that plugin.cu opened this thread's. */
cudaStream_t cuda_stream(stream *s);

/* SC_OK, or the sentence for `error`: "design_flush: the card reports: ...". */
sc_status cuda_status(const char *op, cudaError_t error);

/* After a launch: configuration errors come at once, those of the kernel with a later call. */
static inline sc_status launched(const char *op)
{
    return cuda_status(op, cudaGetLastError());
}

/* A result that the host waits for. */
static inline sc_status fetch(const char *op, stream *s, void *host, const void *from, size_t bytes)
{
    cudaStream_t on = cuda_stream(s);
    cudaError_t error = cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, on);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(on);
    return cuda_status(op, error);
}

static inline __host__ __device__ int64_t blocks_of(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* A one-dimensional grid, at least one block. */
static inline dim3 grid_of(int64_t blocks)
{
    return dim3((unsigned)(blocks > 0 ? blocks : 1));
}

/* Kernels that stride over their work do not need more blocks than fill the card a few times. */
enum { MOST_BLOCKS = 4096 };

static inline dim3 striding_grid(int64_t blocks)
{
    return grid_of(blocks < MOST_BLOCKS ? blocks : (int64_t)MOST_BLOCKS);
}

/* Rows across and their columns down, where a card takes 65,535 blocks: the kernel strides over the rest. */
static inline dim3 row_grid(int64_t rows, int64_t columns)
{
    return dim3((unsigned)rows, (unsigned)(columns < 65535 ? columns : 65535));
}

#endif
