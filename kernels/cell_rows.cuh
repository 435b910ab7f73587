// Rows over cells: how they are built, and what a row makes of numbers of the cells. A lane of a warp has a row, and a cell.
#pragma once

#include "cells_memory.cuh"
#include "rows.cuh"

__device__ __forceinline__ double sum_over(u32 cells, const double* values) {
    double sum = 0.0;
    for (; cells != 0; cells &= cells - 1) {
        sum += values[lowest_of(cells)];
    }
    return sum;
}

struct CellRows : Rows {
    const CellMemory& of_cells;
    // Rows over cells, the first ones.
    u32 over_cells;

    __device__ __forceinline__ CellRows(const CellMemory& of_cells, const RowMemory& memory)
        : Rows(memory), of_cells(of_cells), over_cells(0) {}

    __device__ __forceinline__ double coefficient(u32 row, u32 cell) const {
        return of_cells.matrix()[(base + row) * of_cells.matrix_pitch() + cell];
    }

    // Writes the part's rows that the problem's cell weights leave alive. False if a level or a row bound cannot be used.
    template <class T>
    __device__ __forceinline__ bool build(const Problem<T>& problem, const SetPart& part, u32 first_row, u32 first_of_blocks) {
        const CellsCall& call = problem.call;
        static_cast<RowsState&>(*this) = RowsState{0, first_row, 0, first_of_blocks, 0, 0, part.cells, 0, 0.0};
        bool there = lane < static_cast<u32>(__popc(part.rows));
        u32 source = there ? nth_bit(part.rows, lane) : 0;
        SetRow row = there ? call.set_rows[source] : SetRow();
        double plus = sum_over(row.plus, of_cells.weight()), minus = sum_over(row.minus, of_cells.weight());
        bool held = there && plus > 0.0;
        bool usable = true, live = held && row.spread == NO_SPREAD && (minus > 0.0 || row.minus == 0);
        double low = 0.0, high = 0.0;
        u32 block = NO_BLOCK;
        for (u32 spread = 0; spread < call.spreads; ++spread) {
            bool here = there && row.spread == spread;
            if (lanes_where(here) == 0) {
                continue;
            }
            bool ratio = call.set_spreads[spread].is_ratio != 0;
            double level = problem.level(spread);
            usable = usable && is_usable_level(ratio, level);
            u32 with = lanes_where(here && held);
            if (__popc(with) < 2) {
                continue;
            }
            u32 count = static_cast<u32>(__popc(with));
            if (lane == 0) {
                memory.limit()[first_block + blocks] = level;
                // (Rows of spreads come first, block by block.)
                memory.block_rows()[first_block + blocks] = (count < 32 ? below(count) : FULL_WARP) << contrasts;
                memory.block_spread()[first_block + blocks] = spread;
            }
            if (here && held) {
                live = true;
                high = ratio ? 0.0 : 0.5 * level;
                low = -high;
                block = blocks;
            }
            ratios |= static_cast<u32>(ratio) << blocks;
            contrasts += count;
            ++blocks;
        }
        double factors[2] = {live ? 1.0 / plus : 0.0, minus > 0.0 ? -row.scale / minus : 0.0};
        double shared = 0.0;
        if (there && row.spread == NO_SPREAD) {
            u32 contrast = source - problem.first_contrast();
            low = problem.row_lower(contrast);
            high = problem.row_upper(contrast);
            usable = usable && are_usable_bounds(low, high);
            if (row.residual != 0) {
                double target = factors[0] * sum_over(row.plus, of_cells.label()) + factors[1] * sum_over(row.minus, of_cells.label());
                low += target;
                high += target;
            }
            // Where both sides are, the masses are subtracted cell by cell: what is in both cancels before it can round.
            for (u32 cell = 0; cell < of_cells.cells; ++cell) {
                double sides = (row.minus >> cell & 1 ? 1.0 : 0.0) - row.scale * (row.plus >> cell & 1 ? 1.0 : 0.0);
                shared += of_cells.weight()[cell] * sides;
            }
            shared = shared * factors[0] / (minus > 0.0 ? minus : 1.0);
        }
        usable = !any_lane(!usable);
        u32 alive = lanes_where(live);
        m = over_cells = static_cast<u32>(__popc(alive));
        u32 dead = lanes_where(there && !live);
        for (; dead != 0; dead &= dead - 1) {
            inactive |= 1u << nth_bit(part.rows, lowest_of(dead));
        }
        if (live) {
            u32 at = base + static_cast<u32>(__popc(alive & below(lane)));
            double most = 0.0, square = 0.0;
            for (u32 cell = 0; cell < of_cells.cells; ++cell) {
                bool on_plus = (row.plus >> cell & 1) != 0, on_minus = (row.minus >> cell & 1) != 0;
                double value = on_plus && on_minus ? shared : on_plus ? factors[0] : on_minus ? factors[1] : 0.0;
                value = of_cells.weight()[cell] > 0.0 ? value : 0.0;
                // (One warp writes what all of a block know.)
                if (threadIdx.x < WARP_LANES) {
                    of_cells.matrix()[at * of_cells.matrix_pitch() + cell] = value;
                }
                most = larger(size_of(value), most);
                square += value * value * of_cells.weight()[cell];
            }
            memory.lower()[at] = low;
            memory.upper()[at] = high;
            memory.reach()[at] = most;
            memory.rough()[at] = larger(factors[0], size_of(factors[1]));
            memory.scale()[at] = square > 0.0 ? square : 1.0;
            memory.source()[at] = source;
            memory.block()[at] = block;
        }
        __syncwarp();
        return usable;
    }

    // The row's mean of sums of a cell.
    __device__ __forceinline__ double mean_of(const double* sums) const {
        double mean = 0.0;
        for (u32 left = mine ? cells : 0; left != 0; left &= left - 1) {
            u32 cell = lowest_of(left);
            mean += coefficient(lane, cell) * sums[cell];
        }
        return mean;
    }

    // Whether the lane has a cell of the part, too.
    __device__ __forceinline__ bool has_cell() const { return (cells >> lane & 1) != 0; }

    // The shift of the lane's cell by multipliers in memory.
    __device__ __forceinline__ double shift_by(const double* multipliers) const {
        double shift = 0.0;
        for (u32 r = 0; r < m && has_cell(); ++r) {
            shift += multipliers[base + r] * coefficient(r, lane);
        }
        return shift;
    }
};
