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

struct SampleMemory : CellMemory {
    // By row over samples: what it was multiplied by, and the largest coefficient.
    double* unit;
    double* largest;
    // The sums at every point, and last the curvature where free weights are floored.
    double* sums_at;
    u32 sums_of_point;
    // What the warps tell each other, by turns.
    double* told;
    // The warp's own machine; and the work of the first, and how far apart they are.
    RowMemory own;
    double* first_work;
    u32 machine_doubles;

    __device__ __forceinline__ SampleMemory(double* at, const CellsCall& call, u32 warps) : SampleMemory(Room{at}, call, warps) {}

    // The sums of a point: of pairs of rows, then means and sizes; and how far any sample lay beyond its bounds.
    __device__ __forceinline__ double* sums_of(u32 point) const { return sums_at + point * sums_of_point; }

  private:
    __device__ __forceinline__ SampleMemory(Room room, const CellsCall& call, u32 warps)
        : CellMemory(room, call.cell_count, call.rows - call.dense, warps), unit(room.take(call.dense)),
          largest(room.take(call.dense)), sums_of_point(pairs_of(call.rows) + 2 * call.rows + 1) {
        u32 rows = call.rows, warp = threadIdx.x / WARP_LANES;
        u32 work = rows * TILE_PITCH + TILE_NUMBERS * TILE + partial_of(pairs_of(rows)) + partial_of(2 * rows);
        sums_at = room.take(POINTS * sums_of_point + pairs_of(rows));
        told = room.take(4 * warps);
        Room next = room;
        RowMemory first(next, rows, call.spreads, 1, work);
        machine_doubles = static_cast<u32>(next.at - room.at);
        first_work = first.work;
        room.at += warp * machine_doubles;
        own = RowMemory(room, rows, call.spreads, 1, work);
    }
};
