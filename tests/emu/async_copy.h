// cp.async. A copy that a kernel has not waited for must not be seen, so it is made as late as the rules allow: when
// the thread waits for its group. It is made here, in the kernel's own translation unit, so that sanitizers watch it.
#pragma once

namespace emu
{

inline void make_copy(const AsyncCopy &copy)
{
    if (copy.bytes == 16)
        *static_cast<int4 *>(copy.shared) =
            copy.wanted ? *static_cast<const int4 *>(copy.global) : int4{0, 0, 0, 0};
    else
        *static_cast<int *>(copy.shared) = copy.wanted ? *static_cast<const int *>(copy.global) : 0;
}

inline void copy_async(void *shared, const void *global, int bytes, bool wanted, Where where)
{
    AsyncCopy copy{shared, global, bytes, wanted};
    if (begin_async_copy(copy, where))
        make_copy(copy);
}

} // namespace emu

inline void copy_async16(void *shared, const void *global, bool wanted, emu::Where where = emu::here())
{
    emu::copy_async(shared, global, 16, wanted, where);
}

inline void copy_async4(void *shared, const void *global, bool wanted, emu::Where where = emu::here())
{
    emu::copy_async(shared, global, 4, wanted, where);
}

inline void copy_async_commit()
{
    emu::commit_async_copies();
}

template <int N> void copy_async_wait()
{
    emu::AsyncCopy copy;
    while (emu::next_async_copy(N, &copy))
        emu::make_copy(copy);
}
