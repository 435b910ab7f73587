// The live rows of one part of the constraint set, a lane of a warp a row, and what does not depend on what they are over. Twin
// of `src/reference/rows.rs`.
//
// The lanes of a warp call all of this together.
#pragma once

#include "row_memory.cuh"
#include "two_floats.cuh"
#include "warp.cuh"

// Marks rows that belong to no block: a block is what a spread has of live rows.
constexpr u32 NO_BLOCK = 0xffffffffu;
// Errors of shifts up to this, in units of the predictions, are far below what any tolerance asks for.
constexpr double HARMLESS = 1e-13;
constexpr double EPSILON = 0x1p-52;

// What is known of a part's rows from one pass to the next.
struct RowsState {
    // Rows, and the first of them in arrays by row; blocks likewise.
    u32 m;
    u32 base;
    u32 blocks;
    u32 first_block;
    // Blocks that are ratios, as bits.
    u32 ratios;
    // Rows before those that belong to no spread.
    u32 contrasts;
    // The cells, as bits.
    u32 cells;
    // Rows of the set that constrain nothing here, as bits.
    u32 inactive;
    // By how much the bounds are relaxed, in units of the predictions.
    double relaxed;
};

__device__ __forceinline__ bool is_usable_level(bool is_ratio, double level) {
    return is_ratio ? level > 0.0 && level <= 1.0 : level >= 0.0 && level < infinity();
}

__device__ __forceinline__ bool are_usable_bounds(double lower, double upper) {
    return lower <= upper && lower < infinity() && upper > -infinity();
}

struct Rows : RowsState {
    const RowMemory& memory;
    u32 lane;
    // Whether the lane has a row.
    bool mine;

    __device__ __forceinline__ explicit Rows(const RowMemory& memory) : RowsState(), memory(memory), lane(threadIdx.x % WARP_LANES) {}

    // Takes up the rows that were built.
    __device__ __forceinline__ void load(const RowsState& state) {
        static_cast<RowsState&>(*this) = state;
        mine = lane < m;
    }

    // Of the lane's row. (Read each time: registers are few.)
    __device__ __forceinline__ double lower() const { return mine ? memory.lower()[base + lane] : 0.0; }
    __device__ __forceinline__ double upper() const { return mine ? memory.upper()[base + lane] : 0.0; }
    __device__ __forceinline__ double reach() const { return mine ? memory.reach()[base + lane] : 0.0; }
    __device__ __forceinline__ u32 own_block() const { return mine ? memory.block()[base + lane] : NO_BLOCK; }
    __device__ __forceinline__ double scale() const { return mine ? memory.scale()[base + lane] : 1.0; }

    // The lanes of a block's rows, as bits.
    __device__ __forceinline__ u32 rows_of(u32 block) const { return memory.block_rows()[first_block + block]; }

    __device__ __forceinline__ bool in(u32 block) const { return (rows_of(block) >> lane & 1) != 0; }

    __device__ __forceinline__ double limit_of(u32 block) const { return memory.limit()[first_block + block]; }

    __device__ __forceinline__ bool is_ratio_block(u32 block) const { return (ratios >> block & 1) != 0; }

    // Whether the balance of a block's multipliers depends on their signs. (A ratio of 1 is a difference of 0.)
    __device__ __forceinline__ bool is_ratio(u32 block) const { return is_ratio_block(block) && limit_of(block) < 1.0; }

    // Whether a block asks for equal means.
    __device__ __forceinline__ bool is_equal_block(u32 block) const {
        return limit_of(block) == (is_ratio_block(block) ? 1.0 : 0.0);
    }

    // The coefficient of a block's centre c in a row held from above (sign > 0: mean = c + u) or from below (mean = c + l; of
    // a ratio: mean = ratio c).
    __device__ __forceinline__ double centre_coefficient(u32 block, double sign) const {
        return is_ratio_block(block) && sign < 0.0 ? limit_of(block) : 1.0;
    }

    __device__ __forceinline__ bool is_contrast() const { return mine && lane >= contrasts; }

    // Moves all bounds outward by so much more, a spread's by half on either side.
    __device__ __forceinline__ void relax(double by) {
        relaxed += by;
        if (mine) {
            memory.lower()[base + lane] += by * relaxed_bound(-1.0);
            memory.upper()[base + lane] += by * relaxed_bound(1.0);
        }
        __syncwarp();
    }

    // How a bound of the lane's row moves as rows are relaxed: of a ratio only the lower() ones do, min >= ratio max - by.
    __device__ __forceinline__ double relaxed_bound(double sign) const {
        double outward = sign > 0.0 ? 1.0 : -1.0;
        u32 block = own_block();
        return block == NO_BLOCK ? outward : is_ratio_block(block) ? smaller(outward, 0.0) : 0.5 * outward;
    }

    // A row without coefficients whose bounds exclude 0, which nothing can meet: its ray, zero where there is none.
    __device__ __forceinline__ double contradiction() const {
        bool empty = is_contrast() && reach() == 0.0;
        double sign = !empty ? 0.0 : upper() < 0.0 ? 1.0 : lower() > 0.0 ? -1.0 : 0.0;
        u32 found = lanes_where(sign != 0.0);
        return found != 0 && lane == lowest_of(found) ? sign : 0.0;
    }

