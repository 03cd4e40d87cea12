// The barrier of a block and that of a grid, and what it means for both when a thread exits.
#include "emu/machine.h"

#include <cstring>

namespace emu
{

namespace
{

bool same_place(Where a, Where b)
{
    return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

// Notes the arrival; true for the last of n_threads, who has to wake the others.
bool arrive_at(Barrier &barrier, Fiber &self, int n_threads, Vote vote, int predicate, const char *name,
               Where where)
{
    self.waits_in = name;
    self.mask = 0;
    self.where = where;
    if (barrier.arrived == 0) {
        barrier.first = &self;
        barrier.votes = vote == Vote::all ? 1 : 0;
    } else if (!same_place(barrier.first->where, where)) {
        const Fiber &first = *barrier.first;
        diagnose(where,
                 "reaches %s here while thread (%u,%u,%u) of block (%u,%u,%u) waits in %s at %s:%d: the "
                 "threads have "
                 "diverged",
                 name, first.thread_index.x, first.thread_index.y, first.thread_index.z, first.block_index.x,
                 first.block_index.y, first.block_index.z, first.waits_in, first.where.file,
                 first.where.line);
    }
    int yes = predicate != 0;
    if (vote == Vote::count)
        barrier.votes += yes;
    else if (vote == Vote::all)
        barrier.votes &= yes;
    else
        barrier.votes |= yes;
    return ++barrier.arrived == n_threads;
}

void complete(Barrier &barrier)
{
    barrier.result = barrier.votes;
    barrier.arrived = 0;
    barrier.phase++;
    machine.idle_polls = 0;
}

void wake_block(const Block &block, const Fiber &self)
{
    for (int i = 0; i < block.n_threads; i++)
        if (block.fibers + i != &self)
            wake(block.fibers[i]);
}

} // namespace

int block_barrier(Vote vote, int predicate, const char *name, Where where)
{
    Fiber &self = running_fiber();
    Block &block = *self.block;
    if (block.n_live < block.n_threads)
        diagnose(where, "reaches %s although %d of the block's %d threads have exited", name,
                 block.n_threads - block.n_live, block.n_threads);
    // The objects alternate, so that a thread that is slow to leave learns nothing from the next phase.
    void *object = under_tsan() ? barrier_object(block.arena, block.barrier.phase) : nullptr;
    release(object);
    if (arrive_at(block.barrier, self, block.n_threads, vote, predicate, name, where)) {
        complete(block.barrier);
        wake_block(block, self);
        maybe_give_way();
    } else {
        self.state = State::waiting;
        wait();
    }
    acquire(object);
    return block.barrier.result; // the next phase cannot end before this thread has arrived again
}

void grid_barrier(Where where)
{
    Fiber &self = running_fiber();
    const dim3 &grid = self.grid_size;
    if (!machine.launch->cooperative)
        diagnose(where, "reaches grid_barrier() in a launch that is not cooperative");
    if (machine.n_exited > 0)
        diagnose(where, "reaches grid_barrier() although %d of the grid's threads have exited",
                 machine.n_exited);
    void *object = machine.grid_objects[machine.grid.phase % 2];
    release(object);
    int n_threads = static_cast<int>(grid.x * grid.y * grid.z) * self.block->n_threads;
    if (arrive_at(machine.grid, self, n_threads, Vote::none, 0, "grid_barrier()", where)) {
        complete(machine.grid);
        for (const Block *block : machine.blocks)
            if (block != nullptr && block->resident)
                wake_block(*block, self);
        maybe_give_way();
    } else {
        self.state = State::waiting;
        wait();
    }
    acquire(object);
}

void thread_exits(Fiber &self)
{
    check_async_copies_at_exit(self);
    Block &block = *self.block;
    Warp &warp = block.warps[self.index / warp_size];
    unsigned lane_bit = 1u << self.lane;
    const Barrier *barriers[] = {&block.barrier, &machine.grid};
    for (const Barrier *barrier : barriers)
        if (barrier->arrived > 0)
            diagnose(barrier->first->where, "exits while %d other%s wait%s in %s here", barrier->arrived,
                     barrier->arrived > 1 ? "s" : "", barrier->arrived > 1 ? "" : "s",
                     barrier->first->waits_in);
    for (unsigned slots = warp.pending_slots; slots != 0; slots &= slots - 1) {
        const Rendezvous &pending = warp.pending[__builtin_ctz(slots)];
        if ((pending.mask & lane_bit) != 0)
            diagnose(pending.where,
                     "exits while lanes 0x%08x of its warp wait for it in %s (mask 0x%08x) here",
                     pending.arrived, pending.operation->name, pending.mask);
    }
    self.state = State::exited;
    warp.exited |= lane_bit;
    block.n_live--;
    machine.n_exited++;
    machine.idle_polls = 0;
}

} // namespace emu
