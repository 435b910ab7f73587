// What a backward pass writes: gradients to levels and row bounds, to the elements, and to their weights and labels. Twin of
// `src/reference/cells_vjp.rs`, where it is explained.
#pragma once

#include "cells_memory.cuh"
#include "elements.cuh"
#include "vjp_rows.cuh"

// What a backward pass sums of a cell: w of free elements, g of those, w y, and dL/dz.
constexpr u32 SUM_OF_FREE = 0, SUM_OF_GRADIENT = 1, SUM_OF_VALUE = 2, SUM_OF_MOVED = 3;

// What the elements of a cell need for the gradients to weights and labels, cell by cell: the gradient to a weight is
// constant - y slope + label label_slope, and that to a label is per unit of weight.
constexpr u32 TERM_CONSTANT = 0, TERM_SLOPE = 1, TERM_LABEL_SLOPE = 2, TERM_LABEL = 3;

__device__ __forceinline__ double* terms_of(const CellMemory& memory, u32 which) { return memory.point_sums() + which * memory.cells; }

// Whether an element is clamped, and whether at its upper bound.
struct ClampedAt {
    bool any;
    bool upper;
    __device__ __forceinline__ ClampedAt(const u32* clamp, u32 i) {
        u32 word = clamp[i / CLAMP_LANES] >> (i % CLAMP_LANES);
        any = (word & 1) != 0;
        upper = (word >> CLAMP_LANES & 1) != 0;
    }
};

// Sets all gradients of the elements to zero.
template <int LANES, class T>
__device__ __forceinline__ void write_zeros(const Problem<T>& problem) {
    const CellsCall& call = problem.call;
    void* const arrays[5] = {call.to_predictions, call.to_lo, call.to_hi, call.to_weights, call.to_labels};
#pragma unroll
    for (u32 which = 0; which < 5; ++which) {
        for (u32 i = threadIdx.x; arrays[which] && i < problem.n; i += LANES) {
            problem.output(arrays[which])[i] = Storage<T>::narrow(ArithmeticOf<T>(0));
        }
    }
    T* to_coefficients = static_cast<T*>(call.to_coefficients) + problem.first * call.dense;
    for (u32 at = threadIdx.x; call.to_coefficients && at < problem.n * call.dense; at += LANES) {
        to_coefficients[at] = Storage<T>::narrow(ArithmeticOf<T>(0));
    }
}

// Sets the gradients of the problem to zero: what no row writes stays so. Whether there is an answer to go back from.
template <class T>
__device__ __forceinline__ bool begin_gradients(const Problem<T>& problem) {
    const CellsCall& call = problem.call;
    u32 bounded = problem.bounded_rows();
    if (problem.block() == 0 && threadIdx.x < call.spreads) {
        call.to_levels[problem.index * u64(call.spreads) + threadIdx.x] = 0.0;
    }
    if (problem.block() == 0 && threadIdx.x < bounded) {
        call.to_row_lower[problem.index * u64(bounded) + threadIdx.x] = 0.0;
        call.to_row_upper[problem.index * u64(bounded) + threadIdx.x] = 0.0;
    }
    return problem.whole > 0 && is_answer(problem.outcome().status);
}

// The gradients to levels and row bounds of a part's rows.
template <class Held, class T>
__device__ __forceinline__ void write_row_gradients(const Problem<T>& problem, const Held& solved, double total) {
    const CellsCall& call = problem.call;
    const auto& rows = solved.rows;
    for (u32 b = 0; b < rows.blocks; ++b) {
        bool here = rows.in(b);
        double slope = 0.5 * (solved.nu > 0.0 ? 1.0 : solved.nu < 0.0 ? -1.0 : 0.0) * solved.lambda;
        if (rows.is_ratio_block(b)) {
            // Rows held from below have the mean ratio * centre, and the ratio is in their balance too.
            double moved = solved.moved();
            double e = here && solved.is_held ? rows.centre_coefficient(b, solved.nu) * solved.jacobi : 0.0;
            double dot = sum_of_rows(e * moved * solved.jacobi), square = sum_of_rows(e * e);
            double border = square > 0.0 ? dot / square : 0.0;
            u32 tops = lanes_where(here && solved.nu > 0.0);
            double mean = rows.value();
            double centre = tops != 0 ? of_lane(mean, lowest_of(tops)) : 0.0;
            slope = solved.nu < 0.0 ? centre * solved.lambda + border * solved.nu / total : 0.0;
        }
        double sum = sum_of_rows(here ? slope : 0.0);
        if (rows.lane == 0) {
            call.to_levels[problem.index * u64(call.spreads) + rows.memory.block_spread()[rows.first_block + b]] = sum;
        }
    }
    if (rows.is_contrast()) {
        u64 at = problem.index * u64(problem.bounded_rows()) + rows.memory.source()[rows.base + rows.lane] - problem.first_contrast();
        (solved.nu < 0.0 ? call.to_row_lower : call.to_row_upper)[at] = solved.lambda * rows.unit_of_row();
    }
}

