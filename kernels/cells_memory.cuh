// The shared memory of a block that has a problem with rows over cells in hand: what it knows of the cells.
#pragma once

#include "cells_call.cuh"
#include "row_memory.cuh"
#include "warp.cuh"

// What a pass sums of a cell: w y, w |y|, w of the free elements, w |t - y|.
constexpr u32 SUMS = 4;
constexpr u32 SUM_Y = 0, SUM_SIZE = 1, SUM_FREE = 2, SUM_BEYOND = 3;

// (As in `RowMemory`.)
struct CellMemory {
    double* first_cell;
    u32 cells;
    u32 warps;

    __device__ __forceinline__ CellMemory(Room& room, u32 cells, u32 rows, u32 warps)
        : cells(cells), warps(warps) {
        first_cell = room.take(0);
        room.take(static_cast<u32>(matrix() - first_cell) + rows * matrix_pitch());
    }

    // Distance between rows of the matrix: odd, as in `RowMemory`.
    __device__ __forceinline__ u32 matrix_pitch() const { return cells | 1; }

    // By cell, over weights that sum to 1: of w, w label, w lo, w hi; the sums of the last pass; the shifts to be tried, and the
    // same as two numbers of what elements are computed in.
    __device__ __forceinline__ double* weight() const { return first_cell; }
    __device__ __forceinline__ double* label() const { return first_cell + cells; }
    __device__ __forceinline__ double* box_lo() const { return first_cell + 2 * cells; }
    __device__ __forceinline__ double* box_hi() const { return first_cell + 3 * cells; }
    __device__ __forceinline__ double* sums() const { return first_cell + 4 * cells; }
    __device__ __forceinline__ double* shift() const { return sums() + SUMS * cells; }
    __device__ __forceinline__ double* split() const { return shift() + cells; }
    // The sums at the points, the curvature of the model, what a backward pass pulls by, and sums of each warp.
    __device__ __forceinline__ double* point_sums() const { return shift() + 3 * cells; }
    __device__ __forceinline__ double* curvature() const { return point_sums() + POINTS * SUMS * cells; }
    __device__ __forceinline__ double* pull() const { return curvature() + cells; }
    __device__ __forceinline__ double* partial() const { return curvature() + 2 * cells; }
    // Where the elements of a cell begin among the sorted ones.
    __device__ __forceinline__ u32* starts() const { return reinterpret_cast<u32*>(partial() + warps * SUMS * cells); }
    // What all threads have to know.
    __device__ __forceinline__ double* total() const { return partial() + warps * SUMS * cells + cells / 2 + 1; }
    __device__ __forceinline__ u32* flags() const { return reinterpret_cast<u32*>(total() + 1); }
    // Rows over cells, of all parts one after the other.
    __device__ __forceinline__ double* matrix() const { return total() + 2; }
};

// Of a block with a problem with any rows over cells: one machine, part after part.
struct Memory : CellMemory, RowMemory {
    __device__ __forceinline__ Memory(double* at, const CellsCall& call, u32 warps) : Memory(Room{at}, call, warps) {}

  private:
    __device__ __forceinline__ Memory(Room room, const CellsCall& call, u32 warps)
        : CellMemory(room, call.cell_count, call.rows, warps),
          RowMemory(room, call.rows, call.spreads, call.parts,
                    call.rows * (call.cell_count + call.spreads + call.rows + 1)) {}
};
