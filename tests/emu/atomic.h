// Atomics, and the relaxed accesses that may meet them.
//
// They are acquire-release although CUDA's are relaxed: ThreadSanitizer knows no fences, and a kernel that publishes
// data with __threadfence() and an atomic is correct. A missing fence is therefore not seen.
#pragma once

namespace emu
{

template <class T>
using Same = typename std::common_type<T>::type; // not deduced: atomicAdd(&float, 1) converts

template <class T> struct Bits {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "atomics are 4 or 8 bytes wide");
    using type = typename std::conditional<sizeof(T) == 8, uint64_t, uint32_t>::type;
};

template <class To, class From> To bit_cast(From from)
{
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

// Replaces *p by change(*p) and returns what was there.
template <class T, class Change> T update(T *p, Change change)
{
    using B = typename Bits<T>::type;
    B *word = reinterpret_cast<B *>(p);
    B old = __atomic_load_n(word, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(word, &old, bit_cast<B>(static_cast<T>(change(bit_cast<T>(old)))),
                                        false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    }
    return bit_cast<T>(old);
}

} // namespace emu

template <class T> T load_relaxed(const T *p)
{
    using B = typename emu::Bits<T>::type;
    emu::poll();
    return emu::bit_cast<T>(__atomic_load_n(reinterpret_cast<const B *>(p), __ATOMIC_ACQUIRE));
}

template <class T> void store_relaxed(T *p, emu::Same<T> value)
{
    using B = typename emu::Bits<T>::type;
    __atomic_store_n(reinterpret_cast<B *>(p), emu::bit_cast<B>(static_cast<T>(value)), __ATOMIC_RELEASE);
}

template <class T> T atomicAdd(T *p, emu::Same<T> value)
{
    return emu::update(p, [value](T old) { return old + value; });
}

template <class T> T atomicSub(T *p, emu::Same<T> value)
{
    return emu::update(p, [value](T old) { return old - value; });
}

template <class T> T atomicMax(T *p, emu::Same<T> value)
{
    return emu::update(p, [value](T old) { return old > value ? old : value; });
}

template <class T> T atomicMin(T *p, emu::Same<T> value)
{
    return emu::update(p, [value](T old) { return old < value ? old : value; });
}

template <class T> T atomicAnd(T *p, emu::Same<T> value)
{
    return emu::update(p, [value](T old) { return old & value; });
}

template <class T> T atomicOr(T *p, emu::Same<T> value)
{
    return emu::update(p, [value](T old) { return old | value; });
}

template <class T> T atomicXor(T *p, emu::Same<T> value)
{
    return emu::update(p, [value](T old) { return old ^ value; });
}

template <class T> T atomicExch(T *p, emu::Same<T> value)
{
    emu::poll(); // it may be the lock of another thread
    return emu::update(p, [value](T) { return value; });
}

template <class T> T atomicCAS(T *p, emu::Same<T> expected, emu::Same<T> value)
{
    static_assert(std::is_integral<T>::value, "atomicCAS compares integers");
    emu::poll();
    return emu::update(p, [expected, value](T old) { return old == expected ? value : old; });
}

inline unsigned atomicInc(unsigned *p, unsigned last)
{
    return emu::update(p, [last](unsigned old) { return old >= last ? 0u : old + 1; });
}

inline unsigned atomicDec(unsigned *p, unsigned last)
{
    return emu::update(p, [last](unsigned old) { return old == 0 || old > last ? last : old - 1; });
}
