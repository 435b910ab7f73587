// What the Newton machine asks of rows over cells. The first warp of a block calls all of this; a lane has a cell.
#pragma once

#include "basis.cuh"
#include "live_rows.cuh"

struct RowsOfCells : CellRows {
    // Whether every element is a cell of its own.
    static constexpr bool BY_SAMPLE = false;

    __device__ __forceinline__ RowsOfCells(const CellMemory& of_cells, const RowMemory& memory) : CellRows(of_cells, memory) {}

    // Sums of a pass at a point, by cell.
    __device__ __forceinline__ double* sums_of(u32 point, u32 which) const {
        return of_cells.point_sums() + (point * SUMS + which) * of_cells.cells;
    }

    // Takes the sums of the last pass, which was at this point; the lane's mean there.
    __device__ __forceinline__ double take_sums(u32 point) const {
        for (u32 which = 0; which < SUMS && has_cell(); ++which) {
            sums_of(point, which)[lane] = of_cells.sums()[which * of_cells.cells + lane];
        }
        __syncwarp();
        return mean_of(sums_of(point, SUM_Y));
    }

    // Four times what rounding the stored values may move a row by at the worst: a mean of values of this size, two means of a
    // spread.
    __device__ __forceinline__ double rounding(double unit_roundoff, u32 point) const {
        double size = 0.0;
        for (u32 left = mine ? cells : 0; left != 0; left &= left - 1) {
            u32 cell = lowest_of(left);
            double factor = size_of(coefficient(lane, cell));
            // (Not 0 times infinity.)
            size += factor > 0.0 ? factor * sums_of(point, SUM_SIZE)[cell] : 0.0;
        }
        return most_of_rows(size * (own_block() == NO_BLOCK ? 4.0 : 8.0)) * unit_roundoff;
    }

    // Asks for a pass at a point: sets the shifts of the cells, rounded only at the end where what cancels could leave an error.
    __device__ __forceinline__ void ask(u32 point) const {
        const double* large = memory.nu_of(point);
        const double* small = memory.rest_of(point);
        double size = largest_shift_size(mine ? large[base + lane] : 0.0);
        double value = 0.0;
        if (!(4.0 * EPSILON * size > HARMLESS)) {
            value = shift_by(large);
        } else if (has_cell()) {
            TwoSum sum;
            for (u32 r = 0; r < m; ++r) {
                double factor = coefficient(r, lane);
                if (factor != 0.0 && large[base + r] != 0.0) {
                    sum.add_product(factor, large[base + r], small[base + r]);
                }
            }
            value = sum.value();
        }
        if (has_cell()) {
            of_cells.shift()[lane] = value;
        }
        __syncwarp();
    }

    __device__ __forceinline__ double distance(u32 point) const {
        return has_cell() ? sums_of(point, SUM_BEYOND)[lane] / larger(of_cells.weight()[lane], 1e-300) : 0.0;
    }

    // How far the elements of a cell lie beyond their bounds at the most, on average over it.
    __device__ __forceinline__ double farthest(u32 point) const { return most_of_rows(distance(point)); }

    // Fills the curvature of the dual in the rows' multipliers; the free weights of the cells are floored.
    __device__ __forceinline__ void fill_curvature(u32 point, const Floor& floor, double prox) const {
        if (has_cell()) {
            double weight = of_cells.weight()[lane], free = sums_of(point, SUM_FREE)[lane];
            bool plenty = !floor.everywhere && free >= PLENTY_FREE * weight;
            of_cells.curvature()[lane] = plenty ? free : larger(floor.of(weight, distance(point)), free);
        }
        __syncwarp();
        for (u32 q = 0; q < m; ++q) {
            double value = 0.0;
            for (u32 left = mine ? cells : 0; left != 0; left &= left - 1) {
                u32 cell = lowest_of(left);
                value += coefficient(lane, cell) * coefficient(q, cell) * of_cells.curvature()[cell];
            }
            if (mine) {
                memory.h()[lane * memory.model_pitch() + q] = value + (q == lane ? prox * scale() : 0.0);
            }
        }
        __syncwarp();
    }

    // What the step in memory moves, in the model of this point. (It costs nothing here, whether it is needed or not.)
    __device__ __forceinline__ Extent extent_of_step(u32 point, const Floor&, bool) const {
        double shift = shift_by(memory.step());
        bool steeper = has_cell() && shift != 0.0 && of_cells.curvature()[lane] > STEEPER * sums_of(point, SUM_FREE)[lane];
        return Extent{most_of_rows(size_of(shift)), any_lane(steeper)};
    }

    // Whether the multipliers of a point, as single numbers, leave free elements by more than an error, or clamped ones by more
    // than they lie beyond their bounds.
    __device__ __forceinline__ bool are_lost(u32 point, double error) const {
        double size = 0.0;
        for (u32 r = 0; r < m && has_cell(); ++r) {
            size += size_of(coefficient(r, lane) * memory.nu_of(point)[base + r]);
        }
        bool weighs = has_cell() && of_cells.weight()[lane] > 0.0;
        double beyond = weighs && !(sums_of(point, SUM_FREE)[lane] > 0.0) ? distance(point) : 0.0;
        return any_lane(weighs && 2.0 * EPSILON * size > larger(error, 0.25 * beyond));
    }

    // Makes the lane's multiplier smaller where the rows depend on each other. False if they do not.
    __device__ __forceinline__ bool reduce(double& nu) const { return Basis(*this).reduce(nu); }

    // How large the terms are that the shift of the lane's cell is summed from: what its rounding errors are relative to.
    __device__ __forceinline__ double shift_size(const double* multipliers) const {
        double size = 0.0;
        for (u32 r = 0; r < m && has_cell(); ++r) {
            size += coefficient(r, lane) != 0.0 ? size_of(memory.rough()[base + r] * multipliers[base + r]) : 0.0;
        }
        return size;
    }

    // What a ray can make of the cells, values being about this large.
    __device__ __forceinline__ RaySums sum_ray(const double* ray, double size) const {
        RaySums own = {0.0, 0.0, 0.0, 0.0};
        double shift = shift_by(ray), magnitude = shift_size(ray);
        if (has_cell()) {
            own = sums_of_pull(shift, magnitude, of_cells.weight()[lane], of_cells.box_lo()[lane], of_cells.box_hi()[lane], size);
        }
        return RaySums{sum_of_rows(own.plain), sum_of_rows(own.least), sum_of_rows(own.doubt), most_of_rows(own.largest)};
    }
};