// What a part's rows say of the gradients to weights and labels. The weights stand in the distance and in the means alike: for
// each side U of a row, of sign s and mass S, s (-lambda (y - mean_U) / S + nu V / S^2), V the sum of dL/dz over U.
template <class Held, class T>
__device__ __forceinline__ void set_terms(const Problem<T>& problem, const Held& solved) {
    const auto& rows = solved.rows;
    const CellMemory& memory = rows.of_cells;
    const double* moved_in = memory.sums() + SUM_OF_MOVED * memory.cells;
    const double* value_in = memory.sums() + SUM_OF_VALUE * memory.cells;
    u32 lane = rows.lane, source = rows.mine ? rows.memory.source()[rows.base + lane] : 0;
    double constant = 0.0, slope = 0.0, label_slope = 0.0;
    for (u32 r = 0; r < rows.over_cells; ++r) {
        SetRow row = problem.call.set_rows[__shfl_sync(FULL_WARP, source, static_cast<int>(r))];
        double lambda = of_lane(solved.lambda, r), nu = of_lane(solved.nu, r) / *memory.total();
#pragma unroll 1
        for (u32 side = 0; side < 2; ++side) {
            u32 inside = side == 0 ? row.plus : row.minus;
            double sign = side == 0 ? 1.0 : -row.scale, mass = sum_over(inside, memory.weight());
            if (mass <= 0.0) {
                continue;
            }
            double label = row.residual != 0 ? sum_over(inside, memory.label()) : 0.0;
            double mean = (sum_over(inside, value_in) - label) / mass, moved = sum_over(inside, moved_in);
            if ((inside >> lane & 1) != 0) {
                double of_side = sign * lambda / mass;
                constant += of_side * mean + sign * nu * moved / (mass * mass);
                slope += of_side;
                label_slope += row.residual != 0 ? of_side : 0.0;
            }
        }
    }
    if (rows.has_cell()) {
        terms_of(memory, TERM_CONSTANT)[lane] = constant;
        terms_of(memory, TERM_SLOPE)[lane] = slope;
        terms_of(memory, TERM_LABEL_SLOPE)[lane] = label_slope;
        terms_of(memory, TERM_LABEL)[lane] = label_slope;
    }
}

// The gradients to an element's inputs; `pull` is what its rows pull it by per unit of weight, `weight` is over weights that sum
// to 1, and `of_dense` is what rows over samples say of its weight.
template <class T>
__device__ __forceinline__ void write_gradient(const Problem<T>& problem, const CellMemory& memory, u32 i, double weight, double pull,
                                               double of_dense) {
    typedef ArithmeticOf<T> A;
    const CellsCall& call = problem.call;
    auto put = [&](void* array, double value) {
        if (array) {
            problem.output(array)[i] = Storage<T>::narrow(static_cast<A>(value));
        }
    };
    u32 cell = problem.cells()[i];
    ClampedAt clamped(problem.clamp(), i);
    double value = problem.gradient(i) - weight * pull, total = *memory.total();
    put(call.to_predictions, clamped.any ? 0.0 : value);
    put(call.to_lo, clamped.any && !clamped.upper ? value : 0.0);
    put(call.to_hi, clamped.upper ? value : 0.0);
    if (call.to_weights) {
        double of_y = problem.value(i) * terms_of(memory, TERM_SLOPE)[cell];
        double of_label = problem.label(i) * terms_of(memory, TERM_LABEL_SLOPE)[cell];
        put(call.to_weights, (terms_of(memory, TERM_CONSTANT)[cell] - of_y + of_label) / total + of_dense);
    }
    put(call.to_labels, weight * terms_of(memory, TERM_LABEL)[cell]);
}
