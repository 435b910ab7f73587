// The shared memory of a block that has a problem with rows over cells in hand: what it knows of the cells.
#pragma once

#include "cells_call.cuh"
#include "row_memory.cuh"
#include "warp.cuh"

// What a pass sums of a cell: w y, w |y|, w of the free elements, w |t - y|.
constexpr u32 SUMS = 4;
constexpr u32 SUM_Y = 0, SUM_SIZE = 1, SUM_FREE = 2, SUM_BEYOND = 3;

struct CellMemory {
    u32 cells;
    // Distance between rows of the matrix: odd, as in `RowMemory`.
    u32 matrix_pitch;

    // By cell, over weights that sum to 1: of w, w label, w lo, w hi; the sums of the last pass; the shifts to be tried.
    double* weight;
    double* label;
    double* box_lo;
    double* box_hi;
    double* sums;
    double* shift;
    // The same as two numbers of what elements are computed in.
    double* split;
    double* point_sums;
    double* curvature;
    double* pull;
    double* partial;
    // Where the elements of a cell begin among the sorted ones.
    u32* starts;
    // Rows over cells, of all parts one after the other.
    double* matrix;
    // What all threads have to know.
    double* total;
    u32* flags;

    __device__ __forceinline__ CellMemory(Room& room, u32 cells, u32 rows, u32 warps)
        : cells(cells), matrix_pitch(cells | 1) {
        weight = room.take(cells);
        label = room.take(cells);
        box_lo = room.take(cells);
        box_hi = room.take(cells);
        sums = room.take(SUMS * cells);
        shift = room.take(cells);
        split = room.take(2 * cells);
        point_sums = room.take(POINTS * SUMS * cells);
        curvature = room.take(cells);
        pull = room.take(cells);
        partial = room.take(warps * SUMS * cells);
        starts = reinterpret_cast<u32*>(room.take(cells / 2 + 1));
        matrix = room.take(rows * matrix_pitch);
        total = room.take(1);
        flags = reinterpret_cast<u32*>(room.take(1));
    }
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
