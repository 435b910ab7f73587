// Sums and extremes over the lanes of a warp: every lane gets them, in an order that depends on nothing. With a NaN among them
// they are NaN, in every lane.
#pragma once

#include "common.cuh"

template <class S>
__device__ __forceinline__ S sum_of_rows(S value) {
#pragma unroll
    for (int flip = 1; flip < WARP_LANES; flip *= 2) {
        value += __shfl_xor_sync(FULL_WARP, value, flip);
    }
    return value;
}

template <class S>
__device__ __forceinline__ S most_of_rows(S value) {
#pragma unroll
    for (int flip = 1; flip < WARP_LANES; flip *= 2) {
        S other = __shfl_xor_sync(FULL_WARP, value, flip);
        value = value > other || value != value ? value : other;
    }
    return value;
}

template <class S>
__device__ __forceinline__ S least_of_rows(S value) {
#pragma unroll
    for (int flip = 1; flip < WARP_LANES; flip *= 2) {
        S other = __shfl_xor_sync(FULL_WARP, value, flip);
        value = value < other || value != value ? value : other;
    }
    return value;
}

// The lanes for which something holds, as bits.
__device__ __forceinline__ u32 lanes_where(bool holds) { return __ballot_sync(FULL_WARP, holds); }

__device__ __forceinline__ bool any_lane(bool holds) { return __any_sync(FULL_WARP, holds) != 0; }

// What a lane has.
__device__ __forceinline__ double of_lane(double value, u32 lane) {
    return __shfl_sync(FULL_WARP, value, static_cast<int>(lane));
}

__device__ __forceinline__ u32 lowest_of(u32 bits) { return static_cast<u32>(__ffs(static_cast<int>(bits)) - 1); }

// Bits below one.
__device__ __forceinline__ u32 below(u32 bit) { return (1u << bit) - 1; }

// The place of the n-th bit that is set, counted from 0.
__device__ __forceinline__ u32 nth_bit(u32 bits, u32 n) {
    for (; n > 0; --n) {
        bits &= bits - 1;
    }
    return lowest_of(bits);
}
