// Sums by cell, for problems of several cells: every thread adds up its own elements, a column of shared memory for each cell,
// and then a lane of every warp has a cell. The order of every sum depends on nothing but the number of elements.
#pragma once

#include "spread.cuh"
#include "warp.cuh"

// What is summed of a cell: two values of one kind.
template <class S>
struct __align__(2 * sizeof(S)) Sums {
    S value;
    S free;
};

// The shared memory of a team: of each of its warps a table of shifts; of each cell, and one for elements that there are not,
// the columns; and what the warps of a team tell each other.
template <int LANES>
struct Columns {
    static constexpr int WARPS = Team<LANES>::WARPS;
    static constexpr u32 TABLE = (MOST_CELLS + 1) * 2 * sizeof(double);
    static constexpr u32 TOLD = WARPS > 1 ? 2 * WARPS * WARP_LANES * sizeof(Sums<double>) : 0;

    // Bytes for a team: `Variant::shared_bytes` of `src/backend/cuda/kernels.rs`.
    static __device__ __forceinline__ u32 bytes(u32 unions) {
        return WARPS * TABLE + TOLD + (unions + 1) * LANES * sizeof(Sums<double>);
    }

    u8* own;
    u32 unions;
    u32 turn;

    __device__ __forceinline__ Columns(u8* shared, u32 unions)
        : own(shared + threadIdx.x / LANES * bytes(unions)), unions(unions), turn(0) {}

    __device__ __forceinline__ u32 warp() const { return threadIdx.x % LANES / WARP_LANES; }

    template <class A>
    __device__ __forceinline__ SplitShift<A>* table() const {
        return reinterpret_cast<SplitShift<A>*>(own + warp() * TABLE);
    }

    // The column of this thread for a cell.
    template <class S>
    __device__ __forceinline__ Sums<S>& column(u32 cell, u32 lane) const {
        return reinterpret_cast<Sums<S>*>(own + WARPS * TABLE + TOLD)[cell * LANES + lane];
    }

    // Begins a pass: nothing is summed yet, and lane r of every warp gives the shift of cell r.
    template <class S, class A>
    __device__ __forceinline__ void begin(u32 lane, double shift) {
        __syncwarp();
        u32 row = threadIdx.x % WARP_LANES;
        if (row < unions) {
            table<A>()[row] = SplitShift<A>(shift);
        }
        if (row == 0) {
            table<A>()[unions] = SplitShift<A>(0.0);
        }
        for (u32 cell = 0; cell <= unions; ++cell) {
            column<S>(cell, lane) = Sums<S>{S(0), S(0)};
        }
        __syncwarp();
    }

    // Ends it: lane r of every warp gets the sums of cell r.
    template <class S, class Holder>
    __device__ __forceinline__ Sums<S> end(Holder& team) {
        __syncwarp();
        u32 row = threadIdx.x % WARP_LANES, first = warp() * WARP_LANES;
        Sums<S> all = {S(0), S(0)};
        if (row < unions) {
#pragma unroll 8
            for (u32 i = 0; i < WARP_LANES; ++i) {
                // (Each lane begins elsewhere: no two read the same bank.)
                const Sums<S>& one = column<S>(row, first + (i + row) % WARP_LANES);
                all.value += one.value;
                all.free += one.free;
            }
        }
        if constexpr (WARPS > 1) {
            // By turns: who comes late still reads the last sums while others write the next.
            Sums<S>* told = reinterpret_cast<Sums<S>*>(own + WARPS * TABLE + turn * (TOLD / 2));
            turn ^= 1;
            told[first + row] = all;
            __syncthreads();
            all = Sums<S>{S(0), S(0)};
            for (u32 other = 0; other < WARPS; ++other) {
                all.value += told[other * WARP_LANES + row].value;
                all.free += told[other * WARP_LANES + row].free;
            }
        }
        team.add_up_rows(all.value, all.free);
        return all;
    }
};

// A thread's cells, four bytes to a word. Those of elements that there are not, or of ids out of range, are one past the last;
// `usable` becomes false at the latter.
template <int LANES, int VALUES>
__device__ __forceinline__ void load_ids(const Team<LANES>& team, const u8* cells, u32 n, u32 unions,
                                         u32 (&ids)[VALUES / PACK], bool& usable) {
    bool packed = is_packed(cells, n);
#pragma unroll
    for (u32 pack = 0; pack < VALUES / PACK; ++pack) {
        u32 i = (pack * LANES + team.lane) * PACK;
        union {
            Pack<u8> ids;
            u32 word;
        } four = {load_pack(cells, i, n, packed)};
        u32 word = 0;
#pragma unroll
        for (u32 k = 0; k < PACK; ++k) {
            u32 id = four.word >> (8 * k) & 0xff;
            bool there = i + k < n, known = id < unions;
            usable = usable && (known || !there);
            word |= (there && known ? id : unions) << (8 * k);
        }
        ids[pack] = word;
    }
}

template <int COUNT>
__device__ __forceinline__ u32 id_of(const u32 (&ids)[COUNT], u32 j) {
    return ids[j / PACK] >> (8 * (j % PACK)) & 0xff;
}
