// Dependent rows leave the multipliers a freedom in which they can grow without end. Here they are moved, shifts and signs
// kept, onto rows that are independent. Twin of `src/reference/basis.rs`; a lane has a row, and columns.
#pragma once

#include "cell_rows.cuh"

// What is left of a row that depends on others, at the most, relative to the row.
constexpr double DEPENDENT = 1e-12;

struct Basis {
    const CellRows& rows;
    u32 width;
    // [m, width]: the independent rows so far, each reduced by those before it; how each is combined from the rows; and the
    // column of each where it is largest.
    double* reduced;
    double* combined;
    double* pivot;

    __device__ __forceinline__ explicit Basis(const CellRows& rows)
        : rows(rows), width(rows.of_cells.cells + rows.blocks), reduced(rows.memory.work()), combined(reduced + rows.m * width),
          pivot(combined + rows.m * rows.m) {}

    // Moves the multipliers, of which the lane has one, until the rows that have one are independent. False if they are
    // already.
    __device__ __forceinline__ bool reduce(double& nu) const {
        bool moved = false;
#pragma unroll 1
        for (;;) {
            u32 last = find_dependent(nu);
            if (last == rows.m || !walk_to_zero(rows.mine ? combined[last * rows.m + rows.lane] : 0.0, nu)) {
                return moved;
            }
            moved = true;
        }
    }

    // The place in `combined` of a combination of the rows with a multiplier that is zero; m if there is none.
    __device__ __forceinline__ u32 find_dependent(double nu) const {
        u32 lane = rows.lane, held = lanes_where(rows.mine && nu != 0.0), count = 0;
        for (; held != 0; held &= held - 1, ++count) {
            u32 r = lowest_of(held), own_block = __shfl_sync(FULL_WARP, rows.own_block(), static_cast<int>(r));
            double reach = of_lane(rows.reach(), r), side = of_lane(nu, r), border = 0.0;
            if (own_block != NO_BLOCK) {
                double narrowest = least_of_rows(rows.in(own_block) ? rows.reach() : infinity());
                border = rows.centre_coefficient(own_block, side) * narrowest / reach;
            }
            double* row = reduced + count * width;
            double* own = combined + count * rows.m;
            __syncwarp();
            for (u32 column = lane; column < width; column += WARP_LANES) {
                bool is_cell = column < rows.of_cells.cells;
                row[column] = is_cell ? rows.coefficient(r, column) / reach : column - rows.of_cells.cells == own_block ? border : 0.0;
            }
            if (rows.mine) {
                own[lane] = lane == r ? 1.0 / reach : 0.0;
            }
            for (u32 k = 0; k < count; ++k) {
                const double* other = reduced + k * width;
                u32 at = static_cast<u32>(pivot[k]);
                __syncwarp();
                double factor = row[at] / other[at];
                __syncwarp();
                for (u32 column = lane; column < width; column += WARP_LANES) {
                    row[column] = column == at ? 0.0 : row[column] - factor * other[column];
                }
                if (rows.mine) {
                    own[lane] -= factor * combined[k * rows.m + lane];
                }
            }
            __syncwarp();
            double largest = 0.0;
            u32 place = 0;
            for (u32 column = 0; column < width; ++column) {
                double size = size_of(row[column]);
                place = size > largest ? column : place;
                largest = larger(size, largest);
            }
            if (largest <= DEPENDENT) {
                return count;
            }
            if (lane == 0) {
                pivot[count] = place;
            }
        }
        return rows.m;
    }

    // Moves the multipliers along `null`, the way in which they shrink, until one is zero. False if none gets there.
    __device__ __forceinline__ bool walk_to_zero(double null, double& nu) const {
        double growth = sum_of_rows(rows.mine ? null * (nu < 0.0 ? -1.0 : 1.0) * rows.reach() : 0.0);
        double d = growth > 0.0 ? -null : null;
        double own = rows.mine && nu * d < 0.0 ? -nu / d : infinity();
        double step = least_of_rows(own);
        if (!(step < infinity())) {
            return false;
        }
        nu = own <= step ? 0.0 : nu + step * d;
        return true;
    }
};
