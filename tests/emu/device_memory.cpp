// cudaMalloc and what works on its memory.
//
// A range starts as NaNs (0xff bytes) between guards of the same: a read of what nobody wrote, or from beside the
// range, shows in the result, and a write beside it is found after the launch. AddressSanitizer sees each at once, and
// the use of freed memory, too.
//
// With EMU_HIDE=1 a range is a mapping of its own that only kernels and copies can touch: code of the host that follows a
// pointer of the device, which would do on no card, ends with a segmentation fault at its line.
#include "emu/streams.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace emu
{

namespace
{

enum { guard_size = 256 }; // also the alignment that CUDA promises
const unsigned char unwritten = 0xff;

std::map<uintptr_t, size_t> &ranges() // begin to size
{
    static auto *all = new std::map<uintptr_t, size_t>;
    return *all;
}

std::map<uintptr_t, size_t> &pinned_ranges() // of the host
{
    static auto *all = new std::map<uintptr_t, size_t>;
    return *all;
}

// Those that EMU_HIDE asked to hide: begin to the whole mapping.
struct Mapping {
    char *base;
    size_t size;
};
std::map<uintptr_t, Mapping> &hidden_ranges()
{
    static auto *all = new std::map<uintptr_t, Mapping>;
    return *all;
}
int n_at_work; // pieces of work that are under way, one inside the other

size_t used;
size_t limit = size_t(16) << 30;

// EMU_MEMORY is read at every call, so that a test may change it.
size_t limit_now()
{
    const char *text = std::getenv("EMU_MEMORY");
    return text != nullptr ? std::strtoull(text, nullptr, 10) : limit;
}

size_t rounded_up(size_t size)
{
    return (size + guard_size - 1) / guard_size * guard_size;
}

bool is_unwritten(const char *begin, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (static_cast<unsigned char>(begin[i]) != unwritten)
            return false;
    return true;
}

bool hiding()
{
    const char *text = std::getenv("EMU_HIDE");
    return text != nullptr && std::strcmp(text, "1") == 0;
}

char *map_pages(size_t size)
{
    void *memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<char *>(memory);
}

char *allocate(size_t size)
{
    void *memory = nullptr;
    const bool hidden = hiding();
    const size_t behind = rounded_up(size) - size + guard_size, all = guard_size + size + behind;
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), pages = (all + page - 1) / page * page;
    if (hidden)
        memory = map_pages(pages);
    else if (posix_memalign(&memory, guard_size, all) != 0)
        memory = nullptr;
    if (memory == nullptr)
        return nullptr;
    fill_bytes(memory, unwritten, all);
    char *begin = static_cast<char *>(memory) + guard_size;
    poison(memory, guard_size);
    poison(begin + size, behind);
    if (hidden) {
        hidden_ranges()[reinterpret_cast<uintptr_t>(begin)] = {static_cast<char *>(memory), pages};
        mprotect(memory, pages, PROT_NONE);
    }
    return begin;
}

void release_range(char *begin, size_t size)
{
    char *memory = begin - guard_size;
    unpoison(memory, guard_size + rounded_up(size) + guard_size);
    auto hidden = hidden_ranges().find(reinterpret_cast<uintptr_t>(begin));
    if (hidden == hidden_ranges().end()) {
        std::free(memory);
        return;
    }
    munmap(hidden->second.base, hidden->second.size);
    hidden_ranges().erase(hidden);
}

void protect_hidden(int protection)
{
    for (const auto &range : hidden_ranges())
        mprotect(range.second.base, range.second.size, protection);
}

// Of the device's side of a copy. Unknown memory is the host's.
bool fits(const void *begin, size_t size)
{
    auto next = ranges().upper_bound(reinterpret_cast<uintptr_t>(begin));
    if (next == ranges().begin())
        return true;
    --next;
    uintptr_t p = reinterpret_cast<uintptr_t>(begin), end = next->first + next->second;
    return p >= end || p + size <= end;
}

bool is_device(const void *p)
{
    return in_device_memory(p, 1);
}

cudaError_t invalid_copy(const char *why, size_t size)
{
    note_error(cudaErrorInvalidValue, "a copy of %zu bytes %s", size, why);
    return cudaErrorInvalidValue;
}

bool is_pinned(const void *begin, size_t size)
{
    auto p = reinterpret_cast<uintptr_t>(begin);
    auto next = pinned_ranges().upper_bound(p);
    if (next == pinned_ranges().begin())
        return false;
    --next;
    return p + size <= next->first + next->second;
}

// What a call asks for that cannot be: it is told at once, as on a card.
cudaError_t check_copy(void *to, const void *from, size_t size, cudaMemcpyKind kind)
{
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (!fits(to, size) || !fits(from, size))
        return invalid_copy("passes the end of memory of cudaMalloc", size);
    if (kind != cudaMemcpyDefault && (is_device(to) != to_device || is_device(from) != from_device))
        return invalid_copy("goes in another direction than its cudaMemcpyKind says", size);
    return cudaSuccess;
}

// An asynchronous copy reads pinned memory when it is made, and other memory of the host at the call; into memory of the
// host that is not pinned it is made at the call (CUDA Runtime API, "API synchronization behavior").
cudaError_t copy(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t stream,
                 bool waits)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    if (pending_failure() != cudaSuccess)
        return pending_failure();
    if (size == 0)
        return cudaSuccess;
    cudaError_t error = check_copy(to, from, size, kind);
    if (error != cudaSuccess)
        return error;
    const bool staged = !waits && !is_device(from) && !is_pinned(from, size);
    const bool late = !waits && (is_device(to) || is_pinned(to, size));
    std::shared_ptr<std::vector<char>> stage;
    if (staged && late) {
        const char *bytes = static_cast<const char *>(from);
        stage = std::make_shared<std::vector<char>>(bytes, bytes + size);
        from = stage->data();
    }
    const void *host = is_device(to) ? (is_device(from) || stage ? nullptr : from) : to;
    put_work(stream, {[to, from, size, stage] { std::memmove(to, from, size); }, late ? host : nullptr, size},
             late ? When::late : When::now);
    return pending_failure();
}

