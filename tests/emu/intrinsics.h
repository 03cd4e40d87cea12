// Arithmetic and bit intrinsics. With -ffp-contract=off every double and float operation is rounded once, as under
// nvcc --fmad=false. The approximate ones (__expf and the like) are exact here: a card may differ in the last bits.
#pragma once

// ---- minimum and maximum: of mixed types as in C, and of floating point numbers the one that is not NaN

namespace emu
{

template <class A, class B> using Common = typename std::common_type<A, B>::type;

template <class A, class B> Common<A, B> smaller(A a, B b)
{
    using T = Common<A, B>;
    if constexpr (std::is_floating_point<T>::value)
        return std::fmin(static_cast<T>(a), static_cast<T>(b));
    else
        return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}

template <class A, class B> Common<A, B> larger(A a, B b)
{
    using T = Common<A, B>;
    if constexpr (std::is_floating_point<T>::value)
        return std::fmax(static_cast<T>(a), static_cast<T>(b));
    else
        return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}

} // namespace emu

template <class A, class B> emu::Common<A, B> min(A a, B b)
{
    return emu::smaller(a, b);
}

template <class A, class B> emu::Common<A, B> max(A a, B b)
{
    return emu::larger(a, b);
}

// ---- one rounding each

inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
inline float __fadd_rn(float a, float b)
{
    return a + b;
}
inline float __fsub_rn(float a, float b)
{
    return a - b;
}
inline float __fmul_rn(float a, float b)
{
    return a * b;
}
inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
inline float __frcp_rn(float a)
{
    return 1.0f / a;
}
inline float __fsqrt_rn(float a)
{
    return sqrtf(a);
}
inline float __frsqrt_rn(float a)
{
    return static_cast<float>(1.0 / sqrt(static_cast<double>(a)));
}
inline double __fma_rn(double a, double b, double c)
{
    return fma(a, b, c);
}
inline double __dadd_rn(double a, double b)
{
    return a + b;
}
inline double __dsub_rn(double a, double b)
{
    return a - b;
}
inline double __dmul_rn(double a, double b)
{
    return a * b;
}
inline double __ddiv_rn(double a, double b)
{
    return a / b;
}
inline double __drcp_rn(double a)
{
    return 1.0 / a;
}
inline double __dsqrt_rn(double a)
{
    return sqrt(a);
}

// ---- approximate on a card

inline float __expf(float x)
{
    return expf(x);
}
inline float exp2_approx(float x)
{
    const float y = exp2f(x);
    return y < std::numeric_limits<float>::min() ? 0.0f : y; // a NaN stays one
}
inline float __exp10f(float x)
{
    return powf(10.0f, x);
}
inline float __logf(float x)
{
    return logf(x);
}
inline float __log2f(float x)
{
    return log2f(x);
}
inline float __powf(float x, float y)
{
    return powf(x, y);
}
inline float __sinf(float x)
{
    return sinf(x);
}
inline float __cosf(float x)
{
    return cosf(x);
}
inline void __sincosf(float x, float *s, float *c)
{
    *s = sinf(x);
    *c = cosf(x);
}
inline float __fdividef(float a, float b)
{
    return a / b;
}
inline float __saturatef(float x)
{
    return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;
}
inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
inline double rsqrt(double x)
{
    return 1.0 / sqrt(x);
}

// ---- the bits of a number, and numbers of bits

