// cp.async: copies queue up in their thread until it waits for them.
#include "emu/machine.h"

namespace emu
{

static CopyQueue &queue_of(const Fiber &fiber)
{
    return fiber.block->queues[fiber.index];
}

bool begin_async_copy(const AsyncCopy &copy, Where where)
{
    Fiber &self = running_fiber();
    auto size = static_cast<unsigned>(copy.bytes);
    if (reinterpret_cast<uintptr_t>(copy.shared) % size != 0)
        diagnose(where, "copies to the shared address %p, which is not a multiple of %u", copy.shared, size);
    if (copy.wanted && reinterpret_cast<uintptr_t>(copy.global) % size != 0)
        diagnose(where, "copies from the global address %p, which is not a multiple of %u", copy.global,
                 size);
    if (!in_shared_memory(self.block->arena, copy.shared, size))
        diagnose(where, "copies %u bytes to %p, which is not inside the block's shared memory", size,
                 copy.shared);
    if (copy.wanted && !in_device_memory(copy.global, size))
        diagnose(where, "copies %u bytes from %p, which is not inside memory of cudaMalloc", size,
                 copy.global);
    if (self.n_copies == max_async_copies)
        diagnose(where, "has more than %d asynchronous copies under way", int(max_async_copies));
    auto &place = queue_of(self).copies[(self.first_copy + self.n_copies++) % max_async_copies];
    place.copy = copy;
    place.group = self.n_groups;
    place.where = where;
    place.made = seeded() && (random_number() >> 32) % 4 == 0;
    return place.made;
}

void commit_async_copies()
{
    running_fiber().n_groups++;
}

bool next_async_copy(int groups, AsyncCopy *copy)
{
    Fiber &self = running_fiber();
    for (;;) {
        const auto &first = queue_of(self).copies[self.first_copy];
        if (self.n_copies == 0 || first.group >= self.n_groups - groups)
            return false;
        self.first_copy = (self.first_copy + 1) % max_async_copies;
        self.n_copies--;
        if (first.made)
            continue;
        *copy = first.copy;
        return true;
    }
}

void check_async_copies_at_exit(const Fiber &self)
{
    if (self.n_copies > 0)
        diagnose(queue_of(self).copies[self.first_copy].where,
                 "exits without having waited for the asynchronous copy that it began here");
}

} // namespace emu
