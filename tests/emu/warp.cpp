// Operations of a warp. Lanes meet under the mask that they call with, and the last one to arrive does the work for
// all: the others' operands stand still on their stacks meanwhile.
#include "emu/machine.h"

#include <cstring>

namespace emu
{

namespace
{

Rendezvous *find(Warp &warp, unsigned mask)
{
    for (unsigned slots = warp.pending_slots; slots != 0; slots &= slots - 1) {
        Rendezvous &pending = warp.pending[__builtin_ctz(slots)];
        if (pending.mask == mask)
            return &pending;
    }
    return nullptr;
}

Rendezvous &open(Warp &warp, const WarpOperation &operation, unsigned mask, Where where)
{
    int slot = __builtin_ctz(~warp.pending_slots);
    warp.pending_slots |= 1u << slot;
    Rendezvous &meeting = warp.pending[slot];
    meeting.operation = &operation;
    meeting.mask = mask;
    meeting.arrived = 0;
    meeting.where = where;
    return meeting;
}

// Calls that cannot end well.
void check(const Fiber &self, const Warp &warp, const WarpOperation &operation, unsigned mask, Where where)
{
    unsigned lane_bit = 1u << self.lane;
    if ((mask & lane_bit) == 0)
        diagnose(where, "calls %s in lane %d, which is not in the mask 0x%08x", operation.name, self.lane,
                 mask);
    if ((mask & warp.exited) != 0)
        diagnose(where, "calls %s with the mask 0x%08x, which names lanes that have exited (0x%08x)",
                 operation.name, mask, mask & warp.exited);
    if (operation.whole_warp && warp.exist != 0xffffffffu)
        diagnose(where, "calls %s in a warp of which only the lanes 0x%08x exist", operation.name,
                 warp.exist);
    for (unsigned slots = warp.pending_slots; slots != 0; slots &= slots - 1) {
        const Rendezvous &other = warp.pending[__builtin_ctz(slots)];
        // They wait for this lane, and this lane is about to wait for one of them.
        if (other.mask != mask && (other.mask & lane_bit) != 0 && (other.arrived & mask) != 0)
            diagnose(where,
                     "calls %s with the mask 0x%08x while lanes 0x%08x wait in %s at %s:%d with the "
                     "overlapping mask "
                     "0x%08x",
                     operation.name, mask, other.arrived, other.operation->name, other.where.file,
                     other.where.line, other.mask);
    }
}

void check_same(const Rendezvous &meeting, const WarpOperation &operation, Where where)
{
    bool same_line = meeting.where.line == where.line &&
                     (meeting.where.file == where.file || std::strcmp(meeting.where.file, where.file) == 0);
    if (meeting.operation != &operation || !same_line)
        diagnose(where,
                 "calls %s here while lanes 0x%08x of its warp wait in %s at %s:%d: the lanes have diverged",
                 operation.name, meeting.arrived, meeting.operation->name, meeting.where.file,
                 meeting.where.line);
}

} // namespace

void warp_rendezvous(const WarpOperation &operation, unsigned mask, LaneOperands *mine, int size, Where where)
{
    Fiber &self = running_fiber();
    Block &block = *self.block;
    int warp_number = self.index / warp_size;
    Warp &warp = block.warps[warp_number];
    check(self, warp, operation, mask, where);
    unsigned expected = mask & warp.exist; // the last warp of a block may be short
    Rendezvous *meeting = find(warp, mask);
    if (meeting == nullptr)
        meeting = &open(warp, operation, mask, where);
    else
        check_same(*meeting, operation, where);

    int slot = static_cast<int>(meeting - warp.pending);
    void *object = nullptr; // shuffles promise nothing about memory
    if (under_tsan() && operation.orders_memory)
        object = warp_object(block.arena, warp_number, slot, meeting->phase);
    if (object != nullptr)
        release(object);
    meeting->lanes[self.lane] = mine;
    meeting->arrived |= 1u << self.lane;
    if (meeting->arrived == expected) {
        operation.perform(meeting->lanes, expected, size);
        warp.pending_slots &= ~(1u << slot);
        meeting->phase++;
        machine.idle_polls = 0;
        for (unsigned lanes = expected & ~(1u << self.lane); lanes != 0; lanes &= lanes - 1)
            wake(block.fibers[warp_number * warp_size + __builtin_ctz(lanes)]);
        maybe_give_way();
    } else {
        self.waits_in = operation.name;
        self.where = where;
        self.mask = mask;
        self.state = State::waiting;
        wait();
    }
    if (object != nullptr)
        acquire(object);
}

unsigned active_mask()
{
    const Fiber &self = running_fiber();
    const Warp &warp = self.block->warps[self.index / warp_size];
    return warp.exist & ~warp.exited;
}

// ---- what the operations do, but for the matrices'

namespace
{

void do_nothing(LaneOperands *const *, unsigned, int)
{
}

void do_shuffle(LaneOperands *const *lanes, unsigned mask, int size)
{
    for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
        LaneOperands &to = *lanes[__builtin_ctz(rest)];
        int from = to.number % warp_size;
        if ((mask >> from & 1) == 0)
            fill_bytes(to.out, 0xff, static_cast<size_t>(size)); // undefined on a card
        else if (size == 4)
            __builtin_memcpy(to.out, lanes[from]->in, 4);
        else if (size == 8)
            __builtin_memcpy(to.out, lanes[from]->in, 8);
        else
            copy_bytes(to.out, lanes[from]->in, static_cast<size_t>(size));
    }
}

void do_ballot(LaneOperands *const *lanes, unsigned mask, int)
{
    unsigned votes = 0;
    for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        if (*static_cast<const int *>(lanes[lane]->in) != 0)
            votes |= 1u << lane;
    }
    for (unsigned rest = mask; rest != 0; rest &= rest - 1)
        *static_cast<unsigned *>(lanes[__builtin_ctz(rest)]->out) = votes;
}

} // namespace

const WarpOperation warp_barrier = {"__syncwarp()", do_nothing, true, false};
const WarpOperation shuffle = {"a shuffle", do_shuffle, false, false};
const WarpOperation ballot = {"a vote", do_ballot, false, false};

} // namespace emu
