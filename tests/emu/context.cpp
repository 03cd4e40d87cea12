#include "emu/context.h"

#include "emu/sanitizer.h"
#include <cstdint>
#include <cstdlib>

#if !defined(__x86_64__)
#error "the kernel emulator switches stacks on x86-64 only"
#endif

// Saves the registers that the System V ABI makes the callee's and continues on the other stack. (swapcontext also
// saves the signal mask, a system call of 250 ns; this takes 5.)
extern "C" void emu_switch_stack(void **save, void *to);
asm(R"(
.text
.hidden emu_switch_stack
.globl emu_switch_stack
.type emu_switch_stack, @function
emu_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_switch_stack, . - emu_switch_stack
)");

namespace emu
{

namespace
{

Context *came_from;

// AddressSanitizer tells the bounds of the stack that was left: the only way to learn those of the host's.
void finish_switch(void *fake_stack)
{
    if (!__sanitizer_finish_switch_fiber)
        return;
    const void *bottom = nullptr;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
    if (came_from != nullptr) {
        came_from->stack_bottom = bottom;
        came_from->stack_size = size;
    }
}

void start_switch(void **fake_stack, Context &to)
{
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(fake_stack, to.stack_bottom, to.stack_size);
    switch_tsan_fiber(to.tsan_fiber);
}

} // namespace

void prepare_context(Context &context, char *stack, size_t size, int colour, void (*entry)())
{
    context.stack_bottom = stack;
    context.stack_size = size;
    context.fake_stack = nullptr;
    auto top = reinterpret_cast<uintptr_t>(stack + size) - 64 - static_cast<uintptr_t>(colour % 64) * 64;
    void **slot = reinterpret_cast<void **>(top & ~uintptr_t(15));
    *--slot = nullptr; // as if entry() had been called: the stack pointer is 8 below a multiple of 16
    *--slot = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; i++)
        *--slot = nullptr; // the registers that the switch restores
    context.stack_pointer = slot;
}

void switch_context(Context &from, Context &to)
{
    start_switch(&from.fake_stack, to);
    came_from = &from;
    emu_switch_stack(&from.stack_pointer, to.stack_pointer);
    finish_switch(from.fake_stack);
}

void leave_context(Context &to)
{
    start_switch(nullptr, to);
    came_from = nullptr;
    void *never_used;
    emu_switch_stack(&never_used, to.stack_pointer);
    std::abort();
}

void arrive()
{
    finish_switch(nullptr);
}

} // namespace emu
