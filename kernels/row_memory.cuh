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

struct RowMemory {
    u32 rows;
    u32 spreads;
    // Distance between rows of the model: odd, so that lanes with a row each read from different banks.
    u32 model_pitch;

    // By row, of all parts one after the other.
    double* lower;
    double* upper;
    double* reach;
    double* rough;
    double* scale;
    double* nu;
    double* rest;
    double* mean;
    double* answer_nu;
    double* answer_rest;
    double* asked_lower;
    double* asked_upper;
    double* step;
    double* model;
    double* aim;
    u32* source;
    u32* block;
    // Of the part in hand: the model's curvature, and room for a system, or for as many numbers as are asked for.
    double* h;
    double* work;
    // By block, of all parts one after the other.
    double* limit;
    u32* block_rows;
    u32* block_spread;
    double* state;

    RowMemory() = default;

    __device__ __forceinline__ RowMemory(Room& room, u32 rows, u32 spreads, u32 parts, u32 work_doubles)
        : rows(rows), spreads(spreads), model_pitch(rows | 1) {
        lower = room.take(rows);
        upper = room.take(rows);
        reach = room.take(rows);
        rough = room.take(rows);
        scale = room.take(rows);
        nu = room.take(POINTS * rows);
        rest = room.take(POINTS * rows);
        mean = room.take(POINTS * rows);
        answer_nu = room.take(rows);
        answer_rest = room.take(rows);
        asked_lower = room.take(rows);
        asked_upper = room.take(rows);
        step = room.take(rows);
        model = room.take(rows);
        aim = room.take(rows);
        source = reinterpret_cast<u32*>(room.take(rows));
        block = source + rows;
        h = room.take(rows * model_pitch);
        u32 system = rows + spreads;
        work = room.take(most_of(system * (system | 1) + 2 * system, work_doubles));
        limit = room.take(spreads);
        block_rows = reinterpret_cast<u32*>(room.take(spreads));
        block_spread = block_rows + spreads;
        state = room.take(STATE_DOUBLES * parts);
    }

    // Arrays of a point, over all rows.
    __device__ __forceinline__ double* nu_of(u32 point) const { return nu + point * rows; }
    __device__ __forceinline__ double* rest_of(u32 point) const { return rest + point * rows; }
    __device__ __forceinline__ double* mean_of(u32 point) const { return mean + point * rows; }
};
