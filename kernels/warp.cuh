// Sums and extremes over the lanes of a warp, or over those of each of its parts of `WIDTH` lanes: every lane gets them, in an order
// that depends on nothing.
#pragma once

#include "common.cuh"

// What joins two numbers.
struct Plus {
    template <class S>
    __device__ __forceinline__ S operator()(S a, S b) const { return a + b; }
};

// With a NaN among them these are NaN.
struct Most {
    template <class S>
    __device__ __forceinline__ S operator()(S a, S b) const { return a > b || a != a ? a : b; }
};

struct Least {
    template <class S>
    __device__ __forceinline__ S operator()(S a, S b) const { return a < b || a != a ? a : b; }
};

// The same of what is known to be numbers, in fewer instructions.
struct Max {
    template <class S>
    __device__ __forceinline__ S operator()(S a, S b) const { return max(a, b); }
};

struct Min {
    template <class S>
    __device__ __forceinline__ S operator()(S a, S b) const { return min(a, b); }
};

template <int WIDTH = WARP_LANES, class S, class Join>
__device__ __forceinline__ S of_rows(S value, Join join) {
#pragma unroll
    for (int flip = 1; flip < WIDTH; flip *= 2) {
        value = join(value, __shfl_xor_sync(FULL_WARP, value, flip));
    }
    return value;
}

template <int WIDTH = WARP_LANES, class S>
__device__ __forceinline__ S sum_of_rows(S value) { return of_rows<WIDTH>(value, Plus()); }

template <int WIDTH = WARP_LANES, class S>
__device__ __forceinline__ S most_of_rows(S value) { return of_rows<WIDTH>(value, Most()); }

template <int WIDTH = WARP_LANES, class S>
__device__ __forceinline__ S least_of_rows(S value) { return of_rows<WIDTH>(value, Least()); }

template <int WIDTH, class S>
__device__ __forceinline__ S max_of_rows(S value) { return of_rows<WIDTH>(value, Max()); }

template <int WIDTH, class S>
__device__ __forceinline__ S min_of_rows(S value) { return of_rows<WIDTH>(value, Min()); }

// The lanes of the warp, or of this one's part of it, for which something holds, as bits.
template <int WIDTH = WARP_LANES>
__device__ __forceinline__ u32 lanes_where(bool holds) {
    u32 all = __ballot_sync(FULL_WARP, holds);
    if constexpr (WIDTH == WARP_LANES) {
        return all;
    } else {
        return all >> (threadIdx.x % WARP_LANES / WIDTH * WIDTH) & ((1u << WIDTH) - 1);
    }
}

__device__ __forceinline__ bool any_lane(bool holds) { return __any_sync(FULL_WARP, holds) != 0; }

// What a lane has, of the warp or of this one's part of it.
template <int WIDTH = WARP_LANES, class S>
__device__ __forceinline__ S of_lane(S value, u32 lane) {
    return __shfl_sync(FULL_WARP, value, static_cast<int>(lane), WIDTH);
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
