// Shuffles and votes.
#pragma once

namespace emu
{

template <class T> T shuffle_from(unsigned mask, T value, int lane, Where where)
{
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 16, "shuffles take up to 16 bytes");
    T result = value;
    LaneOperands mine{&value, &result, lane};
    warp_rendezvous(shuffle, mask, &mine, static_cast<int>(sizeof(T)), where);
    return result;
}

// A width below 32 cuts the warp into parts that shuffle among themselves; a lane that would read from outside
// its part keeps its own value.
inline int part_begin(int width)
{
    return current->lane & ~(width - 1);
}

inline int lane_if_in_part(int lane, int width)
{
    int begin = part_begin(width);
    return lane >= begin && lane < begin + width ? lane : current->lane;
}

} // namespace emu

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, emu::Where where = emu::here())
{
    return emu::shuffle_from(mask, value, emu::part_begin(width) + (lane & (width - 1)), where);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, emu::Where where = emu::here())
{
    // Unlike up and down, an xor may reach into an earlier part (PTX ISA, shfl.bfly).
    int lane = emu::current->lane ^ bits;
    return emu::shuffle_from(mask, value, lane < emu::part_begin(width) + width ? lane : emu::current->lane,
                             where);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, emu::Where where = emu::here())
{
    int lane = emu::current->lane + static_cast<int>(delta);
    return emu::shuffle_from(mask, value, emu::lane_if_in_part(lane, width), where);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, emu::Where where = emu::here())
{
    int lane = emu::current->lane - static_cast<int>(delta);
    return emu::shuffle_from(mask, value, emu::lane_if_in_part(lane, width), where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, emu::Where where = emu::here())
{
    unsigned votes = 0;
    emu::LaneOperands mine{&predicate, &votes, 0};
    emu::warp_rendezvous(emu::ballot, mask, &mine, 0, where);
    return votes;
}

inline int __any_sync(unsigned mask, int predicate, emu::Where where = emu::here())
{
    return __ballot_sync(mask, predicate, where) != 0;
}

inline int __all_sync(unsigned mask, int predicate, emu::Where where = emu::here())
{
    return __ballot_sync(mask, !predicate, where) == 0;
}

// The lanes that have not exited: a card may name fewer when the warp has diverged.
inline unsigned __activemask()
{
    return emu::active_mask();
}
