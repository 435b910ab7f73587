// The line search along a Newton direction, by slopes only: the objective itself drowns in rounding. Twin of
// `src/reference/line_search.rs`, where it is explained.
#pragma once

#include "active_set.cuh"

constexpr u32 MAX_TRIALS = 8;

// A step and the slope of the smooth part there.
struct Sample {
    double step;
    double slope;
};

// What a trial leads to: the search ends with it; it ends with the point that was kept; it goes on, and the trial becomes the
// point that is kept, or does not.
enum SearchStep { SEARCH_ENDS, SEARCH_ENDS_AT_KEPT, SEARCH_KEEPS, SEARCH_GOES_ON };

// The derivative of sigma along `d` at `nu`, seen from the left (a rising to it) or the right.
__device__ __forceinline__ double support_slope(double low, double high, double nu, double d, bool from_left) {
    double at = nu != 0.0 ? nu : from_left ? -d : d;
    return sum_of_rows(d != 0.0 ? d * (at > 0.0 ? high : low) : 0.0);
}

// The bracket of the step along one direction, with its memory.
struct LineSearch {
    double step;
    double max_step;
    double start_slope;
    Sample lo;
    Sample hi;
    u32 trials;
    bool has_hi;
    bool has_kept;

    // Sets up the search from a point along the step of the model. False if phi does not fall. `aim` becomes what is taken out of the
    // lane's mean before it meets the direction.
    __device__ __forceinline__ bool begin(const Rows& rows, const ActiveSet& model, double& aim) {
        aim = centre_of(rows, model);
        double smooth = smooth_slope(model.d, model.mean, aim);
        start_slope = support_slope(model.low, model.high, model.nu, model.d, false) + smooth;
        lo = Sample{0.0, smooth};
        has_hi = has_kept = false;
        trials = 0;
        return start_slope < 0.0;
    }

    // The first step, and how far it may go: as far as it likes where what moves is steeper in the model than it is, but no farther
    // than a ratio's cone of balanced multipliers.
    __device__ __forceinline__ void bound(const Rows& rows, const ActiveSet& model, double first, bool is_floored) {
        step = first;
        max_step = is_floored ? 1e9 : 1.0;
        for (u32 b = 0; b < rows.blocks; ++b) {
            if (!rows.is_ratio(b)) {
                continue;
            }
            // The cone is convex and v lies on its boundary: beyond 1 it can be followed only along the boundary, up to the
            // first change of sign.
            bool here = rows.in(b);
            double balance = sum_of_rows(here ? rows.centre_coefficient(b, model.nu) * model.nu : 0.0);
            double size = sum_of_rows(here ? size_of(model.nu) : 0.0);
            double to_zero = model.nu * model.d >= 0.0   ? infinity()
                             : model.nu * model.v <= 0.0 ? 1.0
                                                         : -model.nu / model.d;
            double longest = size_of(balance) > 1e-9 * size ? 1.0 : least_of_rows(here ? to_zero : infinity());
            max_step = smaller(max_step, longest);
        }
    }

    // What is taken out of the means: d is balanced, so that a spread's centre drops out of d . means.
    static __device__ __forceinline__ double centre_of(const Rows& rows, const ActiveSet& model) {
        double own = 0.0;
        for (u32 b = 0; b < rows.blocks; ++b) {
            bool here = rows.in(b);
            double centre = of_lane(model.centre, b);
            // The balance of a ratio depends on the signs: where one changes along d, the centre stays in.
            bool stays = any_lane(here && model.nu * model.v < 0.0) && rows.is_ratio(b);
            double side = model.nu != 0.0 ? model.nu : model.v;
            own = here && !stays ? centre * rows.centre_coefficient(b, side) : own;
        }
        return own;
    }

    // The slope of the smooth part of phi along d. Taking the centre out first keeps the difference from rounding.
    static __device__ __forceinline__ double smooth_slope(double d, double mean, double aim) {
        return -sum_of_rows(d * (mean - aim));
    }

    // Judges a trial by its slope: the lane's multiplier and mean there, and at the point that the search began at.
    __device__ __forceinline__ SearchStep judge(double low, double high, double d, double aim, double start, double nu,
                                                double mean) {
        double smooth = smooth_slope(d, mean, aim), slope = support_slope(low, high, nu, d, true) + smooth;
        ++trials;
        bool too_far = slope > -0.5 * start_slope, keeps = false;
        if (too_far) {
            hi = Sample{step, smooth};
            has_hi = true;
        } else if (step < max_step && slope < 0.5 * start_slope && support_slope(low, high, nu, d, false) + smooth < 0.0) {
            lo = Sample{step, smooth};
            has_kept = keeps = true;
        } else {
            return SEARCH_ENDS;
        }
        if (has_hi && has_kept && trials >= MAX_TRIALS) {
            // Enough: phi falls all the way to the step kept.
            return keeps ? SEARCH_ENDS : SEARCH_ENDS_AT_KEPT;
        }
        if (has_hi && hi.step - lo.step <= 1e-14 * hi.step) {
            return SEARCH_ENDS;
        }
        step = has_hi ? root_between(low, high, start, d, trials % 3 == 0) : smaller(4.0 * step, max_step);
        return keeps ? SEARCH_KEEPS : SEARCH_GOES_ON;
    }

    // The step within the bracket where the slope is zero if the smooth part is linear in between. Kinks of sigma, where a
    // multiplier passes zero, are met exactly. With `bisect` the middle is taken instead, so that a smooth part that is far
    // from linear cannot hold the search up.
    __device__ __forceinline__ double root_between(double low, double high, double nu, double d, bool bisect) const {
        double width = hi.step - lo.step, rise = (hi.slope - lo.slope) / width;
        double kink = d != 0.0 ? -nu / d : infinity(), root = hi.step, a = lo.step;
#pragma unroll 1
        while (a < hi.step) {
            double b = least_of_rows(kink > a && kink < hi.step ? kink : hi.step);
            double middle = 0.5 * a + 0.5 * b;
            double kinked = support_slope(low, high, nu + middle * d, d, true);
            double at_a = lo.slope + rise * (a - lo.step), at_b = lo.slope + rise * (b - lo.step);
            if (kinked + at_b >= 0.0) {
                if (kinked + at_a >= 0.0 && a > lo.step) {
                    return a;
                }
                root = a + (b - a) * larger(-(kinked + at_a), 0.0) / larger(at_b - at_a, 1e-300);
                break;
            }
            a = b;
        }
        if (bisect) {
            bool geometric = lo.step > 0.0 && lo.step < 0.01 * hi.step;
            root = geometric ? sqrt(lo.step * hi.step) : lo.step + 0.5 * width;
        }
        return smaller(larger(root, lo.step + 0.05 * width), hi.step - 0.05 * width);
    }

    // Moves the lane's multiplier to the step to be tried.
    __device__ __forceinline__ Twofold place(double nu, double rest, double d) const {
        double moved = step * d;
        Twofold sum = two_sum(nu, moved);
        sum = two_sum(sum.large, sum.small + rest);
        // A step onto a kink of sigma lands on it exactly.
        return size_of(sum.large) <= 1e-13 * size_of(moved) ? Twofold{0.0, 0.0} : sum;
    }
};
