// A stack on which the host thread can stand, and the switch from one to another.
#pragma once
#include <cstddef>

namespace emu
{

struct Context {
    void *stack_pointer;
    const void *stack_bottom;
    size_t stack_size;
    void *fake_stack; // AddressSanitizer's
    void *tsan_fiber; // ThreadSanitizer's
};

// Makes `context` start in entry() on the given stack; entry() calls arrive() first and never returns.
// `colour` moves the top of the stack, so that the tops of many stacks do not share one set of the cache.
void prepare_context(Context &context, char *stack, size_t size, int colour, void (*entry)());
void switch_context(Context &from, Context &to);
// The same from a context that will not run again.
[[noreturn]] void leave_context(Context &to);
// To be called first on a new stack.
void arrive();

} // namespace emu
