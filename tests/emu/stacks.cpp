// The stacks of the fibers.
//
// A thread that ends without having waited hands its stack to the next one, so most launches need few. Not so under
// ThreadSanitizer: there a stack belongs to one TSan fiber (another one's accesses to it would look like races), and
// the fibers take turns, because two blocks run by the same fiber could not be seen to race.
#include "emu/machine.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

namespace emu
{

namespace
{

enum {
    max_stacks = 8000,    // ThreadSanitizer can tell some 8100 threads apart
    min_rotation = 128,   // making a TSan fiber takes a millisecond
    max_abandoned = 1000, // times that a failed launch leaves one where it is
    guard_size = 4096
};
static_assert(int(max_stacks) >= int(max_resident_blocks) * int(max_block_threads),
              "a stack for every thread");

struct Stack {
    bool used_before, taken;
    int n_abandoned;
    void *tsan_fiber;
};

char *memory;
Stack stacks[max_stacks];
int free_stacks[max_stacks], n_free;
int rotation_size, next_in_rotation;

size_t stack_size()
{
    return under_asan() || under_tsan() ? 256 * 1024 : 64 * 1024; // instrumented frames are larger
}

char *stack_begin(int i)
{
    return memory + static_cast<size_t>(i) * stack_size();
}

void reserve()
{
    void *mapping = mmap(nullptr, max_stacks * stack_size(), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) {
        std::perror("kernel emulator: cannot reserve address space for the stacks");
        std::abort();
    }
    memory = static_cast<char *>(mapping);
    for (int i = max_stacks; i-- > 0;)
        free_stacks[n_free++] = i;
}

int next_stack()
{
    if (!under_tsan())
        return free_stacks[--n_free];
    do
        next_in_rotation = (next_in_rotation + 1) % rotation_size;
    while (stacks[next_in_rotation].taken);
    return next_in_rotation;
}

} // namespace

void prepare_stacks(int n_threads)
{
    if (memory == nullptr)
        reserve();
    rotation_size = n_threads + min_rotation < max_stacks ? n_threads + min_rotation : int(max_stacks);
}

void take_stack(Fiber &fiber, void (*entry)())
{
    fiber.stack = next_stack();
    Stack &stack = stacks[fiber.stack];
    if (!stack.used_before) {
        mprotect(stack_begin(fiber.stack), guard_size, PROT_NONE);
        stack.used_before = true;
    }
    stack.taken = true;
    prepare_context(fiber.context, stack_begin(fiber.stack) + guard_size, stack_size() - guard_size,
                    fiber.index, entry);
    if (under_tsan() && stack.tsan_fiber == nullptr)
        stack.tsan_fiber = __tsan_create_fiber(0);
    fiber.context.tsan_fiber = stack.tsan_fiber;
}

void inherit_stack(Fiber &from, Fiber &to)
{
    to.stack = from.stack;
    to.context = from.context;
    from.stack = -1;
}

void return_stack(Fiber &fiber)
{
    stacks[fiber.stack].taken = false;
    if (!under_tsan())
        free_stacks[n_free++] = fiber.stack;
    fiber.stack = -1;
}

void discard_stacks()
{
    n_free = 0;
    for (int i = max_stacks; i-- > 0;) {
        Stack &stack = stacks[i];
        if (stack.taken && under_tsan()) {
            // The host waits for what the thread has done so far, as it would for one that ends.
            switch_tsan_fiber(stack.tsan_fiber);
            release(&machine.end_object);
            switch_tsan_fiber(machine.host.tsan_fiber);
            // Its shadow stack keeps the frames that were never left; it has room for many.
            if (++stack.n_abandoned == max_abandoned) {
                __tsan_destroy_fiber(stack.tsan_fiber);
                stack.tsan_fiber = nullptr;
                stack.n_abandoned = 0;
            }
        }
        if (stack.taken)
            unpoison(stack_begin(i) + guard_size, stack_size() - guard_size);
        stack.taken = false;
        free_stacks[n_free++] = i;
    }
}

} // namespace emu
