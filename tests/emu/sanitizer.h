// Hooks of the sanitizers' run-time libraries, bound only where a program is linked with one, and byte loops that no
// sanitizer intercepts.
//
// The runtime itself is compiled without -fsanitize: instrumented code would corrupt ThreadSanitizer's shadow stack
// between the switch of its fiber and the switch of the stack. What the runtime does on a fiber must not pass through
// intercepted functions of libc (memset, memcpy, malloc) either: they would count as accesses of that CUDA thread.
#pragma once
#include <cstddef>

extern "C" {
__attribute__((weak)) void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t size);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom,
                                                           size_t *size);
__attribute__((weak)) void __asan_poison_memory_region(const volatile void *begin, size_t size);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void *begin, size_t size);
__attribute__((weak)) void *__tsan_get_current_fiber();
__attribute__((weak)) void *__tsan_create_fiber(unsigned flags);
__attribute__((weak)) void __tsan_destroy_fiber(void *fiber);
__attribute__((weak)) void __tsan_switch_to_fiber(void *fiber, unsigned flags);
__attribute__((weak)) void __tsan_acquire(void *object);
__attribute__((weak)) void __tsan_release(void *object);
}

namespace emu
{

inline bool under_asan()
{
    return __asan_poison_memory_region != nullptr;
}

inline bool under_tsan()
{
    return __tsan_create_fiber != nullptr;
}

inline void poison(const void *begin, size_t size)
{
    if (under_asan())
        __asan_poison_memory_region(begin, size);
}

inline void unpoison(const void *begin, size_t size)
{
    if (under_asan())
        __asan_unpoison_memory_region(begin, size);
}

inline void acquire(void *object)
{
    if (under_tsan())
        __tsan_acquire(object);
}

inline void release(void *object)
{
    if (under_tsan())
        __tsan_release(object);
}

inline void switch_tsan_fiber(void *fiber)
{
    enum { without_synchronisation = 1 };
    if (under_tsan())
        __tsan_switch_to_fiber(fiber, without_synchronisation);
}

inline void fill_bytes(void *to, unsigned char value, size_t n)
{
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
}

inline void copy_bytes(void *to, const void *from, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

} // namespace emu
