// What the kernels for one difference spread share: the arguments of a launch, and how a team holds the elements of a problem.
//
// Every union of the spread is a cell, there are no weights, and all elements have the same bounds.
#pragma once

#include "meeting.cuh"
#include "storage.cuh"

// The cells that there can be.
constexpr u32 MOST_CELLS = 32;

// Steps of Newton's method after which all sums are exact.
constexpr u32 MAX_ROUGH_STEPS = 8;

// What a problem waits for: rough sums, exact ones, or those of y = clip(z), which it ends with unsolved: `cells_newton` takes
// it over.
enum Stage { ROUGH, EXACT, CLIPPED, SOLVED };

// `SpreadCall` of `src/backend/cuda/calls.rs`; a test holds both together.
struct SpreadCall {
    // Arrays of elements, by problem; `cells` may be shared by all.
    const void* z;
    const u8* cells;
    void* y;
    u32* clamp;
    // An `Outcome` and a multiplier of every union, for each problem.
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
    // Where the blocks of a problem meet, of a launch that has so many blocks for each.
    Arrivals* arrivals;
    u64* boards;
    double lo;
    double hi;
    double tolerance;
    u32 count;
    u32 n;
    u32 shared_cells;
    u32 shared_levels;
    u32 max_iterations;
    u32 blocks;
    u32 unused;
    // How many unions there are, and which one each cell is.
    u32 unions;
    u8 union_of_cell[MOST_CELLS];
};

// A problem's place in the arrays; or, where several blocks have it, the place of the part that this one has.
struct Place {
    u32 problem;
    // Elements of the whole problem, of the part, and before it.
    u32 whole;
    u32 n;
    u32 before;
    // Where the part begins.
    u64 first;
    // Whether there is a problem for these threads at all.
    bool present;

    __device__ __forceinline__ Place(const SpreadCall& call, u32 index) : whole(0), n(0), before(0), first(0) {
        present = index < call.count;
        problem = present && call.list ? call.list[index] : index;
        if (present) {
            first = call.offsets ? call.offsets[problem] : static_cast<u64>(problem) * call.n;
            n = whole = call.offsets ? static_cast<u32>(call.offsets[problem + 1] - first) : call.n;
        }
    }

    // The part that begins after so many elements, of at most so many.
    __device__ __forceinline__ void cut(u32 begin, u32 most) {
        before = smaller(begin, whole);
        n = smaller(most, whole - before);
        first += before;
    }
};

// What has a problem: a team, and the problem's place; `SEVERAL` blocks have one that is too large for one of them.
template <int LANES, int VALUES, bool SEVERAL>
struct Holder : Team<LANES> {
    Place place;

    __device__ __forceinline__ explicit Holder(const SpreadCall& call) : place(call, this->index()) {}

    // The last thing that a thread does.
    __device__ __forceinline__ void leave() const {}
};

template <int LANES, int VALUES>
struct Holder<LANES, VALUES, true> : Crowd<LANES, SpreadCall> {
    Place place;

    __device__ __forceinline__ explicit Holder(const SpreadCall& call)
        : Crowd<LANES, SpreadCall>(call, 0), place(call, this->meeting.group()) {
        constexpr u32 ROOM = LANES * VALUES;
        u32 blocks = (place.whole + ROOM - 1) / ROOM, block = this->meeting.block();
        this->meeting.blocks = blocks;
        // (There may be more blocks than this problem needs.)
        place.present = place.present && block < blocks;
        place.cut(block * ROOM, ROOM);
    }

    __device__ __forceinline__ void leave() { this->meeting.leave(); }
};

// How a team holds the elements of a problem: so many values a thread, in packs; neighbours have neighbouring packs.
template <int LANES, int VALUES>
struct Layout {
    static constexpr u32 PACKS = VALUES / PACK;
    static_assert(VALUES <= 32 && (PACKS % 4 == 0 || PACKS < 4), "a thread's values are the bits of a word, and its packs make whole ones");

    // The element that a thread's pack begins with.
    static __device__ __forceinline__ u32 start(const Team<LANES>& team, u32 pack) {
        return (pack * LANES + team.lane) * PACK;
    }

    // Which of a thread's elements there are, as bits.
    static __device__ __forceinline__ u32 present(const Team<LANES>& team, u32 n) {
        if (n == LANES * VALUES) {
            return ~0u >> (32 - VALUES);
        }
        u32 bits = 0;
#pragma unroll
        for (u32 pack = 0; pack < PACKS; ++pack) {
            u32 i = start(team, pack);
            u32 rest = n > i ? n - i : 0;
            bits |= (rest >= PACK ? 0xfu : (1u << rest) - 1) << (pack * PACK);
        }
        return bits;
    }

    // Reads a thread's values; those that there are not are zero.
    template <class T>
    static __device__ __forceinline__ void load(const Team<LANES>& team, const T* array, u32 n,
                                                ArithmeticOf<T> (&values)[VALUES]) {
        bool packed = is_packed(array, n), whole = packed && n == LANES * VALUES;
#pragma unroll
        for (u32 pack = 0; pack < PACKS; ++pack) {
            u32 i = start(team, pack);
            Pack<T> four = whole ? *reinterpret_cast<const Pack<T>*>(array + i) : load_pack(array, i, n, packed);
#pragma unroll
            for (u32 k = 0; k < PACK; ++k) {
                values[pack * PACK + k] = Storage<T>::widen(four.values[k]);
            }
        }
    }
};

