// Sums by cell, for problems of several cells: every thread adds up its own elements, a column of shared memory for each cell,
// and then a lane of every warp of the team has a cell. The order of every sum depends on nothing but the number of elements.
#pragma once

#include "spread.cuh"
#include "warp.cuh"

// What is summed of a cell: values of one kind, and whole numbers.
template <class S>
struct __align__(2 * sizeof(S)) Sums {
    S value;
    u32 counts;
};

// The same of all.
template <class S>
struct Found {
    S value;
    u32 free;
    u32 there;
};

// Two counts in one: elements that are free, and elements. (A block has fewer than 2^16.)
constexpr u32 ONE_FREE = 1;
constexpr u32 ONE_THERE = 1u << 16;
constexpr u32 ALL_FREE = ONE_THERE - 1;

// The shared memory of a block: what the warps of a team tell each other; and for each warp a table of shifts, and of each cell, and
// one for elements that there are not, the columns.
template <int LANES>
struct Columns {
    // Lanes of a team in a warp, which are as many as there can be cells; and teams in a warp.
    static constexpr int WIDTH = Team<LANES>::WIDTH;
    static constexpr int TEAMS = WARP_LANES / WIDTH;
    static constexpr int WARPS = Team<LANES>::WARPS;
    // Entries of the table: neighbouring teams have neighbouring ones, so that no two lie in the same bank.
    static constexpr u32 ENTRIES = (WIDTH + 1) * TEAMS;
    static constexpr u32 TABLE = ENTRIES * 2 * sizeof(double);
    static constexpr u32 TOLD = WARPS > 1 ? 2 * WARPS * WARP_LANES * sizeof(Sums<double>) : 0;

    u8* told;
    u8* own;
    u32 unions;
    u32 turn;

    // `Variant::shared_bytes` of `src/backend/cuda/kernels.rs` has the bytes.
    __device__ __forceinline__ Columns(u8* shared, u32 unions)
        : told(shared),
          own(shared + TOLD + threadIdx.x / WARP_LANES * (TABLE + (unions + 1) * WARP_LANES * sizeof(Sums<double>))),
          unions(unions),
          turn(0) {}

    // The cell that a lane has.
    static __device__ __forceinline__ u32 row() { return threadIdx.x % WIDTH; }

    // (What follows counts in bytes, and first what is the same for all cells: to find that of a cell takes one instruction.)

    // The shift of a cell in two parts: the second is not needed by who is not exact.
    template <class A>
    __device__ __forceinline__ A& first(u32 cell) const {
        u8* table = own + threadIdx.x % WARP_LANES / WIDTH * sizeof(A);
        return *reinterpret_cast<A*>(table + cell * u32(TEAMS * sizeof(A)));
    }

    template <class A>
    __device__ __forceinline__ A& rest(u32 cell) const {
        u8* table = own + ENTRIES * sizeof(double) + threadIdx.x % WARP_LANES / WIDTH * sizeof(A);
        return *reinterpret_cast<A*>(table + cell * u32(TEAMS * sizeof(A)));
    }

    // The column for a cell of this lane, or of another of the warp.
    template <class S>
    __device__ __forceinline__ Sums<S>& column(u32 cell, u32 lane = threadIdx.x % WARP_LANES) const {
        u8* columns = own + TABLE + lane * sizeof(Sums<S>);
        return *reinterpret_cast<Sums<S>*>(columns + cell * u32(WARP_LANES * sizeof(Sums<S>)));
    }

    // Begins a pass: nothing is summed yet, and the lane of every cell gives its shift.
    template <class S, class A>
    __device__ __forceinline__ void begin(double shift) {
        __syncwarp();
        SplitShift<A> split(row() < unions ? shift : 0.0);
        first<A>(row()) = split.first;
        rest<A>(row()) = split.rest;
        if (row() == 0 && unions == WIDTH) {
            first<A>(unions) = A(0);
            rest<A>(unions) = A(0);
        }
        for (u32 cell = 0; cell <= unions; ++cell) {
            column<S>(cell) = Sums<S>{S(0), 0};
        }
        __syncwarp();
    }

    // Ends it: the lane of every cell gets its sums.
    template <class S, class Holder>
    __device__ __forceinline__ Found<S> end(Holder& team) {
        __syncwarp();
        Sums<S> all = {S(0), 0};
        if (row() < unions) {
#pragma unroll 8
            for (u32 i = 0; i < WIDTH; ++i) {
                // (Each lane begins elsewhere: no two read the same bank.)
                const Sums<S>& one = column<S>(row(), threadIdx.x % WARP_LANES / WIDTH * WIDTH + (i + row()) % WIDTH);
                all.value += one.value;
                all.counts += one.counts;
            }
        }
        if constexpr (WARPS > 1) {
            // By turns: who comes late still reads the last sums while others write the next.
            Sums<S>* all_told = reinterpret_cast<Sums<S>*>(told + turn * (TOLD / 2));
            turn ^= 1;
            all_told[threadIdx.x] = all;
            __syncthreads();
            all = Sums<S>{S(0), 0};
            for (u32 other = 0; other < WARPS; ++other) {
                all.value += all_told[other * WARP_LANES + threadIdx.x % WARP_LANES].value;
                all.counts += all_told[other * WARP_LANES + threadIdx.x % WARP_LANES].counts;
            }
        }
        Found<S> found = {all.value, all.counts & ALL_FREE, all.counts / ONE_THERE};
        team.add_up_rows(found.value, found.free, found.there);
        return found;
    }
};

// A thread's cells, four bytes to a word. Those of elements that there are not are one past the last; `usable` becomes false at ids
// that are out of range, which are not kept.
template <int LANES, int VALUES>
__device__ __forceinline__ void load_ids(const Team<LANES>& team, const u8* cells, u32 n, u32 unions,
                                         u32 (&ids)[VALUES / PACK], bool& usable) {
    // Four ids at once: whether a byte, or it and what it is short of the end, has its highest bit.
    constexpr u32 EACH = 0x01010101, HIGHEST = 0x80808080;
    u32 none = unions * EACH, short_of = HIGHEST - none, strange = 0;
    bool packed = is_packed(cells, n);
    if (packed && n == LANES * VALUES) {
#pragma unroll
        for (u32 pack = 0; pack < VALUES / PACK; ++pack) {
            u32 word = *reinterpret_cast<const u32*>(cells + Layout<LANES, VALUES>::start(team, pack));
            u32 wrong = (word | (word + short_of)) & HIGHEST;
            ids[pack] = wrong == 0 ? word : none;
            strange |= wrong;
        }
    } else {
#pragma unroll
        for (u32 pack = 0; pack < VALUES / PACK; ++pack) {
            u32 i = Layout<LANES, VALUES>::start(team, pack), rest = n > i ? n - i : 0;
            union {
                Pack<u8> ids;
                u32 word;
            } four = {load_pack(cells, i, n, packed)};
            u32 there = rest >= PACK ? ~0u : (1u << (8 * rest)) - 1;
            u32 wrong = (four.word | (four.word + short_of)) & HIGHEST & there;
            ids[pack] = wrong == 0 ? (four.word & there) | (none & ~there) : none;
            strange |= wrong;
        }
    }
    usable = usable && strange == 0;
}

// The id of an element of a pack.
__device__ __forceinline__ u32 id_of(u32 ids, u32 k) { return __byte_perm(ids, 0, 0x4440 + k); }
