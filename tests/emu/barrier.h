// Barriers and fences.
#pragma once

inline void __syncthreads(emu::Where where = emu::here())
{
    emu::block_barrier(emu::Vote::none, 0, "__syncthreads()", where);
}

inline int __syncthreads_count(int predicate, emu::Where where = emu::here())
{
    return emu::block_barrier(emu::Vote::count, predicate, "__syncthreads_count()", where);
}

inline int __syncthreads_and(int predicate, emu::Where where = emu::here())
{
    return emu::block_barrier(emu::Vote::all, predicate, "__syncthreads_and()", where);
}

inline int __syncthreads_or(int predicate, emu::Where where = emu::here())
{
    return emu::block_barrier(emu::Vote::any, predicate, "__syncthreads_or()", where);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, emu::Where where = emu::here())
{
    emu::LaneOperands mine{};
    emu::warp_rendezvous(emu::warp_barrier, mask, &mine, 0, where);
}

inline void grid_barrier(emu::Where where = emu::here())
{
    emu::grid_barrier(where);
}

// Fibers take turns on one host thread, so memory is always in order; a fence only has to stop the compiler.
inline void __threadfence_block()
{
    __asm__ volatile("" ::: "memory");
}

inline void __threadfence()
{
    __threadfence_block();
}

inline void __threadfence_system()
{
    __threadfence_block();
}

inline void __nanosleep(unsigned)
{
    emu::poll();
}
