// The types that predictions are stored in, and what each is computed in: as `src/storage.rs` has it.
#pragma once

#include "common.cuh"

struct Half {
    u16 bits;
};
struct Bfloat {
    u16 bits;
};

template <class T>
struct Storage;

template <>
struct Storage<Half> {
    typedef float Arithmetic;
    static constexpr double UNIT_ROUNDOFF = 0x1p-11;
    static __device__ __forceinline__ float widen(Half value) {
#if defined(CUDA_EMULATION)
        return emulation_half_to_float(value.bits);
#else
        float wide;
        asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
        return wide;
#endif
    }
    static __device__ __forceinline__ Half narrow(float value) {
#if defined(CUDA_EMULATION)
        return Half{emulation_float_to_half(value)};
#else
        u16 bits;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
        return Half{bits};
#endif
    }
};

template <>
struct Storage<Bfloat> {
    typedef float Arithmetic;
    static constexpr double UNIT_ROUNDOFF = 0x1p-8;
    static __device__ __forceinline__ float widen(Bfloat value) {
        return __uint_as_float(static_cast<u32>(value.bits) << 16);
    }
    static __device__ __forceinline__ Bfloat narrow(float value) {
#if defined(CUDA_EMULATION)
        return Bfloat{emulation_float_to_bfloat(value)};
#else
        u16 bits;
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
        return Bfloat{bits};
#endif
    }
};

template <>
struct Storage<float> {
    typedef float Arithmetic;
    static constexpr double UNIT_ROUNDOFF = 0x1p-24;
    static __device__ __forceinline__ float widen(float value) { return value; }
    static __device__ __forceinline__ float narrow(float value) { return value; }
};

template <>
struct Storage<double> {
    typedef double Arithmetic;
    static constexpr double UNIT_ROUNDOFF = 0x1p-53;
    static __device__ __forceinline__ double widen(double value) { return value; }
    static __device__ __forceinline__ double narrow(double value) { return value; }
};

template <class T>
using ArithmeticOf = typename Storage<T>::Arithmetic;

// Values that a thread reads and writes at a time, one beside the other.
constexpr int PACK = 4;

template <class T>
struct __align__(sizeof(T) * PACK > 16 ? 16 : sizeof(T) * PACK) Pack {
    T values[PACK];
};

// Whether an array of n elements that begins here is a row of packs, each where it can be moved as one.
template <class T>
__device__ __forceinline__ bool is_packed(const T* array, u32 n) {
    return reinterpret_cast<u64>(array) % alignof(Pack<T>) == 0 && n % PACK == 0;
}

// Reads elements i to i + 3 of an array of n; those beyond its end are zero.
template <class T>
__device__ __forceinline__ Pack<T> load_pack(const T* array, u32 i, u32 n, bool packed) {
    Pack<T> pack = {};
    if (packed) {
        if (i < n) {
            pack = *reinterpret_cast<const Pack<T>*>(array + i);
        }
        return pack;
    }
#pragma unroll
    for (u32 j = 0; j < PACK; ++j) {
        if (i + j < n) {
            pack.values[j] = array[i + j];
        }
    }
    return pack;
}

template <class T>
__device__ __forceinline__ void store_pack(T* array, u32 i, u32 n, bool packed, const Pack<T>& pack) {
    if (packed) {
        if (i < n) {
            *reinterpret_cast<Pack<T>*>(array + i) = pack;
        }
        return;
    }
#pragma unroll
    for (u32 j = 0; j < PACK; ++j) {
        if (i + j < n) {
            array[i + j] = pack.values[j];
        }
    }
}

// `clip(value, lo, hi)` as every device does it: a NaN stays one, and so does a zero with a sign.
template <class A>
__device__ __forceinline__ A clip(A value, A lo, A hi) {
    A raised = value < lo ? lo : value;
    return raised > hi ? hi : raised;
}
