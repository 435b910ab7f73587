// The words of CUDA C++ that the kernels use, for a C++ compiler of the host: the very same files run on the CPU.
//
// Shared memory is DYNAMIC_SHARED(type, name), for what a block finds in it has to be what no other left there; the word
// __shared__ itself is missing on purpose.
#pragma once

#define CUDA_EMULATION 1

#include "engine.hpp"
#include <cmath>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __grid_constant__
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emulation::Engine::get().shared())

#define threadIdx (emulation::here.thread)
#define blockIdx (emulation::here.block)
#define blockDim (emulation::here.block_size)
#define gridDim (emulation::here.grid_size)

struct __align__(8) float2 { float x, y; };
struct __align__(16) float4 { float x, y, z, w; };
struct __align__(16) double2 { double x, y; };
struct __align__(8) uint2 { unsigned x, y; };
struct __align__(16) uint4 { unsigned x, y, z, w; };

namespace emulation {

template <class T>
uint64_t bits_of(T value) {
    static_assert(sizeof(T) <= 8, "a lane gives eight bytes at the most");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
}

template <class T>
T of_bits(uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

template <class T>
T shuffle(unsigned mask, T value, int source, int line) {
    return of_bits<T>(Engine::get().together(Together::Shuffle, mask, bits_of(value), source, line));
}

inline int lane() { return static_cast<int>(Engine::get().lane()); }

inline unsigned reduce(Together what, unsigned mask, unsigned value, int line) {
    return static_cast<unsigned>(Engine::get().together(what, mask, value, 0, line));
}

}  // namespace emulation

#define EMULATION_LINE int line = __builtin_LINE()

inline void __syncthreads(EMULATION_LINE) { emulation::Engine::get().barrier(0, line); }
inline int __syncthreads_count(int value, EMULATION_LINE) {
    return static_cast<int>(emulation::Engine::get().barrier(value != 0, line));
}
inline int __syncthreads_or(int value, EMULATION_LINE) { return __syncthreads_count(value, line) != 0; }
inline int __syncthreads_and(int value, EMULATION_LINE) { return __syncthreads_count(!value, line) == 0; }
inline void __syncwarp(unsigned mask = ~0u, EMULATION_LINE) {
    emulation::Engine::get().together(emulation::Together::Sync, mask, 0, 0, line);
}
inline void __threadfence() {}
inline void __nanosleep(unsigned) { emulation::Engine::get().pause(); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATION_LINE) {
    int first = emulation::lane() & ~(width - 1);
    return emulation::shuffle(mask, value, first | (source & (width - 1)), line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32, EMULATION_LINE) {
    int lane = emulation::lane(), source = lane ^ flip;
    return emulation::shuffle(mask, value, source < (lane & ~(width - 1)) + width ? source : lane, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, EMULATION_LINE) {
    int lane = emulation::lane(), source = lane + static_cast<int>(by);
    return emulation::shuffle(mask, value, (lane & (width - 1)) + static_cast<int>(by) < width ? source : lane, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, EMULATION_LINE) {
    int lane = emulation::lane(), source = lane - static_cast<int>(by);
    return emulation::shuffle(mask, value, (lane & (width - 1)) >= static_cast<int>(by) ? source : lane, line);
}

inline unsigned __ballot_sync(unsigned mask, int value, EMULATION_LINE) {
    return emulation::reduce(emulation::Together::Ballot, mask, value != 0, line);
}
inline int __any_sync(unsigned mask, int value, EMULATION_LINE) { return __ballot_sync(mask, value, line) != 0; }
inline int __all_sync(unsigned mask, int value, EMULATION_LINE) { return __ballot_sync(mask, !value, line) == 0; }
inline unsigned __reduce_add_sync(unsigned mask, unsigned value, EMULATION_LINE) {
    return emulation::reduce(emulation::Together::AddUp, mask, value, line);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value, EMULATION_LINE) {
    return emulation::reduce(emulation::Together::Or, mask, value, line);
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value, EMULATION_LINE) {
    return emulation::reduce(emulation::Together::Most, mask, value, line);
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value, EMULATION_LINE) {
    return emulation::reduce(emulation::Together::Least, mask, value, line);
}

// (Threads of a launch take turns: nothing comes between.)
template <class T>
T atomicAdd(T* at, T value) {
    T before = *at;
    *at = before + value;
    return before;
}
template <class T>
T atomicMax(T* at, T value) {
    T before = *at;
    *at = std::max(before, value);
    return before;
}
template <class T>
T atomicOr(T* at, T value) {
    T before = *at;
    *at = before | value;
    return before;
}

template <class T>
T __ldg(const T* at) { return *at; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    shift &= 31;
    return shift == 0 ? high : high << shift | low >> (32 - shift);
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    uint64_t bytes = static_cast<uint64_t>(high) << 32 | low;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) result |= static_cast<unsigned>(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
    return result;
}
inline unsigned __float_as_uint(float value) { return emulation::of_bits<unsigned>(emulation::bits_of(value)); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __uint_as_float(unsigned bits) { return emulation::of_bits<float>(bits); }
inline long long __double_as_longlong(double value) { return emulation::of_bits<long long>(emulation::bits_of(value)); }
inline double __longlong_as_double(long long bits) { return emulation::of_bits<double>(emulation::bits_of(bits)); }

using std::max;
using std::min;

// Half precision, by its bits: what the instructions of a GPU do.
inline float emulation_half_to_float(unsigned short bits) {
    _Float16 value;
    std::memcpy(&value, &bits, sizeof value);
    return static_cast<float>(value);
}
inline unsigned short emulation_float_to_half(float value) {
    auto half = static_cast<_Float16>(value);
    unsigned short bits;
    std::memcpy(&bits, &half, sizeof bits);
    return bits;
}
inline unsigned short emulation_float_to_bfloat(float value) {
    unsigned bits = __float_as_uint(value);
    if (value != value) return static_cast<unsigned short>(bits >> 16 | 0x40);
    return static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
