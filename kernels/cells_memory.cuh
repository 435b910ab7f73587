// The shared memory of a block that has a problem with any rows over cells in hand. `cells_shared_bytes` of
// `src/backend/cuda/kernels.rs` has its size.
#pragma once

#include "cells_call.cuh"
#include "warp.cuh"

// Points of the dual that are kept: where the method is, what it tries, and the best of a line search.
constexpr u32 POINTS = 3;
// What a pass sums of a cell: w y, w |y|, w of the free elements, w |t - y|.
constexpr u32 SUMS = 4;
constexpr u32 SUM_Y = 0, SUM_SIZE = 1, SUM_FREE = 2, SUM_BEYOND = 3;
// Doubles of a part's state between two passes.
constexpr u32 STATE_DOUBLES = 48;

struct Memory {
    u32 cells;
    u32 rows;
    u32 spreads;
    // Distances between rows of matrices: odd, so that lanes with a row each read from different banks.
    u32 matrix_pitch;
    u32 model_pitch;

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
    double* matrix;
    // Of the part in hand: the model's curvature, and room for a system.
    double* h;
    double* work;
    // By block, of all parts one after the other.
    double* limit;
    u32* block_rows;
    u32* block_spread;
    double* state;
    // What all threads have to know.
    double* total;
    u32* flags;

    // (Every one finds its arrays anew: to keep their places takes registers.)
    __device__ __forceinline__ Memory(double* at, const CellsCall& call, u32 warps)
        : cells(made_anew(call.cell_count)), rows(made_anew(call.rows)), spreads(made_anew(call.spreads)), matrix_pitch(cells | 1),
          model_pitch(rows | 1) {
        auto take = [&at](u32 count) {
            double* taken = at;
            at += count;
            return taken;
        };
        weight = take(cells);
        label = take(cells);
        box_lo = take(cells);
        box_hi = take(cells);
        sums = take(SUMS * cells);
        shift = take(cells);
        split = take(2 * cells);
        point_sums = take(POINTS * SUMS * cells);
        curvature = take(cells);
        pull = take(cells);
        partial = take(warps * SUMS * cells);
        starts = reinterpret_cast<u32*>(take(cells / 2 + 1));
        lower = take(rows);
        upper = take(rows);
        reach = take(rows);
        rough = take(rows);
        scale = take(rows);
        nu = take(POINTS * rows);
        rest = take(POINTS * rows);
        mean = take(POINTS * rows);
        answer_nu = take(rows);
        answer_rest = take(rows);
        asked_lower = take(rows);
        asked_upper = take(rows);
        step = take(rows);
        model = take(rows);
        aim = take(rows);
        source = reinterpret_cast<u32*>(take(rows));
        block = source + rows;
        matrix = take(rows * matrix_pitch);
        h = take(rows * model_pitch);
        u32 system = rows + spreads;
        u32 of_system = system * (system | 1) + 2 * system, of_basis = rows * (cells + spreads + rows + 1);
        work = take(of_system > of_basis ? of_system : of_basis);
        limit = take(spreads);
        block_rows = reinterpret_cast<u32*>(take(spreads));
        block_spread = block_rows + spreads;
        state = take(STATE_DOUBLES * call.parts);
        total = take(1);
        flags = reinterpret_cast<u32*>(take(1));
    }
};
