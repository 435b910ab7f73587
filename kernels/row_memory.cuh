// The shared memory of one machine: its rows, its points, and room to work in. `SetSize` of `src/backend/cuda/kernels.rs` has
// its size.
#pragma once

#include "common.cuh"

// Points of the dual that are kept: where the method is, what it tries, and the best of a line search.
constexpr u32 POINTS = 3;
// Doubles of a part's state between two passes.
constexpr u32 STATE_DOUBLES = 48;

// Numbers of shared memory, one array after the other.
struct Room {
    double* at;

    __device__ __forceinline__ double* take(u32 count) {
        double* taken = at;
        at += count;
        return taken;
    }
};

__device__ __forceinline__ u32 most_of(u32 a, u32 b) { return a > b ? a : b; }

// (Where its arrays are is found each time: registers are few.)
struct RowMemory {
    double* first;
    u32 rows;
    u32 spreads;
    u32 parts;

    RowMemory() = default;

    __device__ __forceinline__ RowMemory(Room& room, u32 rows, u32 spreads, u32 parts, u32 work_doubles)
        : rows(rows), spreads(spreads), parts(parts) {
        u32 system = rows + spreads;
        first = room.take(0);
        room.take(static_cast<u32>(work() - first) + most_of(system * (system | 1) + 2 * system, work_doubles));
    }

    // Distance between rows of the model: odd, so that lanes with a row each read from different banks.
    __device__ __forceinline__ u32 model_pitch() const { return rows | 1; }

    // By row, of all parts one after the other: bounds, and what the stop test knows of coefficients.
    __device__ __forceinline__ double* lower() const { return first; }
    __device__ __forceinline__ double* upper() const { return first + rows; }
    __device__ __forceinline__ double* reach() const { return first + 2 * rows; }
    __device__ __forceinline__ double* rough() const { return first + 3 * rows; }
    __device__ __forceinline__ double* scale() const { return first + 4 * rows; }
    // Multipliers, what they lack, and the rows' means, at a point.
    __device__ __forceinline__ double* nu_of(u32 point) const { return first + (5 + point) * rows; }
    __device__ __forceinline__ double* rest_of(u32 point) const { return first + (5 + POINTS + point) * rows; }
    __device__ __forceinline__ double* mean_of(u32 point) const { return first + (5 + 2 * POINTS + point) * rows; }
    // An answer that was kept; the bounds as they were asked for, the step, where it leads to, and what it aims at.
    __device__ __forceinline__ double* answer_nu() const { return mean_of(POINTS); }
    __device__ __forceinline__ double* answer_rest() const { return answer_nu() + rows; }
    __device__ __forceinline__ double* asked_lower() const { return answer_nu() + 2 * rows; }
    __device__ __forceinline__ double* asked_upper() const { return answer_nu() + 3 * rows; }
    __device__ __forceinline__ double* step() const { return answer_nu() + 4 * rows; }
    __device__ __forceinline__ double* model() const { return answer_nu() + 5 * rows; }
    __device__ __forceinline__ double* aim() const { return answer_nu() + 6 * rows; }
    // The number in the set, and the block.
    __device__ __forceinline__ u32* source() const { return reinterpret_cast<u32*>(answer_nu() + 7 * rows); }
    __device__ __forceinline__ u32* block() const { return source() + rows; }
    // By block, of all parts one after the other.
    __device__ __forceinline__ double* limit() const { return answer_nu() + 8 * rows; }
    __device__ __forceinline__ u32* block_rows() const { return reinterpret_cast<u32*>(limit() + spreads); }
    __device__ __forceinline__ u32* block_spread() const { return block_rows() + spreads; }
    // Of the part in hand: the model's curvature, and room for a system, or for as many numbers as are asked for.
    __device__ __forceinline__ double* state() const { return limit() + 2 * spreads; }
    __device__ __forceinline__ double* h() const { return state() + STATE_DOUBLES * parts; }
    __device__ __forceinline__ double* work() const { return h() + rows * model_pitch(); }
};
