// Where the blocks meet that have a problem together: what each of them brings, all of them know, added up in an order that
// depends on nothing but how many they are. The launch is cooperative: blocks that wait for each other are all there.
#pragma once

#include "team.cuh"

// Numbers that a block brings at the most.
constexpr u32 MOST_BROUGHT = 128;

// Blocks that have come, of all meetings together, and those that have left for good.
struct Arrivals {
    u32 come;
    u32 left;
};

// What sums are formed in that are to lose nothing.
template <class V>
struct Wide {
    typedef u64 Type;
};
template <>
struct Wide<float> {
    typedef double Type;
};
template <>
struct Wide<double> {
    typedef double Type;
};

// `Call` is what the launch was handed: its `arrivals` and `boards` are those of all groups of blocks, each of which has as many
// blocks as `blocks` there says.
template <class Call>
struct Meeting {
    const Call& call;
    // The blocks of this group that have a problem.
    u32 blocks;
    u32 turn;

    __device__ __forceinline__ Meeting(const Call& call, u32 blocks) : call(call), blocks(blocks), turn(0) {}

    __device__ __forceinline__ u32 group() const { return blockIdx.x / call.blocks; }

    // The number of this block in its group.
    __device__ __forceinline__ u32 block() const { return blockIdx.x % call.blocks; }

    __device__ __forceinline__ Arrivals* arrivals() const { return call.arrivals + group(); }

    // What a block brings to the next meeting: by turns, for who comes late still reads the last numbers while others write the
    // next.
    __device__ __forceinline__ u64* brought_by(u32 other) const {
        u64 place = (static_cast<u64>(group()) * 2 + (turn & 1)) * call.blocks + other;
        return call.boards + place * MOST_BROUGHT;
    }

    // Waits until all have come, and sees what they wrote before. All threads call it, and all that follows.
    __device__ __forceinline__ void wait() {
        ++turn;
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            u32* come = &arrivals()->come;
            atomicAdd(come, 1u);
            while (*static_cast<volatile u32*>(come) < turn * blocks) {
                __nanosleep(20);
            }
            __threadfence();
        }
        __syncthreads();
    }

    // Replaces values that all threads of a block know by their sums over the blocks.
    template <class... V>
    __device__ __forceinline__ void add_up(V&... values) {
        static_assert(sizeof...(V) <= MOST_SUMS, "there is no room for more");
        if (threadIdx.x == 0) {
            u64* own = brought_by(block());
            u32 at = 0;
            ((own[at++] = to_bits(static_cast<typename Wide<V>::Type>(values))), ...);
        }
        const volatile u64* first = brought_by(0);
        wait();
        ((values = static_cast<V>(sum_of<typename Wide<V>::Type>(first++))), ...);
    }

    // The sum of a number that every block has brought, for all lanes of a warp.
    template <class W>
    __device__ __forceinline__ W sum_of(const volatile u64* first) const {
        W sum = W(0);
        for (u32 other = threadIdx.x % WARP_LANES; other < blocks; other += WARP_LANES) {
            sum += of_bits<W>(first[other * MOST_BROUGHT]);
        }
#pragma unroll
        for (int flip = 1; flip < WARP_LANES; flip *= 2) {
            sum += __shfl_xor_sync(FULL_WARP, sum, flip);
        }
        return sum;
    }

    // Whether any thread of any block says so.
    __device__ __forceinline__ bool any(bool value) {
        u32 count = __syncthreads_or(value) != 0;
        if (blocks > 1) {
            add_up(count);
        }
        return count != 0;
    }

    // Adds up two numbers of every row: lane r of every warp has those of row r.
    template <class S>
    __device__ __forceinline__ void add_up_rows(S& a, S& b) {
        u32 at = threadIdx.x % WARP_LANES * 2;
        u64* own = brought_by(block()) + at;
        const volatile u64* first = brought_by(0) + at;
        if (threadIdx.x < WARP_LANES) {
            own[0] = to_bits(static_cast<double>(a));
            own[1] = to_bits(static_cast<double>(b));
        }
        wait();
        double sums[2] = {0.0, 0.0};
#pragma unroll 8
        for (u32 other = 0; other < blocks; ++other) {
            sums[0] += of_bits<double>(first[other * MOST_BROUGHT]);
            sums[1] += of_bits<double>(first[other * MOST_BROUGHT + 1]);
        }
        a = static_cast<S>(sums[0]);
        b = static_cast<S>(sums[1]);
    }

    // Replaces an array that the threads of a block share, of at most `MOST_BROUGHT` numbers, by its sum over the blocks.
    __device__ __forceinline__ void add_up_all(double* values, u32 count) {
        __syncthreads();
        if (blocks == 1) {
            return;
        }
        u64* own = brought_by(block());
        const volatile u64* first = brought_by(0);
        for (u32 at = threadIdx.x; at < count; at += blockDim.x) {
            own[at] = to_bits(values[at]);
        }
        wait();
        for (u32 at = threadIdx.x; at < count; at += blockDim.x) {
            double sum = 0.0;
#pragma unroll 8
            for (u32 other = 0; other < blocks; ++other) {
                sum += of_bits<double>(first[other * MOST_BROUGHT + at]);
            }
            values[at] = sum;
        }
        __syncthreads();
    }

    // The last thing that a block does here: the last of them leaves all as the next launch has to find it.
    __device__ __forceinline__ void leave() {
        if (blocks > 1 && threadIdx.x == 0 && atomicAdd(&arrivals()->left, 1u) == blocks - 1) {
            arrivals()->come = 0;
            arrivals()->left = 0;
        }
    }
};

// A team of several blocks.
template <int LANES, class Call>
struct Crowd : Team<LANES> {
    Meeting<Call> meeting;

    __device__ __forceinline__ Crowd(const Call& call, u32 blocks) : meeting(call, blocks) {}

    __device__ __forceinline__ bool leads() const { return threadIdx.x == 0 && meeting.block() == 0; }

    template <class... V>
    __device__ __forceinline__ void add_up(V&... values) {
        Team<LANES>::add_up(values...);
        meeting.add_up(values...);
    }

    template <class S>
    __device__ __forceinline__ void add_up_rows(S& a, S& b) {
        meeting.add_up_rows(a, b);
    }

    __device__ __forceinline__ bool has(bool value) { return meeting.any(value); }
};
