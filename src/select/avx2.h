/* Loops that are compiled twice, for registers of 16 bytes and of 32: an INLINE body, called by a plain function and by one
 * marked AVX2, which may only run where HAS_AVX2(). */
#ifndef SC_SELECT_AVX2_H
#define SC_SELECT_AVX2_H

#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__) && defined(__GNUC__)
#define AVX2 __attribute__((target("avx2")))
#define HAS_AVX2() __builtin_cpu_supports("avx2")
#else
#define AVX2
#define HAS_AVX2() 0
#endif

#endif
