// The threads that a problem has: a part of a warp, a warp, or a block. What they add up, each of them knows, in an order that
// depends on nothing but how many they are.
#pragma once

#include "common.cuh"

// Sums that are formed at a time, at the most.
constexpr int MOST_SUMS = 4;

template <class V>
__device__ __forceinline__ u64 to_bits(V value) {
    union {
        u64 bits;
        V value;
    } both = {0};
    both.value = value;
    return both.bits;
}

template <class V>
__device__ __forceinline__ V of_bits(u64 bits) {
    union {
        u64 bits;
        V value;
    } both = {bits};
    return both.value;
}

template <int LANES>
struct Team {
    // Lanes of a team in one warp, and warps of a team.
    static constexpr int WIDTH = LANES < WARP_LANES ? LANES : WARP_LANES;
    static constexpr int WARPS = LANES / WIDTH;
    // Threads of a block, and teams: several only where none waits at a barrier of the block.
    static constexpr int BLOCK = WARPS > 1 ? LANES : 128;
    static constexpr int TEAMS = BLOCK / LANES;
    // Blocks that a multiprocessor is to hold at least: what bounds the registers of a thread.
    static __host__ __device__ constexpr int blocks(int threads) { return threads > BLOCK ? threads / BLOCK : 1; }
    // Bytes of shared memory.
    static constexpr int SHARED = WARPS > 1 ? 2 * MOST_SUMS * WARPS * 8 : 0;

    u32 lane;
    u32 turn;

    __device__ __forceinline__ Team() : lane(threadIdx.x % LANES), turn(0) {}

    // The number of the team in the grid.
    __device__ __forceinline__ u32 index() const { return blockIdx.x * TEAMS + threadIdx.x / LANES; }

    // Whether this thread is the first of the problem's.
    __device__ __forceinline__ bool leads() const { return lane == 0; }

    // Whether any of the teams that run in step with this one says so.
    __device__ __forceinline__ bool any(bool value) const {
        if constexpr (LANES < WARP_LANES) {
            return __any_sync(FULL_WARP, value);
        }
        return value;
    }

    // Replaces every value by its sum over the team.
    template <class... V>
    __device__ __forceinline__ void add_up(V&... values) {
        static_assert(sizeof...(V) <= MOST_SUMS, "there is no room for more");
#pragma unroll
        for (int flip = 1; flip < WIDTH; flip *= 2) {
            ((values += __shfl_xor_sync(FULL_WARP, values, flip)), ...);
        }
        if constexpr (WARPS > 1) {
            DYNAMIC_SHARED(u64, scratch);
            // By turns: who comes late still reads the last sums while others write the next.
            u64* slots = scratch + turn * MOST_SUMS * WARPS;
            turn ^= 1;
            u32 at = threadIdx.x / WARP_LANES;
            if (threadIdx.x % WARP_LANES == 0) {
                ((slots[at] = to_bits(values), at += WARPS), ...);
            }
            __syncthreads();
            at = threadIdx.x % WARPS;
            ((values = of_bits<V>(slots[at]), at += WARPS), ...);
#pragma unroll
            for (int flip = 1; flip < WARPS; flip *= 2) {
                ((values += __shfl_xor_sync(FULL_WARP, values, flip)), ...);
            }
        }
    }

    // Two numbers of every row are sums over the team.
    template <class S>
    __device__ __forceinline__ void add_up_rows(S&, S&) const {}

    // Whether any thread of the team says so.
    __device__ __forceinline__ bool has(bool value) const {
        if constexpr (WARPS > 1) {
            return __syncthreads_or(value);
        } else if constexpr (LANES == WARP_LANES) {
            return __any_sync(FULL_WARP, value);
        } else {
            u32 first = threadIdx.x % WARP_LANES / LANES * LANES;
            return (__ballot_sync(FULL_WARP, value) >> first & ((1u << LANES) - 1)) != 0;
        }
    }
};
