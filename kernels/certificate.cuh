// The proof that a problem has no solution. Twin of `src/reference/certificate.rs`, where its numbers are explained.
#pragma once

#include "live_rows.cuh"

constexpr double NOISE = 1e-10;

// By how much the least that `ray . A y` can be exceeds the most that the rows allow, if that is beyond doubt; else 0. `ray` is
// that of all rows, in memory; `size` is how large values are, about.
template <class Live>
__device__ __forceinline__ double lack_of_room(const Live& rows, const double* ray, double size) {
    double d = rows.mine ? ray[rows.base + rows.lane] : 0.0;
    for (u32 b = 0; b < rows.blocks; ++b) {
        // A spread allows any centre, so only rays that are balanced over it are bounded.
        double balance = sum_of_rows(rows.in(b) ? rows.centre_coefficient(b, d) * d : 0.0);
        double slack = 1e-12 * sum_of_rows(rows.in(b) ? size_of(d) : 0.0);
        if (!(rows.is_ratio_block(b) ? balance <= slack : size_of(balance) <= slack)) {
            return 0.0;
        }
    }
    double longest = rows.largest_shift_size(d);
    bool pulls = rows.mine && d != 0.0;
    double bound = d > 0.0 ? rows.upper() : rows.lower();
    double allowed = pulls ? d * bound : 0.0, moved = size_of(d) * rows.reach();
    // What a multiplier pulls may vanish below; what its bound is worth must not count then.
    bool faint = moved > 0.0 && moved <= NOISE * longest;
    double most = sum_of_rows(allowed), doubt = sum_of_rows((1e-10 + (faint ? 1.0 : 0.0)) * size_of(allowed));
    size = larger(size, most_of_rows(pulls ? size_of(bound) : 0.0));
    if (!is_finite(most)) {
        return 0.0;
    }
#pragma unroll 1
    for (;;) {
        RaySums found = rows.sum_ray(ray, size);
        // Most rays prove nothing, which a plain sum shows. (An infinite one may be made of what cancels.)
        if (is_finite(found.plain) && found.plain <= most) {
            return 0.0;
        }
        // (How large values may be is known after the first time.)
        if (found.largest > size) {
            size = found.largest;
            continue;
        }
        double gap = found.least - most;
        return is_finite(gap) && gap > doubt + found.doubt ? gap : 0.0;
    }
}

// By how much all rows have to be relaxed at the least, in units of the predictions, for what a ray with this lack proves not
// to hold any more; 0 if that cannot be said.
__device__ __forceinline__ double least_relaxation(const Rows& rows, const double* ray, double lack) {
    double d = rows.mine ? ray[rows.base + rows.lane] : 0.0;
    double per_unit = sum_of_rows(rows.mine ? d * rows.relaxed_bound(d) : 0.0);
    return lack > 0.0 && per_unit > 0.0 ? lack / per_unit : 0.0;
}
