// `cells_vjp`: the gradient of a scalar function of y to every input of the projection onto spreads and contrasts, a block a
// problem. Twin of `src/reference/cells_vjp.rs`, where it is explained.

#include "cells_prepare.cuh"
#include "vjp_rows.cuh"

// What the elements of a cell need for the gradients to weights and labels, cell by cell: the gradient to a weight is
// constant - y slope + label label_slope, and that to a label is per unit of weight.
constexpr u32 TERM_CONSTANT = 0, TERM_SLOPE = 1, TERM_LABEL_SLOPE = 2, TERM_LABEL = 3;

__device__ __forceinline__ double* terms_of(const Memory& memory, u32 which) { return memory.point_sums + which * memory.cells; }

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
}

// The gradients to levels and row bounds of a part's rows.
template <class T>
__device__ __forceinline__ void write_row_gradients(const Problem<T>& problem, const HeldRows& solved) {
    const CellsCall& call = problem.call;
    const CellRows& rows = solved.rows;
    const Memory& memory = solved.memory;
    for (u32 b = 0; b < rows.blocks; ++b) {
        bool here = rows.in(b);
        double slope = 0.5 * (solved.nu > 0.0 ? 1.0 : solved.nu < 0.0 ? -1.0 : 0.0) * solved.lambda;
        if (rows.is_ratio_block(b)) {
            // Rows held from below have the mean ratio * centre, and the ratio is in their balance too.
            double free = 0.0;
            for (u32 left = here && solved.is_held ? rows.cells : 0; left != 0; left &= left - 1) {
                u32 cell = lowest_of(left);
                double moved = solved.sums(SUM_OF_GRADIENT)[cell] - solved.sums(SUM_OF_FREE)[cell] * memory.pull[cell];
                free += rows.coefficient(rows.lane, cell) * moved;
            }
            double e = here && solved.is_held ? rows.centre_coefficient(b, solved.nu) * solved.jacobi : 0.0;
            double dot = sum_of_rows(e * free * solved.jacobi), square = sum_of_rows(e * e);
            double border = square > 0.0 ? dot / square : 0.0;
            u32 tops = lanes_where(here && solved.nu > 0.0);
            double mean = rows.mean_of(solved.sums(SUM_OF_VALUE));
            double centre = tops != 0 ? of_lane(mean, lowest_of(tops)) : 0.0;
            slope = solved.nu < 0.0 ? centre * solved.lambda + border * solved.nu / *memory.total : 0.0;
        }
        double sum = sum_of_rows(here ? slope : 0.0);
        if (rows.lane == 0) {
            call.to_levels[problem.index * u64(call.spreads) + memory.block_spread[rows.first_block + b]] = sum;
        }
    }
    if (rows.is_contrast()) {
        u64 at = problem.index * u64(call.contrasts) + memory.source[rows.base + rows.lane] - problem.first_contrast();
        (solved.nu < 0.0 ? call.to_row_lower : call.to_row_upper)[at] = solved.lambda;
    }
}