inline int __float_as_int(float x)
{
    return emu::bit_cast<int>(x);
}
inline unsigned __float_as_uint(float x)
{
    return emu::bit_cast<unsigned>(x);
}
inline float __int_as_float(int x)
{
    return emu::bit_cast<float>(x);
}
inline float __uint_as_float(unsigned x)
{
    return emu::bit_cast<float>(x);
}
inline long long __double_as_longlong(double x)
{
    return emu::bit_cast<long long>(x);
}
inline double __longlong_as_double(long long x)
{
    return emu::bit_cast<double>(x);
}
inline int __double2hiint(double x)
{
    return static_cast<int>(emu::bit_cast<uint64_t>(x) >> 32);
}
inline int __double2loint(double x)
{
    return static_cast<int>(emu::bit_cast<uint64_t>(x) & 0xffffffffu);
}
inline double __hiloint2double(int high, int low)
{
    return emu::bit_cast<double>(static_cast<uint64_t>(static_cast<unsigned>(high)) << 32 |
                                 static_cast<unsigned>(low));
}
inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
inline int __popcll(unsigned long long x)
{
    return __builtin_popcountll(x);
}
inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
inline int __ffsll(long long x)
{
    return __builtin_ffsll(x);
}
inline int __clz(int x)
{
    return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x));
}
inline int __clzll(long long x)
{
    return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
inline unsigned __brev(unsigned x)
{
    unsigned reversed = 0;
    for (int i = 0; i < 32; i++)
        reversed |= (x >> i & 1u) << (31 - i);
    return reversed;
}
inline int __mul24(int a, int b)
{
    return a * b;
}
inline unsigned __umulhi(unsigned a, unsigned b)
{
    return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
inline int __mulhi(int a, int b)
{
    return static_cast<int>(static_cast<int64_t>(a) * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}

// ---- conversions: rn to nearest even, rz towards zero; out of range goes to the nearest number, NaN to 0

namespace emu
{

template <class To, class From> To convert(From rounded)
{
    // The powers of two beside the range are exact in either floating point type.
    constexpr int bits = std::numeric_limits<To>::digits;
    if (rounded != rounded)
        return 0;
    if (rounded >= std::ldexp(From(1), bits))
        return std::numeric_limits<To>::max();
    if (rounded < static_cast<From>(std::numeric_limits<To>::min()))
        return std::numeric_limits<To>::min();
    return static_cast<To>(rounded);
}

} // namespace emu

inline int __float2int_rn(float x)
{
    return emu::convert<int>(nearbyintf(x));
}
inline int __float2int_rz(float x)
{
    return emu::convert<int>(truncf(x));
}
inline int __float2int_rd(float x)
{
    return emu::convert<int>(floorf(x));
}
inline int __float2int_ru(float x)
{
    return emu::convert<int>(ceilf(x));
}
inline unsigned __float2uint_rn(float x)
{
    return emu::convert<unsigned>(nearbyintf(x));
}
inline unsigned __float2uint_rz(float x)
{
    return emu::convert<unsigned>(truncf(x));
}
inline int __double2int_rn(double x)
{
    return emu::convert<int>(nearbyint(x));
}
inline int __double2int_rz(double x)
{
    return emu::convert<int>(trunc(x));
}
inline long long __double2ll_rn(double x)
{
    return emu::convert<long long>(nearbyint(x));
}
inline long long __double2ll_rz(double x)
{
    return emu::convert<long long>(trunc(x));
}
inline float __double2float_rn(double x)
{
    return static_cast<float>(x);
}
inline float __int2float_rn(int x)
{
    return static_cast<float>(x);
}
inline float __uint2float_rn(unsigned x)
{
    return static_cast<float>(x);
}
inline double __int2double_rn(int x)
{
    return x;
}
inline double __uint2double_rn(unsigned x)
{
    return x;
}
inline double __ll2double_rn(long long x)
{
    return static_cast<double>(x);
}
inline double __ull2double_rn(unsigned long long x)
{
    return static_cast<double>(x);
}

// ---- loads and stores with a cache hint

template <class T> T __ldg(const T *p)
{
    return *p;
}
template <class T> T __ldcg(const T *p)
{
    return *p;
}
template <class T> T __ldca(const T *p)
{
    return *p;
}
template <class T> T __ldcs(const T *p)
{
    return *p;
}
template <class T> void __stcg(T *p, emu::Same<T> value)
{
    *p = value;
}
template <class T> void __stcs(T *p, emu::Same<T> value)
{
    *p = value;
}

// ---- bf16: cuda_bf16.h has host bodies for conversions, + - * /, comparisons; these are the missing ones.
// The product of two bf16 is exact in float64.

inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c)
{
    return __double2bfloat16(fma(__bfloat162float(a), static_cast<double>(__bfloat162float(b)),
                                 static_cast<double>(__bfloat162float(c))));
}

inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c)
{
    return __nv_bfloat162(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}

inline __nv_bfloat16 hexp(__nv_bfloat16 x)
{
    return __float2bfloat16_rn(expf(__bfloat162float(x)));
}
inline __nv_bfloat16 hlog(__nv_bfloat16 x)
{
    return __float2bfloat16_rn(logf(__bfloat162float(x)));
}
inline __nv_bfloat16 hsqrt(__nv_bfloat16 x)
{
    return __float2bfloat16_rn(sqrtf(__bfloat162float(x)));
}
inline __nv_bfloat16 hrsqrt(__nv_bfloat16 x)
{
    return __float2bfloat16_rn(1.0f / sqrtf(__bfloat162float(x)));
}
inline __nv_bfloat16 hrcp(__nv_bfloat16 x)
{
    return __float2bfloat16_rn(1.0f / __bfloat162float(x));
}
