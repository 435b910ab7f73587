// What all kernels share. They are compiled by NVRTC, which has no headers of its own here, and for the tests by a C++
// compiler of the host, behind `tests/emulation/`.
#pragma once

#if !defined(CUDA_EMULATION)
#define DYNAMIC_SHARED(type, name)                           \
    extern __shared__ __align__(16) unsigned char shared_bytes[]; \
    type* name = reinterpret_cast<type*>(shared_bytes)
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

constexpr u32 FULL_WARP = 0xffffffffu;
constexpr int WARP_LANES = 32;

// Values of `Status`.
constexpr u32 STATUS_SOLVED = 0;
constexpr u32 STATUS_ITERATION_LIMIT = 1;
constexpr u32 STATUS_INFEASIBLE = 2;
constexpr u32 STATUS_BAD_NUMBER = 3;
constexpr u32 STATUS_RELAXED = 4;

// Elements whose clamp state shares one word: bit j of the low half says that element j is clamped, bit j of the high half
// that it is at its upper bound.
constexpr u32 CLAMP_LANES = 16;
constexpr u32 ALL_CLAMPED = 0xffff;

// What is added to a sum's size to judge it: four units of the last place of an f64.
constexpr double MEASURING_ERROR = 4.0 * 0x1p-52;

__device__ __forceinline__ double infinity() { return __longlong_as_double(0x7ff0000000000000ll); }

template <class A>
__device__ __forceinline__ A larger(A a, A b) {
    return a > b ? a : b;
}

template <class A>
__device__ __forceinline__ A smaller(A a, A b) {
    return a < b ? a : b;
}

__device__ __forceinline__ double size_of(double a) { return fabs(a); }

__device__ __forceinline__ float size_of(float a) { return fabsf(a); }

// `size` with the sign of `like`.
__device__ __forceinline__ double with_sign(double size, double like) { return like < 0.0 ? -size : size; }

// Whether a number is neither NaN nor infinite.
template <class A>
__device__ __forceinline__ bool is_finite(A value) {
    return value - value == A(0);
}

// 1 / x for finite x > 0 that is far from the ends of the range, to the last digit or the one before: faster than a division.
__device__ __forceinline__ double inverse(double x) {
    double y = __fdividef(1.0f, static_cast<float>(x));
    y = y * (2.0 - x * y);
    return y * (2.0 - x * y);
}

// The same bits, of which the compiler knows nothing: what is made of them is made anew, and not kept in registers.
__device__ __forceinline__ u32 made_anew(u32 bits) {
#if !defined(CUDA_EMULATION)
    asm volatile("" : "+r"(bits));
#endif
    return bits;
}

__device__ __forceinline__ double* made_anew(double* at) {
#if !defined(CUDA_EMULATION)
    asm volatile("" : "+l"(at));
#endif
    return at;
}

// `sum += value` where the bits have one of the mask's. (Predicated: a compiler makes a selection and an addition of it.)
__device__ __forceinline__ void add_where(float& sum, float value, u32 bits, u32 mask) {
#if defined(CUDA_EMULATION)
    sum += (bits & mask) != 0 ? value : 0.0f;
#else
    asm("{\n\t.reg .pred p;\n\t.reg .b32 t;\n\tand.b32 t, %2, %3;\n\tsetp.ne.b32 p, t, 0;\n\t@p add.f32 %0, %0, %1;\n\t}"
        : "+f"(sum)
        : "f"(value), "r"(bits), "r"(mask));
#endif
}

// (Here a factor of one or zero is what takes the fewest instructions.)
__device__ __forceinline__ void add_where(double& sum, double value, u32 bits, u32 mask) {
    long long one = (bits & mask) != 0 ? 0x3ff00000ll << 32 : 0;
    sum = fma(__longlong_as_double(one), value, sum);
}

// `bits |= mask` where a condition holds, likewise.
__device__ __forceinline__ void mark_where(u32& bits, u32 mask, bool condition) {
#if defined(CUDA_EMULATION)
    bits |= condition ? mask : 0;
#else
    asm("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %2, 0;\n\t@p or.b32 %0, %0, %1;\n\t}"
        : "+r"(bits)
        : "r"(mask), "r"(static_cast<u32>(condition)));
#endif
}

// a / b likewise, of numbers that only steer.
__device__ __forceinline__ float quotient(float a, float b) { return __fdividef(a, b); }

__device__ __forceinline__ double quotient(double a, double b) { return a * inverse(b); }

// The first clamp word of a problem. Problems never share a word.
__device__ __forceinline__ u64 clamp_start(u64 problem, u64 first) { return first / CLAMP_LANES + problem; }

// What became of a problem, before its multipliers, of which there is one for each row.
struct Outcome {
    u32 status;
    u32 iterations;
    u32 passes;
    // Bit r: row r constrains nothing.
    u32 inactive;
    double residual;
    double excess;
};