cudaError_t set(void *to, int value, size_t size, cudaStream_t stream, bool waits)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    if (pending_failure() != cudaSuccess)
        return pending_failure();
    if (size > 0 && !in_device_memory(to, size)) {
        note_error(cudaErrorInvalidValue, "cudaMemset of %zu bytes passes the end of memory of cudaMalloc",
                   size);
        return cudaErrorInvalidValue;
    }
    put_work(stream, {[to, value, size] { std::memset(to, value, size); }, nullptr, 0},
             waits ? When::now : When::late);
    return pending_failure();
}

} // namespace

// Called by threads of a launch as well, which hold no lock: the launch does.
bool in_device_memory(const void *begin, size_t size)
{
    auto p = reinterpret_cast<uintptr_t>(begin);
    auto next = ranges().upper_bound(p);
    if (next == ranges().begin())
        return false;
    --next;
    return p + size <= next->first + next->second;
}

void check_guards()
{
    if (under_asan())
        return; // which has reported it
    for (const auto &range : ranges()) {
        char *begin = reinterpret_cast<char *>(range.first);
        size_t size = range.second;
        bool before = is_unwritten(begin - guard_size, guard_size);
        bool behind = is_unwritten(begin + size, rounded_up(size) - size + guard_size);
        if (before && behind)
            continue;
        note_error(cudaErrorLaunchFailure, "%s wrote %s %zu bytes of cudaMalloc", machine.launch->kernel_name,
                   before ? "past the end of" : "before", size);
        fill_bytes(begin - guard_size, unwritten, guard_size);
        fill_bytes(begin + size, unwritten, rounded_up(size) - size + guard_size);
    }
}

void begin_device_work()
{
    if (n_at_work++ == 0)
        protect_hidden(PROT_READ | PROT_WRITE);
}

void end_device_work()
{
    if (--n_at_work == 0)
        protect_hidden(PROT_NONE);
}

void set_memory_limit(size_t bytes)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    limit = bytes;
}

size_t device_memory_used()
{
    return used;
}

size_t device_memory_limit()
{
    return limit_now();
}

} // namespace emu

using namespace emu;

cudaError_t cudaMalloc(void **memory, size_t size)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    if (pending_failure() != cudaSuccess)
        return pending_failure();
    *memory = nullptr;
    if (size == 0)
        return cudaSuccess;
    const size_t most = limit_now();
    char *begin = size <= most && used <= most - size ? allocate(size) : nullptr;
    if (begin == nullptr) {
        note_error(cudaErrorMemoryAllocation, "out of memory: cudaMalloc of %zu bytes, %zu of %zu are in use",
                   size, used, most);
        return cudaErrorMemoryAllocation;
    }
    used += size;
    ranges()[reinterpret_cast<uintptr_t>(begin)] = size;
    *memory = begin;
    return cudaSuccess;
}

// Waits for everything that is under way.
cudaError_t cudaFree(void *memory)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    finish_all_work();
    if (memory != nullptr) {
        auto range = ranges().find(reinterpret_cast<uintptr_t>(memory));
        if (range == ranges().end()) {
            note_error(cudaErrorInvalidValue,
                       "cudaFree of %p, which is not the beginning of memory of cudaMalloc", memory);
            return cudaErrorInvalidValue;
        }
        used -= range->second;
        release_range(static_cast<char *>(memory), range->second);
        ranges().erase(range);
    }
    return pending_failure();
}

cudaError_t cudaMallocHost(void **memory, size_t size)
{
    return cudaHostAlloc(memory, size, 0);
}

cudaError_t cudaHostAlloc(void **memory, size_t size, unsigned)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    *memory = std::malloc(size > 0 ? size : 1);
    if (*memory == nullptr) {
        note_error(cudaErrorMemoryAllocation, "out of memory: cudaMallocHost of %zu bytes", size);
        return cudaErrorMemoryAllocation;
    }
    std::memset(*memory, unwritten, size);
    pinned_ranges()[reinterpret_cast<uintptr_t>(*memory)] = size;
    return pending_failure();
}

cudaError_t cudaFreeHost(void *memory)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    if (memory == nullptr)
        return pending_failure();
    auto range = pinned_ranges().find(reinterpret_cast<uintptr_t>(memory));
    if (range == pinned_ranges().end()) {
        note_error(cudaErrorInvalidValue,
                   "cudaFreeHost of %p, which is not the beginning of memory of cudaMallocHost", memory);
        return cudaErrorInvalidValue;
    }
    if (is_awaited(memory, range->second)) {
        note_error(cudaErrorInvalidValue,
                   "cudaFreeHost of %zu bytes that a copy still uses: wait for it first", range->second);
        return cudaErrorInvalidValue;
    }
    pinned_ranges().erase(range);
    std::free(memory);
    return pending_failure();
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind kind)
{
    return copy(to, from, size, kind, nullptr, true);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t stream)
{
    return copy(to, from, size, kind, stream, false);
}

cudaError_t cudaMemset(void *to, int value, size_t size)
{
    return set(to, value, size, nullptr, true);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t stream)
{
    return set(to, value, size, stream, false);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    *total_bytes = limit_now();
    *free_bytes = *total_bytes > used ? *total_bytes - used : 0;
    return pending_failure();
}
