// Work that is put into streams. Internal to the runtime; the caller holds machine_mutex.
#pragma once
#include "emu/machine.h"

#include <functional>
#include <memory>

namespace emu
{

struct Work {
    std::function<void()> perform;
    const void *host; // pinned memory that it reads or writes, NULL if none
    size_t host_size;
};

enum class When {
    now,              // the caller waits for it
    at_once_in_order, // unless a seed says otherwise
    late
};

void put_work(cudaStream_t stream, Work work, When when);
void finish_all_work();
// Is there work to be done yet that uses this pinned memory?
bool is_awaited(const void *begin, size_t size);

} // namespace emu
