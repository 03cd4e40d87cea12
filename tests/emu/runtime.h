// What the emulator's headers (compiled into the kernels, with whatever sanitizer the build asks for) call in its
// runtime (compiled without one). Tests use the functions under "control".
#pragma once
#include <cstddef>
#include <cstdint>
#include <cuda_runtime.h>

// The runtime is hidden inside the library it is linked into; only what a test may call is exported.
#define EMU_EXPORT __attribute__((visibility("default")))

namespace emu
{

struct Where {
    const char *file;
    int line;
};

// As a default argument, the place of the call.
constexpr Where here(const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    return {file, line};
}

// ---- the thread that is running

struct ThreadContext {
    uint3 thread_index, block_index;
    dim3 block_size, grid_size;
    int lane; // in its warp of 32
};

// Not thread_local: one launch runs at a time, on the host thread that asked for it.
extern ThreadContext *current;

// Ends the running kernel: the sentence (with file:line in front) becomes the text of cudaErrorLaunchFailure.
// Returns to the launch, never to the caller.
void diagnose(Where where, const char *format, ...) __attribute__((format(printf, 2, 3)));

// ---- launches

struct Launch {
    const char *kernel_name;
    const void *kernel;
    dim3 grid, block;
    size_t shared_bytes;
    bool cooperative;
};

// Puts a launch into a stream: body(arguments) runs once per CUDA thread, then end(arguments) once. An error is left for
// cudaGetLastError().
void put_launch(cudaStream_t stream, const Launch &launch, void (*body)(void *), void *arguments,
                void (*end)(void *));

// ---- barriers

enum class Vote { none, count, all, any };

int block_barrier(Vote vote, int predicate, const char *name, Where where);
void grid_barrier(Where where);
// Lets other threads run now and then, so that a thread may wait in a loop for a word that another one writes.
void poll();

// ---- operations of a warp

// What one lane brings to an operation. The last lane to arrive performs it for all of them, reading and writing the
// variables of the lanes that wait.
struct LaneOperands {
    const void *in;
    void *out;
    int number; // shuffle: the lane to read from
};

struct WarpOperation {
    const char *name;
    void (*perform)(LaneOperands *const *lanes, unsigned mask, int size);
    bool orders_memory; // __syncwarp does, shuffles do not
    bool whole_warp;    // all 32 lanes must exist
};

extern const WarpOperation warp_barrier, shuffle, ballot, load_matrix, load_matrix_transposed, mma_bf16,
    mma_tf32, mma_f64;

void warp_rendezvous(const WarpOperation &operation, unsigned mask, LaneOperands *mine, int size,
                     Where where);
unsigned active_mask();

// ---- shared memory

// One SHARED variable of the source; every block gets its own copy when a thread first passes the declaration.
struct SharedVariable {
    size_t size;
    const char *name;
    Where where;
    int id; // -1 until first used
};

void *shared_memory(SharedVariable &variable);
void *dynamic_shared_memory();

// ---- asynchronous copies

struct AsyncCopy {
    void *shared;
    const void *global;
    int bytes;
    bool wanted;
};

// Takes the copy to be made later (false), or says that it should be made at once (true).
bool begin_async_copy(const AsyncCopy &copy, Where where);
void commit_async_copies();
// The next copy that has to be made so that at most `groups` committed groups remain; false when there is none.
bool next_async_copy(int groups, AsyncCopy *copy);

// ---- control, for tests

// 0: blocks and threads run in order. Otherwise both in an order drawn from the seed, with several blocks at once
// and threads that give way after barriers. The default is the environment's EMU_SEED, else 0.
EMU_EXPORT void set_seed(uint64_t seed);
EMU_EXPORT uint64_t get_seed();
// Shared memory of a block, static and dynamic, in bytes. The default is sm_86's, 99 KiB.
EMU_EXPORT void set_shared_limit(size_t bytes);
// What cudaMalloc hands out in all; the default is 16 GiB, or the environment's EMU_MEMORY.
EMU_EXPORT void set_memory_limit(size_t bytes);
// The last diagnosis, "" if there was none.
EMU_EXPORT const char *last_diagnosis();

} // namespace emu