    // Makes the multipliers of every difference spread sum to zero: the row that moves its cells the least pays.
    __device__ __forceinline__ void balance(double& large, double& small) const {
        for (u32 b = 0; b < blocks; ++b) {
            if (is_ratio(b)) {
                continue;
            }
            TwoSum sum;
            for (u32 left = rows_of(b); left != 0; left &= left - 1) {
                u32 r = lowest_of(left);
                sum.add_product(1.0, of_lane(large, r), of_lane(small, r));
            }
            bool held = in(b) && large != 0.0;
            double least = least_of_rows(held ? reach() : infinity());
            u32 payers = lanes_where(held && reach() == least);
            if (payers != 0 && lane == lowest_of(payers)) {
                TwoSum paid;
                paid.add_product(1.0, large, small);
                paid.add(-sum.value());
                Twofold both = paid.parts();
                large = both.large;
                small = both.small;
            }
        }
    }

    // The most that the terms can be that any shift is summed from.
    __device__ __forceinline__ double largest_shift_size(double nu) const { return sum_of_rows(mine ? reach() * size_of(nu) : 0.0); }

    // The row's bounds moved inward by `margin` a mean row, so that a solution's rounding stays within the true ones. A row
    // without that much room collapses to its middle. Ratios are not tightened: near 0 they have no room.
    __device__ __forceinline__ void tighten(double margin, double& low, double& high) const {
        u32 block = own_block();
        double inward = block == NO_BLOCK ? margin : is_ratio(block) ? 0.0 : 0.5 * margin;
        low = lower() + inward;
        high = upper() - inward;
        if (low > high) {
            low = high = 0.5 * lower() + 0.5 * upper();
        }
    }

    // Whether the rows together may allow a single point only: equalities do, and one-sided contrasts can.
    __device__ __forceinline__ bool may_lack_room() const {
        double room = upper() - lower();
        u32 block = own_block();
        bool equal = block != NO_BLOCK && is_equal_block(block);
        return relaxed > 0.0 || any_lane(mine && (equal || (block == NO_BLOCK && !(room > 0.0 && room < infinity()))));
    }

    // The worst of violation and complementarity, in units of the predictions. A multiplier counts as zero if it moves no cell
    // by more than `tolerance`; one of a spread, if it would not even in the spread's lightest union.
    __device__ __forceinline__ double residual(double low, double high, double mean, double nu, double tolerance) const {
        if (any_lane(mine && !(is_finite(mean) && is_finite(nu)))) {
            return infinity();
        }
        double worst = 0.0;
        for (u32 b = 0; b < blocks; ++b) {
            bool here = in(b);
            double moved = nu * most_of_rows(here ? reach() : 0.0);
            double above = mean - high, under = (mean - low) / centre_coefficient(b, -1.0);
            // The centre must lie above all of these and below all of those.
            double least = most_of_rows(here ? (moved < -tolerance ? under : above) : -infinity());
            double most = least_of_rows(here ? (moved > tolerance ? above : under) : infinity());
            worst = larger(worst, least - most);
            if (is_ratio(b)) {
                // A line search may leave the cone's boundary. The shift that would mend it is that of the heaviest union.
                double balance = sum_of_rows(here ? centre_coefficient(b, nu) * nu : 0.0);
                worst = larger(worst, size_of(balance) * least_of_rows(here ? reach() : infinity()));
            }
        }
        double of_row = 0.0;
        if (is_contrast()) {
            double moved = nu * reach();
            of_row = larger(mean - (moved < -tolerance ? low : high), (moved > tolerance ? high : low) - mean);
        }
        return larger(worst, most_of_rows(of_row));
    }

    // By how much the worst row exceeds its own bound, as it is relaxed; of a ratio spread ratio * max - min. `met` becomes
    // whether all are kept, equalities, which have no room, to what `rounding` may move a row.
    __device__ __forceinline__ double excess(double mean, double rounding, bool& met) const {
        double worst = -infinity();
        met = true;
        bool rigid = relaxed == 0.0;
        for (u32 b = 0; b < blocks; ++b) {
            bool here = in(b);
            double top = most_of_rows(here ? mean : -infinity()), bottom = least_of_rows(here ? mean : infinity());
            double over = is_ratio_block(b) ? limit_of(b) * top - bottom - relaxed
                                            : (top - bottom) - (limit_of(b) + relaxed);
            over = any_lane(here && !(mean == mean)) || !(over == over) ? infinity() : over;
            met = met && over <= (rigid && is_equal_block(b) ? rounding : 0.0);
            worst = larger(worst, over);
        }
        double over = is_contrast() ? larger(mean - upper(), lower() - mean) : -infinity();
        over = is_contrast() && !(mean == mean) ? infinity() : over;
        met = met && !any_lane(over > (rigid && lower() == upper() ? rounding : 0.0));
        return larger(worst, most_of_rows(over));
    }

    // The excess as it is reported: 0 below what the measurement itself rounds.
    __device__ __forceinline__ double measured_excess(double mean) const {
        bool met;
        // (All bounds were relaxed alike.)
        double over = excess(mean, 0.0, met) + relaxed;
        double largest = most_of_rows(mine ? size_of(mean) : 0.0);
        return over > MEASURING_ERROR * largest ? over : 0.0;
    }

    // Whether the lane's row is held at its bound whatever its multiplier.
    __device__ __forceinline__ bool is_equality() const {
        u32 block = own_block();
        return mine && relaxed == 0.0 && (block == NO_BLOCK ? lower() == upper() : is_equal_block(block));
    }
};
