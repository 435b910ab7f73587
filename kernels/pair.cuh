// What the kernels for problems of two cells share: of every element, a bit says which of the two it is in.
#pragma once

#include "spread.cuh"

// Which of a thread's elements are in cell 1, as bits; `usable` becomes false if any is in another but 0.
template <int LANES, int VALUES>
__device__ __forceinline__ u32 load_cells(const Team<LANES>& team, const u8* cells, u32 n, bool& usable) {
    u32 ones = 0, others = 0;
    bool packed = is_packed(cells, n), whole = packed && n == LANES * VALUES;
#pragma unroll
    for (u32 pack = 0; pack < Layout<LANES, VALUES>::PACKS; ++pack) {
        u32 i = Layout<LANES, VALUES>::start(team, pack), word = 0;
        if (whole || (packed && i < n)) {
            word = *reinterpret_cast<const u32*>(cells + i);
        } else if (!packed) {
#pragma unroll
            for (u32 k = 0; k < PACK; ++k) {
                word |= i + k < n ? static_cast<u32>(cells[i + k]) << (8 * k) : 0;
            }
        }
        others |= word;
        // Moves the lowest bits of the four bytes together.
        ones |= (word & 0x01010101u) * 0x10204080u >> 28 << (pack * PACK);
    }
    usable = usable && (others & 0xfefefefeu) == 0;
    return ones;
}

__device__ __forceinline__ bool bit(u32 bits, u32 index) { return (bits >> index & 1) != 0; }

// Numbers of elements of both cells, and, in the upper half, of cell 1.
template <bool SEVERAL>
struct CountOf {
    typedef u32 Type;
};
template <>
struct CountOf<true> {
    typedef u64 Type;
};

// Those of the elements that are marked.
template <class C>
__device__ __forceinline__ C count_both(u32 marked, u32 ones) {
    return static_cast<C>(__popc(marked)) | static_cast<C>(__popc(marked & ones)) << (4 * sizeof(C));
}

template <class C>
__device__ __forceinline__ u32 count_of_one(C count) {
    return static_cast<u32>(count >> (4 * sizeof(C)));
}

template <class C>
__device__ __forceinline__ u32 count_of_other(C count) {
    return static_cast<u32>(count & ((C(1) << (4 * sizeof(C))) - 1)) - count_of_one(count);
}
