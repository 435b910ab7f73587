// The shared memory of a block that has a problem with rows over samples in hand. Every warp is a machine of its own, and all
// compute the same, so that none waits for what another finds; the samples they share.
#pragma once

#include "cells_memory.cuh"

// Samples that a warp has in hand at a time.
constexpr u32 TILE = WARP_LANES;
// Distance between rows of a tile: odd, so that lanes with a row each read from different banks.
constexpr u32 TILE_PITCH = TILE + 1;
// Numbers of a sample beside its coefficients: its weight, one over it, and three that a pass sums.
constexpr u32 TILE_NUMBERS = 5;
// What a pass sums of so many rows: their products, by pairs; means and sizes.
__device__ __forceinline__ u32 pairs_of(u32 rows) { return rows * (rows + 1) / 2; }

// Sums of a warp of its own, at least one a lane.
__device__ __forceinline__ u32 partial_of(u32 count) { return count < WARP_LANES ? WARP_LANES : count; }

// (Their numbers are made anew: what follows from them is then not kept in registers.)
struct SampleMemory : CellMemory {
    u32 rows;
    u32 dense;
    double* first_sample;
    // The warp's own machine, and how far one is from the next.
    RowMemory own;
    u32 machine_doubles;

    __device__ __forceinline__ SampleMemory(double* at, const CellsCall& call, u32 warps) : SampleMemory(Room{at}, call, warps) {}

    // By row over samples: what it was multiplied by, and the largest coefficient.
    __device__ __forceinline__ double* unit() const { return first_sample; }
    __device__ __forceinline__ double* largest() const { return first_sample + dense; }
    // What the warps tell each other, by turns.
    __device__ __forceinline__ double* told() const { return first_sample + 2 * dense; }
    // The sums of a point: of pairs of rows, then means and sizes; and how far any sample lay beyond its bounds. After those of
    // all points there are sums of pairs where free weights are floored.
    __device__ __forceinline__ double* sums_of(u32 point) const {
        return told() + 2 * warps + point * (pairs_of(rows) + 2 * rows + 1);
    }

  private:
    __device__ __forceinline__ SampleMemory(Room room, const CellsCall& call, u32 warps)
        : CellMemory(room, call.cell_count, call.rows - call.dense, warps), rows(made_anew(call.rows)), dense(made_anew(call.dense)) {
        first_sample = room.take(0);
        room.take(static_cast<u32>(sums_of(POINTS) - first_sample) + pairs_of(rows));
        u32 work = rows * TILE_PITCH + TILE_NUMBERS * TILE + partial_of(pairs_of(rows)) + partial_of(2 * rows);
        own = RowMemory(room, rows, call.spreads, 1, work);
        machine_doubles = static_cast<u32>(room.at - own.first);
        own.first += threadIdx.x / WARP_LANES * machine_doubles;
    }
};
