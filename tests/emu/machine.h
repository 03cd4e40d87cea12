// The emulated card: blocks that are resident, their threads, and what they wait for. Internal to the runtime.
#pragma once
#include "emu/context.h"
#include "emu/runtime.h"
#include "emu/sanitizer.h"
#include <mutex>

namespace emu
{

enum {
    warp_size = 32,
    max_block_threads = 1024,
    max_warps = max_block_threads / warp_size,
    multiprocessors = 3,
    blocks_per_multiprocessor = 2,
    max_resident_blocks = multiprocessors * blocks_per_multiprocessor,
    max_async_copies = 256, // under way in one thread
    max_shared_variables = 4096,
    max_shared_pieces = 256, // of one block
    static_shared_limit = 48 * 1024
};

struct Block;

enum class State : unsigned char { fresh, ready, running, waiting, exited };

// The asynchronous copies that one thread has not waited for yet, a ring.
struct CopyQueue {
    struct {
        AsyncCopy copy;
        int group;
        Where where;
        bool made; // at once, by the seed's will
    } copies[max_async_copies];
};

struct Fiber : ThreadContext {
    Block *block;
    int index; // in the block
    State state;
    int stack; // -1: none
    Context context;
    const char *waits_in; // while waiting: the function, its place, a warp operation's mask
    Where where;
    unsigned mask;
    unsigned polls;
    int n_groups; // of asynchronous copies, committed
    int first_copy, n_copies;
};

struct Barrier {
    int arrived;
    int votes;
    int result;
    unsigned phase;
    const Fiber *first; // to arrive
};

// The lanes of one mask that have arrived at an operation.
struct Rendezvous {
    const WarpOperation *operation;
    unsigned mask, arrived;
    Where where;
    unsigned phase;
    LaneOperands *lanes[warp_size];
};

struct Warp {
    unsigned exist, exited;
    unsigned pending_slots;        // a bit for every slot of pending[] in use
    Rendezvous pending[warp_size]; // masks of waiting lanes differ, so there are at most 32
};

// A piece of shared memory between two red zones: the dynamic part (variable is NULL), or a SHARED variable.
struct SharedPiece {
    const SharedVariable *variable;
    char *begin;
    size_t size;
};

struct Arena {
    char *base;
    size_t used, static_bytes, dynamic_bytes;
    int n_pieces;
    SharedPiece pieces[max_shared_pieces];
    void *variables[max_shared_variables]; // by id
};

struct Block {
    bool resident;
    uint3 index;
    int n_threads, n_live;
    Barrier barrier;
    Warp warps[max_warps];
    Arena arena;
    Fiber *fibers; // [max_block_threads]
    CopyQueue
        *queues; // [max_block_threads]: apart from the fibers, which then lie close together in the cache
};

// First in, first out, or at random in a seeded run. A fiber is in it at most once.
class ReadyQueue
{
  public:
    void put(Fiber &fiber)
    {
        ring_[tail_++ % capacity] = &fiber;
    }
    Fiber *take(); // NULL when empty
    void clear()
    {
        head_ = tail_ = 0;
    }

  private:
    enum { capacity = 8192 };
    static_assert(capacity >= max_resident_blocks * max_block_threads, "every resident thread may be ready");
    Fiber *ring_[capacity];
    unsigned head_ = 0, tail_ = 0;
};

struct Machine {
    const Launch *launch; // NULL between launches
    void (*body)(void *);
    void *arguments;
    Context host;
    ReadyQueue ready;
    Block *blocks[max_resident_blocks];
    Barrier grid;
    int n_exited;        // threads of the launch
    bool failed;         // a diagnosis ends the launch
    unsigned idle_polls; // since anything but polling happened
    uint64_t seed, random_state;
    // What ThreadSanitizer is told: every thread comes after the host's earlier work, and the host after every thread.
    char begin_object, end_object, grid_objects[2][8];
};

extern Machine machine;
// Held by every entry from the host, a launch included: threads of a launch need no locks.
extern std::recursive_mutex machine_mutex;

inline Fiber &running_fiber()
{
    return *static_cast<Fiber *>(current);
}

// ---- scheduler.cpp

uint64_t random_number();
inline bool seeded()
{
    return machine.seed != 0;
}
// Gives the host thread to others until somebody calls wake(). The caller has filled waits_in, where and mask.
void wait();
void wake(Fiber &fiber);
// In a seeded run: lets others go first, half of the time.
void maybe_give_way();

// ---- stacks.cpp

// Before a launch of which up to n_threads are resident at once.
void prepare_stacks(int n_threads);
// Gives a fresh fiber a stack, on which it will start in entry().
void take_stack(Fiber &fiber, void (*entry)());
void inherit_stack(Fiber &from, Fiber &to);
void return_stack(Fiber &fiber);
// The fibers of a failed launch stay where they are for ever; their stacks are used again.
void discard_stacks();

// ---- barrier.cpp, warp.cpp

void thread_exits(Fiber &fiber);
void check_async_copies_at_exit(const Fiber &fiber); // diagnoses one that nobody waited for

// ---- shared_memory.cpp

void begin_arena(Arena &arena, size_t dynamic_bytes);
void end_arena(Arena &arena); // diagnoses overruns
bool in_shared_memory(const Arena &arena, const void *begin, size_t size);
size_t shared_limit();
// Sync objects for ThreadSanitizer live as long as the block, in the arena's mapping.
void *barrier_object(Arena &arena, unsigned phase);
void *warp_object(Arena &arena, int warp, int slot, unsigned phase);

// ---- device_memory.cpp

bool in_device_memory(const void *begin, size_t size);
void check_guards();
// Around a kernel or a copy: memory that EMU_HIDE hides from the host is there meanwhile.
void begin_device_work();
void end_device_work();
size_t device_memory_used();
size_t device_memory_limit();

// ---- diagnosis.cpp

// Notes an error of a call or of a launch for cudaGetLastError(); the first failure of a launch stays.
void note_error(cudaError_t code, const char *format, ...) __attribute__((format(printf, 2, 3)));
cudaError_t pending_failure(); // cudaErrorLaunchFailure or cudaSuccess
void diagnose_deadlock();
int max_dynamic_shared(const void *kernel);

} // namespace emu
