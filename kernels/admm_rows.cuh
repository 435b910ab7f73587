// What ADMM asks of the rows: the penalties, and the nearest point of the rows' set. A lane of every warp has a row. Twin of parts of
// `src/reference/dense_admm.rs`, where the method and its letters are explained.
#pragma once

#include "rows.cuh"

constexpr double LEAST_RHO = 1e-6, MOST_RHO = 1e6;
// The penalty of equalities, over that of inequalities.
constexpr double EQUALITY_FACTOR = 10.0;
// A bracket halves at least every third time: enough for any root that a number can hold.
constexpr u32 MAX_ROOT_STEPS = 200;

__device__ __forceinline__ double within_range(double rho) { return smaller(larger(rho, LEAST_RHO), MOST_RHO); }

// The penalty of the lane's row, whose samples that are not frozen have this square of a length.
__device__ __forceinline__ double penalty_of(const Rows& rows, double rho, double length) {
    double own = within_range(rows.is_equality() ? EQUALITY_FACTOR * rho : rho);
    return rows.mine ? own / (length > 0.0 ? length : rows.scale()) : 1.0;
}

// The centre c of the point nearest to v among those with a_l c + l <= v_r <= a_u c + u: the root of the rising, piecewise linear
// sum_r penalty_r a (held_r - v_r) over the rows held at a side. With a ratio c is not below 0.
__device__ __forceinline__ double centre_of(const Rows& rows, u32 block, double v, double penalty, double start) {
    bool here = rows.in(block), ratio = rows.is_ratio(block);
    double below = rows.centre_coefficient(block, -1.0), lower = rows.lower(), upper = rows.upper();
    double lo = least_of_rows(here ? (v - lower) / below : infinity()), hi = most_of_rows(here ? v - upper : -infinity());
    if (hi <= lo) {
        return 0.5 * hi + 0.5 * lo;
    }
    if (ratio) {
        lo = larger(lo, 0.0);
        hi = larger(hi, 0.0);
    }
    double unit = 2.0 * EPSILON * larger(size_of(lo), size_of(hi));
    double centre = ratio ? lo : smaller(larger(start, lo), hi);
#pragma unroll 1
    for (u32 trial = 1; trial <= MAX_ROOT_STEPS; ++trial) {
        double least = lower + below * centre, most = upper + centre;
        bool above = here && v > most, under = here && !above && v < least;
        double a = above ? 1.0 : below, held = above ? most : least;
        double value = sum_of_rows(above || under ? penalty * a * (held - v) : 0.0);
        double slope = sum_of_rows(above || under ? penalty * a * a : 0.0);
        if (value >= 0.0 && ratio && centre == 0.0) {
            return 0.0;
        }
        if (value > 0.0) {
            hi = centre;
        } else {
            lo = centre;
        }
        double next = centre - value / slope;
        if (!(slope > 1e-300) || size_of(next - centre) <= unit) {
            break;
        }
        bool inside = lo < next && next < hi && trial % 3 != 0;
        centre = inside ? next : 0.5 * lo + 0.5 * hi;
    }
    return centre;
}

// The nearest point of the rows' set, in the norm of the penalties; lane b keeps the centre of block b.
__device__ __forceinline__ double nearest(const Rows& rows, double v, double penalty, double& centres) {
    double least = rows.lower(), most = rows.upper();
    for (u32 b = 0; b < rows.blocks; ++b) {
        double centre = centre_of(rows, b, v, penalty, of_lane(centres, b));
        centres = rows.lane == b ? centre : centres;
        if (rows.in(b)) {
            least += rows.centre_coefficient(b, -1.0) * centre;
            most += centre;
        }
    }
    return v < least ? least : v > most ? most : v;
}

// Makes the multipliers of every difference spread sum to zero; and where the balance of a ratio's has this sign, shortens those of
// that sign until it is zero.
__device__ __forceinline__ void settle(const Rows& rows, double sign, double& nu) {
    double rest = 0.0;
    rows.balance(nu, rest);
    for (u32 b = 0; b < rows.blocks; ++b) {
        if (!rows.is_ratio(b)) {
            continue;
        }
        double term = rows.in(b) ? rows.centre_coefficient(b, nu) * nu : 0.0;
        bool held = term * sign > 0.0;
        double balance = sum_of_rows(term), all = sum_of_rows(held ? term : 0.0);
        if (balance * sign > 0.0) {
            nu *= held ? larger((all - balance) / all, 0.0) : 1.0;
        }
    }
}