// A shift as the sum of two numbers. Large ones are cut, so that no infinity arises.
template <class A>
struct SplitShift {
    A first;
    A rest;
    __device__ __forceinline__ explicit SplitShift(double shift) {
        shift = smaller(larger(shift, -1e30), 1e30);
        first = static_cast<A>(shift);
        rest = static_cast<A>(shift - static_cast<double>(first));
    }
};

// Which of a thread's elements are clamped, as bits.
template <int LANES, int VALUES>
__device__ __forceinline__ u32 load_clamped(const Team<LANES>& team, const u32* clamp, u32 n) {
    u32 clamped = 0;
#pragma unroll
    for (u32 pack = 0; pack < Layout<LANES, VALUES>::PACKS; ++pack) {
        u32 i = Layout<LANES, VALUES>::start(team, pack);
        if (i < n) {
            clamped |= (clamp[i / CLAMP_LANES] >> (i % CLAMP_LANES) & 0xf) << (pack * PACK);
        }
    }
    return clamped;
}

// Bits of elements below and above their bounds.
struct Beyond {
    u32 lower;
    u32 upper;
};

// Writes the clamp words: four threads beside each other have the elements of one.
template <int LANES, int VALUES>
__device__ __forceinline__ void write_clamp(const Team<LANES>& team, Beyond beyond, u32* clamp, u32 n, bool writes) {
    u32 quarter = team.lane % 4;
    bool odd = (quarter & 1) != 0, high = (quarter & 2) != 0;
#pragma unroll
    for (u32 first = 0; first < Layout<LANES, VALUES>::PACKS; first += 4) {
        u32 words[4];
#pragma unroll
        for (u32 k = 0; k < 4; ++k) {
            u32 lower = beyond.lower >> ((first + k) * PACK) & 0xf, upper = beyond.upper >> ((first + k) * PACK) & 0xf;
            words[k] = (lower | upper | upper << 16) << (quarter * PACK);
        }
        // Each of the four ends with the word of one pack.
        u32 kept[2];
#pragma unroll
        for (u32 pair = 0; pair < 2; ++pair) {
            u32 given = odd ? words[2 * pair] : words[2 * pair + 1];
            u32 own = odd ? words[2 * pair + 1] : words[2 * pair];
            kept[pair] = own | __shfl_xor_sync(FULL_WARP, given, 1);
        }
        u32 word = high ? kept[1] : kept[0];
        word |= __shfl_xor_sync(FULL_WARP, high ? kept[0] : kept[1], 2);
        u32 at = ((first + quarter) * LANES + team.lane) / 4;
        if (writes && at * CLAMP_LANES < n) {
            clamp[at] = word;
        }
    }
}

// Bytes of a problem's record.
__device__ __forceinline__ u64 record_bytes(const SpreadCall& call) {
    return sizeof(Outcome) + call.unions * sizeof(double);
}

// The record of a problem: its outcome, and the multipliers, union by union.
__device__ __forceinline__ u8* record_of(const SpreadCall& call, u32 problem) {
    return call.outcomes + problem * record_bytes(call);
}

__device__ __forceinline__ Outcome& outcome_of(const SpreadCall& call, u32 problem) {
    return *reinterpret_cast<Outcome*>(record_of(call, problem));
}

__device__ __forceinline__ double& multiplier_of(const SpreadCall& call, u32 problem, u32 cell) {
    return reinterpret_cast<double*>(record_of(call, problem) + sizeof(Outcome))[call.union_of_cell[cell]];
}

// For backward passes: whether the problem has an answer, and the multiplier of a cell; none of a cell that there is not.
__device__ __forceinline__ bool is_solved(const SpreadCall& call, const Place& place) {
    return place.present && outcome_of(call, place.problem).status == STATUS_SOLVED;
}

__device__ __forceinline__ double multiplier_at(const SpreadCall& call, const Place& place, u32 cell) {
    return place.present && cell < call.unions ? multiplier_of(call, place.problem, cell) : 0.0;
}

// What a problem gets that cannot be used: y = clip(z), a NaN stays a NaN, and no element is free.
template <class T, int LANES>
__device__ void write_unusable(const Team<LANES>& team, const SpreadCall& call, const Place& place, u32* clamp) {
    typedef ArithmeticOf<T> A;
    const T* z = static_cast<const T*>(call.z) + place.first;
    T* y = static_cast<T*>(call.y) + place.first;
#pragma unroll 1
    for (u32 i = team.lane; i < place.n; i += LANES) {
        A value = Storage<T>::widen(z[i]);
        y[i] = Storage<T>::narrow(clip(value, static_cast<A>(call.lo), static_cast<A>(call.hi)));
    }
#pragma unroll 1
    for (u32 at = team.lane; at * CLAMP_LANES < place.n; at += LANES) {
        clamp[at] = ALL_CLAMPED;
    }
    if (team.lane == 0) {
        outcome_of(call, place.problem) = Outcome{STATUS_BAD_NUMBER, 0, 0, 0, 0.0, infinity()};
        for (u32 cell = 0; cell < call.unions; ++cell) {
            multiplier_of(call, place.problem, cell) = 0.0;
        }
    }
}
