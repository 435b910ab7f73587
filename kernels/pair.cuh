// What the kernels for problems of two cells share: the arguments of a launch, and how a team holds the elements of a problem.
//
// Such a problem has one difference spread of two unions of a cell each, no weights, and the same bounds for all elements.
#pragma once

#include "storage.cuh"
#include "team.cuh"

// Elements that a thread holds; a problem has no more than that for each thread of its team.
constexpr u32 VALUES = 16;
constexpr u32 PACKS = VALUES / PACK;

// `fairlayer::backend::cuda::PairCall`; a test holds both together.
struct PairCall {
    // Arrays of elements, by problem; `cells` may be shared by all.
    const void* z;
    const u8* cells;
    void* y;
    u32* clamp;
    // An `Outcome` and two multipliers for each problem.
    u8* outcomes;
    // Where problems begin, and the last one ends; null where all have `n` elements.
    const u64* offsets;
    // Which problems these are; null: the first `count`.
    const u32* list;
    // Epsilon, for each problem or for all.
    const double* levels;
    // Backward: the gradient to y, to the predictions, and to epsilon.
    const void* g;
    void* to_predictions;
    double* to_levels;
    double lo;
    double hi;
    double tolerance;
    u32 count;
    u32 n;
    u32 shared_cells;
    u32 shared_levels;
    // The cell that the first union is.
    u32 first_cell;
    u32 max_iterations;
};

// A problem's place in the arrays.
struct Place {
    u32 problem;
    u32 n;
    u64 first;
    // Whether there is a problem for this team at all.
    bool present;
};

template <int LANES>
__device__ __forceinline__ Place place_of(const PairCall& call, const Team<LANES>& team) {
    Place place;
    u32 index = team.index();
    place.present = index < call.count;
    place.problem = place.present && call.list ? call.list[index] : index;
    place.n = call.n;
    place.first = static_cast<u64>(place.problem) * call.n;
    if (call.offsets && place.present) {
        place.first = call.offsets[place.problem];
        place.n = static_cast<u32>(call.offsets[place.problem + 1] - place.first);
    }
    if (!place.present) {
        place.n = 0;
        place.first = 0;
    }
    return place;
}

// The element that a thread's pack begins with: neighbours have neighbouring packs.
template <int LANES>
__device__ __forceinline__ u32 pack_start(const Team<LANES>& team, u32 pack) {
    return (pack * LANES + team.lane) * PACK;
}

// Which of a thread's elements there are, as bits.
template <int LANES>
__device__ __forceinline__ u32 present_bits(const Team<LANES>& team, u32 n) {
    u32 bits = 0;
#pragma unroll
    for (u32 pack = 0; pack < PACKS; ++pack) {
        u32 i = pack_start(team, pack);
        u32 rest = n > i ? n - i : 0;
        bits |= (rest >= PACK ? 0xfu : (1u << rest) - 1) << (pack * PACK);
    }
    return bits;
}

// Which of a thread's elements are in cell 1, as bits; `usable` becomes false if any is in another but 0.
template <int LANES>
__device__ __forceinline__ u32 load_cells(const Team<LANES>& team, const u8* cells, u32 n, bool& usable) {
    u32 ones = 0, others = 0;
    bool packed = is_packed(cells, n);
#pragma unroll
    for (u32 pack = 0; pack < PACKS; ++pack) {
        Pack<u8> ids = load_pack(cells, pack_start(team, pack), n, packed);
        union {
            Pack<u8> ids;
            u32 word;
        } four = {ids};
        others |= four.word;
        // Moves the lowest bits of the four bytes together.
        ones |= (four.word & 0x01010101u) * 0x10204080u >> 28 << (pack * PACK);
    }
    usable = usable && (others & 0xfefefefeu) == 0;
    return ones;
}

__device__ __forceinline__ bool bit(u32 bits, u32 index) { return (bits >> index & 1) != 0; }

// Elements of either cell among those marked.
__device__ __forceinline__ u32 count_both(u32 marked, u32 ones) {
    return __popc(marked) | __popc(marked & ones) << 16;
}
