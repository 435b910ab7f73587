// The elements of a problem: what a shift makes of one, and what is written of it and of the problem.
#pragma once

#include "cells_call.cuh"
#include "spread.cuh"
#include "warp.cuh"

// An element at a shift, and clipped. What is stored is the clipped value rounded to the storage type: rounding is monotone
// and the bounds are of that type.
template <class A>
struct Moved {
    A t;
    A clipped;
    A lo;
    A hi;
};

template <class T>
__device__ __forceinline__ Moved<ArithmeticOf<T>> move_element(const Problem<T>& problem, SplitShift<ArithmeticOf<T>> shift,
                                                               u32 i) {
    Moved<ArithmeticOf<T>> moved;
    moved.lo = problem.lo(i);
    moved.hi = problem.hi(i);
    moved.t = (problem.z(i) - shift.first) - shift.rest;
    moved.clipped = clip(moved.t, moved.lo, moved.hi);
    return moved;
}

// The value as it is stored.
template <class T>
__device__ __forceinline__ double stored_value(ArithmeticOf<T> clipped) {
    return static_cast<double>(Storage<T>::widen(Storage<T>::narrow(clipped)));
}

// Writes an element where there is one, and two words of clamp states: a warp calls it with elements in a row, the first of them
// a multiple of 32. What is not an answer has no free element.
template <class T>
__device__ __forceinline__ void write_moved(const Problem<T>& problem, u32 i, bool there, const Moved<ArithmeticOf<T>>& moved,
                                            bool is_answer) {
    if (there) {
        problem.output(problem.call.y)[i] = Storage<T>::narrow(moved.clipped);
    }
    u32 lower = lanes_where(there && moved.t < moved.lo), upper = lanes_where(there && moved.t > moved.hi);
    u32 lane = threadIdx.x % WARP_LANES, shift = lane * CLAMP_LANES, at = i - lane + shift;
    if (lane < 2 && at < problem.n) {
        u32 word = ((lower | upper) >> shift & 0xffff) | (upper >> shift & 0xffff) << 16;
        problem.clamp()[at / CLAMP_LANES] = is_answer ? word : ALL_CLAMPED;
    }
}

// What a problem gets that cannot be used: y = clip(z), a NaN stays a NaN, and no element is free.
template <int LANES, class T>
__device__ __forceinline__ void write_clipped(const Problem<T>& problem) {
    T* y = problem.output(problem.call.y);
    for (u32 i = threadIdx.x; i < problem.n; i += LANES) {
        y[i] = Storage<T>::narrow(clip(problem.z(i), problem.lo(i), problem.hi(i)));
    }
    for (u32 word = threadIdx.x; word * CLAMP_LANES < problem.n; word += LANES) {
        problem.clamp()[word] = ALL_CLAMPED;
    }
}

// Sets the record; the first warp calls it.
template <class T>
__device__ __forceinline__ void write_record(const Problem<T>& problem, const Outcome& outcome) {
    u32 lane = threadIdx.x;
    if (lane == 0) {
        problem.outcome() = outcome;
    }
    if (lane < problem.call.rows) {
        problem.multipliers()[lane] = 0.0;
    }
    __syncwarp();
}

__device__ __forceinline__ bool is_answer(u32 status) { return status == STATUS_SOLVED || status == STATUS_RELAXED; }