// What a part's rows say of the gradients to weights and labels. The weights stand in the distance and in the means alike: for
// each side U of a row, of sign s and mass S, s (-lambda (y - mean_U) / S + nu V / S^2), V the sum of dL/dz over U.
template <class T>
__device__ __forceinline__ void set_terms(const Problem<T>& problem, const HeldRows& solved) {
    const CellRows& rows = solved.rows;
    const Memory& memory = solved.memory;
    u32 lane = rows.lane, source = rows.mine ? memory.source[rows.base + lane] : 0;
    double constant = 0.0, slope = 0.0, label_slope = 0.0;
    for (u32 r = 0; r < rows.m; ++r) {
        SetRow row = problem.call.set_rows[__shfl_sync(FULL_WARP, source, static_cast<int>(r))];
        double lambda = of_lane(solved.lambda, r), nu = of_lane(solved.nu, r) / *memory.total;
#pragma unroll 1
        for (u32 side = 0; side < 2; ++side) {
            u32 inside = side == 0 ? row.plus : row.minus;
            double sign = side == 0 ? 1.0 : -row.scale, mass = sum_over(inside, memory.weight);
            if (mass <= 0.0) {
                continue;
            }
            double label = row.residual != 0 ? sum_over(inside, memory.label) : 0.0;
            double mean = (sum_over(inside, solved.sums(SUM_OF_VALUE)) - label) / mass, moved = 0.0;
            for (u32 left = inside; left != 0; left &= left - 1) {
                u32 cell = lowest_of(left);
                moved += solved.sums(SUM_OF_GRADIENT)[cell] - solved.sums(SUM_OF_FREE)[cell] * memory.pull[cell];
            }
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

// The gradients to the elements' inputs.
template <int LANES, class T>
__device__ __forceinline__ void write_gradients(const Problem<T>& problem, const Memory& memory) {
    typedef ArithmeticOf<T> A;
    const CellsCall& call = problem.call;
    const u8* cells = problem.cells();
    const u32* clamp = problem.clamp();
    const T* g = problem.output(const_cast<void*>(call.g));
    const T* y = problem.output(call.y);
    double total = *memory.total;
    auto put = [&](void* array, u32 i, double value) {
        if (array) {
            problem.output(array)[i] = Storage<T>::narrow(static_cast<A>(value));
        }
    };
    for (u32 i = threadIdx.x; i < problem.n; i += LANES) {
        u32 cell = cells[i];
        ClampedAt clamped(clamp, i);
        double weight = problem.weight(i) / total;
        double value = static_cast<double>(Storage<T>::widen(g[i])) - weight * memory.pull[cell];
        put(call.to_predictions, i, clamped.any ? 0.0 : value);
        put(call.to_lo, i, clamped.any && !clamped.upper ? value : 0.0);
        put(call.to_hi, i, clamped.upper ? value : 0.0);
        if (call.to_weights) {
            double of_y = static_cast<double>(Storage<T>::widen(y[i])) * terms_of(memory, TERM_SLOPE)[cell];
            double of_label = problem.label(i) * terms_of(memory, TERM_LABEL_SLOPE)[cell];
            put(call.to_weights, i, (terms_of(memory, TERM_CONSTANT)[cell] - of_y + of_label) / total);
        }
        put(call.to_labels, i, weight * terms_of(memory, TERM_LABEL)[cell]);
    }
}

template <class T, int LANES>
__global__ void __launch_bounds__(LANES, 256 / LANES) cells_vjp(const __grid_constant__ CellsCall call) {
    DYNAMIC_SHARED(double, shared);
    Problem<T> problem(call);
    Memory memory(shared, call, LANES / WARP_LANES);
    bool leads = threadIdx.x < WARP_LANES;
    // What no row writes is zero.
    if (threadIdx.x < call.spreads) {
        call.to_levels[problem.index * u64(call.spreads) + threadIdx.x] = 0.0;
    }
    if (threadIdx.x < call.contrasts) {
        call.to_row_lower[problem.index * u64(call.contrasts) + threadIdx.x] = 0.0;
        call.to_row_upper[problem.index * u64(call.contrasts) + threadIdx.x] = 0.0;
    }
    u32 status = reinterpret_cast<const Outcome*>(problem.record())->status;
    bool solved = problem.n > 0 && (status == STATUS_SOLVED || status == STATUS_RELAXED);
    if (!solved || !prepare<LANES>(problem, memory)) {
        write_zeros<LANES>(problem);
        return;
    }
    const u32* clamp = problem.clamp();
    const T* g = problem.output(const_cast<void*>(call.g));
    const T* y = problem.output(call.y);
    bool needs_terms = call.to_weights || call.to_labels, needs_values = needs_terms || problem.has(HAS_RATIO);
    sum_by_cell<LANES>(problem.order(), memory, memory.sums, [&](u32 i, u32, double(&sums)[SUMS]) {
        bool free = !ClampedAt(clamp, i).any;
        double w = problem.weight(i);
        sums[SUM_OF_FREE] += free ? w : 0.0;
        sums[SUM_OF_GRADIENT] += free ? static_cast<double>(Storage<T>::widen(g[i])) : 0.0;
        sums[SUM_OF_VALUE] += needs_values ? w * static_cast<double>(Storage<T>::widen(y[i])) : 0.0;
    });
    bool usable = true;
    if (leads) {
        u32 lane = threadIdx.x;
        if (lane < memory.cells) {
            memory.sums[SUM_OF_FREE * memory.cells + lane] /= *memory.total;
            memory.sums[SUM_OF_VALUE * memory.cells + lane] /= *memory.total;
            memory.pull[lane] = 0.0;
            for (u32 which = 0; which < 4; ++which) {
                terms_of(memory, which)[lane] = 0.0;
            }
        }
        __syncwarp();
        u32 first_row = 0, first_block = 0;
#pragma unroll 1
        for (u32 part = 0; part < call.parts; ++part) {
            CellRows rows(memory, memory);
            usable = rows.build(problem, call.set_parts[part], first_row, first_block) && usable;
            rows.load(rows);
            first_row += rows.m;
            first_block += rows.blocks;
            if (status == STATUS_RELAXED) {
                // Rows that were relaxed are held where they have a multiplier, and nowhere else. (By how much is no matter.)
                rows.relax(1.0);
            }
            double nu = rows.mine ? problem.multipliers()[memory.source[rows.base + lane]] : 0.0;
            HeldRows held(rows, memory, nu);
            held.solve();
            if (rows.mine) {
                memory.step[rows.base + lane] = held.lambda;
            }
            __syncwarp();
            double pull = rows.shift_by(memory.step);
            if (rows.has_cell()) {
                memory.pull[lane] = pull;
            }
            __syncwarp();
            write_row_gradients(problem, held);
            if (needs_terms) {
                set_terms(problem, held);
            }
        }
    }
    if (__syncthreads_or(leads && !usable)) {
        write_zeros<LANES>(problem);
        return;
    }
    write_gradients<LANES>(problem, memory);
}
